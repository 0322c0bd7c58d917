package limits

import "net/netip"

// Peer is who is at the other end of a connection. It is never logged and never
// stored; it lives as long as the connection does.
type Peer struct {
	// Addr is the other end's address; the zero Addr when there is none (a unix
	// socket, an onion service).
	Addr netip.Addr
	// Exempt frees from every per-network limit: the peer is a trusted proxy that
	// does not say for whom it speaks, so one address stands for many people.
	Exempt bool
}

// v6Network is the part of an IPv6 address that one customer holds at least
// (RFC 6177); limits on single IPv6 addresses would bind nobody.
const v6Network = 64

// Network is the key under which limits count this peer: the address itself for
// IPv4 (also when mapped into IPv6), the /64 for IPv6. It is "" for an exempt or
// unknown peer, and "" is never limited.
func (p Peer) Network() string {
	if p.Exempt || !p.Addr.IsValid() {
		return ""
	}
	a := p.Addr.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	prefix, err := a.Prefix(v6Network)
	if err != nil {
		return ""
	}
	return prefix.Addr().String()
}

// Trusted is the list of networks whose word about the peer is believed.
type Trusted []netip.Prefix

// Contains reports whether a lies in one of the networks. IPv4 mapped into IPv6
// counts as IPv4; a zone is ignored. The zero Addr lies in none.
func (t Trusted) Contains(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.Unmap().WithZone("")
	for _, p := range t {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
