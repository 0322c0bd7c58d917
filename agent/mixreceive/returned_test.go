package mixreceive

import (
	"fmt"
	"strings"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/agent/vouch"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mixnet/letter"
)

// TestReturned: what a report says that came by the own relay is told, once it is in the mailbox; of no other mail, and
// of nobody else's reports.
func TestReturned(t *testing.T) {
	var told []string
	w := newWorld(t, nil, func(o *Options) {
		o.Returned = func(account mail.Address, rcpts []dsn.Returned, header []byte) {
			told = append(told, fmt.Sprintf("%s: %+v %q", account, rcpts, header))
		}
	})
	report, err := dsn.Report{Domain: "two.example", To: w.bert.Address, Header: []byte("Message-ID: <1@two.example>\r\n\r\n"), Now: w.Clock.Now(),
		Recipients: []dsn.Recipient{{Final: mail.Address{Local: "bob", Domain: "world.example"}, Action: dsn.Failed, Status: "5.1.1"}}}.Build()
	must(t, err)
	relay := func(m *vouch.Mail, l *letter.Message) {
		m.Flags, m.Certificate, m.Sender = vouch.FromOrdinary, nil, mail.Address{}
		l.Signer, l.Sender = agenttest.NameKey(t, other), other
	}
	give := func(raw string, change func(*vouch.Mail, *letter.Message)) {
		t.Helper()
		w.net.Give(w.bert, w.seal(raw, change).Bodies...)
		_ = w.pass() // without a mailbox it waits
	}
	give(string(report), relay)
	if len(told) != 0 {
		t.Errorf("told before it is in a mailbox: %q", told)
	}
	w.Create("bert", nil)
	w.Clock.Add(lastPause)
	must(t, w.pass())
	if len(told) != 1 || !strings.Contains(told[0], "bert@two.example: [{Final:bob@world.example Action:failed Status:5.1.1") || !strings.Contains(told[0], "<1@two.example>") {
		t.Fatalf("told %q", told)
	}
	give(plain, relay)
	give(strings.Replace(string(report), "report-type=delivery-status", "report-type=disposition-notification", 1), nil) // nobody is vouched for as its sender
	give("From: <mailer-daemon@two.example>\r\nContent-Type: multipart/report; boundary=x\r\n\r\nno parts\r\n", relay)
	if len(told) != 1 {
		t.Errorf("told %q", told[1:])
	}
}
