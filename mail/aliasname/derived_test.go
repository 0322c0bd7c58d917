package aliasname

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/derived.json anew")

// vector is one line of testdata/derived.json, which addon/ reads as well.
type vector struct {
	Key    string `json:"key"` // hex
	Domain string `json:"domain"`
	Label  string `json:"label"`
	N      uint32 `json:"n"`
	Local  string `json:"local"`
}

type vectors struct {
	Derived   []vector `json:"derived"`
	NotOfForm []string `json:"not_of_form"` // DerivedForm says no
	NotOfKey  []vector `json:"not_of_key"`  // of the form, but not made by the key for the domain
}

func vectorFile(t testing.TB) vectors {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "derived.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func keyOf(t testing.TB, h string) (key [KeyLen]byte) {
	t.Helper()
	raw, err := hex.DecodeString(h)
	if err != nil || len(raw) != KeyLen {
		t.Fatalf("%q is no key", h)
	}
	copy(key[:], raw)
	return key
}

func testKey(n int) (key [KeyLen]byte) {
	copy(key[:], fmt.Sprintf("alias key %022d", n))
	return key
}

func makeVectors() vectors {
	var v vectors
	zero, one := [KeyLen]byte{}, testKey(1)
	var count [KeyLen]byte
	for i := range count {
		count[i] = byte(i)
	}
	for _, c := range []struct {
		key    [KeyLen]byte
		domain string
		label  string
		n      uint32
	}{
		{zero, "example.org", "", 0},
		{count, "example.org", "shop.example", 0},
		{count, "example.org", "shop.example", 1},
		{count, "example.org", "shop.example", 0xffffffff},
		{count, "EXAMPLE.org", "Shop.Example", 0}, // as the first: capitals do not count
		{count, "alias.example.net", "shop.example", 0},
		{count, "xn--bcher-kva.example", "bücher.example", 0},
		{count, "xn--bcher-kva.example", "BÜCHER.example", 0}, // only ASCII is folded
		{one, "example.org", strings.Repeat("a long label ", 30), 7},
		{one, "example.org", "日本", 2},
		{testKey(2), "example.org", "shop.example", 0},
	} {
		v.Derived = append(v.Derived, vector{hex.EncodeToString(c.key[:]), c.domain, c.label, c.n, Derive(&c.key, c.domain, c.label, c.n)})
	}
	good := v.Derived[1].Local
	v.NotOfForm = []string{
		"", good[:19], good + "a", strings.Repeat("a", 20),
		swap(good, 1), swap(good, 18), "1" + good[1:], good[:9] + "-" + good[10:], good[:19] + "8",
		otherVersion(good),
	}
	changed := parts{}
	changed, _ = parse(good)
	changed.tag ^= 1
	v.NotOfKey = []vector{
		{v.Derived[1].Key, "example.org", "shop.example", 0, changed.String()},
		{v.Derived[1].Key, "example.net", "shop.example", 0, good},
		{v.Derived[0].Key, "example.org", "shop.example", 0, good},
	}
	return v
}

// swap exchanges two neighbouring characters.
func swap(s string, i int) string {
	return s[:i] + s[i+1:i+2] + s[i:i+1] + s[i+2:]
}

// otherVersion gives the same with version 2 and a right check sum.
func otherVersion(local string) string {
	head, _ := readChars(local[:9])
	b := appendChars(nil, head&(1<<41-1)|2<<41, 9)
	b = append(b, local[9:18]...)
	return string(appendChars(b, uint64(checkSum(b)), 2))
}

