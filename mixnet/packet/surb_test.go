package packet

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
)

var testSeed = Seed{1, 2, 3}

// block makes a reply block that expires 48 h after someDay.
func block(t testing.TB, hops []Hop) (*SURB, Mark) {
	t.Helper()
	s, mark, err := NewSURB(hops[1:], mailbox, &testSeed, someDay.Add(48*time.Hour), rand.Reader)
	must(t, err)
	return s, mark
}

// A block travels in a packet, is used by who finds it there, and the answer is opened with the
// seed alone.
func TestReply(t *testing.T) {
	nodes, hops := path(t)
	s, mark := block(t, hops)
	r := walk(t, nodes, deliver(t, hops, Content{Kind: 1, SURB: s, Body: make([]byte, MaxBodySURB)}), Last)
	c, err := OpenContent(r.Payload)
	must(t, err)
	if len(c.Body) != MaxBodySURB || c.SURB.Name() != s.Name() || c.SURB.First() != nodes[1].id {
		t.Fatalf("%+v", c)
	}
	if want := time.Date(2026, 11, 28, 14, 0, 0, 0, time.UTC); !c.SURB.Expires().Equal(want) {
		t.Errorf("expires %v, want %v", c.SURB.Expires(), want)
	}
	body := bytes.Repeat([]byte("x"), MaxBody)
	p, err := c.SURB.Use([]byte("before"), Content{Kind: 9, Body: body}, someDay)
	must(t, err)
	if string(p[:6]) != "before" || len(p) != 6+SizeAt(1) {
		t.Fatal("not appended")
	}
	r = walk(t, nodes, p[6:], Last)
	if r.Command != Reply || r.Mailbox != mailbox || r.Mark != mark {
		t.Fatalf("%+v", r)
	}
	seed := testSeed
	c, err = OpenReply(&seed, r.Mark, r.Payload)
	must(t, err)
	if c.Kind != 9 || !bytes.Equal(c.Body, body) {
		t.Error("another answer")
	}
}

// What is handed out tells neither mailbox nor mark: who answers and the maker's relay
// have nothing to compare.
func TestSURBTellsNothing(t *testing.T) {
	nodes, hops := path(t)
	s, mark := block(t, hops)
	other, _ := block(t, hops)
	for what, b := range map[string][]byte{"mailbox": mailbox[:], "mark": mark[:], "relay": nodes[Last].id[:], "seed": testSeed[:]} {
		if bytes.Contains(s.raw[:], b) {
			t.Errorf("the block shows its %s", what)
		}
	}
	unlike(t, s.raw[PrefixLen:len(s.raw)-surbTailLen], other.raw[PrefixLen:len(s.raw)-surbTailLen])
	if bytes.Equal(s.tail()[32:64], other.tail()[32:64]) {
		t.Error("two blocks of one seed have the same body key")
	}
	n := s.Name()
	p, err := s.Use(nil, Content{}, someDay)
	must(t, err)
	if bytes.Contains(p, n[:]) || bytes.Contains(p, s.tail()[32:64]) {
		t.Error("the packet shows the name or the key of its block")
	}
}

// At layers 1 to 3 an answer is like any other packet.
func TestReplyLooksAlike(t *testing.T) {
	nodes, hops := path(t)
	s, _ := block(t, hops)
	reply, err := s.Use(nil, Content{}, someDay)
	must(t, err)
	r, err := Unwrap(nodes[0].key, deliver(t, hops, Content{}))
	must(t, err)
	forward := r.Packet
	for layer := 1; layer < Last; layer++ {
		if len(forward) != len(reply) || !bytes.Equal(forward[:PrefixLen], reply[:PrefixLen]) {
			t.Fatalf("layer %d: %x, %x", layer, forward[:PrefixLen], reply[:PrefixLen])
		}
		a, err := Unwrap(nodes[layer].key, forward)
		must(t, err)
		b, err := Unwrap(nodes[layer].key, reply)
		must(t, err)
		forward, reply = a.Packet, b.Packet
		a.Packet, b.Packet, a.Tag, b.Tag = nil, nil, Tag{}, Tag{}
		if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
			t.Errorf("layer %d: %+v, %+v", layer, a, b)
		}
	}
}

