package forward

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mail/verp"
)

// TestLadder: what comes back leads to a pause by the named thresholds, and what is about a mail alone never
// does.
func TestLadder(t *testing.T) {
	type back struct {
		days int // since the one before
		hard bool
		n    int
	}
	long, short := DefaultHardPause, DefaultSoftPause
	for name, c := range map[string]struct {
		backs []back
		want  time.Duration
	}{
		"two hard ones":                     {[]back{{0, true, 2}}, 0},
		"three hard ones":                   {[]back{{0, true, 3}}, long},
		"three hard ones in a week":         {[]back{{0, true, 1}, {3, true, 1}, {3, true, 1}}, long},
		"three hard ones in more":           {[]back{{0, true, 1}, {4, true, 1}, {4, true, 1}}, 0},
		"eleven soft ones":                  {[]back{{0, false, 11}}, 0},
		"twelve soft ones":                  {[]back{{0, false, 12}}, short},
		"twelve, two of them hard":          {[]back{{0, true, 2}, {0, false, 10}}, short},
		"eleven a day":                      {[]back{{0, false, 11}, {1, false, 11}, {1, false, 11}, {1, false, 7}}, long},
		"one a day for eight days":          {[]back{{0, false, 1}, {1, false, 1}, {1, false, 1}, {1, false, 1}, {1, false, 1}, {1, false, 1}, {1, false, 1}, {1, false, 1}}, 0},
		"one a day for nine of ten":         {[]back{{0, false, 1}, {1, false, 1}, {1, false, 1}, {1, false, 1}, {1, false, 1}, {2, false, 1}, {1, false, 1}, {1, false, 1}, {1, false, 1}}, long},
		"a hard one soon after a pause":     {[]back{{0, false, 12}, {2, true, 1}}, long},
		"a soft one soon after a pause":     {[]back{{0, false, 12}, {2, false, 1}}, 0},
		"a hard one long after a pause":     {[]back{{0, false, 12}, {12, true, 1}}, 0},
		"during a pause nothing is counted": {[]back{{0, false, 12}, {0, true, 50}}, short},
	} {
		o := Options{}.withDefaults()
		var d destination
		now := time.Date(2026, 11, 20, 1, 0, 0, 0, time.UTC)
		for _, b := range c.backs {
			now = now.Add(time.Duration(b.days) * aDay)
			for range b.n {
				o.bounced(&d, b.hard, now)
			}
		}
		var got time.Duration
		if yes, _ := d.paused(now); yes {
			got = time.Unix(d.Until, 0).Sub(now)
		}
		if got != c.want || len(d.Days) > ladderDays {
			t.Errorf("%s: %v, want %v; %+v", name, got, c.want, d)
		}
	}
	for status, want := range map[string][2]bool{"5.1.1": {true, true}, "5.2.1": {true, true}, "5.1.10": {true, true}, "5.2.2": {true, false}, "4.4.7": {true, false}, "5.4.7": {true, false}, "": {true, false}, "5.0.0": {true, false},
		"5.7.1": {false, false}, "5.7.26": {false, false}, "5.3.4": {false, false}, "5.2.3": {false, false}, "5.6.0": {false, false}, "5.3.0": {true, false}, "garbage": {true, false}} {
		if counts, hard := class(status); counts != want[0] || hard != want[1] {
			t.Errorf("%s: %v %v", status, counts, hard)
		}
	}
}

// TestReturned: a mail that did not reach the mailbox is told to its sender as one for the alias, without a
// word of the mailbox, and the third hard one pauses it and tells the owner.
func TestReturned(t *testing.T) {
	w := newWorld(t, nil)
	var l letter
	for i, want := range []string{"250", "250", "250", replyUnknown.String()} {
		raw := strings.Replace(news, "m1@", string(rune('a'+i))+"@", 1)
		if got := w.forward("shop-1", shop, raw); got != want {
			t.Fatalf("mail %d: %s", i, got)
		}
		if i == 3 {
			break
		}
		l = w.one("home.example")
		r, is := w.came(l.from, "5.1.1", l.h)
		if !is || r == nil {
			t.Fatal(r, is)
		}
		text, err := r.Build()
		if err != nil {
			t.Fatal(err)
		}
		if r.To != w.Address(shop) {
			t.Error(r.To)
		}
		contains(t, string(text), []string{"To: <news@shop.example>", "Final-Recipient: rfc822; shop-1@alias.example", "Status: 5.0.0", "Subject: offers"}, "home.example", "re.", "bounce.", "5.1.1")
	}
	if len(w.told) != 1 || !strings.HasPrefix(w.told[0], annas.String()) {
		t.Errorf("told: %q", w.told)
	}
	s, err := w.f.State(t.Context(), annas)
	if err != nil || s.State != "paused" || s.Until != w.Clock.Now().Add(DefaultHardPause).Format(time.RFC3339) {
		t.Errorf("%+v %v", s, err)
	}
	// Another owner's mailbox elsewhere is another.
	w.alias("berts", berts)
	if got := w.forward("berts", shop, news); got != "250" {
		t.Error(got)
	}
	// After the pause mail goes on, and the mailbox is told once.
	w.Clock.Add(DefaultHardPause + time.Minute)
	for i := range 2 {
		if got := w.forward("shop-1", shop, strings.Replace(news, "m1@", string(rune('x'+i))+"@", 1)); got != "250" {
			t.Fatal(got)
		}
		if n := len(w.sent("home.example")); n != 2-i {
			t.Errorf("%d mails", n)
		}
	}
	if s, _ := w.f.State(t.Context(), annas); s.State != "agreed" {
		t.Errorf("%+v", s)
	}
}

