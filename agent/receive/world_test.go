package receive

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/wire/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain   = "mail.example"
	password = "correct horse"
	sender   = "alice@remote.example"
	samples  = "../../mail/dkim/testdata"
)

// world is a post office on a disk in memory.
type world struct {
	t        *testing.T
	st       store.Store
	accounts *account.Accounts
	boxes    *mailbox.Boxes
	keys     map[string]string
	lookups  int
	fails    error // of every look-up
	guard    error
	r        *Receive
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, keys: map[string]string{}}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(samples, "keys.txt"))
	must(err)
	for line := range strings.Lines(string(text)) {
		name, txt, _ := strings.Cut(strings.TrimSpace(line), "\t")
		w.keys[name] = txt
	}
	fs := vfs.NewCrashDisk()
	must(vfs.MkdirAll(fs, "/data", 0o700))
	w.st, err = pebble.Open(t.Context(), pebble.Options{FS: fs, Dir: "/data/store"})
	must(err)
	t.Cleanup(func() { w.st.Close() })
	now := func() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }
	w.boxes, err = mailbox.New(mailbox.Options{Store: w.st, FS: fs, Dir: "/data/blobs", Now: now, Chains: seal.NewChains(seal.ChainOptions{Now: now})})
	must(err)
	t.Cleanup(func() { w.boxes.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	must(err)
	w.accounts, err = account.New(t.Context(), account.Options{Store: w.st, Root: root, Domains: []string{domain},
		Params: seal.Params{Time: 1, Memory: 8, Threads: 1}, OnCreate: w.boxes.Init, OnDelete: w.boxes.Remove, Now: now,
		CreatePerMinute: -1, CreateNetworkPerMinute: -1})
	must(err)
	t.Cleanup(w.accounts.Close)
	w.r = New(Options{Domain: domain, Accounts: w.accounts, Rooms: w.boxes, Now: now, Keys: w.lookup,
		Guard:   func() error { return w.guard },
		Deliver: deliver.New(deliver.Options{Store: w.st, Boxes: w.boxes, Now: now})})
	return w
}

func (w *world) lookup(_ context.Context, name string) ([]string, bool, error) {
	w.lookups++
	if w.fails != nil {
		return nil, false, w.fails
	}
	txt, ok := w.keys[name]
	if !ok {
		return nil, false, errs.E("test", errs.NotFound, "", nil)
	}
	return []string{txt}, false, nil
}

func address(t testing.TB, s string) (a mail.Address) {
	t.Helper()
	if s == "" {
		return a
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// create makes an account as the operator does.
func (w *world) create(name string, set func(*account.CreateRequest)) {
	w.t.Helper()
	r := account.CreateRequest{Address: address(w.t, name+"@"+domain), Password: password}
	if set != nil {
		set(&r)
	}
	if _, err := w.accounts.Create(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

// inbox gives the mails in the INBOX of an account, in order.
func (w *world) inbox(name string) (out []string) {
	w.t.Helper()
	ctx := w.t.Context()
	s, err := w.accounts.Login(ctx, account.LoginRequest{Name: name + "@" + domain, Password: password})
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	box := w.boxes.Account(s.Key, s.Quota)
	v, err := box.View(ctx, mailbox.Inbox)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := range v.Len() {
		b, err := box.Body(ctx, mailbox.Inbox, v.At(i))
		if err != nil {
			w.t.Fatal(err)
		}
		text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		b.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// session begins one under TLS.
func (w *world) session() smtp.Session {
	w.t.Helper()
	s, err := w.r.NewSession(w.t.Context(), smtp.Info{TLS: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

// say gives the reply that an error becomes.
func say(err error) string {
	if err == nil {
		return "250"
	}
	return smtp.ReplyFor(err).String()
}

// send hands a whole mail over and gives the first refusal, or "250".
func (w *world) send(from, raw string, to ...string) string {
	w.t.Helper()
	s, ctx := w.session(), w.t.Context()
	if got := say(s.Mail(ctx, address(w.t, from), smtp.MailOptions{})); got != "250" {
		return got
	}
	for _, name := range to {
		if got := say(s.Rcpt(ctx, address(w.t, name+"@"+domain), smtp.RcptOptions{})); got != "250" {
			return got
		}
	}
	transfer, err := s.Data(ctx)
	if err != nil {
		return say(err)
	}
	return say(transfer.Commit(ctx, []byte(raw)))
}

// sample is a mail that another program signed.
func sample(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(samples, name+".eml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
