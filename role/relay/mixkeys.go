package relay

import (
	"fmt"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/passhash"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/post/seal"
)

// mixNameKey is the file of the key that signs the names of mailboxes, sealed under the node
// key.
const (
	mixNameKey  = "name.key"
	nameVersion = 1
)

// mixKeyOptions are the options of the node's keys. All of them are sealed under the node key:
// what seals the identity follows from it, so that it costs no time to try it, and what seals the
// others follows from the identity. period is that of the network, whose hours are
// shorter in tests.
func (s *Server) mixKeyOptions(period time.Duration) keys.Options {
	return keys.Options{FS: s.d.FS, Dir: s.mixPath(mixKeysDir), CurrentDesc: s.mixPath(mixDesc), Rand: s.d.Rand, Now: s.d.Now, Log: s.d.Logger,
		Ahead: min(keys.DefaultAhead, 24*period), Skew: min(directory.MaxSkew, period),
		Passphrase: func(bool) ([]byte, error) { return s.root.MixPassphrase(), nil }, SealAll: true, Cost: passhash.Cost{Time: 1, Memory: 8, Threads: 1}}
}

// nameKey reads the key that signs the names of mailboxes, and makes it if create says so.
// errs.NotFound when there is none.
func (s *Server) nameKey(create bool) (*directory.PrivateKey, error) {
	const op = "role/relay.nameKey"
	path := s.mixPath(mixNameKey)
	b, err := vfs.ReadFile(s.d.FS, path)
	if err != nil && errs.KindOf(err) == errs.NotFound && create {
		seed := make([]byte, directory.PrivateLen)
		defer clear(seed)
		if _, err := io.ReadFull(s.d.Rand, seed); err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		if b, err = s.root.Seal(seal.PurposeMixKey, []byte(mixNameKey), append([]byte{nameVersion}, seed...)); err != nil {
			return nil, errs.Wrap(op, err)
		}
		err = vfs.WriteFileAtomic(s.d.FS, path, b, 0o600)
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	plain, err := s.root.Open(seal.PurposeMixKey, []byte(mixNameKey), b)
	defer clear(plain)
	if err != nil || len(plain) != 1+directory.PrivateLen || plain[0] != nameVersion {
		return nil, errs.E(op, errs.Corrupt, mixDir+"/"+mixNameKey+" is damaged, or was made with another node key: bring it back from a backup", err)
	}
	k, err := directory.NewPrivateKey(plain[1:])
	return k, errs.Wrap(op, err)
}

// revealMixKeys tells which keys of the mix network the node key opens.
func (s *Server) revealMixKeys(say func(kind, text string)) {
	kind := seal.PurposeMixKey.String()
	if k, err := s.nameKey(false); err == nil {
		say(kind, fmt.Sprintf("the key of names, %x", k.Public().ID()))
	} else if errs.KindOf(err) != errs.NotFound {
		say(kind, "the key of names cannot be opened")
	}
	k, err := keys.Open(s.mixKeyOptions(directory.DefaultPeriod))
	if err != nil {
		if errs.KindOf(err) != errs.NotFound {
			say(kind, "the keys of the node cannot be opened")
		}
		return
	}
	say(kind, fmt.Sprintf("the identity of the node, %x, its link key, and the secret of its log of packets", k.Identity().Public().ID()))
	for _, set := range k.List() {
		say(kind, fmt.Sprintf("packet key %08x, accepted until %s", set.ID, set.AcceptedUntil.UTC().Format(time.RFC3339)))
	}
}
