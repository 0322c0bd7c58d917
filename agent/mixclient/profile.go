package mixclient

import (
	"encoding/hex"
	"encoding/json"
	"errors"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// Profile is where a client is registered.
type Profile struct {
	Network   string   `json:"network"`   // the network file
	Node      string   `json:"node"`      // ID of the own relay, in hex digits
	LinkKey   string   `json:"link_key"`  // name of its link key
	Addresses []string `json:"addresses"` // host:port of its link, used until the directory says others
	Mailbox   string   `json:"mailbox"`   // the own mailbox there

	network *directory.Network
	node    packet.ID
	key     link.Key
	mailbox packet.ID
}

// ProfileFile is the name of the file of a Profile in the client's directory.
const ProfileFile = "profile.json"

// Longest file of a Profile, and longest answer to a registration: the latter holds a consensus too,
// in base64.
const (
	maxProfile = directory.MaxNetwork * 2
	maxAnswer  = maxProfile + (directory.MaxConsensus+2)/3*4
)

// parseProfile reads what a relay answers to a registration, and what is kept of it.
func parseProfile(b []byte) (*Profile, error) {
	const op = "agent/mixclient.Profile"
	bad := func(text string, err error) (*Profile, error) { return nil, errs.E(op, errs.Invalid, text, err) }
	var p Profile
	if len(b) > maxAnswer {
		return bad("the answer of the relay is too long", nil)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return bad("the answer of the relay is no registration", err)
	}
	var err error
	if p.network, err = directory.ParseNetwork([]byte(p.Network)); err != nil {
		return nil, errs.Wrap(op, err)
	}
	for _, f := range []struct {
		to   *[32]byte
		text string
	}{{(*[32]byte)(&p.node), p.Node}, {(*[32]byte)(&p.key), p.LinkKey}, {(*[32]byte)(&p.mailbox), p.Mailbox}} {
		raw, err := hex.DecodeString(f.text)
		if err == nil && len(raw) != len(f.to) {
			err = errors.New("length")
		}
		if err != nil {
			return bad("the answer of the relay is no registration", err)
		}
		copy(f.to[:], raw)
	}
	if len(p.Addresses) == 0 || len(p.Addresses) > directory.MaxAddresses {
		return bad("the relay did not say how its link is reached", nil)
	}
	return &p, nil
}

func (p *Profile) save(fs vfs.FS, dir string) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return errs.E("agent/mixclient.Profile", errs.Internal, "", err)
	}
	return vfs.WriteFileAtomic(fs, fs.PathJoin(dir, ProfileFile), append(b, '\n'), 0o600)
}

func loadProfile(fs vfs.FS, dir string) (*Profile, error) {
	const op = "agent/mixclient.Profile"
	b, err := vfs.ReadFile(fs, fs.PathJoin(dir, ProfileFile))
	if errs.KindOf(err) == errs.NotFound {
		return nil, errs.E(op, errs.NotFound, "this client is not registered with a relay", err)
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	p, err := parseProfile(b)
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "the file "+ProfileFile+" of the client is damaged", err)
	}
	return p, nil
}
