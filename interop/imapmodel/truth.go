package imapmodel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// state is what a message is at one moment.
type state struct {
	alive bool
	flags string // canonical
}

// entry is one state of a message's history. Keys grow with time: 2e for what
// may have stood for a moment within step e, 2e+1 for what stood at its end.
type entry struct {
	key    int
	flags  string
	lo, hi uint64 // the MODSEQ is within; known exactly if equal
}

type message struct {
	uid  uint32
	size uint32 // RFC822.SIZE, once known; never changes
	hist []entry
	died int    // key of the step that removed it, 0 while alive
	gone uint64 // the mailbox's HIGHESTMODSEQ before that step
}

func (m *message) now() entry { return m.hist[len(m.hist)-1] }

// window gives the states that a session which knows the message as of key may
// still be told.
func (m *message) window(key int) []entry {
	for i, e := range m.hist {
		if e.key >= key {
			return m.hist[i:]
		}
	}
	return nil
}

// box is the truth about one mailbox as of the last step.
type box struct {
	name     string
	validity uint32
	uidnext  uint32
	highest  uint64
	msgs     []*message // by UID; the dead stay
	byUID    map[uint32]*message
}

func (b *box) alive() []*message {
	var out []*message
	for _, m := range b.msgs {
		if m.died == 0 {
			out = append(out, m)
		}
	}
	return out
}

// seen is the mailbox as the observer found it.
type seen struct {
	validity, uidnext uint32
	highest           uint64
	uids              []uint32
	data              map[uint32]fetched
}

// observe opens a mailbox anew and reads all of it.
func observe(w *wire, name string) (*seen, error) {
	all, err := w.do("EXAMINE " + name + " (CONDSTORE)")
	if err != nil {
		return nil, err
	}
	got := &seen{data: map[uint32]fetched{}}
	exists := -1
	for _, r := range all {
		switch {
		case r.Kind == "EXISTS":
			exists = int(r.Num)
		case r.Code == "UIDVALIDITY":
			got.validity = number(r.Args)
		case r.Code == "UIDNEXT":
			got.uidnext = number(r.Args)
		case r.Code == "HIGHESTMODSEQ":
			got.highest, _ = strconv.ParseUint(r.Args, 10, 63)
		}
	}
	if exists < 0 || got.validity == 0 || got.uidnext == 0 || got.highest == 0 {
		return nil, fmt.Errorf("EXAMINE %s lacks EXISTS, UIDVALIDITY, UIDNEXT or HIGHESTMODSEQ", name)
	}
	all, err = w.do("UID FETCH 1:* (FLAGS MODSEQ RFC822.SIZE)")
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		switch r.Kind {
		case "EXISTS", "EXPUNGE", "VANISHED":
			return nil, fmt.Errorf("between two steps nothing happens, but the observer is told %q", r.Raw)
		case "FETCH":
			d := r.Data
			if !d.has["UID"] || !d.has["FLAGS"] || !d.has["MODSEQ"] || !d.has["RFC822.SIZE"] {
				return nil, fmt.Errorf("an item is missing: %s", r.Raw)
			}
			if int(r.Num) != len(got.uids)+1 || len(got.uids) > 0 && d.uid <= got.uids[len(got.uids)-1] {
				return nil, fmt.Errorf("UIDs must ascend with the numbers (RFC 9051 §2.3.1.1): %s", r.Raw)
			}
			if d.modseq == 0 || d.modseq > got.highest {
				return nil, fmt.Errorf("MODSEQ beyond HIGHESTMODSEQ %d (RFC 7162 §3.1.2.1): %s", got.highest, r.Raw)
			}
			if d.uid >= got.uidnext {
				return nil, fmt.Errorf("UID not below UIDNEXT %d: %s", got.uidnext, r.Raw)
			}
			got.uids = append(got.uids, d.uid)
			got.data[d.uid] = d
		}
	}
	if len(got.uids) != exists {
		return nil, fmt.Errorf("EXISTS says %d, FETCH gives %d messages", exists, len(got.uids))
	}
	return got, nil
}

