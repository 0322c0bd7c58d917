package account

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

func FuzzInfo(f *testing.F) {
	f.Add(infoRecord{addr: mail.Address{Local: "alice", Domain: "example.org"}, class: OpenMail, blocked: true, quota: 5, created: 1, lastLogin: 2}.encode())
	f.Add([]byte{infoVersion, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decodeInfo(b)
		if err != nil {
			return
		}
		again, err := decodeInfo(i.encode())
		if err != nil || again != i {
			t.Errorf("%+v %v", again, err)
		}
		if !bytes.HasPrefix(b, bytes.TrimRight(i.encode(), "\x00")) {
			t.Errorf("two forms of one record")
		}
	})
}

func FuzzTokens(f *testing.F) {
	f.Add(encodeTokens([]tokenRecord{{20000, "token"}, {20001, "other"}}))
	f.Add([]byte{tokensVersion, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		ts, err := decodeTokens(b)
		if err != nil {
			return
		}
		if len(ts) > maxTokens || !bytes.Equal(encodeTokens(ts), b) {
			t.Errorf("%d tokens", len(ts))
		}
	})
}

func FuzzKeyRecord(f *testing.F) {
	root, err := seal.NewRoot(make([]byte, seal.KeyLen), sameNumber{}) // the same in every worker
	if err != nil {
		f.Fatal(err)
	}
	key, err := seal.FromSeed(seal.AccountID{1}, make([]byte, seal.SeedLen), sameNumber{})
	if err != nil {
		f.Fatal(err)
	}
	wrapped, err := key.Wrap("correct horse", cheap)
	if err != nil {
		f.Fatal(err)
	}
	good, err := sealKey(root, key.ID(), key.Public(), wrapped)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:1+seal.PublicKeyLen])
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := openKeyRecord(root, key.ID(), b); err == nil && !bytes.Equal(b, good) {
			t.Error("forged")
		}
	})
}

func FuzzHandover(f *testing.F) {
	f.Add(encodeKeys([32]byte{1}, []handedKey{{id: seal.AccountID{1}}, {id: seal.AccountID{2}}}))
	f.Add([]byte(handoverMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		check, keys, err := decodeKeys(bytes.NewReader(b), 100)
		if err != nil {
			return
		}
		if len(keys) > 100 || !bytes.Equal(encodeKeys(check, keys), b) {
			t.Errorf("%d keys", len(keys))
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add("17-" + strings.Repeat("ab", 20))
	f.Fuzz(func(t *testing.T, s string) {
		after, err := parseCursor(s)
		if err == nil && (after.Shard >= store.Shards || s != "" && !strings.HasSuffix(strings.ToLower(s), fmt.Sprintf("-%x", after.Key))) {
			t.Errorf("%q gives %v", s, after)
		}
	})
}

func FuzzLoginName(f *testing.F) {
	a := &Accounts{domains: map[string]struct{}{"example.org": {}}, o: Options{MinName: 1, MaxName: 64}}
	for _, s := range []string{"alice@example.org", `"a b"@example.org`, "a@b@example.org", "ALICE@EXAMPLE.ORG", "älice@example.org"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := a.parse(s)
		if err != nil {
			return
		}
		if got.Domain != "example.org" || got != got.Canonical() {
			t.Errorf("%q gives %+v", s, got)
		}
		if a.checkNew(got) == nil {
			// What may be made can be written as an address, and read again.
			back, err := a.parse(got.String())
			if err != nil || !reflect.DeepEqual(back, got) || strings.ContainsAny(got.Local, "+\"\\ ") {
				t.Errorf("%q: %+v %v", s, back, err)
			}
		}
	})
}
