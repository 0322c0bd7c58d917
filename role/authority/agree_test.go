package authority

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/racetest"
)

// Authorities that hear each other have one consensus at five eighths of each epoch, signed
// by all, each following the one before.
func TestAgree(t *testing.T) {
	for _, n := range []int{1, 3, 9} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, n, time.Hour)
				w.start()
				defer w.stop()
				w.admit(someNodes(t, 6))
				epoch := w.next()
				w.until(epoch, 5.2)
				first := w.agreed(epoch)
				if len(first.Nodes) != 7 || len(first.Signatures) != n {
					t.Errorf("%d nodes, %d signatures", len(first.Nodes), len(first.Signatures))
				}
				if n < 9 || !racetest.Enabled { // nine have 72 ways between them
					w.until(epoch+1, 5.2)
					second := w.agreed(epoch + 1)
					if second.Previous != first.Name() {
						t.Error("the second does not follow the first")
					}
				}
				for i, a := range w.all {
					if p := a.core.proofList(); len(p) > 0 {
						t.Errorf("authority %d accuses: %s", i, p[0].Kind)
					}
				}
			})
		})
	}
}