func number(text string) uint32 {
	n, _ := strconv.ParseUint(text, 10, 32)
	return uint32(n)
}

// touch is what one command may do to one message: each state it may leave.
type touch func(uid uint32, st state) []state

// birth is a message that a command says it has made.
type birth struct {
	uid    uint32
	states []state // what it may have been in the beginning
}

// explore gives all states that the touches may pass through, in any order, and
// those that they may end in.
func explore(uid uint32, from []state, touches []touch) (passed, final map[state]bool) {
	passed, final = map[state]bool{}, map[state]bool{}
	var walk func(st state, left []touch)
	walk = func(st state, left []touch) {
		passed[st] = true
		if len(left) == 0 {
			final[st] = true
			return
		}
		for i := range left {
			rest := slices.Delete(slices.Clone(left), i, i+1)
			for _, next := range left[i](uid, st) {
				walk(next, rest)
			}
		}
	}
	for _, st := range from {
		walk(st, touches)
	}
	return passed, final
}

// reconcile explains what the observer found by what the step's commands did,
// and extends the history. births are those that commands told; deliveries is
// how many mails came from outside.
func (b *box) reconcile(step int, got *seen, touches []touch, births []birth, deliveries int) error {
	if got.validity != b.validity {
		return fmt.Errorf("UIDVALIDITY changed from %d to %d", b.validity, got.validity)
	}
	if got.highest < b.highest {
		return fmt.Errorf("HIGHESTMODSEQ fell from %d to %d", b.highest, got.highest)
	}
	if got.uidnext < b.uidnext {
		return fmt.Errorf("UIDNEXT fell from %d to %d", b.uidnext, got.uidnext)
	}
	changed := false
	for _, m := range b.msgs {
		d, there := got.data[m.uid]
		if m.died != 0 {
			if there {
				return fmt.Errorf("UID %d is back after it was expunged", m.uid)
			}
			continue
		}
		c, err := b.explain(step, m, state{true, m.now().flags}, d, there, got, touches)
		if err != nil {
			return err
		}
		changed = changed || c
	}
	told := map[uint32]birth{}
	for _, n := range births {
		if _, twice := told[n.uid]; twice {
			return fmt.Errorf("UID %d was given twice", n.uid)
		}
		if n.uid < b.uidnext || n.uid >= got.uidnext {
			return fmt.Errorf("new UID %d, with UIDNEXT %d before and %d after", n.uid, b.uidnext, got.uidnext)
		}
		told[n.uid] = n
	}
	fresh := make([]uint32, 0, len(told))
	for uid := range told {
		fresh = append(fresh, uid)
	}
	for _, uid := range got.uids {
		if b.byUID[uid] != nil || told[uid].uid != 0 {
			continue
		}
		if deliveries--; deliveries < 0 {
			return fmt.Errorf("nobody made the message with UID %d", uid)
		}
		if uid < b.uidnext {
			return fmt.Errorf("the new UID %d is below the old UIDNEXT %d", uid, b.uidnext)
		}
		told[uid] = birth{uid, []state{{true, ""}}}
		fresh = append(fresh, uid)
	}
	if deliveries > 0 {
		return fmt.Errorf("%d delivered mails are not there", deliveries)
	}
	slices.Sort(fresh)
	for _, uid := range fresh {
		changed = true
		if err := b.bear(step, told[uid], got, touches); err != nil {
			return err
		}
	}
	if changed && got.highest == b.highest {
		return fmt.Errorf("something changed or went, HIGHESTMODSEQ stays %d (RFC 7162 §3.1.2.1 and §3.2)", got.highest)
	}
	b.highest, b.uidnext = got.highest, got.uidnext
	return nil
}

