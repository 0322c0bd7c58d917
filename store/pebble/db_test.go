package pebble_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"postern.email/store"
	"postern.email/store/pebble"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	db, err := pebble.Open(ctx, pebble.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Open(ctx, pebble.Options{Dir: dir}); err == nil {
		t.Fatal("second open")
	} else {
		t.Log(err)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 20 {
				done := db.Intend()
				err := db.Update(ctx, store.Shard(i), func(tx store.Tx) error {
					return tx.Set(fmt.Appendf(nil, "k%d", j), bytes.Repeat([]byte("CANARY"), 300))
				})
				done()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%+v", db.Stats())
	err = db.Update(ctx, 3, func(tx store.Tx) error { return tx.DeleteRange(nil, nil) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 64 {
		err = db.Update(ctx, store.Shard(i), func(tx store.Tx) error { return tx.DeleteRange(nil, nil) })
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(dir + "/*")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		t.Log(filepath.Base(f), len(b), bytes.Contains(b, []byte("CANARY")))
	}
	if f, err := db.Check(ctx); len(f) != 0 || err != nil {
		t.Error(f, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
