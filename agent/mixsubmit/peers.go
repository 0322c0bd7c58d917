package mixsubmit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/openpgp"
)

// OpenPGP keys that mail carried (Autocrypt, level 1) lie beside the spool, one sealed file for each
// sender, whose name tells the sender to nobody without the account's keys. They are used where a
// mail to an ordinary mailbox is not encrypted: nobody has compared them, and that is better than
// cleartext and no more.
const (
	peersDir = "peers"
	maxPeers = 2000 // of an account; beyond, no new one is noted
)

// peer is what is known of a sender.
type peer struct {
	Address mail.Address
	Key     []byte
	Date    time.Time // of the mail that carried it, or when that came if it says later
	Web     bool      `json:",omitempty"` // the domain of the address showed it, at Date
}

// peerFile names the file of an address.
func (s *spool) peerFile(a mail.Address) string {
	m := hmac.New(sha256.New, s.a.Identity.Link.Seed())
	m.Write([]byte("postern/mixsubmit: peer\n" + a.Canonical().String()))
	return hex.EncodeToString(m.Sum(nil)[:16])
}

func (s *spool) peer(a mail.Address) (peer, error) {
	var p peer
	b, err := s.read(s.a.FS.PathJoin(peersDir, s.peerFile(a)))
	if err == nil && json.Unmarshal(b, &p) != nil {
		err = errs.E("agent/mixsubmit.peer", errs.Corrupt, "the key of a correspondent is damaged", nil)
	}
	return p, err
}

// Saw notes the OpenPGP key that a mail carries for its sender, who is vouched for; to is the account
// that got it. It is mixreceive.Options.Arrived.
func (s *Submit) Saw(to, from mail.Address, h mail.Header) {
	if err := s.saw(to, from, h); err != nil && errs.KindOf(err) != errs.NotFound {
		s.o.Logger.Debug("an OpenPGP key was not noted", "err", err)
	}
}

func (s *Submit) saw(to, from mail.Address, h mail.Header) error {
	const op = "agent/mixsubmit.saw"
	key, err := openpgp.Autocrypt(h, from)
	if err != nil {
		return err
	}
	now := s.o.Now()
	if _, err := openpgp.ParseKey(key, now); err != nil {
		return err
	}
	a := s.account(to)
	if a == nil {
		return errs.E(op, errs.NotFound, "", nil)
	}
	sp, err := s.spool(a)
	if err != nil {
		return err
	}
	date, err := mail.ParseDate(h.Get("Date"))
	if err != nil || date.After(now) {
		date = now
	}
	sp.peers.Lock()
	defer sp.peers.Unlock()
	old, err := sp.peer(from)
	fresh := errs.KindOf(err) == errs.NotFound
	switch {
	case err == nil && !old.Web && (!date.After(old.Date) || string(old.Key) == string(key)):
		return nil // an older mail says nothing new
	case err != nil && !fresh && errs.KindOf(err) != errs.Corrupt:
		return err
	}
	return sp.note(peer{Address: from.Canonical(), Key: key, Date: date.UTC()}, fresh)
}

// note writes a peer; fresh: there was none of this address. sp.peers is held.
func (s *spool) note(p peer, fresh bool) error {
	const op = "agent/mixsubmit.note"
	fs, dir := s.a.FS, s.a.FS.PathJoin(s.a.Dir, peersDir)
	if err := vfs.MkdirAll(fs, dir, 0o700); err != nil {
		return err
	}
	if fresh {
		names, err := fs.List(dir)
		if err != nil {
			return vfs.Error(op, err)
		}
		if len(names) >= maxPeers {
			return errs.E(op, errs.Full, "too many correspondents", nil)
		}
	}
	b, err := json.Marshal(p)
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	return s.write(fs.PathJoin(peersDir, s.peerFile(p.Address)), b)
}

// pgpKey gives the OpenPGP key of a recipient; nil: none is known that works now. For anonymous mail a key
// counts for nothing that a domain showed: it may show everybody another one, and know who asked.
func (s *Submit) pgpKey(a *Account, to mail.Address, anonymous bool) *openpgp.Key {
	sp, err := s.spool(a)
	if err != nil {
		return nil
	}
	p, err := sp.peer(to)
	if err != nil || !p.Address.Equal(to) || anonymous && p.Web {
		return nil
	}
	k, err := openpgp.ParseKey(p.Key, s.o.Now())
	if err != nil {
		return nil
	}
	return k
}
