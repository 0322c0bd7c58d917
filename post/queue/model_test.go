package queue

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postern.email/kit/errs"
	"postern.email/kit/racetest"
	"postern.email/store"
)

// modelRcpt is a recipient as the documentation describes it.
type modelRcpt struct {
	to     string
	dest   string
	due    time.Time // in memory
	disk   time.Time // what a restart brings back
	tries  int
	why    string
	since  time.Time
	held   bool
	leased bool
}

type modelMail struct {
	m     Mail
	rcpts map[int]*modelRcpt
}

type modelLease struct {
	it   *Item
	mail *modelMail
}

// machine compares the queue with plain maps.
type machine struct {
	w      *world
	mails  map[ID]*modelMail
	leases []*modelLease
}

var modelDests = []string{"a.example", "b.example", "c.example"}

func (m *machine) now() time.Time { return m.w.clock.Now() }

// group gives the recipients of a mail at a destination.
func (x *modelMail) group(dest string) (ns []int) {
	for _, n := range slices.Sorted(maps.Keys(x.rcpts)) {
		if x.rcpts[n].dest == dest {
			ns = append(ns, n)
		}
	}
	return ns
}

// next is when the part of a mail for a destination is due; zero: never, or it is leased.
func (x *modelMail) next(dest string) (next time.Time) {
	for _, n := range x.group(dest) {
		r := x.rcpts[n]
		if r.leased {
			return time.Time{}
		}
		if r.held {
			continue
		}
		for _, at := range []time.Time{r.due, x.m.Expires} {
			if !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	return next
}

func (m *machine) Put(t *rapid.T) {
	var to []string
	for i := range rapid.IntRange(1, 4).Draw(t, "recipients") {
		to = append(to, fmt.Sprintf("r%d@%s", i, rapid.SampledFrom(modelDests).Draw(t, "dest")))
	}
	mail := mailOf(rapid.SampledFrom([]int{10, 3000, big}).Draw(t, "size"), to...)
	mail.Shard = store.Shard(rapid.IntRange(0, 3).Draw(t, "shard"))
	mail.From = addr(rapid.SampledFrom([]string{"s@here.example", "u@here.example"}).Draw(t, "sender"))
	mail.Created = m.now()
	mail.Expires = time.Time{}
	if rapid.Bool().Draw(t, "expires") {
		mail.Expires = m.now().Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "minutes")) * time.Minute)
	}
	x := &modelMail{m: mail, rcpts: map[int]*modelRcpt{}}
	for n, a := range to {
		x.rcpts[n] = &modelRcpt{to: a, dest: addr(a).Domain, due: m.now(), disk: m.now(), since: m.now()}
	}
	e, err := m.w.q.Prepare(ctx, mail)
	if err != nil {
		t.Fatal(err)
	}
	how := rapid.SampledFrom([]string{"commit", "commit", "commit", "forgotten", "failed", "never"}).Draw(t, "how")
	switch how {
	case "commit", "forgotten":
		if err := m.w.st.Update(ctx, e.Shard(), e.Put); err != nil {
			t.Fatal(err)
		}
		m.mails[e.ID()] = x
	case "failed":
		if err := m.w.st.Update(ctx, e.Shard(), func(tx store.Tx) error { return cmp.Or(e.Put(tx), errNo) }); err != errNo {
			t.Fatal(err)
		}
	}
	if how == "commit" {
		e.Committed()
	}
	e.Discard()
}

func (m *machine) Time(t *rapid.T) {
	m.w.clock.Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "minutes")) * time.Minute)
}

func (m *machine) Lease(t *rapid.T) {
	dest := rapid.SampledFrom(modelDests).Draw(t, "dest")
	most := rapid.IntRange(1, 3).Draw(t, "most")
	var want []time.Time
	for _, x := range m.mails {
		if at := x.next(dest); !at.IsZero() && !at.After(m.now()) {
			want = append(want, at)
		}
	}
	slices.SortFunc(want, time.Time.Compare)
	want = want[:min(most, len(want))]
	var got []time.Time
	for _, it := range m.w.q.Lease(dest, most) {
		x := m.mails[it.ID]
		if x == nil {
			t.Fatal("leased a mail that is not in the queue")
		}
		got = append(got, x.next(dest))
		expired := !x.m.Expires.IsZero() && !x.m.Expires.After(m.now())
		var ns []int
		for _, n := range x.group(dest) {
			if r := x.rcpts[n]; !r.held && (expired || !r.due.After(m.now())) {
				ns = append(ns, n)
			}
		}
		for i, r := range it.Rcpts {
			if i >= len(ns) || r.N != ns[i] {
				t.Fatalf("leased recipients %+v, want %v", it.Rcpts, ns)
			}
			y := x.rcpts[r.N]
			if r.To != addr(y.to) || r.Tries != y.tries || r.LastWhy != y.why || !r.Since.Equal(y.since) {
				t.Fatalf("recipient %+v, want %+v", r, y)
			}
		}
		if len(it.Rcpts) != len(ns) || it.Mail.From != x.m.From || !it.Mail.Expires.Equal(x.m.Expires) {
			t.Fatalf("leased %+v, want recipients %v", it, ns)
		}
		for _, n := range x.group(dest) {
			x.rcpts[n].leased = true
		}
		b, err := m.w.q.Body(ctx, it)
		if text := body(t, b, err); text != textOf(x.m) {
			t.Fatal("the body is another")
		}
		m.leases = append(m.leases, &modelLease{it, x})
	}
	if !slices.EqualFunc(got, want, time.Time.Equal) {
		t.Fatalf("leased what was due at %v, want %v", got, want)
	}
}

