package imapmodel

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseReply(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want func(r Reply) bool
	}{
		{"* 7 EXISTS", func(r Reply) bool { return r.Tag == "*" && r.Kind == "EXISTS" && r.Num == 7 }},
		{"A3 OK [COPYUID 9 2:4 7:9] done", func(r Reply) bool { return r.Tag == "A3" && r.Code == "COPYUID" && r.Args == "9 2:4 7:9" }},
		{"* 2 FETCH (UID 5 FLAGS (\\Seen $b \\Recent a) MODSEQ (12) RFC822.SIZE 3)", func(r Reply) bool {
			return r.Num == 2 && r.Data.uid == 5 && r.Data.flags == `$b \seen a` && r.Data.modseq == 12 && r.Data.size == 3
		}},
		{"* 1 FETCH (BODY[HEADER.FIELDS (SUBJECT)] {3}\r\n(\") UID 9)", func(r Reply) bool { return r.Data.literal == `(")` && r.Data.uid == 9 }},
		{"* VANISHED (EARLIER) 1:3", func(r Reply) bool { return r.Kind == "VANISHED" && r.Args == "(EARLIER) 1:3" }},
		{"+ go on", func(r Reply) bool { return r.Tag == "+" }},
	} {
		if r, err := parseReply(c.raw); err != nil || !c.want(r) {
			t.Errorf("%q: %+v, %v", c.raw, r, err)
		}
	}
	for _, raw := range []string{"", "*", "* 1 FETCH", "* 1 FETCH (UID)", "* 1 FETCH (UID 4294967296)", "* 1 FETCH (UID 1 UID 1)",
		"* 1 FETCH (BODY[] {9}\r\nshort)", "* OK [UIDNEXT 4", "* 1 FETCH (FLAGS (a)", "* 1 FETCH (MODSEQ (x))"} {
		if r, err := parseReply(raw); err == nil {
			t.Errorf("%q is taken: %+v", raw, r)
		}
	}
}

func TestSets(t *testing.T) {
	got, err := parseSet("4:2,9")
	if err != nil || !slices.Equal(got, []uint32{2, 3, 4, 9}) || formatSet(got) != "2:4,9" {
		t.Errorf("%v, %v, %q", got, err, formatSet(got))
	}
	for _, bad := range []string{"", "0", "1:*", "1,", "1:99999999", "a"} {
		if got, err := parseSet(bad); err == nil {
			t.Errorf("%q is taken: %v", bad, got)
		}
	}
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		mode byte
		want string
	}{{'+', `\flagged \seen a b`}, {'-', `\seen`}, {'=', `\flagged a b`}} {
		if got := apply(c.mode, `\seen a`, []string{`\Flagged`, "b", "a"}); got != c.want {
			t.Errorf("%c: %q, want %q", c.mode, got, c.want)
		}
	}
}

// truth makes a mailbox of one message, UID 1 without flags at MODSEQ 5.
func truth(t *testing.T) *box {
	t.Helper()
	b := &box{name: "b", validity: 1, uidnext: 1, highest: 4, byUID: map[uint32]*message{}}
	if err := b.reconcile(1, found(5, 2, fetched{uid: 1, modseq: 5}), nil, nil, 1); err != nil {
		t.Fatal(err)
	}
	return b
}

func found(highest uint64, uidnext uint32, data ...fetched) *seen {
	got := &seen{validity: 1, uidnext: uidnext, highest: highest, data: map[uint32]fetched{}}
	for _, d := range data {
		got.uids = append(got.uids, d.uid)
		got.data[d.uid] = d
	}
	return got
}

// TestReconcile: what the commands do not explain is a violation.
func TestReconcile(t *testing.T) {
	flag := func(_ uint32, st state) []state { return []state{{true, apply('+', st.flags, []string{"a"})}} }
	kill := func(uint32, state) []state { return []state{{}} }
	one := func(flags string, mod uint64) fetched { return fetched{uid: 1, flags: flags, modseq: mod} }
	for _, c := range []struct {
		name    string
		got     *seen
		touches []touch
		births  []birth
		wrong   string
	}{
		{"nothing", found(5, 2, one("", 5)), nil, nil, ""},
		{"a flag", found(6, 2, one("a", 6)), []touch{flag}, nil, ""},
		{"a flag, MODSEQ as before", found(5, 2, one("a", 5)), []touch{flag}, nil, "not above"},
		{"a flag of nobody", found(6, 2, one("a", 6)), nil, nil, "explain only"},
		{"a flag that was not set", found(5, 2, one("", 5)), []touch{flag}, nil, "explain only"},
		{"MODSEQ of nobody", found(6, 2, one("", 6)), nil, nil, "nobody touched"},
		{"expunged", found(6, 2), []touch{kill}, nil, ""},
		{"expunged, HIGHESTMODSEQ as before", found(5, 2), []touch{kill}, nil, "HIGHESTMODSEQ stays"},
		{"gone", found(6, 2), nil, nil, "is gone"},
		{"new", found(6, 3, one("", 5), fetched{uid: 2, modseq: 6}), nil, []birth{{2, []state{{true, ""}}}}, ""},
		{"new, of nobody", found(6, 3, one("", 5), fetched{uid: 2, modseq: 6}), nil, nil, "nobody made"},
		{"new, with an old UID", found(6, 3, one("", 5)), nil, []birth{{1, []state{{true, ""}}}}, "new UID 1"},
		{"HIGHESTMODSEQ falls", found(4, 2, one("", 5)), nil, nil, "fell"},
		{"UIDNEXT falls", found(5, 1, one("", 5)), nil, nil, "fell"},
	} {
		err := truth(t).reconcile(2, c.got, c.touches, c.births, 0)
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.wrong)
		}
	}
}

