package exit

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/kit/clocktest"
	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/token"
)

type issuerWorld struct {
	*Issuer
	t     testing.TB
	o     IssuerOptions
	clock *clocktest.Clock
}

func beginIssuer(t testing.TB, change ...func(*IssuerOptions)) *issuerWorld {
	t.Helper()
	w := &issuerWorld{t: t, clock: clocktest.New(someDay.Begin().Add(time.Hour))}
	w.o = IssuerOptions{FS: vfs.NewCrashDisk(), Dir: "tokens", Secret: []byte(strings.Repeat("s", 32)), PerDay: 3, Now: w.clock.Now,
		Generate: func() (*token.PrivateKey, error) { k, _ := tokenKeys(); return k, nil }}
	for _, f := range change {
		f(&w.o)
	}
	w.open()
	return w
}

func (w *issuerWorld) open() {
	w.t.Helper()
	i, err := OpenIssuer(w.o)
	must(w.t, err)
	w.Issuer = i
}

// request asks for n tokens of a day.
func (w *issuerWorld) request(day token.Day, n int) ([]byte, []*token.Blinded) {
	w.t.Helper()
	k, _ := tokenKeys()
	var list []*token.Blinded
	for range n {
		b, err := token.Blind(k.Public(), agenttest.Relay(w.t, "home.example"), day, rand.Reader)
		must(w.t, err)
		list = append(list, b)
	}
	return token.AppendRequest(nil, day, list), list
}

// TestIssue: what an issuer answers makes tokens that an exit takes.
func TestIssue(t *testing.T) {
	w := beginIssuer(t)
	req, list := w.request(someDay, 3)
	answer, err := w.Answer(ctx, []byte("alice"), req)
	must(t, err)
	sigs, err := token.ParseAnswer(answer, 3)
	must(t, err)
	e := begin(t)
	for i, s := range sigs {
		tok, err := list[i].Finish(s)
		must(t, err)
		v := e.anonymous("x", "bob@world.example")
		v.Mail.Token = tok.Bytes()
		must(t, e.Send(ctx, v))
	}
}

// TestPerDay: an account gets so many a day, however it asks and whenever the relay starts anew; what
// is asked again is answered again, and counts once.
func TestPerDay(t *testing.T) {
	w := beginIssuer(t)
	two, _ := w.request(someDay, 2)
	first, err := w.Answer(ctx, []byte("alice"), two)
	must(t, err)
	if len(first) != 2*token.BlindLen {
		t.Error(len(first))
	}
	for range 3 {
		again, err := w.Answer(ctx, []byte("alice"), two)
		if err != nil || !bytes.Equal(first, again) {
			t.Error("another answer to the same request", err)
		}
		must(t, w.Close())
		w.open()
	}
	// Of two more one is left.
	other, blinded := w.request(someDay, 2)
	for range 2 {
		last, err := w.Answer(ctx, []byte("alice"), other)
		sigs, perr := token.ParseAnswer(last, 2)
		if err != nil || perr != nil || len(sigs) != 1 {
			t.Fatal(len(sigs), err, perr)
		}
		_, err = blinded[0].Finish(sigs[0])
		must(t, err)
	}
	more, _ := w.request(someDay, 1)
	for range 2 {
		_, err = w.Answer(ctx, []byte("alice"), more)
		refused(t, err, errs.Denied, "3 tokens a day")
		_, err = w.Answer(ctx, []byte("alice"), two)
		refused(t, err, errs.Denied, "3 tokens a day")
		must(t, w.Close())
		w.open()
	}
	// Whoever has had its tokens costs no signature: what cannot be signed is not even looked at.
	bad := bytes.Clone(more)
	copy(bad[len(bad)-token.BlindLen:], bytes.Repeat([]byte{0xff}, token.BlindLen))
	_, err = w.Answer(ctx, []byte("bob"), bad)
	refused(t, err, errs.Invalid, "malformed")
	_, err = w.Answer(ctx, []byte("alice"), bad)
	refused(t, err, errs.Denied, "3 tokens a day")
	_, err = w.Answer(ctx, []byte("bob"), more)
	must(t, err)

	w.clock.Add(24 * time.Hour)
	_, err = w.Keys()
	must(t, err)
	_, err = w.Answer(ctx, []byte("alice"), more)
	refused(t, err, errs.Denied, "on their day only")
	next, _ := w.request(someDay+1, 3)
	_, err = w.Answer(ctx, []byte("alice"), next)
	must(t, err)
	if found := disktest.Holding(t, w.o.FS, "tokens", []byte("alice"), []byte("bob")); len(found) > 0 {
		t.Error("the disk names accounts:", found)
	}
}

