package wallet

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/exit"
	"postern.email/kit/clocktest"
	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/token"
)

var ctx = context.Background()

const someDay token.Day = 20_480

// key is costly, so there is one for all tests.
var key = sync.OnceValue(func() *token.PrivateKey {
	k, err := token.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

// world is a wallet of an account of home.example, whose relay has a real issuer.
type world struct {
	*Wallet
	t      testing.TB
	o      Options
	clock  *clocktest.Clock
	net    *agenttest.MixNet
	issuer *exit.Issuer

	mu   sync.Mutex
	asks int
	fail error // of the answers, after the issuer has counted
}

func begin(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: clocktest.New(someDay.Begin().Add(time.Hour)), net: agenttest.NewMixNet(t, "home.example")}
	var err error
	w.issuer, err = exit.OpenIssuer(exit.IssuerOptions{FS: vfs.NewCrashDisk(), Dir: "tokens", Secret: []byte(strings.Repeat("s", 32)), PerDay: 5, Now: w.clock.Now,
		Generate: func() (*token.PrivateKey, error) { return key(), nil }})
	must(t, err)
	w.publish()
	mask := func(b []byte) ([]byte, error) {
		out := bytes.Clone(b)
		for i := range out {
			out[i] ^= 0x5a
		}
		return out, nil
	}
	w.o = Options{FS: vfs.NewCrashDisk(), Dir: "account", Seal: mask, Open: mask, Relay: agenttest.Relay(t, "home.example"), Batch: 3, Now: w.clock.Now,
		Consensus: func() (*directory.Consensus, error) { return w.net.Consensus, nil },
		Fetch: func(ctx context.Context, request []byte) ([]byte, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asks++
			b, err := w.issuer.Answer(ctx, []byte("alice"), request)
			if w.fail != nil {
				return nil, w.fail
			}
			return b, err
		}}
	for _, f := range change {
		f(&w.o)
	}
	must(t, vfs.MkdirAll(w.o.FS, "account", 0o700))
	w.open()
	return w
}

// publish puts the relay's keys into the directory.
func (w *world) publish() {
	w.t.Helper()
	var err error
	w.net.Consensus.Nodes[0].TokenKeys, err = w.issuer.Keys()
	must(w.t, err)
}

func (w *world) open() {
	w.t.Helper()
	x, err := Open(w.o)
	must(w.t, err)
	w.Wallet = x
}

func (w *world) get() *token.Token {
	w.t.Helper()
	b, err := w.Take(ctx)
	must(w.t, err)
	t, err := token.Parse(b)
	must(w.t, err)
	must(w.t, t.Verify(key().Public(), w.clock.Now(), 0))
	return t
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t testing.TB, err error, kind errs.Kind, words string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || !strings.Contains(errs.Public(err), words) {
		t.Errorf("%v (%v, %q), want %v with %q", err, errs.KindOf(err), errs.Public(err), kind, words)
	}
}

// TestTake: tokens come in batches, each is given out once, also after a new start, and when those of
// the day are used up, that is said.
func TestTake(t *testing.T) {
	w := begin(t)
	var nonces [][32]byte
	for i := range 5 {
		n := w.get().Nonce()
		if slices.Contains(nonces, n) {
			t.Fatal("a token was given out twice")
		}
		nonces = append(nonces, n)
		if want := []int{2, 1, 0, 1, 0}[i]; w.Have() != want {
			t.Errorf("%d left, want %d", w.Have(), want)
		}
		w.open()
	}
	if w.asks != 2 {
		t.Errorf("asked %d times", w.asks)
	}
	_, err := w.Take(ctx)
	refused(t, err, errs.Busy, "used up")

	w.clock.Add(24 * time.Hour)
	w.publish()
	if w.get().Day != someDay+1 {
		t.Error("a token of another day")
	}
}

// TestLostAnswer: what the relay gave and nobody heard is asked for again, and counts once.
func TestLostAnswer(t *testing.T) {
	w := begin(t)
	w.fail = errs.E("test", errs.Unavailable, "", nil)
	for range 3 {
		_, err := w.Take(ctx)
		refused(t, err, errs.Unavailable, "cannot be asked")
	}
	w.fail = nil
	for range 5 {
		w.get()
	}
}

// TestExpired: tokens that a mail would outlive are not given out.
func TestExpired(t *testing.T) {
	w := begin(t)
	w.get()
	w.clock.Add(someDay.GoodUntil().Sub(w.clock.Now()) - spare - time.Second)
	if w.Have() != 2 {
		t.Error(w.Have())
	}
	w.clock.Add(time.Second)
	if w.Have() != 0 {
		t.Error(w.Have())
	}
	w.publish()
	if w.get().Day != someDay+2 {
		t.Error("an old token")
	}
}

// TestNoTokens: each reason for which there are none has its words.
func TestNoTokens(t *testing.T) {
	w := begin(t)
	take := func(kind errs.Kind, words string) {
		t.Helper()
		_, err := w.Take(ctx)
		refused(t, err, kind, words)
	}
	keys := w.net.Consensus.Nodes[0].TokenKeys
	w.net.Consensus.Nodes[0].TokenKeys = nil
	take(errs.Unsupported, "gives no tokens")
	w.net.Consensus.Nodes[0].TokenKeys = keys[1:]
	take(errs.Unavailable, "no key for tokens of today")
	w.net.Consensus.Nodes[0].TokenKeys = []directory.TokenKey{{Day: uint32(someDay), Key: make([]byte, token.KeyLen)}}
	take(errs.Invalid, "malformed")
	w.net.Consensus.Nodes[0].TokenKeys = keys
	w.fail = errs.E("test", errs.NotFound, "", nil)
	take(errs.Unsupported, "gives no tokens")
	w.fail = nil
	w.Wallet.o.Consensus = func() (*directory.Consensus, error) { return nil, errs.NotFound }
	take(errs.Unavailable, "no directory")
	w.Wallet.o.Consensus = func() (*directory.Consensus, error) { return &directory.Consensus{}, nil }
	take(errs.Unavailable, "not in the directory")
	w.open()
	w.Wallet.o.Fetch = func(context.Context, []byte) ([]byte, error) { return make([]byte, token.BlindLen), nil }
	take(errs.Auth, "no token")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	w.fetching <- struct{}{}
	if _, err := w.Take(gone); errs.KindOf(err) != errs.Canceled {
		t.Error(err)
	}
}

// TestManyTake: of many at one time each gets a token of its own, and the relay is asked as rarely as it
// can be.
func TestManyTake(t *testing.T) {
	w := begin(t)
	var mu sync.Mutex
	seen := make(map[string]bool)
	var wg sync.WaitGroup
	for range 9 {
		wg.Go(func() {
			b, err := w.Take(ctx)
			if err != nil {
				if errs.KindOf(err) != errs.Busy {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if seen[string(b)] {
				t.Error("a token was given out twice")
			}
			seen[string(b)] = true
		})
	}
	wg.Wait()
	if len(seen) != 5 {
		t.Errorf("%d tokens", len(seen))
	}
}

// TestCrash cuts the disk before and after every sync: no token is given out twice.
func TestCrash(t *testing.T) {
	cuts := disktest.Cuts(1, func(n int64, after bool, u vfs.Unsynced) bool {
		disk := vfs.NewCrashDisk()
		must(t, vfs.MkdirAll(disk, "account", 0o700))
		var given, at []string
		cut := vfs.CutAt(disk, n, after, u, uint64(n), func() { at = slices.Clone(given) })
		w := begin(t, func(o *Options) { o.FS = cut.FS })
		for range 3 {
			b, err := w.Take(ctx)
			must(t, err)
			given = append(given, string(b))
		}
		d := cut.Disk()
		if d == nil {
			return false
		}
		w.o.FS = d
		if ok, err := vfs.Exists(d, "account"); !ok || err != nil {
			return true // before the world was there
		}
		w.open()
		for w.Have() > 0 {
			if b, err := w.Take(ctx); err != nil || slices.Contains(at, string(b)) {
				t.Errorf("cut %d: a token was given out twice (%v)", n, err)
			}
		}
		return true
	})
	if cuts < 8 {
		t.Errorf("only %d cuts", cuts)
	}
}

// TestBadDisk: a token that is still on the disk is not given out.
func TestBadDisk(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	w := begin(t, func(o *Options) { o.FS = faults })
	w.get()
	faults.FailFrom(vfs.OpSync, 1, errors.New("no sync"))
	if b, err := w.Take(ctx); errs.KindOf(err) != errs.Unavailable || b != nil {
		t.Error(err)
	}
	if w.Have() != 2 {
		t.Error(w.Have())
	}
}

// TestDamage: a damaged file is told, and the tokens are not readable in it.
func TestDamage(t *testing.T) {
	w := begin(t)
	tok := w.get().Bytes()
	w.open()
	other := w.Wallet.list[0].Bytes()
	if found := disktest.Holding(t, w.o.FS, "account", tok[37:69], other[37:69]); len(found) > 0 {
		t.Error("tokens lie open:", found)
	}
	b, err := vfs.ReadFile(w.o.FS, "account/"+FileName)
	must(t, err)
	for _, bad := range [][]byte{nil, b[:len(b)-1], append([]byte{0}, b[1:]...), append(bytes.Clone(b), 1)} {
		must(t, vfs.WriteFileAtomic(w.o.FS, "account/"+FileName, bad, 0o600))
		_, err := Open(w.o)
		refused(t, err, errs.Corrupt, "damaged")
	}
	if _, err := Open(Options{}); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
}

// FuzzDecode: what is a file of tokens has one form.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{version})
	f.Add(append([]byte{version, 1}, make([]byte, token.Len-1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decode(b)
		if err == nil && (!bytes.Equal(encode(list), b) || len(list) > MaxTokens) {
			t.Fatal("two forms")
		}
	})
}
