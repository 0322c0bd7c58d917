package lab

import (
	"context"
	mathrand "math/rand/v2"
	"time"
)

// killEvery is the mean time between two kills.
const killEvery = 3 * time.Second

// killer kills members at random, one after another, and starts each again, until run ends.
func (l *Lab) killer(run context.Context) {
	for {
		wait := time.NewTimer(time.Duration(mathrand.ExpFloat64() * float64(killEvery)))
		select {
		case <-run.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		m := l.members[mathrand.IntN(len(l.members))]
		m.kill()
		l.kills.Add(1)
		l.say("killed " + m.name)
		if err := m.start(run); err != nil {
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
