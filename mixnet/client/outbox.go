package client

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// Lifetime is for how long a message is tried, by default (mailproxy's BounceQueueLifetime).
const Lifetime = 5 * 24 * time.Hour

// Outgoing is a message that waits to be sent, cut into the bodies of packets.
type Outgoing struct {
	Name string `json:"-"` // of NewName; empty: Queue takes one

	Created time.Time
	Expires time.Time // then it is given up; the zero time: Lifetime after Created

	Kind    uint8     // content.Letter: for Mailbox at Relay. content.Mail: for Relay itself. content.Mbox: for a name at Relay. content.Inject: answers to reply blocks
	Relay   packet.ID // the last hop; the zero ID, for Inject only: any
	Mailbox packet.ID
	Ack     bool     // fragments are acknowledged, and sent again where they are not; several of up to letter.RoomACK bytes in windows
	Blocks  [][]byte `json:",omitempty"` // of an Inject: the reply blocks, one a fragment

	Path  string            `json:",omitempty"` // that the user asked for
	Files map[string][]byte `json:",omitempty"` // descriptors that Path names

	Note string // for whom it is, in the user's own list

	Bodies [][]byte `json:"-"` // of the same length each
}

// outHead is what is sealed in front of the bodies.
type outHead struct {
	Outgoing
	Count, Size int
}

// Names of the files of a message.
const (
	msgSuffix   = ".msg"   // the message; written once
	stateSuffix = ".state" // what became of each fragment so far; the client's
	endSuffix   = ".end"   // what became of it in the end; the client's
	giveSuffix  = ".give"  // empty: its sender gives it up
)

// maxHead bounds the head of a message on disk: 256 reply blocks and five descriptors, in base64.
const maxHead = 4 << 20

// NewName gives a name for a message that will be queued: who has put it down before Queue does not
// queue the message twice, whatever crash comes between.
func (s *Store) NewName() (string, error) {
	var random [5]byte
	if _, err := io.ReadFull(s.random, random[:]); err != nil {
		return "", errs.E("mixnet/client.Store.NewName", errs.Internal, "", err)
	}
	return fmt.Sprintf("%011x-%x", s.now().UnixMilli(), random), nil
}

// Queue keeps a message and gives its name. It is durable on return. errs.Full when too many
// wait, errs.Invalid for a message that nobody could send, errs.Exists for a name that is taken, by
// a message that waits or one whose end is known.
func (s *Store) Queue(o Outgoing) (string, error) {
	const op = "mixnet/client.Store.Queue"
	if o.Created.IsZero() {
		o.Created = s.now().Truncate(time.Second)
	}
	if o.Expires.IsZero() {
		o.Expires = o.Created.Add(Lifetime)
	}
	if err := o.check(); err != nil {
		return "", errs.Wrap(op, err)
	}
	h := outHead{Outgoing: o, Count: len(o.Bodies), Size: len(o.Bodies[0])}
	head, err := json.Marshal(h)
	if err != nil {
		return "", errs.E(op, errs.Internal, "", err)
	}
	if len(head) > maxHead {
		return "", errs.E(op, errs.TooLarge, "the message asks for too much around it", nil)
	}
	if err := s.roomFor(int64(len(o.Bodies) * h.Size)); err != nil {
		return "", errs.Wrap(op, err)
	}
	name := o.Name
	if name == "" {
		if name, err = s.NewName(); err != nil {
			return "", errs.Wrap(op, err)
		}
	} else if err := s.free(name); err != nil {
		return "", errs.Wrap(op, err)
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(head)+sealOverhead+len(o.Bodies)*(h.Size+sealOverhead)), uint32(len(head)+sealOverhead))
	if b, err = s.id.seal(b, name, head, s.random); err != nil {
		return "", errs.Wrap(op, err)
	}
	for i, body := range o.Bodies {
		if b, err = s.id.seal(b, bodyName(name, i), body, s.random); err != nil {
			return "", errs.Wrap(op, err)
		}
	}
	err = vfs.WriteFileAtomic(s.fs, s.path(outDir+"/"+name+msgSuffix), b, 0o600)
	return name, errs.Wrap(op, err)
}