// TestVectors: the file that every implementation is tested with is what this one makes.
func TestVectors(t *testing.T) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetIndent("", "  ")
	if err := enc.Encode(makeVectors()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("testdata", "derived.json")
	if *update {
		if err := os.WriteFile(name, buf.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(raw, buf.Bytes()) {
		t.Fatalf("testdata/derived.json is not what is made now:\n%s", buf.Bytes())
	}
	for _, v := range vectorFile(t).Derived {
		key := keyOf(t, v.Key)
		if got := Derive(&key, v.Domain, v.Label, v.N); got != v.Local {
			t.Errorf("%s, %q, %d: %q, want %q", v.Domain, v.Label, v.N, got, v.Local)
		}
		if !DerivedForm(v.Local) || !DerivedForm(strings.ToUpper(v.Local)) || !Verify(&key, v.Domain, strings.ToUpper(v.Local)) {
			t.Errorf("%q is not recognized", v.Local)
		}
	}
	for _, s := range vectorFile(t).NotOfForm {
		if DerivedForm(s) {
			t.Errorf("%q passes for a derived one", s)
		}
	}
	for _, v := range vectorFile(t).NotOfKey {
		key := keyOf(t, v.Key)
		if !DerivedForm(v.Local) || Verify(&key, v.Domain, v.Local) {
			t.Errorf("%q of %s: form %v, verified", v.Local, v.Domain, DerivedForm(v.Local))
		}
	}
}

// TestDerivedErrors: one wrong character, and two neighbours exchanged, are always found by the
// form alone.
func TestDerivedErrors(t *testing.T) {
	key := testKey(3)
	for n := range uint32(50) {
		local := Derive(&key, "example.org", "shop.example", n)
		for i := range len(local) {
			for _, c := range derivedLetters {
				wrong := local[:i] + string(c) + local[i+1:]
				if wrong != local && DerivedForm(wrong) {
					t.Fatalf("%q for %q has the form", wrong, local)
				}
			}
			if i+1 < len(local) {
				if wrong := swap(local, i); wrong != local && DerivedForm(wrong) {
					t.Fatalf("%q for %q has the form", wrong, local)
				}
			}
		}
	}
}

// TestTag: a local part with the form that nobody derived fits no key, whichever bit of the tag
// is another, and neither does one of another domain.
func TestTag(t *testing.T) {
	key := testKey(4)
	p, ok := parse(Derive(&key, "example.org", "a", 0))
	if !ok || !Verify(&key, "example.org", p.String()) {
		t.Fatal("not its own")
	}
	for bit := range tagBits {
		q := p
		q.tag ^= 1 << bit
		if !DerivedForm(q.String()) || Verify(&key, "example.org", q.String()) {
			t.Errorf("bit %d of the tag does not count", bit)
		}
	}
	for i := range p.nonce {
		q := p
		q.nonce[i] ^= 1
		if Verify(&key, "example.org", q.String()) {
			t.Errorf("byte %d of the nonce does not count", i)
		}
	}
	for i := range key {
		other := key
		other[i] ^= 0x80
		if Verify(&other, "example.org", p.String()) {
			t.Errorf("byte %d of the key does not count", i)
		}
	}
	if Verify(&key, "example.net", p.String()) || !Verify(&key, "EXAMPLE.ORG", p.String()) {
		t.Error("the domain counts without its capitals")
	}
}

func TestFind(t *testing.T) {
	keys := [][KeyLen]byte{testKey(0), testKey(1), testKey(2), testKey(1)}
	for i, want := range []int{0, 1, 2, 1} {
		if got := Find(keys, "example.org", Derive(&keys[i], "example.org", "x", 9)); got != want {
			t.Errorf("key %d is found as %d", i, got)
		}
	}
	other := testKey(9)
	for _, s := range []string{Derive(&other, "example.org", "x", 9), "amber-falcon-48217", ""} {
		if got := Find(keys, "example.org", s); got != -1 {
			t.Errorf("%q is found as %d", s, got)
		}
	}
	if Find(nil, "example.org", Derive(&other, "example.org", "x", 9)) != -1 {
		t.Error("found among none")
	}
}

func TestMadeFor(t *testing.T) {
	key, other := testKey(5), testKey(6)
	local := Derive(&key, "example.org", "Shop.Example", 2)
	for _, c := range []struct {
		key           [KeyLen]byte
		domain, label string
		most          uint32
		want          bool
	}{
		{key, "example.org", "shop.example", 3, true}, {key, "example.org", "shop.example", 2, false}, {key, "example.org", "bank.example", 3, false},
		{other, "example.org", "shop.example", 3, false}, {key, "example.net", "shop.example", 3, false},
	} {
		if got := MadeFor(&c.key, c.domain, local, c.label, c.most); got != c.want {
			t.Errorf("%s, %s, %d: %v", c.domain, c.label, c.most, got)
		}
	}
	if MadeFor(&key, "example.org", "amber-falcon-48217", "shop.example", 9) {
		t.Error("a handle that nobody derived was made for a label")
	}
}

// FuzzDerived: what has the form is read and written again to the same, in lower case, and no
// text makes it fail.
func FuzzDerived(f *testing.F) {
	v := vectorFile(f)
	for _, d := range v.Derived {
		f.Add(d.Local, d.Domain)
	}
	for _, s := range v.NotOfForm {
		f.Add(s, "")
	}
	key := testKey(7)
	f.Fuzz(func(t *testing.T, local, domain string) {
		p, ok := parse(local)
		if ok != DerivedForm(local) {
			t.Fatal("form and parser differ")
		}
		if ok && p.String() != strings.ToLower(local) {
			t.Fatalf("%q becomes %q", local, p.String())
		}
		if Verify(&key, domain, local) {
			t.Fatal("guessed")
		}
	})
}
