package rig

import (
	"testing"
	"time"
)

func TestPercentileAndMedian(t *testing.T) {
	var d []time.Duration
	for i := 100; i >= 1; i-- {
		d = append(d, time.Duration(i))
	}
	if got := Percentile(d, 50); got != 51 {
		t.Errorf("p50 %d", got)
	}
	if got := Percentile(d, 99); got != 100 {
		t.Errorf("p99 %d", got)
	}
	if got := Percentile(nil, 99); got != 0 {
		t.Errorf("p99 of nothing %d", got)
	}
	if got := Median([]float64{3, 1, 2, 10}); got != 2.5 {
		t.Errorf("median %v", got)
	}
}
