package mixsubmit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	pgp "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"postern.email/kit/disktest"
	"postern.email/mail"
	"postern.email/mail/pgpmime"
	"postern.email/mixnet/content"
)

// autocrypt is the header of a mail from somebody, with a new key.
func (w *world) autocrypt(from string, date time.Time) mail.Header {
	w.TB.Helper()
	e, err := pgp.NewEntity("", "", from, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519, Time: func() time.Time { return w.Clock.Now().Add(-time.Hour) }})
	must(w.TB, err)
	var b bytes.Buffer
	must(w.TB, e.Serialize(&b))
	h, _, err := mail.ParseHeader(fmt.Appendf(nil, "Date: %s\r\nAutocrypt: addr=%s; keydata=%s\r\n\r\n", mail.FormatDate(date), from, base64.StdEncoding.EncodeToString(b.Bytes())))
	must(w.TB, err)
	return h
}

// TestAutocrypt: mail in cleartext to an ordinary mailbox is encrypted by the proxy where a mail from
// there carried a key; to others it is refused as ever.
func TestAutocrypt(t *testing.T) {
	w := newWorld(t, nil, nil)
	x := w.Address("x@two.example")
	w.s.Saw(w.anna.Address, x, w.autocrypt("x@two.example", w.Clock.Now()))
	if got := w.send(plain(), "x@two.example", "y@two.example"); !strings.HasPrefix(got, "250 ") {
		t.Fatal(got)
	}
	w.run()
	all := w.carry()
	if len(all) != 1 || all[0].Message.Kind != content.Mail {
		t.Fatalf("%d letters", len(all))
	}
	m := w.check(all[0]).Mail
	if !pgpmime.Check(m.Raw, pgpmime.Incoming, nil).Encrypted || bytes.Contains(m.Raw, []byte("canary")) || len(m.Recipients) != 1 || m.Recipients[0] != x {
		t.Errorf("%s", m.Raw)
	}
	if in := w.Inbox("anna"); len(in) != 1 || !strings.Contains(in[0], "Final-Recipient: rfc822; y@two.example") {
		t.Errorf("%q", in)
	}
	// What is encrypted already stays as it is.
	w.want("250 ", encrypted(), "x@two.example")
	w.run()
	if m := w.check(w.carry()[0]).Mail; !bytes.Contains(m.Raw, []byte(encrypted()[strings.Index(encrypted(), "--b"):])) {
		t.Errorf("%s", m.Raw)
	}
	// After a look-up that finds no proxy, too.
	w.anna.Discover = true
	w.want("250 ", plain(), "x@two.example")
	w.run()
	if all := w.carry(); len(all) != 1 || !pgpmime.Check(w.check(all[0]).Mail.Raw, pgpmime.Incoming, nil).Encrypted {
		t.Errorf("%d letters", len(all))
	}
	if found := disktest.Holding(t, w.fs, "/data/anna", []byte("x@two.example"), []byte("two.example")); len(found) > 0 {
		t.Errorf("%v", found)
	}
}

// TestPeers: the later mail counts, also after a restart; what is no key of the sender changes nothing.
func TestPeers(t *testing.T) {
	w := newWorld(t, nil, nil)
	x, now := w.Address("x@two.example"), w.Clock.Now()
	known := func() string {
		t.Helper()
		if k := w.s.pgpKey(w.anna, x, false); k != nil {
			return k.Fingerprint()
		}
		return ""
	}
	w.s.Saw(w.anna.Address, w.Address("y@two.example"), w.autocrypt("x@two.example", now)) // somebody else's
	w.s.Saw(w.Address("other"), x, w.autocrypt("x@two.example", now))                      // no account of ours
	if known() != "" {
		t.Error("a key came from nowhere")
	}
	w.s.Saw(w.anna.Address, x, w.autocrypt("x@two.example", now.Add(-time.Hour)))
	first := known()
	w.s.Saw(w.anna.Address, x, w.autocrypt("x@two.example", now.Add(-2*time.Hour)))
	if first == "" || known() != first {
		t.Error("an older mail changed the key")
	}
	w.s.Saw(w.anna.Address, x, w.autocrypt("x@two.example", now.Add(1000*time.Hour))) // counts as now
	second := known()
	if second == first {
		t.Error("a later mail did not change the key")
	}
	w.Clock.Add(time.Minute)
	w.s.Saw(w.anna.Address, x, w.autocrypt("x@two.example", w.Clock.Now()))
	if known() == second {
		t.Error("a date in the future keeps keys out")
	}
	third := known()
	w.s.spools = map[mail.Address]*spool{}
	if known() != third {
		t.Error("the key is lost")
	}
}
