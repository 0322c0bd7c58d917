package aliasbench

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"postern.email/post/alias"
)

func parallel() int { return runtime.GOMAXPROCS(0) }

// sizes are the numbers of aliases to look up among: POSTERN_ALIASES, or a small one.
func sizes() []int64 {
	if n, err := strconv.ParseInt(os.Getenv("POSTERN_ALIASES"), 10, 64); err == nil && n > 0 {
		return []int64{n}
	}
	return []int64{10_000}
}

// fill makes so many aliases.
func fill(b *testing.B, a *alias.Aliases, v *alias.Vault, many int64) {
	b.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	for range 512 {
		wg.Go(func() {
			for i := n.Add(1); i <= many; i = n.Add(1) {
				if _, err := a.Create(ctx, v, alias.New{Local: local(i)}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
