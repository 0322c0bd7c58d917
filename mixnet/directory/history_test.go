package directory

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// What a History keeps of each mix makes the same History again, on the same day and on a
// later one.
func TestHistoryOutlivesRestart(t *testing.T) {
	n, _ := testNetwork(t, 1)
	var nodes []*Descriptor
	for i := range 5 {
		nodes = append(nodes, testNode(t, fmt.Sprint("mix", i), Mix, someTime))
	}
	old := NewHistory(n)
	rate := func(by, through int) uint64 { return uint64(100 * (1 + by + through)) }
	for _, epoch := range []uint64{someEpoch - 300, someEpoch - 30, someEpoch - 2, someEpoch - 1} {
		measured(t, old, nodes, epoch, rate)
	}
	fresh := NewHistory(n)
	for _, d := range nodes {
		b := old.Report(d.ID())
		if len(b) == 0 || len(b) > MaxReport {
			t.Fatalf("%d bytes", len(b))
		}
		must(t, fresh.Restore(b))
		if !bytes.Equal(fresh.Report(d.ID()), b) {
			t.Fatal("another report")
		}
	}
	if got, want := fresh.Reporters(someEpoch), old.Reporters(someEpoch); !slices.Equal(got, want) || len(got) != 5 {
		t.Errorf("%d reporters", len(got))
	}
	for _, now := range []uint64{someEpoch, someEpoch + 24*5, someEpoch + 24*11, someEpoch + 24*13} {
		// One that was kept for some days ages as one that went on.
		late := NewHistory(n)
		for _, d := range nodes {
			if b := old.Report(d.ID()); b != nil {
				must(t, late.Restore(b))
			}
		}
		want := old.Scores(nodes, now)
		if got := late.Scores(nodes, now); !maps.Equal(got, want) {
			t.Errorf("epoch %d: scores %v, want %v", now, got, want)
		}
	}
	if len(old.Reporters(someEpoch+24*13)) != 0 || old.Report(nodes[0].ID()) != nil {
		t.Error("mixes report for ever")
	}
	// An epoch that was reported on is not taken again.
	s := &Stats{Network: "test.net", Node: nodes[0].ID(), Epoch: someEpoch - 1}
	if err := fresh.Add(s, someEpoch); errs.KindOf(err) != errs.Exists {
		t.Error(err)
	}
	fresh.Forget(nodes[0].ID())
	if fresh.Report(nodes[0].ID()) != nil {
		t.Error("not forgotten")
	}
	must(t, fresh.Add(s, someEpoch))
}

// What is not of that form is refused, and changes nothing.
func TestHistoryRefuses(t *testing.T) {
	n, _ := testNetwork(t, 1)
	id := strings.Repeat("ab", 32)
	head := "postern-history 1\nnode " + id + "\nlast 7\nday 9\n"
	for bad, want := range map[string]string{
		"":                                 "line 0: no postern-history",
		"postern-history 2\n":              "line 1: version of postern-history is unknown",
		"postern-history 1\n":              "line 1: too few of node before it",
		head + "loops " + id + " 12 1 1":   "line 5: no end of line",
		head + "loops " + id + " 12 1 1\n": "line 5: loops: not a number from 0 to 11",
		head + "loops " + id + " 0 1 2\n":  "line 5: loops: more returned than were sent, or a day is named twice",
		head + strings.Repeat("loops "+id+" 0 1 1\n", 2):            "line 6: loops: more returned than were sent, or a day is named twice",
		head + "loops " + id + " 0 0 0\n":                           "line 5: loops: not a number from 1 to 9007199254740991",
		"postern-history 1\n" + strings.Repeat("x", MaxReport):      "longer than 1048576 bytes",
		strings.Replace(head, "last 7", "last 0", 1):                "line 3: last: not a number from 1 to 1099511627776",
		head + "loops " + id + " 0 1 1\nsignature " + id + " a b\n": "",
	} {
		h := NewHistory(n)
		err := h.Restore([]byte(bad))
		if want == "" { // an unknown line
			must(t, err)
			continue
		}
		if errs.Public(err) != want {
			t.Errorf("%.60q: %v, want %q", bad, err, want)
		}
		if len(h.last) != 0 || len(h.counts) != 0 {
			t.Errorf("%.60q: something was changed", bad)
		}
	}
	var many strings.Builder
	many.WriteString(head)
	for i := range MaxNodes + 1 {
		fmt.Fprintf(&many, "loops %064x 0 1 1\n", i)
	}
	if err := NewHistory(n).Restore([]byte(many.String())); errs.Public(err) != "line 517: loops: too many nodes" {
		t.Error(err)
	}
	h := NewHistory(n)
	for i := range MaxNodes {
		must(t, h.Restore(fmt.Appendf(nil, "postern-history 1\nnode %064x\nlast 7\nday 9\n", i)))
	}
	if err := h.Restore([]byte(head)); errs.KindOf(err) != errs.Full || errs.Public(err) != "too many mixes report" {
		t.Error(err)
	}
	must(t, h.Restore(fmt.Appendf(nil, "postern-history 1\nnode %064x\nlast 8\nday 9\n", 0)))
}

