package seal

import (
	"bytes"
	"testing"
)

func FuzzUnpad(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x80})
	f.Add(Pad([]byte("hello")))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Unpad(b)
		if err == nil && !bytes.HasPrefix(b, got) {
			t.Error("not a prefix")
		}
		if back, err := Unpad(Pad(b)); err != nil || !bytes.Equal(back, b) {
			t.Errorf("%x %v", back, err)
		}
	})
}

func FuzzParseWrapped(f *testing.F) {
	o := testKey(f, 1)
	good, err := o.Wrap("correct horse", Params{1, 8, 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{1, 255})
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := ParseWrapped(b)
		if err != nil {
			return
		}
		if !w.Params.Valid() || len(w.salt) != saltLen {
			t.Fatalf("%v", w.Params)
		}
		if w.Params == (Params{1, 8, 1}) {
			got, err := w.Unwrap(o.ID(), o.Public(), "correct horse")
			if err == nil && (got.seed != o.seed || !bytes.Equal(b, good)) {
				t.Error("something else opens")
			}
		}
	})
}

func FuzzParseParams(f *testing.F) {
	f.Add(DefaultParams().String())
	f.Add("argon2id t=1 m=8 p=1")
	f.Add("argon2id t=+1 m=8 p=1")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseParams(s)
		if err == nil && (!p.Valid() || p.String() != s) {
			t.Errorf("%q gives %v", s, p)
		}
	})
}

func FuzzOpen(f *testing.F) {
	r, o := testRoot(f), testKey(f, 1)
	sealed, _ := r.Seal(PurposeInfo, nil, []byte("plain"))
	record, _ := o.SealRecord("x", nil, []byte("plain"))
	f.Add(sealed)
	f.Add(record)
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := r.Open(PurposeInfo, nil, b); err == nil && !bytes.Equal(b, sealed) {
			t.Errorf("forged: %x", got)
		}
		if got, err := o.OpenRecord("x", nil, b); err == nil && !bytes.Equal(b, record) {
			t.Errorf("forged: %x", got)
		}
	})
}

func FuzzMailKey(f *testing.F) {
	o := testKey(f, 1)
	s := next(f, NewChains(ChainOptions{}), o)
	sealed, err := s.Key.SealPart(PartBody, 0, []byte("mail"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Chain[:], s.Encap, s.Index, sealed)
	f.Add(s.Chain[:], s.Encap[:10], uint16(2000), []byte{})
	f.Fuzz(func(t *testing.T, chain, encap []byte, index uint16, part []byte) {
		var c ChainID
		copy(c[:], chain)
		k, err := o.MailKey(c, encap, index)
		if err != nil {
			return
		}
		if _, err := k.OpenPart(PartBody, 0, part); err == nil && !(c == s.Chain && index == s.Index && bytes.Equal(part, sealed)) {
			t.Error("forged")
		}
	})
}

func FuzzRootFile(f *testing.F) {
	f.Add([]byte(`{"postern-root-key":1,"node-key":"file","wrapped":"AAAA"}`))
	f.Add([]byte(`{"postern-root-key":1,"node-key":"passphrase","passphrase":"argon2id t=1 m=8 p=1","salt":"AAAA","wrapped":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeRootFile(b)
		if err != nil {
			return
		}
		if _, err := unwrapRoot(nodeKey{}, h); err == nil {
			t.Error("opened by a key of zeros")
		}
		out, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeRootFile(out)
		if err != nil || !bytes.Equal(back.Wrapped, h.Wrapped) || back.Source != h.Source {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func FuzzNodeKey(f *testing.F) {
	f.Add(encodeNodeKey(nodeKey{1}))
	f.Add(bytes.Repeat([]byte{7}, KeyLen))
	f.Add([]byte(nodeKeyPrefix))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeNodeKey(b)
		if err != nil {
			return
		}
		if again, err := decodeNodeKey(encodeNodeKey(k)); err != nil || again != k {
			t.Errorf("%v", err)
		}
	})
}
