package letter

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// small cuts letters into fragments of MinPart bytes.
var small = Options{Room: sealLen + MinPart}

// sealedFragments gives the opened fragments of a letter of so many bytes.
func sealedFragments(t testing.TB, k *PrivateKey, n int, o Options) []*Fragment {
	t.Helper()
	s, err := Seal(k.Public(), Message{Content: noise(n)}, o)
	must(t, err)
	return openAll(t, k, s)
}

// TestLimits: beyond the number of letters or bytes those that have waited longest for a
// fragment are given up; one that is too long alone is refused; what is too old goes.
func TestLimits(t *testing.T) {
	k := testKey(t, "bob")
	add := func(a *Assembler, f *Fragment, at time.Time) error {
		_, err := a.Add(f, at)
		return err
	}
	a := NewAssembler(Limits{Letters: 3})
	var first []*Fragment
	for i := range 4 {
		list := sealedFragments(t, k, 3000, small)
		first = append(first, list[0])
		must(t, add(a, list[0], now.Add(time.Duration(i)*time.Second)))
		if i == 2 { // the first letter gets another fragment: now the second has waited longest
			f := *first[0]
			f.Index = 1
			f.Data = make([]byte, MinPart)
			must(t, add(a, &f, now.Add(10*time.Second)))
		}
	}
	if n, _ := a.Waiting(); n != 3 || a.parts[first[1].ID] != nil || a.parts[first[0].ID] == nil {
		t.Errorf("%d letters wait, not the ones that were last heard of", n)
	}
	a = NewAssembler(Limits{Bytes: 5 * MinPart})
	x, y := sealedFragments(t, k, 4000, small), sealedFragments(t, k, 4000, small)
	for i := range 3 {
		must(t, add(a, x[i], now))
	}
	for i := range 3 {
		must(t, add(a, y[i], now.Add(time.Second)))
	}
	if n, size := a.Waiting(); n != 1 || size != 3*MinPart || a.parts[y[0].ID] == nil {
		t.Errorf("%d letters, %d bytes", n, size)
	}
	long := sealedFragments(t, k, 6*MinPart, small)
	for i := range 5 {
		must(t, add(a, long[i], now.Add(time.Minute)))
	}
	wantKind(t, add(a, long[5], now.Add(time.Minute)), errs.TooLarge)
	if n, size := a.Waiting(); n != 0 || size != 0 {
		t.Errorf("%d letters, %d bytes", n, size)
	}
	a = NewAssembler(Limits{Length: 3000})
	wantKind(t, add(a, x[0], now), errs.TooLarge)
	a = NewAssembler(Limits{Bytes: 10})
	wantKind(t, add(a, x[0], now), errs.TooLarge)

	// Time: a day for letters that are not whole, and for the names of those that were.
	a = NewAssembler(Limits{Age: 24 * time.Hour})
	whole := sealedFragments(t, k, 10, small)
	must(t, add(a, whole[0], now))
	must(t, add(a, x[0], now))
	if !a.Knows(whole[0].ID) {
		t.Error("not known")
	}
	if n := a.Expire(now.Add(24 * time.Hour)); n != 0 || !a.Knows(whole[0].ID) {
		t.Errorf("%d given up after a day", n)
	}
	must(t, add(a, y[0], now.Add(24*time.Hour+time.Hour)))
	if n, _ := a.Waiting(); n != 1 || a.Knows(whole[0].ID) {
		t.Errorf("%d wait", n)
	}
	a = NewAssembler(Limits{Known: 2})
	for i := range 3 {
		f := sealedFragments(t, k, 10, small)[0]
		must(t, add(a, f, now.Add(time.Duration(i)*time.Second)))
		first[i] = f
	}
	if a.Knows(first[0].ID) || !a.Knows(first[1].ID) || !a.Knows(first[2].ID) {
		t.Error("the oldest name is forgotten first")
	}
	a.Forget(first[2].ID)
}

