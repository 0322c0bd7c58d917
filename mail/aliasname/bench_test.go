package aliasname

import "testing"

// BenchmarkFind tries 10,000 keys, all in vain: at most 2 ms on one core.
func BenchmarkFind(b *testing.B) {
	keys := make([][KeyLen]byte, 10_000)
	for i := range keys {
		keys[i] = testKey(i)
	}
	other := testKey(-1)
	local := Derive(&other, "example.org", "shop.example", 0)
	b.ReportAllocs()
	for b.Loop() {
		if Find(keys, "example.org", local) >= 0 {
			b.Fatal("found")
		}
	}
}

func BenchmarkWords(b *testing.B) {
	for b.Loop() {
		if _, err := Words(zeros{}); err != nil {
			b.Fatal(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
