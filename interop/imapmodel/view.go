package imapmodel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Quirks loosen rules for servers that are known to see them differently.
type Quirks struct {
	// UIDOnlyWithQResync: unsolicited FETCH responses tell UIDs after QRESYNC only,
	// not after CONDSTORE (RFC 7162 §3.2.4 asks for both).
	UIDOnlyWithQResync bool
	// StoreTellsChanges: STORE answers with FETCH only where it changed something
	// (RFC 9051 §6.4.6 asks for the new value of all).
	StoreTellsChanges bool
	// StoreIgnoredReadOnly: STORE in a read-only mailbox is answered OK and does
	// nothing.
	StoreIgnoredReadOnly bool
	// ExpungeByOldFlags: EXPUNGE leaves messages whose \Deleted this session was
	// not told of yet.
	ExpungeByOldFlags bool
	// MoveHalfDone: MOVE of a message that another session expunged is refused, but
	// takes the others away without telling where to. Such a MOVE is not tried.
	MoveHalfDone bool
	// IdleTellsLate: what happens during IDLE may be told at its end only.
	IdleTellsLate bool
}

// slot is one message as a client sees it.
type slot struct {
	uid   uint32 // 0: not known yet
	above uint32 // the UID must be above this
	flags string
	known bool   // flags are known
	at    int    // key of the history entry it was last told
	mod   uint64 // MODSEQ last told
}

// cache is what a client keeps of a mailbox between two SELECTs.
type cache struct {
	validity uint32
	highest  uint64
	flags    map[uint32]string
}

// session is one tested connection, as its client must see it.
type session struct {
	w         *wire
	quirks    Quirks
	box       *box // nil: none selected
	readonly  bool
	slots     []slot
	maxUID    uint32
	keywords  map[string]bool // announced by FLAGS
	condstore bool            // a CONDSTORE enabling command was given
	qresync   bool
	rev2      bool
	notify    bool   // is told of changes between commands
	idle      string // tag of the running IDLE
	kept      map[string]cache
	step      int
}

// op is one command and what came of it.
type op struct {
	s        *session // nil: a delivery
	kind     string   // "UID STORE"
	line     string
	literal  string
	box      *box     // selected when it began
	dst      *box     // of APPEND, COPY, MOVE
	uids     []uint32 // whom it names
	all      bool     // it names all (1:*), also those that the session is told of meanwhile
	items    []string // FETCH: what every answer must hold
	mode     byte     // STORE: '+', '-' or '='
	flags    []string
	silent   bool
	since    uint64 // UNCHANGEDSINCE or CHANGEDSINCE
	hasSince bool
	vanished bool // UID FETCH … VANISHED
	search   *criterion
	select_  *reselect
	slotsWas []slot // of the mailbox when it began
	outside  int    // deliveries

	tag     string
	replies []Reply
	ok      bool
	last    Reply
	// collected while its responses are taken in
	fetched  map[uint32]map[string]bool
	flagged  map[uint32]bool // FLAGS told by this command
	earlier  []uint32
	found    []uint32
	foundMod uint64
	searched bool
	status   string
	selected map[string]string
}

// reselect is what a SELECT was told about the past.
type reselect struct {
	box      *box
	readonly bool
	from     *cache // nil: no QRESYNC parameter
}

// byNumber tells whether the command is one of those within which numbers must
// not change (RFC 9051 §7.5.1).
func (o *op) byNumber() bool {
	return o != nil && (o.kind == "FETCH" || o.kind == "STORE" || o.kind == "SEARCH")
}

// take interprets one untagged response; o is the command in progress, or nil.
func (s *session) take(r Reply, o *op) error {
	switch r.Kind {
	case "EXISTS":
		return s.exists(r, o)
	case "RECENT":
		if s.rev2 {
			return fmt.Errorf("RECENT in IMAP4rev2 (RFC 9051 appendix E)")
		}
		if int(r.Num) > len(s.slots) && o != nil && o.select_ == nil {
			return fmt.Errorf("%d recent of %d", r.Num, len(s.slots))
		}
	case "EXPUNGE":
		return s.expunge(r, o)
	case "VANISHED":
		return s.vanish(r, o)
	case "FETCH":
		return s.fetch(r, o)
	case "FLAGS":
		s.keywords = map[string]bool{}
		for w := range strings.FieldsSeq(canonical(r.Args)) {
			s.keywords[w] = true
		}
	case "SEARCH", "ESEARCH":
		return s.searchResult(r, o)
	case "STATUS":
		if o == nil || o.kind != "STATUS" {
			return fmt.Errorf("nobody asked")
		}
		o.status = r.Args
	case "OK", "NO":
		return s.code(r, o)
	case "BYE", "BAD":
		return fmt.Errorf("nothing asked for that")
	case "CAPABILITY", "ENABLED", "LIST":
	default:
		return fmt.Errorf("unknown response")
	}
	return nil
}

