package verp

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
)

var update = flag.Bool("update", false, "write the vectors anew")

// vectors is testdata/verp.json, from which a second implementation can be tested.
type vectors struct {
	Key     string
	Returns []struct {
		Domain string
		Kind   Kind
		Day    uint16
		Ref    string
		Local  string
	}
	Reverses []struct{ Domain, Alias, Sender, ID, Local string }
}

const vectorFile = "testdata/verp.json"

func coder(t testing.TB) *Coder {
	t.Helper()
	var key [KeyLen]byte
	for i := range key {
		key[i] = byte(i)
	}
	c, err := New(&key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestVectors: both forms, byte for byte.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil || len(v.Returns) < 4 || len(v.Reverses) < 4 {
		t.Fatal(len(v.Returns), err)
	}
	c := coder(t)
	for i, x := range v.Returns {
		r := Return{Kind: x.Kind, Day: x.Day}
		if n, err := hex.Decode(r.Ref[:], []byte(x.Ref)); err != nil || n != RefLen {
			t.Fatal(n, err)
		}
		local, err := c.Return(x.Domain, r)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			v.Returns[i].Local = local
		} else if local != x.Local {
			t.Errorf("%s, want %s", local, x.Local)
		}
		got, err := c.OpenReturn(x.Domain, local, uint32(x.Day)+3, 7)
		if err != nil || got != r {
			t.Errorf("%+v, want %+v; %v", got, r, err)
		}
	}
	for i, x := range v.Reverses {
		local := c.Reverse(x.Domain, addr(t, x.Alias), addr(t, x.Sender))
		id, err := c.OpenReverse(x.Domain, local)
		if err != nil {
			t.Fatal(err)
		}
		if c.ReverseLocal(x.Domain, id) != local {
			t.Errorf("%s is not made of its id again", local)
		}
		if *update {
			v.Reverses[i].Local, v.Reverses[i].ID = local, hex.EncodeToString(id[:])
		} else if local != x.Local || hex.EncodeToString(id[:]) != x.ID {
			t.Errorf("%s of %x, want %s of %s", local, id, x.Local, x.ID)
		}
	}
	if *update {
		text, err := json.MarshalIndent(v, "", "\t")
		if err == nil {
			err = os.WriteFile(vectorFile, append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestForm: what is given out is an address that any host takes, whatever it does to its case, and is
// neither longer than a local part may be nor in the form of the other.
func TestForm(t *testing.T) {
	c := coder(t)
	ret, err := c.Return("alias.example", Return{Kind: Forwarded, Day: 20784, Ref: [RefLen]byte{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	rev := c.Reverse("alias.example", addr(t, "amber-falcon-4821@alias.example"), addr(t, "News@Shop.example"))
	for _, local := range []string{ret, rev} {
		if len(local) > mail.MaxLocal || local != strings.ToLower(local) {
			t.Errorf("%s has %d characters", local, len(local))
		}
		if a := addr(t, local+"@alias.example"); a.Local != local {
			t.Error(a)
		}
	}
	if !Made(ret) || !Made(rev) || Made("anna") || !IsReturn(ret) || IsReturn(rev) || !IsReverse(rev) || IsReverse(ret) {
		t.Error("the forms are not told apart")
	}
	for _, folded := range []string{strings.ToUpper(ret), strings.ToUpper(ret[:20]) + ret[20:]} {
		if r, err := c.OpenReturn("ALIAS.example", folded, 20784, 1); err != nil || r.Ref[2] != 3 || !IsReturn(folded) {
			t.Errorf("%s: %+v %v", folded, r, err)
		}
	}
	want, _ := c.OpenReverse("alias.example", rev)
	if got, err := c.OpenReverse("Alias.Example", strings.ToUpper(rev)); err != nil || got != want {
		t.Errorf("%x %v", got, err)
	}
	if again := c.Reverse("alias.example", addr(t, "Amber-Falcon-4821@ALIAS.example"), addr(t, "news@shop.EXAMPLE")); again != rev {
		t.Error("the same alias and sender have two reverse addresses")
	}
	if other := c.Reverse("alias.example", addr(t, "a@b.example"), addr(t, "c@d.example")); other == rev {
		t.Error("two senders have one reverse address")
	}
	for _, k := range []Kind{0, maxKind + 1} {
		if _, err := c.Return("a.example", Return{Kind: k}); errs.KindOf(err) != errs.Invalid {
			t.Errorf("kind %d: %v", k, err)
		}
	}
}

// TestForged: a change of any character, another domain and another key are found.
func TestForged(t *testing.T) {
	c := coder(t)
	ret, err := c.Return("alias.example", Return{Kind: Answered, Day: 100})
	if err != nil {
		t.Fatal(err)
	}
	rev := c.Reverse("alias.example", addr(t, "a@alias.example"), addr(t, "b@shop.example"))
	other, err := New(&[KeyLen]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	opens := func(c *Coder, domain, local string) errs.Kind {
		_, err := c.OpenReturn(domain, local, 100, 1)
		if IsReverse(local) {
			_, err = c.OpenReverse(domain, local)
		}
		if err == nil {
			return 255
		}
		return errs.KindOf(err)
	}
	for _, local := range []string{ret, rev} {
		if opens(c, "alias.example", local) != 255 {
			t.Fatal(local)
		}
		if k := opens(c, "other.example", local); k != errs.Auth {
			t.Errorf("in another domain: %v", k)
		}
		if k := opens(other, "alias.example", local); k != errs.Auth {
			t.Errorf("under another key: %v", k)
		}
		for i := strings.IndexByte(local, '.') + 1; i < len(local); i++ {
			x := byte('a')
			if local[i] == x {
				x = '7'
			}
			if k := opens(c, "alias.example", local[:i]+string(x)+local[i+1:]); k != errs.Auth {
				t.Errorf("character %d changed: %v", i, k)
			}
		}
	}
	for _, local := range []string{"", "bounce.", "re.", "anna", ret + "a", rev[:len(rev)-1], strings.Replace(ret, "b", "1", 2), "re." + strings.Repeat("ä", 21)} {
		if k := opens(c, "alias.example", local); k != errs.Invalid {
			t.Errorf("%q: %v", local, k)
		}
		if _, err := c.OpenReverse("alias.example", local); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", local, err)
		}
	}
	// Of the characters that decode alike one is right: an address has one form.
	last := rev[:len(rev)-1] + string(alphabetAfter(rev[len(rev)-1]))
	if k := opens(c, "alias.example", last); k != errs.Auth {
		t.Errorf("a second way of writing it: %v", k)
	}
}

func alphabetAfter(c byte) byte {
	const all = "abcdefghijklmnopqrstuvwxyz234567"
	return all[strings.IndexByte(all, c)+1]
}

// TestLife: a return address is good from the day before it was made to the end of its life, and days
// may count on past 16 bits.
func TestLife(t *testing.T) {
	c := coder(t)
	for _, day := range []uint32{20784, 65530} {
		local, err := c.Return("a.example", Return{Kind: Asked, Day: uint16(day)})
		if err != nil {
			t.Fatal(err)
		}
		for today, want := range map[uint32]bool{day - 2: false, day - 1: true, day: true, day + 7: true, day + 8: false, day + 30000: false, day + 40000: false} {
			_, err := c.OpenReturn("a.example", local, today, 7)
			if (err == nil) != want || err != nil && errs.KindOf(err) != errs.Denied {
				t.Errorf("made on %d, read on %d: %v", day, today, err)
			}
		}
		if _, err := c.OpenReturn("a.example", local, day+MaxLife+1, 1000); errs.KindOf(err) != errs.Denied {
			t.Errorf("beyond the longest life: %v", err)
		}
	}
}

// TestOpaque: nothing of what a return address refers to shows in it: two that differ in their last
// byte look like two that differ in all.
func TestOpaque(t *testing.T) {
	c := coder(t)
	a, _ := c.Return("a.example", Return{Kind: Forwarded, Day: 1})
	b, _ := c.Return("a.example", Return{Kind: Forwarded, Day: 1, Ref: [RefLen]byte{RefLen - 1: 1}})
	same := 0
	for i := len(ReturnPrefix); i < len(a); i++ {
		if a[i] == b[i] {
			same++
		}
	}
	if same > returnText/4 {
		t.Errorf("%d of %d characters are the same", same, returnText)
	}
}

// FuzzOpen: what is not made here is refused, and what is read is written again as it was.
func FuzzOpen(f *testing.F) {
	c := coder(f)
	ret, _ := c.Return("a.example", Return{Kind: Forwarded, Day: 9})
	f.Add(ret, "a.example")
	f.Add(c.Reverse("a.example", mail.Address{Local: "x", Domain: "a.example"}, mail.Address{Local: "y", Domain: "b.example"}), "a.example")
	f.Add("bounce."+strings.Repeat("a", returnText), "[192.0.2.1]")
	f.Fuzz(func(t *testing.T, local, domain string) {
		if r, err := c.OpenReturn(domain, local, 9, MaxLife); err == nil {
			again, err := c.Return(domain, r)
			if err != nil || !strings.EqualFold(again, local) {
				t.Fatalf("%q is written %q, %v", local, again, err)
			}
		} else if k := errs.KindOf(err); k != errs.Invalid && k != errs.Auth && k != errs.Denied {
			t.Fatal(err)
		}
		if _, err := c.OpenReverse(domain, local); err == nil && !IsReverse(local) {
			t.Fatal(local)
		}
	})
}
