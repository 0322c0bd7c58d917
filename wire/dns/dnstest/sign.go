package dnstest

import (
	"crypto"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// signer holds the key of a zone.
type signer struct {
	key  *mdns.DNSKEY
	priv crypto.Signer
}

// Sign makes a zone a signed one, with an ECDSA key, and gives the DNSKEY record that a
// validating resolver takes for its trust anchor. Records may still be added.
func (s *Server) Sign(t testing.TB, zone string) (anchor string) {
	t.Helper()
	z := fqdn(zone)
	key := &mdns.DNSKEY{Hdr: mdns.RR_Header{Name: z, Rrtype: mdns.TypeDNSKEY, Class: mdns.ClassINET, Ttl: 300},
		Flags: mdns.ZONE | mdns.SEP, Protocol: 3, Algorithm: mdns.ECDSAP256SHA256}
	priv, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	s.Add(t, zone+" 300 SOA ns."+zone+" admin."+zone+" 1 300 300 300 60", zone+" 300 NS ns."+zone, "ns."+zone+" 300 A 127.0.0.1")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones[z] = &signer{key, priv.(crypto.Signer)}
	s.records[z] = append(s.records[z], key)
	return key.String()
}

// sign adds signatures to an answer whose aliases end at the name end, and proofs to a
// denial.
func (s *Server) sign(m *mdns.Msg, end string, forged bool) {
	if len(m.Ns) > 0 {
		m.Ns = append(m.Ns, s.proofs(end, m.Rcode == mdns.RcodeNameError)...)
	}
	m.Answer = s.signed(m.Answer, forged)
	m.Ns = s.signed(m.Ns, forged)
}

func (s *Server) zoneOf(name string) (string, *signer) {
	for n := name; n != "."; n = parent(n) {
		if z := s.zones[n]; z != nil {
			return n, z
		}
	}
	return "", nil
}

// signed adds a signature for each set of records.
func (s *Server) signed(rrs []mdns.RR, forged bool) []mdns.RR {
	sets := map[key][]mdns.RR{}
	var order []key
	for _, rr := range rrs {
		k := key{fqdn(rr.Header().Name), rr.Header().Rrtype}
		if sets[k] == nil {
			order = append(order, k)
		}
		sets[k] = append(sets[k], rr)
	}
	for _, k := range order {
		zone, z := s.zoneOf(k.name)
		if z == nil {
			continue
		}
		now := time.Now()
		sig := &mdns.RRSIG{Hdr: mdns.RR_Header{Name: k.name, Rrtype: mdns.TypeRRSIG, Class: mdns.ClassINET, Ttl: sets[k][0].Header().Ttl},
			Algorithm: z.key.Algorithm, KeyTag: z.key.KeyTag(), SignerName: zone,
			Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(24 * time.Hour).Unix())}
		if err := sig.Sign(z.priv, sets[k]); err != nil {
			continue // an answer without signature: who validates will say so
		}
		if forged && k.typ != mdns.TypeDNSKEY {
			sig.Signature = strings.Repeat("A", len(sig.Signature)-4) + sig.Signature[len(sig.Signature)-4:]
		}
		rrs = append(rrs, sig)
	}
	return rrs
}

// proofs are the NSEC records that deny a name, or a type of it (RFC 4035 §3.1.3).
func (s *Server) proofs(name string, nameError bool) []mdns.RR {
	zone, z := s.zoneOf(name)
	if z == nil {
		return nil
	}
	var owners []string
	for n, rrs := range s.records {
		if len(rrs) > 0 && mdns.IsSubDomain(zone, n) {
			owners = append(owners, n)
		}
	}
	slices.SortFunc(owners, canonicalOrder)
	at := func(name string) int { // the owner that is the name or comes before it
		i, found := slices.BinarySearchFunc(owners, name, canonicalOrder)
		if !found {
			i--
		}
		return i
	}
	places := []int{at(name)}
	if nameError {
		encloser := parent(name)
		for !s.exists(encloser) {
			encloser = parent(encloser)
		}
		if i := at("*." + encloser); i != places[0] {
			places = append(places, i)
		}
	}
	var rrs []mdns.RR
	for _, i := range places {
		types := []uint16{mdns.TypeRRSIG, mdns.TypeNSEC}
		for _, rr := range s.records[owners[i]] {
			types = append(types, rr.Header().Rrtype)
		}
		slices.Sort(types)
		rrs = append(rrs, &mdns.NSEC{Hdr: mdns.RR_Header{Name: owners[i], Rrtype: mdns.TypeNSEC, Class: mdns.ClassINET, Ttl: 60},
			NextDomain: owners[(i+1)%len(owners)], TypeBitMap: slices.Compact(types)})
	}
	return rrs
}

// canonicalOrder is RFC 4034 §6.1, for names in lower case.
func canonicalOrder(a, b string) int {
	la, lb := mdns.SplitDomainName(a), mdns.SplitDomainName(b)
	slices.Reverse(la)
	slices.Reverse(lb)
	return slices.Compare(la, lb)
}
