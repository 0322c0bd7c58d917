package pool

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/stattest"
)

// round holds one round over a fresh pool of n, and gives what left.
func round(t testing.TB, p Pool[int], at *time.Time, n int) []int {
	t.Helper()
	for i := range n {
		p.Add(time.Time{}, i)
	}
	*at = at.Add(time.Hour)
	return p.Due(*at, nil)
}

// TestQuota: n is that of the formula, computed here in fractions, for every N.
func TestQuota(t *testing.T) {
	for _, a := range []Algorithm{DynamicPool, BinomialDynamicPool} {
		for _, rate := range []int{1, 99, 100, 2900, 3333, 6000, 6667, 9999, 10_000} {
			for _, least := range []int{0, 1, 5, 50} {
				p := rounds[int]{c: Config{Algorithm: a, Rate: rate, MinSize: least}}
				for held := range 1000 {
					want := 0
					if held >= least+1 {
						part := new(big.Rat).Mul(big.NewRat(int64(rate), 10_000), big.NewRat(int64(held), 1))
						floor := int(new(big.Int).Div(part.Num(), part.Denom()).Int64())
						want = min(held-least, max(1, floor))
					}
					if got := p.quota(held); got != want {
						t.Fatalf("%s of %d, min %d, rate %d: %d, want %d", a, held, least, rate, got, want)
					}
				}
			}
		}
	}
	// Values worked out by hand, with mixminiond's defaults.
	p := rounds[int]{c: Default(DynamicPool)}
	for held, want := range map[int]int{0: 0, 5: 0, 6: 1, 7: 2, 10: 5, 12: 7, 13: 7, 100: 60} {
		if got := p.quota(held); got != want {
			t.Errorf("of %d: %d, want %d", held, got, want)
		}
	}
}

// TestTimed: everything leaves, in any order alike.
func TestTimed(t *testing.T) {
	const runs = 24_000
	p := newPool[int](t, Config{Algorithm: Timed, Interval: time.Hour}, 1)
	at := began
	counts := make([]int, 24)
	for range runs {
		out := round(t, p, &at, 4)
		if len(out) != 4 || p.Len() != 0 {
			t.Fatalf("%d of 4 left", len(out))
		}
		counts[permutation(out)]++
	}
	stattest.ChiSquare(t, "orders", counts, uniform(24, runs))
}

// permutation numbers the orders of 0, 1, 2, 3.
func permutation(s []int) (n int) {
	for i := range s {
		smaller := 0
		for _, x := range s[i+1:] {
			if x < s[i] {
				smaller++
			}
		}
		n = n*(len(s)-i) + smaller
	}
	return n
}

// TestDynamicPool: exactly n leave, each set of n alike, and of those each first alike.
func TestDynamicPool(t *testing.T) {
	const runs = 20_000
	sets, firsts := make([]int, 64), make([]int, 6)
	p := newPool[int](t, Config{Algorithm: DynamicPool, Interval: time.Hour, Rate: 5000, MinSize: 2}, 2)
	at := began
	for range runs {
		out := round(t, p, &at, 6)
		if len(out) != 3 || p.Len() != 3 {
			t.Fatalf("%d of 6 left", len(out))
		}
		set := 0
		for _, v := range out {
			set |= 1 << v
		}
		sets[set]++
		firsts[out[0]]++
		p.(*rounds[int]).held = nil
	}
	sets = slices.DeleteFunc(sets, func(n int) bool { return n == 0 })
	if len(sets) != 20 {
		t.Fatalf("%d sets of 20", len(sets))
	}
	stattest.ChiSquare(t, "sets", sets, uniform(20, runs))
	stattest.ChiSquare(t, "the first", firsts, uniform(6, runs))
}

// TestDynamicPoolForgets: how long a packet has waited does not matter: with a steady
// inflow the number of rounds that one stays is geometric.
func TestDynamicPoolForgets(t *testing.T) {
	const inflow, rounds = 6, 20_000
	p := newPool[int](t, Config{Algorithm: DynamicPool, Interval: time.Hour, Rate: 5000, MinSize: 2}, 3)
	at := began
	counts, total := make([]int, 16), 0
	for r := range rounds {
		for range inflow {
			p.Add(time.Time{}, r)
		}
		at = at.Add(time.Hour)
		for _, came := range p.Due(at, nil) {
			if r > 100 {
				counts[min(r-came, len(counts)-1)]++
				total++
			}
		}
	}
	// It settles at N = 12 before a round, of which 6 leave: each with 1/2.
	if p.Len() != 6 {
		t.Fatalf("%d held, want 6", p.Len())
	}
	expected := make([]float64, len(counts))
	chance := 0.5
	for i := range expected {
		expected[i] = float64(total) * chance
		chance /= 2
	}
	expected[len(expected)-1] *= 2 // all longer ones
	stattest.ChiSquare(t, "rounds stayed", counts, expected)
}

