package sysinfo

import (
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"postern.email/kit/errs"
)

// notPublic are networks that IANA's registries of special-purpose addresses say are
// not reached from everywhere, beyond those that net/netip knows.
var notPublic = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"64:ff9b:1::/48", "100::/64", "2001:2::/48", "2001:db8::/32", "3fff::/20", "5f00::/16")

func prefixes(list ...string) (all []netip.Prefix) {
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// Public reports whether an address can be reached from everywhere, as far as the
// address itself tells.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Flags of an IPv6 address that is no lasting one, of /proc/net/if_inet6 (rtnetlink(7)).
const fleeting = 0x01 | 0x08 | 0x20 | 0x40 // temporary, duplicate, deprecated, tentative

// PublicAddresses are the addresses of this machine's interfaces that can be reached
// from everywhere, IPv4 first, without IPv6 addresses that change by themselves (RFC
// 8981). A machine behind address translation has none.
func (r *Reader) PublicAddresses() ([]netip.Addr, error) {
	list := r.Interfaces
	if list == nil {
		list = net.InterfaceAddrs
	}
	nets, err := list()
	if err != nil {
		return nil, errs.E("kit/sysinfo.PublicAddresses", errs.Unavailable, "", err)
	}
	changing := r.fleeting()
	var all []netip.Addr
	for _, n := range nets {
		ip, ok := n.(*net.IPNet)
		if !ok {
			continue
		}
		a, ok := netip.AddrFromSlice(ip.IP)
		if a = a.Unmap(); ok && Public(a) && !changing[a] {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare) // IPv4 sorts first
	return slices.Compact(all), nil
}

// fleeting gives the IPv6 addresses that change by themselves, as far as the system
// tells.
func (r *Reader) fleeting() map[netip.Addr]bool {
	text, err := r.read("/proc/net/if_inet6")
	if err != nil {
		return nil
	}
	all := make(map[netip.Addr]bool)
	for line := range strings.Lines(text) {
		f := strings.Fields(line) // address, interface, length of prefix, scope, flags, name
		if len(f) < 6 {
			continue
		}
		b, err := hex.DecodeString(f[0])
		a, ok := netip.AddrFromSlice(b)
		flags, ferr := strconv.ParseUint(f[4], 16, 32)
		if err == nil && ferr == nil && ok && flags&fleeting != 0 {
			all[a] = true
		}
	}
	return all
}
