package content

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// block makes a reply block.
func block(t testing.TB) *packet.SURB {
	t.Helper()
	r := rand.NewChaCha8([32]byte{1})
	hops := make([]packet.Hop, 4)
	for i := range hops {
		k, err := packet.GeneratePrivateKey(r)
		if err != nil {
			t.Fatal(err)
		}
		hops[i] = packet.Hop{Node: packet.ID{byte(i + 1)}, Key: k.Public()}
	}
	s, _, err := packet.NewSURB(hops, packet.ID{9}, &packet.Seed{1}, time.Unix(1_900_000_000, 0), r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantKind(t testing.TB, what string, err error, k errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != k {
		t.Errorf("%s: %v, want %v", what, err, k)
	}
}

// TestInject: what NewInject makes fits into a packet, and ParseInject gives it back after
// the way through one.
func TestInject(t *testing.T) {
	s := block(t)
	for _, kind := range []uint8{Letter, Plain} {
		body := random(kind, MaxInjected)
		c, err := NewInject(s, kind, body)
		if err != nil {
			t.Fatal(err)
		}
		k, err := packet.GeneratePrivateKey(rand.NewChaCha8([32]byte{2}))
		if err != nil {
			t.Fatal(err)
		}
		p, err := packet.Build(nil, packet.Route{First: packet.Last, Hops: []packet.Hop{{Key: k.Public()}}}, packet.Dest{Command: packet.Exit}, c, rand.NewChaCha8([32]byte{3}))
		if err != nil {
			t.Fatal(err)
		}
		res, err := packet.Unwrap(k, p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := packet.OpenContent(res.Payload)
		if err != nil {
			t.Fatal(err)
		}
		b, answer, err := ParseInject(got)
		if err != nil || b.Name() != s.Name() || answer.Kind != kind || !bytes.Equal(answer.Body, body) {
			t.Errorf("kind %d: %v, another block or answer", kind, err)
		}
	}
	_, err := NewInject(s, Letter, make([]byte, MaxInjected+1))
	wantKind(t, "a body too long", err, errs.TooLarge)
	_, err = NewInject(nil, Letter, nil)
	wantKind(t, "no block", err, errs.Invalid)
	for _, kind := range []uint8{None, Ack, Inject, Mbox, Mail, Query, Answer, Letter | Windowed, 9} {
		_, err = NewInject(s, kind, nil)
		wantKind(t, "a kind that may not be sent", err, errs.Invalid)
		_, _, err = ParseInject(packet.Content{Kind: Inject, SURB: s, Body: []byte{kind}})
		wantKind(t, "a kind that may not be sent", err, errs.Invalid)
	}
	for what, c := range map[string]packet.Content{
		"no block":     {Kind: Inject, Body: []byte{Letter}},
		"no body":      {Kind: Inject, SURB: s},
		"another kind": {Kind: Letter, SURB: s, Body: []byte{Letter}},
	} {
		_, _, err = ParseInject(c)
		wantKind(t, what, err, errs.Invalid)
	}
}

// TestWindow: a place comes back, with the content as it would be outside; what is no place is
// refused on both sides.
func TestWindow(t *testing.T) {
	for _, kind := range []uint8{Letter, Mail} {
		for _, w := range []Window{{[16]byte{1}, 0, 2}, {[16]byte{2}, 7, MaxWindow}} {
			head, err := AppendWindow([]byte("before"), w)
			if err != nil || len(head) != len("before")+WindowHead {
				t.Fatal(len(head), err)
			}
			c := packet.Content{Kind: kind | Windowed, SURB: block(t), Body: append(head[len("before"):], "rest"...)}
			got, inner, err := CutWindow(c)
			if err != nil || got != w || inner.Kind != kind || inner.SURB != c.SURB || string(inner.Body) != "rest" {
				t.Errorf("%+v, %+v, %v", got, inner, err)
			}
			for at, b := range map[int]byte{16: byte(w.Count), 17: byte(w.Index), 18: 1, 19: 1} {
				bad := packet.Content{Kind: c.Kind, Body: bytes.Clone(c.Body)}
				bad.Body[at] = b
				_, _, err := CutWindow(bad)
				wantKind(t, fmt.Sprint("another byte at ", at), err, errs.Invalid)
			}
			for what, bad := range map[string]packet.Content{
				"no flag":      {Kind: kind, Body: c.Body},
				"another kind": {Kind: Plain | Windowed, Body: c.Body},
				"short":        {Kind: c.Kind, Body: c.Body[:WindowHead-1]},
			} {
				_, _, err := CutWindow(bad)
				wantKind(t, what, err, errs.Invalid)
			}
		}
	}
	for _, w := range []Window{{Count: 1}, {Count: MaxWindow + 1}, {Index: -1, Count: 2}, {Index: 2, Count: 2}} {
		_, err := AppendWindow(nil, w)
		wantKind(t, fmt.Sprint(w), err, errs.Invalid)
	}
}

// TestAck: what is durable comes back.
func TestAck(t *testing.T) {
	for _, durable := range []uint8{0, 1, 0x80, 0xff} {
		got, err := ParseAck(NewAck(durable))
		if err != nil || got != durable {
			t.Errorf("%x: %x, %v", durable, got, err)
		}
	}
	for what, tc := range map[string]struct {
		c    packet.Content
		kind errs.Kind
	}{
		"another kind": {packet.Content{Kind: Letter}, errs.Invalid},
		"too long":     {packet.Content{Kind: Ack, Body: make([]byte, MaxAck+1)}, errs.Invalid},
		"longer":       {packet.Content{Kind: Ack, Body: []byte{1, 2}}, errs.Unsupported},
		"nothing":      {packet.Content{Kind: Ack, Body: []byte{0}}, errs.Unsupported},
	} {
		_, err := ParseAck(tc.c)
		wantKind(t, what, err, tc.kind)
	}
}

// TestQuery: questions and answers come back, the longest fit into a packet, and what breaks the
// form is refused on both sides.
func TestQuery(t *testing.T) {
	s := block(t)
	for _, n := range []int{0, 5, MaxRequest} {
		c, err := NewQuery(s, 9, random(1, n))
		if err != nil || len(c.Body) > packet.MaxBodySURB {
			t.Fatal(len(c.Body), err)
		}
		service, request, err := ParseQuery(c)
		if err != nil || service != 9 || !bytes.Equal(request, random(1, n)) {
			t.Errorf("%d bytes: service %d, %v", n, service, err)
		}
	}
	_, err := NewQuery(s, 1, make([]byte, MaxRequest+1))
	wantKind(t, "too long", err, errs.TooLarge)
	_, err = NewQuery(nil, 1, nil)
	wantKind(t, "no block", err, errs.Invalid)
	for what, tc := range map[string]struct {
		c    packet.Content
		kind errs.Kind
	}{
		"no block":        {packet.Content{Kind: Query, Body: []byte{1, 1}}, errs.Invalid},
		"another kind":    {packet.Content{Kind: Mail, SURB: s, Body: []byte{1, 1}}, errs.Invalid},
		"short":           {packet.Content{Kind: Query, SURB: s, Body: []byte{1}}, errs.Invalid},
		"another version": {packet.Content{Kind: Query, SURB: s, Body: []byte{2, 1}}, errs.Unsupported},
	} {
		_, _, err := ParseQuery(tc.c)
		wantKind(t, what, err, tc.kind)
	}

	for status, answer := range map[uint8][]byte{AnswerOK: random(2, MaxAnswer), AnswerUnknown: nil, AnswerLater: nil, AnswerRefused: nil} {
		c, err := NewAnswer(status, answer)
		if err != nil || len(c.Body) > packet.MaxBody {
			t.Fatal(len(c.Body), err)
		}
		got, b, err := ParseAnswer(c)
		if err != nil || got != status || !bytes.Equal(b, answer) {
			t.Errorf("status %d: %d, %v", status, got, err)
		}
	}
	_, err = NewAnswer(AnswerOK, make([]byte, MaxAnswer+1))
	wantKind(t, "too long", err, errs.TooLarge)
	for _, status := range []uint8{AnswerUnknown, AnswerRefused + 1} {
		_, err = NewAnswer(status, []byte{1})
		wantKind(t, "a status that has no answer", err, errs.Invalid)
		_, _, err = ParseAnswer(packet.Content{Kind: Answer, Body: []byte{status, 1}})
		wantKind(t, "a status that has no answer", err, errs.Invalid)
	}
	for what, c := range map[string]packet.Content{"another kind": {Kind: Ack, Body: []byte{0}}, "nothing": {Kind: Answer}} {
		_, _, err = ParseAnswer(c)
		wantKind(t, what, err, errs.Invalid)
	}

	b, err := AppendLookup(nil, "alice@relay.example")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseLookup(b); err != nil || got != "alice@relay.example" {
		t.Errorf("%q, %v", got, err)
	}
	for _, a := range []string{"", strings.Repeat("x", MaxLookup+1)} {
		_, err = AppendLookup(nil, a)
		wantKind(t, "an address that is none", err, errs.Invalid)
	}
	for what, b := range map[string][]byte{"nothing": nil, "no address": {0, 0}, "cut off": b[:4], "more": append(bytes.Clone(b), 0),
		"too long": append([]byte{2, 1}, make([]byte, MaxLookup+1)...)} {
		_, err = ParseLookup(b)
		wantKind(t, what, err, errs.Invalid)
	}
}

// TestMbox: names come back, and what is no name is refused on both sides.
func TestMbox(t *testing.T) {
	for _, name := range []string{"a", "Ünï code", strings.Repeat("x", MaxName)} {
		b, err := AppendMbox([]byte("before"), name, []byte("rest"))
		if err != nil {
			t.Fatal(err)
		}
		got, rest, err := ParseMbox(b[len("before"):])
		if err != nil || got != name || string(rest) != "rest" {
			t.Errorf("%q: %q, %q, %v", name, got, rest, err)
		}
	}
	for _, name := range []string{"", "a\nb", "a\x00", "\x7f", strings.Repeat("x", MaxName+1)} {
		_, err := AppendMbox(nil, name, nil)
		wantKind(t, "a name that is none", err, errs.Invalid)
	}
	for what, b := range map[string][]byte{"nothing": {}, "no length": {1}, "an empty name": {1, 0}, "a name cut off": {1, 2, 'a'}, "a line end": {1, 1, '\n'}} {
		_, _, err := ParseMbox(b)
		wantKind(t, what, err, errs.Invalid)
	}
	_, _, err := ParseMbox([]byte{2, 1, 'a'})
	wantKind(t, "another version", err, errs.Unsupported)
}

// TestBoxUnit: a unit comes back as it was, and any other byte in head or padding is refused.
func TestBoxUnit(t *testing.T) {
	payload := random(4, packet.PayloadLen)
	for _, u := range []BoxUnit{
		{Item: 1, Payload: payload},
		{Item: 1<<64 - 1, Reply: true, Mark: packet.Mark(random(5, 16)), Payload: payload},
		{Item: 7, Reply: true, Payload: payload},
	} {
		buf := append(random(6, packet.Size+5)[:5:5], random(7, packet.Size)...)[:5]
		b, err := AppendBoxUnit(buf, u)
		if err != nil || len(b) != 5+packet.Size {
			t.Fatal(len(b), err)
		}
		unit := b[5:]
		got, err := ParseBoxUnit(unit)
		if err != nil || got.Item != u.Item || got.Reply != u.Reply || got.Mark != u.Mark || !bytes.Equal(got.Payload, payload) {
			t.Errorf("%v, %+v", err, got.Item)
		}
		for _, at := range []int{2, 7, boxHead + packet.PayloadLen, packet.Size - 1} {
			unit[at] ^= 1
			_, err := ParseBoxUnit(unit)
			wantKind(t, "padding that is not zero", err, errs.Invalid)
			unit[at] ^= 1
		}
		unit[1] = 3
		_, err = ParseBoxUnit(unit)
		wantKind(t, "an unknown kind", err, errs.Invalid)
		unit[0] = 2
		_, err = ParseBoxUnit(unit)
		wantKind(t, "another version", err, errs.Unsupported)
		_, err = ParseBoxUnit(unit[:packet.Size-1])
		wantKind(t, "another size", err, errs.Invalid)
	}
	for what, u := range map[string]BoxUnit{"no item": {Payload: payload}, "short": {Item: 1, Payload: payload[1:]},
		"a mark without a reply": {Item: 1, Mark: packet.Mark{1}, Payload: payload}} {
		_, err := AppendBoxUnit(nil, u)
		wantKind(t, what, err, errs.Invalid)
	}
	unit, err := AppendBoxUnit(nil, BoxUnit{Item: 1, Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	unit[20] = 1
	_, err = ParseBoxUnit(unit)
	wantKind(t, "a mark without a reply", err, errs.Invalid)
	clear(unit[8:16])
	clear(unit[16:32])
	_, err = ParseBoxUnit(unit)
	wantKind(t, "no item", err, errs.Invalid)
}

// TestNames: every kind has a word, an unknown one its number.
func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for k := None; k <= Answer; k++ {
		if n := Name(k); n == "" || seen[n] {
			t.Errorf("kind %d: %q", k, n)
		}
		seen[Name(k)] = true
	}
	if Name(200) != "kind 200" || Name(Letter|Windowed) != "letter" || Name(Mail|Windowed) != "mail" || Name(Ack|Windowed) != "kind 130" {
		t.Error(Name(200), Name(Letter|Windowed), Name(Ack|Windowed))
	}
}

// vector is one golden value: the first bytes, the length and the hash of the whole.
type vector struct {
	Name   string `json:"name"`
	Head   string `json:"head"`
	Length int    `json:"length"`
	SHA256 string `json:"sha256"`
}

// TestGolden holds the formats to testdata/golden.json. WRITE_GOLDEN=1 writes it anew.
func TestGolden(t *testing.T) {
	payload := random(4, packet.PayloadLen)
	deliver, err := AppendBoxUnit(nil, BoxUnit{Item: 0x0102030405060708, Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	reply, err := AppendBoxUnit(nil, BoxUnit{Item: 9, Reply: true, Mark: packet.Mark(random(5, 16)), Payload: payload})
	if err != nil {
		t.Fatal(err)
	}
	mbox, err := AppendMbox(nil, "alice", []byte("From: a\r\n\r\nb\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	inject, err := NewInject(block(t), Letter, []byte("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	place, err := AppendWindow(nil, Window{ID: [16]byte(random(6, 16)), Index: 6, Count: 7})
	if err != nil {
		t.Fatal(err)
	}
	lookup, err := AppendLookup(nil, "alice@relay.example")
	if err != nil {
		t.Fatal(err)
	}
	query, err := NewQuery(block(t), ServiceCertificate, lookup)
	if err != nil {
		t.Fatal(err)
	}
	found, err := NewAnswer(AnswerOK, []byte("certificate"))
	if err != nil {
		t.Fatal(err)
	}
	later, err := NewAnswer(AnswerLater, nil)
	if err != nil {
		t.Fatal(err)
	}
	box := ClientMailbox(packet.ID{1}, [32]byte{2})
	var got []vector
	for _, v := range []struct {
		name string
		b    []byte
	}{{"box unit: deliver", deliver}, {"box unit: reply", reply}, {"mbox body", mbox}, {"inject body", inject.Body}, {"mailbox of a client", box[:]},
		{"head of a window", place}, {"ack of a window", NewAck(0b101).Body}, {"query body", query.Body}, {"answer body", found.Body}, {"answer body: later", later.Body},
		{"feed without blocks", signed(t, feed(t, 0))}, {"name of a reply address", []byte(ReplyName(feed(t, 0).Owner))}, {"stock", AppendStock(nil, 64, 1_900_000_000)}} {
		sum := sha256.Sum256(v.b)
		got = append(got, vector{v.name, hex.EncodeToString(v.b[:min(len(v.b), 48)]), len(v.b), hex.EncodeToString(sum[:])})
	}
	const path = "testdata/golden.json"
	b, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	if os.Getenv("WRITE_GOLDEN") != "" {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b) {
		t.Errorf("the formats have changed:\n%s", b)
	}
}

// FuzzParse: whatever is read is written again in the same bytes.
func FuzzParse(f *testing.F) {
	mbox, err := AppendMbox(nil, "alice", []byte("mail"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(mbox)
	unit, err := AppendBoxUnit(nil, BoxUnit{Item: 3, Payload: make([]byte, packet.PayloadLen)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(unit[:64])
	place, err := AppendWindow(nil, Window{Index: 1, Count: 8})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(place, "rest"...))
	f.Add([]byte("\x01\x01\x00\x01a"))
	f.Add([]byte("\x00\x01a"))
	s := block(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, rest, err := ParseMbox(b); err == nil {
			again, err := AppendMbox(nil, name, rest)
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x, %v", again, err)
			}
		}
		if w, inner, err := CutWindow(packet.Content{Kind: Mail | Windowed, Body: b}); err == nil {
			again, err := AppendWindow(nil, w)
			if err != nil || !bytes.Equal(append(again, inner.Body...), b) {
				t.Errorf("%x, %v", again, err)
			}
		}
		if service, request, err := ParseQuery(packet.Content{Kind: Query, SURB: s, Body: b}); err == nil {
			again, err := NewQuery(s, service, request)
			if err != nil || !bytes.Equal(again.Body, b) {
				t.Errorf("%x, %v", again.Body, err)
			}
		}
		if status, rest, err := ParseAnswer(packet.Content{Kind: Answer, Body: b}); err == nil {
			again, err := NewAnswer(status, rest)
			if err != nil || !bytes.Equal(again.Body, b) {
				t.Errorf("%x, %v", again.Body, err)
			}
		}
		if bits, err := ParseAck(packet.Content{Kind: Ack, Body: b}); err == nil && !bytes.Equal(NewAck(bits).Body, b) {
			t.Errorf("%x", bits)
		}
		if address, err := ParseLookup(b); err == nil {
			again, err := AppendLookup(nil, address)
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x, %v", again, err)
			}
		}
		whole := make([]byte, packet.Size)
		copy(whole, b)
		if u, err := ParseBoxUnit(whole); err == nil {
			again, err := AppendBoxUnit(nil, u)
			if err != nil || !bytes.Equal(again, whole) {
				t.Errorf("%+v, %v", u.Item, err)
			}
		}
	})
}
