package account

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

// Default values of Options.
const (
	DefaultMinName          = 3
	DefaultMaxName          = 64
	DefaultMinPassword      = 9
	DefaultMaxPassword      = 1024
	DefaultGrace            = 15 * time.Minute
	DefaultMaxIdleKeys      = 10000
	DefaultGateQueue        = 4096
	DefaultGatePerNetwork   = 1024
	DefaultGateWait         = 20 * time.Second
	DefaultCreatePerMinute  = 600
	DefaultCreateBurst      = 600
	DefaultCreateNetPerMin  = 20
	DefaultCreateNetBurst   = 100
	DefaultFailFree         = 5
	DefaultFailNetFree      = 20
	DefaultFailDelay        = time.Second
	DefaultFailMaxDelay     = 5 * time.Minute
	DefaultFailNetMaxDelay  = 30 * time.Second
	DefaultFailForget       = time.Minute
	DefaultFailKeys         = 100000
	DefaultInactiveDays     = 90
	DefaultTokensPerAccount = 16
	DefaultTokenDays        = 90
	DefaultResolveCache     = 20000
	DefaultSweepEvery       = time.Hour
	DefaultOrphanAge        = 10 * time.Minute
	MaxTokenLen             = 4 << 10
)

// Options configure Accounts. Store, Root and Domains are needed; every zero
// value else means the default named beside it.
type Options struct {
	Store   store.Store
	Root    *seal.Root
	Domains []string // addresses of these domains are ours

	// MayCreate is asked before an address is made by a login. An error of kind
	// errs.Denied means that creation is off: an unknown name then looks like a
	// wrong password. Any other kind (load, memory, disk) is shown as it is.
	// Existing accounts are never asked. Nil: always yes. It must be quick.
	MayCreate func() error
	// OnCreate runs in the transaction that makes an account, in its shard
	// (mailbox.Init). It may run more than once.
	OnCreate func(store.Tx, *seal.Opened) error
	// OnDelete removes all that others keep for the account: every key behind its
	// prefix but 'i', 'k' and 't', and its files. It may run again after a crash.
	OnDelete func(context.Context, seal.AccountID) error
	// OnReset takes the place of OnDelete where an account gets a new key and keeps its name (Reset). nil:
	// OnDelete.
	OnReset func(context.Context, seal.AccountID) error

	MinName     int // characters of a new local part; DefaultMinName
	MaxName     int // DefaultMaxName
	MinPassword int // bytes of a new password; DefaultMinPassword
	MaxPassword int // bytes of any password; longer is refused unread; DefaultMaxPassword

	NewClass Class         // class of addresses made by a login
	Params   passhash.Cost // cost of new passwords; passhash.Password

	Grace       time.Duration // an opened key outlives its last session so long; DefaultGrace; negative: not at all
	MaxIdleKeys int           // opened keys without session; beyond, the one unused for longest is closed; DefaultMaxIdleKeys

	GateSlots      int           // password hashes at once; default runtime.GOMAXPROCS(0)
	GateQueue      int           // logins that wait for one; DefaultGateQueue
	GatePerNetwork int           // of them from one network; DefaultGatePerNetwork
	GateWait       time.Duration // longest wait; DefaultGateWait

	CreatePerMinute        int // new addresses in all; DefaultCreatePerMinute; negative: no limit
	CreateBurst            int // DefaultCreateBurst
	CreateNetworkPerMinute int // new addresses from one network; DefaultCreateNetPerMin; negative: no limit
	CreateNetworkBurst     int // DefaultCreateNetBurst

	FailFree            int           // wrong passwords before the first delay, per account and network; DefaultFailFree; negative: no delays at all
	FailNetworkFree     int           // the same for one network over all accounts; DefaultFailNetFree
	FailDelay           time.Duration // first delay; doubles with each further failure; DefaultFailDelay
	FailMaxDelay        time.Duration // longest delay of an account and network; DefaultFailMaxDelay
	FailNetworkMaxDelay time.Duration // longest delay of a network; DefaultFailNetMaxDelay
	FailForget          time.Duration // one failure is forgotten after so long; DefaultFailForget
	FailKeys            int           // failures and successes remembered at most; DefaultFailKeys

	InactiveDays     int // accounts without login for so long are removed; DefaultInactiveDays; negative: never
	ReuseAfterDays   int // names of deleted accounts are given out again after so many days; 0: never
	TokensPerAccount int // DefaultTokensPerAccount
	TokenDays        int // a token that was not set again is forgotten; DefaultTokenDays
	ResolveCache     int // accounts remembered; DefaultResolveCache

	SweepEvery time.Duration // DefaultSweepEvery
	OrphanAge  time.Duration // records without name are left alone so long; DefaultOrphanAge

	Now    func() time.Time // default time.Now
	Rand   io.Reader        // default crypto/rand.Reader
	Logger *slog.Logger     // default: discards

	// hash replaces the password hash's cost in tests of the gate.
	hash func(run func())
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	defaults.Zero(&o.MinName, DefaultMinName)
	defaults.Zero(&o.MaxName, DefaultMaxName)
	defaults.Zero(&o.MinPassword, DefaultMinPassword)
	defaults.Zero(&o.MaxPassword, DefaultMaxPassword)
	defaults.Zero(&o.Params, passhash.Password())
	defaults.Zero(&o.Grace, DefaultGrace)
	defaults.Zero(&o.MaxIdleKeys, DefaultMaxIdleKeys)
	defaults.Zero(&o.GateSlots, runtime.GOMAXPROCS(0))
	defaults.Zero(&o.GateQueue, DefaultGateQueue)
	defaults.Zero(&o.GatePerNetwork, DefaultGatePerNetwork)
	defaults.Zero(&o.GateWait, DefaultGateWait)
	defaults.Zero(&o.CreatePerMinute, DefaultCreatePerMinute)
	defaults.Zero(&o.CreateBurst, DefaultCreateBurst)
	defaults.Zero(&o.CreateNetworkPerMinute, DefaultCreateNetPerMin)
	defaults.Zero(&o.CreateNetworkBurst, DefaultCreateNetBurst)
	defaults.Zero(&o.FailFree, DefaultFailFree)
	defaults.Zero(&o.FailNetworkFree, DefaultFailNetFree)
	defaults.Zero(&o.FailDelay, DefaultFailDelay)
	defaults.Zero(&o.FailMaxDelay, DefaultFailMaxDelay)
	defaults.Zero(&o.FailNetworkMaxDelay, DefaultFailNetMaxDelay)
	defaults.Zero(&o.FailForget, DefaultFailForget)
	defaults.Zero(&o.FailKeys, DefaultFailKeys)
	defaults.Zero(&o.InactiveDays, DefaultInactiveDays)
	defaults.Zero(&o.TokensPerAccount, DefaultTokensPerAccount)
	defaults.Zero(&o.TokenDays, DefaultTokenDays)
	defaults.Zero(&o.ResolveCache, DefaultResolveCache)
	defaults.Zero(&o.SweepEvery, DefaultSweepEvery)
	defaults.Zero(&o.OrphanAge, DefaultOrphanAge)
	defaults.Clock(&o.Now)
	defaults.Rand(&o.Rand)
	defaults.Logger(&o.Logger)
	return o
}

