package certs

import (
	"crypto/tls"
	"time"

	"postern.email/kit/errs"
)

// Status tells an operator about the certificates.
type Status struct {
	Mode  string        `json:"mode"` // "files", "acme" or "self-signed"
	Certs []Certificate `json:"certificates"`
}

// Certificate is one of them, or the lack of it.
type Certificate struct {
	Names    []string `json:"names"`
	Issuer   string   `json:"issuer,omitempty"`    // empty: there is none yet
	NotAfter string   `json:"not_after,omitempty"` // RFC 3339
	Error    string   `json:"error,omitempty"`     // why there is none, or no newer one
	NextTry  string   `json:"next_try,omitempty"`  // RFC 3339; empty: not known
}

// Status gives the state of all certificates, the domain's first.
func (c *Certs) Status() Status {
	if c.acme != nil {
		return c.acme.status()
	}
	s := Status{Mode: "files"}
	x := describe(c.now.Load())
	if c.selfSigned {
		s.Mode, x.Issuer = "self-signed", "this server"
	}
	c.mu.Lock()
	if c.bad.err != nil {
		x.Error = errs.Public(c.bad.err)
	}
	c.mu.Unlock()
	s.Certs = []Certificate{x}
	return s
}

func (a *authority) status() Status {
	s := Status{Mode: "acme"}
	pairs := *a.pairs.Load()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.names {
		x := Certificate{Names: []string{n}}
		if p := pairs[n]; p != nil {
			x = describe(p)
		}
		if t, ok := a.state[n]; ok {
			x.Error = errs.Public(t.err)
			if !t.next.IsZero() {
				x.NextTry = t.next.UTC().Format(time.RFC3339)
			}
		}
		s.Certs = append(s.Certs, x)
	}
	return s
}

// describe tells what stands in a certificate.
func describe(p *tls.Certificate) Certificate {
	x := Certificate{Names: p.Leaf.DNSNames, Issuer: p.Leaf.Issuer.CommonName, NotAfter: p.Leaf.NotAfter.UTC().Format(time.RFC3339)}
	for _, ip := range p.Leaf.IPAddresses {
		x.Names = append(x.Names[:len(x.Names):len(x.Names)], ip.String())
	}
	if x.Issuer == "" && len(p.Leaf.Issuer.Organization) > 0 {
		x.Issuer = p.Leaf.Issuer.Organization[0]
	}
	return x
}
