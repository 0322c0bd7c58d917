package seal

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"postern.email/kit/passhash"
)

// zeros is a source of randomness that is the same in every process: the fuzzer's
// workers must agree on what the seeds are.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func fuzzKey(f *testing.F) *Opened {
	o, err := FromSeed(AccountID{1}, bytes.Repeat([]byte{1}, SeedLen), zeros{})
	if err != nil {
		f.Fatal(err)
	}
	return o
}

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
	o := fuzzKey(f)
	good, err := o.Wrap("correct horse", passhash.Cost{Time: 1, Memory: 8, Threads: 1})
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
		if !w.Params.Valid() || len(w.salt) != passhash.SaltLen {
			t.Fatalf("%v", w.Params)
		}
		if w.Params == (passhash.Cost{Time: 1, Memory: 8, Threads: 1}) {
			got, err := w.Unwrap(o.ID(), o.Public(), "correct horse")
			if err == nil && (got.seed != o.seed || !bytes.Equal(b, good)) {
				t.Error("something else opens")
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	o := fuzzKey(f)
	r, err := NewRoot(bytes.Repeat([]byte{9}, KeyLen), zeros{})
	if err != nil {
		f.Fatal(err)
	}
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
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		f.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		f.Fatal(err)
	}
	o, err := FromSeed(AccountID(g.AccountID), g.Seed, nil)
	if err != nil {
		f.Fatal(err)
	}
	m := g.Mails[1]
	f.Add([]byte(g.Chain), []byte(g.Encap), m.Index, m.Chunk, []byte(m.Sealed))
	f.Add([]byte(g.Chain), []byte(g.Encap[:10]), uint16(2000), uint32(0), []byte{})
	f.Fuzz(func(t *testing.T, chain, encap []byte, index uint16, chunk uint32, part []byte) {
		var c ChainID
		copy(c[:], chain)
		k, err := o.MailKey(c, encap, index)
		if err != nil {
			return
		}
		got, err := k.OpenPart(m.Part, chunk, part)
		if err == nil && !(bytes.Equal(c[:], g.Chain) && index == m.Index && bytes.Equal(part, m.Sealed) && bytes.Equal(got, m.Plain)) {
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
