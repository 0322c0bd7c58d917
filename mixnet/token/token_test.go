package token

import (
	"bytes"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// keys are costly, so there are two for all tests.
var keys = sync.OnceValues(func() (a, b *PrivateKey) {
	a, err := GenerateKey(rand.Reader)
	if err == nil {
		b, err = GenerateKey(rand.Reader)
	}
	if err != nil {
		panic(err)
	}
	return a, b
})

var relay = packet.ID{1, 2, 3}

const day Day = 20_480

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func blind(t testing.TB, k *PrivateKey) *Blinded {
	t.Helper()
	b, err := Blind(k.Public(), relay, day, rand.Reader)
	must(t, err)
	return b
}

func issue(t testing.TB, k *PrivateKey) *Token {
	t.Helper()
	b := blind(t, k)
	sig, err := k.Sign(b.Request)
	must(t, err)
	out, err := b.Finish(sig)
	must(t, err)
	return out
}

// TestToken: what a relay signed blindly verifies, reads back, and no bit of it can be changed.
func TestToken(t *testing.T) {
	k, other := keys()
	tok := issue(t, k)
	now := day.Begin().Add(time.Hour)
	must(t, tok.Verify(k.Public(), now, 0))
	raw := tok.Bytes()
	back, err := Parse(raw)
	must(t, err)
	if len(raw) != Len || back.Day != day || back.Relay != relay || back.Nonce() != tok.Nonce() || !bytes.Equal(back.Bytes(), raw) {
		t.Errorf("%+v", back)
	}
	if err := back.Verify(other.Public(), now, 0); errs.KindOf(err) != errs.Auth || err == nil {
		t.Errorf("the key of another relay: %v", err)
	}
	for i := 1; i < Len; i += 7 {
		b := bytes.Clone(raw)
		b[i] ^= 1
		if x, err := Parse(b); err == nil && x.Verify(k.Public(), now, 24*1e4*time.Hour) == nil {
			t.Errorf("byte %d is not covered", i)
		}
	}
	for _, b := range [][]byte{nil, raw[:Len-1], append(bytes.Clone(raw), 0)} {
		if _, err := Parse(b); errs.KindOf(err) != errs.Invalid {
			t.Error(err)
		}
	}
	if _, err := Parse([]byte{2}); errs.KindOf(err) != errs.Unsupported {
		t.Error(err)
	}
}

// TestDays: a token is good on its day and the six that follow, with some skew.
func TestDays(t *testing.T) {
	k, _ := keys()
	tok := issue(t, k)
	for _, tt := range []struct {
		at   time.Time
		skew time.Duration
		good bool
	}{
		{day.Begin(), 0, true}, {day.Begin().Add(-time.Second), 0, false}, {day.Begin().Add(-time.Minute), time.Minute, true}, {day.Begin().Add(-time.Minute - time.Second), time.Minute, false},
		{(day + 7).Begin().Add(-time.Second), 0, true}, {(day + 7).Begin(), 0, false}, {(day + 7).Begin().Add(time.Minute - time.Second), time.Minute, true}, {(day + 7).Begin().Add(time.Minute), time.Minute, false},
	} {
		err := tok.Verify(k.Public(), tt.at, tt.skew)
		if (err == nil) != tt.good || err != nil && errs.KindOf(err) != errs.Denied {
			t.Errorf("%v, %v: %v", tt.at, tt.skew, err)
		}
	}
	if d := DayOf(day.Begin()); d != day || DayOf(day.Begin().Add(-1)) != day-1 || DayOf(time.Unix(-5, 0)) != 0 || day.GoodUntil() != (day+7).Begin() {
		t.Error(d)
	}
}

// TestBlindness: what the relay sees has nothing of the token in it, and differs each time also for
// one token.
func TestBlindness(t *testing.T) {
	k, other := keys()
	a, b := blind(t, k), blind(t, k)
	if bytes.Equal(a.Request, b.Request) {
		t.Error("two requests are the same")
	}
	sig, err := k.Sign(a.Request)
	must(t, err)
	again, err := k.Sign(a.Request)
	if err != nil || !bytes.Equal(sig, again) {
		t.Error("a relay could mark a token by how it signs", err)
	}
	if _, err := b.Finish(sig); errs.KindOf(err) != errs.Auth || err == nil {
		t.Errorf("the answer to another request: %v", err)
	}
	wrong, err := other.Sign(a.Request)
	if err == nil {
		_, err = a.Finish(wrong)
	}
	if err == nil {
		t.Error("a token by another key")
	}
	if _, err := a.Finish(sig[:10]); errs.KindOf(err) != errs.Auth || err == nil {
		t.Error(err)
	}
	tok, err := a.Finish(sig)
	must(t, err)
	for _, part := range [][]byte{tok.nonce[:], tok.sig[:32], tok.sig[len(tok.sig)-32:]} {
		if bytes.Contains(a.Request, part) || bytes.Contains(sig, part) {
			t.Error("the relay saw a part of the token")
		}
	}
}

// TestKeys: keys read back, and what is none is refused.
func TestKeys(t *testing.T) {
	k, _ := keys()
	back, err := ParsePrivateKey(k.Marshal())
	if err != nil || !bytes.Equal(back.Public().Bytes(), k.Public().Bytes()) {
		t.Error(err)
	}
	pub, err := ParseKey(k.Public().Bytes())
	must(t, err)
	must(t, issue(t, k).Verify(pub, day.Begin(), 0))
	even := k.Public().Bytes()
	even[KeyLen-1] &^= 1
	low := k.Public().Bytes()
	low[0] &= 0x7f
	for _, b := range [][]byte{nil, even, low, append(k.Public().Bytes(), 1)} {
		if _, err := ParseKey(b); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Errorf("%x: %v", b, err)
		}
	}
	if _, err := ParsePrivateKey([]byte("x")); errs.KindOf(err) != errs.Invalid || err == nil {
		t.Error(err)
	}
	for _, b := range [][]byte{nil, make([]byte, 10), bytes.Repeat([]byte{255}, BlindLen)} {
		if _, err := k.Sign(b); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Errorf("%x: %v", b, err)
		}
	}
}

