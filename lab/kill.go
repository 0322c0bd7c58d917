package lab

import (
	"context"
	mathrand "math/rand/v2"
	"time"

	"postern.email/kit/errs"
)

// killEvery is the mean time between two kills.
const killEvery = 3 * time.Second

// disturb kills members at random, and has mixes lose their keys, one after another, and starts each
// again, until run ends.
func (l *Lab) disturb(run context.Context) {
	var next [2]time.Time // the next kill, the next loss
	pause := [2]func() time.Duration{exponential, func() time.Duration { return around(l.c.lossEvery(l.plan.Period)) }}
	now := time.Now()
	for i, on := range []bool{l.c.Kill, l.c.Loss > 0} {
		if next[i] = now.Add(1 << 62); on {
			next[i] = now.Add(pause[i]())
		}
	}
	for {
		first := 0
		if next[1].Before(next[0]) {
			first = 1
		}
		wait := time.NewTimer(time.Until(next[first]))
		select {
		case <-run.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		next[first] = time.Now().Add(pause[first]())
		m, again := l.members[mathrand.IntN(len(l.members))], (*member).again
		if first == 1 {
			mixes := l.of("mix")
			m, again = mixes[mathrand.IntN(len(mixes))], (*member).forget
		}
		if err := again(m, run); err != nil {
			if run.Err() == nil {
				select {
				case l.broken <- err:
				default:
				}
			}
			return
		}
	}
}

// exponential is the time to the next kill.
func exponential() time.Duration {
	return time.Duration(mathrand.ExpFloat64() * float64(killEvery))
}

// around is a half to one and a half of a time.
func around(mean time.Duration) time.Duration {
	return time.Duration((0.5 + mathrand.Float64()) * float64(mean))
}

// again kills a member and starts it.
func (m *member) again(ctx context.Context) error {
	m.kill()
	m.lab.kills.Add(1)
	m.lab.say("Killed " + m.name + ", and start it again")
	return m.start(ctx)
}

// forget takes a mix's packet keys away, as when its disk is lost: until all others know its new
// ones, the packets that pass it are lost, half of all.
func (m *member) forget(ctx context.Context) error {
	m.kill()
	m.lab.kills.Add(1)
	m.lab.say(m.name + " loses its keys, and packets with them")
	if err := m.lab.command(ctx, nil, "mix", "delkeys", "--force", "-f", m.config); err != nil {
		return errs.Wrap("lab.forget", err)
	}
	return m.start(ctx)
}

// lossEvery is the mean time between two mixes that lose their keys, for a part of all packets to be
// lost: 0 for none. A way passes one of the two mixes of its layer; new keys are in force with the next
// epoch or the one after, one and a half on average.
func (c Config) lossEvery(period time.Duration) time.Duration {
	if c.Loss == 0 {
		return 0
	}
	return period * 3 / 4 * 100 / time.Duration(c.Loss)
}
