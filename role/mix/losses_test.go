package mix

import (
	"strings"
	"sync/atomic"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// testLose: packets are lost at the rate that is said, which is counted over restarts, and only
// where nobody but this machine comes.
func testLose(t *testing.T) {
	if one(t).options.Lose != nil {
		t.Error("by default packets are lost")
	}
	w := newWorld(t)
	var draws atomic.Int64
	w.deps = func(d *Deps) {
		d.Chance = func() float64 { return float64(draws.Add(1)%4) / 4 } // 0.25, 0.5, 0.75, 0
	}
	lost := 0
	for range 2 {
		s := w.start("experiment.lose=50")
		if !strings.Contains(strings.Join(s.node.Insecurities(), ";"), "loses 50 percent of the packets on purpose") {
			t.Error(s.node.Insecurities())
		}
		for range 100 {
			if s.options.Lose() {
				lost++
			}
		}
		s.Close()
	}
	n, err := ParseLosses([]byte(w.read("work/lost")))
	if err != nil || n != (Losses{200, uint64(lost)}) || lost < 60 || lost > 140 {
		t.Errorf("%v, %v; lost %d", n, err, lost)
	}
	if !strings.Contains(w.logged(), "packets are lost on purpose") {
		t.Error(w.logged())
	}
	const only = "experiment.lose is for a network on one machine"
	for _, set := range []string{"incoming.listen=:48099", "incoming.listen=192.0.2.1:48099", "incoming.listen=127.0.0.1:0,0.0.0.0:0", "incoming.addresses=mix.example:48099", "incoming.addresses=192.0.2.1:48099"} {
		newWorld(t).refused(only, "experiment.lose=1", set)
	}
	newWorld(t).start("experiment.lose=1", "incoming.listen=127.0.0.1:0", "incoming.addresses=127.0.0.1:48099")
}

// TestLossesFile: the counts outlive a process that is killed, and a file that is none is refused.
func TestLossesFile(t *testing.T) {
	w := newWorld(t)
	l, err := openLosses(w.fs, "/lost", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.lose() // and it is not closed
	if l, err = openLosses(w.fs, "/lost", 0, nil); err != nil {
		t.Fatal(err)
	}
	l.lose()
	text, err := vfs.ReadFile(w.fs, "/lost")
	if err != nil || string(text) != "00000000000000000002 came\n00000000000000000001 lost\n" {
		t.Errorf("%q, %v", text, err)
	}
	for _, bad := range []string{"2 came\n1 lost\n", string(text) + "\n", "x", string(text[:20])} {
		if n, err := ParseLosses([]byte(bad)); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%q: %v, %v", bad, n, err)
		}
	}
	if err := vfs.WriteFileAtomic(w.fs, "/bad", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLosses(w.fs, "/bad", 1, nil); errs.KindOf(err) != errs.Corrupt || !strings.Contains(errs.Public(err), "take it away") {
		t.Error(err)
	}
}
