package letter

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
	"postern.email/mixnet/packet"
)

// TestAddress: an address survives what mail programs do to it, and nothing else.
func TestAddress(t *testing.T) {
	a := Address{Relay: packet.ID{1}, Mailbox: packet.ID{2}, Key: testKey(t, "bob").Public()}
	s := a.String()
	if len(s) > 2200 {
		t.Errorf("%d characters", len(s))
	}
	for _, text := range []string{s, " " + s + "\n", s[:70] + "\r\n  " + s[70:], strings.Join(strings.Split(s, ""), " ")} {
		b, err := ParseAddress(text)
		must(t, err)
		if b.Relay != a.Relay || b.Mailbox != a.Mailbox || !b.Key.Equal(a.Key) {
			t.Error("another address")
		}
	}
	later := []byte(s)
	copy(later[3:], "Ag") // version 2
	for text, public := range map[string]string{
		"":                        "the address of a packet box begins with pb:",
		"anna@example.org":        "the address of a packet box begins with pb:",
		s[:len(s)-1]:              "the address is not whole: copy all of it",
		s[:100] + s[101:]:         "the address is not whole: copy all of it",
		s[:100] + "A" + s[100:]:   "the address is not whole: copy all of it",
		s[:200] + "~" + s[201:]:   "the address is not whole: copy all of it",
		"pb:":                     "the address is not whole: copy all of it",
		string(later):             "the address is of a later version of Postern: update this one",
		strings.Repeat("p", 9000): "the address is too long",
	} {
		_, err := ParseAddress(text)
		wantKind(t, err, errs.Invalid)
		if errs.Public(err) != public {
			t.Errorf("%.20q: %q, want %q", text, errs.Public(err), public)
		}
	}
	swapped := []byte(s)
	if swapped[500] == 'A' {
		swapped[500] = 'B'
	} else {
		swapped[500] = 'A'
	}
	if _, err := ParseAddress(string(swapped)); err == nil {
		t.Error("a changed character")
	}
	f := a.Key.Fingerprint()
	if len(f) != 29 || strings.Count(f, "-") != 4 || f == testKey(t, "carol").Public().Fingerprint() {
		t.Error(f)
	}
}

// TestReplyBlockText: blocks survive what stands around them; a damaged one is told.
func TestReplyBlockText(t *testing.T) {
	blocks, seed, hint := testBlocks(t, 3)
	var text []byte
	for _, b := range blocks {
		one, err := b.MarshalText()
		must(t, err)
		text = append(append(text, one...), "and more\n"...)
	}
	got, err := ParseReplyBlocks(append([]byte("Dear you,\r\nuse these:\r\n"), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))...))
	must(t, err)
	if len(got) != 3 || got[0].Hint != hint || got[2].SURB.Name() != blocks[2].SURB.Name() {
		t.Fatalf("%d blocks", len(got))
	}
	if !bytes.Contains(text, []byte("Expires: 2026-03-03T12:00:00Z\n")) {
		t.Errorf("%s", text[:200])
	}
	_, err = ParseReplyBlocks([]byte("nothing here"))
	wantKind(t, err, errs.NotFound)
	if errs.Public(err) != "there is no reply block in the text" {
		t.Error(errs.Public(err))
	}
	const damaged = "a reply block is damaged: copy all of it"
	for name, b := range map[string][]byte{
		"cut":         text[:len(text)-200],
		"a character": bytes.Replace(text, text[500:501], []byte("+"), 400),
	} {
		_, err := ParseReplyBlocks(b)
		if errs.KindOf(err) != errs.Invalid || errs.Public(err) != damaged {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = ParseReplyBlocks(make([]byte, MaxBlocksText+1))
	wantKind(t, err, errs.TooLarge)
	_, err = ParseReplyBlocks(bytes.Repeat(text[:len(text)/3], MaxBlocks+1))
	wantKind(t, err, errs.TooLarge)

	// An answer opens with the seed, and with no other.
	s, err := Seal(got[0].Key, Message{Content: []byte("answer")}, Options{Room: RoomReply})
	must(t, err)
	body := got[0].AppendAnswer(nil, s.Bodies[0])
	if len(body) != packet.MaxBodySURB-1 {
		t.Errorf("%d bytes", len(body))
	}
	f, err := OpenAnswer(&seed, body)
	must(t, err)
	if l := assemble(t, NewAssembler(Limits{}), []*Fragment{f}); l == nil || string(l.Content) != "answer" {
		t.Error("no answer")
	}
	if _, err := OpenAnswer(&packet.Seed{1}, body); errs.KindOf(err) != errs.Auth {
		t.Errorf("%v", err)
	}
	if _, err := OpenAnswer(&seed, body[:10]); errs.KindOf(err) != errs.Invalid {
		t.Errorf("%v", err)
	}
}

// TestSecretsDoNotShow: a private key shows nothing, however it is printed.
func TestSecretsDoNotShow(t *testing.T) {
	k := testKey(t, "bob")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, k); s != secret.Text {
			t.Errorf("%s shows %q", verb, s)
		}
	}
	if b, err := k.MarshalText(); err != nil || string(b) != secret.Text {
		t.Errorf("%q", b)
	}
	if s := k.LogValue().String(); s != secret.Text {
		t.Error(s)
	}
}

// TestLabels: no label is the beginning of another.
func TestLabels(t *testing.T) {
	all := []string{labelInfo, labelClassical, labelExport, labelSignature, labelReplyKey, labelAddress, labelBlock}
	for i, a := range all {
		for j, b := range all {
			if i != j && strings.HasPrefix(b, a) {
				t.Errorf("%q begins %q", a, b)
			}
		}
	}
}