// explain holds one known message against what became of it.
func (b *box) explain(step int, m *message, from state, d fetched, there bool, got *seen, touches []touch) (changed bool, err error) {
	passed, final := explore(m.uid, []state{from}, touches)
	end := state{there, d.flags}
	if !there {
		end = state{}
	}
	if !final[end] {
		return false, fmt.Errorf("UID %d was %s and is %s; the commands explain only %s", m.uid, from, end, list(final))
	}
	before := len(m.hist)
	m.remember(step, passed, b.highest+1, got.highest)
	if !there {
		m.died, m.gone = 2*step, b.highest
		return true, nil
	}
	if m.size != d.size {
		return false, fmt.Errorf("UID %d had RFC822.SIZE %d and has %d", m.uid, m.size, d.size)
	}
	old := lastFinal(m)
	switch {
	case d.modseq == old.hi && d.flags == old.flags:
		m.hist = m.hist[:before] // nothing happened, or nothing that changed anything
		return false, nil
	case d.modseq <= b.highest:
		return false, fmt.Errorf("UID %d changed from (%s) to (%s), its MODSEQ from %d to %d, not above the mailbox's %d (RFC 7162 §3.1.2.1)",
			m.uid, old.flags, d.flags, old.hi, d.modseq, b.highest)
	case len(passed) == 1 && len(final) == 1 && len(touches) == 0:
		return false, fmt.Errorf("nobody touched UID %d, its MODSEQ went from %d to %d", m.uid, old.hi, d.modseq)
	}
	m.hist = append(m.hist, entry{2*step + 1, d.flags, d.modseq, d.modseq})
	return true, nil
}

// bear adds a new message.
func (b *box) bear(step int, n birth, got *seen, touches []touch) error {
	d, there := got.data[n.uid]
	passed, final := explore(n.uid, n.states, touches)
	end := state{there, d.flags}
	if !there {
		end = state{}
	}
	if !final[end] {
		return fmt.Errorf("the new UID %d is %s; the commands explain only %s", n.uid, end, list(final))
	}
	m := &message{uid: n.uid, size: d.size}
	m.remember(step, passed, b.highest+1, got.highest)
	if there {
		if d.modseq <= b.highest {
			return fmt.Errorf("the new UID %d has MODSEQ %d, not above the mailbox's %d", n.uid, d.modseq, b.highest)
		}
		m.hist = append(m.hist, entry{2*step + 1, d.flags, d.modseq, d.modseq})
	} else {
		m.died, m.gone = 2*step, b.highest
	}
	b.msgs = append(b.msgs, m)
	b.byUID[n.uid] = m
	return nil
}

// remember adds the states of a moment.
func (m *message) remember(step int, passed map[state]bool, lo, hi uint64) {
	for st := range passed {
		if !st.alive || len(m.hist) > 0 && st.flags == m.hist[len(m.hist)-1].flags && m.hist[len(m.hist)-1].key < 2*step {
			continue
		}
		m.hist = append(m.hist, entry{2 * step, st.flags, lo, hi})
	}
}

// lastFinal is the state at the end of an earlier step.
func lastFinal(m *message) entry {
	for i := len(m.hist) - 1; i >= 0; i-- {
		if m.hist[i].key%2 == 1 {
			return m.hist[i]
		}
	}
	return entry{}
}

func (s state) String() string {
	if !s.alive {
		return "gone"
	}
	return "(" + s.flags + ")"
}

func list(states map[state]bool) string {
	var out []string
	for st := range states {
		out = append(out, st.String())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// apply is what STORE does to flags.
func apply(mode byte, have string, flags []string) string {
	words := strings.Fields(have)
	switch mode {
	case '+':
		words = append(words, flags...)
	case '-':
		words = slices.DeleteFunc(words, func(w string) bool { return slices.Contains(strings.Fields(canonical(strings.Join(flags, " "))), w) })
	default:
		words = flags
	}
	return canonical(strings.Join(words, " "))
}
