package imapmodel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// begin prepares a session for the responses of its command.
func (s *session) begin(o *op) {
	o.fetched, o.flagged = map[uint32]map[string]bool{}, map[uint32]bool{}
	o.slotsWas = slices.Clone(s.slots)
}

// accept looks at the tagged response, before anything is interpreted.
func (o *op) accept() error {
	o.last = o.replies[len(o.replies)-1]
	o.ok = o.last.Kind == "OK"
	if o.last.Kind == "BAD" {
		return fmt.Errorf("a correct command is answered BAD")
	}
	return nil
}

// refusal judges a NO, when it is known what became of the messages.
func (s *session) refusal(o *op) error {
	switch {
	case o.ok:
		return nil
	case s.readonly && slices.Contains([]string{"STORE", "UID STORE", "EXPUNGE", "UID EXPUNGE", "MOVE", "UID MOVE"}, o.kind):
	case o.box != nil && len(o.uids) > 0 && o.anyDead():
		if c := o.last.Code; c != "" && c != "EXPUNGEISSUED" && c != "MODIFIED" {
			return fmt.Errorf("a message is gone, but the code is %s", c)
		}
	default:
		return fmt.Errorf("refused without reason")
	}
	return nil
}

// anyDead tells whether a named message is gone or never was.
func (o *op) anyDead() bool {
	for _, uid := range o.uids {
		if m := o.box.byUID[uid]; m == nil || m.died != 0 {
			return true
		}
	}
	return false
}

// modified is the set of a MODIFIED code, as UIDs.
func (o *op) modified() (map[uint32]bool, error) {
	out := map[uint32]bool{}
	if o.last.Code != "MODIFIED" {
		return out, nil
	}
	nums, err := parseSet(o.last.Args)
	if err != nil {
		return nil, err
	}
	for _, n := range nums {
		if o.kind == "STORE" {
			if n > uint32(len(o.slotsWas)) {
				return nil, fmt.Errorf("MODIFIED names number %d of %d", n, len(o.slotsWas))
			}
			n = o.slotsWas[n-1].uid
		}
		if !slices.Contains(o.uids, n) {
			return nil, fmt.Errorf("MODIFIED names UID %d, which the command did not", n)
		}
		out[n] = true
	}
	return out, nil
}

// copied reads COPYUID (RFC 4315 §3): of the tagged OK for COPY, of an untagged
// one for MOVE (RFC 6851 §4.3).
func (o *op) copied() (validity uint32, from, to []uint32, err error) {
	for _, r := range o.replies {
		if r.Code != "COPYUID" {
			continue
		}
		if from != nil {
			return 0, nil, nil, fmt.Errorf("COPYUID twice")
		}
		parts := strings.Fields(r.Args)
		if len(parts) != 3 {
			return 0, nil, nil, fmt.Errorf("bad COPYUID")
		}
		validity = number(parts[0])
		if from, err = parseSet(parts[1]); err != nil {
			return
		}
		if to, err = parseSet(parts[2]); err != nil {
			return
		}
		if len(from) != len(to) {
			return 0, nil, nil, fmt.Errorf("COPYUID pairs %d with %d messages", len(from), len(to))
		}
	}
	return
}

// effects is what one step's commands did, by mailbox.
type effects struct {
	touches    map[*box][]touch
	births     map[*box][]birth
	deliveries map[*box]int
}