// check refuses options that make no sense together.
func (o *Options) check() error {
	const op = "account.Options"
	bad := func(what string) error { return errs.E(op, errs.Invalid, what, nil) }
	switch {
	case o.Store == nil || o.Root == nil:
		return bad("a store and a root key are needed")
	case len(o.Domains) == 0:
		return bad("a domain is needed")
	case o.MinName < 1 || o.MaxName < o.MinName || o.MaxName > mail.MaxLocal:
		return bad(fmt.Sprintf("names have 1 to %d characters", mail.MaxLocal))
	case o.MinPassword < 1 || o.MaxPassword < o.MinPassword:
		return bad("the longest password is shorter than the shortest")
	case !o.Params.Valid():
		return bad("the cost of the password hash is out of bounds")
	case o.NewClass >= numClasses:
		return bad("unknown class")
	case o.TokensPerAccount < 1 || o.TokensPerAccount > maxTokens:
		return bad(fmt.Sprintf("an account has 1 to %d device tokens", maxTokens))
	case o.GateSlots < 1 || o.GateQueue < 1 || o.GatePerNetwork < 1 || o.GateWait < 0:
		return bad("the gate of logins needs at least one slot and one place to wait")
	case o.MaxIdleKeys < 1 || o.ResolveCache < 1 || o.FailKeys < 1:
		return bad("a cache holds at least one entry")
	case o.FailNetworkFree < 0 || o.FailDelay < 0 || o.FailMaxDelay < 0 || o.FailNetworkMaxDelay < 0 || o.FailForget < 0:
		return bad("delays are not negative")
	case o.OrphanAge < 2*runTimeout:
		return bad(fmt.Sprintf("records without name are kept at least %v", 2*runTimeout))
	case o.ReuseAfterDays < 0 || o.TokenDays < 0 || o.SweepEvery < 0:
		return bad("days are not negative")
	}
	return nil
}
