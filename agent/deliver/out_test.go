package deliver

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/agent/road"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/queue"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// abroad is the rest of the world: what each destination does with a mail.
type abroad struct {
	mu    sync.Mutex
	does  map[string]func(ctx context.Context, j road.Job) road.Outcome
	got   map[string][]string // bodies by recipient
	tries map[string]int      // by destination
	open  map[string]int      // sessions by destination
	most  map[string]int
}

func newAbroad() *abroad {
	return &abroad{does: map[string]func(context.Context, road.Job) road.Outcome{}, got: map[string][]string{},
		tries: map[string]int{}, open: map[string]int{}, most: map[string]int{}}
}

func (a *abroad) Session(domain string) Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[domain]++
	a.most[domain] = max(a.most[domain], a.open[domain])
	return &trip{a, domain}
}

type trip struct {
	a      *abroad
	domain string
}

func (t *trip) Close() {
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	t.a.open[t.domain]--
}

func (t *trip) Send(ctx context.Context, j road.Job) road.Outcome {
	t.a.mu.Lock()
	t.a.tries[t.domain]++
	do := t.a.does[t.domain]
	t.a.mu.Unlock()
	if do != nil {
		return do(ctx, j)
	}
	return t.a.takes(j)
}

// takes accepts a mail for all.
func (a *abroad) takes(j road.Job) road.Outcome {
	text, err := io.ReadAll(io.NewSectionReader(j.Body, 0, j.Body.Size()))
	if err != nil {
		return road.Outcome{Unreached: &smtp.Reply{Code: 451, Text: err.Error()}}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range j.Rcpts {
		a.got[r.To.String()] = append(a.got[r.To.String()], string(text))
	}
	return answers(j, "mx.example", &smtp.Reply{Code: 250, Enhanced: "2.0.0", Text: "OK (SMTP)"})
}

// set says what a destination does from now on; nil: it takes mail.
func (a *abroad) set(dest string, do func(context.Context, road.Job) road.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.does[dest] = do
}

// mails gives what came for a recipient.
func (a *abroad) mails(to string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got[to]
}

// sessions gives how many sessions a destination has, and how many it had at most.
func (a *abroad) sessions(dest string) (open, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open[dest], a.most[dest]
}

func (a *abroad) copies(to string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.got[to])
}

func (a *abroad) tried(dest string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tries[dest]
}

func answers(j road.Job, host string, rs ...*smtp.Reply) road.Outcome {
	o := road.Outcome{Host: host}
	for i := range j.Rcpts {
		o.Answers = append(o.Answers, rs[min(i, len(rs)-1)])
	}
	return o
}

func unreached(code int, text string) func(context.Context, road.Job) road.Outcome {
	return func(context.Context, road.Job) road.Outcome {
		return road.Outcome{Unreached: &smtp.Reply{Code: code, Enhanced: fmt.Sprintf("%d.4.1", code/100), Text: text}}
	}
}

// people are the accounts of a host.
type people struct {
	domain string
	byName map[string]account.Account
}

func (p people) Ours(a mail.Address) bool { return a.Domain == p.domain }

func (p people) Resolve(_ context.Context, a mail.Address) (account.Account, error) {
	if x, ok := p.byName[a.Local]; ok {
		return x, nil
	}
	return account.Account{}, errs.E("test", errs.NotFound, "", nil)
}

// host is a whole office with a queue.
type host struct {
	*office
	t      testing.TB
	root   *seal.Root
	queue  *queue.Queue
	people people
	d      *Deliver
	out    *Out
	abroad *abroad
	anna   account.Account
	key    *seal.Opened // anna's
	fs     vfs.FS
}

const here = "mail.example"

// newHost needs to be called inside a synctest bubble where Run is used.
func newHost(t testing.TB, fs vfs.FS, change func(*Options, *OutOptions)) *host {
	t.Helper()
	h := &host{office: open(t, fs), t: t, abroad: newAbroad(), fs: fs}
	var err error
	if h.root, err = seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), rand.Reader); err != nil {
		t.Fatal(err)
	}
	h.anna, h.key = h.user()
	h.anna.Address = from
	h.people = people{here, map[string]account.Account{"anna": h.anna}}
	h.start(change)
	return h
}