// collect adds what a command did. Births of COPY and MOVE need what the other
// commands of the step did to the originals, so they come last (copies).
func (o *op) collect(e *effects, alone bool) error {
	one := func(b *box, f touch) { e.touches[b] = append(e.touches[b], f) }
	same := func(st state) []state { return []state{st} }
	names := func(uid uint32) bool { return o.all || slices.Contains(o.uids, uid) }
	gone := func(st state) []state {
		if st.alive && slices.Contains(strings.Fields(st.flags), `\deleted`) {
			return []state{{}}
		}
		return same(st)
	}
	if o.s == nil {
		e.deliveries[o.dst] += o.outside
		return nil
	}
	readonly := o.s.readonly
	switch o.kind {
	case "APPEND":
		parts := strings.Fields(o.last.Args)
		if o.last.Code != "APPENDUID" || len(parts) != 2 {
			return fmt.Errorf("no APPENDUID (RFC 4315 §3)")
		}
		if number(parts[0]) != o.dst.validity {
			return fmt.Errorf("UIDVALIDITY of %s is %d", o.dst.name, o.dst.validity)
		}
		e.births[o.dst] = append(e.births[o.dst], birth{number(parts[1]), []state{{true, canonical(strings.Join(o.flags, " "))}}})
	case "STORE", "UID STORE":
		if readonly {
			if o.ok && !o.s.quirks.StoreIgnoredReadOnly {
				return fmt.Errorf("STORE in a mailbox that is read-only is answered OK")
			}
			one(o.box, func(_ uint32, st state) []state { return same(st) })
			return nil
		}
		skipped, err := o.modified()
		if err != nil {
			return err
		}
		if len(skipped) > 0 && !o.hasSince {
			return fmt.Errorf("MODIFIED without UNCHANGEDSINCE")
		}
		if o.hasSince && alone { // else a message may have gone, or changed, before
			if err := o.conditional(skipped); err != nil {
				return err
			}
		}
		one(o.box, func(uid uint32, st state) []state {
			if !st.alive || !names(uid) || skipped[uid] {
				return same(st)
			}
			after := state{true, apply(o.mode, st.flags, o.flags)}
			if !o.ok || !o.knew(uid) { // of a message that it was not told of, a session need not know
				return []state{st, after}
			}
			return []state{after}
		})
	case "FETCH", "UID FETCH":
		if readonly || !slices.Contains(o.items, "BODY[]") {
			return nil
		}
		one(o.box, func(uid uint32, st state) []state {
			if !st.alive || !names(uid) {
				return same(st)
			}
			after := state{true, apply('+', st.flags, []string{`\Seen`})}
			if !o.ok || !o.knew(uid) { // of a message that it was not told of, a session need not know
				return []state{st, after}
			}
			return []state{after}
		})
	case "EXPUNGE", "CLOSE":
		if readonly { // refused or not: nothing goes
			one(o.box, func(_ uint32, st state) []state { return same(st) })
			return nil
		}
		one(o.box, func(uid uint32, st state) []state {
			if out := gone(st); o.knewDeleted(uid) || out[0] == st {
				return out
			}
			return []state{st, {}} // neither the message nor \Deleted was told to this session: both are right
		})
	case "UID EXPUNGE":
		if readonly {
			one(o.box, func(_ uint32, st state) []state { return same(st) })
			return nil
		}
		one(o.box, func(uid uint32, st state) []state {
			switch out := gone(st); {
			case !names(uid) || out[0] == st:
				return same(st)
			case !o.knewDeleted(uid):
				return []state{st, {}}
			default:
				return out
			}
		})
	case "MOVE", "UID MOVE":
		_, from, _, err := o.copied()
		if err != nil {
			return err
		}
		one(o.box, func(uid uint32, st state) []state {
			if slices.Contains(from, uid) {
				return []state{{}}
			}
			return same(st)
		})
	}
	return nil
}

// conditional holds MODIFIED against what is known of the messages.
func (o *op) conditional(skipped map[uint32]bool) error {
	for _, uid := range o.uids {
		m := o.box.byUID[uid]
		if m == nil || m.died != 0 || !o.knew(uid) {
			continue
		}
		if mod := m.now().hi; mod > o.since && !skipped[uid] && o.ok {
			return fmt.Errorf("UID %d has MODSEQ %d, the condition failed, but MODIFIED does not name it (RFC 7162 §3.1.3)", uid, mod)
		}
	}
	return nil
}

// copies adds the births of COPY and MOVE.
func (o *op) copies(e *effects, alone bool) error {
	if !strings.HasSuffix(o.kind, "COPY") && !strings.HasSuffix(o.kind, "MOVE") {
		return nil
	}
	validity, from, to, err := o.copied()
	if err != nil {
		return err
	}
	if from != nil && validity != o.dst.validity {
		return fmt.Errorf("COPYUID: UIDVALIDITY of %s is %d", o.dst.name, o.dst.validity)
	}
	if !o.ok && from != nil && strings.HasSuffix(o.kind, "COPY") {
		return fmt.Errorf("COPYUID, but refused")
	}
	for i, uid := range from {
		m := o.box.byUID[uid]
		if m == nil || m.died != 0 || !slices.Contains(o.uids, uid) {
			return fmt.Errorf("COPYUID names UID %d, which is not there or was not named", uid)
		}
		var others []touch
		others = append(others, e.touches[o.box]...)
		passed, _ := explore(uid, []state{{true, m.now().flags}}, others)
		var states []state
		for st := range passed {
			if st.alive {
				states = append(states, st)
			}
		}
		e.births[o.dst] = append(e.births[o.dst], birth{to[i], states})
	}
	if o.ok && alone {
		for _, uid := range o.uids {
			if m := o.box.byUID[uid]; m != nil && m.died == 0 && o.knew(uid) && !slices.Contains(from, uid) {
				return fmt.Errorf("UID %d was not copied", uid)
			}
		}
	}
	return nil
}