// free tells whether a name may be given to a message.
func (s *Store) free(name string) error {
	const op = "mixnet/client.Store.Queue"
	if !validName(name) {
		return errs.E(op, errs.Invalid, "", errors.New("name of a message"))
	}
	for _, suffix := range []string{msgSuffix, endSuffix} {
		ok, err := vfs.Exists(s.fs, s.path(outDir+"/"+name+suffix))
		if err != nil {
			return err
		}
		if ok {
			return errs.E(op, errs.Exists, "the message is queued already", nil)
		}
	}
	return nil
}

func bodyName(name string, i int) string { return fmt.Sprintf("%s %d", name, i) }

// check looks at what only a fault of the program could bring.
func (o *Outgoing) check() error {
	const op = "mixnet/client.Outgoing"
	bad := func(why string) error { return errs.E(op, errs.Invalid, "", errors.New(why)) }
	if len(o.Bodies) == 0 {
		return bad("no bodies")
	}
	limit := packet.MaxBody
	if o.Ack || o.Kind == content.Inject {
		limit = packet.MaxBodySURB
	}
	for _, b := range o.Bodies {
		if len(b) != len(o.Bodies[0]) || len(b) > limit || len(b) == 0 {
			return bad("size of a body")
		}
	}
	switch o.Kind {
	case content.Letter:
		if o.Relay == (packet.ID{}) || o.Mailbox == (packet.ID{}) {
			return bad("no mailbox")
		}
	case content.Mail:
		if o.Relay == (packet.ID{}) {
			return bad("no node")
		}
	case content.Mbox:
		if o.Relay == (packet.ID{}) || o.Ack {
			return bad("no exit, or an acknowledgement from one")
		}
	case content.Inject:
		if o.Ack || len(o.Blocks) != len(o.Bodies) {
			return bad("reply blocks and bodies do not fit")
		}
	default:
		return bad("kind")
	}
	_, err := ParsePath(o.Path)
	return err
}

// roomFor tells whether a message of some bytes may be added.
func (s *Store) roomFor(size int64) error {
	const op = "mixnet/client.Store.Queue"
	names, err := s.names(outDir, msgSuffix)
	if err != nil {
		return err
	}
	for _, n := range names {
		info, err := s.fs.Stat(s.path(outDir + "/" + n + msgSuffix))
		if err == nil {
			size += info.Size()
		}
	}
	if len(names) >= s.limits.Messages || size > s.limits.Bytes {
		return errs.E(op, errs.Full, "too much waits to be sent already", nil)
	}
	return nil
}

// Result is what became of a message in the end.
type Result string

// Results of messages.
const (
	Delivered Result = "delivered" // every fragment is on the disk of the recipient's relay
	Sent      Result = "sent"      // every fragment was given to the own relay; nobody acknowledges more
	Failed    Result = "failed"
	Canceled  Result = "canceled" // its sender gave it up: Store.Cancel
)

// Progress is how a message stands.
type Progress struct {
	Name    string
	Created time.Time
	Note    string
	Packets int
	Sent    int    // given to the own relay at least once
	Acked   int    // acknowledged by the recipient's relay
	Result  Result // "": it still waits
	Why     string // of Failed, or why it waits
	Ended   time.Time
	Expect  Forecast `json:"-"` // of one that waits: until the last packet has arrived; filled in by Client.Messages
}

// Progress tells how a message stands. errs.NotFound for one that is not known, or not any more.
func (s *Store) Progress(name string) (Progress, error) {
	const op = "mixnet/client.Store.Progress"
	var p Progress
	if !validName(name) {
		return p, errs.E(op, errs.NotFound, "no message has this name", nil)
	}
	if err := s.loadJSON(outDir+"/"+name+endSuffix, &p); err != nil || p.Name != "" {
		return p, errs.Wrap(op, err)
	}
	h, f, err := s.openMessage(name)
	if err != nil {
		return p, errs.Wrap(op, err)
	}
	f.Close()
	st, err := s.loadState(name, h)
	if err != nil {
		return p, errs.Wrap(op, err)
	}
	p = st.progress(name, h)
	given, err := vfs.Exists(s.fs, s.path(outDir+"/"+name+giveSuffix))
	if given && p.Result == "" {
		p.Result, p.Why = Canceled, canceled
	}
	return p, errs.Wrap(op, err)
}

// endAs notes what became of a message, and removes it.
func (s *Store) endAs(p Progress, r Result, why string) error {
	p.Result, p.Why, p.Ended = r, why, s.now().Truncate(time.Second)
	if err := s.saveJSON(outDir+"/"+p.Name+endSuffix, p); err != nil {
		return err
	}
	return s.removeMessage(p.Name)
}