// TestSoftPause: a short pause puts mail off and does not refuse it; the operator can end one.
func TestSoftPause(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.SoftPerDay = 2 })
	if got := w.forward("shop-1", shop, news); got != "250" {
		t.Fatal(got)
	}
	l := w.one("home.example")
	for range 2 {
		w.came(l.from, "5.2.2", l.h)
	}
	if _, err := w.f.Elsewhere(t.Context(), annas, ""); say(err) != replyPaused.String() {
		t.Error(err)
	}
	if err := w.f.Resume(t.Context(), annas); err != nil {
		t.Fatal(err)
	}
	if _, err := w.f.Elsewhere(t.Context(), annas, ""); err != nil {
		t.Error(err)
	}
	w.came(l.from, "5.7.1", l.h)
	w.came(l.from, "5.7.1", l.h)
	if s, _ := w.f.State(t.Context(), annas); s.State != "agreed" || s.Failed != 0 {
		t.Errorf("mail that was refused for what it is counts: %+v", s)
	}
}

// bounceOf is a report of another host.
func bounceOf(to, status, action string, header mail.Header) string {
	return "From: MAILER-DAEMON@mx.home.example\r\nTo: <" + to + ">\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nno " + target + "\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n" +
		"Reporting-MTA: dns; mx.home.example\r\n\r\nFinal-Recipient: rfc822; " + target + "\r\nAction: " + action + "\r\nStatus: " + status + "\r\nDiagnostic-Code: smtp; 550 no " + target + "\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n" +
		string(header.Bytes()) + "\r\n--b--\r\n"
}

// TestBack: a report that comes by mail is read as one of our own queue; a vacation notice is dropped; a
// forged, an old and a foreign return address is unknown.
func TestBack(t *testing.T) {
	w := newWorld(t, nil)
	if got := w.forward("shop-1", shop, news); got != "250" {
		t.Fatal(got)
	}
	l := w.one("home.example")
	for raw, want := range map[string]int{
		bounceOf(l.from, "5.1.1", "failed", l.h):                                       1,
		bounceOf(l.from, "4.4.1", "delayed", l.h):                                      0,
		"From: x@home.example\r\nAuto-Submitted: auto-replied\r\n\r\nI am away\r\n":    0,
		bounceOf(l.from, "5.1.1", "failed", mail.Header{}.Append("Subject", "offers")): 0, // nobody to tell
	} {
		if got := w.answer("", raw, l.from); got != "250" {
			t.Error(got)
		}
		list := w.sent("shop.example")
		if len(list) != want {
			t.Errorf("%d reports for\n%s", len(list), raw)
		}
		for _, r := range list {
			if r.from != "" || r.to != shop {
				t.Errorf("from %s to %s", r.from, r.to)
			}
			contains(t, r.raw, []string{"Final-Recipient: rfc822; shop-1@alias.example", "Message-ID: <m1@shop.example>"}, "home.example", "offers")
		}
	}
	if s, err := w.f.State(t.Context(), annas); err != nil || s.Failed != 2 {
		t.Errorf("%+v %v", s, err)
	}
	const unknown = "550 5.1.1 Recipient address rejected: User unknown"
	forged := l.from[:10] + "x" + l.from[11:]
	if forged == l.from {
		forged = l.from[:10] + "y" + l.from[11:]
	}
	if got := say(w.f.Recipient(t.Context(), w.Address(forged))); got != unknown {
		t.Error(got)
	}
	if got := say(w.f.Recipient(t.Context(), w.Address(strings.ToUpper(l.from)))); got != "250" {
		t.Error(got)
	}
	w.Clock.Add((DefaultReturnDays + 1) * aDay)
	if got := say(w.f.Recipient(t.Context(), w.Address(l.from))); got != unknown {
		t.Errorf("an old one: %s", got)
	}
	if r, is := w.came(l.from, "5.1.1", l.h); !is || r != nil {
		t.Error("an old one counts")
	}
	if _, is := w.came("anna@mail.example", "5.1.1", l.h); is {
		t.Error("mail of a user here is ours")
	}
}

