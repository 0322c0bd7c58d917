package dns

import (
	"context"
	"net/netip"
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

// answerCost is about what an answer costs beside its name and value.
const answerCost = 250

// look gives what is kept, or asks: of equal questions at one time only one.
func (r *Resolver) look(ctx context.Context, q question) (*answer, error) {
	now := r.o.Now()
	r.mu.Lock()
	if a, ok := r.kept.Get(q); ok {
		if now.Before(a.until) {
			r.mu.Unlock()
			return a, nil
		}
		r.kept.Delete(q)
	}
	forgotten := r.forgotten
	r.mu.Unlock()
	a, err := r.asking.Do(ctx, q, func(ctx context.Context) (*answer, error) {
		a, err := r.ask(ctx, q)
		if err == nil {
			r.keep(q, a, forgotten)
		}
		return a, err
	})
	if err != nil && errs.KindOf(err) == errs.Canceled {
		return nil, noAnswer(ctx, err)
	}
	return a, err
}

// ask asks the servers.
func (r *Resolver) ask(ctx context.Context, q question) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Timeout)
	defer cancel()
	if q.typ == typeAddresses {
		return r.addresses(ctx, q.name)
	}
	return r.resolve(ctx, q)
}

// keep keeps an answer, but not one that was asked for before something was forgotten.
func (r *Resolver) keep(q question, a *answer, forgotten uint64) {
	if a.until.IsZero() || a.size > MaxAnswer {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forgotten == forgotten {
		r.kept.Put(q, a, int64(a.size+len(q.name)+answerCost))
	}
}

// Forget drops what is known about a name: the next question is asked again.
func (r *Resolver) Forget(name string) {
	name, ok := canonical(name)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgotten++
	for _, typ := range [...]uint16{typeAddresses, mdns.TypeMX, mdns.TypeTXT, mdns.TypeTLSA, mdns.TypePTR, mdns.TypeSRV, mdns.TypeCAA, mdns.TypeCNAME, mdns.TypeNS} {
		r.kept.Delete(question{name, typ})
		r.asking.Forget(question{name, typ})
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
	if IsLocal(host) {
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
