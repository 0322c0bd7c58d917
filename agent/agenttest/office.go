// Package agenttest is a whole post office for tests of the agents: accounts and mailboxes
// over a real store on a disk in memory, with a clock that the test moves. Only tests import it.
package agenttest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/passhash"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/post/seen"
	"postern.email/store"
	"postern.email/store/pebble"
)

// Password is that of every account that Create makes.
const Password = "correct horse"

// Begin is what the clock shows at first.
var Begin = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// Office is a post office. Its parts are those that a relay puts together.
type Office struct {
	TB       testing.TB
	Domain   string
	Clock    *clocktest.Clock
	Store    store.Store
	Accounts *account.Accounts
	Boxes    *mailbox.Boxes
	Seen     *seen.Seen
}

// Open makes an office for domain, in dir on fs (nil: a fresh disk in memory), and closes it
// at the end of the test. What an earlier one left there is found again.
func Open(tb testing.TB, domain string, fs vfs.FS, dir string) *Office {
	tb.Helper()
	if fs == nil {
		fs = vfs.NewCrashDisk()
	}
	o := &Office{TB: tb, Domain: domain, Clock: clocktest.New(Begin)}
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	must(vfs.MkdirAll(fs, dir, 0o700))
	var err error
	o.Store, err = pebble.Open(context.Background(), pebble.Options{FS: fs, Dir: dir + "/store"})
	must(err)
	tb.Cleanup(func() { o.Store.Close() })
	o.Boxes, err = mailbox.New(mailbox.Options{Store: o.Store, FS: fs, Dir: dir + "/blobs", Now: o.Clock.Now,
		Chains: seal.NewChains(seal.ChainOptions{Now: o.Clock.Now})})
	must(err)
	tb.Cleanup(func() { o.Boxes.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	must(err)
	o.Seen = seen.New(seen.Options{Store: o.Store, Root: root, Now: o.Clock.Now})
	o.Accounts, err = account.New(context.Background(), account.Options{Store: o.Store, Root: root, Domains: []string{domain},
		Params: passhash.Cost{Time: 1, Memory: 8, Threads: 1}, OnCreate: o.Boxes.Init, OnDelete: o.Boxes.Remove, Now: o.Clock.Now,
		CreatePerMinute: -1, CreateNetworkPerMinute: -1})
	must(err)
	tb.Cleanup(o.Accounts.Close)
	return o
}

// Address reads an address; a name alone is one of the office's domain, and "" the zero
// Address.
func (o *Office) Address(text string) (a mail.Address) {
	o.TB.Helper()
	if text == "" {
		return a
	}
	if !strings.Contains(text, "@") {
		text += "@" + o.Domain
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		o.TB.Fatal(err)
	}
	return a
}

// Create makes an account as the operator does; set (may be nil) changes the request.
func (o *Office) Create(name string, set func(*account.CreateRequest)) {
	o.TB.Helper()
	r := account.CreateRequest{Address: o.Address(name), Password: Password}
	if set != nil {
		set(&r)
	}
	if _, err := o.Accounts.Create(context.Background(), r); err != nil {
		o.TB.Fatal(err)
	}
}

// Login opens an account; close the session.
func (o *Office) Login(name string) *account.Session {
	o.TB.Helper()
	s, err := o.Accounts.Login(context.Background(), account.LoginRequest{Name: o.Address(name).String(), Password: Password})
	if err != nil {
		o.TB.Fatal(err)
	}
	return s
}

// Inbox gives the mails in the INBOX of an account, in order.
func (o *Office) Inbox(name string) (out []string) {
	o.TB.Helper()
	s, ctx := o.Login(name), context.Background()
	defer s.Close()
	box := o.Boxes.Account(s.Key, s.Quota)
	v, err := box.View(ctx, mailbox.Inbox)
	if err != nil {
		o.TB.Fatal(err)
	}
	for i := range v.Len() {
		b, err := box.Body(ctx, mailbox.Inbox, v.At(i))
		if err != nil {
			o.TB.Fatal(err)
		}
		text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		b.Close()
		if err != nil {
			o.TB.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// Deliver puts a mail into an INBOX as a delivery does: sealed, without the owner.
func (o *Office) Deliver(name, raw string) {
	o.TB.Helper()
	ctx := context.Background()
	a, err := o.Accounts.Resolve(ctx, o.Address(name))
	if err != nil {
		o.TB.Fatal(err)
	}
	d, err := o.Boxes.Prepare(ctx, mailbox.Message{Raw: []byte(raw), Date: o.Clock.Now()},
		[]mailbox.Target{{ID: a.ID, Public: a.Public, Quota: a.Quota, Box: mailbox.Inbox}})
	if err != nil {
		o.TB.Fatal(err)
	}
	defer d.Discard()
	err = o.Store.Update(ctx, a.ID.Shard(), func(tx store.Tx) error {
		_, err := d.Put(tx, 0)
		return err
	})
	if err != nil {
		o.TB.Fatal(err)
	}
}

// Serve runs serve on a free port of this machine until the test ends, and gives the
// address.
func Serve(tb testing.TB, serve func(context.Context, net.Listener) error) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, l) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return l.Addr().String()
}

// TLS makes the server's side of TLS with a self-signed certificate.
func TLS(tb testing.TB) *tls.Config {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
