package access

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/kit/vfs"
	"postern.email/wire/imap"
	"postern.email/wire/imap/imaptest"
)

// world is an IMAP server over real accounts and mailboxes on a disk in memory.
type world struct {
	*agenttest.Office
	access *Access
	addr   string
}

func newWorld(tb testing.TB, fs vfs.FS, dir string, set func(*Options, *imap.Options)) *world {
	tb.Helper()
	w := &world{Office: agenttest.Open(tb, "example.org", fs, dir)}
	o := Options{Accounts: w.Accounts, Boxes: w.Boxes, Server: func(context.Context) map[string]string {
		return map[string]string{"/shared/admin": "mailto:admin@example.org", "/shared/vendor/deltachat/maxsmtprecipients": "1000",
			"/shared/vendor/deltachat/irohrelay": "https://example.org"}
	}}
	io := imap.Options{Private: true, Now: w.Clock.Now, Name: "Postern", ExtraCapabilities: []string{"XCHATMAIL", "XDELTAPUSH"}}
	if set != nil {
		set(&o, &io)
	}
	var err error
	if w.access, err = New(o); err != nil {
		tb.Fatal(err)
	}
	io.Backend = w.access.IMAP()
	w.addr = agenttest.Serve(tb, func(ctx context.Context, l net.Listener) error { return imap.Serve(ctx, l, io) })
	return w
}

// deliver puts a mail into the INBOX of an account; deliveries go nowhere else.
func (w *world) deliver(name, box, raw string) {
	w.TB.Helper()
	if box != "INBOX" {
		w.TB.Fatalf("deliveries go to INBOX, not %s", box)
	}
	w.Deliver(name, raw)
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
