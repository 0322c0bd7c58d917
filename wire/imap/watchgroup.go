package imap

import (
	"reflect"
	"sync"
	"time"
)

// groupSize is how many watches of waiting sessions share one goroutine. A wake-up looks at
// all of them, which takes some microseconds; a goroutine of its own would cost each
// session several kilobytes.
const groupSize = 64

// watchers are the groups of a server's sessions in IDLE.
type watchers struct {
	mu     sync.Mutex
	groups []*watchGroup // those with members
}

// watchGroup waits for up to groupSize watches on one goroutine, which lives as long as
// there are members. A session with more watches has a group for itself.
type watchGroup struct {
	changed chan struct{} // capacity 1: members changed
	done    chan struct{}

	mu      sync.Mutex
	members []*waiting
	watches int // of all members, as they joined; one at least each
}

// join adds a session; leave must follow.
func (ws *watchers) join(w *waiting) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for _, g := range ws.groups {
		if g.add(w) {
			return
		}
	}
	g := &watchGroup{changed: make(chan struct{}, 1), done: make(chan struct{})}
	g.add(w)
	ws.groups = append(ws.groups, g)
	go g.run()
}

// leave takes a session out. Behind it nothing writes to the session but its own
// goroutine. The last one to leave a group waits for the group's end.
func (ws *watchers) leave(w *waiting) {
	w.telling.Lock()
	w.over = true
	w.telling.Unlock()
	if ws.drop(w) {
		<-w.group.done
	}
}

func (ws *watchers) drop(w *waiting) (last bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	g := w.group
	g.mu.Lock()
	g.watches -= w.weight
	for i, m := range g.members {
		if m == w {
			g.members[i] = g.members[len(g.members)-1]
			g.members[len(g.members)-1] = nil
			g.members = g.members[:len(g.members)-1]
			break
		}
	}
	last = len(g.members) == 0
	g.mu.Unlock()
	if last {
		for i, o := range ws.groups {
			if o == g {
				ws.groups = append(ws.groups[:i], ws.groups[i+1:]...)
				break
			}
		}
	}
	g.wake()
	return last
}

func (g *watchGroup) add(w *waiting) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.weight = max(len(w.watches), 1)
	if len(g.members) > 0 && g.watches+w.weight > groupSize {
		return false
	}
	g.watches += w.weight
	g.members = append(g.members, w)
	w.group = g
	g.wake()
	return true
}

// renew changes the watches of a member.
func (g *watchGroup) renew(w *waiting, watches []*watched) {
	g.mu.Lock()
	w.watches = watches
	g.mu.Unlock()
	g.wake()
}

func (g *watchGroup) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// run kicks the sessions whose mailbox changed or whose keep-alive is due.
func (g *watchGroup) run() {
	defer close(g.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	cases := []reflect.SelectCase{
		{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(g.changed)},
		{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(timer.C)},
	}
	const fixed = 2
	var members []*waiting // by case, as fired
	var fired []*watched
	for renew := true; ; {
		if renew {
			members, fired, cases = members[:0], fired[:0], cases[:fixed]
			g.mu.Lock()
			for _, w := range g.members {
				for _, x := range w.watches {
					cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(x.watch.C())})
					members, fired = append(members, w), append(fired, x)
				}
			}
			empty := len(g.members) == 0
			g.mu.Unlock()
			if empty {
				return
			}
		}
		timer.Reset(g.kickDue())
		i, _, _ := reflect.Select(cases)
		if renew = i == 0; i >= fixed {
			fired[i-fixed].fired.Store(true)
			members[i-fixed].kick()
		}
	}
}

// kickDue kicks those whose keep-alive is due and gives the time to the next.
func (g *watchGroup) kickDue() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now().UnixNano()
	next := now + int64(time.Hour)
	for _, w := range g.members {
		due := w.due.Load()
		if due <= now {
			w.kick()
			// It sets the next time itself, behind what it writes.
			due = now + int64(w.c.s.o.KeepAlive)
		}
		next = min(next, due)
	}
	return time.Duration(next - now)
}
