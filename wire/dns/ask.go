package dns

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"postern.email/kit/errs"
)

// typeAddresses stands for A and AAAA together; no record has type 0.
const typeAddresses uint16 = 0

type question struct {
	name string
	typ  uint16
}

// answer is what is known about a question. It is never changed.
type answer struct {
	value     any   // see values; a Host for typeAddresses
	err       error // errs.NotFound, or nil
	authentic bool
	size      int
	until     time.Time // zero: not kept
}

// flight is a question that is being asked. Others with the same question wait for it.
type flight struct {
	done   chan struct{}
	a      *answer
	err    error
	gaveUp bool // the asker did, not the servers
}

// answerCost is about what an answer costs beside its name and value.
const answerCost = 250

// look gives what is kept, or asks: of equal questions at one time only one.
func (r *Resolver) look(ctx context.Context, q question) (*answer, error) {
	for {
		now := r.o.Now()
		r.mu.Lock()
		if a, ok := r.kept.Get(q); ok {
			if now.Before(a.until) {
				r.mu.Unlock()
				return a, nil
			}
			r.kept.Delete(q)
		}
		f, others := r.asking[q]
		if !others {
			f = &flight{done: make(chan struct{}), gaveUp: true}
			r.asking[q] = f
		}
		r.mu.Unlock()
		if !others {
			return r.lead(ctx, q, f)
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, noAnswer(ctx, nil)
		}
		if !f.gaveUp {
			return f.a, f.err
		}
	}
}

// lead asks for all who wait for f.
func (r *Resolver) lead(ctx context.Context, q question, f *flight) (*answer, error) {
	defer func() {
		r.mu.Lock()
		if r.asking[q] == f { // else Forget was called meanwhile
			delete(r.asking, q)
			if f.err == nil && f.a != nil && !f.a.until.IsZero() && f.a.size <= MaxAnswer {
				r.kept.Put(q, f.a, int64(f.a.size+len(q.name)+answerCost))
			}
		}
		r.mu.Unlock()
		close(f.done)
	}()
	inTime, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	if q.typ == typeAddresses {
		f.a, f.err = r.addresses(inTime, q.name)
	} else {
		f.a, f.err = r.resolve(inTime, q)
	}
	f.gaveUp = f.err != nil && ctx.Err() != nil
	return f.a, f.err
}

// Forget drops what is known about a name: the next question is asked again.
func (r *Resolver) Forget(name string) {
	name, ok := canonical(name)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, typ := range [...]uint16{typeAddresses, mdns.TypeMX, mdns.TypeTXT, mdns.TypeTLSA, mdns.TypePTR, mdns.TypeSRV, mdns.TypeCAA, mdns.TypeCNAME, mdns.TypeNS} {
		q := question{name, typ}
		r.kept.Delete(q)
		delete(r.asking, q)
	}
}

// resolve asks one question and follows CNAMEs. The answer's value for A and AAAA is a
// Host.
func (r *Resolver) resolve(ctx context.Context, q question) (*answer, error) {
	const op = "wire/dns.resolve"
	c := chain{at: q.name, authentic: true, ttl: MaxTTL}
	for {
		m, trusted, err := r.exchange(ctx, c.at+".", q.typ)
		if err != nil {
			return nil, err
		}
		c.authentic = c.authentic && trusted && m.AuthenticatedData
		whole, err := c.follow(m, q.typ)
		if err != nil {
			return nil, err
		}
		if whole {
			break
		}
	}
	a := &answer{authentic: c.authentic}
	if c.missing != nil {
		a.err = errs.E(op, errs.NotFound, "the name has no such record", c.missing)
		if c.ttl > 0 {
			a.until = r.o.Now().Add(c.ttl)
		}
		if q.typ == mdns.TypeA || q.typ == mdns.TypeAAAA {
			a.value = Host{Canonical: c.at}
		}
		return a, nil
	}
	value, n, size := values(q.typ, c.found)
	if n == 0 {
		return nil, errs.E(op, errs.Unavailable, "the resolver's answer makes no sense", nil)
	}
	if list, ok := value.([]netip.Addr); ok {
		value = Host{Canonical: c.at, Addrs: list}
	}
	a.value, a.size, a.until = value, size, r.o.Now().Add(max(c.ttl, MinTTL))
	return a, nil
}

// addresses asks for both kinds at once.
func (r *Resolver) addresses(ctx context.Context, host string) (*answer, error) {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		here := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
		return &answer{value: Host{Name: host, Canonical: host, Addrs: here}}, nil
	}
	var a4, a6 *answer
	var err4, err6 error
	var both sync.WaitGroup
	both.Go(func() { a6, err6 = r.resolve(ctx, question{host, mdns.TypeAAAA}) })
	a4, err4 = r.resolve(ctx, question{host, mdns.TypeA})
	both.Wait()
	switch {
	case err4 != nil && err6 != nil:
		return nil, err4
	case err4 != nil:
		return alone(host, a6, err4)
	case err6 != nil:
		return alone(host, a4, err6)
	}
	h4, h6 := a4.value.(Host), a6.value.(Host)
	a := &answer{authentic: a4.authentic && a6.authentic, size: a4.size + a6.size, until: a4.until}
	if a6.until.Before(a4.until) { // also when it is zero
		a.until = a6.until
	}
	h := Host{Name: host, Canonical: h4.Canonical, Authentic: a.authentic, Addrs: append(h4.Addrs[:len(h4.Addrs):len(h4.Addrs)], h6.Addrs...)}
	switch {
	case a4.err != nil && a6.err != nil:
		a.err = a4.err
	case a4.err != nil:
		h.Canonical = h6.Canonical
	case a6.err == nil && h4.Canonical != h6.Canonical: // two answers from before and after a change
		h.Authentic, a.authentic = false, false
	}
	a.value = h
	return a, nil
}

// alone is the answer when one of the two questions failed; see Addresses. It is not
// kept.
func alone(host string, a *answer, failure error) (*answer, error) {
	if a.err != nil || a.authentic {
		return nil, failure
	}
	h := a.value.(Host)
	h.Name = host
	return &answer{value: h}, nil
}
