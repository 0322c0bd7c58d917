package pool

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/replay"
)

var began = time.UnixMilli(1_800_000_000_000)

func source(seed byte) rand.Source { return rand.NewChaCha8([32]byte{seed}) }

func newPool[T any](t testing.TB, c Config, seed byte) Pool[T] {
	t.Helper()
	p, err := New[T](c, began, source(seed))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openLog(t testing.TB, fs vfs.FS, change func(*replay.Options)) *replay.Log {
	t.Helper()
	o := replay.Options{FS: fs, Dir: "/data/mixlog", Secret: bytes.Repeat([]byte{7}, 32), Rand: rand.NewChaCha8([32]byte{1}), MinFree: 1}
	if change != nil {
		change(&o)
	}
	l, err := replay.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newMix(t testing.TB, l *replay.Log, c Config, change func(*Options)) *Mix {
	t.Helper()
	o := Options{Log: l, Config: c, Source: source(9)}
	if change != nil {
		change(&o)
	}
	m, err := NewMix(o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func record(n int, due time.Time) replay.Record {
	b := make([]byte, 31_536)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	r := replay.Record{Key: 1, Body: b, Due: due, Next: replay.NodeID{byte(n), byte(n >> 8)}}
	binary.BigEndian.PutUint64(r.Tag[:], uint64(n))
	return r
}

func number(p *Packet) int { return int(p.Next()[0]) | int(p.Next()[1])<<8 }

func wantKind(t testing.TB, what string, err error, k errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != k {
		t.Errorf("%s: %v, want %v", what, err, k)
	}
}
