package dial

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// TestTXTCache: asked once while an answer holds; failures, large answers and what was
// forgotten are asked again; the number kept is bounded.
func TestTXTCache(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	asked := map[string]int{}
	c := NewTXTCache(func(_ context.Context, name string) ([]string, bool, error) {
		asked[name]++
		switch {
		case name == "none":
			return nil, false, errs.E("test", errs.NotFound, "", nil)
		case name == "fails":
			return nil, false, errors.New("timeout")
		case name == "large":
			return []string{strings.Repeat("x", maxTXTSize+1)}, false, nil
		}
		return []string{"of " + name}, true, nil
	}, func() time.Time { return now })
	ask := func(name string, want int, kind errs.Kind) {
		t.Helper()
		txts, authentic, err := c.TXT(t.Context(), name)
		switch {
		case asked[strings.ToLower(name)] != want:
			t.Errorf("%s: asked %d times, want %d", name, asked[strings.ToLower(name)], want)
		case kind == 0 && (err != nil || len(txts) != 1), kind != 0 && errs.KindOf(err) != kind:
			t.Errorf("%s: %q, %v", name, txts, err)
		case kind == 0 && name != "large" && !authentic:
			t.Errorf("%s: not authentic", name)
		}
	}
	ask("a", 1, 0)
	ask("A", 1, 0)
	ask("none", 1, errs.NotFound)
	ask("none", 1, errs.NotFound)
	for i := 1; i < 3; i++ {
		if _, _, err := c.TXT(t.Context(), "fails"); err == nil || asked["fails"] != i {
			t.Errorf("a failure was kept: %v", err)
		}
		ask("large", i, 0)
	}
	c.Forget("A")
	ask("a", 2, 0)
	now = now.Add(keepNoTXT)
	ask("none", 2, errs.NotFound)
	ask("a", 2, 0)
	now = now.Add(keepTXT - keepNoTXT)
	ask("a", 3, 0)
	for i := range MaxTXT - 1 {
		ask(fmt.Sprint(i), 1, 0)
	}
	ask("a", 3, 0)
	ask("new", 1, 0)
	ask("a", 3, 0)
	ask("0", 2, 0)
	if len(c.names) != MaxTXT || c.used.Len() != MaxTXT {
		t.Errorf("%d names, %d answers", len(c.names), c.used.Len())
	}
}
