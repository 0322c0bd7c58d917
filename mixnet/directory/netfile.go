package directory

import (
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// MaxNetwork is the size of a network file, in bytes.
const MaxNetwork = 64 << 10

// Contact is an authority and the ways to it, from the network file.
type Contact struct {
	ID        packet.ID // of Key; FormatNetwork does not look at it
	Key       *PublicKey
	LinkKey   Hash     // as in Node
	Addresses []string // host:port, 1 to MaxAddresses; the first is tried first
}

var networkForm = form{
	{"network", 1, 1, 1, 0},
	{"period", 1, 1, 1, 0},
}

var contactForm = form{
	{"link-key", 1, 1, 1, 0},
	{"address", 1, MaxAddresses, 1, 0},
}

// ParseNetwork reads a network file (docs/directory.md §12): what members of a network are
// told once. errs.TooLarge, errs.Unsupported for another version or an unknown critical line,
// else errs.Invalid with the line and the reason.
func ParseNetwork(b []byte) (*Network, error) { return parseNetwork("directory.ParseNetwork", b) }

func parseNetwork(op string, b []byte) (*Network, error) {
	s, err := begin(op, "postern-network", b, MaxNetwork)
	if err != nil {
		return nil, err
	}
	var name string
	var period time.Duration
	err = s.read(networkForm, []string{"authority"}, func(key string, v *fields) error {
		switch key {
		case "network":
			name = v.name()
		case "period":
			period = time.Duration(v.uint(uint64(MinPeriod/time.Second), uint64(MaxPeriod/time.Second))) * time.Second
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var contacts []Contact
	for {
		l, err := s.peek()
		if err != nil {
			return nil, err
		}
		if l == nil {
			break
		}
		if len(contacts) == MaxAuthorities {
			return nil, s.fault(errs.Invalid, "more than %d of authority", MaxAuthorities)
		}
		c, err := readContact(s)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(contacts, func(o Contact) bool { return o.LinkKey == c.LinkKey }) {
			return nil, s.fault(errs.Invalid, "two authorities have the same link-key")
		}
		contacts = append(contacts, c)
	}
	var keys []*PublicKey
	for _, c := range contacts {
		keys = append(keys, c.Key)
	}
	n, err := NewNetwork(name, period, keys)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	slices.SortFunc(contacts, func(a, b Contact) int { return compareID(a.ID, b.ID) })
	n.contacts = contacts
	return n, nil
}

// readContact reads one authority: from its first line to the next authority or the end.
func readContact(s *scanner) (c Contact, err error) {
	l := s.cur
	if l.critical {
		return c, s.fault(errs.Invalid, "a known keyword is not marked critical")
	}
	if len(l.args) != 2 {
		return c, s.fault(errs.Invalid, "wrong number of arguments of authority")
	}
	v := fields{in: l.args}
	if c.Key = v.key(); v.bad != "" {
		return c, s.fault(errs.Invalid, "authority: %s", v.bad)
	}
	c.ID = c.Key.id
	s.cur = nil
	err = s.read(contactForm, []string{"authority"}, func(key string, v *fields) error {
		switch key {
		case "link-key":
			c.LinkKey = v.hash()
		case "address":
			readAddress(v, &c.Addresses)
		}
		return nil
	})
	return c, err
}

// FormatNetwork writes a network file. The errors of ParseNetwork.
func FormatNetwork(name string, period time.Duration, contacts []Contact) ([]byte, error) {
	const op = "directory.FormatNetwork"
	if period%time.Second != 0 {
		return nil, errs.E(op, errs.Invalid, "the period is not a number of whole seconds up to a day", nil)
	}
	sorted := slices.Clone(contacts)
	for _, c := range sorted {
		if c.Key == nil {
			return nil, errs.E(op, errs.Invalid, "an authority has no key", nil)
		}
	}
	slices.SortFunc(sorted, func(a, b Contact) int { return compareID(a.Key.id, b.Key.id) })
	w := &writer{}
	w.line("postern-network", 1)
	w.line("network", name)
	w.line("period", int(period/time.Second))
	for _, c := range sorted {
		w.line("authority", c.Key)
		w.line("link-key", c.LinkKey)
		for _, a := range c.Addresses {
			w.line("address", a)
		}
	}
	if _, err := parseNetwork(op, w.b); err != nil {
		return nil, err
	}
	return w.b, nil
}

// JoinNetworks puts the authorities of several networks of one name and period together:
// what each authority gives out of itself becomes the file that all members use. An authority
// may be in several of them if they say the same of it. errs.Invalid for networks that do not
// fit together, or without contacts.
func JoinNetworks(list ...*Network) (*Network, error) {
	const op = "directory.JoinNetworks"
	if len(list) == 0 {
		return nil, errs.E(op, errs.Invalid, "there is no network to join", nil)
	}
	var all []Contact
	for _, n := range list {
		switch {
		case n.name != list[0].name:
			return nil, errs.E(op, errs.Invalid, "the networks have different names", nil)
		case n.period != list[0].period:
			return nil, errs.E(op, errs.Invalid, "the networks have different periods", nil)
		case len(n.contacts) == 0:
			return nil, errs.E(op, errs.Invalid, "a network does not tell where its authorities are", nil)
		}
		for _, c := range n.contacts {
			i := slices.IndexFunc(all, func(o Contact) bool { return o.ID == c.ID })
			switch {
			case i < 0:
				all = append(all, c)
			case all[i].LinkKey != c.LinkKey || !slices.Equal(all[i].Addresses, c.Addresses):
				return nil, errs.E(op, errs.Invalid, "an authority is named twice, with different link keys or addresses", nil)
			}
		}
	}
	b, err := FormatNetwork(list[0].name, list[0].period, all)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	n, err := parseNetwork(op, b)
	return n, err
}

// Contacts gives the authorities and the ways to them, sorted by ID; none if the network was
// made by NewNetwork.
func (n *Network) Contacts() []Contact { return slices.Clone(n.contacts) }

// Bytes gives the network file; nil without contacts.
func (n *Network) Bytes() []byte {
	if len(n.contacts) == 0 {
		return nil
	}
	b, err := FormatNetwork(n.name, n.period, n.contacts)
	if err != nil {
		return nil // cannot be: they were read from such a file
	}
	return b
}

// ValidAt tells whether a consensus may be used at a time, as Verify does, without looking at
// its signatures. errs.Unavailable, with both times in the public text, if not.
func (n *Network) ValidAt(c *Consensus, now time.Time) error {
	return n.clock("directory.Network.ValidAt", c, now)
}

// Published is when the consensus of an epoch is given out: 5/8 of the epoch before it.
func (n *Network) Published(epoch uint64) time.Time { return n.phaseBegin(epoch, Publish) }
