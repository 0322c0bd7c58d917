package mixsubmit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/post/keybook"
)

// discovering is a world whose account may look keys up.
func discovering(t *testing.T) *world {
	w := newWorld(t, nil, nil)
	w.anna.Discover = true
	return w
}

// TestDiscovery: a mail to an unknown recipient waits for the key, which is looked up at the
// recipient's relay; then it goes, the user is told once, and the key is unverified.
func TestDiscovery(t *testing.T) {
	w := discovering(t)
	bert := w.user("bert@two.example")
	w.answer(bert)
	w.want("250 queued, arrives in about 3 min once the key of a recipient is found", plain(), "bert@two.example")
	w.want("250 queued", plain(), "bert@two.example")
	left, err := w.s.Waiting()
	must(t, err)
	if len(left) != 2 || left[0].Why == "" || len(left[0].Names) != 0 {
		t.Errorf("%+v", left)
	}
	w.run()
	if n := w.lookups(); n != 1 {
		t.Errorf("%d look-ups for two mails", n)
	}
	if all := w.carry(bert); len(all) != 2 || all[0].To != bert {
		t.Errorf("%d letters", len(all))
	}
	e, err := w.book.Get(bert.Address)
	must(t, err)
	if e.State != keybook.Discovered {
		t.Error(e.State)
	}
	in := w.Inbox("anna")
	if len(in) != 1 || !strings.Contains(in[0], "Subject: A key was found") || !strings.Contains(in[0], e.Key.Fingerprint) || !strings.Contains(in[0], "postern proxy verify bert@two.example") {
		t.Errorf("%q", in)
	}
	// The next mail needs no look-up.
	w.want("250 queued, arrives", plain(), "bert@two.example")
	w.run()
	if n := w.lookups(); n != 1 || len(w.carry(bert)) != 1 {
		t.Errorf("%d look-ups", n)
	}
}

// TestUnknownKey: where the relay knows no key the recipient is taken for an ordinary mailbox: what
// is encrypted goes there, and cleartext comes back with the reason.
func TestUnknownKey(t *testing.T) {
	w := discovering(t)
	w.want("250 ", encrypted(), "x@two.example")
	w.run()
	if all := w.carry(); len(all) != 1 || all[0].Message.Kind != content.Mail {
		t.Fatalf("%d letters", len(all))
	}
	w.want("250 ", plain(), "x@two.example")
	w.run()
	in := w.Inbox("anna")
	if n := w.lookups(); n != 1 || len(in) != 1 || !strings.Contains(in[0], "Status: 5.7.0") {
		t.Errorf("%d look-ups, %q", n, in)
	}
	// It is not believed for ever.
	w.Clock.Add(forget)
	w.answer(w.user("x@two.example"))
	w.want("250 ", plain(), "x@two.example")
	w.run()
	if n := w.lookups(); n != 2 {
		t.Errorf("%d look-ups", n)
	}
	w.want("550 5.1.2", plain(), "x@world.example")
}

// TestLookupTime: a look-up without an answer is repeated with growing pauses, and given up
// after its time, with a report.
func TestLookupTime(t *testing.T) {
	w := discovering(t)
	bert := w.user("bert@two.example")
	for i, answer := range []func() (uint8, []byte, error){
		func() (uint8, []byte, error) {
			return 0, nil, errs.E("test", errs.Unavailable, "no answer came", nil)
		},
		func() (uint8, []byte, error) { return content.AnswerLater, nil, nil },
		func() (uint8, []byte, error) { return content.AnswerOK, []byte("no certificate"), nil },
		func() (uint8, []byte, error) {
			return content.AnswerOK, w.certificate(w.user("carl@two.example")).Bytes(), nil
		},
		func() (uint8, []byte, error) { // signed by another relay
			c := w.certificate(w.user("bert@one.example"))
			c.Address = bert.Address
			return content.AnswerOK, c.Bytes(), nil
		},
	} {
		w.answers[bert.Address] = answer
		begun, tries := w.Clock.Now(), w.lookups()
		w.want("250 ", plain(), "bert@two.example")
		for w.Clock.Now().Sub(begun) < DefaultLookupTime {
			w.run()
			if got := len(w.Inbox("anna")); got != i {
				t.Fatalf("%d: a report after %v", i, w.Clock.Now().Sub(begun))
			}
			w.Clock.Add(30 * time.Second)
		}
		if n := w.lookups() - tries; n < 4 || n > 10 {
			t.Errorf("%d: %d look-ups in an hour", i, n)
		}
		w.run()
		in := w.Inbox("anna")
		if len(in) != i+1 || !strings.Contains(in[i], "Status: 5.4.4") || !strings.Contains(strings.Join(strings.Fields(in[i]), " "), "could not be looked up in time: ") {
			t.Fatalf("%d: %q", i, in)
		}
		w.s.asked = map[question]*lookup{}
	}
	if _, err := w.book.Get(bert.Address); errs.KindOf(err) != errs.NotFound {
		t.Errorf("%v", err)
	}
}

