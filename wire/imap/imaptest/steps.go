package imaptest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

var modelFlags = []string{`\Seen`, `\Deleted`, `\Flagged`, `\Answered`, "$Junk", "one", "two"}

// step runs one random command and holds the answer against the model.
func (s *session) step() error {
	m := s.m
	switch k := m.rnd.IntN(100); {
	case k < 12:
		m.add()
		m.log = append(m.log, "D: a message arrives")
		m.o.Deliver()
		return nil
	case k < 20:
		return s.appendOne()
	case k < 45:
		return s.store()
	case k < 58:
		return s.fetch()
	case k < 68:
		return s.expunge()
	case k < 76:
		return s.move()
	case k < 84:
		return s.search()
	case k < 88:
		return s.closeAndSelect()
	case k < 93:
		lines, err := s.run("IDLE", nil)
		if err == nil {
			err = s.untagged(lines[:len(lines)-1], true)
		}
		if err == nil {
			err = s.current()
		}
		return err
	default:
		return s.settle()
	}
}

// pick gives a random set of messages: its text, the UIDs the session means by it,
// and whether the client's numbers are used. Sets by number are within the mailbox.
func (s *session) pick() (set string, uids []uint32, byUID, ok bool) {
	if len(s.list) == 0 {
		return "", nil, false, false
	}
	rnd := s.m.rnd
	byUID = rnd.IntN(2) == 0
	chosen := map[int]bool{}
	var parts []string
	for range 1 + rnd.IntN(3) {
		a := rnd.IntN(len(s.list))
		b := min(len(s.list)-1, a+rnd.IntN(3))
		text := func(i int) string {
			if byUID {
				return strconv.Itoa(int(s.list[i]))
			}
			return strconv.Itoa(i + 1)
		}
		lo, hi := text(a), text(b)
		// "*" of a UID set may mean a message that is told only now.
		if b == len(s.list)-1 && rnd.IntN(3) == 0 && (!byUID || len(s.m.messages) == 0 || s.m.messages[len(s.m.messages)-1].uid <= s.list[b]) {
			hi = "*"
		}
		switch {
		case a == b && hi != "*":
			parts = append(parts, lo)
		case rnd.IntN(2) == 0:
			parts = append(parts, hi+":"+lo)
		default:
			parts = append(parts, lo+":"+hi)
		}
		for i := a; i <= b; i++ {
			chosen[i] = true
		}
	}
	for i, uid := range s.list {
		if chosen[i] {
			uids = append(uids, uid)
		}
	}
	return strings.Join(parts, ","), uids, byUID, true
}

func prefix(byUID bool) string {
	if byUID {
		return "UID "
	}
	return ""
}

// gone reports whether some of the UIDs were expunged by others.
func (s *session) gone(uids []uint32) bool {
	return slices.ContainsFunc(uids, func(u uint32) bool { return s.m.find(u) == nil })
}

// status demands a tagged OK, or NO when messages by number are gone.
func status(last string, gone, byUID bool) error {
	if gone && !byUID {
		if !strings.HasPrefix(last, "NO ") {
			return fmt.Errorf("messages are gone, yet the answer is %q", last)
		}
		return nil
	}
	if !strings.HasPrefix(last, "OK ") {
		return fmt.Errorf("the answer is %q", last)
	}
	return nil
}

func (s *session) appendOne() error {
	flags := []string{modelFlags[s.m.rnd.IntN(len(modelFlags))]}
	raw := "Subject: appended\r\n\r\nbody\r\n"
	s.m.add(flags...)
	uid := s.m.nextUID - 1
	lines, err := s.run(fmt.Sprintf("APPEND INBOX (%s) {%d+}", flags[0], len(raw)), []byte(raw))
	if err != nil {
		return err
	}
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "OK [APPENDUID ") || !strings.HasSuffix(strings.Split(last, "]")[0], " "+strconv.Itoa(int(uid))) {
		return fmt.Errorf("APPEND of UID %d is answered with %q", uid, last)
	}
	if err := s.untagged(lines[:len(lines)-1], true); err != nil {
		return err
	}
	return s.current() // RFC 9051 §6.3.12: new mail is told at once
}

