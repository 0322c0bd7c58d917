package alias

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// TestModes: what each mode makes of the first sender, the same again, another, and one that nobody
// vouches for.
func TestModes(t *testing.T) {
	expected, first := Verdict{Action: Take, Expected: true}, Verdict{Action: Take, Pins: true}
	take, refuse := Verdict{Action: Take}, Verdict{Action: Refuse}
	later, again := Verdict{Action: Later, Asks: true}, Verdict{Action: Later}
	for mode, want := range map[Mode][]Verdict{
		ModeOpen:      {take, first, expected, take, take},
		ModePinned:    {refuse, first, expected, refuse, refuse},
		ModeAllowList: {refuse, refuse, refuse, refuse, refuse},
		ModeAsk:       {refuse, later, again, later, again},
	} {
		w := newWorld(t)
		v := w.account(1)
		w.create(v.Vault, New{Local: "one", Mode: mode})
		for i, from := range []string{"", "news@shop.example", "News@Shop.Example", "spam@evil.example", "spam@evil.example"} {
			if got := w.mail("one@example.org", from); got != want[i] {
				t.Errorf("%s, mail %d: %+v, want %+v", mode, i, got, want[i])
			}
		}
		w.sound()
	}
}

// TestCorrespondents: the owner sees who wrote, and nobody else can tell: first and last day, how
// many mails, and the state, the one seen last first.
func TestCorrespondents(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	al := w.create(v.Vault, New{Local: "one"})
	day0 := DayOf(w.clock.Now())
	w.mail("one@example.org", "news@shop.example")
	w.clock.Add(2 * aDay)
	w.mail("one@example.org", "news@shop.example")
	w.mail("one@example.org", "spam@evil.example")
	if err := w.Record(ctx, w.WroteTo(w.lookup("one@example.org"), []mail.Address{at("Help@other.example")})); err != nil {
		t.Fatal(err)
	}
	want := []Correspondent{{"help@other.example", 0, 0, StateWrittenTo, 0}, {"spam@evil.example", day0 + 2, day0 + 2, StateSeen, 1}, {"news@shop.example", day0, day0 + 2, StatePinned, 2}}
	for how, al := range map[string]func() *Alias{
		"Lookup": func() *Alias { return w.lookup("one@example.org") },
		"List": func() *Alias {
			list, next, err := w.List(ctx, v.Owner, "", 1)
			if err != nil || len(list) != 1 {
				t.Fatal(list, next, err)
			}
			return list[0]
		},
	} {
		n, err := v.Notes(al())
		if err != nil || fmt.Sprint(n.Correspondents) != fmt.Sprint(want) {
			t.Errorf("%s: %v %v, want %v", how, n.Correspondents, err, want)
		}
	}
	if now := w.lookup("one@example.org"); now.Received != 3 || now.Sent != 1 || now.Last != day0+2 || al.Received != 0 {
		t.Errorf("%+v", now)
	}
	for to, may := range map[string]bool{"news@shop.example": true, "spam@evil.example": true, "HELP@other.example": true, "x@shop.example": false} {
		if w.MayAnswer(w.lookup("one@example.org"), at(to)) != may {
			t.Errorf("may answer %s: %t", to, !may)
		}
	}
	if w.MayAnswer(w.lookup("one@example.org"), mail.Address{}) {
		t.Error("may answer nobody")
	}
	w.change(v.Vault, "one@example.org", func(c *Change) {
		c.Block, c.Forget = []string{"spam@evil.example"}, []string{"news@shop.example"}
	})
	if w.MayAnswer(w.lookup("one@example.org"), at("spam@evil.example")) {
		t.Error("may answer who is blocked")
	}
	n := w.notes(v.Vault, "one@example.org")
	if len(n.Correspondents) != 2 || n.Correspondents[0].State != StateBlocked || n.Correspondents[0].Address != "spam@evil.example" {
		t.Errorf("%v", n.Correspondents)
	}
	// With the pin forgotten the next sender is the first again.
	if got := w.mail("one@example.org", "other@shop.example"); !got.Pins {
		t.Errorf("%+v", got)
	}
	w.sound()
}

