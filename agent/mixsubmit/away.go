package mixsubmit

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mixnet/client"
)

// What left through exits is remembered for a while in one sealed file, so that a report that comes of it
// can be shown with the mail that it is about.
const (
	awayFile = "away"
	maxAway  = 500                              // mails; beyond, the oldest are forgotten
	awayTime = client.Lifetime + 3*24*time.Hour // a letter is sent for the first, and a mail waits at an exit for two days
)

// away is the mails of an account that left through exits.
type away struct {
	mu   sync.Mutex
	open bool
	list []*left // the oldest first
}

// left is the part of a mail that left in one letter.
type left struct {
	ID   string // Message-ID
	To   []mail.Address
	Sent time.Time
	Back []back `json:",omitempty"`
}

// back is a recipient of whom a report came.
type back struct {
	To     mail.Address
	Status string // RFC 3463; "" where the report has none
	Told   time.Time
}

// Refused is a recipient who did not get a mail that had left through an exit, as a report says.
type Refused struct {
	To     mail.Address
	Status string // RFC 3463, such as "5.1.1"; "" where the report has none
	Sent   time.Time
	Told   time.Time // when the report came
}

// load reads the file once; the lock is held.
func (y *away) load(sp *spool) error {
	if y.open {
		return nil
	}
	b, err := sp.read(awayFile)
	if err == nil && json.Unmarshal(b, &y.list) != nil {
		err = errs.E("agent/mixsubmit.away", errs.Corrupt, "what left through exits cannot be read", nil)
	}
	switch k := errs.KindOf(err); {
	case err == nil, k == errs.NotFound:
	case k == errs.Corrupt: // of use for a few days only
		y.list = nil
	default:
		return err
	}
	y.open = true
	return nil
}

// change applies fn to what is remembered; true: it is written then.
func (y *away) change(sp *spool, now time.Time, fn func() bool) error {
	const op = "agent/mixsubmit.away"
	y.mu.Lock()
	defer y.mu.Unlock()
	if err := y.load(sp); err != nil {
		return errs.Wrap(op, err)
	}
	y.list = slices.DeleteFunc(y.list, func(l *left) bool { return now.Sub(l.Sent) > awayTime })
	if !fn() {
		return nil
	}
	if n := len(y.list) - maxAway; n > 0 {
		y.list = y.list[n:]
	}
	b, err := json.Marshal(y.list)
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	if err = sp.write(awayFile, b); err != nil {
		y.open, y.list = false, nil // as the disk has it
	}
	return errs.Wrap(op, err)
}

// leaves remembers a part that is about to go to an exit. A mail without an ID cannot be known again.
func (s *Submit) leaves(sp *spool, e *entry, p *part) {
	id := messageID(e.Header)
	if id == "" {
		return
	}
	now := s.o.Now()
	l := &left{ID: id, Sent: now.UTC()}
	for _, r := range p.Rcpts {
		l.To = append(l.To, r.To.Canonical())
	}
	err := sp.away.change(sp, now, func() bool {
		if slices.ContainsFunc(sp.away.list, func(o *left) bool { return o.ID == id && slices.Equal(o.To, l.To) }) {
			return false // a crash came in between
		}
		sp.away.list = append(sp.away.list, l)
		return true
	})
	if err != nil {
		s.o.Logger.Debug("a mail into the world is not remembered", "err", err)
	}
}

// messageID gives the ID that a header names; "": there is none.
func messageID(header []byte) string {
	h, _, err := mail.ParseHeader(header)
	if err != nil {
		return ""
	}
	if ids := mail.MessageIDs(h.Get("Message-ID")); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// Returned takes what a report says that came for an account: its recipients and the header of the mail that it is
// about. It is mixreceive.Options.Returned. Anybody who got the mail could have written it.
func (s *Submit) Returned(account mail.Address, rcpts []dsn.Returned, header []byte) {
	id := messageID(header)
	a := s.account(account)
	if id == "" || a == nil {
		return
	}
	sp, err := s.spool(a)
	if err != nil {
		return // spool says why
	}
	now := s.o.Now()
	err = sp.away.change(sp, now, func() (found bool) {
		for _, l := range sp.away.list {
			if l.ID != id {
				continue
			}
			for _, r := range rcpts {
				to, err := mail.ParseAddress(r.Final)
				if to = to.Canonical(); err != nil || r.Action != dsn.Failed || !slices.Contains(l.To, to) ||
					slices.ContainsFunc(l.Back, func(b back) bool { return b.To == to }) {
					continue
				}
				l.Back, found = append(l.Back, back{To: to, Status: r.Status, Told: now.UTC()}), true
			}
		}
		return found
	})
	if err != nil {
		s.o.Logger.Debug("a report about a mail into the world is not noted", "err", err)
	}
}

// Refused lists who did not get mail of an account that had left through exits in the last days, the oldest mail
// first. Each has a report in the account's mailbox.
func (s *Submit) Refused(account mail.Address) (out []Refused, err error) {
	a := s.account(account)
	if a == nil {
		return nil, nil
	}
	sp, err := s.spool(a)
	if err != nil {
		return nil, err
	}
	err = sp.away.change(sp, s.o.Now(), func() bool {
		for _, l := range sp.away.list {
			for _, b := range l.Back {
				out = append(out, Refused{To: b.To, Status: b.Status, Sent: l.Sent, Told: b.Told})
			}
		}
		return false
	})
	return out, err
}