// A block is used once; copies of it make packets that hops know as replays.
func TestSURBOnce(t *testing.T) {
	nodes, hops := path(t)
	s, _ := block(t, hops)
	copied, err := ParseSURB(s.raw[:])
	must(t, err)
	if p, err := s.Use([]byte("x"), Content{Body: make([]byte, MaxBody+1)}, someDay); errs.KindOf(err) != errs.TooLarge || string(p) != "x" {
		t.Fatalf("too large: %v", err)
	}
	if p, err := s.Use([]byte("x"), Content{Body: []byte{1}}, someDay); errs.KindOf(err) != errs.Invalid || string(p) != "x" {
		t.Fatalf("a body without a kind: %v", err)
	}
	var wg sync.WaitGroup
	var taken atomic.Int32
	packets := make(chan []byte, 8)
	for range 8 {
		wg.Go(func() {
			p, err := s.Use(nil, Content{}, someDay)
			switch {
			case err == nil:
				taken.Add(1)
				packets <- p
			case errs.KindOf(err) != errs.Denied || errs.Public(err) != "the reply block was used before":
				t.Errorf("second use: %v", err)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Fatalf("used %d times", taken.Load())
	}
	a := <-packets
	b, err := copied.Use(nil, Content{Kind: 1}, someDay)
	must(t, err)
	for layer := 1; layer < Layers; layer++ {
		x, err := Unwrap(nodes[layer].key, a)
		must(t, err)
		y, err := Unwrap(nodes[layer].key, b)
		must(t, err)
		if x.Tag != y.Tag {
			t.Errorf("layer %d does not see the replay", layer)
		}
		a, b = x.Packet, y.Packet
	}
}

func TestSURBExpires(t *testing.T) {
	_, hops := path(t)
	s, _ := block(t, hops)
	end := s.Expires()
	for _, now := range []time.Time{end, end.Add(time.Nanosecond), end.Add(24 * 365 * time.Hour)} {
		if p, err := s.Use([]byte("x"), Content{}, now); errs.KindOf(err) != errs.Denied || errs.Public(err) != "the reply block has expired" || string(p) != "x" {
			t.Errorf("at %v: %v", now, err)
		}
	}
	if _, err := s.Use(nil, Content{}, end.Add(-time.Nanosecond)); err != nil {
		t.Errorf("just before: %v", err)
	}
}

// Only the right seed and mark open an answer, and only one that nobody changed.
func TestOpenReplyRejects(t *testing.T) {
	nodes, hops := path(t)
	s, mark := block(t, hops)
	p, err := s.Use(nil, Content{Kind: 1, Body: []byte("answer")}, someDay)
	must(t, err)
	payload := walk(t, nodes, p, Last).Payload
	otherSeed, otherMark := testSeed, mark
	otherSeed[31]++
	otherMark[0]++
	for name, c := range map[string]struct {
		seed Seed
		mark Mark
		b    []byte
	}{
		"seed":       {otherSeed, mark, payload},
		"mark":       {testSeed, otherMark, payload},
		"first byte": {testSeed, mark, flip(payload, 0, 1)},
		"last byte":  {testSeed, mark, flip(payload, PayloadLen-1, 0x80)},
	} {
		_, err := OpenReply(&c.seed, c.mark, bytes.Clone(c.b))
		wantRejected(t, name, err, errs.Auth, errPayload)
	}
	for _, n := range []int{0, PayloadLen - 1, PayloadLen + 1} {
		_, err := OpenReply(&testSeed, mark, make([]byte, n))
		wantRejected(t, "size", err, errs.Invalid, errSize)
	}
	if _, err := OpenContent(bytes.Clone(payload)); errs.KindOf(err) != errs.Auth {
		t.Errorf("the relay opens the answer: %v", err)
	}
	// At each hop on the way.
	for layer := 1; layer < Layers; layer++ {
		copied, err := ParseSURB(s.raw[:])
		must(t, err)
		p, err := copied.Use(nil, Content{}, someDay)
		must(t, err)
		for i := 1; i < layer; i++ {
			r, err := Unwrap(nodes[i].key, p)
			must(t, err)
			p = r.Packet
		}
		p[len(p)-1] ^= 1
		r := walk(t, nodes, p, Last)
		_, err = OpenReply(&testSeed, r.Mark, r.Payload)
		wantRejected(t, fmt.Sprint("changed before layer ", layer), err, errs.Auth, errPayload)
	}
	if _, err := OpenReply(&testSeed, mark, payload); err != nil {
		t.Error(err)
	}
}

func TestNewSURBRefuses(t *testing.T) {
	_, hops := path(t)
	late := append([]Hop(nil), hops[1:]...)
	late[3].Delay = 1
	for name, c := range map[string]struct {
		hops    []Hop
		expires time.Time
	}{
		"five hops":            {hops, someDay},
		"three hops":           {hops[2:], someDay},
		"no hops":              {nil, someDay},
		"a delay at the end":   {late, someDay},
		"an expiry before":     {hops[1:], time.Unix(-3601, 0)},
		"an expiry far beyond": {hops[1:], time.Unix(3600<<32, 0)},
	} {
		if s, _, err := NewSURB(c.hops, mailbox, &testSeed, c.expires, rand.Reader); errs.KindOf(err) != errs.Invalid || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := NewSURB(hops[1:], mailbox, &testSeed, someDay, bytes.NewReader(make([]byte, 15))); errs.KindOf(err) != errs.Internal {
		t.Errorf("without randomness: %v", err)
	}
}

// Nothing secret is printed, however it is asked for.
func TestSecretsAreNotPrinted(t *testing.T) {
	nodes, hops := path(t)
	s, _ := block(t, hops)
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, nil))
	key, seed := nodes[0].key, testSeed
	log.Info("x", "key", key, "seed", seed, "seedp", &seed, "surb", s)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", key, seed, &seed, s)
	}
	for _, bad := range []string{"\"AQID", "010203", "1 2 3", "0x1", "1010", "raw", "16 16"} {
		if strings.Contains(out.String(), bad) {
			t.Errorf("%q is shown:\n%s", bad, out.String())
		}
	}
	if n := strings.Count(out.String(), secret.Text); n != 4+7*4 {
		t.Errorf("%d times redacted:\n%s", n, out.String())
	}
}