func (s *session) store() error {
	set, uids, byUID, ok := s.pick()
	if !ok {
		return nil
	}
	rnd := s.m.rnd
	op := []string{"+", "-", ""}[rnd.IntN(3)]
	flags := []string{modelFlags[rnd.IntN(len(modelFlags))]}
	if rnd.IntN(3) == 0 {
		if f := modelFlags[rnd.IntN(len(modelFlags))]; f != flags[0] {
			flags = append(flags, f)
		}
	}
	silent := rnd.IntN(3) == 0
	word := "FLAGS"
	if silent {
		word = "FLAGS.SILENT"
	}
	// The condition is only used when every mod-sequence is known.
	since, condition := uint64(0), ""
	if s.condstore && rnd.IntN(3) == 0 {
		known := true
		for _, uid := range uids {
			msg := s.m.find(uid)
			known = known && msg != nil && msg.modseq != 0
			if msg != nil && rnd.IntN(2) == 0 {
				since = max(since, msg.modseq)
			}
		}
		if known {
			condition = fmt.Sprintf("(UNCHANGEDSINCE %d) ", since)
		}
	}
	gone := s.gone(uids)
	var modified []uint32
	for _, uid := range uids {
		msg := s.m.find(uid)
		switch {
		case msg == nil:
		case condition != "" && msg.modseq > since:
			modified = append(modified, uid)
		default:
			s.m.change(msg, op, flags)
			if told, ok := s.told[uid]; ok && silent {
				// The client reckons from what it knows: a change by others that it was
				// not told must still be told (RFC 9051 §6.4.6).
				mine := &message{flags: map[string]bool{}}
				for _, f := range strings.Fields(told) {
					mine.flags[f] = true
				}
				mine.apply(op, flags)
				s.told[uid] = mine.text()
			}
		}
	}
	lines, err := s.run(fmt.Sprintf("%sSTORE %s %s%s%s (%s)", prefix(byUID), set, condition, op, word, strings.Join(flags, " ")), nil)
	if err != nil {
		return err
	}
	last := lines[len(lines)-1]
	if err := status(last, gone, byUID); err != nil {
		return err
	}
	if err := s.modified(last, modified, byUID); err != nil {
		return err
	}
	if err := s.untagged(lines[:len(lines)-1], byUID); err != nil {
		return err
	}
	if silent {
		return nil
	}
	for _, uid := range uids {
		if msg := s.m.find(uid); msg != nil && !slices.Contains(modified, uid) && s.told[uid] != msg.text() {
			return fmt.Errorf("STORE did not tell the new flags of UID %d", uid)
		}
	}
	return nil
}