// TestRules: the owner's word about an address counts before that about its domain, the nearest
// domain before those above it, and both before what happened.
func TestRules(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "one", Mode: ModeAllowList})
	const one = "one@example.org"
	w.change(v.Vault, one, func(c *Change) {
		c.Allow = []string{"@shop.example", "friend@evil.example", "@deep.bad.example"}
		c.Block = []string{"spam@shop.example", "@evil.example", "@bad.example"}
	})
	if err := w.Record(ctx, w.WroteTo(w.lookup(one), []mail.Address{at("help@elsewhere.example"), at("x@evil.example")})); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]Action{
		"news@shop.example": Take, "news@mail.SHOP.example": Take, "spam@shop.example": Refuse, "spam@sub.shop.example": Take,
		"friend@evil.example": Take, "other@evil.example": Refuse, "friend@sub.evil.example": Refuse, "x@evil.example": Refuse,
		"a@bad.example": Refuse, "a@deep.bad.example": Take, "a@very.deep.bad.example": Take, "a@notshop.example": Refuse,
		"help@elsewhere.example": Take, "other@elsewhere.example": Refuse, "a@example": Refuse,
	} {
		if got := w.lookup(one).Judge(at(from), w.clock.Now()); got.Action != want || want == Take && !got.Expected {
			t.Errorf("%s: %+v, want %s", from, got, want)
		}
	}
	// A word takes the place of the one before.
	w.change(v.Vault, one, func(c *Change) { c.Block, c.Allow = []string{"@shop.example"}, []string{"@evil.example"} })
	for from, want := range map[string]Action{"news@shop.example": Refuse, "other@evil.example": Take} {
		if got := w.lookup(one).Judge(at(from), w.clock.Now()); got.Action != want {
			t.Errorf("%s: %+v, want %s", from, got, want)
		}
	}
	for _, bad := range []string{"", "shop.example", "@", "a@b@c", "@shop example"} {
		_, err := w.Change(ctx, v.Vault, at(one), func(c *Change) { c.Allow = []string{bad} })
		wantKind(t, err, errs.Invalid, textPerson)
	}
	w.sound()
}

// TestDeepDomains: a block of a domain holds for every name below it, however many labels a sender puts
// in front.
func TestDeepDomains(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "one"})
	const one = "one@example.org"
	w.change(v.Vault, one, func(c *Change) { c.Block = []string{"@evil.example"} })
	for _, labels := range []int{1, 6, 7, 50, 119} {
		from := "x@" + strings.Repeat("a.", labels) + "evil.example"
		if got := w.lookup(one).Judge(at(from), w.clock.Now()); got.Action != Refuse {
			t.Errorf("%d labels: %+v", labels, got)
		}
	}
}

// TestAskFlood: one who invents senders makes so many notes a day and no more; the others are put off
// and come up on another day.
func TestAskFlood(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "one", Mode: ModeAsk})
	const one = "one@example.org"
	for today := range 3 {
		told := 0
		for i := range 3 * MaxAsks {
			got := w.mail(one, fmt.Sprintf("x%d-%d@evil.example", today, i))
			if got.Action != Later {
				t.Fatalf("%+v", got)
			}
			if got.Asks {
				told++
			}
		}
		if told != MaxAsks {
			t.Errorf("%d notes, want %d", told, MaxAsks)
		}
		w.clock.Add(aDay)
	}
	if got := w.mail(one, "good@shop.example"); !got.Asks {
		t.Errorf("%+v", got)
	}
	w.sound()
}