// takeLease takes one of the leases.
func (m *machine) takeLease(t *rapid.T) *modelLease {
	if len(m.leases) == 0 {
		t.Skip("nothing is leased")
	}
	i := rapid.IntRange(0, len(m.leases)-1).Draw(t, "lease")
	l := m.leases[i]
	m.leases = slices.Delete(m.leases, i, i+1)
	return l
}

func (m *machine) Release(t *rapid.T) {
	l := m.takeLease(t)
	m.w.q.Release(l.it)
	m.w.q.Release(l.it)
	for _, n := range l.mail.group(l.it.Dest) {
		l.mail.rcpts[n].leased = false
	}
}

func (m *machine) Settle(t *rapid.T) {
	l := m.takeLease(t)
	var rs []Result
	for _, r := range l.it.Rcpts {
		switch rapid.IntRange(0, 3).Draw(t, "outcome") {
		case 1:
			rs = append(rs, Result{N: r.N, Outcome: Delivered})
		case 2:
			rs = append(rs, Result{N: r.N, Outcome: Failed})
		case 3:
			due := m.now().Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "later")) * time.Minute)
			rs = append(rs, Result{N: r.N, Outcome: Deferred, Due: due, Why: fmt.Sprint("try ", r.Tries)})
		}
	}
	err := m.w.q.Settle(ctx, l.it, rs, nil)
	if m.mails[l.it.ID] == nil {
		wantKind(t, err, errs.NotFound, "the mail was dropped")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range l.mail.group(l.it.Dest) {
		l.mail.rcpts[n].leased = false
	}
	for _, r := range rs {
		if r.Outcome != Deferred {
			delete(l.mail.rcpts, r.N)
			continue
		}
		x := l.mail.rcpts[r.N]
		x.tries, x.why, x.since, x.due, x.disk = x.tries+1, r.Why, m.now(), r.Due, r.Due
	}
	if len(l.mail.rcpts) == 0 {
		delete(m.mails, l.it.ID)
	}
}

func (m *machine) filter(t *rapid.T) (f Filter) {
	switch rapid.IntRange(0, 3).Draw(t, "filter") {
	case 1:
		f.Dest = rapid.SampledFrom(modelDests).Draw(t, "dest")
	case 2:
		f.Sender = addr("S@Here.example")
		f.Sender.Local = "s"
	case 3:
		if len(m.mails) > 0 {
			f.ID = m.anyMail(t)
		}
	}
	f.Held = rapid.IntRange(0, 3).Draw(t, "held only") == 0
	return f
}

