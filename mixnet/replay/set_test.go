package replay

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestSetModel: the set answers as a map does, with numbers that crowd at the ends of the
// tables and of the range too.
func TestSetModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s set
		model := map[uint64]bool{}
		number := rapid.OneOf(rapid.Uint64Range(1, 40), rapid.Uint64Range(1<<64-40, 1<<64-1),
			rapid.Map(rapid.Uint64Range(0, 300), func(n uint64) uint64 { return n<<48 | 0xff }), rapid.Uint64Min(1))
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				f := number.Draw(t, "f")
				if s.add(f) == model[f] {
					t.Fatalf("add(%#x) with %v in the model", f, model[f])
				}
				model[f] = true
			},
			"has": func(t *rapid.T) {
				if f := number.Draw(t, "f"); s.has(f) != model[f] {
					t.Fatalf("has(%#x) = %v", f, !model[f])
				}
			},
			"": func(t *rapid.T) {
				if s.n != len(model) {
					t.Fatalf("n = %d of %d", s.n, len(model))
				}
			},
		})
		for f := range model {
			if !s.has(f) {
				t.Fatalf("%#x is lost", f)
			}
		}
	})
}

// TestSetMemory: a tag takes between 9.4 and 11.8 bytes once there are many.
func TestSetMemory(t *testing.T) {
	var s set
	rng := rand.New(rand.NewPCG(1, 2))
	for s.n < 1_000_000 {
		s.add(rng.Uint64() | 1)
		if s.n > 100_000 && s.n%50_000 == 0 {
			if per := float64(s.bytes()) / float64(s.n); per < 9.4 || per > 11.8 {
				t.Errorf("%.1f bytes each at %d", per, s.n)
			}
		}
	}
}

// BenchmarkSet measures look-ups of tags that are not there, in a set of a million.
func BenchmarkSet(b *testing.B) {
	var s set
	rng := rand.New(rand.NewPCG(1, 2))
	for s.n < 1_000_000 {
		s.add(rng.Uint64() | 1)
	}
	b.ReportMetric(float64(s.bytes())/float64(s.n), "B/tag")
	for b.Loop() {
		s.has(rng.Uint64() | 1)
	}
}
