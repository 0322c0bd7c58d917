package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Names in the directory of a set.
const (
	setPrefix      = "key_"
	mixName        = "mix.key"
	endedName      = "ended"
	descriptorName = "ServerDesc"
	publishedName  = "published"
)

// set is one packet key and what lies beside it. A set is in one of these states:
//
//	key != nil        it lives
//	ended             its file is being, or was, destroyed; the log may not have forgotten it yet
//	neither           its file cannot be read (damaged), or there is nothing in its directory
type set struct {
	number      int
	id          uint32
	from, until time.Time
	key         *packet.PrivateKey
	ended       bool
	damaged     bool

	descriptor directory.Hash // of ServerDesc
	described  bool
	published  []Publication
}

func setName(number int) string { return fmt.Sprintf("%s%04d", setPrefix, number) }

// parseSetName reads what setName gives.
func parseSetName(s string) (number int, ok bool) {
	if _, err := fmt.Sscanf(s, setPrefix+"%d", &number); err != nil || number < 1 {
		return 0, false
	}
	return number, setName(number) == s
}

// loadSets reads the sets, and with clean removes what a crash has left of those that were being
// made. A set that cannot be read costs the packets that were sealed to it, and is told; it does not
// keep the node from working with the others.
func (k *Keys) loadSets(clean bool) error {
	const op = "mixnet/keys.loadSets"
	names, err := k.o.FS.List(k.o.Dir)
	if err != nil {
		return vfs.Error(op, err)
	}
	var sets []*set
	for _, name := range names {
		n, ok := parseSetName(name)
		if !ok {
			continue
		}
		if len(sets) == maxSets {
			return errs.E(op, errs.Full, "there are too many key sets: remove old ones with DELKEYS", nil)
		}
		s, err := k.loadSet(n, clean)
		if err != nil {
			return errs.Wrap(op, err)
		}
		sets = append(sets, s)
	}
	k.setAll(sets)
	return nil
}

func (k *Keys) loadSet(n int, clean bool) (*set, error) {
	s := &set{number: n}
	dir := setName(n)
	if clean {
		for _, suffix := range []string{tmpSuffix, oldSuffix} {
			if err := vfs.Shred(k.o.FS, k.path(dir, mixName+suffix), -1); err != nil {
				return nil, err
			}
		}
	}
	f, err := k.read(k.o.FS.PathJoin(dir, endedName), kindEnded)
	if err == nil {
		id, ok := parseMixID(f.id)
		s.id, s.ended, s.from, s.until, s.damaged = id, true, f.from, f.until, !ok
		return s, nil
	}
	if errs.KindOf(err) == errs.NotFound {
		f, err = k.readOpen(k.o.FS.PathJoin(dir, mixName), kindMix)
		if err == nil && k.o.SealAll && clean && f.under == "" {
			err = k.putSecret(k.o.FS.PathJoin(dir, mixName), &f.file, true)
		}
	}
	if err == nil {
		s.key, err = mixOf(&f.file)
	}
	switch errs.KindOf(err) {
	case errs.NotFound:
		return s, nil
	case errs.Corrupt:
		k.o.Log.Warn("a packet key cannot be read; packets for it are lost", "set", dir)
		s.damaged, s.key = true, nil
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s.id, s.from, s.until = s.key.ID(), f.from, f.until
	clear(f.secret)
	k.loadDescriptor(s)
	return s, nil
}

// make makes a set that begins at from, durable before it is returned. No other set of sets has
// its ID.
func (k *Keys) make(sets []*set, from time.Time) (*set, error) {
	const op = "mixnet/keys.make"
	if len(sets) >= maxSets {
		return nil, errs.E(op, errs.Full, "there are too many key sets: is the clock right?", nil)
	}
	s := &set{number: 1, from: from, until: from.Add(k.o.Lifetime)}
	ids := make(map[uint32]bool, len(sets))
	for _, o := range sets {
		s.number = max(s.number, o.number+1)
		ids[o.id] = ids[o.id] || o.key != nil || o.ended
	}
	for s.key == nil || ids[s.id] { // docs/packet.md §3.1
		var err error
		if s.key, err = packet.GeneratePrivateKey(k.o.Rand); err != nil {
			return nil, errs.Wrap(op, err)
		}
		s.id = s.key.ID()
	}
	seed, err := s.key.Seed()
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	defer clear(seed)
	dir := setName(s.number)
	if err := vfs.MkdirAll(k.o.FS, k.path(dir), 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	f := file{kind: kindMix, id: mixID(s.id), from: s.from, until: s.until, secret: seed}
	if err := k.putSecret(k.o.FS.PathJoin(dir, mixName), &f, false); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return s, nil
}

// end notes that a set has ended. From then on no start takes its key up again.
func (k *Keys) end(s *set) (*set, error) {
	e := &set{number: s.number, id: s.id, from: s.from, until: s.until, ended: true}
	f := file{kind: kindEnded, id: mixID(s.id), from: s.from, until: s.until}
	return e, errs.Wrap("mixnet/keys.end", vfs.WriteFileAtomic(k.o.FS, k.path(setName(s.number), endedName), f.encode(), 0o600))
}

// destroy destroys the key of a set that has ended, then lets the log forget it, then removes
// what is left. It may be cut off anywhere and done again.
func (k *Keys) destroy(ctx context.Context, s *set, forget func(context.Context, uint32) error) error {
	const op = "mixnet/keys.destroy"
	dir := k.path(setName(s.number))
	for _, n := range []string{mixName, mixName + tmpSuffix, mixName + oldSuffix} {
		if err := vfs.Shred(k.o.FS, k.o.FS.PathJoin(dir, n), -1); err != nil {
			return errs.Wrap(op, err)
		}
	}
	if err := vfs.SyncDir(k.o.FS, dir); err != nil {
		return errs.Wrap(op, err)
	}
	if forget != nil && s.ended && !s.damaged {
		if err := forget(ctx, s.id); err != nil {
			return errs.Wrap(op, err)
		}
	}
	if err := k.o.FS.RemoveAll(dir); err != nil {
		return vfs.Error(op, err)
	}
	return errs.Wrap(op, vfs.SyncDir(k.o.FS, k.o.Dir))
}

// small reads a small public file; nil if it cannot be read.
func (k *Keys) small(path string, limit int64) []byte {
	r, err := k.o.FS.Open(path)
	if err != nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if errors.Join(err, r.Close()) != nil || int64(len(b)) > limit {
		return nil
	}
	return b
}

// loadDescriptor finds out what is beside a key. It is not needed for anything but to tell:
// what cannot be read is as if it were not there.
func (k *Keys) loadDescriptor(s *set) {
	dir := setName(s.number)
	b := k.small(k.path(dir, descriptorName), directory.MaxDescriptor)
	at := bytes.LastIndex(b, []byte("\nsignature "))
	if at < 0 {
		return
	}
	// docs/directory.md §3: the hash of a document is that of what is signed.
	s.descriptor, s.described = sha256.Sum256(b[:at+1]), true
	if hash, list, err := parsePublished(k.small(k.path(dir, publishedName), maxFile)); err == nil && hash == s.descriptor.String() {
		s.published = list
	}
}
