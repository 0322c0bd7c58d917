package directory

import (
	"fmt"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// ageWeights are what a day counts, from today back. They are those of the Type II and III
// pingers: recent days most, today half because loops are still under way.
var ageWeights = [...]uint64{5, 10, 10, 10, 10, 9, 8, 5, 3, 2, 2, 1}

// NeutralScore is that of a node which nobody has measured enough.
const NeutralScore = MaxScore / 2

// minLoops is how many loops of one mix through another make a measurement.
const minLoops = 10

// History is what the mixes measured in the last days, added up by day. Its memory is bounded
// by MaxNodes mixes that report on MaxNodes others for 12 days.
type History struct {
	period time.Duration
	last   map[packet.ID]uint64 // newest epoch that a mix reported on
	counts map[pair]*[len(ageWeights)]tally
	today  uint64 // the day of counts' first elements
}

type pair struct{ by, through packet.ID }

type tally struct{ sent, returned uint64 }

// NewHistory begins an empty one.
func NewHistory(n *Network) *History {
	return &History{period: n.period, last: map[packet.ID]uint64{}, counts: map[pair]*[len(ageWeights)]tally{}}
}

func (h *History) day(epoch uint64) uint64 {
	return epoch * uint64(h.period/time.Second) / uint64(24*time.Hour/time.Second)
}

// Add takes the statistics of a mix that takes part, whose signature was verified, in the
// epoch that is now. errs.Exists: it reported on that epoch or a later one. errs.Invalid: the
// epoch is not over. errs.NotFound: it is longer ago than anything counts. errs.Full: too
// many mixes report.
func (h *History) Add(s *Stats, now uint64) error {
	const op = "directory.History.Add"
	h.roll(h.day(now))
	if s.Epoch >= now {
		return errs.E(op, errs.Invalid, "statistics of an epoch that is not over", nil)
	}
	last, known := h.last[s.Node]
	if known && s.Epoch <= last {
		return errs.E(op, errs.Exists, "statistics of this epoch or a later one are here", nil)
	}
	age := h.today - h.day(s.Epoch)
	if age >= uint64(len(ageWeights)) {
		return errs.E(op, errs.NotFound, "statistics are too old", nil)
	}
	if !known && len(h.last) >= MaxNodes {
		return errs.E(op, errs.Full, fmt.Sprintf("more than %d mixes report", MaxNodes), nil)
	}
	mine := 0
	for p := range h.counts {
		if p.by == s.Node {
			mine++
		}
	}
	h.last[s.Node] = s.Epoch
	for _, l := range s.Loops {
		k := pair{s.Node, l.Through}
		c := h.counts[k]
		if c == nil {
			if mine >= MaxNodes {
				continue
			}
			mine++
			c = new([len(ageWeights)]tally)
			h.counts[k] = c
		}
		c[age].sent += l.Sent
		c[age].returned += l.Returned
	}
	return nil
}

// roll makes room for a new day.
func (h *History) roll(day uint64) {
	if day <= h.today {
		return
	}
	by := day - h.today
	h.today = day
	for k, c := range h.counts {
		older(c, by)
		if *c == ([len(ageWeights)]tally{}) {
			delete(h.counts, k)
		}
	}
	for id, e := range h.last {
		if day-h.day(e) >= uint64(len(ageWeights)) {
			delete(h.last, id)
		}
	}
}

// Scores gives the score of each node, in the epoch that is now (docs/directory.md §10). Each
// mix counts once, whatever it sent. What a mix loses with all others is its own loss, not
// theirs: its measurements are taken relative to its usual one. Of those of a node the lower
// median counts, so that fewer than half of the mixes cannot lift it or ruin it. Nobody's
// measurements of itself or of its family count.
func (h *History) Scores(nodes []*Descriptor, now uint64) map[packet.ID]uint64 {
	h.roll(h.day(now))
	family := make(map[packet.ID]string, len(nodes))
	for _, d := range nodes {
		family[d.ID()] = d.Family
	}
	rates := map[packet.ID]map[packet.ID]uint64{} // by reporter, through
	for k, c := range h.counts {
		f, ok := family[k.by]
		g, ok2 := family[k.through]
		if !ok || !ok2 || k.by == k.through || f != "" && f == g {
			continue
		}
		var loops, sent, returned uint64
		for age, t := range c {
			loops += t.sent
			sent += ageWeights[age] * t.sent
			returned += ageWeights[age] * t.returned
		}
		if loops < minLoops {
			continue
		}
		if rates[k.by] == nil {
			rates[k.by] = map[packet.ID]uint64{}
		}
		rates[k.by][k.through] = returned * MaxScore / sent
	}
	measured := map[packet.ID][]uint64{}
	for _, of := range rates {
		all := make([]uint64, 0, len(of))
		for _, r := range of {
			all = append(all, r)
		}
		slices.Sort(all)
		usual := uint64(MaxScore)
		if len(all) >= 3 {
			usual = all[len(all)/2]
		}
		if usual == 0 {
			continue // it lost everything: that tells nothing of others
		}
		for id, r := range of {
			measured[id] = append(measured[id], min(MaxScore, r*MaxScore/usual))
		}
	}
	out := make(map[packet.ID]uint64, len(nodes))
	for id := range family {
		out[id] = NeutralScore
		if l := measured[id]; len(l) > 0 {
			out[id] = median(l)
		}
	}
	return out
}
