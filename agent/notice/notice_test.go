package notice

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/account"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type world struct {
	*agenttest.Office
	*Desk
}

func newWorld(t *testing.T) *world {
	o := agenttest.Open(t, "mail.example", nil, "/data")
	o.Create("anna", nil)
	return &world{o, New(Options{Resolve: o.Accounts.Resolve, Now: o.Clock.Now, PerDay: 3,
		Deliver: deliver.New(deliver.Options{Store: o.Store, Boxes: o.Boxes, Seen: o.Seen, Now: o.Clock.Now})})}
}

// TestProof: a report with a proof is there once, one without as often as it is told.
func TestProof(t *testing.T) {
	w := newWorld(t)
	anna := w.Address("anna")
	for range 2 {
		if err := w.Tell(t.Context(), anna, Note{Subject: "once", Text: "x", Proof: [][]byte{[]byte("a")}}); err != nil {
			t.Fatal(err)
		}
		r := dsn.Report{To: anna, Recipients: []dsn.Recipient{{Final: anna, Action: dsn.Failed, Diagnostic: "why"}}}
		if err := w.Report(t.Context(), r, []byte("b")); err != nil {
			t.Fatal(err)
		}
		if err := w.Tell(t.Context(), anna, Note{Subject: "often", Text: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	in := strings.Join(w.Inbox("anna"), "")
	if strings.Count(in, "Subject: once") != 1 || strings.Count(in, "Action: failed") != 1 || strings.Count(in, "Subject: often") != 2 ||
		!strings.Contains(in, "Reporting-MTA: dns; localhost") || !strings.Contains(in, "This is the mail proxy on your own computer.") {
		t.Error(in)
	}
}

// TestBound: what strangers cause is bounded by the day and the account; a report that could not be
// delivered does not count.
func TestBound(t *testing.T) {
	w := newWorld(t)
	w.Create("ben", func(r *account.CreateRequest) { r.Quota = 1 })
	tell := func(name string, stranger bool) error {
		return w.Tell(t.Context(), w.Address(name), Note{Subject: "x", Text: "x", Stranger: stranger})
	}
	want := func(n int) {
		t.Helper()
		if in := w.Inbox("anna"); len(in) != n {
			t.Errorf("%d reports, want %d", len(in), n)
		}
	}
	for range 5 {
		if err := tell("anna", true); err != nil {
			t.Fatal(err)
		}
		if err := tell("ben", true); errs.KindOf(err) != errs.Full {
			t.Errorf("%v", err)
		}
	}
	want(3)
	if in := w.Inbox("anna"); !strings.Contains(in[2], "This is the last of 3 reports") || strings.Contains(in[1], "the last of") {
		t.Error(in)
	}
	if err := tell("anna", false); err != nil {
		t.Fatal(err)
	}
	want(4)
	w.Clock.Add(24 * time.Hour)
	if err := tell("anna", true); err != nil {
		t.Fatal(err)
	}
	want(5)
	if err := w.Tell(t.Context(), mail.Address{Local: "nobody", Domain: "mail.example"}, Note{Subject: "x", Text: "x"}); errs.KindOf(err) != errs.NotFound {
		t.Errorf("%v", err)
	}
	if err := w.Tell(t.Context(), w.Address("anna"), Note{Subject: "a\r\nb", Text: "x"}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("%v", err)
	}
}
