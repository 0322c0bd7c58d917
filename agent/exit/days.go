package exit

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/ledger"
	"postern.email/kit/vfs"
	"postern.email/mixnet/token"
)

// days are ledgers of one kind, one for each day: NAME-DAY. Those of days that are over are
// removed.
type days struct {
	fs   vfs.FS
	dir  string
	name string
	max  int

	mu   sync.Mutex
	open map[token.Day]*ledger.Ledger
}

func newDays(fs vfs.FS, dir, name string, max int) *days {
	return &days{fs: fs, dir: dir, name: name, max: max, open: make(map[token.Day]*ledger.Ledger)}
}

func (d *days) path(day token.Day) string {
	return d.fs.PathJoin(d.dir, fmt.Sprintf("%s-%d", d.name, day))
}

// get gives the ledger of a day.
func (d *days) get(day token.Day) (*ledger.Ledger, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.open[day]; l != nil {
		return l, nil
	}
	l, err := ledger.Open(d.fs, d.path(day), d.max)
	if err != nil {
		return nil, errs.Wrap("agent/exit.days", err)
	}
	d.open[day] = l
	return l, nil
}

// drop removes the ledgers of days before one.
func (d *days) drop(before token.Day) error {
	const op = "agent/exit.days.drop"
	d.mu.Lock()
	defer d.mu.Unlock()
	names, err := d.fs.List(d.dir)
	if err != nil {
		return vfs.Error(op, err)
	}
	for _, name := range names {
		s, ok := strings.CutPrefix(name, d.name+"-")
		n, err := strconv.ParseUint(s, 10, 32)
		if !ok || err != nil || token.Day(n) >= before {
			continue
		}
		if l := d.open[token.Day(n)]; l != nil {
			_ = l.Close() // its file goes
			delete(d.open, token.Day(n))
		}
		if err := d.fs.Remove(d.path(token.Day(n))); err != nil {
			return vfs.Error(op, err)
		}
	}
	return nil
}

// close ends the use of all.
func (d *days) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []error
	for day, l := range d.open {
		all = append(all, l.Close())
		delete(d.open, day)
	}
	return errors.Join(all...)
}

// marks makes the keys of ledgers: keyed hashes, so that the disk names nobody.
type marks [32]byte

func newMarks(secret []byte, use string) (marks, error) {
	b, err := hkdf.Key(sha256.New, secret, nil, "postern/exit: "+use, 32)
	if err != nil {
		return marks{}, errs.E("agent/exit.newMarks", errs.Internal, "", err)
	}
	return marks(b), nil
}

// of hashes a label and one text.
func (m *marks) of(label string, text []byte) (k [16]byte) {
	h := hmac.New(sha256.New, m[:])
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(text)
	copy(k[:], h.Sum(nil))
	return k
}
