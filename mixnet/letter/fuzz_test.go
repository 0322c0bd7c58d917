package letter

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"postern.email/kit/errs"
)

// FuzzFragment: no fragment, alone or with a repetition, does anything but become a letter or an
// error, in bounded memory; and what was parsed has one form.
func FuzzFragment(f *testing.F) {
	for _, n := range []int{1, 100, 3000} {
		for _, coded := range []bool{false, true} {
			_, list, err := Split(noise(n), Options{Room: HeaderLen + MinPart, Coded: coded}, bytes.NewReader(noise(16)))
			must(f, err)
			for _, b := range list {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := ParseFragment(b)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.Unsupported {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(append(g.Header.append(nil), g.Data...), b) {
			t.Fatal("two forms")
		}
		a := NewAssembler(Limits{Bytes: 1 << 20})
		if _, err := a.Add(g, now); err != nil {
			return
		}
		if l, err := a.Add(g, now); l != nil || err != nil {
			t.Fatal("a repetition did something", err)
		}
		state, err := a.AppendBinary(nil)
		must(t, err)
		if _, err := ParseAssembler(state, Limits{}); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzWhole: decode never gives more than a head may say, and only its own form.
func FuzzWhole(f *testing.F) {
	for _, m := range []Message{{}, {Content: []byte("short")}, {Content: bytes.Repeat([]byte("long and the same "), 50), Date: now}} {
		b, err := encode(m, ID{1}, nil)
		must(f, err)
		f.Add(b, false)
		f.Add(b, true)
	}
	k := testKey(f, "bob")
	b, err := encode(Message{Content: []byte("signed"), Signer: testSigner(f, "alice"), Sender: "a"}, ID{1}, k.Public())
	must(f, err)
	f.Add(b, true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		to := &k.pub.name
		if !sealed {
			to = nil
		}
		l, err := decode(b, ID{1}, to)
		if err != nil {
			return
		}
		if len(l.Content) > Inflation*len(b) || !sealed && l.From != nil {
			t.Fatalf("%d bytes of %d", len(l.Content), len(b))
		}
	})
}

// FuzzState: a damaged state is an error and no more.
func FuzzState(f *testing.F) {
	a := NewAssembler(Limits{})
	_, list, err := Split(noise(3000), Options{Room: HeaderLen + MinPart, Coded: true}, bytes.NewReader(noise(16)))
	must(f, err)
	g, err := ParseFragment(list[1])
	must(f, err)
	_, err = a.Add(g, now)
	must(f, err)
	b, err := a.AppendBinary(nil)
	must(f, err)
	f.Add(b)
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAssembler(b, Limits{})
		if err != nil {
			if errs.KindOf(err) != errs.Corrupt {
				t.Fatal(err)
			}
			return
		}
		if _, err := a.AppendBinary(nil); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzOpen: a body that nobody sealed does not open, and takes no key apart.
func FuzzOpen(f *testing.F) {
	k := testKey(f, "bob")
	s, err := Seal(k.Public(), Message{Content: []byte("x")}, small)
	must(f, err)
	f.Add(s.Bodies[0])
	f.Add(s.Bodies[0][:1200])
	s, err = Seal(k.Public().ClassicalHalf(), Message{Content: []byte("x")}, small)
	must(f, err)
	f.Add(s.Bodies[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := Open(k, b); err == nil {
			if _, err := NewAssembler(Limits{}).Add(g, now); err != nil && errs.KindOf(err) == errs.Internal {
				t.Fatal(err)
			}
		}
	})
}

// FuzzText: addresses and reply blocks from anywhere.
func FuzzText(f *testing.F) {
	raw, err := os.ReadFile(goldenFile)
	must(f, err)
	var g golden
	must(f, json.Unmarshal(raw, &g))
	f.Add(g.Address.Text)
	f.Add(g.Blocks.Text)
	f.Add("pb:" + hex.EncodeToString([]byte{1}))
	f.Fuzz(func(t *testing.T, s string) {
		if a, err := ParseAddress(s); err == nil {
			if b, err := ParseAddress(a.String()); err != nil || b.Relay != a.Relay || b.Mailbox != a.Mailbox || !b.Key.Equal(a.Key) {
				t.Fatal(err)
			}
		}
		blocks, err := ParseReplyBlocks([]byte(s))
		for _, b := range blocks {
			text, err := b.MarshalText()
			must(t, err)
			if again, err := ParseReplyBlocks(text); err != nil || len(again) != 1 {
				t.Fatal(err)
			}
		}
		if err != nil && errs.Public(err) == "" {
			t.Fatal(err)
		}
	})
}

// BenchmarkSeal and BenchmarkOpen: a letter of 1 MB, and one fragment.
func BenchmarkSeal(b *testing.B) {
	k, content := testKey(b, "bob"), noise(1<<20)
	for _, o := range []Options{plain, coded} {
		b.Run(map[bool]string{false: "plain", true: "coded"}[o.Coded], func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Seal(k.Public(), Message{Content: content}, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	k := testKey(b, "bob")
	s, err := Seal(k.Public(), Message{Content: noise(20_000)}, plain)
	must(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(k, s.Bodies[0]); err != nil {
			b.Fatal(err)
		}
	}
}
