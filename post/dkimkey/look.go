package dkimkey

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail/dkim"
	"postern.email/store"
)

// Run looks every Options.Every until ctx ends, or until the store fails. It returns nil.
func (k *Keys) Run(ctx context.Context, lookup dkim.Lookup) error {
	store.Every(ctx, k.o.Store, k.o.Every, k.o.Logger, "the signing keys could not be looked after", func(ctx context.Context) error { return k.Look(ctx, lookup) })
	return nil
}

// Look moves pairs on: a new one whose records lookup finds takes the place of the active
// one; one whose overlap is over is removed; what Options.Publish asks for is published,
// or destroyed again. It asks only when something depends on the answer, and a question
// without answer changes nothing.
func (k *Keys) Look(ctx context.Context, lookup dkim.Lookup) error {
	const op = "post/dkimkey.Look"
	seen := make(map[string]Seen)
	for _, p := range k.List() {
		if p.State == New || p.State == Retiring && k.o.Publish && k.over(p) {
			seen[p.Name] = k.look(ctx, p, lookup)
		}
	}
	gone := false
	err := k.change(ctx, func(now time.Time, pairs []*pair) (write []*pair, err error) {
		for _, p := range pairs {
			next := *p
			switch s := seen[p.Name]; {
			case p.State == New && s == Found:
				next.State, next.Activated = Active, now
				for _, old := range pairs {
					if old.State == Active {
						retired := *old
						retired.State, retired.Retired = Retiring, now
						write = append(write, &retired)
					}
				}
			case p.State == Retiring && k.over(p.Pair) && !k.o.Publish:
				next = *p.destroyed()
				next.State, next.Removed, next.Gone = Removed, now, time.Time{}
				gone = true
			case p.State == Retiring && s == Absent && p.Gone.IsZero():
				next.Gone = now
			case p.State == Retiring && s == Absent && now.Sub(p.Gone) >= PublishWait:
				next.State, next.Removed, next.Published = Removed, now, true
			case p.State == Retiring && !p.Gone.IsZero() && (s == Found || s == Other || s == Part):
				next.Gone = time.Time{} // it came back
			case p.Published && !k.o.Publish:
				next = *p.destroyed()
				gone = true
			default:
				continue
			}
			write = append(write, &next)
		}
		return write, nil
	})
	if err != nil {
		return errs.Wrap(op, err)
	}
	if gone {
		k.unpurged.Store(true)
	}
	if k.unpurged.Load() {
		// What was destroyed must be in no file any more.
		if err := k.o.Store.Purge(ctx); err != nil {
			return errs.Wrap(op, err)
		}
		k.unpurged.Store(false)
	}
	return nil
}

// over tells whether the records of a retired pair may go.
func (k *Keys) over(p Pair) bool {
	return p.State == Retiring && k.o.Now().Sub(p.Retired) >= k.o.Overlap
}

// MayGo gives when the records of a retired pair may be taken out of the DNS.
func (k *Keys) MayGo(p Pair) time.Time { return p.Retired.Add(k.o.Overlap) }

// Seen is what the DNS shows of a record, or of all records of a pair.
type Seen uint8

const (
	Unknown Seen = iota // no answer
	Absent              // there is no record
	Other               // there is one, but not this key's
	Found               // it is there
	Part                // of a pair: not all are the same
)

var seenNames = [...]string{"unknown", "absent", "other", "found", "part"}

// String gives a word for programs.
func (s Seen) String() string {
	if int(s) < len(seenNames) {
		return seenNames[s]
	}
	return "unknown"
}

// Look looks for the record of one key.
func (key PublicKey) Look(ctx context.Context, domain string, lookup dkim.Lookup) Seen {
	txts, _, err := lookup(ctx, dkim.RecordName(key.Selector, domain))
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return Absent
	case err != nil:
		return Unknown
	case len(txts) == 0:
		return Absent
	case dkim.Serves(txts, key.Public):
		return Found
	}
	return Other
}

// look looks for both records of a pair, in all domains; one question without answer makes it Unknown.
func (k *Keys) look(ctx context.Context, p Pair, lookup dkim.Lookup) Seen {
	all := p.Keys[0].Look(ctx, k.o.Domain, lookup)
	for i, domain := range append([]string{k.o.Domain}, k.o.Also...) {
		for n, key := range p.Keys {
			if i == 0 && n == 0 {
				continue
			}
			switch one := key.Look(ctx, domain, lookup); {
			case one == Unknown || all == Unknown:
				return Unknown
			case one != all:
				all = Part
			}
		}
	}
	return all
}

// Published gives the private key of a selector in PEM (PKCS 8), if it is published.
func (k *Keys) Published(selector string) (text []byte, ok bool) {
	if !k.o.Publish {
		return nil, false
	}
	for _, p := range k.all() {
		if !p.Published {
			continue
		}
		for i, private := range []any{p.rsa, p.ed} {
			if p.Keys[i].Selector != selector {
				continue
			}
			der, err := x509.MarshalPKCS8PrivateKey(private)
			if err != nil {
				return nil, false
			}
			return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), true
		}
	}
	return nil, false
}
