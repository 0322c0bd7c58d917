package sim

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Measures of a drawing, in its own units. It is narrow and its letters are large, so that it can be
// read on a phone.
const (
	drawWidth  = 480
	plotLeft   = 62
	plotRight  = drawWidth - 16
	plotTop    = 64
	plotHeight = 270
	plotBottom = plotTop + plotHeight
	lineHeight = 21
	legendTop  = plotBottom + 62
	legendCell = (drawWidth - 24) / 2
	wideName   = 24 // letters of a curve's name that fit into half of the width
	titleWidth = 46 // letters of a title that fit into a line
)

// The colours are those of Okabe and Ito, which people who see few colours can tell apart;
// on a dark ground black is white. Curves also differ in dashes and marks.
const style = `<style>
text{font:15px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1a1a1a}
.t{font-weight:600;font-size:16px}.b{fill:#fff}.g{stroke:#dcdcdc}.a{stroke:#444}.m{text-anchor:middle}.e{text-anchor:end}
.l{fill:none;stroke-width:2.2;stroke-linejoin:round}
.c0{stroke:#0072b2}.c1{stroke:#d55e00}.c2{stroke:#009e73}.c3{stroke:#cc79a7}.c4{stroke:#a07800}.c5{stroke:#3a9bd1}.c6{stroke:#1a1a1a}
.k{stroke-width:2;fill:#fff}
@media (prefers-color-scheme:dark){text{fill:#ececec}.b,.k{fill:#16181c}.g{stroke:#3a3d44}.a{stroke:#b0b0b0}
.c0{stroke:#56b4e9}.c1{stroke:#ff8c42}.c2{stroke:#2fd0a0}.c3{stroke:#e79cc6}.c4{stroke:#f0e442}.c5{stroke:#8fd0f5}.c6{stroke:#ececec}}
</style>
`

const colours = 7

var dashes = [...]string{"", "7 4", "2 4", "10 4 2 4", "4 2"}