// removeMessage removes a message of which it is known what became.
func (s *Store) removeMessage(name string) error {
	return s.remove(outDir, name+msgSuffix, name+stateSuffix, name+giveSuffix)
}

// canceled is why a message ended that its sender gave up.
const canceled = "its sender gave it up"

// Cancel gives a message up that waits: nothing of it is made into a packet any more, as soon as the
// client has seen that. It is durable on return. What left before arrives, all the same: the
// recipient may have the message already. errs.NotFound for one that is not known or has ended.
func (s *Store) Cancel(name string) error {
	const op = "mixnet/client.Store.Cancel"
	p, err := s.Progress(name)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if p.Result != "" {
		return errs.E(op, errs.NotFound, "the message does not wait any more: "+string(p.Result), nil)
	}
	return errs.Wrap(op, vfs.WriteFileAtomic(s.fs, s.path(outDir+"/"+name+giveSuffix), nil, 0o600))
}

// validName keeps everything but names of Queue away from the file system.
func validName(name string) bool {
	if len(name) != 11+1+10 {
		return false
	}
	for i, c := range name {
		if hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'; !hex && (i != 11 || c != '-') {
			return false
		}
	}
	return true
}

// List gives the messages that wait and those whose end is still known, the oldest first.
func (s *Store) List() ([]Progress, error) {
	const op = "mixnet/client.Store.List"
	seen := make(map[string]bool)
	for _, suffix := range []string{msgSuffix, endSuffix} {
		names, err := s.names(outDir, suffix)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		for _, n := range names {
			seen[n] = true
		}
	}
	var out []Progress
	for n := range seen {
		p, err := s.Progress(n)
		switch {
		case err == nil:
		case errs.KindOf(err) == errs.NotFound:
			continue // its end was forgotten meanwhile
		case errs.KindOf(err) == errs.Corrupt:
			p = Progress{Name: n, Result: Failed, Why: errs.Public(err)}
		default:
			return nil, errs.Wrap(op, err)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Progress) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// openMessage reads the head of a message. The file is for its bodies.
func (s *Store) openMessage(name string) (*outHead, vfs.File, error) {
	const op = "mixnet/client.Store.message"
	f, err := s.fs.Open(s.path(outDir + "/" + name + msgSuffix))
	if err != nil {
		return nil, nil, vfs.Error(op, err)
	}
	h, err := s.readHead(name, f)
	if err != nil {
		f.Close()
		return nil, nil, errs.Wrap(op, err)
	}
	return h, f, nil
}

func (s *Store) readHead(name string, f vfs.File) (*outHead, error) {
	damaged := func(err error) (*outHead, error) {
		return nil, errs.E("mixnet/client.Store.message", errs.Corrupt, "a message that waits is damaged", err)
	}
	var n [4]byte
	if _, err := f.ReadAt(n[:], 0); err != nil {
		return damaged(err)
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > maxHead+sealOverhead {
		return damaged(nil)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 4); err != nil {
		return damaged(err)
	}
	plain, err := s.id.open(name, b)
	if err != nil {
		return damaged(err)
	}
	var h outHead
	if err := json.Unmarshal(plain, &h); err != nil || h.Count <= 0 || h.Count > 2*letter.MaxParts || h.Size <= 0 || h.Size > packet.MaxBody {
		return damaged(err)
	}
	return &h, nil
}

// body reads one body of a message.
func (s *Store) body(name string, h *outHead, i int) ([]byte, error) {
	const op = "mixnet/client.Store.body"
	f, err := s.fs.Open(s.path(outDir + "/" + name + msgSuffix))
	if err != nil {
		return nil, vfs.Error(op, err)
	}
	defer f.Close()
	var n [4]byte
	if _, err := f.ReadAt(n[:], 0); err != nil {
		return nil, vfs.Error(op, err)
	}
	at := 4 + int64(binary.BigEndian.Uint32(n[:])) + int64(i)*int64(h.Size+sealOverhead)
	b := make([]byte, h.Size+sealOverhead)
	if k, err := f.ReadAt(b, at); err != nil && (err != io.EOF || k != len(b)) {
		return nil, errs.E(op, errs.Corrupt, "a message that waits is damaged", err)
	}
	b, err = s.id.open(bodyName(name, i), b)
	return b, errs.Wrap(op, err)
}