// TestStrangeFragments: fragments that do not fit their letter change nothing of it.
func TestStrangeFragments(t *testing.T) {
	bob, carol := testKey(t, "bob"), testKey(t, "carol")
	list := sealedFragments(t, bob, 3000, small)
	a := NewAssembler(Limits{})
	_, err := a.Add(list[0], now)
	must(t, err)
	for name, change := range map[string]func(f *Fragment){
		"length":      func(f *Fragment) { f.Length++ },
		"total":       func(f *Fragment) { f.Total++ },
		"index":       func(f *Fragment) { f.Index = f.Total },
		"coded":       func(f *Fragment) { f.N, f.K = 4, 3 },
		"size":        func(f *Fragment) { f.Data = f.Data[1:] },
		"not sealed":  func(f *Fragment) { f.to = nil },
		"another key": func(f *Fragment) { f.to = &carol.pub.name },
		"a code, as it should be": func(f *Fragment) {
			f.Header = newLayout(f.Length, len(f.Data), true).header(f.ID, 1)
		},
		"another length, as it should be": func(f *Fragment) { f.Header = newLayout(f.Length-1, len(f.Data), false).header(f.ID, 1) },
	} {
		f := *list[1]
		change(&f)
		if _, err := a.Add(&f, now); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if l := assemble(t, a, list); l == nil || len(l.Content) != 3000 {
		t.Error("the letter did not arrive")
	}
	// The zeros behind the whole are part of the form.
	last := list[len(list)-1]
	last.Data[len(last.Data)-1] = 1
	a = NewAssembler(Limits{})
	for _, f := range list[:len(list)-1] {
		_, err := a.Add(f, now)
		must(t, err)
	}
	_, err = a.Add(last, now)
	wantKind(t, err, errs.Invalid)
	if n, _ := a.Waiting(); n != 0 || !a.Knows(last.ID) {
		t.Error("a letter that is not in order stays")
	}
}

// TestState: an assembler goes on from its state, which has one form.
func TestState(t *testing.T) {
	k := testKey(t, "bob")
	a := NewAssembler(Limits{})
	var rest []*Fragment
	for _, o := range []Options{small, {Room: small.Room, Coded: true}} {
		list := sealedFragments(t, k, 20_000, o)
		for _, f := range list[:5] {
			_, err := a.Add(f, now)
			must(t, err)
		}
		rest = append(rest, list[5:]...)
	}
	done := sealedFragments(t, k, 5, small)[0]
	_, err := a.Add(done, now)
	must(t, err)
	_, open, err := Split(noise(3000), Options{Room: HeaderLen + MinPart}, bytes.NewReader(make([]byte, 16)))
	must(t, err)
	for i, b := range open {
		f, err := ParseFragment(b)
		must(t, err)
		if i > 0 {
			rest = append(rest, f)
			continue
		}
		_, err = a.Add(f, now)
		must(t, err)
	}
	state, err := a.AppendBinary([]byte("head"))
	must(t, err)
	b, err := ParseAssembler(state[4:], Limits{})
	must(t, err)
	again, err := b.AppendBinary(nil)
	must(t, err)
	if !bytes.Equal(again, state[4:]) {
		t.Fatal("another state")
	}
	if !b.Knows(done.ID) {
		t.Error("forgot a name")
	}
	whole := 0
	for _, f := range rest {
		l, err := b.Add(f, now)
		must(t, err)
		if l != nil {
			whole++
		}
	}
	if whole != 3 {
		t.Errorf("%d letters became whole", whole)
	}
	c, err := ParseAssembler(state[4:], Limits{Letters: 1})
	must(t, err)
	if n, _ := c.Waiting(); n != 1 {
		t.Errorf("%d letters with a bound of 1", n)
	}
	for i := range 60 {
		broken := slices.Clone(state[4:])
		broken = broken[:len(broken)-1-i*37]
		if _, err := ParseAssembler(broken, Limits{}); errs.KindOf(err) != errs.Corrupt || err == nil {
			t.Fatalf("cut by %d: %v", 1+i*37, err)
		}
	}
}

// TestStored: a fragment comes back from the form that is kept on disk.
func TestStored(t *testing.T) {
	k := testKey(t, "bob")
	list := sealedFragments(t, k, 5000, Options{Room: small.Room, Coded: true})
	var headers []Header
	a := NewAssembler(Limits{})
	var got *Letter
	for i, f := range list {
		b, err := f.AppendBinary(nil)
		must(t, err)
		for _, n := range []int{0, 1, 33, 50, len(b) - MinPart} {
			if _, err := ParseOpened(b[:n]); errs.KindOf(err) != errs.Corrupt || err == nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		g, err := ParseOpened(b)
		must(t, err)
		if Enough(headers, len(g.Data)) != (i >= 5) {
			t.Errorf("enough with %d of 5", i)
		}
		headers = append(headers, g.Header, g.Header)
		if l, err := a.Add(g, now); err != nil {
			t.Fatal(err)
		} else if l != nil {
			got = l
		}
	}
	if got == nil || len(got.Content) != 5000 {
		t.Error("not whole")
	}
	if Enough(nil, 10) || Enough([]Header{{}}, 10) {
		t.Error("enough of nothing")
	}
}

// TestHeader: a header has one form.
func TestHeader(t *testing.T) {
	_, list, err := Split(noise(5000), Options{Room: HeaderLen + MinPart, Coded: true}, bytes.NewReader(noise(16)))
	must(t, err)
	good := list[1]
	if _, err := ParseFragment(good); err != nil {
		t.Fatal(err)
	}
	for i := range HeaderLen {
		b := slices.Clone(good)
		b[i] ^= 1
		_, err := ParseFragment(b)
		want := errs.Invalid
		switch {
		case i == 0:
			want = errs.Unsupported
		case i >= 4 && i < 20: // another letter
			must(t, err)
			continue
		case i == 27, i == 34, i == 35: // another number; a length that gives as many parts
			must(t, err)
			continue
		}
		if errs.KindOf(err) != want || err == nil {
			t.Errorf("byte %d changed: %v, want %v", i, err, want)
		}
	}
	for _, b := range [][]byte{nil, good[:HeaderLen], good[:HeaderLen-1], good[:len(good)-1]} {
		if _, err := ParseFragment(b); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
	b := slices.Clone(good)
	binary.BigEndian.PutUint64(b[28:], MaxWhole+1)
	if _, err := ParseFragment(b); err == nil {
		t.Error("a whole beyond the bound")
	}
}

// TestOpen: a body that was changed anywhere, or is for somebody else, does not open.
func TestOpen(t *testing.T) {
	bob := testKey(t, "bob")
	s, err := Seal(bob.Public(), Message{Content: []byte("x")}, small)
	must(t, err)
	body := s.Bodies[0]
	if _, err := Open(testKey(t, "carol"), body); errs.KindOf(err) != errs.Auth {
		t.Errorf("another key: %v", err)
	}
	for _, i := range []int{0, encLen - 1, encLen, encLen + nonceLen, len(body) - 1} {
		b := slices.Clone(body)
		b[i] ^= 1
		if _, err := Open(bob, b); errs.KindOf(err) != errs.Auth {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for _, n := range []int{0, encLen, sealLen} {
		if _, err := Open(bob, body[:n]); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	// Somebody's own letter cannot have another's name.
	enc, sec, err := bob.pub.encapsulate()
	must(t, err)
	aead, err := sec.aead()
	must(t, err)
	h := newLayout(headLen, MinPart, false).header(ID{1}, 0)
	forged := append(slices.Clone(enc), make([]byte, nonceLen)...)
	forged = aead.Seal(forged, make([]byte, nonceLen), append(h.append(nil), make([]byte, MinPart)...), nil)
	if _, err := Open(bob, forged); errs.KindOf(err) != errs.Invalid {
		t.Errorf("a name that is not the exported one: %v", err)
	}
}

// TestTooLarge: bounds of what can be sent.
func TestTooLarge(t *testing.T) {
	k := testKey(t, "bob")
	_, err := Seal(k.Public(), Message{Content: make([]byte, MaxContent+1)}, plain)
	wantKind(t, err, errs.TooLarge)
	if got := errs.Public(err); got != "the message is too large for the mix network" {
		t.Error(got)
	}
	_, err = Seal(k.Public(), Message{Content: noise(10_000)}, Options{Room: sealLen + MinPart - 1})
	wantKind(t, err, errs.Invalid)
	_, err = Seal(k.Public(), Message{Sender: "me"}, plain)
	wantKind(t, err, errs.Invalid)
	_, err = Seal(k.Public(), Message{Signer: testSigner(t, "alice"), Sender: string(make([]byte, MaxSender+1))}, plain)
	wantKind(t, err, errs.Invalid)
	_, err = Seal(k.Public(), Message{Date: time.Unix(-1, 0)}, plain)
	wantKind(t, err, errs.Invalid)
	if n := Packets(100, Options{}); n != 0 {
		t.Error(n)
	}
}