// TestLookupRate: however many addresses are written to, look-ups have a pace.
func TestLookupRate(t *testing.T) {
	w := discovering(t)
	for i := range 3 * DefaultLookups {
		w.want("250 ", plain(), fmt.Sprintf("u%d@two.example", i))
	}
	w.run()
	if n := w.lookups(); n != DefaultLookups {
		t.Errorf("%d look-ups at once", n)
	}
	w.Clock.Add(time.Minute)
	w.run()
	if n := w.lookups(); n != 2*DefaultLookups {
		t.Errorf("%d look-ups in a minute", n)
	}
}

// TestOffline: mail to unknown recipients is taken without a directory too, and looked up when there
// is one.
func TestOffline(t *testing.T) {
	w := discovering(t)
	bert := w.user("bert@two.example")
	w.answer(bert)
	w.offline = true
	w.want("250 queued, leaves when the network can be reached", plain(), "bert@two.example")
	w.run()
	if w.lookups() != 0 {
		t.Error("a look-up without a directory")
	}
	w.offline = false
	w.run()
	w.Clock.Add(shortPause)
	w.run()
	if all := w.carry(bert); len(all) != 1 {
		t.Errorf("%d letters", len(all))
	}
}

// TestChangedKey: mail to somebody whose key has changed waits, the user is told once for each key,
// and it goes when the new key is verified; or comes back at its end.
func TestChangedKey(t *testing.T) {
	w := discovering(t)
	bert := w.user("bert@two.example")
	w.answer(bert)
	w.want("250 ", plain(), "bert@two.example")
	w.run()
	w.carry(bert)
	again := w.user("bert2@two.example")
	again.Address = bert.Address
	id := w.certificate(again).Identity
	if _, err := w.book.Discovered(bert.Address, id.BookKey()); errs.KindOf(err) != errs.Conflict {
		t.Fatal(err)
	}
	for range 3 {
		w.want("250 queued, and held back: the key of a recipient has changed", plain(), "bert@two.example")
		w.run()
		w.Clock.Add(longPause)
	}
	in := w.Inbox("anna")
	if len(in) != 2 || !strings.Contains(in[1], "Subject: A key has changed: mail is held back") || !strings.Contains(in[1], id.Fingerprint()) {
		t.Errorf("%q", in)
	}
	left, err := w.s.Waiting()
	must(t, err)
	if len(left) != 3 || !strings.Contains(left[0].Why, "has changed") || w.lookups() != 1 {
		t.Errorf("%+v", left)
	}
	if _, err := w.book.Verify(bert.Address, id.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	w.Clock.Add(longPause)
	w.run()
	if all := w.carry(again); len(all) != 3 || all[0].To != again {
		t.Errorf("%d letters", len(all))
	}
	if _, err := w.book.Discovered(bert.Address, w.certificate(bert).BookKey()); errs.KindOf(err) != errs.Conflict {
		t.Fatal(err)
	}
	w.want("250 queued", plain(), "bert@two.example")
	w.run()
	w.Clock.Add(6 * 24 * time.Hour)
	w.run()
	in = w.Inbox("anna")
	if last := strings.Join(strings.Fields(in[len(in)-1]), " "); !strings.Contains(last, "Status: 4.4.7") || !strings.Contains(last, "could not be sent in time: the key of the recipient has changed") {
		t.Errorf("%q", last)
	}
}

// TestNoCertificate: a mail waits for the relay's word about its sender.
func TestNoCertificate(t *testing.T) {
	w := newWorld(t, nil, nil)
	bert := w.user("bert@two.example")
	w.know(bert)
	w.noCert = true
	w.want("250 ", plain(), "bert@two.example")
	w.run()
	left, err := w.s.Waiting()
	must(t, err)
	if len(left) != 1 || left[0].Why != "the certificate of this account is not there yet, or has expired" {
		t.Errorf("%+v", left)
	}
	w.noCert = false
	w.Clock.Add(shortPause)
	w.run()
	if all := w.carry(bert); len(all) != 1 {
		t.Errorf("%d letters", len(all))
	}
}

// TestHalfAKey: of a recipient whose bare X25519 key the user set, the relay says the rest; it is
// believed where the halves agree, and mail is sealed to the whole.
func TestHalfAKey(t *testing.T) {
	w := newWorld(t, nil, nil)
	var err error
	w.book, err = keybook.Open(keybook.Options{FS: w.fs, Dir: "/data/recipients", Parse: vouch.ParseKey, AllowClassical: true, Now: w.Clock.Now})
	must(t, err)
	w.s.o.Book = w.book
	bert, eve := w.user("bert@two.example"), w.user("eve@two.example")
	set := func(key []byte) {
		t.Helper()
		_, err := w.book.Set(bert.Address, fmt.Appendf(nil, "%x", key[len(key)-letter.ClassicalKeyLen:]))
		must(t, err)
	}
	w.answer(bert)
	set(bert.Home.Key.Bytes())
	for range 2 {
		w.want("250 ", plain(), "bert@two.example")
		w.run()
		if all := w.carry(bert); len(all) != 1 || all[0].To != bert || w.lookups() != 1 {
			t.Errorf("%d letters, %d look-ups", len(all), w.lookups())
		}
	}
	w.Clock.Add(pinTime)
	w.want("250 ", plain(), "bert@two.example")
	w.run()
	if w.lookups() != 2 || len(w.carry(bert)) != 1 {
		t.Errorf("%d look-ups", w.lookups())
	}
	set(eve.Home.Key.Bytes())
	w.want("250 ", plain(), "bert@two.example")
	for range 70 {
		w.run()
		w.Clock.Add(time.Minute)
	}
	in := w.Inbox("anna")
	if len(in) != 1 || !strings.Contains(strings.Join(strings.Fields(in[0]), " "), "says another key than your key book") || len(w.carry(bert)) != 0 {
		t.Errorf("%q", in)
	}
	delete(w.answers, bert.Address)
	w.want("250 ", encrypted(), "bert@two.example")
	w.Clock.Add(lastRetry)
	w.run()
	if in := w.Inbox("anna"); len(in) != 2 || !strings.Contains(in[1], "Status: 5.1.1") {
		t.Errorf("%q", in)
	}
	w.want("550 5.1.2", plain(), "x@world.example")
}

// TestRefresh: a key that was looked up is asked for again after a day, when mail goes to it; a new one
// concerns the next mail.
func TestRefresh(t *testing.T) {
	w := discovering(t)
	bert := w.user("bert@two.example")
	w.answer(bert)
	send := func(letters, lookups int) {
		t.Helper()
		w.want("250 ", plain(), "bert@two.example")
		w.run()
		if all := w.carry(bert); len(all) != letters || w.lookups() != lookups {
			t.Errorf("%d letters, %d look-ups; want %d, %d", len(all), w.lookups(), letters, lookups)
		}
	}
	send(1, 1)
	w.Clock.Add(refreshTime - time.Minute)
	send(1, 1)
	w.Clock.Add(time.Minute)
	send(1, 2)
	send(1, 2)
	again := w.user("bert2@two.example")
	again.Address = bert.Address
	w.answer(again)
	w.Clock.Add(refreshTime)
	send(1, 3)
	send(0, 3)
	if in := w.Inbox("anna"); len(in) != 2 || !strings.Contains(in[1], "Subject: A key has changed") {
		t.Errorf("%q", in)
	}
}