// TestBinomialDynamicPool: how many leave is binomial with p = n/N, and one packet's fate
// says nothing about another's.
func TestBinomialDynamicPool(t *testing.T) {
	const runs = 30_000
	p := newPool[int](t, Config{Algorithm: BinomialDynamicPool, Interval: time.Hour, Rate: 6000, MinSize: 3}, 4)
	at := began
	counts, pairs, firsts, total := make([]int, 11), make([]int, 4), make([]int, 10), 0
	for range runs {
		out := round(t, p, &at, 10)
		counts[len(out)]++
		if p.Len() != 10-len(out) {
			t.Fatalf("%d left and %d are held", len(out), p.Len())
		}
		if len(out) > 0 {
			firsts[out[0]]++
			total++
		}
		pair := 0
		if slices.Contains(out, 2) {
			pair |= 1
		}
		if slices.Contains(out, 7) {
			pair |= 2
		}
		pairs[pair]++
		p.(*rounds[int]).held = nil
	}
	expected := make([]float64, 11)
	for k := range expected {
		expected[k] = runs * binomialPMF(10, k, 0.6)
	}
	stattest.ChiSquare(t, "how many left", counts, expected)
	stattest.ChiSquare(t, "the first", firsts, uniform(10, total))
	stattest.ChiSquare(t, "two packets", pairs, []float64{runs * 0.16, runs * 0.24, runs * 0.24, runs * 0.36})
	// p is n/N, not the rate: here n is bound by the minimum.
	q := newPool[int](t, Config{Algorithm: BinomialDynamicPool, Interval: time.Hour, Rate: 10_000, MinSize: 8}, 5)
	left := 0
	for range runs {
		left += len(round(t, q, &at, 10))
		q.(*rounds[int]).held = nil
	}
	stattest.ChiSquare(t, "a bound round", []int{left, 10*runs - left}, []float64{2 * runs, 8 * runs})
}

// TestRoundTimes: nothing leaves before a round; a round that was missed is not made up
// for; a clock that was set back delays by an interval at most.
func TestRoundTimes(t *testing.T) {
	c := Config{Algorithm: DynamicPool, Interval: time.Hour, Rate: 1, MinSize: 0}
	p := newPool[int](t, c, 6)
	for i := range 10 {
		p.Add(time.Time{}, i)
	}
	due := func(after time.Duration, left int, next time.Duration) {
		t.Helper()
		out := p.Due(began.Add(after), nil)
		at, ok := p.Next()
		if len(out) != left || !ok || !at.Equal(began.Add(next)) {
			t.Errorf("after %v: %d left, the next round is after %v", after, len(out), at.Sub(began))
		}
	}
	due(0, 0, time.Hour)
	due(time.Hour-1, 0, time.Hour)
	due(time.Hour, 1, 2*time.Hour)
	due(time.Hour, 0, 2*time.Hour)
	due(2*time.Hour+time.Minute, 1, 3*time.Hour)
	due(9*time.Hour, 1, 10*time.Hour)
	due(-time.Hour, 0, 0)
	due(0, 1, time.Hour)
}

// TestConfig: names, bounds, and what is said of weak settings.
func TestConfig(t *testing.T) {
	for in, want := range map[string]Algorithm{"Poisson": Poisson, "Timed": Timed, "DynamicPool": DynamicPool, "Cottrell": DynamicPool,
		"mixmaster": DynamicPool, "BinomialDynamicPool": BinomialDynamicPool} {
		if got, err := ParseAlgorithm(in); got != want || err != nil {
			t.Errorf("%s: %s, %v", in, got, err)
		}
	}
	_, err := ParseAlgorithm("timed")
	wantKind(t, "another name", err, errs.Invalid)
	if !strings.Contains(errs.Public(err), "must be Poisson, Timed, DynamicPool or BinomialDynamicPool") {
		t.Errorf("text %q", errs.Public(err))
	}
	for text, c := range map[string]Config{
		"the mix interval must be longer than zero":                         {Algorithm: Timed},
		"the mix pool rate must be more than 0 % and at most 100 %":         {Algorithm: DynamicPool, Interval: 1},
		"the mix pool minimum size must not be negative":                    {Algorithm: BinomialDynamicPool, Interval: 1, Rate: 10_000, MinSize: -1},
		"the mix algorithm must be Poisson, Timed, DynamicPool or Binomial": {},
	} {
		err := c.Check()
		wantKind(t, text, err, errs.Invalid)
		if !strings.HasPrefix(errs.Public(err), text) {
			t.Errorf("text %q, want %q", errs.Public(err), text)
		}
	}
	wantKind(t, "too high a rate", Config{Algorithm: DynamicPool, Interval: 1, Rate: 10_001}.Check(), errs.Invalid)
	wantKind(t, "another name of a rule", Config{Algorithm: "Cottrell", Interval: 1, Rate: 1}.Check(), errs.Invalid)
	_, err = New[int](Config{}, began, source(1))
	wantKind(t, "no rule", err, errs.Invalid)

	weak := Config{Algorithm: DynamicPool, Interval: time.Minute, Rate: 1, MinSize: 4}
	for _, tc := range []struct {
		c    Config
		held float64
		want []string
	}{
		{Default(Poisson), 5, nil},
		{Default(Poisson), -1, nil},
		{Default(Poisson), 1.25, []string{"the pool held 1.2 packets on average"}},
		{Default(DynamicPool), -1, nil},
		{Default(Timed), -1, []string{"Timed sends everything in each round"}},
		{weak, 0, []string{"the pool keeps only 4 packets back", "an interval of 1m0s is short", "the pool held 0.0"}},
	} {
		got := tc.c.Insecurities(tc.held)
		if len(got) != len(tc.want) {
			t.Errorf("%+v: %q", tc.c, got)
			continue
		}
		for i := range got {
			if !strings.HasPrefix(got[i], tc.want[i]) {
				t.Errorf("%q, want %q", got[i], tc.want[i])
			}
		}
	}
}