func (h *host) start(change func(*Options, *OutOptions)) {
	h.t.Helper()
	var err error
	if h.queue, err = queue.Open(context.Background(), queue.Options{Store: h.st, Root: h.root, FS: h.fs, Dir: "/data/queue"}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.end)
	o := Options{Store: h.st, Boxes: h.boxes, Queue: h.queue, Accounts: h.people, Domain: here}
	out := OutOptions{Roads: h.abroad}
	if change != nil {
		change(&o, &out)
	}
	h.d = New(o)
	out.Deliver = h.d
	h.out = NewOut(out)
}

// end closes the queue, if it is open.
func (h *host) end() {
	if h.queue != nil {
		h.queue.Close()
		h.queue = nil
	}
}

// run works on the queue until the returned function is called.
func (h *host) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.out.Run(ctx) }()
	return func() {
		h.t.Helper()
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	}
}

func rcpt(s string, notify ...smtp.Notify) queue.Rcpt {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	r := queue.Rcpt{To: a}
	for _, n := range notify {
		r.Notify |= uint8(n)
	}
	return r
}

// hand hands in a mail of anna's.
func (h *host) hand(to ...queue.Rcpt) {
	h.t.Helper()
	p := Parcel{From: from, Home: h.anna.ID.Shard(), Head: []byte("Subject: hello\r\n\r\n"), Tail: []byte("body\r\n")}
	for _, r := range to {
		if r.To.Domain == here {
			p.Local = append(p.Local, h.people.byName[r.To.Local])
			continue
		}
		p.Remote = append(p.Remote, r)
	}
	if err := h.d.Begin().Hand(context.Background(), p); err != nil {
		h.t.Fatal(err)
	}
}

// reports gives what anna was told.
func (h *host) reports() []string {
	return slices.DeleteFunc(h.inbox(h.key), func(s string) bool { return !strings.Contains(s, "multipart/report") })
}

func (h *host) waiting() int { return h.queue.Stats().Recipients }

// TestOut: mail leaves, signed, once for each recipient, and nothing stays behind; a mail for here
// and elsewhere is in both.
func TestOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), func(o *Options, _ *OutOptions) {
			o.Sign = func(header []byte, body ...[]byte) ([]byte, error) {
				return fmt.Appendf(nil, "DKIM-Signature: of %q and %q\r\n", header, bytes.Join(body, nil)), nil
			}
		})
		defer h.run()()
		h.hand(rcpt("bob@a.example"), rcpt("bea@a.example"), rcpt("carl@b.example"), rcpt("anna@"+here))
		synctest.Wait()
		want := "DKIM-Signature: of \"Subject: hello\\r\\n\\r\\n\" and \"body\\r\\n\"\r\nSubject: hello\r\n\r\nbody\r\n"
		for _, to := range []string{"bob@a.example", "bea@a.example", "carl@b.example"} {
			if got := h.abroad.mails(to); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q", to, got)
			}
		}
		if got := h.inbox(h.key); len(got) != 1 || got[0] != "Return-Path: <anna@mail.example>\r\nSubject: hello\r\n\r\nbody\r\n" {
			t.Errorf("here: %q", got)
		}
		if h.waiting() != 0 || h.abroad.tried("a.example") != 1 {
			t.Errorf("%d wait, %d tries", h.waiting(), h.abroad.tried("a.example"))
		}
	})
}

