package mailbox

import (
	"context"
	"encoding/binary"
	"time"

	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// The save date (RFC 8514) is when a mail came into the mailbox it lies in. A delivery
// and an APPEND write it into the mail's sealed summary, which they make anyway. A copy
// shares the summary with its source, so COPY and MOVE leave a record of their own
// for each mail, and a flag in its row that says so. The record is sealed to the account
// once for the whole transaction: time, first UID and number of the mails that came, so
// that it is of no use under another mail.

const purposeSaved = "mailbox save date"

// savedRun is what lies inside the record.
type savedRun struct {
	at    time.Time // to the second
	first uint32
	count uint32
}

func (s *savedRun) encode() []byte {
	b := append(make([]byte, 0, 24), formatVersion)
	b = binary.AppendVarint(b, s.at.Unix())
	b = binary.AppendUvarint(b, uint64(s.first))
	return binary.AppendUvarint(b, uint64(s.count))
}

func decodeSaved(b []byte) (s savedRun, err error) {
	d := newDec(b)
	s.at = time.Unix(d.Varint(), 0).UTC()
	s.first = d.Uint32()
	s.count = d.Uint32()
	return s, d.End("post/mailbox.decodeSaved")
}

// savedAAD is what the record is bound to beside its own UIDs: the mailbox's contents.
func savedAAD(id seal.AccountID, series uint32) []byte { return key32(id, kindSaved, series) }

// sealSaved makes the record of the next count mails that are added to the mailbox.
func (x *boxTx) sealSaved(key *seal.Opened, at time.Time, count int) ([]byte, error) {
	run := savedRun{at: at, first: x.st.uidNext, count: uint32(count)}
	return key.SealRecord(purposeSaved, savedAAD(x.t.id, x.st.series), run.encode())
}

// dropSaved removes the record of a mail that leaves the mailbox.
func (x *boxTx) dropSaved(e *Entry) error {
	if e.Flags&Copied == 0 {
		return nil
	}
	x.t.deleted = true
	return x.t.tx.Delete(savedKey(x.t.id, x.st.series, e.UID))
}

// SaveDate gives when a mail came into the mailbox, to the second, in UTC. It is zero
// for a mail that an earlier version stored, which kept no such date. errs.NotFound:
// the mail was expunged meanwhile.
func (a *Account) SaveDate(ctx context.Context, box uint32, e Entry) (time.Time, error) {
	const op = "post/mailbox.SaveDate"
	var at time.Time
	err := a.read(ctx, func(r store.Reader) error {
		if e.Flags&Copied == 0 {
			_, s, err := a.summary(r, e.Mid)
			at = s.saved
			return err
		}
		st, err := getState(r, a.key.ID(), box)
		if err != nil {
			return err
		}
		b, err := r.Get(savedKey(a.key.ID(), st.series, e.UID))
		if err != nil {
			return err
		}
		plain, err := a.key.OpenRecord(purposeSaved, savedAAD(a.key.ID(), st.series), b)
		if err != nil {
			return err
		}
		run, err := decodeSaved(plain)
		if err == nil && (e.UID < run.first || e.UID-run.first >= run.count) {
			err = errs.E(op, errs.Corrupt, "", nil)
		}
		at = run.at
		return err
	})
	return at, errs.Wrap(op, err)
}
