package account

import (
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
)

// TestByNumber: the account of a number as it is now, blocked or not, and none when it is gone.
func TestByNumber(t *testing.T) {
	a := office(t)
	s := login(t, a, "alice@example.org", "a long password", "192.0.2.1")
	s.Close()
	got, err := a.ByNumber(t.Context(), s.ID)
	if err != nil || got.Address != s.Address || got.Blocked {
		t.Errorf("%v %v", got, err)
	}
	if err := a.Block(t.Context(), s.Address); err != nil {
		t.Fatal(err)
	}
	if got, err := a.ByNumber(t.Context(), s.ID); err != nil || !got.Blocked {
		t.Errorf("%v %v", got, err)
	}
	if err := a.Delete(t.Context(), s.Address); err != nil {
		t.Fatal(err)
	}
	for _, id := range []seal.AccountID{s.ID, {1}} {
		if _, err := a.ByNumber(t.Context(), id); errs.KindOf(err) != errs.NotFound {
			t.Error(err)
		}
	}
}

// TestUsed: an account that is used without logins is not removed as unused.
func TestUsed(t *testing.T) {
	clock := newClock()
	a := office(t, func(o *Options) { o.Now = clock.Now })
	used := login(t, a, "alice@example.org", "a long password", "192.0.2.1")
	unused := login(t, a, "bob@example.org", "a long password", "192.0.2.1")
	used.Close()
	unused.Close()
	clock.Add(60 * 24 * time.Hour)
	if err := a.Used(t.Context(), used.ID); err != nil {
		t.Fatal(err)
	}
	clock.Add(60 * 24 * time.Hour)
	if _, err := a.sweep(t.Context(), map[seal.AccountID]time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ByNumber(t.Context(), used.ID); err != nil {
		t.Error("it was in use:", err)
	}
	if _, err := a.ByNumber(t.Context(), unused.ID); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
	if err := a.Used(t.Context(), unused.ID); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
}
