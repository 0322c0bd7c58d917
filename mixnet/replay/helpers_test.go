package replay

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

const dir = "/data/mixlog"

var secret = bytes.Repeat([]byte{7}, 32)

// began is when the clocks of these tests begin.
var began = time.UnixMilli(1_800_000_000_000)

func options(fs vfs.FS) Options {
	return Options{FS: fs, Dir: dir, Secret: secret, Rand: rand.NewChaCha8([32]byte{1}), Now: clocktest.New(began).Now, MinFree: 1}
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// record makes the n-th packet of a test.
func record(key Key, n int) Record {
	return Record{Key: key, Tag: tagOf(n), Body: bodyOf(n, 31_536-n%3*1232), Due: began.Add(time.Duration(n) * time.Millisecond),
		Next: NodeID{byte(n), byte(n >> 8)}, Use: byte(n % 3)}
}

func tagOf(n int) (t Tag) {
	binary.BigEndian.PutUint64(t[8:], uint64(n))
	return t
}

func bodyOf(n, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{2, byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// add adds one record and fails the test if it is not fresh.
func add(t testing.TB, l *Log, r Record) *Entry {
	t.Helper()
	out, err := l.Add(t.Context(), r)
	if err != nil || out[0].Replay || (out[0].Entry == nil) != (r.Body == nil) {
		t.Fatalf("added %+v, %v", out, err)
	}
	return out[0].Entry
}

// isReplay adds a record and fails the test if its tag is not known.
func isReplay(t testing.TB, l *Log, r Record) {
	t.Helper()
	out, err := l.Add(t.Context(), r)
	if err != nil || !out[0].Replay || out[0].Entry != nil {
		t.Fatalf("a replay gave %+v, %v", out, err)
	}
}

// holds fails the test unless exactly the packets of ns wait in l, whole.
func holds(t testing.TB, l *Log, ns ...int) {
	t.Helper()
	waiting := l.Waiting()
	if len(waiting) != len(ns) {
		t.Fatalf("%d packets wait, want %d", len(waiting), len(ns))
	}
	buf := make([]byte, BufferLen)
	for i, n := range ns {
		e, want := waiting[i], record(1, n)
		got, err := l.Read(e, buf)
		if err != nil || !bytes.Equal(got, want.Body) {
			t.Fatalf("packet %d: another body, %v", n, err)
		}
		if e.Next != want.Next || !e.DueTime().Equal(want.Due) || e.Use != want.Use {
			t.Fatalf("packet %d: %+v", n, e)
		}
	}
}

func flush(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, what string, err error, k errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != k {
		t.Errorf("%s: %v, want %v", what, err, k)
	}
}

func files(t testing.TB, fs vfs.FS, suffix string) (names []string) {
	t.Helper()
	all, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all) // a disk in memory has no order
	for _, n := range all {
		if len(n) >= len(suffix) && n[len(n)-len(suffix):] == suffix {
			names = append(names, n)
		}
	}
	return names
}