// knew tells whether the session had the message in its view.
func (o *op) knew(uid uint32) bool {
	return slices.ContainsFunc(o.slotsWas, func(sl slot) bool { return sl.uid == uid })
}

// knewDeleted tells whether the session must know that a message has \Deleted.
func (o *op) knewDeleted(uid uint32) bool {
	if !o.s.quirks.ExpungeByOldFlags {
		return o.knew(uid)
	}
	m := o.box.byUID[uid]
	return m != nil && m.died == 0 && o.toldOf(uid) == m.now().key
}

// conclude checks what only the end of a command shows, after its responses were
// taken in.
func (s *session) conclude(o *op, alone bool) error {
	if err := s.refusal(o); err != nil {
		return err
	}
	switch o.kind {
	case "SELECT", "EXAMINE":
		return s.concludeSelect(o)
	case "CLOSE", "UNSELECT":
		s.box, s.slots, s.readonly = nil, nil, false
		return nil
	case "NOOP", "CHECK":
		if s.box != nil && alone && o.kind == "NOOP" {
			return s.settle()
		}
	case "STORE", "UID STORE":
		return s.concludeStore(o, alone)
	case "FETCH", "UID FETCH":
		return s.concludeFetch(o)
	case "SEARCH", "UID SEARCH":
		return s.concludeSearch(o)
	case "STATUS":
		if alone && o.dst != s.box { // of the selected one it may tell what the session was told
			return s.concludeStatus(o)
		}
	case "EXPUNGE":
		if alone && o.ok {
			return s.noneLeft(o)
		}
	case "MOVE", "UID MOVE":
		if o.ok { // RFC 6851 §3.3: EXPUNGE or VANISHED is sent before the end
			_, from, _, err := o.copied()
			if err != nil {
				return err
			}
			for _, uid := range from {
				if s.slotOf(uid) != nil {
					return fmt.Errorf("UID %d was moved, but not told as gone", uid)
				}
			}
		}
	}
	return nil
}

// noneLeft: after EXPUNGE the session must have been told of what it removed.
func (s *session) noneLeft(o *op) error {
	for _, sl := range s.slots {
		if m := s.box.byUID[sl.uid]; m != nil && m.died != 0 && m.died == 2*s.step {
			return fmt.Errorf("UID %d was expunged, but not told as gone", sl.uid)
		}
	}
	return nil
}

// settle is settled, and what a client does with the knowledge.
func (s *session) settle() error {
	if err := s.settled(); err != nil {
		return err
	}
	s.fill()
	c := cache{s.box.validity, s.box.highest, map[uint32]string{}}
	for _, m := range s.box.alive() {
		c.flags[m.uid] = m.now().flags
	}
	s.kept[s.box.name] = c
	return nil
}

func (s *session) concludeSelect(o *op) error {
	sel := o.select_
	for _, need := range []string{"EXISTS", "UIDVALIDITY", "UIDNEXT", "PERMANENTFLAGS", "HIGHESTMODSEQ"} {
		if _, ok := o.selected[need]; !ok {
			return fmt.Errorf("no %s (RFC 9051 §6.3.2, RFC 7162 §3.1.2.1)", need)
		}
	}
	if len(s.keywords) == 0 {
		return fmt.Errorf("no FLAGS")
	}
	if _, closed := o.selected["CLOSED"]; !closed && o.box != nil && (s.qresync || s.rev2) {
		return fmt.Errorf("no CLOSED for the mailbox before (RFC 7162 §3.2.11)")
	}
	b := s.box
	for what, want := range map[string]uint64{"UIDVALIDITY": uint64(b.validity), "UIDNEXT": uint64(b.uidnext), "HIGHESTMODSEQ": b.highest} {
		if o.selected[what] != strconv.FormatUint(want, 10) {
			return fmt.Errorf("%s is %s, must be %d", what, o.selected[what], want)
		}
	}
	want := "READ-WRITE"
	if sel.readonly {
		want = "READ-ONLY"
	}
	if o.last.Code != want && !(o.last.Code == "" && !sel.readonly) {
		return fmt.Errorf("not %s", want)
	}
	if sel.from != nil {
		for uid, flags := range sel.from.flags {
			m := b.byUID[uid]
			switch {
			case m.died != 0 && !slices.Contains(o.earlier, uid):
				return fmt.Errorf("UID %d went since MODSEQ %d, VANISHED (EARLIER) does not tell it (RFC 7162 §3.2.5)", uid, sel.from.highest)
			case m.died == 0 && m.now().hi > sel.from.highest && !(o.fetched[uid]["FLAGS"] && o.fetched[uid]["MODSEQ"]):
				return fmt.Errorf("UID %d changed since MODSEQ %d, no FETCH with FLAGS and MODSEQ tells it (RFC 7162 §3.2.5)", uid, sel.from.highest)
			case m.died == 0 && m.now().hi <= sel.from.highest && m.now().flags != flags:
				return fmt.Errorf("UID %d changed without a higher MODSEQ", uid)
			}
		}
	}
	return s.settle()
}

