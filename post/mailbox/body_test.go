package mailbox

import (
	"bytes"
	"context"
	"io"
	"strings"
	"syscall"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/blob"
	"postern.email/post/seal"
)

// TestReadAt reads pieces around every border of chunks and of the mail.
func TestReadAt(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	for i, size := range []int{1000, MaxInline + 1, 2 * blob.Chunk, 2*blob.Chunk + 1, 500_000} {
		raw := mailOf(i, size)
		w.deliver(raw, k)
		e := mustView(t, a, Inbox).At(i)
		body, err := a.Body(ctx, Inbox, e)
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(raw)
		for _, at := range []int{0, 1, size / 2, blob.Chunk - 1, blob.Chunk, blob.Chunk + 1, 2*blob.Chunk - 1, size - 1, size, size + 1} {
			for _, n := range []int{0, 1, 2, 1000, blob.Chunk, 3 * blob.Chunk} {
				got, want := make([]byte, n), make([]byte, n)
				gn, gerr := body.ReadAt(got, int64(at))
				wn, werr := r.ReadAt(want, int64(at))
				if n == 0 {
					werr, gerr = nil, nil // both are allowed
				}
				if gn != wn || gerr != werr || !bytes.Equal(got, want) {
					t.Fatalf("size %d, ReadAt(%d bytes, %d): %d, %v; want %d, %v", size, n, at, gn, gerr, wn, werr)
				}
			}
		}
		if _, err := body.ReadAt(nil, -1); errs.KindOf(err) != errs.Invalid {
			t.Errorf("negative offset: %v", err)
		}
		body.Close()
	}
}

// TestBodyIsOpenWhileExpunged: who has opened a mail can read it to the end.
func TestBodyIsOpenWhileExpunged(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	raw := mailOf(1, 300_000)
	w.deliver(raw, k)
	e := mustView(t, a, Inbox).At(0)
	body, err := a.Body(ctx, Inbox, e)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	expungeAll(t, w, k, 1)
	var out bytes.Buffer
	if _, err := body.WriteTo(&out); err != nil || !bytes.Equal(out.Bytes(), raw) {
		t.Fatal("the open mail is not what it was", err)
	}
	if _, err := a.Body(ctx, Inbox, e); errs.KindOf(err) != errs.NotFound {
		t.Fatalf("Body of an expunged mail: %v", err)
	}
	if _, err := a.Summary(ctx, Inbox, e); errs.KindOf(err) != errs.NotFound {
		t.Fatalf("Summary of an expunged mail: %v", err)
	}
}

