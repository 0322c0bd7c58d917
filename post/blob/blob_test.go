package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

const dir = "/data/blobs"

func open(t testing.TB, fs vfs.FS) *Files {
	t.Helper()
	s, err := New(fs, dir, rand.NewChaCha8([32]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newKey(t testing.TB) *seal.MailKey {
	t.Helper()
	k, err := seal.NewMailKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// names draws n names.
func names(t testing.TB, s *Files, n int) []Name {
	t.Helper()
	out, err := s.NewNames(n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// bytesOf makes n bytes that are not all alike.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

// readAll reads a body both ways and closes it.
func readAll(t testing.TB, b Body, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	var out bytes.Buffer
	if n, err := b.WriteTo(&out); err != nil || n != b.Size() {
		t.Fatalf("WriteTo gave %d of %d bytes, %v", n, b.Size(), err)
	}
	at := make([]byte, b.Size())
	if n, err := b.ReadAt(at, 0); n != len(at) || err != nil && err != io.EOF || !bytes.Equal(at, out.Bytes()) {
		t.Fatalf("ReadAt gave %d of %d bytes, %v", n, len(at), err)
	}
	return at
}

func wantKind(t testing.TB, what string, err error, k errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != k {
		t.Errorf("%s: %v, want %v", what, err, k)
	}
}

// TestRoundTrip: every size around the borders, in pieces cut anywhere, comes back, and the
// file has the length that FileLen says.
func TestRoundTrip(t *testing.T) {
	s := open(t, vfs.NewCrashDisk())
	for _, size := range []int{0, 1, 1000, Chunk - 1, Chunk, Chunk + 1, 2*Chunk - 1, 2 * Chunk, 2*Chunk + 1, 500_000} {
		text := bytesOf(size)
		for _, cut := range []int{0, 1, size / 2, Chunk, size - 1, size} {
			if cut < 0 || cut > size {
				continue
			}
			pieces := [][]byte{text[:cut], nil, text[cut:]}
			before := slices.Clone(pieces)
			k, ns := newKey(t), names(t, s, 1)
			n, err := s.Write(k, ns, pieces...)
			if err != nil || n != FileLen(int64(size)) {
				t.Fatalf("size %d: %d bytes, %v", size, n, err)
			}
			if onDisk, err := s.Size(ns[0]); err != nil || onDisk != n {
				t.Fatalf("size %d: %d bytes on disk, want %d, %v", size, onDisk, n, err)
			}
			b, err := s.Open(ns[0], k, int64(size))
			if got := readAll(t, b, err); !bytes.Equal(got, text) {
				t.Fatalf("size %d cut at %d: another text", size, cut)
			}
			for i := range pieces {
				if len(pieces[i]) != len(before[i]) {
					t.Fatal("the caller's pieces were changed")
				}
			}
			s.Landed(ns[0])
		}
	}
	if s.Flights() != 0 {
		t.Error("files are thought to be in flight")
	}
}

// TestReadAt reads pieces around every border, from a file and from memory.
func TestReadAt(t *testing.T) {
	s := open(t, vfs.NewCrashDisk())
	text := bytesOf(2*Chunk + 100)
	k, ns := newKey(t), names(t, s, 1)
	if _, err := s.Write(k, ns, text); err != nil {
		t.Fatal(err)
	}
	file, err := s.Open(ns[0], k, int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := bytes.NewReader(text)
	for _, b := range []Body{file, Memory(text)} {
		for _, at := range []int64{0, 1, Chunk - 1, Chunk, Chunk + 1, 2 * Chunk, int64(len(text)) - 1, int64(len(text)), int64(len(text)) + 9} {
			for _, n := range []int{1, 2, 1000, Chunk, 3 * Chunk} {
				x, y := make([]byte, n), make([]byte, n)
				gn, gerr := b.ReadAt(x, at)
				wn, werr := want.ReadAt(y, at)
				if gn != wn || gerr != werr || !bytes.Equal(x, y) {
					t.Fatalf("ReadAt(%d bytes, %d): %d, %v, want %d, %v", n, at, gn, gerr, wn, werr)
				}
			}
		}
		_, err := b.ReadAt(make([]byte, 1), -1)
		wantKind(t, "negative offset", err, errs.Invalid)
	}
}

// TestLinks: each name is a file of its own: removing one leaves the others. Without hard
// links they are copies.
func TestLinks(t *testing.T) {
	for _, links := range []bool{true, false} {
		faults := vfs.NewFaults(vfs.NewCrashDisk())
		if !links {
			faults.FailFrom(vfs.OpLink, 1, syscall.EPERM)
		}
		s := open(t, faults)
		text := bytesOf(200_000)
		k, ns := newKey(t), names(t, s, 3)
		if _, err := s.Write(k, ns, text); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Remove(ns[0]), s.Remove(ns[0])); err != nil {
			t.Fatal(err)
		}
		_, err := s.Open(ns[0], k, int64(len(text)))
		wantKind(t, "a removed file", err, errs.NotFound)
		_, err = s.Size(ns[0])
		wantKind(t, "a removed file's size", err, errs.NotFound)
		for _, n := range ns[1:] {
			b, err := s.Open(n, k, int64(len(text)))
			if !bytes.Equal(readAll(t, b, err), text) {
				t.Error("another text")
			}
		}
	}
}

// TestDamaged: a file that was changed, cut, or is another one's is errs.Corrupt, never other
// bytes.
func TestDamaged(t *testing.T) {
	fs := vfs.NewCrashDisk()
	s := open(t, fs)
	text := bytesOf(300_000)
	for name, damage := range map[string]func(b []byte) []byte{
		"changed": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":     func(b []byte) []byte { return b[:len(b)-1] },
		"longer":  func(b []byte) []byte { return append(b, 0) },
		"swapped": func(b []byte) []byte {
			n := seal.SealedLen(Chunk)
			return append(append(bytes.Clone(b[n:2*n]), b[:n]...), b[2*n:]...)
		},
	} {
		k, ns := newKey(t), names(t, s, 1)
		if _, err := s.Write(k, ns, text); err != nil {
			t.Fatal(err)
		}
		b, err := vfs.ReadFile(fs, s.path(ns[0]))
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFileAtomic(fs, s.path(ns[0]), damage(b), 0o600); err != nil {
			t.Fatal(err)
		}
		body, err := s.Open(ns[0], k, int64(len(text)))
		if err == nil {
			_, err = body.WriteTo(io.Discard)
			body.Close()
		}
		wantKind(t, name, err, errs.Corrupt)
	}
	k, ns := newKey(t), names(t, s, 1)
	if _, err := s.Write(k, ns, text); err != nil {
		t.Fatal(err)
	}
	body, err := s.Open(ns[0], newKey(t), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	_, err = body.ReadAt(make([]byte, 10), 0)
	wantKind(t, "another key", err, errs.Corrupt)
}

// TestFailures: what fails leaves no file and no flight, with the kind that fits.
func TestFailures(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	s := open(t, faults)
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir} {
		for err, kind := range map[error]errs.Kind{syscall.ENOSPC: errs.NoSpace, syscall.EDQUOT: errs.NoSpace, syscall.EIO: errs.Unavailable} {
			faults.FailNth(op, 1, err)
			_, err := s.Write(newKey(t), names(t, s, 2), bytesOf(200_000))
			wantKind(t, "a failing disk", err, kind)
		}
	}
	faults.FailFrom(vfs.OpLink, 1, syscall.EPERM)
	faults.FailNth(vfs.OpCreate, 2, syscall.ENOSPC) // the copy
	_, err := s.Write(newKey(t), names(t, s, 2), bytesOf(200_000))
	wantKind(t, "a copy that finds no room", err, errs.NoSpace)
	_, err = s.Write(newKey(t), nil, bytesOf(10))
	wantKind(t, "no name", err, errs.Invalid)
	used := newKey(t)
	if _, err := used.SealPart(seal.PartBody, 0, nil); err != nil {
		t.Fatal(err)
	}
	_, err = s.Write(used, names(t, s, 1), bytesOf(10))
	wantKind(t, "a key that was used", err, errs.Conflict)
	if list, err := faults.List(dir); err != nil || len(list) != 0 || s.Flights() != 0 {
		t.Errorf("%d files and %d flights are left, %v", len(list), s.Flights(), err)
	}
	if s, err = New(faults, dir, bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = s.NewNames(1)
	wantKind(t, "no randomness", err, errs.Internal)
}

// TestDurable: when Write has returned, a crash in any way leaves the whole file under
// each name.
func TestDurable(t *testing.T) {
	text := bytesOf(200_000)
	for _, mode := range []vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn} {
		disk := vfs.NewCrashDisk()
		s := open(t, disk)
		k, ns := newKey(t), names(t, s, 3)
		if _, err := s.Write(k, ns, text); err != nil {
			t.Fatal(err)
		}
		after := open(t, disk.Clone(mode, 3))
		for _, n := range ns {
			b, err := after.Open(n, k, int64(len(text)))
			if !bytes.Equal(readAll(t, b, err), text) {
				t.Errorf("%v: another text", mode)
			}
		}
	}
}

// TestFlights: a file in flight is not listed and not swept; EndFlight keeps it exactly if
// its record is there; what nobody names is swept.
func TestFlights(t *testing.T) {
	ctx := context.Background()
	disk := vfs.NewCrashDisk()
	s := open(t, disk)
	faults := vfs.NewFaults(disk)
	st, err := pebble.Open(ctx, pebble.Options{FS: faults, Dir: "/data/store"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	write := func() Name {
		ns := names(t, s, 1)
		if _, err := s.Write(newKey(t), ns, bytesOf(100)); err != nil {
			t.Fatal(err)
		}
		return ns[0]
	}
	list := func(want ...Name) {
		t.Helper()
		got, err := s.List()
		byName := func(a, b Name) int { return bytes.Compare(a[:], b[:]) }
		slices.SortFunc(got, byName)
		slices.SortFunc(want, byName)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("listed %v, %v, want %v", got, err, want)
		}
	}
	asked := false
	sweep := func(keep ...Name) {
		t.Helper()
		asked = false
		err := s.Sweep(st, func(named func(Name)) error {
			asked = true
			for _, n := range keep {
				named(n)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kept, lost, orphan := write(), write(), write()
	list()
	if sweep(); asked {
		t.Error("asked for the names that records hold, and there is no file")
	}
	err = st.Update(ctx, 3, func(tx store.Tx) error { return tx.Set([]byte("kept"), nil) })
	if err != nil {
		t.Fatal(err)
	}
	s.EndFlight(st, 3, []byte("kept"), kept)
	s.EndFlight(st, 3, []byte("lost"), lost)
	s.Landed(orphan)
	list(kept, orphan)
	boom := errors.New("boom")
	if err := s.Sweep(st, func(func(Name)) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("sweep: %v", err)
	}
	list(kept, orphan) // a failed reading of the records removes nothing
	// Files of others are left alone.
	f, err := disk.Create(dir+"/README", vfs.Unspecified)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	sweep(kept, Name{9})
	list(kept)
	if ok, err := vfs.Exists(disk, dir+"/README"); !ok || err != nil {
		t.Error("the sweep took a file that is none of its own")
	}
	// A store that has failed tells nothing about what was committed.
	doubt := write()
	faults.FailFrom(vfs.OpSync, 1, errors.New("the disk is gone"))
	if err := st.Update(ctx, 3, func(tx store.Tx) error { return tx.Set([]byte("doubt"), nil) }); err == nil || st.Health() == nil {
		t.Fatal("a failed sync was acknowledged")
	}
	s.EndFlight(st, 3, []byte("doubt"), doubt)
	list(kept, doubt)
	sweep()
	list(kept, doubt)
	if s.Flights() != 0 {
		t.Errorf("%d flights are left", s.Flights())
	}
}

// TestGolden: the form of a file is fixed. The key is used for this one file, so its bytes are.
func TestGolden(t *testing.T) {
	fs := vfs.NewCrashDisk()
	s := open(t, fs)
	k, err := seal.MailKeyOf(bytes.Repeat([]byte{0x42}, seal.KeyLen))
	if err != nil {
		t.Fatal(err)
	}
	n := Name{0xab, 0xcd}
	if _, err := s.Write(k, []Name{n}, bytesOf(70_000), bytesOf(80_000)); err != nil {
		t.Fatal(err)
	}
	b, err := vfs.ReadFile(fs, dir+"/abcd0000000000000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	const want = "4e9f7145ae3fc64493d907fe55b784a0edffaad2a0240467373ae4c323a47d9f"
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != want {
		t.Errorf("the file of %d bytes has the sum %x", len(b), sum)
	}
}

// FuzzName: a name that is read is written the same.
func FuzzName(f *testing.F) {
	f.Add(Name{1}.String())
	f.Add("ABCD0000000000000000000000000000")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := parseName(s); ok && n.String() != s {
			t.Errorf("%q is written as %q", s, n)
		}
	})
}