// TestTake: one response at a time, as a client must see it.
func TestTake(t *testing.T) {
	fetch := &op{kind: "FETCH", fetched: map[uint32]map[string]bool{}, flagged: map[uint32]bool{}}
	noop := &op{kind: "NOOP"}
	for _, c := range []struct {
		raw   string
		o     *op
		wrong string
	}{
		{"* 1 FETCH (UID 1 FLAGS () MODSEQ (5))", noop, ""},
		{"* 1 FETCH (UID 2)", noop, "is UID 1"},
		{"* 2 FETCH (UID 1)", noop, "only 1"},
		{"* 1 FETCH (UID 1 FLAGS (\\Seen))", noop, "was never that"},
		{"* 1 FETCH (UID 1 FLAGS (unheard))", noop, "not announced"},
		{"* 1 FETCH (UID 1 MODSEQ (6))", noop, "was never that"},
		{"* 0 EXISTS", noop, "shrinks"},
		{"* 2 EXISTS", noop, "only 0 were ever added"},
		{"* 1 EXPUNGE", fetch, "during FETCH"},
		{"* 1 EXPUNGE", nil, "no command"},
		{"* 1 EXPUNGE", noop, "still there"},
		{"* VANISHED 1", noop, "not enabled"},
		{"* SEARCH 1", noop, "nobody asked"},
		{"* BYE sorry", noop, "nothing asked"},
		{"* OK [HIGHESTMODSEQ 9] high", noop, "HIGHESTMODSEQ is 5"},
	} {
		s := &session{box: truth(t), slots: []slot{{uid: 1}}, maxUID: 1, keywords: map[string]bool{`\seen`: true}}
		r, err := parseReply(c.raw)
		if err != nil {
			t.Fatal(err)
		}
		err = s.take(r, c.o)
		if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v, want %q", c.raw, err, c.wrong)
		}
	}
}

func TestShrink(t *testing.T) {
	broken := errors.New("rule 7 is broken")
	run := func(only []int) error {
		if slices.Contains(only, 3) && slices.Contains(only, 17) {
			return &Violation{Step: 17, Err: broken, Log: make([]string, len(only))}
		}
		return nil
	}
	all := make([]int, 40)
	for i := range all {
		all[i] = i + 1
	}
	var first *Violation
	if !errors.As(run(all), &first) {
		t.Fatal("not broken")
	}
	if short := Shrink(first, all, time.Minute, run); len(short.Log) != 2 {
		t.Errorf("%d steps are left, want 2", len(short.Log))
	}
}

func FuzzParseReply(f *testing.F) {
	for _, seed := range []string{"* 7 EXISTS", "* 2 FETCH (UID 5 FLAGS (\\Seen a) MODSEQ (12))", "* 1 FETCH (BODY[] {4}\r\nabcd UID 9)",
		"A OK [COPYUID 9 2:4 7] done", "* VANISHED (EARLIER) 1:3", "* ESEARCH (TAG \"A\") UID ALL 1:3", "* 1 FETCH (ENVELOPE (\"a\\\"\" NIL (((x)))))"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		r, err := parseReply(raw)
		if err == nil && r.Tag == "" {
			t.Errorf("%q has no tag", raw)
		}
		if set, err := parseSet(raw); err == nil {
			again, err := parseSet(formatSet(set))
			slices.Sort(set)
			if err != nil || !slices.Equal(again, slices.Compact(set)) {
				t.Errorf("%q: %v, %v", raw, again, err)
			}
		}
	})
}

// TestForget: a message that goes while its number is not known may have been any of its neighbours
// of whom nothing is known either, and what is held of those stays true.
func TestForget(t *testing.T) {
	b := &box{byUID: map[uint32]*message{}}
	for uid := uint32(1); uid <= 9; uid++ {
		b.byUID[uid] = &message{uid: uid}
	}
	// 2 | ? ? (after 2) ? (after 5) | 8 | ? (after 8)
	s := &session{box: b, slots: []slot{{uid: 2}, {above: 2, known: true}, {above: 2}, {above: 5}, {uid: 8}, {above: 8}}}
	if err := s.forget(7); err != nil {
		t.Fatal(err)
	}
	var got []uint32
	for _, sl := range s.slots {
		got = append(got, sl.uid+100*sl.above)
		if sl.uid == 0 && sl.known {
			t.Error("flags of another message are kept")
		}
	}
	// Whichever of the three it was, the two that are left came after 2.
	if want := []uint32{2, 200, 200, 8, 800}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := s.forget(8); err != nil || len(s.slots) != 4 {
		t.Errorf("%v, %d left", err, len(s.slots))
	}
	if err := s.forget(1); err == nil {
		t.Error("a message that was never there went")
	}
}
