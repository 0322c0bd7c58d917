package exit

import (
	"bytes"
	"slices"

	"postern.email/kit/errs"
	"postern.email/kit/ledger"
	"postern.email/mail"
)

// state is how far the mail of a token is: the last byte of the token's value, of which the others are the mail's
// mark. The two lowest bits are the stage; the rest says, of a mail with up to masked recipients, who of them
// is to get it. So it is judged once how much they may get today, however often it comes again because
// the queue takes nothing: a mail that waits does not use up what its recipients may get.
type state byte

const (
	unspent state = 0
	isBegun state = 1 // it is for a mail that is being handed over
	done    state = 2 // and that was
	stages  state = 3
	masked        = 6
)

func (s state) done() bool  { return s&stages == done }
func (s state) begun() bool { return s&stages == isBegun }

// mask has a bit for each recipient who is to get the mail; 0: it is not known who.
func (s state) mask() byte { return byte(s >> 2) }

// begun is the state of a mail to all that goes to some of them, each of whom is there once.
func begun(all, some []mail.Address) state {
	s := isBegun
	if len(all) > masked {
		return s
	}
	for _, a := range some {
		s |= 1 << (2 + slices.Index(all, a))
	}
	return s
}

// still gives those of the recipients of a mail who are to get it, but for who has blocked itself since.
func (e *Exit) still(c *Config, all []mail.Address, s state) (out []mail.Address, err error) {
	for i, a := range all {
		if i < masked && s.mask()&(1<<i) != 0 && !e.refuses(c, a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, errNone
	}
	return out, nil
}

func spendable(l *ledger.Ledger, k ledger.Key, of [16]byte) (state, error) {
	v, ok := l.Get(k)
	switch {
	case !ok:
		return unspent, nil
	case !bytes.Equal(v[:15], of[:15]):
		return unspent, errs.E("agent/exit.spendable", errs.Denied, "the token was used for another mail", nil)
	}
	return state(v[15]), nil
}

func mark(l *ledger.Ledger, k ledger.Key, of [16]byte, s state) error {
	of[15] = byte(s)
	return l.Set(k, ledger.Value(of))
}
