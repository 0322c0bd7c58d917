package account

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/errs"
)

func TestGrace(t *testing.T) {
	clock := newClock()
	var hashes atomic.Int64
	a := office(t, func(o *Options) { o.Now = clock.Now; o.hash = func(f func()) { hashes.Add(1); f() } })
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	clock.Add(24 * time.Hour) // a session keeps its key
	again := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	again.Close()
	again.Close() // twice gives back one reference only
	if _, err := s.Key.SealRecord("x", nil, nil); err != nil {
		t.Fatal(err)
	}
	s.Close()
	clock.Add(DefaultGrace - time.Second)
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1").Close()
	if hashes.Load() != 1 {
		t.Fatalf("%d hashes within the grace", hashes.Load())
	}
	clock.Add(DefaultGrace)
	login(t, a, "alice@example.org", "correct horse", "192.0.2.1").Close()
	if hashes.Load() != 2 {
		t.Fatalf("%d hashes: the grace did not end", hashes.Load())
	}
	none := office(t, func(o *Options) { o.Grace = -1 })
	n := login(t, none, "alice@example.org", "correct horse", "192.0.2.1")
	n.Close()
	if l := none.Load(); l.KeysIdle+l.KeysUsed != 0 {
		t.Errorf("without grace: %+v", l)
	}
}

func TestIdleKeysAreBounded(t *testing.T) {
	a := office(t, func(o *Options) { o.MaxIdleKeys = 3 })
	held := login(t, a, "held@example.org", "correct horse", "192.0.2.1")
	var sessions []*Session
	for i := range 6 {
		s := login(t, a, fmt.Sprintf("user%d@example.org", i), "correct horse", "192.0.2.1")
		s.Close()
		sessions = append(sessions, s)
		if l := a.Load(); l.KeysIdle > 3 || l.KeysUsed != 1 {
			t.Fatalf("%+v", l)
		}
	}
	if _, err := sessions[0].Key.SealRecord("x", nil, nil); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("the key unused for longest is open: %v", err)
	}
	for _, s := range []*Session{held, sessions[5]} {
		if _, err := s.Key.SealRecord("x", nil, nil); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseErasesAll(t *testing.T) {
	a := office(t)
	s := login(t, a, "alice@example.org", "correct horse", "192.0.2.1")
	a.Close()
	_, err := s.Key.SealRecord("x", nil, nil)
	wantKind(t, err, errs.Unavailable, "")
	wantKind(t, try(a, "alice@example.org", "correct horse", "192.0.2.1"), errs.Unavailable, textClosed)
	s.Close()
	if a.ring.checkKey != [32]byte{} || len(a.ring.keys) != 0 {
		t.Error("secrets are left")
	}
}

func TestHandover(t *testing.T) {
	st := openStore(t, crvfs.NewMem())
	before := officeOn(t, st)
	held := login(t, before, "held@example.org", "correct horse", "192.0.2.1")
	sealed, err := held.Key.SealRecord("x", nil, []byte("letters"))
	if err != nil {
		t.Fatal(err)
	}
	login(t, before, "idle@example.org", "correct horse", "192.0.2.1").Close()
	changed := login(t, before, "changed@example.org", "correct horse", "192.0.2.1")
	deleted := login(t, before, "deleted@example.org", "correct horse", "192.0.2.1")

	f, err := Memfd()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if n, err := before.ExportKeys(f); err != nil || n != 4 {
		t.Fatalf("%d %v", n, err)
	}
	if err := before.Passwd(ctx, changed.Address, "correct horse", "battery staple"); err != nil {
		t.Fatal(err)
	}
	if err := before.Delete(ctx, deleted.Address); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}

	var hashes atomic.Int64
	after := officeOn(t, st, func(o *Options) { o.hash = func(f func()) { hashes.Add(1); f() } })
	if n, err := after.ImportKeys(ctx, f); err != nil || n != 2 {
		t.Fatalf("%d %v", n, err)
	}
	if l := after.Load(); l.KeysIdle != 2 || l.KeysUsed != 0 {
		t.Errorf("%+v", l)
	}
	s := login(t, after, "held@example.org", "correct horse", "192.0.2.1")
	login(t, after, "idle@example.org", "correct horse", "192.0.2.1")
	if hashes.Load() != 0 {
		t.Errorf("%d hashes after a planned restart", hashes.Load())
	}
	if got, err := s.Key.OpenRecord("x", nil, sealed); err != nil || string(got) != "letters" {
		t.Errorf("%q %v", got, err)
	}
	wantKind(t, try(after, "held@example.org", "wrong horse", "192.0.2.1"), errs.Auth, textAuth)
	wantKind(t, try(after, "changed@example.org", "correct horse", "192.0.2.1"), errs.Auth, textAuth)
	login(t, after, "changed@example.org", "battery staple", "192.0.2.1")
	wantKind(t, try(after, "deleted@example.org", "correct horse", "192.0.2.1"), errs.Denied, textGone)

	var b bytes.Buffer
	if _, err := before.ExportKeys(&b); err != nil {
		t.Fatal(err)
	}
	_, err = after.ImportKeys(ctx, &b)
	wantKind(t, err, errs.Conflict, "")
}

func TestHandoverIsBounded(t *testing.T) {
	a := office(t, func(o *Options) { o.MaxIdleKeys = 3 })
	for i := range 5 {
		login(t, a, fmt.Sprintf("user%d@example.org", i), "correct horse", "192.0.2.1")
	}
	var b bytes.Buffer
	if n, err := a.ExportKeys(&b); err != nil || n != 3 {
		t.Fatalf("%d %v", n, err)
	}
	good := b.Bytes()
	if _, keys, err := decodeKeys(bytes.NewReader(good), 3); err != nil || len(keys) != 3 {
		t.Fatalf("%d %v", len(keys), err)
	}
	for name, bad := range map[string][]byte{
		"empty":      nil,
		"cut":        good[:len(good)-1],
		"longer":     append(bytes.Clone(good), 0),
		"magic":      append([]byte("x"), good[1:]...),
		"huge count": append(bytes.Clone(good[:handoverHead-4]), 0xff, 0xff, 0xff, 0xff),
	} {
		if _, _, err := decodeKeys(bytes.NewReader(bad), 3); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err := decodeKeys(bytes.NewReader(good), 2)
	wantKind(t, err, errs.Corrupt, "")
}
