package mixsubmit

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/openpgp"
	"postern.email/mail/pgpmime"
	"postern.email/mixnet/directory"
)

// web is what the domains of recipients answer.
type web struct {
	key   []byte
	err   error
	asked []mail.Address
}

func (b *web) find(_ context.Context, to mail.Address) ([]byte, error) {
	b.asked = append(b.asked, to)
	return b.key, b.err
}

// withWeb is a world in which domains are asked, with nobody's key.
func withWeb(t *testing.T, set func(*Options)) (*world, *web) {
	w := newWorld(t, nil, set)
	b := &web{err: errs.E("test", errs.NotFound, "the domain shows no key for this address", nil)}
	w.anna.WebKey = b.find
	return w, b
}

// shows has the domain show a new key.
func (b *web) shows(w *world, of string) {
	key, err := openpgp.Autocrypt(w.autocrypt(of, w.Clock.Now()), w.Address(of))
	must(w.TB, err)
	b.key, b.err = key, nil
}

// TestWebKey: mail in cleartext waits for the key that the recipient's domain shows, and is encrypted to it,
// at a relay of the network and outside of it; the user is told. The key is asked for once a day.
func TestWebKey(t *testing.T) {
	for _, to := range []string{"x@two.example", "x@world.example"} {
		w, b := withWeb(t, nil)
		w.exits(domain, directory.ExitMail)
		w.run()
		b.shows(w, to)
		sends := func(asked int) {
			t.Helper()
			w.want("250 ", plain(), to)
			w.run()
			all := w.carry()
			if len(all) != 1 || len(b.asked) != asked {
				t.Fatalf("%s: %d letters, asked %d times", to, len(all), len(b.asked))
			}
			if m := w.check(all[0]).Mail; !pgpmime.Check(m.Raw, pgpmime.Outgoing, nil).Encrypted || strings.Contains(string(m.Raw), "canary") {
				t.Errorf("%s", m.Raw)
			}
		}
		if got := w.send(plain(), to); !strings.HasSuffix(got, "once the key of a recipient is found") || len(b.asked) != 0 {
			t.Errorf("%s, asked %d times", got, len(b.asked))
		}
		w.run()
		if all := w.carry(); len(all) != 1 {
			t.Fatalf("%s: %d letters", to, len(all))
		}
		sends(1)
		in := w.Inbox("anna")
		if len(in) != 1 || !strings.Contains(in[0], "Subject: An OpenPGP key was found") || !strings.Contains(in[0], to) {
			t.Errorf("%q", in)
		}
		w.Clock.Add(webLife) // a key that has changed: told, and for the next mail
		w.run()
		b.shows(w, to)
		sends(2)
		sends(2)
		if in := w.Inbox("anna"); len(in) != 2 || !strings.Contains(in[1], "Subject: An OpenPGP key has changed") {
			t.Errorf("%q", in)
		}
		if found := disktest.Holding(t, w.fs, "/data/anna", []byte(to)); len(found) > 0 {
			t.Errorf("%v", found)
		}
	}
}

// TestNoWebKey: without a key the mail is refused, or leaves as it is where the user allows that; the answer
// is believed for a while. Who cannot be asked is asked again, until it takes too long.
func TestNoWebKey(t *testing.T) {
	w, b := withWeb(t, nil)
	for range 2 {
		w.want("250 ", plain(), "x@two.example")
		w.run()
	}
	if in := w.Inbox("anna"); len(in) != 2 || !strings.Contains(in[0], "Encryption Needed") || len(b.asked) != 1 || len(w.carry()) != 0 {
		t.Errorf("asked %d times, %q", len(b.asked), in)
	}
	w.Clock.Add(forget)
	w.want("250 ", plain(), "x@two.example")
	w.run()
	if len(b.asked) != 2 {
		t.Errorf("asked %d times", len(b.asked))
	}
	b.err = errs.E("test", errs.Unavailable, "the SOCKS proxy cannot be reached", nil)
	w.want("250 ", plain(), "y@two.example")
	for range 70 {
		w.run()
		w.Clock.Add(time.Minute)
	}
	in := w.Inbox("anna")
	if last := strings.Join(strings.Fields(in[len(in)-1]), " "); !strings.Contains(last, "Status: 5.4.4") || !strings.Contains(last, "in time: the SOCKS proxy cannot be reached") || len(b.asked) < 5 || len(b.asked) > 12 {
		t.Errorf("asked %d times, %q", len(b.asked), last)
	}

	w, b = withWeb(t, func(o *Options) { o.AllowCleartext = true })
	w.exits(domain, directory.ExitMail|directory.ExitCleartext)
	w.run()
	w.want("250 ", plain(), "x@world.example")
	w.run()
	if all := w.carry(); len(all) != 1 || pgpmime.Check(w.check(all[0]).Mail.Raw, pgpmime.Outgoing, nil).Encrypted || len(b.asked) != 1 {
		t.Errorf("%d letters, asked %d times", len(all), len(b.asked))
	}
}

// TestWebKeyAsks: nobody is asked where it is not allowed, for mail that is encrypted, for what a mail
// brought a key for, and for anonymous mail, which is not encrypted to such a key either.
func TestWebKeyAsks(t *testing.T) {
	w, b := withWeb(t, nil)
	x := w.Address("x@two.example")
	w.s.Saw(w.anna.Address, x, w.autocrypt("x@two.example", w.Clock.Now()))
	w.want("250 ", plain(), "x@two.example")
	w.want("250 ", encrypted(), "y@two.example")
	bert := w.user("bert@two.example")
	w.know(bert)
	w.want("250 ", plain(), "bert@two.example")
	w.run()
	if len(b.asked) != 0 {
		t.Errorf("%v", b.asked)
	}
	b.shows(w, "z@two.example")
	w.want("250 ", plain(), "z@two.example")
	w.run()
	z := w.Address("z@two.example")
	if w.s.pgpKey(w.anna, z, false) == nil || w.s.pgpKey(w.anna, z, true) != nil || w.anna.asksWeb(&entry{Anon: &anonymous{}}, z) {
		t.Error("a key that a domain showed counts for anonymous mail")
	}
	// What a mail brings takes its place, whatever its date; and stays.
	first := w.s.pgpKey(w.anna, z, false).Fingerprint()
	w.s.Saw(w.anna.Address, z, w.autocrypt("z@two.example", w.Clock.Now().Add(-time.Hour)))
	second := w.s.pgpKey(w.anna, z, true)
	if second == nil || second.Fingerprint() == first {
		t.Fatal("the key of a mail does not count")
	}
	sp, err := w.s.spool(w.anna)
	must(t, err)
	if none, err := w.s.webKey(t.Context(), sp, z); none || err != nil || w.s.pgpKey(w.anna, z, false).Fingerprint() != second.Fingerprint() {
		t.Errorf("%v, %v: the key of a mail was replaced", none, err)
	}
	w.anna.WebKey = nil
	w.want("523 5.7.10", plain(), "q@two.example")
}
