package lab

import (
	"context"
	"math"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"postern.email/kit/errs"
	"postern.email/role/mix"
)

// killEvery is the mean time between two kills.
const killEvery = 3 * time.Second

// forgetShare is the part of the killed mixes that lose their keys too, where packets are lost anyhow.
const forgetShare = 1.0 / 24

// disturb kills members at random, one after another, and starts each again, until run ends. Where
// packets are lost on purpose, a mix that is killed loses its keys now and then.
func (l *Lab) disturb(run context.Context) {
	for {
		wait := time.NewTimer(exponential())
		select {
		case <-run.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		m := l.members[mathrand.IntN(len(l.members))]
		again := m.again
		if l.c.Loss > 0 && m.kind == "mix" && mathrand.Float64() < forgetShare {
			again = m.forget
		}
		if err := again(run); err != nil {
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

// lossAtMix is the percentage of packets that each mix loses, for c.Loss percent of those that pass
// Layers of them to be lost.
func (c Config) lossAtMix() float64 {
	return 100 * (1 - math.Pow(1-float64(c.Loss)/100, 1.0/Layers))
}

// losses adds up what the mixes have lost on purpose. It is kept in files, so that kills do not change it.
func (l *Lab) losses() (sum mix.Losses) {
	for _, m := range l.of("mix") {
		text, err := os.ReadFile(filepath.Join(m.dir, mix.LossesFile))
		if err != nil {
			continue // not begun
		}
		if n, err := mix.ParseLosses(text); err == nil {
			sum.Came, sum.Lost = sum.Came+n.Came, sum.Lost+n.Lost
		}
	}
	return sum
}
