package directory

import (
	"bytes"
	"crypto/hpke"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/packet"
)

// Mode is what a node does. A mix does nothing else; the others may be together.
type Mode uint8

// Modes of a node.
const (
	Mix     Mode = 1 << iota // layers 1 to 3
	Relay                    // layer 0: takes packets from clients
	Mailbox                  // layer 4: keeps packets for mailboxes
	Exit                     // layer 4: mail to the world outside
)

var modeNames = [...]string{"mix", "relay", "mailbox", "exit"}

func (m Mode) String() string {
	var s []string
	for i, n := range modeNames {
		if m&(1<<i) != 0 {
			s = append(s, n)
		}
	}
	return strings.Join(s, " ")
}

// Has reports whether all modes of o are among those of m.
func (m Mode) Has(o Mode) bool { return m&o == o }

// Mixing is how a mix delays.
type Mixing string

// Ways to mix. All but Poisson are pools, which choose the delay themselves.
const (
	Poisson         Mixing = "poisson"
	Timed           Mixing = "timed"
	DynamicPool     Mixing = "dynamic-pool"
	BinomialDynamic Mixing = "binomial-dynamic-pool"
)

// LetterKeyLen is the size of a letter key in bytes: X-Wing, as of people (mixnet/letter).
const LetterKeyLen = 1216

// Tokens for exits: the size of a key in bytes, and how many there are at once: of the days whose
// tokens are still good, of today and of tomorrow (mixnet/token).
const (
	TokenKeyLen  = 256
	MaxTokenKeys = 8
)

// TokenKey is the key with which a relay signs tokens for exits on a day.
type TokenKey struct {
	Day uint32 // days since 1970-01-01, UTC
	Key []byte // TokenKeyLen bytes
}

// PacketKey is a key of a node and when it may be used.
type PacketKey struct {
	From, Until time.Time // whole seconds; until is the first moment at which it may not
	Key         *packet.PublicKey
}

// Node is what a node says of itself, in a descriptor and in a consensus.
type Node struct {
	Nickname   string        // 1 to MaxNickname letters, digits, hyphens, underscores; compared without case
	Mode       Mode          //
	LinkKey    Hash          // SHA-256 of the SubjectPublicKeyInfo of the certificate on its links
	Addresses  []string      // host:port, 1 to MaxAddresses
	NameKey    *PublicKey    // signs the names of mailboxes; of all but mixes
	LetterKey  []byte        // LetterKeyLen bytes: what letters to the node itself are sealed to; nil: none. Of all but mixes
	TokenKeys  []TokenKey    // up to MaxTokenKeys, sorted by day; of relays
	Domains    []string      // whose names it signs; sorted, of all but mixes
	Family     string        // nodes of one operator say the same; "": none
	Version    string        // of the program
	Mixing     Mixing        // of mixes
	Residence  time.Duration // expected stay in a pool, whole milliseconds; 0 for Poisson
	Parameters Parameters    // anything else that is a number
	Keys       []PacketKey   // 1 to MaxPacketKeys, sorted by From
}

// nodeForm are the lines of a Node.
var nodeForm = form{
	{"nickname", 1, 1, 1, 0},
	{"mode", 1, 1, 1, 2},
	{"link-key", 1, 1, 1, 0},
	{"address", 1, MaxAddresses, 1, 0},
	{"name-key", 0, 1, 2, 0},
	{"letter-key", 0, 1, 1, 0},
	{"token-key", 0, MaxTokenKeys, 2, 0},
	{"domain", 0, MaxDomains, 1, 0},
	{"family", 0, 1, 1, 0},
	{"version", 1, 1, 1, 0},
	{"mixing", 0, 1, 1, 1},
	{"parameter", 0, MaxParameters, 2, 0},
	{"packet-key", 1, MaxPacketKeys, 3, 0},
}