func (s *session) code(r Reply, o *op) error {
	if o != nil && o.select_ != nil {
		o.selected[r.Code] = r.Args
		if r.Code == "CLOSED" { // what follows is about the new mailbox
			s.slots = nil
		}
	}
	if r.Code == "HIGHESTMODSEQ" {
		n, err := strconv.ParseUint(r.Args, 10, 63)
		if err != nil || n == 0 || s.box != nil && n > s.box.highest {
			return fmt.Errorf("the mailbox's HIGHESTMODSEQ is %d", s.box.highest)
		}
	}
	return nil
}

func (s *session) exists(r Reply, o *op) error {
	if s.box == nil {
		return fmt.Errorf("no mailbox is selected")
	}
	if o != nil && o.select_ != nil {
		o.selected["EXISTS"] = strconv.Itoa(int(r.Num))
		s.slots = nil
	}
	if int(r.Num) < len(s.slots) {
		return fmt.Errorf("EXISTS shrinks from %d to %d without EXPUNGE (RFC 9051 §7.4.1)", len(s.slots), r.Num)
	}
	later := 0
	for _, m := range s.box.msgs {
		if m.uid > s.maxUID {
			later++
		}
	}
	unknown := 0 // at the end: those before a known one are older
	for i := len(s.slots) - 1; i >= 0 && s.slots[i].uid == 0 && s.slots[i].above == s.maxUID; i-- {
		unknown++
	}
	if grown := int(r.Num) - len(s.slots); grown+unknown > later && (o == nil || o.select_ == nil) {
		return fmt.Errorf("%d more messages, but only %d were ever added since UID %d", grown+unknown, later, s.maxUID)
	}
	for len(s.slots) < int(r.Num) {
		s.slots = append(s.slots, slot{above: s.maxUID})
	}
	return nil
}

func (s *session) mayShrink(o *op) error {
	switch {
	case s.box == nil:
		return fmt.Errorf("no mailbox is selected")
	case o == nil && s.idle == "":
		return fmt.Errorf("numbers change while no command is in progress (RFC 9051 §7.5.1)")
	case o.byNumber():
		return fmt.Errorf("numbers change during %s (RFC 9051 §7.5.1)", o.kind)
	}
	return nil
}

func (s *session) expunge(r Reply, o *op) error {
	if err := s.mayShrink(o); err != nil {
		return err
	}
	if s.qresync {
		return fmt.Errorf("EXPUNGE after QRESYNC was enabled (RFC 7162 §3.2.10)")
	}
	if r.Num == 0 || int(r.Num) > len(s.slots) {
		return fmt.Errorf("there are only %d messages", len(s.slots))
	}
	i := int(r.Num) - 1
	if uid := s.slots[i].uid; uid != 0 && s.box.byUID[uid].died == 0 {
		return fmt.Errorf("number %d is UID %d, which is still there", r.Num, uid)
	}
	s.slots = slices.Delete(s.slots, i, i+1)
	return nil
}

