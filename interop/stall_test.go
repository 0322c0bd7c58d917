package interop

import (
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// TestStalledSenderDelaysNobody: clients that begin a mail and fall silent hold
// nothing that others wait for.
func TestStalledSenderDelaysNobody(t *testing.T) {
	s := start(t, noSendLimit...)
	users := s.created(t, 3)
	for i := range 10 {
		c := s.mustSubmit(t, users[0])
		if err := c.Envelope(users[0].addr, []string{users[1].addr}); err != nil {
			t.Fatal(err)
		}
		mail := mailclient.NewMaker(uint64(i)).Mail(users[0].addr, 5000)
		if err := c.Raw(string(mail[:100*i])); err != nil {
			t.Fatal(err)
		}
	}
	c := s.mustSubmit(t, users[2])
	maker := mailclient.NewMaker(100)
	began := time.Now()
	const n = 50
	for range n {
		if err := c.Send(users[2].addr, []string{users[1].addr}, maker.Mail(users[2].addr, 5000)); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(began)
	t.Logf("%d mails in %v beside 10 silent senders", n, took.Round(time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("%d mails took %v beside silent senders", n, took)
	}
	if got := s.inbox(t, users[1]); len(got) != n {
		t.Errorf("%d mails arrived, want %d", len(got), n)
	}
}