// TestAskWithoutRoom: an alias whose list is full of rules asks about nobody whom it could not remember to
// have asked about.
func TestAskWithoutRoom(t *testing.T) {
	for free := range 2 {
		w := newWorld(t, func(o *Options) { o.MaxCorrespondents = 3 })
		v := w.account(1)
		w.create(v.Vault, New{Local: "one", Mode: ModeAsk})
		const one = "one@example.org"
		w.change(v.Vault, one, func(c *Change) {
			c.Block = []string{"@a.example", "@b.example", "@c.example"}[:3-free]
		})
		asked := 0
		for i := range 8 {
			al, from := w.lookup(one), at(fmt.Sprintf("x%d@evil.example", i%2))
			if v := al.Judge(from, w.clock.Now()); v.Asks && w.Record(ctx, w.Arrive(al, from, v)) == nil {
				asked++
			}
		}
		if asked != free {
			t.Errorf("room for %d: asked %d times", free, asked)
		}
		w.sound()
	}
}

// TestPins: a pin moves to whom the owner says, ends, and may stand for the sender's whole
// organisation.
func TestPins(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "one", Mode: ModePinned, PinDomain: true})
	const one = "one@example.org"
	w.mail(one, "bounce@mail.shop.co.uk")
	for from, want := range map[string]Action{"orders@shop.co.uk": Take, "x@news.shop.co.uk": Take, "x@other.co.uk": Refuse} {
		if got := w.lookup(one).Judge(at(from), w.clock.Now()); got.Action != want || got.Pins {
			t.Errorf("%s: %+v, want %s", from, got, want)
		}
	}
	w.change(v.Vault, one, func(c *Change) { c.Pin = "only@other.example" })
	for from, want := range map[string]Action{"orders@shop.co.uk": Refuse, "bounce@mail.shop.co.uk": Refuse, "only@other.example": Take, "x@other.example": Refuse} {
		if got := w.lookup(one).Judge(at(from), w.clock.Now()); got.Action != want {
			t.Errorf("%s: %+v, want %s", from, got, want)
		}
	}
	w.change(v.Vault, one, func(c *Change) { c.Unpin = true })
	if got := w.lookup(one).Judge(at("new@third.example"), w.clock.Now()); !got.Pins || got.Action != Take {
		t.Errorf("%+v", got)
	}
	w.sound()
}

// TestAsk: a sender is put off for AskDays and refused then, until the owner says yes or no; the
// owner is told once.
func TestAsk(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	w.create(v.Vault, New{Local: "one", Mode: ModeAsk})
	const one, from = "one@example.org", "new@shop.example"
	told := 0
	for range DefaultAskDays + 1 {
		for range 3 {
			got := w.mail(one, from)
			if got.Action != Later {
				t.Fatalf("%+v", got)
			}
			if got.Asks {
				told++
			}
		}
		w.clock.Add(aDay)
	}
	if got := w.mail(one, from); got.Action != Refuse || told != 1 {
		t.Errorf("%+v, told %d times", got, told)
	}
	n := w.notes(v.Vault, one)
	if len(n.Correspondents) != 1 || n.Correspondents[0].State != StateAsks || n.Correspondents[0].Address != from || n.Correspondents[0].Mails != 1 {
		t.Errorf("%v", n.Correspondents)
	}
	if w.MayAnswer(w.lookup(one), at(from)) {
		t.Error("who asks may be answered")
	}
	w.change(v.Vault, one, func(c *Change) { c.Allow = []string{from} })
	if got := w.mail(one, from); got.Action != Take || !got.Expected {
		t.Errorf("%+v", got)
	}
	w.sound()
}

