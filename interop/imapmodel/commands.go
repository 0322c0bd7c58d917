package imapmodel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// flagNames are what the tests set; the last two are keywords.
var flagNames = []string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Draft`, "$Forwarded", "modelword"}

// draw makes up a command for a session. alone: no other command runs at the
// same moment, so that everything about the mailbox is known.
func (r *run) draw(s *session, rng *rand.Rand, alone bool) *op {
	if s.idle != "" {
		return &op{s: s, kind: "DONE", box: s.box}
	}
	if s.box == nil {
		switch n := rng.IntN(10); {
		case !alone || n == 0:
			return r.drawAppend(s, rng)
		case n == 1:
			return r.drawStatus(s, rng)
		default:
			return r.drawSelect(s, rng)
		}
	}
	if !s.resolved() { // numbers are of no use before it is known whose they are
		if rng.IntN(4) == 0 {
			return &op{s: s, kind: "NOOP", line: "NOOP", box: s.box}
		}
		first := slices.IndexFunc(s.slots, func(sl slot) bool { return sl.uid == 0 })
		o := &op{s: s, kind: "FETCH", box: s.box, items: s.items("UID", "FLAGS")}
		o.line = fmt.Sprintf("FETCH %d:%d (%s)", first+1, len(s.slots), strings.Join(o.items, " "))
		for _, sl := range s.slots[first:] {
			o.uids = append(o.uids, sl.uid)
		}
		return o
	}
	for {
		if o := r.drawSelected(s, rng, alone); o != nil {
			return o
		}
	}
}

// items adds MODSEQ for those who may ask for it: asking is a CONDSTORE enabling
// command (RFC 7162 §3.1).
func (s *session) items(names ...string) []string {
	if s.condstore {
		names = append(names, "MODSEQ")
	}
	return names
}

func (r *run) drawSelected(s *session, rng *rand.Rand, alone bool) *op {
	o := &op{s: s, box: s.box}
	switch n := rng.IntN(100); {
	case n < 18:
		return r.drawStore(s, rng)
	case n < 32:
		return r.drawFetch(s, rng)
	case n < 40:
		return r.drawSearch(s, rng)
	case n < 47:
		o.kind, o.line = "EXPUNGE", "EXPUNGE"
	case n < 52:
		if o.uids = r.pick(s, rng, 4, true); o.uids == nil {
			return nil
		}
		o.kind, o.line = "UID EXPUNGE", "UID EXPUNGE "+formatSet(o.uids)
	case n < 60:
		return r.drawCopy(s, rng, "COPY")
	case n < 66:
		if s.quirks.MoveHalfDone && (!alone || s.settled() != nil) {
			return nil
		}
		return r.drawCopy(s, rng, "MOVE")
	case n < 74:
		return r.drawAppend(s, rng)
	case n < 86:
		o.kind, o.line = "NOOP", "NOOP"
		if rng.IntN(4) == 0 {
			o.kind, o.line = "CHECK", "CHECK"
			if s.rev2 {
				o.kind, o.line = "NOOP", "NOOP"
			}
		}
	case n < 92:
		o.kind, o.line = "IDLE", "IDLE"
	case n < 94:
		o.kind, o.line = "CLOSE", "CLOSE"
	case n < 96:
		o.kind, o.line = "UNSELECT", "UNSELECT"
	case alone && n < 98 && s.notify:
		// What is told of the old mailbox may still be on its way.
		o.kind, o.line = "UNSELECT", "UNSELECT"
	case alone && n < 98:
		return r.drawSelect(s, rng)
	case alone:
		return r.drawStatus(s, rng)
	default:
		return nil
	}
	return o
}

// pick chooses some UIDs of the session's view, and now and then (loose) others:
// messages that it was not told of, that are gone, or that never were.
func (r *run) pick(s *session, rng *rand.Rand, most int, loose bool) []uint32 {
	var out []uint32
	for range 1 + rng.IntN(most) {
		if len(s.slots) > 0 {
			out = append(out, s.slots[rng.IntN(len(s.slots))].uid)
		}
	}
	if loose && rng.IntN(4) == 0 && len(s.box.msgs) > 0 {
		out = append(out, s.box.msgs[rng.IntN(len(s.box.msgs))].uid)
	}
	if loose && rng.IntN(12) == 0 {
		out = append(out, s.box.uidnext+100000)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// name writes a set of UIDs as the command wants it: as numbers or as UIDs. A
// run over the whole mailbox is written as 1:*.
func (s *session) name(o *op, verb string, rng *rand.Rand) string {
	if rng.IntN(2) == 0 {
		o.kind = "UID " + verb
		return o.kind + " " + formatSet(o.uids)
	}
	o.kind = verb
	var nums []uint32
	o.uids = slices.DeleteFunc(o.uids, func(uid uint32) bool {
		i := slices.IndexFunc(s.slots, func(sl slot) bool { return sl.uid == uid })
		if i >= 0 {
			nums = append(nums, uint32(i+1))
		}
		return i < 0
	})
	if len(nums) == 0 {
		return ""
	}
	return verb + " " + formatSet(nums)
}

func (r *run) drawStore(s *session, rng *rand.Rand) *op {
	o := &op{s: s, box: s.box, uids: r.pick(s, rng, 4, true)}
	line := s.name(o, "STORE", rng)
	if line == "" || len(o.uids) == 0 {
		return nil
	}
	for range 1 + rng.IntN(2) {
		o.flags = append(o.flags, flagNames[rng.IntN(len(flagNames))])
	}
	if rng.IntN(3) == 0 {
		o.flags = []string{`\Deleted`}
	}
	if s.condstore && rng.IntN(3) == 0 {
		o.hasSince, o.since = true, s.someModSeq(o.box, rng)
		line += fmt.Sprintf(" (UNCHANGEDSINCE %d)", o.since)
	}
	o.mode = "++-="[rng.IntN(4)]
	line += " " + strings.TrimPrefix(string(o.mode), "=") + "FLAGS"
	if o.silent = rng.IntN(3) == 0; o.silent {
		line += ".SILENT"
	}
	o.line = line + " (" + strings.Join(o.flags, " ") + ")"
	return o
}

// someModSeq gives the MODSEQ of a message, one beside it, or the mailbox's.
func (s *session) someModSeq(b *box, rng *rand.Rand) uint64 {
	if alive := b.alive(); len(alive) > 0 && rng.IntN(3) > 0 {
		return max(1, alive[rng.IntN(len(alive))].now().hi-uint64(rng.IntN(2)))
	}
	return b.highest
}

func (r *run) drawFetch(s *session, rng *rand.Rand) *op {
	o := &op{s: s, box: s.box}
	all := rng.IntN(3) == 0 && len(s.slots) > 0
	if all {
		for _, sl := range s.slots {
			o.uids = append(o.uids, sl.uid)
		}
	} else {
		o.uids = r.pick(s, rng, 4, true)
	}
	line := s.name(o, "FETCH", rng)
	if line == "" || len(o.uids) == 0 {
		return nil
	}
	if o.all = all; all {
		line = o.kind + " 1:*"
	}
	switch rng.IntN(6) {
	case 0:
		o.items = s.items("UID", "FLAGS", "RFC822.SIZE")
	case 1:
		o.items = s.items("UID", "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]")
	case 2:
		o.items = []string{"UID", "BODY[]"}
	case 3:
		o.items = s.items("UID")
	case 4:
		o.items = []string{"FLAGS"}
	default:
		o.items = s.items("UID", "FLAGS")
	}
	line += " (" + strings.Join(o.items, " ") + ")"
	for i, item := range o.items {
		o.items[i] = strings.Replace(item, "BODY.PEEK", "BODY", 1)
	}
	if s.condstore && o.items[len(o.items)-1] != "BODY[]" && rng.IntN(3) == 0 {
		o.hasSince, o.since = true, s.someModSeq(o.box, rng)
		mods := fmt.Sprintf("CHANGEDSINCE %d", o.since)
		if s.qresync && o.kind == "UID FETCH" && rng.IntN(2) == 0 {
			o.vanished = true
			mods += " VANISHED"
		}
		line += " (" + mods + ")"
	}
	o.line = line
	return o
}

func (r *run) drawCopy(s *session, rng *rand.Rand, verb string) *op {
	o := &op{s: s, box: s.box, uids: r.pick(s, rng, 3, true), dst: r.boxes[rng.IntN(len(r.boxes))]}
	line := s.name(o, verb, rng)
	if line == "" || len(o.uids) == 0 || len(o.dst.alive()) > r.most {
		return nil
	}
	o.line = line + " " + o.dst.name
	return o
}

func (r *run) drawAppend(s *session, rng *rand.Rand) *op {
	o := &op{s: s, kind: "APPEND", box: s.box, dst: r.boxes[rng.IntN(len(r.boxes))]}
	if len(o.dst.alive()) > r.most {
		return &op{s: s, kind: "NOOP", line: "NOOP", box: s.box}
	}
	for range rng.IntN(3) {
		o.flags = append(o.flags, flagNames[rng.IntN(len(flagNames))])
	}
	r.mails++
	o.line = fmt.Sprintf("APPEND %s (%s)", o.dst.name, strings.Join(o.flags, " "))
	o.literal = fmt.Sprintf("From: <model@example.org>\r\nSubject: mail %d\r\nMessage-ID: <%d@model.example>\r\n\r\n%s\r\n",
		r.mails, r.mails, strings.Repeat("x", r.mails%60))
	return o
}

func (r *run) drawStatus(s *session, rng *rand.Rand) *op {
	o := &op{s: s, kind: "STATUS", box: s.box, dst: r.boxes[rng.IntN(len(r.boxes))]}
	o.line = "STATUS " + o.dst.name + " (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
	if s.condstore {
		o.line = "STATUS " + o.dst.name + " (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)"
	}
	return o
}

func (r *run) drawSelect(s *session, rng *rand.Rand) *op {
	b := r.boxes[rng.IntN(len(r.boxes))]
	o := &op{s: s, box: s.box, select_: &reselect{box: b, readonly: rng.IntN(6) == 0}}
	o.kind = "SELECT"
	if o.select_.readonly {
		o.kind = "EXAMINE"
	}
	o.line = o.kind + " " + b.name
	kept, have := s.kept[b.name]
	switch {
	case s.qresync && have && rng.IntN(4) > 0:
		o.select_.from = &kept
		o.line += fmt.Sprintf(" (QRESYNC (%d %d", kept.validity, kept.highest)
		if len(kept.flags) > 0 && rng.IntN(2) == 0 {
			uids := make([]uint32, 0, len(kept.flags))
			for uid := range kept.flags {
				uids = append(uids, uid)
			}
			o.line += " " + formatSet(uids)
		}
		o.line += "))"
	case s.condstore:
		o.line += " (CONDSTORE)"
	}
	return o
}

// criterion is a SEARCH key and its meaning.
type criterion struct {
	text  string
	holds func(uid uint32, e entry) (yes, no bool) // both: it may or may not
	mod   bool
}

func (r *run) drawSearch(s *session, rng *rand.Rand) *op {
	o := &op{s: s, kind: "SEARCH", box: s.box}
	if rng.IntN(2) == 0 {
		o.kind = "UID SEARCH"
	}
	flag := flagNames[rng.IntN(len(flagNames))]
	word := canonical(flag)
	name := "KEYWORD " + flag
	if flag[0] == '\\' {
		name = strings.ToUpper(flag[1:])
	}
	has := func(_ uint32, e entry) (bool, bool) {
		is := slices.Contains(strings.Fields(e.flags), word)
		return is, !is
	}
	hasNot := func(uid uint32, e entry) (bool, bool) { yes, no := has(uid, e); return no, yes }
	c := &criterion{}
	switch n := rng.IntN(10); {
	case n < 4:
		c.text, c.holds = name, has
	case n < 6:
		c.text, c.holds = "UN"+name, hasNot
	case n == 6 && len(s.slots) > 0:
		set := r.pick(s, rng, 5, true)
		c.text = "UID " + formatSet(set)
		c.holds = func(uid uint32, _ entry) (bool, bool) { in := slices.Contains(set, uid); return in, !in }
	case n < 9 && s.condstore:
		since := s.someModSeq(o.box, rng)
		c.text, c.mod = fmt.Sprintf("MODSEQ %d", since), true
		c.holds = func(_ uint32, e entry) (bool, bool) { return e.hi >= since, e.lo < since }
	default:
		c.text = "ALL"
		c.holds = func(uint32, entry) (bool, bool) { return true, false }
	}
	o.search, o.line = c, o.kind+" "+c.text
	return o
}