// read takes one line of nodeForm.
func (n *Node) read(key string, v *fields) error {
	switch key {
	case "nickname":
		n.Nickname = v.str()
		if len(n.Nickname) > MaxNickname || !isToken(strings.ToLower(n.Nickname), "-_") {
			v.fail("not 1 to 19 letters, digits, hyphens or underscores")
		}
	case "mode":
		for last := -1; v.left() > 0; {
			i := slices.Index(modeNames[:], v.str())
			if i <= last {
				v.fail("unknown, twice or out of order")
				break
			}
			n.Mode, last = n.Mode|1<<i, i
		}
		if n.Mode.Has(Mix) && n.Mode != Mix {
			v.fail("a mix is nothing else")
		}
	case "link-key":
		n.LinkKey = v.hash()
	case "address":
		readAddress(v, &n.Addresses)
	case "name-key":
		n.NameKey = v.key()
	case "letter-key":
		n.readLetterKey(v)
	case "token-key":
		k := TokenKey{Day: uint32(v.uint(0, 1<<32-1)), Key: v.bytes(TokenKeyLen)}
		if i := len(n.TokenKeys); i > 0 && n.TokenKeys[i-1].Day >= k.Day {
			v.fail("not sorted by day")
		}
		n.TokenKeys = append(n.TokenKeys, k)
	case "domain":
		d := v.str()
		if !validDomain(d) {
			v.fail("not a domain in lower case")
		}
		if k := len(n.Domains); k > 0 && n.Domains[k-1] >= d {
			v.fail("not sorted")
		}
		n.Domains = append(n.Domains, d)
	case "family":
		n.Family = v.name()
	case "version":
		n.Version = v.name()
	case "mixing":
		n.readMixing(v)
	case "parameter":
		return n.Parameters.add(v, false)
	case "packet-key":
		n.readKey(v)
	}
	return nil
}

// readAddress reads one more address.
func readAddress(v *fields, list *[]string) {
	a := v.str()
	if !validAddress(a) || slices.Contains(*list, a) {
		v.fail("not a host and a port, or named twice")
	}
	*list = append(*list, a)
}

func (n *Node) readMixing(v *fields) {
	switch n.Mixing = Mixing(v.str()); n.Mixing {
	case Poisson:
		if v.left() > 0 {
			v.fail("poisson has no residence")
		}
	case Timed, DynamicPool, BinomialDynamic:
		n.Residence = time.Duration(v.uint(1, uint64(MaxResidence/time.Millisecond))) * time.Millisecond
	default:
		v.fail("not a way to mix")
	}
}

// letterKEM is the kind of letter keys (docs/letter.md §1).
var letterKEM = hpke.MLKEM768X25519()

func (n *Node) readLetterKey(v *fields) {
	b := v.bytes(LetterKeyLen)
	if v.bad != "" {
		return
	}
	if _, err := letterKEM.NewPublicKey(b); err != nil {
		v.fail("key is malformed")
		return
	}
	n.LetterKey = b
}

func (n *Node) readKey(v *fields) {
	k := PacketKey{From: v.time(), Until: v.time()}
	b := v.bytes(packet.PublicKeyLen)
	if v.bad != "" {
		return
	}
	for _, o := range v.keys {
		if o.From.Equal(k.From) && bytes.Equal(o.Key.Bytes(), b) {
			k.Key = o.Key
		}
	}
	if k.Key == nil {
		var err error
		if k.Key, err = packet.ParsePublicKey(b); err != nil {
			v.fail("key is malformed")
			return
		}
	}
	if d := k.Until.Sub(k.From); d <= 0 || d > MaxKeyLife {
		v.fail("not valid for more than nothing and at most 33 days")
	}
	if i := len(n.Keys); i > 0 && !n.Keys[i-1].From.Before(k.From) {
		v.fail("not sorted by time")
	}
	for _, o := range n.Keys {
		if o.Key.ID() == k.Key.ID() {
			v.fail("two keys have the same ID")
		}
	}
	n.Keys = append(n.Keys, k)
}