// SVG draws the figure: one file without scripts, links or fonts of its own, for light and dark
// grounds.
func (f *Figure) SVG() []byte {
	title := wrap(f.Title, titleWidth)
	x, y := f.scale(&f.X, func(p Point) []float64 { return []float64{p.X} }), f.scale(&f.Y, func(p Point) []float64 {
		if p.Low == p.High {
			return []float64{p.Y}
		}
		return []float64{p.Y, p.Low, p.High}
	})
	rows := legend(f.Series)
	height := legendTop + len(rows)*lineHeight
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-labelledby="t d">`+"\n", drawWidth, height)
	fmt.Fprintf(&b, "<title id=\"t\">%s</title>\n<desc id=\"d\">%s</desc>\n", escape(f.Title), escape(f.describe()))
	b.WriteString(style)
	fmt.Fprintf(&b, `<rect class="b" width="%d" height="%d"/>`+"\n", drawWidth, height)
	for i, t := range title {
		fmt.Fprintf(&b, `<text class="t" x="12" y="%d">%s</text>`+"\n", 24+i*lineHeight, escape(t))
	}
	px := func(v float64) float64 { return plotLeft + x.place(v)*(plotRight-plotLeft) }
	py := func(v float64) float64 { return plotBottom - y.place(v)*plotHeight }
	for _, v := range x.ticks {
		// A number at the right edge stays within the drawing.
		middle := min(px(v), drawWidth-4-4.5*float64(len(short(v))))
		fmt.Fprintf(&b, `<path class="g" d="M%.1f %dV%d"/><text class="m" x="%.1f" y="%d">%s</text>`+"\n", px(v), plotTop, plotBottom, middle, plotBottom+20, short(v))
	}
	for _, v := range y.ticks {
		fmt.Fprintf(&b, `<path class="g" d="M%d %.1fH%d"/><text class="e" x="%d" y="%.1f">%s</text>`+"\n", plotLeft, py(v), plotRight, plotLeft-7, py(v)+5, short(v))
	}
	fmt.Fprintf(&b, `<path class="a" fill="none" d="M%d %dV%dH%d"/>`+"\n", plotLeft, plotTop, plotBottom, plotRight)
	fmt.Fprintf(&b, `<text class="m" x="%d" y="%d">%s</text>`+"\n", (plotLeft+plotRight)/2, plotBottom+42, escape(f.X.Label))
	fmt.Fprintf(&b, `<text class="m" transform="translate(16 %d) rotate(-90)">%s</text>`+"\n", (plotTop+plotBottom)/2, escape(f.Y.Label))
	for i, s := range f.Series {
		s.draw(&b, i, px, py, x, y)
	}
	for r, row := range rows {
		for c, i := range row {
			left, mid := 12+c*legendCell, float64(legendTop+r*lineHeight)
			line(&b, i, fmt.Sprintf("M%d %.0fH%d", left, mid, left+30))
			if !f.Series[i].Law {
				mark(&b, i, float64(left+15), mid)
			}
			fmt.Fprintf(&b, `<text x="%d" y="%.0f">%s</text>`+"\n", left+37, mid+5, escape(f.Series[i].Name))
		}
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// describe is the figure in words, for those who cannot see it.
func (f *Figure) describe() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s against %s.", f.Y.Label, f.X.Label)
	for _, c := range f.Series {
		if n := len(c.Points); n > 0 {
			a, z := c.Points[0], c.Points[n-1]
			fmt.Fprintf(&s, " %s: from %s at %s to %s at %s.", c.Name, number(a.Y), number(a.X), number(z.Y), number(z.X))
		}
	}
	return s.String()
}

func (s *Series) draw(b *bytes.Buffer, i int, px, py func(float64) float64, x, y scale) {
	var path strings.Builder
	pen := "M"
	for _, p := range s.Points {
		if !x.holds(p.X) || !y.holds(p.Y) {
			pen = "M" // on a logarithmic axis nothing is at zero
			continue
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", pen, px(p.X), py(p.Y))
		pen = "L"
	}
	line(b, i, path.String())
	if s.Law {
		return
	}
	for _, p := range s.Points {
		if !x.holds(p.X) || !y.holds(p.Y) {
			continue
		}
		if p.Low != p.High {
			line(b, i-i%len(dashes), fmt.Sprintf("M%.1f %.1fV%.1f", px(p.X), py(max(p.Low, y.from)), py(min(p.High, y.to))), colour(i))
		}
		mark(b, i, px(p.X), py(p.Y))
	}
}

func colour(i int) string { return "c" + strconv.Itoa(i%colours) }

func line(b *bytes.Buffer, i int, path string, class ...string) {
	c := colour(i)
	if len(class) > 0 {
		c = class[0]
	}
	dash := ""
	if d := dashes[i%len(dashes)]; d != "" {
		dash = ` stroke-dasharray="` + d + `"`
	}
	fmt.Fprintf(b, `<path class="l %s"%s d="%s"/>`+"\n", c, dash, path)
}

// mark is a circle, square, triangle or diamond.
func mark(b *bytes.Buffer, i int, x, y float64) {
	switch i % 4 {
	case 0:
		fmt.Fprintf(b, `<circle class="k %s" cx="%.1f" cy="%.1f" r="4"/>`+"\n", colour(i), x, y)
	case 1:
		fmt.Fprintf(b, `<path class="k %s" d="M%.1f %.1fh7v7h-7z"/>`+"\n", colour(i), x-3.5, y-3.5)
	case 2:
		fmt.Fprintf(b, `<path class="k %s" d="M%.1f %.1fl4.5 8h-9z"/>`+"\n", colour(i), x, y-5)
	case 3:
		fmt.Fprintf(b, `<path class="k %s" d="M%.1f %.1fl5 5l-5 5l-5 -5z"/>`+"\n", colour(i), x, y-5)
	}
}

// legend gives the curves in rows: two beside each other where both names are short.
func legend(list []Series) (rows [][]int) {
	for i := range list {
		n := len(rows)
		fits := func(i int) bool { return len([]rune(list[i].Name)) <= wideName }
		if n > 0 && len(rows[n-1]) == 1 && fits(i) && fits(rows[n-1][0]) {
			rows[n-1] = append(rows[n-1], i)
		} else {
			rows = append(rows, []int{i})
		}
	}
	return rows
}

// scale puts values on an axis.
type scale struct {
	log      bool
	from, to float64
	ticks    []float64
}

// place is 0 at the axis' begin and 1 at its end.
func (s scale) place(v float64) float64 {
	if s.log {
		return (math.Log(v) - math.Log(s.from)) / (math.Log(s.to) - math.Log(s.from))
	}
	return (v - s.from) / (s.to - s.from)
}

func (s scale) holds(v float64) bool {
	return !math.IsNaN(v) && v >= s.from-1e-9 && v <= s.to*(1+1e-9)
}

func (f *Figure) scale(a *Axis, of func(Point) []float64) scale {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, s := range f.Series {
		for _, p := range s.Points {
			for _, v := range of(p) {
				if a.Log && v <= 0 || math.IsNaN(v) || math.IsInf(v, 0) {
					continue
				}
				lo, hi = min(lo, v), max(hi, v)
			}
		}
	}
	if lo > hi {
		lo, hi = 0, 1
		if a.Log {
			lo = 0.1
		}
	}
	if a.From != a.To {
		lo, hi = a.From, a.To
	}
	if a.Log {
		return logScale(lo, hi)
	}
	if a.From == a.To {
		lo = min(lo, 0)
	}
	return linearScale(lo, hi)
}

// linearScale has about five ticks at 1, 2 or 5 times a power of ten.
func linearScale(lo, hi float64) scale {
	if hi <= lo {
		hi = lo + 1
	}
	raw := (hi - lo) / 5
	unit := math.Pow(10, math.Floor(math.Log10(raw)))
	step := unit * 10
	for _, m := range []float64{1, 2, 5} {
		if m*unit >= raw*0.999 {
			step = m * unit
			break
		}
	}
	s := scale{from: math.Floor(lo/step+1e-9) * step, to: math.Ceil(hi/step-1e-9) * step}
	for i := 0; ; i++ {
		v := s.from + float64(i)*step
		if v > s.to+step/2 {
			return s
		}
		s.ticks = append(s.ticks, math.Round(v/unit*10)*unit/10)
	}
}

// logScale has ticks at powers of ten, and at 2 and 5 times them where there are few.
func logScale(lo, hi float64) scale {
	if hi <= lo {
		hi = lo * 10
	}
	s := scale{log: true, from: lo, to: hi}
	first, last := math.Floor(math.Log10(lo)), math.Ceil(math.Log10(hi))
	factors := []float64{1}
	if last-first < 3 {
		factors = []float64{1, 2, 5}
	}
	for e := first; e <= last; e++ {
		for _, m := range factors {
			if v := m * math.Pow(10, e); v >= lo*(1-1e-9) && v <= hi*(1+1e-9) {
				s.ticks = append(s.ticks, v)
			}
		}
	}
	return s
}

// number is a value as a person would write it.
func number(v float64) string {
	if v != 0 && (math.Abs(v) < 1e-3 || math.Abs(v) >= 1e7) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	digits := 0
	switch a := math.Abs(v); {
	case a == math.Trunc(a):
	case a < 0.01:
		digits = 4
	case a < 1:
		digits = 3
	case a < 100:
		digits = 2
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	whole, rest, ok := strings.Cut(s, ".")
	if rest = strings.TrimRight(rest, "0"); ok && rest != "" {
		rest = "." + rest
	}
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	return sign + whole + rest
}

// short is number beside an axis, where there is little room.
func short(v float64) string {
	switch {
	case v >= 1e6 && v < 1e10:
		return number(v/1e6) + "M"
	case v >= 1e3:
		return number(v/1e3) + "k"
	}
	return number(v)
}

// wrap breaks a title into at most two lines.
func wrap(s string, width int) []string {
	if len([]rune(s)) <= width {
		return []string{s}
	}
	words := strings.Fields(s)
	n := 0
	for i := range words {
		if len([]rune(strings.Join(words[:i+1], " "))) > width {
			break
		}
		n = i + 1
	}
	return slices.DeleteFunc([]string{strings.Join(words[:n], " "), strings.Join(words[n:], " ")}, func(s string) bool { return s == "" })
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}
