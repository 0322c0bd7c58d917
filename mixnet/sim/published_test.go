package sim

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

// TestPublishedFigures: the drawings in docs/anonymity are those of the numbers beside them.
func TestPublishedFigures(t *testing.T) {
	const dir = "../../docs/anonymity/"
	for _, name := range Names() {
		b, err := os.ReadFile(dir + name + ".json")
		must(t, err)
		var f Figure
		must(t, json.Unmarshal(b, &f))
		if f.Name != name {
			t.Errorf("%s is named %q", name, f.Name)
		}
		svg, err := os.ReadFile(dir + name + ".svg")
		must(t, err)
		if !bytes.Equal(svg, f.SVG()) {
			t.Errorf("%s.svg is not drawn from %s.json", name, name)
		}
	}
}
