package letter

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind {
		t.Fatalf("got %v, want %v", err, kind)
	}
}

func testKey(t testing.TB, name string) *PrivateKey {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	k, err := NewPrivateKey(seed[:])
	must(t, err)
	return k
}

func testSigner(t testing.TB, name string) *directory.PrivateKey {
	t.Helper()
	a, b := sha256.Sum256([]byte("one "+name)), sha256.Sum256([]byte("two "+name))
	k, err := directory.NewPrivateKey(append(a[:], b[:]...))
	must(t, err)
	return k
}

// noise gives bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

var (
	now   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	plain = Options{Room: RoomPlain}
	acked = Options{Room: RoomACK}
	coded = Options{Room: RoomPlain, Coded: true}
)

// openAll opens the bodies of a letter.
func openAll(t testing.TB, k *PrivateKey, s *Sealed) []*Fragment {
	t.Helper()
	var out []*Fragment
	for _, b := range s.Bodies {
		f, err := Open(k, b)
		must(t, err)
		out = append(out, f)
	}
	return out
}

// assemble adds fragments and gives the letter, which must come once.
func assemble(t testing.TB, a *Assembler, list []*Fragment) *Letter {
	t.Helper()
	var got *Letter
	for _, f := range list {
		l, err := a.Add(f, now)
		must(t, err)
		if l != nil {
			if got != nil {
				t.Fatal("the letter came twice")
			}
			got = l
		}
	}
	return got
}

// TestRoundTrip: what is sealed arrives, whatever its length, in any order, and however it is
// cut; all bodies fill their room.
func TestRoundTrip(t *testing.T) {
	k := testKey(t, "bob")
	r := rand.New(rand.NewPCG(1, 2))
	one := RoomPlain - sealLen - headLen
	for _, o := range []Options{plain, acked, coded, {Room: RoomReply}} {
		for _, n := range []int{0, 1, 100, one - 1, one, one + 1, 300_000, 1_000_000} {
			content := noise(n)
			s, err := Seal(k.Public(), Message{Content: content, Date: now}, o)
			must(t, err)
			if p := Packets(n, o); len(s.Bodies) != p {
				t.Errorf("%d bytes are %d packets, said %d", n, len(s.Bodies), p)
			}
			for _, b := range s.Bodies {
				if len(b) != o.Room {
					t.Fatalf("a body has %d bytes, its room %d", len(b), o.Room)
				}
			}
			list := openAll(t, k, s)
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
			list = append(list, list...) // each comes twice
			a := NewAssembler(Limits{})
			l := assemble(t, a, list)
			if l == nil || !bytes.Equal(l.Content, content) || l.ID != s.ID || !l.Date.Equal(now) || l.From != nil {
				t.Fatalf("%d bytes did not arrive", n)
			}
			if w, size := a.Waiting(); w != 0 || size != 0 || !a.Knows(s.ID) {
				t.Errorf("%d letters, %d bytes wait", w, size)
			}
		}
	}
}

// TestErasure: with the code, any k fragments of each chunk are enough, and k-1 are not.
func TestErasure(t *testing.T) {
	k := testKey(t, "bob")
	r := rand.New(rand.NewPCG(3, 4))
	size := RoomPlain - sealLen
	for _, parts := range []int{2, 3, 4, 16, 17, 40} {
		content := noise(parts*size - headLen - 5)
		s, err := Seal(k.Public(), Message{Content: content}, coded)
		must(t, err)
		list := openAll(t, k, s)
		chunks := map[int][]*Fragment{}
		for _, f := range list {
			chunks[f.Chunk] = append(chunks[f.Chunk], f)
		}
		for range 5 {
			var kept []*Fragment
			var missing *Fragment
			for _, c := range chunks {
				if len(c) != c[0].N || c[0].N != (4*c[0].K+2)/3 {
					t.Fatalf("%d of a chunk, k %d, n %d", len(c), c[0].K, c[0].N)
				}
				r.Shuffle(len(c), func(i, j int) { c[i], c[j] = c[j], c[i] })
				kept = append(kept, c[:c[0].K]...)
				missing = c[0]
			}
			a := NewAssembler(Limits{})
			less := slices.DeleteFunc(slices.Clone(kept), func(f *Fragment) bool { return f == missing })
			if l := assemble(t, a, less); l != nil {
				t.Fatal("a letter of too few fragments")
			}
			l, err := a.Add(missing, now)
			must(t, err)
			if l == nil || !bytes.Equal(l.Content, content) {
				t.Fatalf("%d parts did not arrive", parts)
			}
		}
	}
}