// Whatever is read back is written as the same numbers.
func FuzzHistory(f *testing.F) {
	n, _ := testNetwork(f, 1)
	id := strings.Repeat("ab", 32)
	f.Add([]byte("postern-history 1\nnode " + id + "\nlast 7\nday 9\n"))
	f.Add([]byte("postern-history 1\nnode " + id + "\nlast 500000\nday 20833\nloops " + id + " 0 5 3\nloops " + id + " 11 7 7\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := NewHistory(n)
		if h.Restore(b) != nil {
			return
		}
		if len(h.last) != 1 {
			t.Fatal("not one mix")
		}
		for id := range h.last {
			r := h.Report(id)
			again := NewHistory(n)
			must(t, again.Restore(r))
			if !bytes.Equal(again.Report(id), r) {
				t.Fatal("another report")
			}
		}
	})
}

// A list of parameters is looked at before it is voted for.
func TestParametersCheck(t *testing.T) {
	must(t, ProfileFull().Check())
	must(t, ProfileLow().Check())
	for want, p := range map[string]Parameters{
		"delay is not from 1 to 3600000":                 {{Delay, 0}},
		"parameters are not sorted":                      {{Delay, 1}, {Delay, 2}},
		`"X" is not 1 to 32 of a-z, 0-9, dot and hyphen`: {{"X", 1}},
		"x is too large":                                 {{"x", MaxParameter + 1}},
		"more than 64 parameters":                        make(Parameters, MaxParameters+1),
	} {
		if err := p.Check(); errs.KindOf(err) != errs.Invalid || errs.Public(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// A registry tells what waits, and why.
func TestRegisteredChanges(t *testing.T) {
	a := testNode(t, "mixA", Mix, someTime)
	b := testNode(t, "mixA", Mix, someTime, func(d *Descriptor) { d.Nickname, d.Family = "mixB", "f" })
	for _, x := range []struct {
		r    Registered
		want []string
	}{{Registered{Approved: a}, nil}, {Registered{Held: a}, nil}, {Registered{Approved: a, Held: a}, nil}, {Registered{Approved: a, Held: b}, []string{"nickname", "family"}}} {
		if got := x.r.Changes(); !slices.Equal(got, x.want) {
			t.Errorf("%v, want %v", got, x.want)
		}
	}
	n, _ := testNetwork(t, 1)
	r := NewRegistry(n)
	_, err := r.Take(a, someTime)
	must(t, err)
	if k, rejected := r.Find(a.ID()); k == nil || k.Held != a || rejected {
		t.Error("not found")
	}
	must(t, r.Reject(a.ID()))
	if k, rejected := r.Find(a.ID()); k != nil || !rejected {
		t.Error("not rejected")
	}
}
