package receive

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/agent/forward"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/wire/smtp"
)

// forwards gives out addresses that begin with "made-", of which "made-not" is unknown.
type forwards struct {
	took []string
	fail error
}

func (*forwards) Made(to mail.Address) bool { return strings.HasPrefix(to.Local, "made-") }

func (*forwards) Recipient(_ context.Context, to mail.Address) error {
	if to.Local == "made-not" {
		return replyUnknown
	}
	return nil
}

func (f *forwards) Take(ctx context.Context, m forward.Incoming) error {
	ok, err := m.Vouched(ctx)
	f.took = append(f.took, fmt.Sprint(m.To, " ", m.From, " ", ok, " ", err != nil))
	return f.fail
}

// TestMadeAddresses: mail for addresses that were given out goes to who gave them out, encrypted or not,
// with word of who vouches for it, and shares a mail with nobody else.
func TestMadeAddresses(t *testing.T) {
	w := newWorld(t)
	w.Create("anna", nil)
	f := &forwards{}
	good := sample(t, "mailauth-both-plain")
	if got := w.send(sender, good, "made-1"); got != "550 5.1.1 Recipient address rejected: User unknown" {
		t.Errorf("where nobody gives any out: %s", got)
	}
	w.r.o.Forwards = f
	const separate = "452 4.5.3 send separately"
	for _, c := range []struct {
		from, raw string
		to        []string
		want      string
		took      string
	}{
		{sender, good, []string{"made-1", "made-2"}, "250", "[made-1@mail.example made-2@mail.example] alice@remote.example true false"},
		{"", "From: <alice@remote.example>\r\n\r\nhi\r\n", []string{"made-1"}, "250", "[made-1@mail.example] alice@remote.example false false"},
		{"", "Subject: no From\r\n\r\nhi\r\n", []string{"made-1"}, "250", "[made-1@mail.example]  false false"},
		{sender, good, []string{"made-not"}, "550 5.1.1 Recipient address rejected: User unknown", ""},
		{sender, good, []string{"made-1", "anna"}, separate, ""}, {sender, good, []string{"anna", "made-1"}, separate, ""},
	} {
		f.took = nil
		if got := w.send(c.from, c.raw, c.to...); got != c.want || strings.Join(f.took, "") != c.took {
			t.Errorf("%v: %s, %q", c.to, got, f.took)
		}
	}
	f.fail = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "no"}
	if got := w.send(sender, good, "made-1"); got != "550 5.7.1 no" {
		t.Error(got)
	}
	w.fails = errs.E("test", errs.Unavailable, "", nil)
	f.took = nil
	if w.send(sender, good, "made-1"); strings.Join(f.took, "") != "[made-1@mail.example] alice@remote.example false true" {
		t.Errorf("a key cannot be looked up: %q", f.took)
	}
	if n := len(w.Inbox("anna")); n != 0 {
		t.Errorf("%d mails", n)
	}
}

// TestMadeGuesses: who tries such addresses out is put off like who tries names out.
func TestMadeGuesses(t *testing.T) {
	w := newWorld(t)
	w.r.o.Forwards = &forwards{}
	w.r.o.Unknown = limits.NewGCRA(60, 2, 10, func() time.Time { return time.Unix(1_000_000, 0) })
	s := w.from(network(1))
	if err := s.Mail(t.Context(), w.Address(sender), smtp.MailOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"550", "550", "451"} {
		if got := say(s.Rcpt(t.Context(), w.Address("made-not"), smtp.RcptOptions{})); got[:3] != want {
			t.Error(got)
		}
	}
}
