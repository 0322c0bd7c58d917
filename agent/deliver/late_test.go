package deliver

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/agent/road"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/queue"
	"postern.email/wire/smtp"
)

// TestDelay: who asked for it is told once that a mail waits, what for and how long yet, whether its
// destination cannot be reached or puts it off; who did not ask is not, and a restart tells nobody again.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("dead.example", unreached(421, "no answer"))
		h.abroad.set("later.example", func(_ context.Context, j road.Job) road.Outcome {
			return answers(j, "mx.later.example", &smtp.Reply{Code: 450, Enhanced: "4.2.0", Text: "greylisted"})
		})
		stop := h.run()
		h.hand(rcpt("bob@dead.example", smtp.NotifyDelay, smtp.NotifyFailure), rcpt("bea@dead.example"), rcpt("never@dead.example", smtp.NotifyNever))
		h.hand(rcpt("carl@later.example", smtp.NotifyDelay))
		h.hand(rcpt("dora@alive.example", smtp.NotifyDelay))
		time.Sleep(DefaultDelay - time.Minute)
		synctest.Wait()
		if r := h.reports(); len(r) != 0 {
			t.Fatalf("told before its time:\n%s", r[0])
		}
		time.Sleep(lateMost + 2*time.Minute)
		synctest.Wait()
		reports := h.reports()
		if len(reports) != 2 || h.waiting() != 4 {
			t.Fatalf("%d reports, %d wait\n%s", len(reports), h.waiting(), strings.Join(reports, "\n"))
		}
		all := strings.Join(reports, "\n")
		for _, want := range []string{"Subject: Mail is not delivered yet", "Action: delayed", "Final-Recipient: rfc822; bob@dead.example", "Status: 4.4.1", "no answer",
			"Final-Recipient: rfc822; carl@later.example", "Status: 4.2.0", "greylisted", "Last-Attempt-Date: ", "Will-Retry-Until: Mon, 3 Jan 2000 00:00", "it waits on this server", "Subject: hello"} {
			if !strings.Contains(all, want) {
				t.Errorf("%q is not in\n%s", want, all)
			}
		}
		if strings.Contains(all, "bea@") || strings.Contains(all, "never@") || strings.Contains(all, "dora@") {
			t.Errorf("others are told of:\n%s", all)
		}
		stop()
		h.end()
		h.start(nil)
		defer h.run()()
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		if n := len(h.reports()); n != 2 {
			t.Errorf("%d reports after half a day and a restart", n)
		}
		h.abroad.set("dead.example", nil)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if h.abroad.copies("bob@dead.example") != 1 || h.waiting() != 1 {
			t.Errorf("%d copies, %d wait", h.abroad.copies("bob@dead.example"), h.waiting())
		}
	})
}

// TestNoDelay: where the operator wants none no report of delay is sent.
func TestNoDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), func(_ *Options, o *OutOptions) { o.Delay = -1 })
		h.abroad.set("dead.example", unreached(421, "no answer"))
		defer h.run()()
		h.hand(rcpt("bob@dead.example", smtp.NotifyDelay))
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n := len(h.reports()); n != 0 || h.waiting() != 1 {
			t.Errorf("%d reports, %d wait", n, h.waiting())
		}
	})
}

// TestStopBeforeGreeting: at a shutdown nobody waits for hosts that have not begun to take a mail; that is no
// fault of theirs.
func TestStopBeforeGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("mute.example", func(ctx context.Context, j road.Job) road.Outcome {
			select {
			case <-j.Begin.Done():
			case <-ctx.Done():
			}
			return road.Outcome{Unreached: &smtp.Reply{Code: 421, Enhanced: "4.4.1", Text: "mute"}}
		})
		stop := h.run()
		h.hand(rcpt("x@mute.example"))
		synctest.Wait()
		began := time.Now()
		stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("stopped after %v", took)
		}
		list, _, err := h.queue.List(t.Context(), queue.Filter{}, "", 1)
		if err != nil || len(list) != 1 || list[0].Rcpts[0].Paused != "" || list[0].Rcpts[0].Tries != 0 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// TestDrop: who sent a mail is told what an operator removed, of those alone who were left and who may be told
// of; nothing is removed without its report.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("dead.example", unreached(421, "no answer"))
		stop := h.run()
		h.hand(rcpt("bob@dead.example"), rcpt("never@dead.example", smtp.NotifyNever), rcpt("carl@alive.example"))
		h.hand(rcpt("never@dead.example", smtp.NotifyNever))
		synctest.Wait()
		list, _, err := h.queue.List(t.Context(), queue.Filter{}, "", 10)
		if err != nil || len(list) != 2 {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, l := range list {
			told, err := h.out.Drop(t.Context(), l.ID)
			if err != nil || told != (len(l.Rcpts) == 2) {
				t.Errorf("%d recipients: told %v, %v", len(l.Rcpts), told, err)
			}
		}
		stop()
		reports := h.reports()
		if len(reports) != 1 || h.waiting() != 0 {
			t.Fatalf("%d reports, %d wait", len(reports), h.waiting())
		}
		for _, want := range []string{"Action: failed", "Final-Recipient: rfc822; bob@dead.example", "Status: 5.0.0", "has removed the mail", "Subject: hello"} {
			if !strings.Contains(reports[0], want) {
				t.Errorf("%q is not in\n%s", want, reports[0])
			}
		}
		if strings.Contains(reports[0], "never@") || strings.Contains(reports[0], "carl@") {
			t.Errorf("it tells of others:\n%s", reports[0])
		}
		if _, err := h.out.Drop(t.Context(), list[0].ID); errs.KindOf(err) != errs.NotFound {
			t.Errorf("again: %v", err)
		}
		h.abroad.set("slow.example", func(ctx context.Context, j road.Job) road.Outcome {
			time.Sleep(time.Second)
			return h.abroad.takes(j)
		})
		h.hand(rcpt("dora@slow.example"))
		defer h.run()()
		synctest.Wait()
		list, _, _ = h.queue.List(t.Context(), queue.Filter{}, "", 10)
		if _, err := h.out.Drop(t.Context(), list[0].ID); errs.KindOf(err) != errs.Busy || h.waiting() != 1 {
			t.Errorf("a mail that is being sent: %v, %d wait", err, h.waiting())
		}
	})
}
