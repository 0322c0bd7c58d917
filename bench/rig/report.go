package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// Measures are the figures of one system in one round, by name.
type Measures map[string]float64

// A Bar is what is asked of a measure: a ratio to the peer, or an absolute figure.
type Bar struct {
	Limit    float64
	AtMost   bool
	Absolute bool
}

// String gives "<= 0.35x" or ">= 650".
func (b Bar) String() string {
	s, unit := ">=", "x"
	if b.AtMost {
		s = "<="
	}
	if b.Absolute {
		unit = ""
	}
	return fmt.Sprintf("%s %g%s", s, b.Limit, unit)
}

// Verdict compares: "met", "missed" or, for a ratio of 0 (no peer), "".
func (b Bar) Verdict(value, ratio float64) string {
	x := ratio
	if b.Absolute {
		x = value
	} else if ratio == 0 {
		return "" // no peer, no ratio
	}
	if b.AtMost == (x <= b.Limit) || x == b.Limit {
		return "met"
	}
	return "missed"
}

// An Against compares one measure with what the machine itself can do.
type Against struct {
	Name  string
	Limit func(Limits) float64
	What  string // "the handshake rate"
}

// Outcome is everything a run found, and how it is to be shown.
type Outcome struct {
	Rounds  int                   `json:"rounds"`
	Mails   int                   `json:"mails"`
	Bytes   int                   `json:"mail_bytes"`
	Machine string                `json:"machine"`
	Limits  []Limits              `json:"limits"`           // one a round
	Runs    map[string][]Measures `json:"runs"`             // by system, one a round
	Ratios  map[string]float64    `json:"ratios,omitempty"` // medians, Postern to peer
	NoPeer  string                `json:"no_peer,omitempty"`

	Load    string         `json:"-"` // the load in words, for the table
	Order   []string       `json:"-"` // names of the measures
	Bars    map[string]Bar `json:"-"`
	Against []Against      `json:"-"`
}

// Median of v; 0 of nothing.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// Percentile of d, which it sorts; 0 of nothing.
func Percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(p/100*float64(len(d))))]
}

// MS gives d in milliseconds.
func MS(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Mid is the median of one measure of one system; ok tells if it was taken.
func (o *Outcome) Mid(system, name string) (float64, bool) {
	var v []float64
	for _, m := range o.Runs[system] {
		if x, ok := m[name]; ok {
			v = append(v, x)
		}
	}
	return Median(v), len(v) > 0
}

// SetRatios fills Ratios from Runs.
func (o *Outcome) SetRatios() {
	o.Ratios = map[string]float64{}
	for _, name := range o.Order {
		a, okA := o.Mid(PosternName, name)
		b, okB := o.Mid(PeerName, name)
		if okA && okB && b != 0 {
			o.Ratios[name] = a / b
		}
	}
}

func number(x float64) string {
	switch {
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.3g", x)
}

// Text writes the table.
func (o *Outcome) Text(w io.Writer) {
	var syncs, shakes []float64
	for _, l := range o.Limits {
		syncs, shakes = append(syncs, l.Syncs), append(shakes, l.Handshakes)
	}
	fmt.Fprintf(w, "\n%s\n%d round(s), %s, medians. The load generator runs on the same cores.\n", o.Machine, o.Rounds, o.Load)
	fmt.Fprintf(w, "machine: %s fdatasync/s (16 KB appended, one writer), %s TLS 1.3 handshakes/s (both sides)\n\n",
		number(Median(syncs)), number(Median(shakes)))
	tw := tabwriter.NewWriter(w, 2, 2, 2, ' ', 0)
	_, havePostern := o.Runs[PosternName]
	_, havePeer := o.Runs[PeerName]
	if havePeer {
		fmt.Fprintln(tw, "measure\tpostern\t"+PeerName+"\tratio\tbar\t")
	} else {
		fmt.Fprintln(tw, "measure\tpostern\tbar\t")
	}
	for _, name := range o.Order {
		o.row(tw, name, havePeer)
	}
	tw.Flush()
	if !havePostern {
		return
	}
	if o.NoPeer != "" {
		fmt.Fprintf(w, "\nno peer (%s), so no ratio.\n", o.NoPeer)
	}
	if len(o.Against) > 0 {
		fmt.Fprintf(w, "\nagainst the machine's own limits:\n")
	}
	for _, g := range o.Against {
		var v []float64
		for _, l := range o.Limits {
			v = append(v, g.Limit(l))
		}
		if a, ok := o.Mid(PosternName, g.Name); ok && Median(v) > 0 {
			fmt.Fprintf(w, "  %s: %.2f of %s\n", g.Name, a/Median(v), g.What)
		}
	}
}

// row writes one line of the table.
func (o *Outcome) row(w io.Writer, name string, havePeer bool) {
	a, okA := o.Mid(PosternName, name)
	b, okB := o.Mid(PeerName, name)
	if !okA && !okB {
		return
	}
	cell := func(x float64, ok bool) string {
		if !ok {
			return "-"
		}
		return number(x)
	}
	mark := ""
	ratio := o.Ratios[name]
	if bar, ok := o.Bars[name]; ok && okA {
		if v := bar.Verdict(a, ratio); v != "" {
			mark = bar.String() + " " + v
		} else if havePeer {
			mark = bar.String()
		}
	}
	if !havePeer {
		fmt.Fprintf(w, "%s\t%s\t%s\t\n", name, cell(a, okA), mark)
		return
	}
	r := ""
	if ratio != 0 {
		r = number(ratio) + "x"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", name, cell(a, okA), cell(b, okB), r, mark)
}

// JSON writes everything.
func (o *Outcome) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(o)
}
