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
	"postern.email/mixnet/letter"
	"postern.email/post/seal"
)

// Files of keys, each sealed under the node key: of the key that signs the names of mailboxes, and
// of the one that letters to the relay itself are sealed to.
const (
	mixNameKey   = "name.key"
	mixLetterKey = "letter.key"
	seedVersion  = 1
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
	seed, err := s.mixSeed(mixNameKey, directory.PrivateLen, create)
	defer clear(seed)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	k, err := directory.NewPrivateKey(seed)
	return k, errs.Wrap(op, err)
}

// letterKey is nameKey for the key that letters to the relay itself are sealed to.
func (s *Server) letterKey(create bool) (*letter.PrivateKey, error) {
	const op = "role/relay.letterKey"
	seed, err := s.mixSeed(mixLetterKey, letter.PrivateKeyLen, create)
	defer clear(seed)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	k, err := letter.NewPrivateKey(seed)
	return k, errs.Wrap(op, err)
}

// mixSeed reads the seed of a key from its file, and makes it if create says so. errs.NotFound when
// there is none, errs.Corrupt for a file that cannot be opened.
func (s *Server) mixSeed(file string, size int, create bool) ([]byte, error) {
	const op = "role/relay.mixSeed"
	path := s.mixPath(file)
	b, err := vfs.ReadFile(s.d.FS, path)
	if err != nil && errs.KindOf(err) == errs.NotFound && create {
		seed := make([]byte, size)
		defer clear(seed)
		if _, err := io.ReadFull(s.d.Rand, seed); err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		if b, err = s.root.Seal(seal.PurposeMixKey, []byte(file), append([]byte{seedVersion}, seed...)); err != nil {
			return nil, errs.Wrap(op, err)
		}
		err = vfs.WriteFileAtomic(s.d.FS, path, b, 0o600)
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	plain, err := s.root.Open(seal.PurposeMixKey, []byte(file), b)
	if err != nil || len(plain) != 1+size || plain[0] != seedVersion {
		clear(plain)
		return nil, errs.E(op, errs.Corrupt, mixDir+"/"+file+" is damaged, or was made with another node key: bring it back from a backup", err)
	}
	return plain[1:], nil
}

// revealMixKeys tells which keys of the mix network the node key opens.
func (s *Server) revealMixKeys(say func(kind, text string)) {
	kind := seal.PurposeMixKey.String()
	if k, err := s.nameKey(false); err == nil {
		say(kind, fmt.Sprintf("the key of names, %x", k.Public().ID()))
	} else if errs.KindOf(err) != errs.NotFound {
		say(kind, "the key of names cannot be opened")
	}
	if k, err := s.letterKey(false); err == nil {
		say(kind, "the key of letters to this relay, "+k.Public().Fingerprint())
	} else if errs.KindOf(err) != errs.NotFound {
		say(kind, "the key of letters to this relay cannot be opened")
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