// TestHalfSuccess: of a mail with several recipients the half that was taken never gets it
// again, the half that was put off does once, the refused are reported.
func TestHalfSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		n := 0
		h.abroad.set("a.example", func(_ context.Context, j road.Job) road.Outcome {
			n++
			out := road.Outcome{Host: "mx.a.example"}
			for _, r := range j.Rcpts {
				switch {
				case r.To.Local == "never":
					out.Answers = append(out.Answers, &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"})
				case r.To.Local == "later" && n < 4:
					out.Answers = append(out.Answers, &smtp.Reply{Code: 450, Enhanced: "4.2.0", Text: "greylisted"})
				default:
					h.abroad.takes(road.Job{Body: j.Body, Rcpts: []smtp.Recipient{r}})
					out.Answers = append(out.Answers, &smtp.Reply{Code: 250, Enhanced: "2.0.0", Text: "ok"})
				}
			}
			return out
		})
		defer h.run()()
		h.hand(rcpt("now@a.example"), rcpt("later@a.example"), rcpt("never@a.example"), rcpt("silent@a.example"))
		synctest.Wait()
		if h.abroad.copies("now@a.example") != 1 || h.waiting() != 1 {
			t.Fatalf("%v, %d wait", h.abroad.got, h.waiting())
		}
		list, _, err := h.queue.List(t.Context(), queue.Filter{}, "", 10)
		if err != nil || len(list) != 1 || list[0].Rcpts[0].LastWhy != "450 4.2.0 greylisted" || list[0].Rcpts[0].Tries != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		for to, want := range map[string]int{"now@a.example": 1, "later@a.example": 1, "never@a.example": 0, "silent@a.example": 1} {
			if got := h.abroad.copies(to); got != want {
				t.Errorf("%s: %d copies", to, got)
			}
		}
		reports := h.reports()
		if len(reports) != 1 || h.waiting() != 0 {
			t.Fatalf("%d reports, %d wait", len(reports), h.waiting())
		}
		for _, want := range []string{"Return-Path: <>\r\n", "From: ", "mailer-daemon@mail.example", "Auto-Submitted: ", "Action: failed", "Status: 5.1.1",
			"Final-Recipient: rfc822; never@a.example", "Remote-MTA: dns; mx.a.example", "no such user", "Subject: hello"} {
			if !strings.Contains(reports[0], want) {
				t.Errorf("the report lacks %q:\n%s", want, reports[0])
			}
		}
		if strings.Contains(reports[0], "later@") || strings.Contains(reports[0], "\r\nbody\r\n") {
			t.Errorf("the report says too much:\n%s", reports[0])
		}
	})
}

// TestBackOff: a destination that cannot be reached is tried less and less often, one try for
// all its mails, and no row is written; mail that comes meanwhile waits with the rest; when it
// answers again all goes out.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("dead.example", unreached(421, "no answer"))
		defer h.run()()
		for range 20 {
			h.hand(rcpt("x@dead.example"))
		}
		synctest.Wait()
		if n := h.abroad.tried("dead.example"); n != 1 {
			t.Errorf("%d tries at once", n)
		}
		time.Sleep(20 * time.Minute) // 30 s, 1, 2, 4, 8 minutes: 6 tries, a fifth more or less
		n := h.abroad.tried("dead.example")
		if n < 5 || n > 7 {
			t.Errorf("%d tries in 20 minutes", n)
		}
		h.hand(rcpt("y@dead.example"), rcpt("z@alive.example"))
		synctest.Wait()
		if h.abroad.tried("dead.example") != n || h.abroad.copies("z@alive.example") != 1 {
			t.Error("a new mail did not wait, or another destination did")
		}
		list, _, err := h.queue.List(t.Context(), queue.Filter{}, "", 1)
		if err != nil || len(list) != 1 || list[0].Rcpts[0].Paused != "421 4.4.1 no answer" {
			t.Errorf("%+v, %v", list, err)
		}
		time.Sleep(6 * time.Hour) // now an hour each
		if more := h.abroad.tried("dead.example") - n; more < 5 || more > 9 {
			t.Errorf("%d tries in six hours", more)
		}
		h.abroad.set("dead.example", nil)
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if h.abroad.copies("x@dead.example") != 20 || h.abroad.copies("y@dead.example") != 1 || h.waiting() != 0 {
			t.Errorf("%d and %d copies, %d wait", h.abroad.copies("x@dead.example"), h.abroad.copies("y@dead.example"), h.waiting())
		}
	})
}

