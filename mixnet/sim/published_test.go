package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
)

const figures = "../../docs/anonymity/"

// published reads a figure of docs/anonymity.
func published(t *testing.T, name string) (f Figure) {
	t.Helper()
	b, err := os.ReadFile(figures + name + ".json")
	must(t, err)
	must(t, json.Unmarshal(b, &f))
	return f
}

// TestPublishedFigures: the drawings in docs/anonymity are those of the numbers beside them.
func TestPublishedFigures(t *testing.T) {
	for _, name := range Names() {
		f := published(t, name)
		if f.Name != name {
			t.Errorf("%s is named %q", name, f.Name)
		}
		svg, err := os.ReadFile(figures + name + ".svg")
		must(t, err)
		if !bytes.Equal(svg, f.SVG()) {
			t.Errorf("%s.svg is not drawn from %s.json", name, name)
		}
	}
}

// TestPublishedNumbers: those of one mix keep to the law, and those from end to end are there for each size
// of the network, with up to half of the mixes corrupt.
func TestPublishedNumbers(t *testing.T) {
	curve := func(figure, name string) []Point {
		t.Helper()
		for _, s := range published(t, figure).Series {
			if s.Name == name && !s.Law {
				return s.Points
			}
		}
		t.Fatalf("%s: there is no curve of %s", figure, name)
		return nil
	}
	held := 0
	for _, p := range curve("one-mix", "Poisson") {
		if p.X >= 5 {
			held++
			near(t, fmt.Sprint("one mix, λ/μ ", p.X), p.Y, math.Log2(math.E*p.X), 0.05)
		}
	}
	if held < 5 {
		t.Errorf("one mix: %d numbers", held)
	}
	for _, figure := range []string{"senders", "packets"} {
		for _, mixes := range []int{2, 3, 10} {
			points := curve(figure, fmt.Sprintf("3 × %d mixes", mixes))
			for i, p := range points {
				if p.X != float64(10*i) || p.Y <= 0 {
					t.Errorf("%s, %d mixes: %+v is number %d", figure, mixes, p, i)
				}
			}
			if len(points) != 6 {
				t.Errorf("%s, %d mixes: %d numbers", figure, mixes, len(points))
			}
		}
	}
}
