package day

import (
	"testing"
	"time"
)

func TestDay(t *testing.T) {
	late := time.Date(2026, 11, 21, 23, 59, 59, 0, time.UTC)
	d := Of(late)
	if d.String() != "2026-11-21" || !d.Time().Equal(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)) || Of(late.Add(time.Second)) != d+1 {
		t.Errorf("%v is day %d, which begins at %v", late, d, d.Time())
	}
	if Of(late.In(time.FixedZone("", 3*60*60))) != d {
		t.Error("the day depends on the zone")
	}
	if Day(0).String() != "never" || Of(time.Unix(-5, 0)) != 0 {
		t.Error("day 0 is not never")
	}
}