// TestReachedByAnother: where one of several sessions fails and another gets through after it, the
// destination does not pause.
func TestReachedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		var tries atomic.Int32
		h.abroad.set("a.example", func(_ context.Context, j road.Job) road.Outcome {
			if tries.Add(1) == 40 {
				return road.Outcome{Unreached: &smtp.Reply{Code: 421, Enhanced: "4.4.1", Text: "too many"}}
			}
			time.Sleep(time.Second)
			return h.abroad.takes(j)
		})
		for range 100 {
			h.hand(rcpt("x@a.example"))
		}
		defer h.run()()
		time.Sleep(35 * time.Second) // a pause would be 30 s, a fifth more or less
		if n := h.abroad.copies("x@a.example"); n != 100 || tries.Load() != 101 {
			t.Errorf("%d of 100 in 35 s, with %d tries", n, tries.Load())
		}
	})
}

// TestExpired: a mail expires at its time, and one without such a time never.
func TestExpired(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	o := NewOut(OutOptions{Deliver: New(Options{Now: func() time.Time { return now }}), Roads: newAbroad()})
	for _, c := range []struct {
		at   time.Time
		want bool
	}{{time.Time{}, false}, {now.Add(1), false}, {now, true}, {now.Add(-time.Hour), true}} {
		if got := o.expired(&queue.Item{Mail: queue.Info{Expires: c.at}}); got != c.want {
			t.Errorf("%v: %v", c.at, got)
		}
	}
}

// TestExpiry: after its time a mail is given up with what was said last; one to an account
// that asked for silence without a word.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("dead.example", unreached(421, "no answer"))
		h.abroad.set("slow.example", func(_ context.Context, j road.Job) road.Outcome {
			return answers(j, "mx.slow.example", &smtp.Reply{Code: 451, Enhanced: "4.3.2", Text: "come back"})
		})
		defer h.run()()
		h.hand(rcpt("x@dead.example"), rcpt("mute@dead.example", smtp.NotifyNever), rcpt("y@slow.example"))
		time.Sleep(DefaultLifetime - time.Minute)
		if n := len(h.reports()); n != 0 || h.waiting() != 3 {
			t.Errorf("%d reports, %d wait", n, h.waiting())
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		text := strings.Join(h.reports(), "\n")
		if h.waiting() != 0 || !strings.Contains(text, "Final-Recipient: rfc822; x@dead.example") || !strings.Contains(text, "no answer") ||
			!strings.Contains(text, "Final-Recipient: rfc822; y@slow.example") || !strings.Contains(text, "come back") || !strings.Contains(text, "Status: 5.4.7") {
			t.Errorf("%d wait:\n%s", h.waiting(), text)
		}
		if strings.Contains(text, "mute@") {
			t.Error("NOTIFY=NEVER was not heard")
		}
	})
}

// TestForGood: a destination that will never take mail fails what is for it at once.
func TestForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("gone.example", unreached(512, "Domain gone.example does not exist"))
		defer h.run()()
		h.hand(rcpt("x@gone.example"))
		h.hand(rcpt("y@gone.example"))
		synctest.Wait()
		if len(h.reports()) != 2 || h.waiting() != 0 {
			t.Errorf("%d reports, %d wait", len(h.reports()), h.waiting())
		}
	})
}