func (s *session) concludeStore(o *op, alone bool) error {
	if s.readonly {
		return nil
	}
	skipped, err := o.modified()
	if err != nil {
		return err
	}
	for _, uid := range o.uids {
		m := s.box.byUID[uid]
		if m == nil || m.died != 0 || !o.knew(uid) {
			continue
		}
		sl := s.slotOf(uid)
		if sl == nil {
			return fmt.Errorf("UID %d is still there, but not in this session", uid)
		}
		if skipped[uid] {
			continue
		}
		if !o.ok {
			sl.known = sl.known && !o.silent
			continue
		}
		changed := alone && m.now().key == 2*s.step+1 // with others at work, perhaps not by this command
		if !o.silent && !o.flagged[uid] && (changed || !s.quirks.StoreTellsChanges) {
			return fmt.Errorf("no FETCH with the new flags of UID %d (RFC 9051 §6.4.6)", uid)
		}
		if s.condstore && o.hasSince && changed && !o.fetched[uid]["MODSEQ"] {
			return fmt.Errorf("no FETCH with the new MODSEQ of UID %d (RFC 7162 §3.1.3)", uid)
		}
		if o.silent && sl.known {
			after := apply(o.mode, sl.flags, o.flags)
			if o.flagged[uid] && after != sl.flags {
				sl.known = false // told before or after it: no client can know
			} else {
				sl.flags = after
			}
		}
	}
	return nil
}

func (s *session) concludeFetch(o *op) error {
	for _, uid := range o.uids {
		m := s.box.byUID[uid]
		if uid == 0 || m == nil || m.died != 0 || !o.knew(uid) || !o.ok {
			continue
		}
		if o.hasSince && slices.ContainsFunc(m.window(o.toldOf(uid)), func(e entry) bool { return e.lo <= o.since }) {
			continue // as this session was told of it, it did not change
		}
		for _, item := range o.items {
			if !o.fetched[uid][item] {
				return fmt.Errorf("no %s of UID %d", item, uid)
			}
		}
	}
	for uid, got := range o.fetched {
		m := s.box.byUID[uid]
		if o.hasSince && m != nil && m.died == 0 && m.now().hi <= o.since && got["UID"] && o.toldOf(uid) == m.now().key {
			return fmt.Errorf("UID %d has MODSEQ %d, not above %d (RFC 7162 §3.1.4.1)", uid, m.now().hi, o.since)
		}
	}
	if o.vanished {
		for _, uid := range o.uids {
			if m := s.box.byUID[uid]; m != nil && m.died != 0 && m.gone >= o.since && m.died < 2*s.step &&
				!slices.Contains(o.earlier, uid) && !o.knew(uid) {
				return fmt.Errorf("UID %d went since MODSEQ %d, VANISHED (EARLIER) does not tell it (RFC 7162 §3.2.6)", uid, o.since)
			}
		}
	}
	return nil
}

// toldOf gives the state of a message that the session was told of before the
// command; what came later may be told with any command.
func (o *op) toldOf(uid uint32) int {
	for _, sl := range o.slotsWas {
		if sl.uid == uid {
			return sl.at
		}
	}
	return 0
}

func (s *session) concludeStatus(o *op) error {
	unseen := 0
	for _, m := range o.dst.alive() {
		if !slices.Contains(strings.Fields(m.now().flags), `\seen`) {
			unseen++
		}
	}
	want := map[string]uint64{"MESSAGES": uint64(len(o.dst.alive())), "UIDNEXT": uint64(o.dst.uidnext),
		"UIDVALIDITY": uint64(o.dst.validity), "UNSEEN": uint64(unseen)}
	if strings.Contains(o.line, "HIGHESTMODSEQ") {
		want["HIGHESTMODSEQ"] = o.dst.highest
	}
	_, inside, _ := strings.Cut(o.status, "(")
	words := strings.Fields(strings.TrimSuffix(inside, ")"))
	for i := 0; i+1 < len(words); i += 2 {
		name := strings.ToUpper(words[i])
		if n, ok := want[name]; ok && words[i+1] != strconv.FormatUint(n, 10) {
			return fmt.Errorf("STATUS says %s %s, must be %d", name, words[i+1], n)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		return fmt.Errorf("STATUS lacks %d items: %s", len(want), o.status)
	}
	return nil
}
