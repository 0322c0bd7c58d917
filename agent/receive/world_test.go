package receive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/kit/limits"
	"postern.email/wire/smtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain  = "mail.example"
	sender  = "alice@remote.example"
	samples = "../../mail/dkim/testdata"
)

// world is a post office with the policy for other hosts.
type world struct {
	*agenttest.Office
	t       *testing.T
	keys    map[string]string
	lookups atomic.Int64
	fails   error           // of every look-up
	down    map[string]bool // names of which look-ups fail
	guard   error
	peer    limits.Peer // of sessions
	hello   string      // what clients call themselves
	r       *Receive
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Office: agenttest.Open(t, domain, nil, "/data"), t: t, keys: map[string]string{}}
	text, err := os.ReadFile(filepath.Join(samples, "keys.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, txt, _ := strings.Cut(strings.TrimSpace(line), "\t")
		w.keys[name] = txt
	}
	w.r = New(Options{Domain: domain, Accounts: w.Accounts, Rooms: w.Boxes, Now: w.Clock.Now, Keys: w.lookup,
		Guard:   func() error { return w.guard },
		Deliver: deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Seen: w.Seen, Now: w.Clock.Now})})
	return w
}

func (w *world) lookup(_ context.Context, name string) ([]string, bool, error) {
	w.lookups.Add(1)
	if w.fails != nil {
		return nil, false, w.fails
	}
	if w.down[name] {
		return nil, false, errors.New("timeout")
	}
	txt, ok := w.keys[name]
	if !ok {
		return agenttest.SigningKeys(context.Background(), name)
	}
	return []string{txt}, false, nil
}

// session begins one under TLS.
func (w *world) session() smtp.Session {
	w.t.Helper()
	s, err := w.r.NewSession(w.t.Context(), smtp.Info{TLS: true, Peer: w.peer})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	s.(smtp.Greeter).Hello(w.hello)
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
	if got := say(s.Mail(ctx, w.Address(from), smtp.MailOptions{})); got != "250" {
		return got
	}
	for _, name := range to {
		if got := say(s.Rcpt(ctx, w.Address(name), smtp.RcptOptions{})); got != "250" {
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
