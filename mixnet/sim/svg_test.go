package sim

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func sample() *Figure {
	f := &Figure{Name: "sample", Title: "A title that is long enough for two lines & has an ampersand in it", X: Axis{Label: "users <all>", Log: true}, Y: Axis{Label: "bits"},
		Series: []Series{{Name: "measured", Points: []Point{at(1, 2), between(10, 3.5, 3, 4), at(1000, 7)}}, {Name: "a name that is too long for half of the width", Points: []Point{at(1, 1), at(0, 1), at(1000, math.Inf(1))}}}}
	f.law("law", []float64{1, 1000}, math.Log2)
	return f
}

// TestSVG: a drawing is well-formed, has no script, link or font of its own, says everything in words too,
// knows a dark ground, and each curve, axis and mark is within it.
func TestSVG(t *testing.T) {
	b := sample().SVG()
	d := xml.NewDecoder(bytes.NewReader(b))
	var texts []string
	paths, marks := 0, 0
	for {
		tok, err := d.Token()
		if err == io.EOF {
			break
		}
		must(t, err)
		switch tok := tok.(type) {
		case xml.CharData:
			texts = append(texts, string(tok))
		case xml.StartElement:
			switch tok.Name.Local {
			case "svg", "title", "desc", "style", "rect", "text":
			case "path":
				paths++
			case "circle":
				marks++
			default:
				t.Errorf("an element <%s>", tok.Name.Local)
			}
			for _, a := range tok.Attr {
				if strings.Contains(strings.ToLower(a.Name.Local), "href") || strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
					t.Errorf("an attribute %s=%q", a.Name.Local, a.Value)
				}
			}
		}
	}
	for _, want := range []string{"A title that is long enough for two lines &", "has an ampersand in it", "users <all>", "bits", "measured", "law", "1k", "a name that is too long for half of the width"} {
		if !slices.Contains(texts, want) {
			t.Errorf("%q is not written", want)
		}
	}
	if !bytes.Contains(b, []byte("prefers-color-scheme:dark")) || !bytes.Contains(b, []byte("measured: from 2 at 1 to 7 at 1,000.")) {
		t.Error("no dark ground, or not in words")
	}
	if marks != 4 { // three points and one in the legend; the second curve has squares
		t.Errorf("%d circles", marks)
	}
	if paths < 10 {
		t.Errorf("%d paths", paths)
	}
}

// TestScales: ticks are round numbers that the axis holds, and the axis holds all points.
func TestScales(t *testing.T) {
	for _, c := range []struct {
		s    scale
		want []float64
	}{
		{linearScale(0, 10.4), []float64{0, 5, 10, 15}},
		{linearScale(0, 1), []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{linearScale(0, 100), []float64{0, 20, 40, 60, 80, 100}},
		{linearScale(3, 3), []float64{3, 3.2, 3.4, 3.6, 3.8, 4}},
		{logScale(1, 50), []float64{1, 2, 5, 10, 20, 50}},
		{logScale(1, 5000), []float64{1, 10, 100, 1000}},
		{logScale(1, 1e6), []float64{1, 10, 100, 1000, 1e4, 1e5, 1e6}},
	} {
		if !slices.EqualFunc(c.s.ticks, c.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9*max(1, b) }) {
			t.Errorf("ticks %v, want %v", c.s.ticks, c.want)
		}
		near(t, "begin", c.s.place(c.s.from), 0, 1e-9)
		near(t, "end", c.s.place(c.s.to), 1, 1e-9)
	}
	for v, want := range map[float64]string{0: "0", 1234567: "1,234,567", -1500: "-1,500", 0.25: "0.25", 2.5: "2.5", 0.005: "0.005", 1e9: "1e+09", 99.999: "100", 0.0001: "0.0001"} {
		if got := number(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

// TestShort: what stands beside an axis is short.
func TestShort(t *testing.T) {
	for v, want := range map[float64]string{5: "5", 500: "500", 1000: "1k", 10_000: "10k", 25_000: "25k", 1e6: "1M", 2.5e9: "2,500M"} {
		if got := short(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}

// TestPoints: bounds that are not known are not in the JSON, and numbers have as many digits as mean
// anything.
func TestPoints(t *testing.T) {
	b, err := json.Marshal([]Point{at(1.0/3, 2.0/3), between(1, 2, 1.5, 2.5), at(0.000123456, 0)})
	must(t, err)
	if want := `[{"x":0.3333,"y":0.6667},{"x":1,"y":2,"low":1.5,"high":2.5},{"x":0.000123,"y":0}]`; string(b) != want {
		t.Errorf("%s\nwant %s", b, want)
	}
}

// TestAgenda: who is first is who has the least time, by number where two have the same, whatever was
// changed before.
func TestAgenda(t *testing.T) {
	const n = 37
	a := newAgenda(n)
	if _, when := a.first(); when != never {
		t.Error("an empty agenda has something to do")
	}
	x := uint32(1)
	for range 20_000 {
		x = x*1664525 + 1013904223
		id, when := int32(x>>16)%n, int64(x>>8)%50
		if when == 49 {
			when = never
		}
		a.set(id, when)
		best := int32(0)
		for i := range int32(n) {
			if a.when[i] < a.when[best] {
				best = i
			}
		}
		if got, when := a.first(); got != best || when != a.when[best] {
			t.Fatalf("first is %d, want %d", got, best)
		}
	}
}
