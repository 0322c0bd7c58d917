package relay

import (
	"context"
	"net/netip"

	"postern.email/kit/errs"
	"postern.email/wire/dns"
)

// openNames makes the one resolver that all look-ups of this server share.
func (s *Server) openNames() (err error) {
	n := &s.c.Network
	s.names, err = dns.New(dns.Options{Server: n.Resolver, TrustAD: n.ResolverDNSSEC, FS: s.d.FS, Now: s.d.Now, Rand: s.d.Rand})
	return err
}

// addresses gives the addresses of a host. errs.NotFound when it has none.
func (s *Server) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	h, err := s.names.Addresses(ctx, host)
	return h.Addrs, err
}

// diagnoseResolver says whether DNSSEC protects what this server looks up.
func (s *Server) diagnoseResolver(ctx context.Context, d *diagnoses) {
	const what = "DNSSEC"
	validates, err := s.names.DNSSEC(ctx)
	const local = "Run a validating resolver on this machine (such as unbound) and name it in network.resolver."
	switch {
	case err != nil:
		d.Fault(what, "Look at network.resolver: "+orSystem(s.c.Network.Resolver), "it cannot be told whether the resolver validates: %s", errs.Public(err))
	case !validates:
		d.Fault(what, local, "the resolver does not validate DNSSEC: forged answers are not noticed, and TLSA records (DANE) not used")
	case !s.names.Trusts() && s.c.Network.ResolverDNSSEC == dns.TrustNo:
		d.OK(what, "the resolver validates DNSSEC; network.resolver_dnssec says not to believe it, so TLSA records (DANE) are not used")
	case !s.names.Trusts():
		d.Fault(what, local+" Where nobody sits on the way, set network.resolver_dnssec to yes.",
			"the resolver validates DNSSEC, but what it says crosses a network where anybody on the way can change it, so TLSA records (DANE) are not used")
	default:
		d.OK(what, "the resolver validates DNSSEC")
	}
}