// TestRequest: a request over the link reads back, and each fault of form is refused.
func TestRequest(t *testing.T) {
	k, _ := keys()
	a, b := blind(t, k), blind(t, k)
	raw := AppendRequest(nil, day, []*Blinded{a, b})
	d, list, err := ParseRequest(raw)
	if err != nil || d != day || len(list) != 2 || !bytes.Equal(list[0], a.Request) || !bytes.Equal(list[1], b.Request) {
		t.Errorf("%v %d %v", d, len(list), err)
	}
	for _, bad := range []string{"", "postern-token 1 5\n", "postern-token 1 5", "postern-token 2 5\n" + string(a.Request), "postern-token 1 05\n" + string(a.Request), "postern-token 1 4294967296\n" + string(a.Request),
		string(raw[:len(raw)-1]), string(raw) + "x", "postern-token 1 5\n" + string(make([]byte, (MaxRequest+1)*BlindLen))} {
		if _, _, err := ParseRequest([]byte(bad)); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
	if l, err := ParseAnswer(make([]byte, 2*BlindLen), 2); err != nil || len(l) != 2 {
		t.Error(err)
	}
	if l, err := ParseAnswer(make([]byte, 2*BlindLen), 3); err != nil || len(l) != 2 {
		t.Error(err)
	}
	for _, n := range []int{0, 1} {
		if _, err := ParseAnswer(make([]byte, 2*BlindLen), n); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Error(n, err)
		}
	}
}

// FuzzParse: what is a token has one form.
func FuzzParse(f *testing.F) {
	k, _ := keys()
	f.Add(issue(f, k).Bytes())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if x, err := Parse(b); err == nil {
			if !bytes.Equal(x.Bytes(), b) {
				t.Fatal("two forms")
			}
			_ = x.Verify(k.Public(), day.Begin(), 0)
		} else if kind := errs.KindOf(err); kind != errs.Invalid && kind != errs.Unsupported {
			t.Fatal(err)
		}
	})
}

// FuzzParseRequest: what is a request has one form, and is bounded.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte("postern-token 1 20480\n" + string(make([]byte, BlindLen))))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, list, err := ParseRequest(b)
		if err != nil {
			return
		}
		var all []*Blinded
		for _, x := range list {
			all = append(all, &Blinded{Request: x})
		}
		if len(list) > MaxRequest || !bytes.Equal(AppendRequest(nil, d, all), b) {
			t.Fatal("two forms")
		}
	})
}
