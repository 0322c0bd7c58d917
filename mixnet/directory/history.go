package directory

import (
	"maps"
	"slices"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// MaxReport bounds what Report gives, in bytes.
const MaxReport = 1 << 20

var reportForm = form{
	{"node", 1, 1, 1, 0},
	{"last", 1, 1, 1, 0},
	{"day", 1, 1, 1, 0},
	{"loops", 0, MaxNodes * len(ageWeights), 4, 0},
}

// Report is what is kept of one mix's statistics, as lines: for whoever owns the History and
// keeps it over a restart. nil for a mix whose statistics do not count (any more). Its size is
// at most MaxReport.
//
// Its lines are "postern-history 1", "node" with the ID, "last" with the newest epoch that the
// mix reported on, "day" with the day that ages count from, and "loops" with a node, an age in
// days, and how many loops were sent and came back.
func (h *History) Report(by packet.ID) []byte {
	last, ok := h.last[by]
	if !ok {
		return nil
	}
	w := &writer{}
	w.line("postern-history", 1)
	w.line("node", by)
	w.line("last", last)
	w.line("day", h.today)
	var through []packet.ID
	for k := range h.counts {
		if k.by == by {
			through = append(through, k.through)
		}
	}
	slices.SortFunc(through, compareID)
	for _, id := range through {
		for age, t := range h.counts[pair{by, id}] {
			if t.sent > 0 {
				w.line("loops", id, age, t.sent, t.returned)
			}
		}
	}
	return w.b
}

// Reporters names the mixes whose statistics count, sorted, in the epoch that is now.
func (h *History) Reporters(now uint64) []packet.ID {
	h.roll(h.day(now))
	return slices.SortedFunc(maps.Keys(h.last), compareID)
}

// Restore puts back what Report gave, in place of what is there of that mix. errs.Invalid,
// errs.TooLarge or errs.Unsupported for anything else, and nothing is changed; errs.Full if too
// many mixes report.
func (h *History) Restore(b []byte) error {
	const op = "directory.History.Restore"
	s, err := begin(op, "postern-history", b, MaxReport)
	if err != nil {
		return err
	}
	var by packet.ID
	var last, day uint64
	counts := map[packet.ID]*[len(ageWeights)]tally{}
	err = s.read(reportForm, nil, func(key string, v *fields) error {
		switch key {
		case "node":
			by = v.id()
		case "last":
			last = v.uint(1, maxEpoch)
		case "day":
			day = v.uint(0, maxEpoch)
		case "loops":
			id, age := v.id(), v.uint(0, uint64(len(ageWeights)-1))
			t := tally{v.uint(1, MaxParameter), v.uint(0, MaxParameter)}
			if counts[id] == nil {
				if len(counts) == MaxNodes {
					v.fail("too many nodes")
					return nil
				}
				counts[id] = new([len(ageWeights)]tally)
			}
			if t.returned > t.sent || counts[id][age].sent > 0 {
				v.fail("more returned than were sent, or a day is named twice")
			}
			counts[id][age] = t
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, known := h.last[by]; !known && len(h.last) >= MaxNodes {
		return errs.E(op, errs.Full, "too many mixes report", nil)
	}
	h.roll(day)
	h.Forget(by)
	h.last[by] = last
	for id, c := range counts {
		older(c, h.today-day)
		if *c != ([len(ageWeights)]tally{}) {
			h.counts[pair{by, id}] = c
		}
	}
	return nil
}

// Forget drops what a mix measured.
func (h *History) Forget(by packet.ID) {
	delete(h.last, by)
	for k := range h.counts {
		if k.by == by {
			delete(h.counts, k)
		}
	}
}

// older moves tallies back by some days.
func older(c *[len(ageWeights)]tally, days uint64) {
	by := min(days, uint64(len(ageWeights)))
	copy(c[by:], c[:])
	clear(c[:by])
}