// TestHeaderForged: who knows a return address and makes up the header of the mail tells nobody anything:
// the reverse address in it must be ours, of an alias of that owner.
func TestHeaderForged(t *testing.T) {
	w := newWorld(t, nil)
	w.alias("berts", berts)
	if got := w.forward("berts", shop, news); got != "250" {
		t.Fatal(got)
	}
	theirs := w.one("away.example")
	if got := w.forward("shop-1", shop, news); got != "250" {
		t.Fatal(got)
	}
	l := w.one("home.example")
	for _, h := range []mail.Header{theirs.h, l.h.Replace("From", "victim@world.example"), l.h.Replace("From", "re."+strings.Repeat("a", 42)+"@alias.example"), l.h.Append("Auto-Submitted", "auto-replied")} {
		if r, is := w.came(l.from, "5.1.1", h); !is || r != nil {
			t.Errorf("%s is told", r.To)
		}
	}
}

// TestAnswerReturned: that a correspondent did not get an answer is told to the mailbox elsewhere, of the
// address that it wrote to.
func TestAnswerReturned(t *testing.T) {
	w := newWorld(t, nil)
	rev := w.correspond(shop)
	if got := w.answer(target, reply(rev), rev); got != "250" {
		t.Fatal(got)
	}
	l := w.one("shop.example")
	r, is := w.f.Returned(t.Context(), dsn.Report{To: w.Address(l.from), Now: w.Clock.Now(), Header: l.h.Bytes(), Recipients: []dsn.Recipient{{Final: w.Address(shop), Action: dsn.Failed, Status: "5.2.2", Remote: "mx.shop.example", Diagnostic: "552 full"}}})
	if !is || r == nil || r.To != w.Address(target) {
		t.Fatalf("%+v %v", r, is)
	}
	text, err := r.Build()
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(text), []string{"Final-Recipient: rfc822; " + rev, "Status: 5.2.2", "552 full", "To: <" + target + ">"})
	if s, _ := w.f.State(t.Context(), annas); s.Failed != 0 {
		t.Error("a correspondent's mailbox counts for the owner's")
	}
}

// TestAskedReturned: a question that came back counts, and is told to nobody.
func TestAskedReturned(t *testing.T) {
	w := newWorld(t, nil)
	from, err := w.f.returnPath(domain, verp.Asked, annas, mail.Address{})
	if err != nil {
		t.Fatal(err)
	}
	if r, is := w.came(from.String(), "5.1.1", mail.Header{}); !is || r != nil {
		t.Error(r, is)
	}
	if s, _ := w.f.State(t.Context(), annas); s.Failed != 1 {
		t.Errorf("%+v", s)
	}
}

// TestRecords: the form of what is kept of a mailbox.
func TestRecords(t *testing.T) {
	d := destination{Days: []tally{{20784, 1, 2}}, Until: 5, Hard: true, Tell: true, Asked: []int64{6}, Never: true}
	b, err := json.Marshal(d)
	if want := `{"days":[{"d":20784,"h":1,"s":2}],"until":5,"hard":true,"tell":true,"asked":[6],"never":true}`; err != nil || string(b) != want {
		t.Errorf("%s %v", b, err)
	}
}

// TestReplayed: who has seen a return address makes nobody hear of one mail twice, nor of one that did not go
// this way; a correspondent makes the mailbox elsewhere hear of answers once a day.
func TestReplayed(t *testing.T) {
	w := newWorld(t, nil)
	rev := w.correspond(shop)
	if got := w.forward("shop-1", shop, news+"2"); got != "250" {
		t.Fatal(got)
	}
	l := w.one("home.example")
	for i := range 3 {
		for _, h := range []mail.Header{l.h, l.h.Replace("Message-ID", "<made-up@shop.example>"), l.h.Remove("Message-ID")} {
			if got := w.answer("", bounceOf(l.from, "5.7.1", "failed", h), l.from); got != "250" {
				t.Fatal(got)
			}
		}
		if n := len(w.sent("shop.example")); n != map[bool]int{true: 1}[i == 0] {
			t.Errorf("time %d: %d reports", i, n)
		}
	}
	if got := w.answer(target, reply(rev), rev); got != "250" {
		t.Fatal(got)
	}
	a := w.one("shop.example")
	for i := range 3 {
		if got := w.answer("", bounceOf(a.from, "5.1.1", "failed", a.h.Replace("Message-ID", fmt.Sprintf("<%d@x>", i))), a.from); got != "250" {
			t.Fatal(got)
		}
	}
	w.one("home.example")
}