// TestDamagedFile: a body file that was changed, cut or lost is errs.Corrupt, never other bytes.
func TestDamagedFile(t *testing.T) {
	ctx := context.Background()
	raw := mailOf(1, 300_000)
	for name, damage := range map[string]func(b []byte) []byte{
		"changed": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"swapped": func(b []byte) []byte {
			n := seal.SealedLen(blob.Chunk)
			return append(append(bytes.Clone(b[n:2*n]), b[:n]...), b[2*n:]...)
		},
		"lost": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			k := w.user()
			a := w.boxes.Account(k, 0)
			w.deliver(raw, k)
			list, err := w.fs.List(w.blobDir())
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			path := w.fs.PathJoin(w.blobDir(), list[0])
			b, err := vfs.ReadFile(w.fs, path)
			if err != nil {
				t.Fatal(err)
			}
			if damage == nil {
				err = w.fs.Remove(path)
			} else {
				err = vfs.WriteFileAtomic(w.fs, path, damage(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := a.Body(ctx, Inbox, mustView(t, a, Inbox).At(0))
			if err == nil {
				_, err = body.WriteTo(io.Discard)
				body.Close()
			}
			if errs.KindOf(err) != errs.Corrupt {
				t.Fatalf("a damaged file gave %v", err)
			}
		})
	}
}

// failBlobs puts another user of the same blob files in place whose operation fails, until
// undo is called, which gives how many names it left in flight.
func failBlobs(w *world, op vfs.Op, err error) (undo func() (flights int)) {
	w.tb.Helper()
	faults := vfs.NewFaults(w.fs)
	failing, nerr := blob.New(faults, w.blobDir(), cryptoRand{})
	if nerr != nil {
		w.tb.Fatal(nerr)
	}
	faults.FailFrom(op, 1, err)
	old := w.boxes.blobs
	w.boxes.blobs = failing
	return func() int {
		w.boxes.blobs = old
		if err := failing.Close(); err != nil {
			w.tb.Error(err)
		}
		return failing.Flights()
	}
}

// TestPrepareLimits: what is refused leaves nothing behind.
func TestPrepareLimits(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, withOptions(func(o *Options) { o.MaxMessage = 200_000 }))
	k := w.user()
	to := []Target{{ID: k.ID(), Public: k.Public(), Box: Inbox}, {ID: k.ID(), Public: k.Public(), Box: 2}}
	if _, err := w.boxes.Prepare(ctx, Message{Raw: mailOf(1, 200_001)}, to); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("too large a mail: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := w.boxes.Prepare(ended, Message{Raw: mailOf(1, 100_000)}, to); errs.KindOf(err) != errs.Canceled {
		t.Errorf("a caller that gave up: %v", err)
	}
	for op, kind := range map[vfs.Op]errs.Kind{vfs.OpCreate: errs.NoSpace, vfs.OpWrite: errs.NoSpace, vfs.OpSync: errs.NoSpace, vfs.OpSyncDir: errs.NoSpace} {
		undo := failBlobs(w, op, syscall.ENOSPC)
		_, err := w.boxes.Prepare(ctx, Message{Raw: mailOf(1, 100_000)}, to)
		if n := undo(); n != 0 {
			t.Errorf("%d names are thought to be in flight after a failure at %v", n, op)
		}
		if errs.KindOf(err) != kind {
			t.Errorf("a full disk at %v: %v", op, err)
		}
	}
	if n := blobFiles(t, w); n != 0 {
		t.Errorf("%d files left behind", n)
	}
	if n := w.boxes.blobs.Flights(); n != 0 {
		t.Errorf("%d names are thought to be in flight", n)
	}
	// Without hard links every recipient gets a copy.
	undo := failBlobs(w, vfs.OpLink, syscall.EPERM)
	raw := mailOf(1, 100_000)
	d, err := w.boxes.Prepare(ctx, Message{Raw: raw}, to)
	undo()
	if err != nil {
		t.Fatal(err)
	}
	err = w.boxes.update(ctx, k.ID(), func(t *txn) error {
		if _, err := d.put(t, 0); err != nil {
			return err
		}
		_, err := d.put(t, 1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d.Discard()
	a := w.boxes.Account(k, 0)
	for _, box := range []uint32{Inbox, 2} {
		if !bytes.Equal(readBody(t, a, box, mustView(t, a, box).At(0)), raw) {
			t.Error("a copied body is damaged")
		}
	}
	w.check()
}

// TestPutErrors: no such mailbox, no such account, no such target.
func TestPutErrors(t *testing.T) {
	w := newWorld(t)
	k := w.user()
	stranger, err := seal.Generate(seal.AccountID{1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.tryDeliver(mailOf(1, 300), stranger); errs.KindOf(err) != errs.NotFound {
		t.Errorf("no such account: %v", err)
	}
	a := w.boxes.Account(k, 0)
	if _, _, err := a.Append(context.Background(), 99, Message{Raw: mailOf(1, 300)}); errs.KindOf(err) != errs.NotFound || errs.Public(err) != "no such mailbox" {
		t.Errorf("no such mailbox: %v", err)
	}
	d := w.prepareFor(k, mailOf(1, 300))
	if _, err := d.Put(nil, 1); errs.KindOf(err) != errs.Invalid {
		t.Errorf("no such target: %v", err)
	}
	many := make([]Message, maxAppend+1)
	if _, _, err := a.AppendMany(context.Background(), Inbox, many); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("too many mails: %v", err)
	}
	if _, err := a.Copy(context.Background(), Inbox, make([]uint32, 0, 1), 99); errs.KindOf(err) != errs.NotFound {
		t.Errorf("COPY to no mailbox: %v", err)
	}
	many2 := make([]uint32, maxCopy+1)
	for i := range many2 {
		many2[i] = uint32(i + 1)
	}
	if _, err := a.Copy(context.Background(), Inbox, many2, 2); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("COPY of too many: %v", err)
	}
}

// TestOddMails: no header end, nothing at all, a huge header, many parts.
func TestOddMails(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t)
	k := w.user()
	a := w.boxes.Account(k, 0)
	var parts strings.Builder
	parts.WriteString("Content-Type: multipart/mixed; boundary=x\r\n\r\n")
	for range 12_000 {
		parts.WriteString("--x\r\nContent-Type: text/plain; name=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nContent-Description: bbbbbbbbbbbbbbbbbbbbb\r\n\r\n\r\n")
	}
	parts.WriteString("--x--\r\n")
	mails := []string{"", "x", "Subject: a\r\n", "\r\n", "no colon here\r\n\r\nbody", "Subject: a\n\nb",
		"X: " + strings.Repeat("y", MaxHeader) + "\r\n\r\nbody", parts.String()}
	for i, raw := range mails {
		w.deliver([]byte(raw), k)
		e := mustView(t, a, Inbox).At(i)
		if got := readBody(t, a, Inbox, e); string(got) != raw {
			t.Errorf("mail %d is not what it was", i)
		}
		s, err := a.Summary(ctx, Inbox, e)
		if err != nil {
			t.Errorf("mail %d: %v", i, err)
			continue
		}
		if _, err := s.Structure(); err != nil || s.Size != int64(len(raw)) || !strings.HasPrefix(raw, string(s.Header)) {
			t.Errorf("mail %d: %v", i, err)
		}
	}
	if s, _ := a.Summary(ctx, Inbox, mustView(t, a, Inbox).At(7)); s != nil {
		root, err := s.Structure()
		if err != nil || len(root.Parts) < 1000 {
			t.Errorf("the structure of many parts was lost: %v", err)
		}
	}
	// However many ask, few whole mails are in memory for it, and who gives up waits no longer.
	for range maxRemakes {
		w.boxes.remakes <- struct{}{}
	}
	ctx, cancel := context.WithCancel(ctx)
	cancelled := make(chan error, 1)
	s, err := a.Summary(ctx, Inbox, mustView(t, a, Inbox).At(7))
	if err != nil || s.Size != int64(len(mails[7])) {
		t.Fatalf("a summary waits for the structure: %v", err)
	}
	go func() {
		_, err := s.Structure()
		cancelled <- err
	}()
	cancel()
	if err := <-cancelled; err == nil || errs.KindOf(err) != errs.Canceled {
		t.Errorf("one more is parsed: %v", err)
	}
	w.check()
}
