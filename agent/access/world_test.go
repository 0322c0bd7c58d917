package access

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/wire/imap"
	"postern.email/wire/imap/imaptest"
)

// world is an IMAP server over real accounts and mailboxes on a disk in memory.
type world struct {
	tb       testing.TB
	st       store.Store
	accounts *account.Accounts
	boxes    *mailbox.Boxes
	access   *Access
	addr     string
}

func fixedNow() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

func newWorld(tb testing.TB, fs vfs.FS, dir string, set func(*Options, *imap.Options)) *world {
	tb.Helper()
	w := &world{tb: tb}
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	must(fs.MkdirAll(dir, 0o700))
	var err error
	w.st, err = pebble.Open(context.Background(), pebble.Options{FS: fs, Dir: dir + "/store"})
	must(err)
	tb.Cleanup(func() { _ = w.st.Close() })
	w.boxes, err = mailbox.New(mailbox.Options{Store: w.st, FS: fs, Dir: dir + "/blobs", Now: fixedNow,
		Chains: seal.NewChains(seal.ChainOptions{Now: fixedNow})})
	must(err)
	tb.Cleanup(func() { _ = w.boxes.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	must(err)
	w.accounts, err = account.New(context.Background(), account.Options{Store: w.st, Root: root, Domains: []string{"example.org"},
		Params: seal.Params{Time: 1, Memory: 8, Threads: 1}, OnCreate: w.boxes.Init, Now: fixedNow,
		CreatePerMinute: -1, CreateNetworkPerMinute: -1})
	must(err)
	tb.Cleanup(w.accounts.Close)
	o := Options{Accounts: w.accounts, Boxes: w.boxes, Server: func(context.Context) map[string]string {
		return map[string]string{"/shared/admin": "mailto:admin@example.org", "/shared/vendor/deltachat/maxsmtprecipients": "1000",
			"/shared/vendor/deltachat/irohrelay": "https://example.org"}
	}}
	io := imap.Options{Private: true, Now: fixedNow, Name: "Postern", ExtraCapabilities: []string{"XCHATMAIL", "XDELTAPUSH"}}
	if set != nil {
		set(&o, &io)
	}
	w.access, err = New(o)
	must(err)
	io.Backend = w.access.IMAP()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- imap.Serve(ctx, l, io) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return w
}

// deliver puts a mail into a mailbox as a delivery does: sealed, without the owner.
func (w *world) deliver(name, box, raw string) {
	w.tb.Helper()
	addr, err := mail.ParseAddress(name)
	if err != nil {
		w.tb.Fatal(err)
	}
	a, err := w.accounts.Resolve(context.Background(), addr)
	if err != nil {
		w.tb.Fatal(err)
	}
	if box != "INBOX" {
		w.tb.Fatalf("deliveries go to INBOX, not %s", box)
	}
	d, err := w.boxes.Prepare(context.Background(), mailbox.Message{Raw: []byte(raw), Date: fixedNow()},
		[]mailbox.Target{{ID: a.ID, Public: a.Public, Quota: a.Quota, Box: mailbox.Inbox}})
	if err != nil {
		w.tb.Fatal(err)
	}
	defer d.Discard()
	err = w.st.Update(context.Background(), a.ID.Shard(), func(tx store.Tx) error {
		_, err := d.Put(tx, 0)
		return err
	})
	if err != nil {
		w.tb.Fatal(err)
	}
}

// TestScripts runs the conversations of wire/imap on the real store: both must say
// the same. Those with "option memory=only" need what only mailboxes in memory can do.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("../../wire/imap/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			imaptest.RunScript(t, f, false, func(tb testing.TB, options map[string]string) (string, func(box, raw string)) {
				if options["memory"] == "only" {
					t.Skip("only for mailboxes in memory")
				}
				w := newWorld(tb, vfs.NewCrashDisk(), "/data", func(_ *Options, o *imap.Options) {
					o.Private = options["private"] != "no"
					o.Compress = options["compress"] == "yes"
				})
				return w.addr, func(box, raw string) { w.deliver("bobbobbob@example.org", box, raw) }
			})
		})
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testTLS makes a self-signed certificate.
func testTLS(tb testing.TB) *tls.Config {
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