func (m *machine) anyMail(t *rapid.T) ID {
	ids := slices.SortedFunc(maps.Keys(m.mails), func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	return rapid.SampledFrom(ids).Draw(t, "mail")
}

// each calls fn for each recipient that f means.
func (m *machine) each(f Filter, fn func(*modelRcpt)) {
	for id, x := range m.mails {
		if !f.ID.IsZero() && f.ID != id || !f.Sender.IsZero() && !f.Sender.Equal(x.m.From) {
			continue
		}
		for _, r := range x.rcpts {
			if (f.Dest == "" || f.Dest == r.dest) && (!f.Held || r.held) {
				fn(r)
			}
		}
	}
}

func (m *machine) Hold(t *rapid.T) {
	f, held, want := m.filter(t), rapid.Bool().Draw(t, "hold"), 0
	do := m.w.q.Unhold
	if held {
		do = m.w.q.Hold
	}
	m.each(f, func(r *modelRcpt) {
		if r.held != held {
			r.held = held
			want++
		}
	})
	if n, err := do(ctx, f); n != want || err != nil {
		t.Fatalf("hold %v of %+v: %d, %v, want %d", held, f, n, err, want)
	}
}

func (m *machine) Retry(t *rapid.T) {
	f, want := m.filter(t), 0
	m.each(f, func(r *modelRcpt) {
		if !r.held {
			want++
			if m.now().Before(r.due) {
				r.due = m.now()
			}
		}
	})
	if n, err := m.w.q.Retry(ctx, f); n != want || err != nil {
		t.Fatalf("retry of %+v: %d, %v, want %d", f, n, err, want)
	}
}

func (m *machine) Drop(t *rapid.T) {
	if len(m.mails) == 0 || rapid.IntRange(0, 2).Draw(t, "really") > 0 {
		t.Skip("nothing to drop")
	}
	id := m.anyMail(t)
	if err := m.w.q.Drop(ctx, id); err != nil {
		t.Fatal(err)
	}
	delete(m.mails, id)
	wantKind(t, m.w.q.Drop(ctx, id), errs.NotFound, "no such mail in the queue")
}

func (m *machine) Reopen(t *rapid.T) {
	if rapid.IntRange(0, 2).Draw(t, "really") > 0 {
		t.Skip("not now")
	}
	m.w.reopen()
	m.leases = nil
	for _, x := range m.mails {
		for _, r := range x.rcpts {
			r.leased, r.due = false, r.disk
		}
	}
}

// Check compares all that can be seen from outside.
func (m *machine) Check(t *rapid.T) {
	var want []string
	var next time.Time
	st := Stats{Mails: len(m.mails)}
	for _, dest := range modelDests {
		due := false
		for _, x := range m.mails {
			at := x.next(dest)
			switch {
			case at.IsZero():
			case !at.After(m.now()):
				due = true
			}
		}
		if due {
			want = append(want, dest)
			continue
		}
		// The next of a destination with nothing due.
		for _, x := range m.mails {
			if at := x.next(dest); !at.IsZero() && (next.IsZero() || at.Before(next)) {
				next = at
			}
		}
	}
	dests, at := m.w.q.Due()
	slices.Sort(dests)
	if !slices.Equal(dests, want) || !at.Equal(next) {
		t.Fatalf("due %q next %v, want %q next %v", dests, at, want, next)
	}
	leased := map[string]bool{}
	for id, x := range m.mails {
		if st.Oldest.IsZero() || x.m.Created.Before(st.Oldest) {
			st.Oldest = x.m.Created
		}
		for _, r := range x.rcpts {
			st.Recipients++
			if r.held {
				st.Held++
			}
			if r.leased {
				leased[id.String()+r.dest] = true
			}
		}
	}
	st.Leased = len(leased)
	got := m.w.q.Stats()
	st.Bytes = got.Bytes
	if got != st {
		t.Fatalf("stats %+v, want %+v", got, st)
	}
	page, cursor, err := m.w.q.List(ctx, Filter{}, "", MaxPage)
	if err != nil || cursor != "" || len(page) != len(m.mails) {
		t.Fatalf("%d mails are listed, %q, %v", len(page), cursor, err)
	}
	for _, l := range page {
		x := m.mails[l.ID]
		if x == nil || l.Damaged != "" || len(l.Rcpts) != len(x.rcpts) {
			t.Fatalf("listed %+v, want %+v", l, x)
		}
		for _, r := range l.Rcpts {
			y := x.rcpts[r.N]
			if y == nil || r.Held != y.held || r.Leased != y.leased || r.Tries != y.tries || r.LastWhy != y.why || !r.Due.Equal(y.due) || r.Dest != y.dest {
				t.Fatalf("listed recipient %+v, want %+v", r, y)
			}
		}
	}
}

// bytes compares the counted bytes with what lies on the disk.
func (m *machine) bytes(t *rapid.T) {
	var stored int64
	err := m.w.st.Walk(ctx, func(_ store.Shard, k, v []byte) (bool, error) {
		if k[0] == letter {
			stored += int64(len(v))
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.w.files() {
		info, err := m.w.fs.Stat(m.w.fs.PathJoin(m.w.dir, "queue", f))
		if err != nil {
			t.Fatal(err)
		}
		stored += info.Size()
	}
	if got := m.w.q.Stats().Bytes; got != stored {
		t.Fatalf("%d bytes are counted, %d lie on the disk", got, stored)
	}
}

func TestModel(t *testing.T) {
	if racetest.Enabled {
		racetest.Runs(t, 15)
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, runTwice)
		defer w.close()
		m := &machine{w: w, mails: map[ID]*modelMail{}}
		rt.Repeat(map[string]func(*rapid.T){
			"put": m.Put, "time": m.Time, "lease": m.Lease, "release": m.Release, "settle": m.Settle, "hold": m.Hold,
			"retry": m.Retry, "drop": m.Drop, "reopen": m.Reopen, "": m.Check,
		})
		m.bytes(rt)
		w.sound()
		for id := range m.mails {
			if err := w.q.Drop(ctx, id); err != nil {
				rt.Fatal(err)
			}
		}
		for _, l := range m.leases {
			w.q.Release(l.it)
		}
		w.empty()
		if t.Failed() {
			rt.FailNow()
		}
	})
}
