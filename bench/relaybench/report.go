package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// A bar is what issue 2 asks for: a ratio to the peer, or an absolute figure.
type bar struct {
	limit    float64
	atMost   bool
	absolute bool
}

var bars = map[string]bar{
	mAccepted16:  {limit: 4},
	mDelivered16: {limit: 10},
	mTenDeliver:  {limit: 8},
	mCommit99:    {limit: 0.35, atMost: true},
	mSyncs16:     {limit: 0.15, atMost: true, absolute: true},
	mIdle50:      {limit: 2.5, atMost: true, absolute: true},
	mCPU:         {limit: 0.35, atMost: true, absolute: true},
	mLogins:      {limit: 650, absolute: true},
}

func (b bar) String() string {
	s, unit := ">=", "x"
	if b.atMost {
		s = "<="
	}
	if b.absolute {
		unit = ""
	}
	return fmt.Sprintf("%s %g%s", s, b.limit, unit)
}

// verdict compares; ratio is 0 without a peer.
func (b bar) verdict(value, ratio float64) string {
	x := ratio
	if b.absolute {
		x = value
	} else if ratio == 0 {
		return "" // no peer, no ratio
	}
	if b.atMost == (x <= b.limit) || x == b.limit {
		return "met"
	}
	return "missed"
}

// outcome is everything a run found.
type outcome struct {
	Rounds  int                   `json:"rounds"`
	Mails   int                   `json:"mails"`
	Bytes   int                   `json:"mail_bytes"`
	Machine string                `json:"machine"`
	Limits  []limits              `json:"limits"`           // one a round
	Runs    map[string][]measures `json:"runs"`             // by system, one a round
	Ratios  map[string]float64    `json:"ratios,omitempty"` // medians, Postern to peer
	NoPeer  string                `json:"no_peer,omitempty"`
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// mid is the median of one measure of one system; ok tells if it was taken.
func (o *outcome) mid(system, name string) (float64, bool) {
	var v []float64
	for _, m := range o.Runs[system] {
		if x, ok := m[name]; ok {
			v = append(v, x)
		}
	}
	return median(v), len(v) > 0
}

func (o *outcome) ratios() {
	o.Ratios = map[string]float64{}
	for _, name := range order {
		a, okA := o.mid(posternName, name)
		b, okB := o.mid(peerName, name)
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

func (o *outcome) text(w io.Writer) {
	var syncs, shakes []float64
	for _, l := range o.Limits {
		syncs, shakes = append(syncs, l.Syncs), append(shakes, l.Handshakes)
	}
	fmt.Fprintf(w, "\n%s\n%d round(s), %d mails of %d bytes at 16 sessions, medians. The load generator runs on the same cores.\n",
		o.Machine, o.Rounds, o.Mails, o.Bytes)
	fmt.Fprintf(w, "machine: %s fdatasync/s (16 KB appended, one writer), %s TLS 1.3 handshakes/s (both sides)\n\n",
		number(median(syncs)), number(median(shakes)))
	tw := tabwriter.NewWriter(w, 2, 2, 2, ' ', 0)
	_, havePostern := o.Runs[posternName]
	_, havePeer := o.Runs[peerName]
	if havePeer {
		fmt.Fprintln(tw, "measure\tpostern\t"+peerName+"\tratio\tbar\t")
	} else {
		fmt.Fprintln(tw, "measure\tpostern\tbar\t")
	}
	for _, name := range order {
		a, okA := o.mid(posternName, name)
		b, okB := o.mid(peerName, name)
		if !okA && !okB {
			continue
		}
		cell := func(x float64, ok bool) string {
			if !ok {
				return "-"
			}
			return number(x)
		}
		mark := ""
		ratio := o.Ratios[name]
		if bar, ok := bars[name]; ok && okA {
			if v := bar.verdict(a, ratio); v != "" {
				mark = bar.String() + " " + v
			} else if havePeer || bar.absolute {
				mark = bar.String()
			}
		}
		if havePeer {
			r := ""
			if ratio != 0 {
				r = number(ratio) + "x"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t\n", name, cell(a, okA), cell(b, okB), r, mark)
		} else {
			fmt.Fprintf(tw, "%s\t%s\t%s\t\n", name, cell(a, okA), mark)
		}
	}
	tw.Flush()
	if !havePostern {
		return
	}
	if o.NoPeer != "" {
		fmt.Fprintf(w, "\nno peer (%s), so no ratio. Against the machine's own limits:\n", o.NoPeer)
	} else {
		fmt.Fprintf(w, "\nagainst the machine's own limits:\n")
	}
	against := func(name string, limit float64, what string) {
		if a, ok := o.mid(posternName, name); ok && limit > 0 {
			fmt.Fprintf(w, "  %s: %.2f of %s\n", name, a/limit, what)
		}
	}
	against(mAccepted1, median(syncs), "the fdatasync rate of one writer")
	against(mAccepted16, median(syncs), "the fdatasync rate of one writer (above 1: syncs are shared)")
	against(mFresh, median(shakes), "the handshake rate")
	against(mLogins, median(shakes), "the handshake rate")
}

func (o *outcome) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(o)
}
