package queue

import (
	"container/heap"
	"math"
	"time"

	"postern.email/store"
)

// never is the time of what is not due by itself.
const never = math.MaxInt64

// entry is a mail in the schedule. It holds what is needed to say when it is due, and
// nothing that can be read from the store when it is (BenchmarkMemory).
type entry struct {
	id      ID
	shard   store.Shard
	large   bool // the body is a file
	aside   bool // cannot be read: not handed out
	gone    bool // not in the queue any more
	created int64
	expires int64 // never: does not
	bytes   int64 // stored: all its records, and the file
	slots   []slot
}

// slot is the part of a mail that goes to one destination: what one Item is.
type slot struct {
	e      *entry
	d      *dest
	next   int64 // when it is due; never: held, or nothing is left
	place  int32 // in d.slots; -1: not there
	leased bool
	rows   []row
}

// row is one recipient.
type row struct {
	due    int64
	n      uint16
	notify uint8 // Rcpt.Notify
	held   bool
	warned bool
}

// dest is a destination that a mail waits for. There is one per name, so that the name
// is in memory once.
type dest struct {
	name  string
	slots timeline[*slot] // those that can be leased
	users int             // slots with recipients, leased and held ones too
	place int32           // in schedule.ready; -1: nothing to lease
	pause *pause          // nil: none
}

// pause keeps a destination back as a whole.
type pause struct {
	until int64
	why   string
}

// timed is what lies in a timeline.
type timed interface {
	when() int64
	at() *int32 // its place, kept by the timeline
}

func (s *slot) when() int64 { return s.next }
func (s *slot) at() *int32  { return &s.place }
func (d *dest) when() int64 {
	if d.pause != nil {
		return max(d.slots[0].next, d.pause.until)
	}
	return d.slots[0].next
}
func (d *dest) at() *int32 { return &d.place }

// timeline is a heap by time.
type timeline[T timed] []T

func (h timeline[T]) Len() int           { return len(h) }
func (h timeline[T]) Less(i, j int) bool { return h[i].when() < h[j].when() }
func (h timeline[T]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	*h[i].at(), *h[j].at() = int32(i), int32(j)
}

// Push is for container/heap.
func (h *timeline[T]) Push(x any) {
	t := x.(T)
	*t.at() = int32(len(*h))
	*h = append(*h, t)
}

// Pop is for container/heap.
func (h *timeline[T]) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	var none T
	(*h)[last] = none
	*h = (*h)[:last]
	*t.at() = -1
	return t
}

// put gives t its place, which may be none yet; its time may have changed.
func (h *timeline[T]) put(t T) {
	if i := *t.at(); i >= 0 {
		heap.Fix(h, int(i))
		return
	}
	heap.Push(h, t)
}

// take removes t if it is there.
func (h *timeline[T]) take(t T) {
	if i := *t.at(); i >= 0 {
		heap.Remove(h, int(i))
	}
}

// schedule says what is due when and where. Its owner locks it.
type schedule struct {
	entries map[ID]*entry
	dests   map[string]*dest
	ready   timeline[*dest] // destinations with something to lease

	rows, held, leased int
	bytes              int64
}

func newSchedule() schedule {
	return schedule{entries: make(map[ID]*entry), dests: make(map[string]*dest)}
}

// newEntry makes an entry of its rows; dests[i] is where rows[i] goes. It does not enter
// the schedule yet.
func newEntry(id ID, shard store.Shard, created, expires time.Time, rows []row, dests []string) *entry {
	e := &entry{id: id, shard: shard, created: millis(created), expires: never}
	if !expires.IsZero() {
		e.expires = millis(expires)
	}
	order := make(map[string]int, 1)
	var counts []int
	for _, d := range dests {
		i, ok := order[d]
		if !ok {
			i = len(counts)
			order[d] = i
			counts = append(counts, 0)
		}
		counts[i]++
	}
	e.slots = make([]slot, len(counts))
	for i := range rows {
		s := &e.slots[order[dests[i]]]
		if s.d == nil {
			// Only the name, until add finds the destination.
			*s = slot{e: e, d: &dest{name: dests[i]}, place: -1, rows: make([]row, 0, counts[order[dests[i]]])}
		}
		s.rows = append(s.rows, rows[i])
	}
	return e
}

