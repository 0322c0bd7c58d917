package sim

import (
	"encoding/json"
	"math"
)

// Figure is a drawing and the numbers behind it.
type Figure struct {
	Name   string   `json:"name"` // of its files, without ending
	Title  string   `json:"title"`
	X      Axis     `json:"x"`
	Y      Axis     `json:"y"`
	Note   string   `json:"note,omitempty"` // how it was measured, in a sentence or two
	Series []Series `json:"series"`
}

// Axis is one of a Figure's two. From and To, where they differ, bound it; else the points do.
type Axis struct {
	Label string  `json:"label"`
	Log   bool    `json:"log,omitempty"`
	From  float64 `json:"from,omitempty"`
	To    float64 `json:"to,omitempty"`
}

// Series is a curve. A law is drawn as a line without marks: it was computed, not measured.
type Series struct {
	Name   string  `json:"name"`
	Law    bool    `json:"law,omitempty"`
	Points []Point `json:"points"`
}

// Point is a measurement. Low and High, where there are any, bound what was seen.
type Point struct {
	X, Y      float64
	Low, High float64 // equal: not known
}

// at is a point with four digits behind the decimal point, which is all that is measured,
// and the same on every processor.
func at(x, y float64) Point { return Point{X: round(x), Y: round(y)} }

// between is at with bounds.
func between(x, y, low, high float64) Point {
	return Point{round(x), round(y), round(low), round(high)}
}

func round(v float64) float64 {
	if v != 0 && math.Abs(v) < 0.01 { // three digits that count, where there is nothing before the point
		scale := math.Pow(10, 2-math.Floor(math.Log10(math.Abs(v))))
		return math.Round(v*scale) / scale
	}
	return math.Round(v*1e4) / 1e4
}

// MarshalJSON leaves out bounds that are not known.
func (p Point) MarshalJSON() ([]byte, error) {
	type short struct {
		X float64 `json:"x"`
		Y float64 `json:"y"`
	}
	if p.Low == p.High {
		return json.Marshal(short{p.X, p.Y})
	}
	return json.Marshal(struct {
		short
		Low  float64 `json:"low"`
		High float64 `json:"high"`
	}{short{p.X, p.Y}, p.Low, p.High})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Point) UnmarshalJSON(b []byte) error {
	var v struct{ X, Y, Low, High float64 }
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	*p = Point{v.X, v.Y, v.Low, v.High}
	return nil
}
