package directory

import (
	"fmt"
	"slices"
	"strings"

	"postern.email/kit/errs"
)

// Parameter is a named number of a network or a node.
type Parameter struct {
	Name  string
	Value uint64
}

// Parameters is a list sorted by name, each name once.
type Parameters []Parameter

// Parameters of a network. Names that end in -interval are means of exponential
// distributions, in milliseconds.
const (
	Delay           = "delay"            // mean stay in a mix, milliseconds
	MaxDelay        = "max-delay"        // longest that a hop takes, milliseconds
	PayloadInterval = "payload-interval" // between a client's packets of mail or cover (λ_P)
	LoopInterval    = "loop-interval"    // between a client's loops (λ_L)
	DropInterval    = "drop-interval"    // between a client's drops (λ_D)
	MixLoopInterval = "mix-loop-interval"
	ReceiveInterval = "receive-interval" // between units from a relay to a client (λ_R)
	LinkInterval    = "link-interval"    // between units on a link that is idle
	LayerMinimum    = "layer-minimum"    // mixes that a layer should have
	Pools           = "pools"            // 1: mixes with other pools than Poisson take part
)

// LayerParameter is the parameter of a descriptor by which a mix that is in no directory says
// its layer.
const LayerParameter = "layer"

// ExitParameter is the parameter by which a node says that it sends mail into the world outside, and
// which: a sum of the values below. A node without it sends none.
const (
	ExitParameter = "exit-mail"

	ExitMail      = 1 // mail that is end-to-end encrypted, of senders at the node's own domains
	ExitCleartext = 2 // other mail too
	ExitForeign   = 4 // senders at domains of other relays too
)

// known are the parameters that this version knows, with their bounds and their values in
// the profiles full and low (docs/directory.md §7). Sorted by name.
var known = [...]struct {
	name              string
	lo, hi, full, low uint64
}{
	{Delay, 1, 3_600_000, 20_000, 20_000},
	{DropInterval, 10, 86_400_000, 30_000, 300_000},
	{LayerMinimum, 1, MaxNodes / 3, 2, 2},
	{LinkInterval, 10, 86_400_000, 10_000, 100_000},
	{LoopInterval, 10, 86_400_000, 30_000, 300_000},
	{MaxDelay, 1, 1<<32 - 1, 3_600_000, 3_600_000},
	{MixLoopInterval, 10, 86_400_000, 30_000, 300_000},
	{PayloadInterval, 10, 86_400_000, 10_000, 100_000},
	{Pools, 0, 1, 0, 0},
	{ReceiveInterval, 10, 86_400_000, 5_000, 50_000},
}

// ProfileFull are the parameters for networks of 1,000 users and more.
func ProfileFull() Parameters { return profile(false) }

// ProfileLow are those for smaller networks: a tenth of the cover traffic.
func ProfileLow() Parameters { return profile(true) }

func profile(low bool) Parameters {
	p := make(Parameters, 0, len(known))
	for _, k := range known {
		v := k.full
		if low {
			v = k.low
		}
		p = append(p, Parameter{k.name, v})
	}
	return p
}

// Get gives a value. Where the list lacks a known name, it is that of the low profile; 0 for
// an unknown one.
func (p Parameters) Get(name string) uint64 {
	if i, ok := slices.BinarySearchFunc(p, name, func(e Parameter, n string) int { return strings.Compare(e.Name, n) }); ok {
		return p[i].Value
	}
	for _, k := range known {
		if k.name == name {
			return k.low
		}
	}
	return 0
}

// add reads a line. Known names of a network are held to their bounds.
func (p *Parameters) add(v *fields, bounded bool) error {
	e := Parameter{Name: v.name(), Value: v.uint(0, MaxParameter)}
	if v.bad != "" {
		return nil
	}
	if n := len(*p); n > 0 && (*p)[n-1].Name >= e.Name {
		return errs.E("directory.Parameters", errs.Invalid, "not sorted", nil)
	}
	if bounded {
		if err := e.bounded(); err != nil {
			return err
		}
	}
	*p = append(*p, e)
	return nil
}

// bounded holds a known parameter of a network to its bounds.
func (e *Parameter) bounded() error {
	for _, k := range known {
		if k.name == e.Name && (e.Value < k.lo || e.Value > k.hi) {
			return errs.E("directory.Parameters", errs.Invalid, fmt.Sprintf("%s is not from %d to %d", k.name, k.lo, k.hi), nil)
		}
	}
	return nil
}

// Check tells whether a vote can name the list: errs.Invalid, with a public text, if not.
func (p Parameters) Check() error {
	const op = "directory.Parameters.Check"
	if len(p) > MaxParameters {
		return errs.E(op, errs.Invalid, fmt.Sprintf("more than %d parameters", MaxParameters), nil)
	}
	for i := range p {
		switch e := &p[i]; {
		case len(e.Name) > MaxName || !isToken(e.Name, ".-"):
			return errs.E(op, errs.Invalid, fmt.Sprintf("%q is not 1 to %d of a-z, 0-9, dot and hyphen", e.Name, MaxName), nil)
		case e.Value > MaxParameter:
			return errs.E(op, errs.Invalid, e.Name+" is too large", nil)
		case i > 0 && p[i-1].Name >= e.Name:
			return errs.E(op, errs.Invalid, "parameters are not sorted", nil)
		default:
			if err := e.bounded(); err != nil {
				return errs.Wrap(op, err)
			}
		}
	}
	return nil
}

func (p Parameters) write(w *writer) {
	for _, e := range p {
		w.line("parameter", e.Name, e.Value)
	}
}
