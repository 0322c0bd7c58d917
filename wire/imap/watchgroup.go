package imap

import (
	"reflect"
	"sync"
	"time"
)

// groupSize is how many waiting sessions share one goroutine. A wake-up looks at
// all of them, which takes some microseconds; a goroutine of its own would cost each
// session several kilobytes.
const groupSize = 64

// watchers are the groups of a server's sessions in IDLE.
type watchers struct {
	mu     sync.Mutex
	groups []*watchGroup // those with members
}

// watchGroup waits for the watches of up to groupSize sessions on one goroutine,
// which lives as long as there are members.
type watchGroup struct {
	changed chan struct{} // capacity 1: members changed
	done    chan struct{}

	mu      sync.Mutex
	members []*waiting
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
	if len(g.members) >= groupSize {
		return false
	}
	g.members = append(g.members, w)
	w.group = g
	g.wake()
	return true
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
	var members []*waiting
	for renew := true; ; {
		if renew {
			members = members[:0]
			cases = cases[:fixed]
			g.mu.Lock()
			for _, w := range g.members {
				if w.watch != nil {
					cases = append(cases, reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(w.watch.C())})
					members = append(members, w)
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
