package mtasts

import (
	"encoding/binary"
	"time"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
)

// known is what is known about the policy of a domain.
type known struct {
	id      string
	policy  Policy
	fetched time.Time // in whole seconds
}

// recordVersion is the first byte of a record.
const recordVersion = 1

// maxTime keeps a damaged record from naming a time that time.Time cannot hold.
const maxTime = 1 << 40 // seconds

// encode gives the record that is kept: version, time of the fetch, id, text.
func (k known) encode() []byte {
	b := binary.AppendUvarint([]byte{recordVersion}, uint64(max(k.fetched.Unix(), 0)))
	b = codec.AppendSized(b, k.id)
	return append(b, k.policy.Text()...)
}

// decode reads a record. errs.Corrupt.
func decode(b []byte) (known, error) {
	const op = "wire/mtasts.decode"
	r := codec.NewReader(b, recordVersion)
	k := known{fetched: time.Unix(r.Int(maxTime), 0), id: r.String(maxID)}
	text := string(r.Rest())
	if err := r.End(op); err != nil {
		return known{}, err
	}
	var err error
	if k.policy, err = ParsePolicy(text); err != nil || !validID(k.id) || k.policy.Text() != text {
		return known{}, errs.E(op, errs.Corrupt, "", err)
	}
	return k, nil
}

// until is when the policy ends. A clock that was wrong at the fetch makes it no longer.
func (k known) until(now time.Time) time.Time {
	if k.fetched.After(now) {
		return now.Add(k.policy.MaxAge)
	}
	return k.fetched.Add(k.policy.MaxAge)
}

// RecordEnds tells when a record that Options.Save was given may be deleted.
// errs.Corrupt when it is none.
func RecordEnds(record []byte) (time.Time, error) {
	k, err := decode(record)
	if err != nil {
		return time.Time{}, err
	}
	return k.fetched.Add(k.policy.MaxAge), nil
}
