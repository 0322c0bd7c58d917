package dkimkey

import (
	"context"
	"fmt"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// read calls fn for every record as it lies in the store; err says that it cannot be opened.
func (k *Keys) read(ctx context.Context, fn func(name string, p *pair, err error)) error {
	type record struct {
		name string
		p    *pair
		err  error
	}
	var all []record
	err := k.o.Store.View(ctx, home, func(r store.Reader) error {
		all = nil
		return r.Scan(recordsStart, recordsEnd, func(key, sealed []byte) (bool, error) {
			p, err := open(k.o.Root, key, sealed)
			all = append(all, record{fmt.Sprintf("%q", key[1:]), p, err})
			return true, nil
		})
	})
	if err != nil {
		return err
	}
	for _, r := range all {
		fn(r.name, r.p, r.err)
	}
	return nil
}

// Check reads every record and reports what is wrong. It changes nothing.
func (k *Keys) Check(ctx context.Context, report func(string)) error {
	var count [numStates]int
	n := 0
	err := k.read(ctx, func(name string, p *pair, err error) {
		n++
		if err != nil {
			report("the signing keys " + name + " cannot be read")
			return
		}
		count[p.State]++
	})
	if err != nil {
		return errs.Wrap("post/dkimkey.Check", err)
	}
	if n > 0 && count[Active] != 1 {
		report(fmt.Sprintf("%d pairs of signing keys are active; one should be", count[Active]))
	}
	if count[New] > 1 {
		report(fmt.Sprintf("%d pairs of signing keys are new; one may be", count[New]))
	}
	return nil
}

// Reveal tells what the node key opens of the records. The private halves are named, not
// printed.
func (k *Keys) Reveal(ctx context.Context, emit func(kind, text string)) error {
	return errs.Wrap("post/dkimkey.Reveal", k.read(ctx, func(name string, p *pair, err error) {
		text := "pair " + name + " cannot be opened"
		if err == nil {
			private := "private keys of"
			if p.rsa == nil {
				private = "private keys destroyed:"
			}
			text = fmt.Sprintf("pair %s: %s %s and %s, state=%s made=%s activated=%s retired=%s removed=%s", p.Name, private, p.Keys[0].Selector, p.Keys[1].Selector,
				p.State, stamp(p.Made), stamp(p.Activated), stamp(p.Retired), stamp(p.Removed))
		}
		emit(seal.PurposeDKIM.String(), text)
	}))
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.RFC3339)
}
