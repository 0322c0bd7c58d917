package mbox

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/retry"
	"postern.email/kit/vfs"
	"postern.email/mixnet/letter"
)

// Defaults and bounds.
const (
	DefaultMaxSize     = 100 << 10          // MaximumSize of both sections of mixminiond
	MinMaxSize         = 32 << 10           // a smaller one is raised to this
	DefaultMaxInterval = 48 * time.Hour     // MaximumInterval of Fragmented
	DefaultMaxMails    = 16_384             // that wait
	DefaultMaxBytes    = 1 << 30            // of mails and fragments that wait, as they are on the disk
	DefaultMaxLetters  = 1024               // that are not whole
	DefaultMaxDone     = 1 << 16            // names that were delivered or given up, and are remembered
	doneTime           = 24 * time.Hour     // for so long at least, and while the node has not run an hour
	settleTime         = time.Hour          // after a start, until names are forgotten
	retryWhole         = time.Minute        // after a letter that is whole could not be written
	defaultEvery       = 7 * time.Hour      // Retry
	defaultTotal       = 6 * 24 * time.Hour //
)

// Counter counts events (mixnet/stats.Stats).
type Counter interface{ Count(event, arg string) }

// Options of an exit. FS, Dir, Secret, Config.Addresses and Config.Sender are needed.
type Options struct {
	FS     vfs.FS
	Dir    string // where mail waits (deliver in the directory of queues); made if it is missing
	Secret []byte // 32 bytes or more: what waits is sealed under them

	MaxMails   int
	MaxBytes   int64
	MaxLetters int
	MaxDone    int

	Stats Counter // nil: nothing is counted
	Now   func() time.Time
	Rand  io.Reader
	Log   *slog.Logger // nil: nothing is logged; names and addresses never are

	Config
}

// Config is what may change while the exit works (Reload).
type Config struct {
	Addresses *Addresses
	Sender    Sender
	Form      Form
	Retry     retry.Schedule // zero: every 7 hours for 6 days
	MaxSize   int64          // bytes of a mail's content; 100 KiB; at least 32 KiB, in whole KiB
	Fragments Fragments
}

// Fragments say whether letters of several fragments are put together here.
type Fragments struct {
	Enabled     bool
	MaxSize     int64         // bytes of a letter before it is inflated; 100 KiB
	MaxInterval time.Duration // 48 h: from the first fragment; beyond, the letter is given up
}

// complete fills in the defaults and checks what is there.
func (c Config) complete() (*Config, error) {
	const op = "agent/mbox.Config"
	if c.Addresses == nil || c.Sender == nil {
		return nil, errs.E(op, errs.Invalid, "", errors.New("no Addresses or Sender"))
	}
	if c.Retry.Attempts() == 0 {
		c.Retry = retry.Every(defaultEvery, defaultTotal)
	}
	if c.Retry.Shortest() < time.Second {
		return nil, errs.E(op, errs.Invalid, "a retry schedule for mail pauses for a second at least", nil)
	}
	defaults.Zero(&c.MaxSize, DefaultMaxSize)
	c.MaxSize = (max(c.MaxSize, MinMaxSize) + 1023) &^ 1023
	if c.MaxSize > letter.MaxContent {
		return nil, errs.E(op, errs.Invalid, fmt.Sprintf("a mail from the mix network has %d bytes at most", letter.MaxContent), nil)
	}
	defaults.Zero(&c.Fragments.MaxSize, DefaultMaxSize)
	defaults.Zero(&c.Fragments.MaxInterval, DefaultMaxInterval)
	if c.Fragments.MaxSize < 0 || c.Fragments.MaxSize > letter.MaxWhole || c.Fragments.MaxInterval < 0 {
		return nil, errs.E(op, errs.Invalid, "size or time of fragmented mails is out of bounds", nil)
	}
	if err := c.Form.Check(); err != nil {
		return nil, err
	}
	return &c, nil
}

func (o Options) complete() (Options, error) {
	const op = "agent/mbox.Options"
	if o.FS == nil || o.Dir == "" || len(o.Secret) < 32 {
		return o, errs.E(op, errs.Invalid, "", errors.New("no FS, Dir or Secret"))
	}
	defaults.Positive(&o.MaxMails, DefaultMaxMails)
	defaults.Positive(&o.MaxBytes, DefaultMaxBytes)
	defaults.Positive(&o.MaxLetters, DefaultMaxLetters)
	defaults.Positive(&o.MaxDone, DefaultMaxDone)
	if o.Stats == nil {
		o.Stats = nobody{}
	}
	defaults.Clock(&o.Now)
	defaults.Rand(&o.Rand)
	defaults.Logger(&o.Log)
	return o, nil
}

type nobody struct{}

func (nobody) Count(string, string) {}

// Parameter is a number that the node's descriptor may say about this exit.
type Parameter struct {
	Name  string
	Value uint64
}

// Advertise gives what mixminiond's descriptors said of these ways to deliver, sorted by name: for
// the descriptor, where the operator wants it there.
func (c Config) Advertise() []Parameter {
	full, err := c.complete()
	if err != nil {
		return nil
	}
	from := uint64(0)
	if full.Form.AllowFrom {
		from = 1
	}
	var out []Parameter
	if full.Fragments.Enabled {
		out = append(out, Parameter{"fragmented-maximum-kb", uint64(full.Fragments.MaxSize) >> 10})
	}
	return append(out, Parameter{"mbox-from", from}, Parameter{"mbox-maximum-kb", uint64(full.MaxSize) >> 10})
}