// TestReportsOfSuccess: NOTIFY=SUCCESS is answered for mailboxes here, and for hosts that send
// no such reports themselves.
func TestReportsOfSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("knows.example", func(_ context.Context, j road.Job) road.Outcome {
			if j.Rcpts[0].Options.Notify != smtp.NotifySuccess {
				t.Errorf("asked for %v", j.Rcpts[0].Options.Notify)
			}
			out := h.abroad.takes(j)
			out.Reports = true
			return out
		})
		defer h.run()()
		h.hand(rcpt("x@plain.example", smtp.NotifySuccess), rcpt("y@knows.example", smtp.NotifySuccess), rcpt("z@plain.example"))
		synctest.Wait()
		reports := h.reports()
		if len(reports) != 1 || !strings.Contains(reports[0], "Action: relayed") || !strings.Contains(reports[0], "x@plain.example") ||
			strings.Contains(reports[0], "z@plain.example") {
			t.Errorf("%q", reports)
		}
		c := rcpt("anna@"+here, smtp.NotifySuccess)
		err := h.d.Begin().Hand(t.Context(), Parcel{From: from, Local: []account.Account{h.anna}, Confirm: []queue.Rcpt{c}, Head: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		if got := h.inbox(h.key); len(got) != 3 || !strings.Contains(got[2], "Action: delivered") {
			t.Errorf("%q", got)
		}
		// To a sender elsewhere it goes through the queue, from nobody.
		stranger := mail.Address{Local: "eve", Domain: "plain.example"}
		err = h.d.Begin().Hand(t.Context(), Parcel{From: stranger, Local: []account.Account{h.anna}, Confirm: []queue.Rcpt{c}, Head: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := h.abroad.mails("eve@plain.example"); len(got) != 1 || !strings.Contains(got[0], "Action: delivered") {
			t.Errorf("%q", got)
		}
	})
}

// TestNobodyWaitsForAnother: with 70 destinations that hang, which is more than may be served at
// one time, a mail to another goes out when the first ones were found to be slow, and from then on at
// once. So it is also with those that hang when they have the whole mail, which is not known
// then to have failed.
func TestNobodyWaitsForAnother(t *testing.T) {
	const dead, hang = 70, 10 * time.Minute
	lost := &smtp.Reply{Code: 451, Enhanced: "4.4.2", Text: "lost"}
	for name, end := range map[string]func(road.Job) road.Outcome{
		"not reached": func(road.Job) road.Outcome {
			return road.Outcome{Unreached: &smtp.Reply{Code: 421, Enhanced: "4.4.2", Text: "hangs"}}
		},
		"after the mail": func(j road.Job) road.Outcome { return answers(j, "mx.example", lost) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, vfs.NewCrashDisk(), func(_ *Options, o *OutOptions) {
					o.Destinations, o.FirstRetry, o.LastRetry = 50, time.Second, time.Second
				})
				for i := range dead {
					h.abroad.set(fmt.Sprintf("d%d.example", i), func(ctx context.Context, j road.Job) road.Outcome {
						select {
						case <-ctx.Done():
						case <-time.After(hang):
						}
						return end(j)
					})
				}
				defer h.run()()
				for i := range dead {
					for range 3 {
						h.hand(rcpt(fmt.Sprintf("x@d%d.example", i)))
					}
				}
				h.hand(rcpt("first@zlive.example"))
				time.Sleep(DefaultSlow + time.Second)
				if h.abroad.copies("first@zlive.example") != 1 {
					t.Error("a mail waited longer than it takes to find out that others are slow")
				}
				time.Sleep(2 * DefaultSlow) // the last of them are found out
				for i := range 100 {
					time.Sleep(time.Minute)
					to := fmt.Sprintf("n%d@zlive%d.example", i, i%2)
					h.hand(rcpt(to))
					synctest.Wait()
					if h.abroad.copies(to) != 1 {
						t.Fatalf("mail %d waited", i)
					}
				}
			})
		})
	}
}

// TestSlowButAlive: a host that takes its time gets its mail, once, and is not cut off while there
// is room.
func TestSlowButAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("slow.example", func(ctx context.Context, j road.Job) road.Outcome {
			select {
			case <-time.After(5 * DefaultSlow):
				return h.abroad.takes(j)
			case <-ctx.Done():
				return answers(j, "mx.example", &smtp.Reply{Code: 451, Enhanced: "4.4.2", Text: "cut"})
			}
		})
		defer h.run()()
		for range 3 {
			h.hand(rcpt("x@slow.example"))
		}
		time.Sleep(20 * DefaultSlow)
		synctest.Wait()
		if n, _ := h.abroad.sessions("slow.example"); h.abroad.copies("x@slow.example") != 3 || h.abroad.tried("slow.example") != 3 || n != 0 {
			t.Errorf("%d copies after %d tries, %d sessions", h.abroad.copies("x@slow.example"), h.abroad.tried("slow.example"), n)
		}
	})
}

