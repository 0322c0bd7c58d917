package pool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"postern.email/kit/errs"
)

// Algorithm names a rule, as the option MixAlgorithm does.
type Algorithm string

const (
	Poisson             Algorithm = "Poisson"
	Timed               Algorithm = "Timed"
	DynamicPool         Algorithm = "DynamicPool"
	BinomialDynamicPool Algorithm = "BinomialDynamicPool"
)

// ParseAlgorithm reads the name of a rule; Cottrell and mixmaster are DynamicPool, as in
// mixminiond. errs.Invalid.
func ParseAlgorithm(s string) (Algorithm, error) {
	switch a := Algorithm(s); a {
	case Poisson, Timed, DynamicPool, BinomialDynamicPool:
		return a, nil
	case "Cottrell", "mixmaster":
		return DynamicPool, nil
	}
	return "", errs.E("mixnet/pool.ParseAlgorithm", errs.Invalid,
		"the mix algorithm must be Poisson, Timed, DynamicPool or BinomialDynamicPool", nil)
}

// Config chooses a rule. The fields after the first are not for Poisson, whose delays are
// the senders' choice; they have mixminiond's names and defaults.
type Config struct {
	Algorithm Algorithm     // MixAlgorithm
	Interval  time.Duration // MixInterval, 30 min: between two rounds
	Rate      int           // MixPoolRate, 6000 (60 %): what may leave in a round, in parts of 10,000
	MinSize   int           // MixPoolMinSize, 5: packets that stay; 0 or more
}

// Default is the Config of a rule.
func Default(a Algorithm) Config {
	return Config{Algorithm: a, Interval: 30 * time.Minute, Rate: 6000, MinSize: 5}
}

// WholeRate is the Rate of everything.
const WholeRate = 10_000

// Check says what is wrong with c, if anything. errs.Invalid.
func (c Config) Check() error {
	const op = "mixnet/pool.Check"
	if a, err := ParseAlgorithm(string(c.Algorithm)); err != nil {
		return err
	} else if a != c.Algorithm {
		return errs.E(op, errs.Invalid, "", errors.New("not the name that ParseAlgorithm gives"))
	}
	if c.Algorithm == Poisson {
		return nil
	}
	switch {
	case c.Interval <= 0:
		return errs.E(op, errs.Invalid, "the mix interval must be longer than zero", nil)
	case c.Algorithm == Timed:
	case c.Rate < 1 || c.Rate > WholeRate:
		return errs.E(op, errs.Invalid, "the mix pool rate must be more than 0 % and at most 100 %", nil)
	case c.MinSize < 0:
		return errs.E(op, errs.Invalid, "the mix pool minimum size must not be negative", nil)
	}
	return nil
}

// Bounds below which Insecurities speaks up. The first two are mixminiond's.
const (
	leastInterval = 30 * time.Minute
	leastMinSize  = 5
	leastHeld     = 5.0
)

// Insecurities says in plain words what in c makes mixing weak, and whether the pool is
// too small: held is how many packets it held on average, negative when that is not known.
func (c Config) Insecurities(held float64) (list []string) {
	if c.Algorithm != Poisson {
		if c.Algorithm == Timed {
			list = append(list, "Timed sends everything in each round: who fills a round with packets of their own can follow the one that is not")
		} else if c.MinSize < leastMinSize {
			list = append(list, fmt.Sprintf("the pool keeps only %d packets back; fewer than %d can be emptied by an attacker", c.MinSize, leastMinSize))
		}
		if c.Interval < leastInterval {
			list = append(list, fmt.Sprintf("an interval of %v is short; below %v few packets meet in a round", c.Interval, leastInterval))
		}
	}
	if held >= 0 && held < leastHeld {
		list = append(list, fmt.Sprintf("the pool held %.1f packets on average; fewer than %.0f hide little", held, leastHeld))
	}
	return list
}

// Pool is a rule and what it holds. It is not safe for several goroutines.
type Pool[T any] interface {
	// Add puts v in. due is when its sender wants it to leave; only Poisson heeds it.
	Add(due time.Time, v T)
	// Due appends to out what leaves now, in random order, and holds it no more. Between
	// two calls now should not go back; if it does, nothing is lost and nothing waits for
	// longer than an interval.
	Due(now time.Time, out []T) []T
	// Take appends to out all that it holds, which then holds nothing.
	Take(out []T) []T
	// Next is when Due should be asked again; false: only after an Add.
	Next() (time.Time, bool)
	// Len is how many it holds.
	Len() int
}

// New makes an empty pool; its first round, if it has rounds, is one interval after now.
// All choices come from source, which must be unpredictable where it matters, as
// rand.NewChaCha8 with a secret seed is. errs.Invalid: see Config.Check.
func New[T any](c Config, now time.Time, source rand.Source) (Pool[T], error) {
	if err := c.Check(); err != nil {
		return nil, errs.Wrap("mixnet/pool.New", err)
	}
	rng := rand.New(source)
	if c.Algorithm == Poisson {
		return &stopAndGo[T]{rng: rng}, nil
	}
	return &rounds[T]{c: c, rng: rng, next: now.Add(c.Interval)}, nil
}

func shuffle[T any](rng *rand.Rand, s []T) {
	rng.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
}
