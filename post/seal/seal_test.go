package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/kit/secret"
	"postern.email/mail"
	"postern.email/store"
)

func testRoot(t testing.TB) *Root {
	t.Helper()
	r, err := NewRoot(bytes.Repeat([]byte{9}, KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func testKey(t testing.TB, n byte) *Opened {
	t.Helper()
	o, err := FromSeed(AccountID{n, 1, 2, 3, 4, 5, 6, 7}, bytes.Repeat([]byte{n}, SeedLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func wantKind(t testing.TB, err error, kind errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind {
		t.Fatalf("got error %v, want kind %v", err, kind)
	}
}

func TestLabelsAreApart(t *testing.T) {
	l := labels()
	for i, a := range l {
		for j, b := range l {
			if i != j && strings.HasPrefix(a, b) {
				t.Errorf("label %q begins with label %q", a, b)
			}
		}
	}
	seen := map[string]bool{}
	for _, p := range Purposes() {
		if p.Name == "" || p.What == "" || p.Why == "" {
			t.Errorf("purpose %d is not described", p.Purpose)
		}
		if seen[p.Name] || p.Purpose.String() != p.Name {
			t.Errorf("purpose %q is not named once", p.Name)
		}
		seen[p.Name] = true
	}
	if len(seen) != int(numPurposes) {
		t.Errorf("%d purposes in the table, %d in all", len(seen), numPurposes)
	}
}

func TestAccountID(t *testing.T) {
	id, err := NewAccountID(bytes.NewReader(append(make([]byte, 8), 1, 2, 3, 4, 5, 6, 7, 8)))
	if err != nil || id != (AccountID{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Fatalf("the zero number was not skipped: %v %v", id, err)
	}
	back, err := ParseAccountID(id.String())
	if err != nil || back != id {
		t.Fatalf("%v %v", back, err)
	}
	for _, bad := range []string{"", "0102", "0102030405060708ff", "zz02030405060708"} {
		if _, err := ParseAccountID(bad); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if id.Shard() != store.Shard(0x0102) {
		t.Errorf("shard %d", id.Shard())
	}
	if got := (AccountID{1, 2, 3, 4, 5, 6, 0xff, 0xff}).End(); !bytes.Equal(got, []byte{'a', 1, 2, 3, 4, 5, 7}) {
		t.Errorf("end %x", got)
	}
	all := AccountID{255, 255, 255, 255, 255, 255, 255, 255}
	if got := all.End(); !bytes.Equal(got, []byte{'b'}) {
		t.Errorf("end of the last number: %x", got)
	}
	if _, err := NewAccountID(bytes.NewReader(nil)); err == nil {
		t.Error("no randomness, no error")
	}
}

func TestPad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "plain")
		p := Pad(plain)
		if len(p) != PaddedLen(len(plain)) {
			t.Fatalf("length %d, want %d", len(p), PaddedLen(len(plain)))
		}
		got, err := Unpad(p)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%x %v", got, err)
		}
	})
	for n := range 300000 {
		p := PaddedLen(n)
		if p <= n || p > n+1+(n+1)*12/100 {
			t.Fatalf("%d is padded to %d", n, p)
		}
		if n > 0 && p < PaddedLen(n-1) {
			t.Fatalf("shorter at %d", n)
		}
	}
	lengths := map[int]bool{}
	for n := 10000; n < 20000; n++ {
		lengths[PaddedLen(n)] = true
	}
	if len(lengths) > 20 {
		t.Errorf("%d different lengths from 10,000 to 20,000", len(lengths))
	}
	for _, bad := range [][]byte{nil, {0}, {0, 0, 0}, {1}, {0x80, 1}} {
		_, err := Unpad(bad)
		wantKind(t, err, errs.Corrupt)
	}
}

func TestRootSeal(t *testing.T) {
	r := testRoot(t)
	sealed, err := r.Seal(PurposeInfo, []byte("aad"), []byte("plain"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Open(PurposeInfo, []byte("aad"), sealed)
	if err != nil || string(got) != "plain" {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := r.Open(PurposeName, []byte("aad"), sealed); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("opened for another purpose: %v", err)
	}
	if _, err := r.Open(PurposeInfo, []byte("aae"), sealed); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("opened with other data bound to it: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := r.Open(PurposeInfo, []byte("aad"), bad); errs.KindOf(err) != errs.Corrupt {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for i := range len(sealed) {
		if _, err := r.Open(PurposeInfo, []byte("aad"), sealed[:i]); errs.KindOf(err) != errs.Corrupt {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	short, _ := r.Seal(PurposeInfo, nil, nil)
	if longer, _ := r.Seal(PurposeInfo, nil, make([]byte, 31)); len(short) != len(longer) {
		t.Errorf("short records differ in length: %d %d", len(short), len(longer))
	}
	other, err := NewRoot(bytes.Repeat([]byte{8}, KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(PurposeInfo, []byte("aad"), sealed); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("opened by another root: %v", err)
	}
	if _, err := NewRoot([]byte("short"), nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("short root key: %v", err)
	}
	noRandom, _ := NewRoot(bytes.Repeat([]byte{9}, KeyLen), bytes.NewReader(nil))
	if _, err := noRandom.Seal(PurposeInfo, nil, nil); err == nil {
		t.Error("sealed without randomness")
	}
}

func TestNameKeyIsKeyedAndCanonical(t *testing.T) {
	r := testRoot(t)
	other, _ := NewRoot(bytes.Repeat([]byte{8}, KeyLen), nil)
	a := mail.Address{Local: "Alice", Domain: "Example.ORG"}
	b := mail.Address{Local: "alice", Domain: "example.org"}
	if r.NameKey(a) != r.NameKey(b) || r.NameShard(a) != r.NameShard(b) {
		t.Error("the same address has two names")
	}
	if r.NameKey(b) == other.NameKey(b) {
		t.Error("the name does not depend on the root key")
	}
	if r.NameKey(b) == r.NameKey(mail.Address{Local: "alic", Domain: "eexample.org"}) {
		t.Error("the halves of the address run together")
	}
	if r.NameShard(b) >= store.Shards {
		t.Error("no such shard")
	}
}

func TestRecords(t *testing.T) {
	o := testKey(t, 1)
	sealed, err := o.SealRecord("folder", []byte("7"), []byte("Love letters"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.OpenRecord("folder", []byte("7"), sealed)
	if err != nil || string(got) != "Love letters" {
		t.Fatalf("%q %v", got, err)
	}
	for _, c := range []struct{ purpose, aad string }{{"folders", "7"}, {"folder", "8"}, {"folde", "r7"}} {
		if _, err := o.OpenRecord(c.purpose, []byte(c.aad), sealed); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("opened as %v: %v", c, err)
		}
	}
	if _, err := testKey(t, 2).OpenRecord("folder", []byte("7"), sealed); errs.KindOf(err) != errs.Corrupt {
		t.Errorf("opened by another account: %v", err)
	}
	if _, err := o.SealRecord(strings.Repeat("x", 256), nil, nil); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a purpose of 256 bytes: %v", err)
	}
}

func TestClosedKeyDoesNothing(t *testing.T) {
	o := testKey(t, 1)
	c := NewChains(ChainOptions{})
	slot, err := c.Next(o.ID(), o.Public())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := o.SealRecord("x", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.MailKey(slot.Chain, slot.Encap, 0); err != nil {
		t.Fatal(err)
	}
	o.Close()
	o.Close()
	if o.seed != [SeedLen]byte{} || o.record != [KeyLen]byte{} || o.chains.live != nil {
		t.Error("secrets are left after Close")
	}
	_, err = o.SealRecord("x", nil, nil)
	wantKind(t, err, errs.Unavailable)
	_, err = o.OpenRecord("x", nil, sealed)
	wantKind(t, err, errs.Unavailable)
	_, err = o.MailKey(slot.Chain, slot.Encap, 0)
	wantKind(t, err, errs.Unavailable)
	_, err = o.Wrap("password", passhash.Cost{Time: 1, Memory: 8, Threads: 1})
	wantKind(t, err, errs.Unavailable)
	_, err = o.AppendSeed(nil)
	wantKind(t, err, errs.Unavailable)
}

func TestWrap(t *testing.T) {
	o := testKey(t, 1)
	p := passhash.Cost{Time: 1, Memory: 8, Threads: 1}
	b, err := o.Wrap("correct horse", p)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, o.seed[:]) {
		t.Fatal("the seed lies open")
	}
	w, err := ParseWrapped(b)
	if err != nil || w.Params != p {
		t.Fatalf("%v %v", w.Params, err)
	}
	got, err := w.Unwrap(o.ID(), o.Public(), "correct horse")
	if err != nil || got.seed != o.seed {
		t.Fatal(err)
	}
	_, err = w.Unwrap(o.ID(), o.Public(), "correct horsf")
	wantKind(t, err, errs.Auth)
	_, err = w.Unwrap(AccountID{9}, o.Public(), "correct horse")
	wantKind(t, err, errs.Auth)
	_, err = w.Unwrap(o.ID(), testKey(t, 2).Public(), "correct horse")
	wantKind(t, err, errs.Auth)
	again, err := o.Wrap("correct horse", p)
	if err != nil || bytes.Equal(b, again) {
		t.Error("two wrappings are equal: no salt?")
	}
	if _, err := o.Wrap("x", passhash.Cost{}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("zero parameters: %v", err)
	}
}

// Whatever way a secret is printed, nothing of it is seen.
func TestSecretsAreRedacted(t *testing.T) {
	root, key := testRoot(t), testKey(t, 0x41)
	mk, err := MailKeyOf(bytes.Repeat([]byte{0x42}, KeyLen))
	if err != nil {
		t.Fatal(err)
	}
	slot := &Slot{Key: mk}
	for _, v := range []any{root, key, mk, slot, struct{ K *Opened }{key}, *slot} {
		var b strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(j)
		slog.New(slog.NewJSONHandler(&b, nil)).InfoContext(context.Background(), "x", "v", v)
		slog.New(slog.NewTextHandler(&b, nil)).InfoContext(context.Background(), "x", "v", v)
		out := b.String()
		for _, leak := range []string{"AAAAAAAA", "BBBBBBBB", "41414141", "42424242", "65 65 65", "66 66 66", "0x41, 0x41", "0x42, 0x42", "QUFBQU"} {
			if strings.Contains(out, leak) {
				t.Errorf("%T shows %q in %q", v, leak, out)
			}
		}
		if !strings.Contains(out, secret.Text) {
			t.Errorf("%T does not say that it is a secret", v)
		}
	}
}

func TestMailKey(t *testing.T) {
	k, err := NewMailKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.SealPart(PartBody, 3, []byte("chunk"))
	if err != nil || len(sealed) != SealedLen(5) {
		t.Fatalf("%d %v", len(sealed), err)
	}
	same, err := MailKeyOf(k.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	got, err := same.OpenPart(PartBody, 3, sealed)
	if err != nil || string(got) != "chunk" {
		t.Fatalf("%q %v", got, err)
	}
	for _, c := range []struct {
		p Part
		n uint32
	}{{PartBody, 2}, {PartSummary, 3}} {
		_, err := same.OpenPart(c.p, c.n, sealed)
		wantKind(t, err, errs.Corrupt)
	}
	_, err = k.SealPart(PartBody, 3, []byte("other"))
	wantKind(t, err, errs.Conflict)
	if _, err := k.SealPart(PartSummary, 3, nil); err != nil {
		t.Errorf("another part: %v", err)
	}
	if _, err := MailKeyOf(nil); !errors.Is(err, errs.Invalid) {
		t.Errorf("empty key: %v", err)
	}
}