// TestMoreConnections: a destination with much to take gets more sessions, up to the limit, and
// a session is kept for a while.
func TestMoreConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		h.abroad.set("a.example", func(_ context.Context, j road.Job) road.Outcome {
			time.Sleep(time.Second)
			return h.abroad.takes(j)
		})
		for range 100 {
			h.hand(rcpt("x@a.example"))
		}
		defer h.run()()
		time.Sleep(27 * time.Second)
		if n := h.abroad.copies("x@a.example"); n < 95 {
			t.Errorf("%d in 27 s", n)
		}
		time.Sleep(10 * time.Second)
		if open, most := h.abroad.sessions("a.example"); most != DefaultPerDestination || open == 0 {
			t.Errorf("%d sessions, %d kept", most, open)
		}
		h.hand(rcpt("y@a.example"))
		time.Sleep(time.Second)
		synctest.Wait()
		if _, most := h.abroad.sessions("a.example"); h.abroad.copies("y@a.example") != 1 || most != DefaultPerDestination {
			t.Error("the kept session was not used")
		}
		time.Sleep(2 * DefaultKeep)
		if open, _ := h.abroad.sessions("a.example"); open != 0 {
			t.Errorf("%d sessions kept for nothing", open)
		}
	})
}

// TestStop: a mail that is being handed over when the host stops is finished and settled; after the
// grace it is cut, stays, and is sent at the next start.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, vfs.NewCrashDisk(), nil)
		for name, d := range map[string]time.Duration{"quick.example": DefaultGrace / 2, "slow.example": DefaultGrace * 2} {
			h.abroad.set(name, func(ctx context.Context, j road.Job) road.Outcome {
				select {
				case <-time.After(d):
					return h.abroad.takes(j)
				case <-ctx.Done():
					return answers(j, "", &smtp.Reply{Code: 451, Enhanced: "4.4.2", Text: "cut"})
				}
			})
		}
		stop := h.run()
		h.hand(rcpt("x@quick.example"))
		h.hand(rcpt("x@slow.example"))
		synctest.Wait()
		began := time.Now()
		stop()
		if took := time.Since(began); took != DefaultGrace {
			t.Errorf("stopped after %v", took)
		}
		if h.abroad.copies("x@quick.example") != 1 || h.waiting() != 1 {
			t.Errorf("%v, %d wait", h.abroad.got, h.waiting())
		}
		h.end()
		h.abroad.set("slow.example", nil)
		h.start(nil)
		defer h.run()()
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.abroad.copies("x@quick.example") != 1 || h.abroad.copies("x@slow.example") != 1 || h.waiting() != 0 {
			t.Errorf("%v, %d wait", h.abroad.got, h.waiting())
		}
	})
}

// TestTooLargeForOne: copies that do not fit into one transaction are taken all the same, and come
// to each exactly once; so it is where shards share no log, and where some outcomes are unknown.
func TestTooLargeForOne(t *testing.T) {
	unknown := errs.E("test", errs.Unavailable, "", errors.New("connection lost after commit"))
	for name, st := range map[string]func(store.Store) store.Store{
		"large": func(s store.Store) store.Store { return limited{s} },
		"apart": func(s store.Store) store.Store { return &counted{Store: s, apart: true} },
		"apart, unknown": func(s store.Store) store.Store {
			return &counted{Store: s, apart: true, fail: func(n int) error {
				if n%3 == 0 && n > 1 && n < 20 {
					return unknown
				}
				return nil
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, vfs.NewCrashDisk(), func(o *Options, _ *OutOptions) { o.Store = st(o.Store) })
				var all []account.Account
				var keys []*seal.Opened
				for i := range 5 {
					a, k := h.user()
					a.Address = mail.Address{Local: fmt.Sprintf("u%d", i), Domain: here}
					h.people.byName[a.Address.Local] = a
					all, keys = append(all, a), append(keys, k)
				}
				if err := h.d.Begin().Local(t.Context(), from, all, []byte(text)); err != nil {
					t.Fatal(err)
				}
				stop := h.run()
				time.Sleep(time.Hour)
				stop()
				for i, k := range keys {
					if got := h.inbox(k); len(got) != 1 || got[0] != delivered {
						t.Errorf("u%d: %q", i, got)
					}
				}
				if h.waiting() != 0 {
					t.Errorf("%d wait", h.waiting())
				}
				if n := h.marks(); n != 0 && name != "apart, unknown" { // there a mark may stay: it harms nothing
					t.Errorf("%d marks stay", n)
				}
			})
		})
	}
}

