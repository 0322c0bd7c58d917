package deliver

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/mailbox"
	"postern.email/post/seal"
	"postern.email/post/seen"
	"postern.email/store"
)

// remember gives the office a memory for mails.
func (o *office) remember(st store.Store, now func() time.Time) *Deliver {
	o.t.Helper()
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		o.t.Fatal(err)
	}
	return New(Options{Store: st, Boxes: o.boxes, Now: now, Seen: seen.New(seen.Options{Store: st, Root: root})})
}

var proof = []byte("what makes this mail this mail")

// counts gives how many mails each has.
func (o *office) counts(keys []*seal.Opened) (n []int) {
	for _, k := range keys {
		n = append(n, len(o.inbox(k)))
	}
	return n
}

// LocalOnce is Local for a mail whose sender may not hear our answer and send it again: see
// Parcel.Proof.
func (m *Mail) LocalOnce(ctx context.Context, from mail.Address, rcpts []account.Account, raw []byte, proof ...[]byte) error {
	return m.Hand(ctx, Parcel{From: from, Local: rcpts, Head: raw, Proof: proof})
}

// TestOnce: who has the mail is passed over, who does not gets it, and the answer is yes;
// another mail, or one that cannot be told from others, always comes; after some days it is
// forgotten.
func TestOnce(t *testing.T) {
	o := open(t, vfs.NewCrashDisk())
	rcpts, keys := o.users(3)
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	c := &counted{Store: o.st}
	d := o.remember(c, func() time.Time { return now })
	send := func(to []account.Account, want string, proof ...[]byte) {
		t.Helper()
		if err := d.Begin().LocalOnce(t.Context(), from, to, []byte(text), proof...); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(o.counts(keys)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	send(rcpts[:1], "[1 0 0]", proof)
	send(rcpts[:1], "[1 0 0]", proof)
	send(rcpts[:2], "[1 1 0]", proof)
	send(rcpts[:2], "[1 1 0]", proof)
	send(append(rcpts[1:], rcpts...), "[1 1 1]", proof)
	send(rcpts, "[2 2 2]", []byte("another"))
	send(rcpts, "[3 3 3]")
	send(rcpts, "[4 4 4]")
	now = now.Add(3 * 24 * time.Hour)
	send(rcpts[:1], "[4 4 4]", proof)
	now = now.Add(24 * time.Hour)
	send(rcpts[:1], "[5 4 4]", proof)
	send(rcpts[:1], "[5 4 4]", proof)
	if err := d.Begin().Local(t.Context(), from, rcpts[:1], []byte(text)); err != nil || len(o.inbox(keys[0])) != 6 {
		t.Error("mail of our own users is held back", err)
	}
	if c.intents != 0 {
		t.Errorf("%d announcements left", c.intents)
	}
}

// TestOnceOnlyWithACopy: a mail that was refused is not remembered.
func TestOnceOnlyWithACopy(t *testing.T) {
	o := open(t, vfs.NewCrashDisk())
	rcpts, keys := o.users(2)
	d := o.remember(o.st, nil)
	full := append([]account.Account(nil), rcpts...)
	full[1].Quota = 10
	if err := d.Begin().LocalOnce(t.Context(), from, full, []byte(text), proof); errs.KindOf(err) != errs.Full {
		t.Fatal(err)
	}
	if err := d.Begin().LocalOnce(t.Context(), from, rcpts, []byte(text), proof); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(o.counts(keys)); got != "[1 1]" {
		t.Error(got)
	}
}

// TestOnceTogether: the same mail by many sessions at one time, with a body inside the
// store and with one in a file: all hear yes, one copy is kept and no file is left over.
func TestOnceTogether(t *testing.T) {
	o := open(t, vfs.NewCrashDisk())
	rcpts, keys := o.users(3)
	d := o.remember(o.st, nil)
	large := append([]byte(text), bytes.Repeat([]byte("x\r\n"), 30_000)...)
	for i, raw := range [][]byte{[]byte(text), large} {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := d.Begin().LocalOnce(context.Background(), from, rcpts, raw, proof, raw); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got, want := fmt.Sprint(o.counts(keys)), fmt.Sprint([]int{i + 1, i + 1, i + 1}); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if err := o.boxes.Check(t.Context(), func(f mailbox.Finding) { t.Error(f.What) }); err != nil {
		t.Error(err)
	}
}

// TestOnceAfterACut: at every sync of a delivery the disk is cut. On what is left the same
// mail is sent again by a sender who did not hear the answer: then each recipient has it, once.
func TestOnceAfterACut(t *testing.T) {
	disk := vfs.NewCrashDisk()
	var mu sync.Mutex
	var cuts []*vfs.CrashDisk
	armed := false
	o := open(t, vfs.NewSyncPoints(disk, func(vfs.SyncPoint) {
		mu.Lock()
		defer mu.Unlock()
		for _, lost := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
			if armed {
				cuts = append(cuts, disk.Clone(lost, uint64(len(cuts))))
			}
		}
	}))
	arm := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		armed = on
	}
	rcpts, keys := o.users(3)
	d := o.remember(o.st, nil)
	large := append([]byte(text), bytes.Repeat([]byte("x\r\n"), 30_000)...)
	arm(true)
	for _, raw := range [][]byte{[]byte(text), large} {
		if err := d.Begin().LocalOnce(t.Context(), from, rcpts, raw, proof, raw); err != nil {
			t.Fatal(err)
		}
	}
	arm(false)
	if len(cuts) < 12 {
		t.Fatalf("%d cuts", len(cuts))
	}
	had := map[string]int{}
	for i, cut := range cuts {
		after := open(t, cut)
		had[fmt.Sprint(after.counts(keys))]++
		d := after.remember(after.st, nil)
		for range 2 {
			for _, raw := range [][]byte{[]byte(text), large} {
				if err := d.Begin().LocalOnce(t.Context(), from, rcpts, raw, proof, raw); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := fmt.Sprint(after.counts(keys)); got != "[2 2 2]" {
			t.Errorf("cut %d: %s", i, got)
		}
	}
	if had["[0 0 0]"] == 0 || had["[2 2 2]"] == 0 {
		t.Errorf("the cuts do not lie before and behind the deliveries: %v", had)
	}
}
