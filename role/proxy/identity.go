package proxy

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/secure/precis"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Account is one account of a configuration, in the forms that the rest works with.
type Account struct {
	Address     mail.Address
	URL         string     // of the relay's page
	Pin         packet.ID  // the relay's node ID; zero: any
	Authorities *authority // what the network must consist of; nil: whatever the relay says
	Discover    bool       // InsecureKeyDiscovery
	Unpublished bool
}

// authority is a NonvotingAuthority or VotingAuthority.
type authority struct {
	label string // with the name of its section
	peers []peer
}

// peer is one authority.
type peer struct {
	id   packet.ID
	link packet.ID // name of its link key; zero: not known
}

// ParseKey reads 32 bytes in Base16 or in Base64, of either alphabet, padded or not.
func ParseKey(s string) (k [32]byte, err error) {
	var b []byte
	if b, err = hex.DecodeString(s); err != nil || len(b) != len(k) {
		s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
		b, err = base64.RawStdEncoding.DecodeString(s)
	}
	if err != nil || len(b) != len(k) {
		return k, errs.E("role/proxy.ParseKey", errs.Invalid, "this is no key of 32 bytes in Base64 or Base16", err)
	}
	copy(k[:], b)
	return k, nil
}

// Accounts gives the accounts of the configuration, in its order. errs.Invalid.
func (c *Config) Accounts() ([]Account, error) {
	if len(c.Account) > MaxAccounts {
		return nil, bad("there are more than %d accounts", MaxAccounts)
	}
	labels, err := c.authorities()
	if err != nil {
		return nil, err
	}
	var out []Account
	seen := make(map[mail.Address]bool)
	for i, raw := range c.Account {
		a, err := c.account(i, labels)
		if err != nil {
			return nil, err
		}
		if key := a.Address.Canonical(); seen[key] {
			return nil, bad("Account: %s@%s is there twice", raw.User, raw.Provider)
		} else {
			seen[key] = true
		}
		out = append(out, a)
	}
	return out, nil
}

// account reads one.
func (c *Config) account(i int, labels map[string]*authority) (a Account, err error) {
	raw := c.Account[i]
	at := fmt.Sprintf("Account %d", i+1)
	switch {
	case raw.User == "":
		return a, bad("%s: User is missing", at)
	case raw.Provider == "":
		return a, bad("%s: Provider is missing", at)
	}
	profile := precis.UsernameCaseMapped
	if c.Debug.CaseSensitiveUserIdentifiers {
		profile = precis.UsernameCasePreserved
	}
	user, err := profile.String(raw.User)
	if err != nil {
		return a, bad("%s: User is no name of an account: %s", at, raw.User)
	}
	domain, err := idna.Lookup.ToASCII(raw.Provider)
	if strings.HasPrefix(raw.Provider, "[") || strings.HasPrefix(raw.Provider, "_") {
		domain, err = raw.Provider, nil // an address literal, or a name that no authority vouches for
	}
	if err != nil {
		return a, bad("%s: Provider is no domain: %s", at, raw.Provider)
	}
	if a.Address, err = mail.ParseAddress(user + "@" + domain); err != nil {
		return a, bad("%s: User and Provider make no mail address: %s@%s", at, raw.User, raw.Provider)
	}
	at = fmt.Sprintf("Account %s@%s", user, domain)
	if raw.ProviderKeyPin != "" {
		pin, err := ParseKey(raw.ProviderKeyPin)
		if err != nil {
			return a, bad("%s: ProviderKeyPin: %s", at, errs.Public(err))
		}
		a.Pin = packet.ID(pin)
	}
	for _, l := range []struct{ key, label, section string }{{"Authority", raw.Authority, ""}, {"NonvotingAuthority", raw.NonvotingAuthority, "NonvotingAuthority."},
		{"VotingAuthority", raw.VotingAuthority, "VotingAuthority."}} {
		if l.label == "" {
			continue
		}
		found := labels[l.label]
		if found == nil || !strings.HasPrefix(found.label, l.section) {
			return a, bad("%s: %s: there is no authority with the label %s", at, l.key, l.label)
		}
		if a.Authorities != nil && a.Authorities != found {
			return a, bad("%s: two different authorities are named", at)
		}
		a.Authorities = found
	}
	if a.URL = raw.RelayURL; a.URL == "" {
		a.URL = "https://" + domain
	}
	a.Discover, a.Unpublished = raw.InsecureKeyDiscovery, raw.Unpublished
	return a, nil
}

