package pebble

import (
	"log/slog"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/vfs"
)

// Defaults of Options. They keep an idle store below 40 MiB of memory.
const (
	DefaultCacheBytes    = 8 << 20
	DefaultMemTableBytes = 8 << 20
	DefaultGatherMax     = 2 * time.Millisecond
	DefaultMaxGroup      = 256
)

// Fixed bounds that no option changes.
const (
	// MaxGroupBytes ends a group early: once its transactions wrote this many
	// bytes, the rest waits for the next group. One transaction may be larger
	// (store.MaxTx) and then is a group of its own.
	MaxGroupBytes = 4 << 20

	// cachedTables is for how many memory tables the cache has room beside its own. Pebble
	// takes what they hold out of the cache, and while one is written out there are two: a cache
	// without that room is empty just when much is written, and each read goes to the disk.
	cachedTables = 2

	// MaxQueue is how many Updates may wait for the committer; more wait outside
	// until their context ends.
	MaxQueue = 1024
)

// Options of Open. The zero value of each field but Dir means its default.
type Options struct {
	// FS is the disk; nil means the machine's own.
	FS vfs.FS

	// Dir is the directory of the store. It is created if it does not exist.
	Dir string

	// Logger takes the engine's own remarks at debug level, and its failure at
	// error level. nil drops them.
	Logger *slog.Logger

	// CacheBytes bounds the cache of table blocks while records are written. It may use the
	// memory of a second memory table while there is none.
	CacheBytes int64

	// MemTableBytes bounds the newest records in memory; at most three times as
	// much is held while tables are written out.
	MemTableBytes int64

	// GatherMax is how long a group stays open for announced Updates (Intend).
	// Negative means not at all.
	GatherMax time.Duration

	// MaxGroup is how many Updates share one sync at most.
	MaxGroup int

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	defaults.Zero(&o.FS, vfs.OS())
	defaults.Logger(&o.Logger)
	defaults.Positive(&o.CacheBytes, DefaultCacheBytes)
	defaults.Positive(&o.MemTableBytes, DefaultMemTableBytes)
	defaults.Zero(&o.GatherMax, DefaultGatherMax)
	defaults.Positive(&o.MaxGroup, DefaultMaxGroup)
	defaults.Clock(&o.Now)
	return o
}
