package deliver

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/agent/road"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/queue"
	"postern.email/wire/smtp"
)

const sentOn = "From: <eve@far.example>\r\nTo: <bob@a.example>\r\nList-Unsubscribe: <https://mail.example/secret>\r\nSubject: hello\r\nMessage-ID: <1@far.example>\r\nX-Abuse: abuse\r\n\r\ntext\r\n"

// TestTell: of a mail that is sent on for somebody who is not its envelope sender, that one hears that it was
// refused or given up, whatever other hosts are asked; the envelope sender does not.
func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("a.example", func(_ context.Context, j road.Job) road.Outcome {
			return answers(j, "mx.a.example", &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"})
		})
		h.abroad.set("dead.example", unreached(421, "no answer"))
		hand := func(to string, tell mail.Address, id string) {
			t.Helper()
			p := Parcel{From: mail.Address{Local: "bounces", Domain: here}, Tell: tell, TellID: id, Home: 1, Head: []byte(sentOn), Remote: []queue.Rcpt{rcpt(to, smtp.NotifyNever)}}
			if err := h.d.Begin().Hand(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		eve := mail.Address{Local: "eve", Domain: "far.example"}
		hand("bob@a.example", eve, "")
		hand("bob@a.example", h.anna.Address, "<id@anna.example>")
		hand("bob@a.example", mail.Address{}, "")
		hand("bob@b.example", eve, "") // delivered
		hand("gone@dead.example", eve, "")
		defer h.run()()
		synctest.Wait()
		far := h.abroad.mails("eve@far.example")
		if len(far) != 1 || len(h.reports()) != 1 || h.waiting() != 1 {
			t.Fatalf("%d reports, %d here, %d wait", len(far), len(h.reports()), h.waiting())
		}
		for _, want := range []string{"To: <eve@far.example>", "Final-Recipient: rfc822; bob@a.example", "Status: 5.1.1", "Remote-MTA: dns; mx.a.example", "Subject: hello", "Message-ID: <1@far.example>"} {
			if !strings.Contains(far[0], want) {
				t.Errorf("%q is not in\n%s", want, far[0])
			}
		}
		mine := h.reports()[0]
		if !strings.Contains(mine, "Message-ID: <id@anna.example>") || strings.Contains(mine, "hello") || strings.Contains(mine, "far.example") {
			t.Errorf("of a mail that was written anew\n%s", mine)
		}
		for _, text := range append(far, mine) {
			if strings.Contains(text, "secret") || strings.Contains(text, "X-Abuse") || strings.Contains(text, "bounces") {
				t.Errorf("it tells what was added for the recipient:\n%s", text)
			}
		}
		time.Sleep(DefaultLifetime + 2*time.Hour)
		synctest.Wait()
		if far = h.abroad.mails("eve@far.example"); len(far) != 2 || !strings.Contains(far[1], "Status: 5.4.7") || !strings.Contains(far[1], "gone@dead.example") || h.waiting() != 0 {
			t.Errorf("given up: %d reports, %d wait\n%s", len(far), h.waiting(), strings.Join(far, ""))
		}
	})
}

// TestTellOfReport: nobody hears of a report that does not arrive.
func TestTellOfReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		for _, d := range []string{"a.example", "far.example"} {
			h.abroad.set(d, unreached(550, "gone"))
		}
		p := Parcel{From: from, Tell: mail.Address{Local: "eve", Domain: "far.example"}, Home: 1, Head: []byte(sentOn), Remote: []queue.Rcpt{rcpt("bob@a.example")}}
		if err := h.d.Begin().Hand(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		defer h.run()()
		synctest.Wait()
		if n := h.abroad.tried("far.example"); n != 1 || h.waiting() != 0 || len(h.reports()) != 0 {
			t.Errorf("%d tries, %d wait, %d reports", n, h.waiting(), len(h.reports()))
		}
	})
}