// modified checks the MODIFIED code of a conditional STORE (RFC 7162 §3.1.3).
func (s *session) modified(last string, want []uint32, byUID bool) error {
	var got []uint32
	if _, rest, ok := strings.Cut(last, "[MODIFIED "); ok {
		text, _, _ := strings.Cut(rest, "]")
		for _, n := range setNumbers(text) {
			if !byUID {
				if n < 1 || int(n) > len(s.list) {
					return fmt.Errorf("MODIFIED names number %d", n)
				}
				n = s.list[n-1]
			}
			got = append(got, n)
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("MODIFIED must be UIDs %v: %q", want, last)
	}
	return nil
}

func (s *session) fetch() error {
	set, uids, byUID, ok := s.pick()
	if !ok {
		return nil
	}
	items := "(FLAGS UID)"
	if s.condstore {
		items = "(UID FLAGS MODSEQ)"
	}
	gone := s.gone(uids)
	for _, uid := range uids {
		delete(s.told, uid)
	}
	lines, err := s.run(prefix(byUID)+"FETCH "+set+" "+items, nil)
	if err != nil {
		return err
	}
	if err := status(lines[len(lines)-1], gone, byUID); err != nil {
		return err
	}
	if err := s.untagged(lines[:len(lines)-1], byUID); err != nil {
		return err
	}
	for _, uid := range uids {
		if _, ok := s.told[uid]; !ok && s.m.find(uid) != nil {
			return fmt.Errorf("FETCH left out UID %d", uid)
		}
	}
	return nil
}

func (s *session) expunge() error {
	cmd := "EXPUNGE"
	var only []uint32
	if s.m.rnd.IntN(3) == 0 {
		set, uids, byUID, ok := s.pick()
		if ok && byUID {
			cmd, only = "UID EXPUNGE "+set, uids
		}
	}
	for _, msg := range slices.Clone(s.m.messages) {
		// EXPUNGE takes every message with \Deleted, known to this client or not.
		if msg.flags[`\Deleted`] && (only == nil || slices.Contains(only, msg.uid)) {
			s.m.remove(msg.uid)
		}
	}
	lines, err := s.run(cmd, nil)
	if err != nil {
		return err
	}
	if err := status(lines[len(lines)-1], false, true); err != nil {
		return err
	}
	if err := s.untagged(lines[:len(lines)-1], true); err != nil {
		return err
	}
	return s.current()
}

func (s *session) move() error {
	set, uids, byUID, ok := s.pick()
	if !ok {
		return nil
	}
	cmd, gone := "COPY", s.gone(uids)
	if s.m.rnd.IntN(2) == 0 {
		cmd = "MOVE"
	}
	var want []string
	for _, uid := range uids {
		if s.m.find(uid) == nil {
			continue
		}
		want = append(want, strconv.Itoa(int(uid)))
		if cmd == "MOVE" && (!gone || byUID) {
			s.m.remove(uid)
		}
	}
	lines, err := s.run(prefix(byUID)+cmd+" "+set+" Trash", nil)
	if err != nil {
		return err
	}
	if err := status(lines[len(lines)-1], gone, byUID); err != nil {
		return err
	}
	if (!gone || byUID) && len(want) > 0 {
		all := strings.Join(lines, "\n")
		_, rest, ok := strings.Cut(all, "[COPYUID ")
		fields := strings.Fields(strings.SplitN(rest, "]", 2)[0])
		if !ok || len(fields) != 3 {
			return fmt.Errorf("COPYUID is missing: %q", lines)
		}
		var got []string
		for _, n := range setNumbers(fields[1]) {
			got = append(got, strconv.Itoa(int(n)))
		}
		if !slices.Equal(got, want) || len(setNumbers(fields[2])) != len(want) {
			return fmt.Errorf("COPYUID must be of %v: %q", want, lines)
		}
	}
	if err := s.untagged(lines[:len(lines)-1], true); err != nil {
		return err
	}
	return s.current()
}

func (s *session) search() error {
	f := modelFlags[s.m.rnd.IntN(len(modelFlags))]
	key := "KEYWORD " + f
	if name, ok := strings.CutPrefix(f, `\`); ok {
		key = strings.ToUpper(name)
	}
	byUID, not := s.m.rnd.IntN(2) == 0, s.m.rnd.IntN(3) == 0
	if not {
		key = "NOT " + key
	}
	lines, err := s.run(prefix(byUID)+"SEARCH "+key, nil)
	if err != nil {
		return err
	}
	found := false
	for _, l := range lines[:len(lines)-1] {
		rest, ok := strings.CutPrefix(l, "* SEARCH")
		if !ok {
			if err := s.untagged([]string{l}, byUID); err != nil {
				return err
			}
			continue
		}
		found = true
		if want := s.matching(f, not, byUID); !slices.Equal(strings.Fields(rest), want) {
			return fmt.Errorf("SEARCH must give %v: %q", want, l)
		}
	}
	if !found {
		return fmt.Errorf("SEARCH gave no answer: %q", lines)
	}
	return nil
}

// matching gives what a SEARCH must find of what the session knows now.
func (s *session) matching(f string, not, byUID bool) (want []string) {
	want = []string{}
	for i, uid := range s.list {
		msg := s.m.find(uid)
		if msg == nil || msg.flags[f] == not {
			continue
		}
		if byUID {
			want = append(want, strconv.Itoa(int(uid)))
		} else {
			want = append(want, strconv.Itoa(i+1))
		}
	}
	return want
}

func (s *session) closeAndSelect() error {
	cmd := "CLOSE"
	if s.m.rnd.IntN(2) == 0 {
		cmd = "UNSELECT"
	}
	if cmd == "CLOSE" {
		for _, msg := range slices.Clone(s.m.messages) {
			if msg.flags[`\Deleted`] {
				s.m.remove(msg.uid)
			}
		}
	}
	lines, err := s.run(cmd, nil)
	if err != nil {
		return err
	}
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "OK ") {
		return fmt.Errorf("%s is answered with %q", cmd, lines)
	}
	return s.sel()
}