// add puts an entry into the schedule.
func (q *schedule) add(e *entry) {
	q.entries[e.id] = e
	q.bytes += e.bytes
	for i := range e.slots {
		s := &e.slots[i]
		d := q.dests[s.d.name]
		if d == nil {
			d = s.d
			d.place = -1
			q.dests[d.name] = d
		}
		s.d = d
		d.users++
		q.rows += len(s.rows)
		for _, r := range s.rows {
			if r.held {
				q.held++
			}
		}
		q.place(s)
	}
}

// remove takes an entry out, with all that is left of it.
func (q *schedule) remove(e *entry) {
	for i := range e.slots {
		s := &e.slots[i]
		for len(s.rows) > 0 {
			q.dropRow(s, len(s.rows)-1)
		}
		q.endLease(s)
	}
	delete(q.entries, e.id)
	q.bytes -= e.bytes
	e.gone = true
}

// dropRow removes the row at i of a slot. place must follow.
func (q *schedule) dropRow(s *slot, i int) {
	q.rows--
	if s.rows[i].held {
		q.held--
	}
	s.rows = append(s.rows[:i], s.rows[i+1:]...)
	if len(s.rows) > 0 {
		return
	}
	s.rows = nil
	q.place(s)
	if s.d.users--; s.d.users == 0 {
		delete(q.dests, s.d.name)
	}
}

// place puts a slot where it belongs after any change.
func (q *schedule) place(s *slot) {
	s.next = never
	for _, r := range s.rows {
		if !r.held {
			s.next = min(s.next, r.due, s.e.expires)
		}
	}
	if s.next == never || s.leased || s.e.aside || s.e.gone {
		s.d.slots.take(s)
	} else {
		s.d.slots.put(s)
	}
	if len(s.d.slots) == 0 {
		q.ready.take(s.d)
	} else {
		q.ready.put(s.d)
	}
}

// endLease makes a slot free again, if it was leased.
func (q *schedule) endLease(s *slot) {
	if s.leased {
		s.leased = false
		q.leased--
	}
	q.place(s)
}

// due calls fn for every destination with something due, in no order, and gives the time
// at which the next one becomes due. It looks only at those and their neighbours in the heap.
func (q *schedule) due(now int64, fn func(*dest)) (next int64) {
	next = never
	stack := []int{0}
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if i >= len(q.ready) {
			continue
		}
		d := q.ready[i]
		if d.when() > now {
			next = min(next, d.when())
			continue
		}
		fn(d)
		stack = append(stack, 2*i+1, 2*i+2)
	}
	return next
}

// lease takes up to most slots of a destination that are due, oldest first.
func (q *schedule) lease(name string, now int64, most int) []*slot {
	d := q.dests[name]
	if d == nil || d.pause != nil && d.pause.until > now {
		return nil
	}
	var out []*slot
	for len(out) < most && len(d.slots) > 0 && d.slots[0].next <= now {
		s := d.slots[0]
		q.take(s)
		out = append(out, s)
	}
	return out
}

// take leases a slot that is free.
func (q *schedule) take(s *slot) {
	s.leased = true
	q.leased++
	q.place(s)
}

// setPause keeps a destination back, or lets it go on (nil).
func (q *schedule) setPause(d *dest, p *pause) {
	d.pause = p
	if len(d.slots) > 0 {
		q.ready.put(d)
	}
}

// dueRows gives the numbers of the recipients of a slot that are due: all that are not held
// when the mail has expired.
func (s *slot) dueRows(now int64) []uint16 {
	var ns []uint16
	for _, r := range s.rows {
		if !r.held && (r.due <= now || s.e.expires <= now) {
			ns = append(ns, r.n)
		}
	}
	return ns
}

// unwarned gives the numbers of the recipients of a slot that have a bit of notify, are not held
// and whose sender was not told that they wait.
func (s *slot) unwarned(notify uint8) (ns []uint16) {
	for _, r := range s.rows {
		if r.notify&notify != 0 && !r.held && !r.warned {
			ns = append(ns, r.n)
		}
	}
	return ns
}

// find gives the place of recipient n, or -1.
func (s *slot) find(n uint16) int {
	for i := range s.rows {
		if s.rows[i].n == n {
			return i
		}
	}
	return -1
}

// left is how many recipients the mail still has in the schedule.
func (e *entry) left() int {
	n := 0
	for i := range e.slots {
		n += len(e.slots[i].rows)
	}
	return n
}
