package exit

import (
	"crypto/rand"
	"fmt"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/queue"
	"postern.email/post/seal"
)

// TestAgain: a mail that cannot be handed over now is judged once, however often it comes again: it does not use up
// what its recipients may get, and whoever had got enough already gets it no more on the next try. Who blocks
// itself meanwhile gets none.
func TestAgain(t *testing.T) {
	w := begin(t, func(o *Options) { o.PerRecipient = 1 })
	later := errs.E("test", errs.Busy, "later", nil)
	must(t, w.Send(ctx, w.anonymous("x", "full@world.example")))
	v := w.anonymous("y", "bob@world.example", "full@world.example", "bob@world.example", "eve@world.example")
	for range 10 {
		w.fail = later
		refused(t, w.Send(ctx, v), errs.Busy, "later")
		must(t, w.Close())
		w.open()
	}
	must(t, w.Send(ctx, v))
	must(t, w.Send(ctx, v))
	if w.tos() != "full@world.example bob@world.example eve@world.example" {
		t.Error(w.tos())
	}
	refused(t, w.Send(ctx, w.anonymous("z", "bob@world.example")), errs.Full, "today")

	v = w.anonymous("y", "one@world.example", "two@world.example")
	w.fail = later
	refused(t, w.Send(ctx, v), errs.Busy, "later")
	must(t, w.Block(w.links.to(to(t, "one@world.example")), true))
	must(t, w.Send(ctx, v))
	if w.last().To != to(t, "two@world.example") || len(w.sent) != 4 {
		t.Error(w.tos())
	}
}

// TestAgainMany: a mail to more recipients than can be noted is judged anew, and each copy has a name of its own.
func TestAgainMany(t *testing.T) {
	w := begin(t, func(o *Options) { o.MaxRecipients, o.PerRecipient = 10, 2 })
	var rcpts []string
	for i := range masked + 1 {
		rcpts = append(rcpts, fmt.Sprintf("u%d@world.example", i))
	}
	v := w.anonymous("x", rcpts...)
	w.fail = errs.E("test", errs.Busy, "later", nil)
	refused(t, w.Send(ctx, v), errs.Busy, "later")
	must(t, w.Send(ctx, v))
	if len(w.sent) != masked+1 {
		t.Error(w.tos())
	}
	must(t, w.Send(ctx, v))
	names := map[[16]byte]bool{}
	for _, s := range w.sent {
		names[s.Name] = true
	}
	if len(names) != masked+1 || len(w.sent) != masked+1 {
		t.Errorf("%d names of %d copies", len(names), len(w.sent))
	}
}

// TestQueueOnce: a copy that is handed over again, because a crash came before it was noted, is in the queue once.
func TestQueueOnce(t *testing.T) {
	fs := vfs.NewCrashDisk()
	o := agenttest.Open(t, "exit.example", fs, "/data")
	root, err := seal.NewRoot(make([]byte, seal.KeyLen), rand.Reader)
	must(t, err)
	q, err := queue.Open(t.Context(), queue.Options{Store: o.Store, Root: root, FS: fs, Dir: "/data/queue", Now: o.Clock.Now})
	must(t, err)
	t.Cleanup(func() { q.Close() })
	out := Queue{Letters: o.Seen, Deliver: deliver.New(deliver.Options{Store: o.Store, Boxes: o.Boxes, Queue: q, Accounts: o.Accounts, Seen: o.Seen, Letters: o.Seen, Domain: "exit.example", Now: o.Clock.Now})}
	for i, name := range []byte{1, 1, 2, 1, 2} {
		m := Mail{Name: [16]byte{name}, From: to(t, "bounces@exit.example"), To: to(t, "bob@world.example"), Tell: to(t, reply), TellID: "<1@home.example>", Head: []byte("Subject: x\r\n\r\n")}
		must(t, out.Hand(t.Context(), m))
		if want := int(max(1, min(i, 2))); q.Stats().Mails != want {
			t.Errorf("after %d: %d mails wait, want %d", i, q.Stats().Mails, want)
		}
	}
	list, _, err := q.List(t.Context(), queue.Filter{}, "", 10)
	must(t, err)
	for _, l := range list {
		if l.Mail.Tell != to(t, reply) || l.Mail.TellID != "<1@home.example>" || l.Mail.From != to(t, "bounces@exit.example") {
			t.Errorf("%+v", l.Mail)
		}
	}
}