// TestEnds: by date, by count and by idleness, each alone and whichever comes first; a pause goes
// before; one call puts all of them off.
func TestEnds(t *testing.T) {
	const one, from = "one@example.org", "news@shop.example"
	for name, c := range map[string]struct {
		n    New
		do   func(*world) // what brings the end
		want string
	}{
		"date":  {New{Expires: time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)}, func(w *world) { w.clock.Add(2 * aDay) }, EndDate},
		"count": {New{MaxMails: 2}, func(w *world) { w.mail(one, from); w.mail(one, from) }, EndCount},
		"idle":  {New{IdleDays: 5}, func(w *world) { w.mail(one, from); w.clock.Add(6 * aDay) }, EndIdle},
		"all":   {New{Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), MaxMails: 1, IdleDays: 60}, func(w *world) { w.mail(one, from) }, EndCount},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			v := w.account(1)
			c.n.Local = "one"
			al := w.create(v.Vault, c.n)
			if al.Ended(w.clock.Now()) != "" {
				t.Fatal("it has ended at once")
			}
			c.do(w)
			al = w.lookup(one)
			if why := al.Ended(w.clock.Now()); why != c.want || al.Judge(at(from), w.clock.Now()).Action != Expired {
				t.Fatalf("ended by %q", why)
			}
			al = w.change(v.Vault, one, func(c *Change) { c.Paused = true })
			if al.Judge(at(from), w.clock.Now()).Action != Paused {
				t.Error("an end goes before a pause")
			}
			al = w.change(v.Vault, one, func(c *Change) { c.Paused = false; c.Extend(3 * aDay) })
			if al.Ended(w.clock.Now()) != "" || w.mail(one, from).Action != Take {
				t.Errorf("after an extension it has ended by %q", al.Ended(w.clock.Now()))
			}
			if !c.n.Expires.IsZero() && name == "date" && !al.Expires.Equal(c.n.Expires.Add(3*aDay)) {
				t.Errorf("it ends at %v", al.Expires)
			}
			w.sound()
		})
	}
}

// TestBeforeTheEnd: the margins of each end.
func TestBeforeTheEnd(t *testing.T) {
	w := newWorld(t)
	v := w.account(1)
	end := w.clock.Now().Add(time.Hour)
	al := w.create(v.Vault, New{Local: "one", Expires: end, IdleDays: 5})
	if al.Ended(end.Add(-time.Second)) != "" || al.Ended(end) != EndDate {
		t.Error("the date is not exact")
	}
	al = w.create(v.Vault, New{Local: "two", IdleDays: 5, MaxMails: 3})
	if al.Ended(w.clock.Now().Add(5*aDay)) != "" || al.Ended(w.clock.Now().Add(6*aDay)) != EndIdle {
		t.Error("idleness is not counted from the first day")
	}
	if left, ok := al.Left(); left != 3 || !ok {
		t.Errorf("%d mails left", left)
	}
}

// TestCrowd: an alias remembers so many and no more. Of those who are forgotten nothing stays on the
// disk; rules and the pin are never forgotten, and those who were written to last.
func TestCrowd(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.MaxCorrespondents = 4 })
	v := w.account(1)
	w.create(v.Vault, New{Local: "one"})
	const one = "one@example.org"
	w.mail(one, "first@shop.example")
	w.change(v.Vault, one, func(c *Change) { c.Block = []string{"@evil.example"} })
	if err := w.Record(ctx, w.WroteTo(w.lookup(one), []mail.Address{at("written@shop.example")})); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		w.mail(one, fmt.Sprintf("seen%d@other.example", i))
	}
	words := func() (list []string) {
		for _, c := range w.notes(v.Vault, one).Correspondents {
			list = append(list, c.Address)
		}
		return list
	}
	if got := fmt.Sprint(words()); got != "[seen5@other.example written@shop.example @evil.example first@shop.example]" {
		t.Errorf("%s", got)
	}
	w.sound()
	w.change(v.Vault, one, func(c *Change) { c.Allow = []string{"a@x.example", "b@x.example"} })
	_, err := w.Change(ctx, v.Vault, at(one), func(c *Change) { c.Allow = []string{"c@x.example"} })
	wantKind(t, err, errs.Full, textMostRules)
	w.mail(one, "late@other.example") // taken, and not noted
	if got := fmt.Sprint(words()); got != "[b@x.example a@x.example @evil.example first@shop.example]" {
		t.Errorf("%s", got)
	}
	if w.lookup(one).Received != 8 {
		t.Errorf("%d received", w.lookup(one).Received)
	}
	w.sound()
}