// Trust has an account trust the authorities of a label. errs.NotFound.
func (a *Account) Trust(c *Config, label string) error {
	labels, err := c.authorities()
	if err != nil {
		return err
	}
	if labels[label] == nil {
		return errs.E("role/proxy.Trust", errs.NotFound, "there is no authority with the label "+label, nil)
	}
	a.Authorities = labels[label]
	return nil
}

// authorities reads the sections of authorities, by label.
func (c *Config) authorities() (map[string]*authority, error) {
	out := make(map[string]*authority)
	for label, raw := range c.NonvotingAuthority {
		at := "NonvotingAuthority." + label
		id, err := ParseKey(raw.PublicKey)
		if err != nil {
			return nil, bad("%s: PublicKey: %s", at, errs.Public(err))
		}
		out[label] = &authority{label: at, peers: []peer{{id: packet.ID(id)}}}
	}
	for label, raw := range c.VotingAuthority {
		at := "VotingAuthority." + label
		switch {
		case out[label] != nil:
			return nil, bad("%s: there is a NonvotingAuthority with the same label", at)
		case len(raw.Peers) == 0:
			return nil, bad("%s: there must be a peer at least", at)
		}
		a := &authority{label: at}
		for i, p := range raw.Peers {
			id, err := ParseKey(p.IdentityPublicKey)
			if err != nil {
				return nil, bad("%s, peer %d: IdentityPublicKey: %s", at, i+1, errs.Public(err))
			}
			x := peer{id: packet.ID(id)}
			if p.LinkPublicKey != "" {
				link, err := ParseKey(p.LinkPublicKey)
				if err != nil {
					return nil, bad("%s, peer %d: LinkPublicKey: %s", at, i+1, errs.Public(err))
				}
				x.link = packet.ID(link)
			}
			a.peers = append(a.peers, x)
		}
		out[label] = a
	}
	return out, nil
}

// Vouches tells whether what a relay said at registration is what the configuration trusts: errs.Denied
// with a public text when its node ID is not the pinned one, or when its network consists of other
// authorities. A network with one more authority is another network: its authorities decide
// together.
func (a *Account) Vouches(node packet.ID, n *directory.Network) error {
	const op = "role/proxy.Vouches"
	if a.Pin != (packet.ID{}) && a.Pin != node {
		return errs.E(op, errs.Denied, fmt.Sprintf("the relay is not the one that ProviderKeyPin names: it is %s, and the pin is %s; nothing is sent to it",
			short(node), short(a.Pin)), nil)
	}
	if a.Authorities == nil {
		return nil
	}
	other := func(text string) error {
		return errs.E(op, errs.Denied, "the network of the relay is not the one that "+a.Authorities.label+" names: "+text+"; nothing is sent to it", nil)
	}
	have := make(map[packet.ID]bool)
	for _, k := range n.Authorities() {
		have[k.ID()] = true
	}
	named := make(map[packet.ID]packet.ID)
	for _, p := range a.Authorities.peers {
		if !have[p.id] {
			return other("authority " + short(p.id) + " is not in it")
		}
		named[p.id] = p.link
	}
	for id := range have {
		if _, ok := named[id]; !ok {
			return other("authority " + short(id) + " is in it")
		}
	}
	for _, contact := range n.Contacts() {
		if link := named[contact.ID]; link != (packet.ID{}) && link != packet.ID(contact.LinkKey) {
			return other("authority " + short(contact.ID) + " has another link key there")
		}
	}
	return nil
}

// short shows the beginning of an identity.
func short(id packet.ID) string { return hex.EncodeToString(id[:8]) }
