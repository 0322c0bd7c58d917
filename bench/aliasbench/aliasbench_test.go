// Package aliasbench measures post/alias on a real disk, beside the engine alone in the same run.
package aliasbench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/alias"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/store/pebble"
)

const domain = "example.org"

var ctx = context.Background()

func open(b *testing.B) (*alias.Aliases, store.Store, *alias.Vault) {
	b.Helper()
	st, err := pebble.Open(ctx, pebble.Options{FS: vfs.OS(), Dir: b.TempDir() + "/store"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = st.Close() })
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		b.Fatal(err)
	}
	a, err := alias.Open(ctx, alias.Options{Store: st, Root: root, Names: names.New(st, root), Domains: []string{domain},
		MaxPerOwner: 10_000_000, Cache: 1, TriesPerSecond: -1, TriesNetwork: -1, Tried: 1})
	if err != nil {
		b.Fatal(err)
	}
	v, err := a.Begin(ctx, alias.Owner{1}, alias.BeginOptions{Target: mail.Address{Local: "x", Domain: "y.example"}})
	if err != nil {
		b.Fatal(err)
	}
	return a, st, v
}

func local(n int64) string { return "amber-falcon-" + strconv.FormatInt(n, 10) }

// BenchmarkCreate makes aliases from 64 writers at once, each durable when it returns.
func BenchmarkCreate(b *testing.B) {
	a, _, v := open(b)
	var n atomic.Int64
	b.SetParallelism(max(1, 64/parallel()))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := a.Create(ctx, v, alias.New{Local: local(n.Add(1)), Notes: alias.Notes{Site: "shop.example"}}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "aliases/s")
}

// BenchmarkEngineAlone writes as many bytes under as many keys with the engine alone.
func BenchmarkEngineAlone(b *testing.B) {
	_, st, _ := open(b)
	var n atomic.Int64
	value := make([]byte, 420)
	b.SetParallelism(max(1, 64/parallel()))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			k := []byte("z" + local(n.Add(1)))
			if err := st.Update(ctx, 9, func(tx store.Tx) error { return tx.Set(k, value) }); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

// BenchmarkLookup looks up one of many aliases, none of which is remembered.
func BenchmarkLookup(b *testing.B) {
	for _, many := range sizes() {
		b.Run(fmt.Sprint(many), func(b *testing.B) {
			a, _, v := open(b)
			fill(b, a, v, many)
			for i := int64(0); b.Loop(); i++ {
				addr := mail.Address{Local: local(i*7919%many + 1), Domain: domain}
				if _, err := a.Lookup(ctx, addr); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkTry tries a derived address that is nobody's with the keys of many owners.
func BenchmarkTry(b *testing.B) {
	a, _, _ := open(b)
	for i := range 9999 {
		v, err := a.Begin(ctx, alias.Owner{2, byte(i >> 8), byte(i)}, alias.BeginOptions{Target: mail.Address{Local: "x", Domain: "y.example"}})
		if err != nil {
			b.Fatal(err)
		}
		v.Close()
	}
	strange := [32]byte{9}
	for i := uint32(0); b.Loop(); i++ {
		addr := mail.Address{Local: aliasname.Derive(&strange, domain, "x", i), Domain: domain}
		if _, err := a.Resolve(ctx, addr, limits.Peer{}); err == nil {
			b.Fatal("it is somebody's")
		}
	}
}