// check looks at what is between lines.
func (n *Node) check(op string) error {
	why := ""
	switch mix := n.Mode.Has(Mix); {
	case mix && n.Mixing == "":
		why = "a mix says how it mixes"
	case !mix && n.Mixing != "":
		why = "only a mix says how it mixes"
	case mix && (n.NameKey != nil || len(n.Domains) > 0):
		why = "a mix has no names"
	case mix && n.LetterKey != nil:
		why = "a mix gets no letters"
	case len(n.TokenKeys) > 0 && !n.Mode.Has(Relay):
		why = "only a relay gives tokens"
	case !mix && n.NameKey == nil:
		why = "a relay has a name key"
	default:
		return nil
	}
	return errs.E(op, errs.Invalid, why, nil)
}

func (n *Node) write(w *writer) {
	w.line("nickname", n.Nickname)
	w.line("mode", n.Mode.String())
	w.line("link-key", n.LinkKey)
	for _, a := range n.Addresses {
		w.line("address", a)
	}
	if n.NameKey != nil {
		w.line("name-key", n.NameKey)
	}
	if n.LetterKey != nil {
		w.line("letter-key", n.LetterKey)
	}
	for _, k := range n.TokenKeys {
		w.line("token-key", uint64(k.Day), k.Key)
	}
	for _, d := range n.Domains {
		w.line("domain", d)
	}
	if n.Family != "" {
		w.line("family", n.Family)
	}
	w.line("version", n.Version)
	switch n.Mixing {
	case "":
	case Poisson:
		w.line("mixing", string(Poisson))
	default:
		w.line("mixing", string(n.Mixing), uint64(n.Residence/time.Millisecond))
	}
	n.Parameters.write(w)
	for _, k := range n.Keys {
		w.line("packet-key", k.From, k.Until, k.Key.Bytes())
	}
}

// TokenKey gives the key of tokens for a day, nil if there is none.
func (n *Node) TokenKey(day uint32) []byte {
	for _, k := range n.TokenKeys {
		if k.Day == day {
			return k.Key
		}
	}
	return nil
}

// Key gives the packet key to use at a time: of those that are valid the one that began
// last, nil if there is none.
func (n *Node) Key(at time.Time) *packet.PublicKey {
	for i := len(n.Keys) - 1; i >= 0; i-- {
		if k := n.Keys[i]; !at.Before(k.From) && at.Before(k.Until) {
			return k.Key
		}
	}
	return nil
}

// SendsMail reports whether the node sends mail into the world for a sender at domain, encrypted
// or not, as far as it says so.
func (n *Node) SendsMail(domain string, encrypted bool) bool {
	return n.SendsAnonymous(encrypted) && (n.Parameters.Get(ExitParameter)&ExitForeign != 0 || slices.Contains(n.Domains, domain))
}

// SendsAnonymous reports whether the node sends mail that nobody vouches for into the world, encrypted or
// not, as far as it says so. From names an address of the node's own then.
func (n *Node) SendsAnonymous(encrypted bool) bool {
	flags := n.Parameters.Get(ExitParameter)
	return flags&ExitMail != 0 && n.LetterKey != nil && (encrypted || flags&ExitCleartext != 0)
}

// UnlistedLayer is the layer that a mix says it works in while no directory lists it, 0 for none.
func (n *Node) UnlistedLayer() int {
	if l := n.Parameters.Get(LayerParameter); n.Mode.Has(Mix) && l >= 1 && l <= mixLayers {
		return int(l)
	}
	return 0
}

// validAddress takes an IP address or a domain, and a port, in one form only.
func validAddress(s string) bool {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.String() == s && a.Port() != 0 && a.Addr().Zone() == ""
	}
	host, port, ok := strings.Cut(s, ":")
	p, err := strconv.ParseUint(port, 10, 16)
	return ok && err == nil && p != 0 && strconv.FormatUint(p, 10) == port && validDomain(host)
}

// validDomain takes a domain in ASCII and lower case.
func validDomain(s string) bool {
	if len(s) > maxHost || !isToken(s, "-._") {
		return false
	}
	_, err := mail.ParseAddress("x@" + s)
	return err == nil
}
