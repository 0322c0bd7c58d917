package directory

import (
	"math"
	"testing"
	"time"
)

// TestDraw: the draws are the inverse of their distributions; a limit cuts the distribution and
// does not gather at itself what would be longer.
func TestDraw(t *testing.T) {
	if d := DrawInterval(0.5, time.Second); math.Abs(d.Seconds()-math.Ln2) > 1e-9 {
		t.Errorf("median of an interval: %v", d)
	}
	if d := DrawInterval(math.Nextafter(1, 0), math.MaxInt64); d != math.MaxInt64 {
		t.Errorf("the longest interval: %v", d)
	}
	if d := DrawDelay(0.5, time.Second, time.Hour); d != 693*time.Millisecond {
		t.Errorf("median of a delay: %v", d)
	}
	for _, limit := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second} {
		// The condition: the median is where half of what is below the limit is.
		want := -math.Log1p(0.5 * math.Expm1(-limit.Seconds()))
		if d := DrawDelay(0.5, time.Second, limit); math.Abs(d.Seconds()-want) > 1e-3 {
			t.Errorf("median up to %v: %v, want %v s", limit, d, want)
		}
		at := 0
		for i := range 1000 {
			d := DrawDelay(float64(i)/1000, time.Second, limit)
			if d > limit {
				t.Fatalf("%v is over %v", d, limit)
			}
			if d == limit {
				at++
			}
		}
		if at > 2 {
			t.Errorf("%d of 1000 delays are %v", at, limit)
		}
	}
	if d := DrawDelay(1-1e-16, time.Second, time.Hour); d > 27631*time.Millisecond || d < 27*time.Second {
		t.Errorf("the longest delay: %v", d)
	}
}
