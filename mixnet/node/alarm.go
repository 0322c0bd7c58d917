package node

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Somebody who keeps all packets from a node until it is empty, and then lets one in, sees where
// that one goes (the n-1 attack). What the node sends to itself does not come back meanwhile, and
// that is the alarm (Danezis and Sassaman, "Heartbeat Traffic to Counter (n-1) Attacks", 2003).
//
// Each loop that is back in the time that its own delays take, with some slack, is a return, and
// each other one a miss. Over both runs Page's cumulative sum of log-likelihood ratios: of the
// loss of an attack against half as much again as the usual one. Its mean time to a false alarm is at least e^h
// loops (Lorden, 1971), and h makes that a year. There is one sum for each other node, over the
// loops that did not touch it, and all of them must be above h: so one node that is down, or
// throws everything away, raises no alarm.
const (
	alarmSlack  = 5 * time.Second      // beside one mean delay, for links and disks
	alarmLoss   = 0.99                 // of loops, while somebody attacks
	alarmLeast  = 0.02                 // the least loss that counts as usual
	alarmMost   = 0.5                  // the greatest
	alarmMemory = 500                  // loops over which the usual loss is averaged
	alarmMargin = 1.5                  // for the error of that average
	alarmEvery  = 365 * 24 * time.Hour // mean time to a false alarm, at least
	alarmOver   = 2                    // how far a sum runs above h, in misses; so it is back soon
	alarmAsleep = time.Minute          // a longer pause between two looks was the machine's
)

// alarm is the rule. It knows no clock. Its methods are not for several goroutines at once.
type alarm struct {
	armed bool    // a loop has come back since the start: there is a network
	lost  float64 // the usual loss
	all   float64 // the sum over all loops
	not   map[packet.ID]float64
	on    bool
}

func newAlarm() *alarm { return &alarm{lost: alarmLeast, not: make(map[packet.ID]float64)} }

// threshold gives h for loops that are sent so often on average.
func threshold(between time.Duration) float64 {
	return math.Log(math.Max(2, float64(alarmEvery)/float64(max(between, time.Millisecond))))
}

// ratios are what a miss and a return add to a sum.
func (a *alarm) ratios() (miss, back float64) {
	p := min(alarmMost, max(alarmLeast, alarmMargin*a.lost))
	return math.Log(alarmLoss / p), math.Log((1 - alarmLoss) / (1 - p))
}

// note takes one loop into account. It reports whether the alarm began or ended with it.
func (a *alarm) note(back bool, through []packet.ID, h float64) (changed bool) {
	if !a.armed && !back {
		return false
	}
	a.armed = true
	miss, ret := a.ratios()
	add, lost := ret, 0.0
	if !back {
		add, lost = miss, 1
	}
	top := h + alarmOver*miss
	step := func(s float64) float64 { return min(top, max(0, s+add)) }
	for _, id := range through {
		if _, ok := a.not[id]; !ok {
			a.not[id] = a.all // no loop has touched it so far
		}
	}
	a.all = step(a.all)
	least := a.all
	for id, s := range a.not {
		if !slices.Contains(through, id) {
			s = step(s)
			a.not[id] = s
		}
		least = min(least, s)
	}
	a.lost += (lost - a.lost) / alarmMemory
	switch {
	case !a.on && least >= h:
		a.on = true
		return true
	case a.on && least < h/2:
		a.on = false
		return true
	}
	return false
}

// keep forgets nodes that are not there any more.
func (a *alarm) keep(there func(packet.ID) bool) {
	for id := range a.not {
		if !there(id) {
			delete(a.not, id)
		}
	}
}

// watch judges loops that are not back in time, until ctx ends.
func (l *loops) watch(ctx context.Context) error {
	n := l.n
	if n.o.noLoops {
		return nil
	}
	return again(ctx, nil, func() time.Duration {
		v := n.view.Load()
		if l.judge(v) {
			l.sayAlarm()
		}
		return max(time.Second, l.between(v)/4)
	})
}

// between is the mean time between two loops.
func (l *loops) between(v *view) time.Duration {
	return v.milliseconds(directory.MixLoopInterval) / time.Duration(max(1, len(l.targets(v))))
}

// judge counts the loops that should be back as missed.
func (l *loops) judge(v *view) (changed bool) {
	now := l.n.o.Now()
	between := l.between(v)
	h := threshold(between)
	l.mu.Lock()
	defer l.mu.Unlock()
	// What should have come back while the machine slept, or before its clock was set, says nothing.
	asleep := !l.looked.IsZero() && now.Sub(l.looked) > between+alarmAsleep
	l.looked = now
	var late []packet.Mark
	for m, p := range l.pending {
		if !p.judged && now.After(p.due) {
			late = append(late, m)
		}
	}
	slices.SortFunc(late, func(a, b packet.Mark) int {
		return cmp.Or(l.pending[a].due.Compare(l.pending[b].due), slices.Compare(a[:], b[:]))
	})
	for _, m := range late {
		p := l.pending[m]
		p.judged = true
		l.pending[m] = p
		if !asleep {
			changed = l.noteLocked(false, p, h) || changed
		}
	}
	l.alarm.keep(func(id packet.ID) bool { return v.nodes[id] != nil })
	return changed
}

// noteLocked tells the alarm of a loop; l.mu is held.
func (l *loops) noteLocked(back bool, p loop, h float64) (changed bool) {
	if p.pool {
		return false // nobody knows how long it may take
	}
	if changed = l.alarm.note(back, p.through, h); changed {
		l.since = l.n.o.Now()
	}
	return changed
}

// sayAlarm logs that the alarm has begun or ended.
func (l *loops) sayAlarm() {
	if text := l.alarmText(); text != "" {
		l.n.o.Logger.Warn("an alarm: " + text)
		return
	}
	l.n.o.Logger.Info("loops of this node come back again")
}

// alarmText says what the alarm means; "" while there is none.
func (l *loops) alarmText() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.alarm.on {
		return ""
	}
	return fmt.Sprintf("since %s the packets that this node sends to itself do not come back: it is cut off, several nodes are down, or somebody keeps packets from it to see where a single one goes",
		l.since.UTC().Format("2006-01-02 15:04 UTC"))
}