func (o *office) marks() (n int) {
	err := o.st.Walk(context.Background(), func(_ store.Shard, key, _ []byte) (bool, error) {
		if key[0] == markPrefix {
			n++
		}
		return true, nil
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return n
}

// TestNoQueue: without a queue mail for others is refused in clear words.
func TestNoQueue(t *testing.T) {
	o := open(t, vfs.NewCrashDisk())
	err := New(Options{Store: o.st, Boxes: o.boxes}).Begin().Hand(t.Context(), Parcel{From: from, Remote: []queue.Rcpt{rcpt("x@a.example")}, Head: []byte(text)})
	if errs.KindOf(err) != errs.Unsupported || errs.Public(err) != "this relay does not deliver to other hosts" {
		t.Error(err)
	}
}

// TestQueueFull: a mail for which the queue has no room is refused as a whole.
func TestQueueFull(t *testing.T) {
	h := newHost(t, vfs.NewCrashDisk(), nil)
	h.end()
	var err error
	if h.queue, err = queue.Open(t.Context(), queue.Options{Store: h.st, Root: h.root, FS: h.fs, Dir: "/data/queue", MaxMails: 1}); err != nil {
		t.Fatal(err)
	}
	h.d.o.Queue = h.queue
	h.hand(rcpt("x@a.example"))
	p := Parcel{From: from, Local: []account.Account{h.anna}, Remote: []queue.Rcpt{rcpt("x@a.example")}, Head: []byte(text)}
	if err := h.d.Begin().Hand(t.Context(), p); errs.KindOf(err) != errs.Busy || errs.Public(err) != "the queue is full, try again later" {
		t.Error(err)
	}
	if len(h.inbox(h.key)) != 0 {
		t.Error("half of a refused mail was delivered")
	}
}

// TestLocalAndRemoteTogether: at every sync of mails for here and elsewhere the disk is cut. What
// was acknowledged is in both places, and never is a mail in one of them only.
func TestLocalAndRemoteTogether(t *testing.T) {
	disk := vfs.NewCrashDisk()
	type cut struct {
		disk  *vfs.CrashDisk
		acked int
	}
	var mu sync.Mutex
	var cuts []cut
	acked, armed := 0, false
	h := newHost(t, vfs.NewSyncPoints(disk, func(vfs.SyncPoint) {
		mu.Lock()
		defer mu.Unlock()
		if armed {
			for _, u := range []vfs.Unsynced{vfs.Kept, vfs.Dropped} {
				cuts = append(cuts, cut{disk.Clone(u, uint64(len(cuts))), acked})
			}
		}
	}), nil)
	set := func(fn func()) { mu.Lock(); defer mu.Unlock(); fn() }
	set(func() { armed = true })
	large := append([]byte(text), bytes.Repeat([]byte("x\r\n"), 30_000)...)
	for i := range 3 {
		p := Parcel{From: from, Local: []account.Account{h.anna}, Home: h.anna.ID.Shard(), Remote: []queue.Rcpt{rcpt("x@a.example")}, Head: []byte(text)}
		if i%2 == 1 {
			p.Head = large
		}
		if err := h.d.Begin().Hand(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		set(func() { acked++ })
	}
	set(func() { armed = false })
	if len(cuts) < 6 {
		t.Fatalf("%d cuts", len(cuts))
	}
	for i, c := range cuts {
		after := open(t, c.disk)
		q, err := queue.Open(t.Context(), queue.Options{Store: after.st, Root: h.root, FS: c.disk, Dir: "/data/queue"})
		if err != nil {
			t.Fatal(err)
		}
		local, remote := len(after.inbox(h.key)), q.Stats().Mails
		if local != remote || local < c.acked || q.Stats().Damaged != 0 {
			t.Errorf("cut %d: %d acknowledged, %d here, %d in the queue", i, c.acked, local, remote)
		}
		q.Close()
	}
}