// TestSigned: a signature is of the letter, its recipient, date, sender and content; one that
// does not fit is refused, and so is a letter whose recipient passes it on as his own.
func TestSigned(t *testing.T) {
	bob, alice := testKey(t, "bob"), testSigner(t, "alice")
	m := Message{Content: []byte("hello"), Date: now, Signer: alice, Sender: "alice@example.org"}
	s, err := Seal(bob.Public(), m, plain)
	must(t, err)
	l := assemble(t, NewAssembler(Limits{}), openAll(t, bob, s))
	if l.From == nil || l.From.ID() != alice.Public().ID() || l.Sender != m.Sender {
		t.Fatalf("signed by %v as %q", l.From, l.Sender)
	}
	enc := func() ([]byte, ID) {
		id := ID{1}
		b, err := encode(m, id, bob.Public())
		must(t, err)
		return b, id
	}
	whole, id := enc()
	name := bob.pub.name
	_, err = decode(whole, id, &name)
	must(t, err)
	other := testKey(t, "carol").pub.name
	_, err = decode(whole, id, &other)
	wantKind(t, err, errs.Auth)
	_, err = decode(whole, ID{2}, &name)
	wantKind(t, err, errs.Auth)
	for _, at := range []int{24 + 7, headLen, headLen + len(m.Sender), headLen + len(m.Sender) + proofLen - 1, len(whole) - 1} {
		b := slices.Clone(whole)
		b[at] ^= 1
		_, err = decode(b, id, &name)
		wantKind(t, err, errs.Auth)
	}
	_, err = decode(whole, id, nil)
	wantKind(t, err, errs.Invalid)
}

// TestCompression: what compresses well becomes fewer packets, what would inflate more than 20
// times is sent as it is, and a letter that says it inflates more is refused.
func TestCompression(t *testing.T) {
	k := testKey(t, "bob")
	text := bytes.Repeat([]byte("the quick brown fox jumps over the lazy dog; 0123456789\n"), 2000)
	for i := range text {
		if i%7 == 0 {
			text[i] = byte(i * i >> 8)
		}
	}
	s, err := Seal(k.Public(), Message{Content: text}, plain)
	must(t, err)
	if full := Packets(len(text), plain); len(s.Bodies) >= full {
		t.Errorf("%d packets for text, %d uncompressed", len(s.Bodies), full)
	}
	if l := assemble(t, NewAssembler(Limits{}), openAll(t, k, s)); !bytes.Equal(l.Content, text) {
		t.Error("text did not arrive")
	}
	zeros := make([]byte, 200_000)
	whole, err := encode(Message{Content: zeros}, ID{}, nil)
	must(t, err)
	if whole[1] != 0 || len(whole) != headLen+len(zeros) {
		t.Errorf("zeros were compressed %d times", len(zeros)/len(whole))
	}
	// A bomb: the same content compressed all the same.
	var b bytes.Buffer
	must(t, deflateTo(&b, zeros))
	bomb := slices.Clone(whole[:headLen])
	bomb[1] = flagDeflated
	binary.BigEndian.PutUint64(bomb[16:], uint64(b.Len()))
	_, err = decode(append(bomb, b.Bytes()...), ID{}, nil)
	wantKind(t, err, errs.Invalid)
	// One that gives more, or less, than it says, or has something behind it.
	text = text[:3000]
	whole, err = encode(Message{Content: text}, ID{}, nil)
	must(t, err)
	for _, change := range []func([]byte) []byte{
		func(b []byte) []byte { binary.BigEndian.PutUint64(b[8:], 2999); return b },
		func(b []byte) []byte { binary.BigEndian.PutUint64(b[8:], 3001); return b },
		func(b []byte) []byte {
			binary.BigEndian.PutUint64(b[16:], uint64(len(b)+1-headLen))
			return append(b, 0)
		},
	} {
		_, err = decode(change(slices.Clone(whole)), ID{}, nil)
		wantKind(t, err, errs.Invalid)
	}
}