// TestAnswerRefuses: what is no request, or for another day, counts for nothing.
func TestAnswerRefuses(t *testing.T) {
	w := beginIssuer(t, func(o *IssuerOptions) { o.MaxAccounts = 1 })
	good, _ := w.request(someDay, 3)
	_, err := w.Answer(ctx, []byte("alice"), []byte("postern-token 1 5"))
	refused(t, err, errs.Invalid, "malformed")
	bad := bytes.Clone(good)
	copy(bad[len(bad)-token.BlindLen:], bytes.Repeat([]byte{255}, token.BlindLen))
	_, err = w.Answer(ctx, []byte("alice"), bad)
	refused(t, err, errs.Invalid, "malformed")
	for _, day := range []token.Day{someDay - 1, someDay + 1} {
		req, _ := w.request(day, 1)
		_, err = w.Answer(ctx, []byte("alice"), req)
		refused(t, err, errs.Denied, "on their day only")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err = w.Answer(gone, []byte("alice"), good); errs.KindOf(err) != errs.Canceled {
		t.Error(err)
	}
	_, err = w.Answer(ctx, []byte("alice"), good)
	must(t, err)
	_, err = w.Answer(ctx, []byte("bob"), good)
	refused(t, err, errs.Busy, "too many accounts")

	// Around midnight both days will do.
	w.clock.Add(-time.Hour - directory.MaxSkew + time.Second)
	req, _ := w.request(someDay, 1)
	_, err = w.Answer(ctx, []byte("alice"), req)
	refused(t, err, errs.Denied, "had them")
}

// TestKeys: the keys of all days that count, the same after a new start, sealed on the disk; old ones go.
func TestKeys(t *testing.T) {
	made := 0
	w := beginIssuer(t, func(o *IssuerOptions) {
		generate := o.Generate
		o.Generate = func() (*token.PrivateKey, error) { made++; return generate() }
	})
	days := func() (out []token.Day) {
		t.Helper()
		keys, err := w.Keys()
		must(t, err)
		for _, k := range keys {
			out = append(out, token.Day(k.Day))
			if _, err := token.ParseKey(k.Key); err != nil {
				t.Error(err)
			}
		}
		return out
	}
	if got := days(); !slices.Equal(got, []token.Day{someDay, someDay + 1}) || made != 2 {
		t.Error(got, made)
	}
	w.open()
	w.clock.Add(24 * time.Hour)
	if got := days(); !slices.Equal(got, []token.Day{someDay, someDay + 1, someDay + 2}) || made != 3 {
		t.Error(got, made)
	}
	k, _ := tokenKeys()
	plain := k.Marshal()
	if found := disktest.Holding(t, w.o.FS, "tokens", plain[40:80], plain[len(plain)-60:len(plain)-20]); len(found) > 0 {
		t.Error("a key lies open:", found)
	}
	w.clock.Add(5 * 24 * time.Hour)
	if got := days(); !slices.Equal(got, []token.Day{someDay, someDay + 1, someDay + 2, someDay + 6, someDay + 7}) {
		t.Error(got)
	}
	w.clock.Add(3 * 24 * time.Hour)
	days()
	names, err := w.o.FS.List("tokens")
	must(t, err)
	slices.Sort(names)
	if !slices.Equal(names, []string{"token-20486.key", "token-20487.key", "token-20489.key", "token-20490.key"}) {
		t.Error(names)
	}
	o := w.o
	o.Secret = []byte(strings.Repeat("t", 32))
	_, err = OpenIssuer(o)
	refused(t, err, errs.Corrupt, "damaged")
	must(t, vfs.WriteFileAtomic(w.o.FS, "tokens/token-20486.key", []byte("x"), 0o600))
	_, err = OpenIssuer(w.o)
	refused(t, err, errs.Corrupt, "damaged")
}

// TestIssuerOptions: what cannot be is refused.
func TestIssuerOptions(t *testing.T) {
	for _, change := range []func(*IssuerOptions){func(o *IssuerOptions) { o.FS = nil }, func(o *IssuerOptions) { o.Dir = "" }, func(o *IssuerOptions) { o.Secret = o.Secret[:31] },
		func(o *IssuerOptions) { o.PerDay = token.MaxRequest + 1 }, func(o *IssuerOptions) { o.PerDay = -1 }} {
		o := beginIssuer(t).o
		change(&o)
		if _, err := OpenIssuer(o); errs.KindOf(err) != errs.Invalid {
			t.Error(err)
		}
	}
	if w := beginIssuer(t, func(o *IssuerOptions) { o.PerDay = 0 }); w.Issuer.o.PerDay != DefaultTokens {
		t.Error(w.Issuer.o.PerDay)
	}
}

// TestIssuerRun: a new key is there when its day begins, also where a try failed.
func TestIssuerRun(t *testing.T) {
	tokenKeys()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		fail := false
		w := &issuerWorld{t: t, o: IssuerOptions{FS: vfs.NewCrashDisk(), Dir: "tokens", Secret: []byte(strings.Repeat("s", 32)),
			Generate: func() (*token.PrivateKey, error) {
				mu.Lock()
				defer mu.Unlock()
				if fail {
					fail = false
					return nil, errors.New("no key")
				}
				k, _ := tokenKeys()
				return k, nil
			}}}
		w.open()
		ctx, cancel := context.WithCancel(context.Background())
		told := make(chan []directory.TokenKey)
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx, func(k []directory.TokenKey) { told <- k }) }()
		for n := range 4 {
			mu.Lock()
			fail = n == 2
			mu.Unlock()
			start := time.Now()
			keys := <-told
			if len(keys) != n+3 || token.Day(keys[len(keys)-1].Day) != token.DayOf(time.Now())+1 {
				t.Errorf("%d keys, the last of day %d", len(keys), keys[len(keys)-1].Day)
			}
			want := time.Duration(0)
			if n == 2 {
				want = retryKeys
			}
			if late := time.Since((token.DayOf(start) + 1).Begin()); late != want {
				t.Errorf("after %v", late)
			}
		}
		cancel()
		must(t, <-done)
	})
}