func (s *session) vanish(r Reply, o *op) error {
	set, early := strings.CutPrefix(r.Args, "(EARLIER) ")
	uids, err := parseSet(set)
	if err != nil {
		return err
	}
	if !s.qresync {
		return fmt.Errorf("VANISHED, but QRESYNC was not enabled (RFC 7162 §3.2.10)")
	}
	if s.box == nil {
		return fmt.Errorf("no mailbox is selected")
	}
	for _, uid := range uids {
		if m := s.box.byUID[uid]; m != nil && m.died == 0 {
			return fmt.Errorf("UID %d is still there", uid)
		}
	}
	if early {
		if o == nil || (o.select_ == nil || o.select_.from == nil) && !o.vanished {
			return fmt.Errorf("VANISHED (EARLIER), but nothing asked for it (RFC 7162 §3.2.10.1)")
		}
		o.earlier = append(o.earlier, uids...)
		return nil
	}
	if err := s.mayShrink(o); err != nil {
		return err
	}
	for _, uid := range uids {
		if !slices.Contains(uids[:slices.Index(uids, uid)], uid) {
			if err := s.forget(uid); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget takes one message out of the view. Of neighbours whose UIDs are not known yet it may
// be any; the one that came last is taken, so that what is held of the others (that they came
// after a certain UID) is true whichever it was.
func (s *session) forget(uid uint32) error {
	for i, sl := range s.slots {
		if sl.uid == uid {
			s.slots = slices.Delete(s.slots, i, i+1)
			return nil
		}
	}
	if s.box.byUID[uid] != nil {
		end := slices.IndexFunc(s.slots, func(sl slot) bool { return sl.uid > uid })
		if end < 0 {
			end = len(s.slots)
		}
		for i := end - 1; i >= 0 && s.slots[i].uid == 0; i-- {
			if uid <= s.slots[i].above {
				continue
			}
			for j := i; j >= 0 && s.slots[j].uid == 0 && uid > s.slots[j].above; j-- {
				s.slots[j] = slot{above: s.slots[j].above} // flags may be another's now
			}
			s.slots = slices.Delete(s.slots, i, i+1)
			return nil
		}
	}
	return fmt.Errorf("UID %d is not in this session's mailbox, or went before", uid)
}

func (s *session) fetch(r Reply, o *op) error {
	if s.box == nil {
		return fmt.Errorf("no mailbox is selected")
	}
	if r.Num == 0 || int(r.Num) > len(s.slots) {
		return fmt.Errorf("there are only %d messages", len(s.slots))
	}
	d, i := r.Data, int(r.Num)-1
	sl := &s.slots[i]
	if d.has["UID"] {
		if err := s.learn(i, d.uid); err != nil {
			return err
		}
	}
	asked := o != nil && (o.kind == "FETCH" || o.kind == "UID FETCH" || o.select_ != nil)
	if s.condstore && !asked && d.has["FLAGS"] {
		if !d.has["MODSEQ"] {
			return fmt.Errorf("without MODSEQ after a CONDSTORE enabling command (RFC 7162 §3.1)")
		}
		if !d.has["UID"] && (s.qresync || !s.quirks.UIDOnlyWithQResync) {
			return fmt.Errorf("without UID after a CONDSTORE enabling command (RFC 7162 §3.2.4)")
		}
	}
	if d.has["FLAGS"] {
		for w := range strings.FieldsSeq(d.flags) {
			if !s.keywords[w] {
				return fmt.Errorf("%s was not announced by an untagged FLAGS", w)
			}
		}
	}
	if sl.uid == 0 {
		if d.has["FLAGS"] {
			sl.flags, sl.known = d.flags, true
		}
		return nil
	}
	m := s.box.byUID[sl.uid]
	if d.has["RFC822.SIZE"] && m.size != 0 && d.size != m.size {
		return fmt.Errorf("RFC822.SIZE of UID %d was %d", sl.uid, m.size)
	}
	// What is said of a message that is gone but not told as gone is nobody's truth:
	// a server may keep up appearances (RFC 2180 §4.1 and §4.2).
	if (d.has["FLAGS"] || d.has["MODSEQ"]) && m.died == 0 {
		e, ok := match(m, d, sl.at)
		if !ok {
			return fmt.Errorf("UID %d was never that since what this session was last told; history: %s", sl.uid, history(m, sl.at))
		}
		sl.at = e.key
		if d.has["FLAGS"] {
			sl.flags, sl.known = d.flags, true
		}
		if d.has["MODSEQ"] {
			if d.modseq < sl.mod {
				return fmt.Errorf("MODSEQ of UID %d fell from %d", sl.uid, sl.mod)
			}
			sl.mod = d.modseq
		}
	}
	if o != nil && o.fetched != nil {
		got := o.fetched[sl.uid]
		if got == nil {
			got = map[string]bool{}
			o.fetched[sl.uid] = got
		}
		for name := range d.has {
			got[name] = true
		}
		if d.has["FLAGS"] {
			o.flagged[sl.uid] = true
		}
	}
	return nil
}

// learn holds the UID of a number against what is known.
func (s *session) learn(i int, uid uint32) error {
	sl := &s.slots[i]
	if sl.uid != 0 {
		if sl.uid != uid {
			return fmt.Errorf("number %d is UID %d", i+1, sl.uid)
		}
		return nil
	}
	if s.box.byUID[uid] == nil {
		return fmt.Errorf("UID %d never was in the mailbox", uid)
	}
	if uid <= sl.above {
		return fmt.Errorf("number %d came after UID %d", i+1, sl.above)
	}
	for j, other := range s.slots {
		if other.uid != 0 && (j < i && other.uid >= uid || j > i && other.uid <= uid) {
			return fmt.Errorf("UIDs do not ascend: number %d is UID %d", j+1, other.uid)
		}
	}
	sl.uid = uid
	s.maxUID = max(s.maxUID, uid)
	return nil
}

// match finds the earliest state that fits what was told.
func match(m *message, d fetched, at int) (entry, bool) {
	for _, e := range m.window(at) {
		if d.has["FLAGS"] && e.flags != d.flags {
			continue
		}
		if d.has["MODSEQ"] && (d.modseq < e.lo || d.modseq > e.hi) {
			continue
		}
		return e, true
	}
	return entry{}, false
}

func history(m *message, at int) string {
	var out []string
	for _, e := range m.window(at) {
		mod := strconv.FormatUint(e.lo, 10)
		if e.hi != e.lo {
			mod += "…" + strconv.FormatUint(e.hi, 10)
		}
		out = append(out, fmt.Sprintf("(%s) MODSEQ %s", e.flags, mod))
	}
	return strings.Join(out, ", then ")
}

// settled demands that nothing is left untold, as after NOOP.
func (s *session) settled() error {
	alive := s.box.alive()
	if len(alive) != len(s.slots) {
		return fmt.Errorf("the mailbox has %d messages, this session was told of %d", len(alive), len(s.slots))
	}
	for i := range s.slots {
		sl, m := &s.slots[i], alive[i]
		if sl.uid != 0 && sl.uid != m.uid {
			return fmt.Errorf("number %d is UID %d, this session was told %d", i+1, m.uid, sl.uid)
		}
		if sl.known && sl.flags != m.now().flags {
			return fmt.Errorf("UID %d is (%s), this session was told (%s)", m.uid, m.now().flags, sl.flags)
		}
		if sl.uid != 0 && s.condstore && sl.mod != 0 && sl.at == m.now().key && sl.mod != m.now().hi {
			return fmt.Errorf("UID %d has MODSEQ %d, this session was told %d", m.uid, m.now().hi, sl.mod)
		}
	}
	return nil
}

// notified demands that nothing is left untold but messages that are gone: with
// SELECTED-DELAYED those wait for a command (RFC 5465 §6.1.2).
func (s *session) notified() error {
	unknown := 0
	for _, sl := range s.slots {
		if sl.uid == 0 {
			unknown++
		}
	}
	for _, m := range s.box.alive() {
		sl := s.slotOf(m.uid)
		switch {
		case sl != nil && sl.known && sl.flags != m.now().flags:
			return fmt.Errorf("UID %d is (%s), this session was told (%s)", m.uid, m.now().flags, sl.flags)
		case sl == nil:
			if unknown--; unknown < 0 {
				return fmt.Errorf("this session was not told of UID %d", m.uid)
			}
		}
	}
	return nil
}

// fill completes a settled view.
func (s *session) fill() {
	for i, m := range s.box.alive() {
		s.slots[i].uid, s.slots[i].at = m.uid, m.now().key
		s.maxUID = max(s.maxUID, m.uid)
	}
}

func (s *session) slotOf(uid uint32) *slot {
	for i := range s.slots {
		if s.slots[i].uid == uid {
			return &s.slots[i]
		}
	}
	return nil
}

// resolved tells whether each number's UID is known.
func (s *session) resolved() bool {
	return !slices.ContainsFunc(s.slots, func(sl slot) bool { return sl.uid == 0 })
}
