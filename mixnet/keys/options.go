package keys

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
)

// Times of packet keys, and the bounds that mixminiond had for two of them; an operator's
// configuration is held to these by role/mix (CheckTimes).
const (
	DefaultLifetime = 3 * 24 * time.Hour
	DefaultOverlap  = 24 * time.Hour
	DefaultAhead    = 24 * time.Hour

	MinLifetime = 24 * time.Hour
	MaxLifetime = 30 * 24 * time.Hour
	MinOverlap  = 6 * time.Hour
	MaxOverlap  = 72 * time.Hour

	// setsPerLife is how many sets begin while one is given to senders, where Every is not set.
	setsPerLife = 3
	// maxSets bounds the directories of one node: replay.MaxKeys is 64.
	maxSets = 60
)

// MinPassphrase is the shortest new passphrase in bytes: it guards the name of the node, and
// is typed rarely.
const MinPassphrase = 12

// Options say where keys lie and how long they live. FS, Dir and Now are needed; zero
// values of the others mean the defaults.
type Options struct {
	FS          vfs.FS
	Dir         string // KeyDir; made by Create
	CurrentDesc string // the file that names the current descriptor; "": none is written

	Lifetime time.Duration // 3 days: how long senders use a packet key; at most 33 days
	Overlap  time.Duration // 24 h: how long packets for it are accepted after that
	Ahead    time.Duration // 24 h: how long before its time a set is made
	Every    time.Duration // a third of Lifetime: how often a new set begins
	Skew     time.Duration // 10 min (directory.MaxSkew): what clocks may differ

	// Letters: the node gets letters itself, and has a letter key for them.
	Letters bool

	// Passphrase gives the passphrase that seals the identity; the slice is erased after use.
	// fresh: it is a new one, so ask twice. nil: the identity lies open.
	Passphrase func(fresh bool) ([]byte, error)
	// SealAll seals the other private files as well, under a key that follows from the identity.
	SealAll bool
	Cost    passhash.Cost // of the passphrase; zero: passhash.Passphrase

	Paranoia bool  // refuse private files and directories that others may read
	Trusted  []int // users besides root who may own directories above Dir

	Rand io.Reader // crypto/rand
	Now  func() time.Time
	Log  *slog.Logger // nil: nothing is logged
}

// CheckTimes refuses what mixminiond's options PublicKeyLifetime and PublicKeyOverlap refuse:
// errs.Invalid with a text for the operator.
func CheckTimes(lifetime, overlap time.Duration) error {
	const op = "mixnet/keys.CheckTimes"
	switch {
	case lifetime < MinLifetime || lifetime > MaxLifetime:
		return errs.E(op, errs.Invalid, "packet keys live from 1 to 30 days", nil)
	case overlap < MinOverlap || overlap > MaxOverlap:
		return errs.E(op, errs.Invalid, "packet keys overlap by 6 to 72 hours", nil)
	}
	return nil
}

// complete fills in the defaults and checks what must fit together.
func (o Options) complete() (Options, error) {
	const op = "mixnet/keys.Options"
	if o.FS == nil || o.Dir == "" || o.Now == nil {
		return o, errs.E(op, errs.Invalid, "", fmt.Errorf("no FS, Dir or Now"))
	}
	defaults.Zero(&o.Lifetime, DefaultLifetime)
	defaults.Zero(&o.Overlap, DefaultOverlap)
	defaults.Zero(&o.Ahead, DefaultAhead)
	defaults.Zero(&o.Every, (o.Lifetime / setsPerLife).Truncate(time.Second))
	defaults.Zero(&o.Skew, directory.MaxSkew)
	defaults.Zero(&o.Cost, passhash.Passphrase())
	defaults.Rand(&o.Rand)
	defaults.Logger(&o.Log)
	why := ""
	switch {
	case o.Every < time.Second || o.Every%time.Second != 0 || o.Lifetime%time.Second != 0:
		why = "times of packet keys are whole seconds"
	case o.Lifetime < o.Every || o.Lifetime > directory.MaxKeyLife:
		why = "packet keys live from one begin to the next at least, and 33 days at most"
	case o.Overlap < 0 || o.Ahead < 0 || o.Skew < 0:
		why = "times of packet keys are not negative"
	case o.Lifetime+o.Ahead > directory.MaxPacketKeys*o.Every:
		why = fmt.Sprintf("a descriptor has room for %d packet keys: let new ones begin less often", directory.MaxPacketKeys)
	case o.Lifetime+o.Ahead+o.Overlap+2*o.Skew > (maxSets-directory.MaxPacketKeys)*o.Every:
		why = "too many packet keys would live at once: let new ones begin less often"
	case !o.Cost.Valid():
		why = "the cost of a passphrase is out of bounds"
	default:
		return o, nil
	}
	return o, errs.E(op, errs.Invalid, why, nil)
}
