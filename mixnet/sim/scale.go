package sim

import (
	"fmt"
	"math"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// Scale gives a profile with other rates: each user sends lambda packets a second, in the proportions of
// the profile, and the mean delay of a mix is 1/mu seconds. 0 leaves what is there. errs.Invalid for a
// rate or a delay that a network cannot have (docs/directory.md §7).
func Scale(p directory.Parameters, lambda, mu float64) (directory.Parameters, error) {
	const op = "mixnet/sim.Scale"
	out := append(directory.Parameters(nil), p...)
	if lambda != 0 {
		s := Setup{Parameters: p}
		by := s.rate() / lambda
		for _, name := range []string{directory.PayloadInterval, directory.LoopInterval, directory.DropInterval} {
			ms := math.Round(float64(p.Get(name)) * by)
			if !(ms >= 10 && ms <= 86_400_000) {
				return nil, errs.E(op, errs.Invalid, fmt.Sprintf("with %v packets a second the mean of the clock %s would not be from 10 ms to a day", lambda, name), nil)
			}
			out = put(out, name, uint64(ms))
		}
	}
	if mu != 0 {
		ms := math.Round(1000 / mu)
		if !(ms >= 1 && ms <= 3_600_000) {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("with μ = %v the mean delay would not be from 1 ms to an hour", mu), nil)
		}
		out = put(out, directory.Delay, uint64(ms))
	}
	return out, nil
}

// put changes one of the parameters of a list.
func put(list directory.Parameters, name string, value uint64) directory.Parameters {
	for i := range list {
		if list[i].Name == name {
			list[i].Value = value
		}
	}
	return list
}
