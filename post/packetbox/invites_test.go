package packetbox

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"
)

// TestInvites: an invitation is good for one account, until its day is over; its text is nowhere on
// the disk, and its record goes when its time is over.
func TestInvites(t *testing.T) {
	fs := vfs.NewCrashDisk()
	w := newWorld(t, withFS(fs))
	w.register(anna, 1)
	text, until, err := w.b.MakeInvite(ctx, rand.Reader, 2)
	if err != nil || until != start.Truncate(24*time.Hour).Add(48*time.Hour) || len(text) != 23 {
		t.Fatal(text, until, err)
	}
	other, _, err := w.b.MakeInvite(ctx, rand.Reader, 1)
	if err != nil || other == text {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "aaaaa-bbbbb-ccccc-ddddd", text[:22], text + "a"} {
		if err := w.b.UseInvite(ctx, bad, anna); errs.KindOf(err) != errs.Denied || errs.Public(err) != "the invitation is not valid: it was used, or its time is over" {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, again := range []string{text, strings.ToUpper(text), strings.ReplaceAll(text, "-", " ")} {
		if err := w.b.UseInvite(ctx, again, anna); err != nil {
			t.Error("the same account, again:", err)
		}
	}
	if err := w.b.UseInvite(ctx, text, ben); errs.KindOf(err) != errs.Denied {
		t.Error("another account used it too:", err)
	}
	w.reopen()
	list, err := w.b.Invites(ctx)
	if err != nil || len(list) != 2 || list[0].Used == list[1].Used {
		t.Error(list, err)
	}
	var said []string
	if err := w.b.Reveal(ctx, func(kind, text string) { said = append(said, kind+": "+text) }); err != nil {
		t.Fatal(err)
	}
	all := strings.Join(said, "\n")
	if !strings.Contains(all, "mix-name: an invitation until 2026-11-22, used by account "+anna.String()) || !strings.Contains(all, "mix-name: an invitation until 2026-11-21") {
		t.Error(all)
	}
	w.sound()
	w.clock.Add(48 * time.Hour)
	if err := w.b.UseInvite(ctx, other, ben); errs.KindOf(err) != errs.Denied {
		t.Error("one whose time is over was taken:", err)
	}
	if err := w.b.sweep(ctx, false); err != nil {
		t.Fatal(err)
	}
	if list, _ := w.b.Invites(ctx); len(list) != 1 {
		t.Error("after the sweep:", list)
	}
}

// TestInviteBounds: how long one may last, and how many there may be.
func TestInviteBounds(t *testing.T) {
	w := newWorld(t)
	for _, days := range []int{0, -1, MaxInviteDays + 1} {
		if _, _, err := w.b.MakeInvite(ctx, rand.Reader, days); errs.KindOf(err) != errs.Invalid || errs.Public(err) != "an invitation lasts for 1 to 365 days" {
			t.Error(days, err)
		}
	}
	if _, _, err := w.b.MakeInvite(ctx, bytes.NewReader(nil), 1); errs.KindOf(err) != errs.Internal {
		t.Error(err)
	}
	w.raw(1, func(tx store.Tx) error {
		for n := range MaxInvites {
			place := [placeLen]byte{byte(n), byte(n >> 8)}
			sealed, err := w.b.sealInvite(place, 1<<30, anna)
			if err == nil {
				err = tx.Set(nameKey(nameInvite, place), sealed)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if _, _, err := w.b.MakeInvite(ctx, rand.Reader, 1); errs.KindOf(err) != errs.Full {
		t.Error(err)
	}
}

// TestDamagedInvite: Check names one, and it is good for nobody.
func TestDamagedInvite(t *testing.T) {
	w := newWorld(t)
	text, _, err := w.b.MakeInvite(ctx, rand.Reader, 2)
	if err != nil {
		t.Fatal(err)
	}
	place, shard, _ := w.b.invitePlace(text)
	w.raw(shard, func(tx store.Tx) error { return tx.Set(nameKey(nameInvite, place), []byte("x")) })
	if err := w.b.UseInvite(ctx, text, anna); errs.KindOf(err) != errs.Corrupt {
		t.Error(err)
	}
	var found []Finding
	if err := w.b.Check(ctx, func(f Finding) { found = append(found, f) }); err != nil || len(found) != 1 || found[0].What != foundInvite {
		t.Error(found, err)
	}
}
