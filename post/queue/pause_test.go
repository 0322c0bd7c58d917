package queue

import (
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// TestPause: a destination that cannot be reached is kept back as a whole, whatever comes for it
// meanwhile; the others are not, and List says why.
func TestPause(t *testing.T) {
	w := newWorld(t)
	q := w.q
	a := w.put(mailOf(100, "one@dead.example"))
	w.put(mailOf(100, "two@alive.example"))
	until := w.clock.Now().Add(time.Hour)
	q.Pause("dead.example", until, "421 no\r\nanswer")
	w.put(mailOf(100, "three@dead.example"))
	dests, next := q.Due()
	if len(dests) != 1 || dests[0] != "alive.example" || !next.Equal(until.UTC().Truncate(time.Millisecond)) {
		t.Errorf("due %q, next %v", dests, next)
	}
	if it := q.Lease("dead.example", 9); len(it) != 0 {
		t.Error("a paused destination was leased")
	}
	l, err := q.Show(t.Context(), a)
	if err != nil || len(l.Rcpts) != 1 || l.Rcpts[0].Paused != "421 no  answer" || l.Rcpts[0].Due.Before(until.Truncate(time.Millisecond)) {
		t.Errorf("%+v, %v", l, err)
	}
	if n, err := q.Retry(t.Context(), Filter{Dest: "dead.example"}); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if dests, _ := q.Due(); len(dests) != 2 {
		t.Errorf("after Retry: %q", dests)
	}
	q.Pause("dead.example", until, "421 again")
	q.Unpause("dead.example")
	if dests, _ := q.Due(); len(dests) != 2 {
		t.Errorf("after Unpause: %q", dests)
	}
	q.Pause("dead.example", until, "421 again")
	w.clock.Add(time.Hour)
	if l, err := q.Show(t.Context(), a); err != nil || l.Rcpts[0].Paused != "421 again" || !l.Rcpts[0].Due.Equal(until.UTC().Truncate(time.Millisecond)) {
		t.Errorf("the pause is over and nobody has tried: %+v, %v", l, err)
	}
	if it := q.Lease("dead.example", 9); len(it) != 2 {
		t.Errorf("after the pause: %d items", len(it))
	}
	q.Unpause("dead.example")
	if l, err := q.Show(t.Context(), a); err != nil || l.Rcpts[0].Paused != "" {
		t.Errorf("it was reached: %+v, %v", l, err)
	}
}

// TestFind: the first digits of a number are enough where only one mail has them.
func TestFind(t *testing.T) {
	w := newWorld(t)
	id := w.put(mailOf(100, "one@a.example"))
	for _, p := range []string{id.String(), id.String()[:MinPrefix], strings.ToUpper(id.String()[:8])} {
		if got, err := w.q.Find(p); err != nil || got != id {
			t.Errorf("%s: %v, %v", p, got, err)
		}
	}
	_, err := w.q.Find(id.String()[:MinPrefix-1])
	wantKind(t, err, errs.Invalid, "the number of a queued mail is 32 hex digits, of which the first ones are enough")
	_, err = w.q.Find("xyzw")
	wantKind(t, err, errs.Invalid, "the number of a queued mail is 32 hex digits, of which the first ones are enough")
	w.q.mu.Lock()
	other := id
	other[15]++
	w.q.damaged[other] = &damaged{}
	w.q.mu.Unlock()
	_, err = w.q.Find(id.String()[:8])
	wantKind(t, err, errs.Invalid, "more than one mail in the queue begins so: give more digits")
	_, err = w.q.Find(strings.Map(func(r rune) rune {
		if r == '0' {
			return '1'
		}
		return '0'
	}, id.String()))
	wantKind(t, err, errs.NotFound, "no such mail in the queue")
}
