package pebble_test

import (
	"context"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/store"
	"postern.email/store/pebble"
	"postern.email/store/storetest"
)

// engine is the store with so little memory that small workloads reach its files.
var engine = storetest.Engine{
	OneLog: true,
	Open: func(ctx context.Context, fs vfs.FS, dir string) (store.Store, error) {
		db, err := pebble.Open(ctx, pebble.Options{FS: fs, Dir: dir, MemTableBytes: 64 << 10, CacheBytes: 1 << 20})
		if err != nil {
			return nil, err
		}
		return db, nil
	},
}

func TestMain(m *testing.M) { storetest.Main(m, engine) }

func TestSuite(t *testing.T) { storetest.Run(t, engine) }
