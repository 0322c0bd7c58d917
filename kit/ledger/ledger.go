// Package ledger is a small durable table: keys of 16 bytes, each with a value of 16 bytes. It
// is for what must be remembered exactly and is written seldom, such as tokens that were spent.
// All of it is in memory; on the disk it is a file to which each change is appended and synced.
//
//	head    "PSTNLDG" LF | version u8 = 1 | zero 7
//	record  key 16 | value 16 | CRC-32C of both, big-endian
//
// What stands behind the last whole record is what a crash left of one that nobody was told of; it is
// dropped at the next start. A damaged record before others is an error, not a loss.
package ledger

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"sync"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// Key and Value are the sides of the table. Who writes makes keys that tell nothing to who
// reads the disk: keyed hashes.
type (
	Key   [16]byte
	Value [16]byte
)

// Record is one line.
type Record struct {
	Key   Key
	Value Value
}

const (
	magic     = "PSTNLDG\n"
	version   = 1
	headLen   = 16
	recordLen = 16 + 16 + 4
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Ledger is an open table. It may be used by many goroutines.
type Ledger struct {
	fs   vfs.FS
	path string
	max  int

	write sync.Mutex // held by who writes

	mu     sync.RWMutex
	m      map[Key]Value
	f      vfs.File
	at     int64 // where the next record goes
	failed error // after a failed write nothing more is written
}

// Open reads the table at path, or makes an empty one; the directory must be there. max bounds
// its keys. What was written several times over is tidied up, now and whenever it is more than what
// counts, so that the file has a bound. Kinds of errors: errs.Corrupt,
// errs.TooLarge, and those of the disk.
func Open(f vfs.FS, path string, max int) (*Ledger, error) {
	const op = "kit/ledger.Open"
	l := &Ledger{fs: f, path: path, max: max, m: make(map[Key]Value)}
	b, err := vfs.ReadFile(f, path)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return nil, errs.Wrap(op, err)
	}
	records, whole := 0, false
	if err == nil {
		if records, whole, err = l.read(b); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	if len(l.m) > max {
		return nil, errs.E(op, errs.TooLarge, "", errors.New("more keys than there may be"))
	}
	l.at = headLen + int64(records)*recordLen
	if !whole || l.old() { // a torn end is cut off
		err = l.anew()
	} else {
		err = l.open()
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return l, nil
}

// slack is how many records a file may have more than twice its keys.
const slack = 1024

// old reports whether half of the file is what was written over since.
func (l *Ledger) old() bool { return (l.at-headLen)/recordLen > int64(2*len(l.m)+slack) }

// anew writes the file anew with what counts, and opens it.
func (l *Ledger) anew() error {
	out := make([]byte, 0, headLen+len(l.m)*recordLen)
	out = append(out, head()...)
	for k, v := range l.m {
		out = append(out, encode(Record{k, v})...)
	}
	if err := vfs.WriteFileAtomic(l.fs, l.path, out, 0o600); err != nil {
		return err
	}
	if l.f != nil {
		_ = l.f.Close() // of the file that is gone; each record in it was synced
	}
	l.at = int64(len(out))
	return l.open()
}

func (l *Ledger) open() (err error) {
	l.f, err = l.fs.OpenReadWrite(l.path, vfs.Unspecified)
	return vfs.Error("kit/ledger.open", err)
}

func head() []byte {
	b := append(make([]byte, 0, headLen), magic...)
	return append(b, version, 0, 0, 0, 0, 0, 0, 0)
}

func encode(r Record) []byte {
	b := append(make([]byte, 0, recordLen), r.Key[:]...)
	b = append(b, r.Value[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, table))
}

// read takes a file in. whole: nothing stands behind the last record.
func (l *Ledger) read(b []byte) (records int, whole bool, err error) {
	bad := func(why string) (int, bool, error) {
		return 0, false, errs.E("kit/ledger.read", errs.Corrupt, "", errors.New(why))
	}
	if len(b) < headLen || string(b[:headLen]) != string(head()) {
		return bad("head of the file")
	}
	for b = b[headLen:]; len(b) >= recordLen; b = b[recordLen:] {
		r := Record{Key(b[:16]), Value(b[16:32])}
		if binary.BigEndian.Uint32(b[32:]) != crc32.Checksum(b[:32], table) {
			// The last may be torn: a crash while it was written. Zeros are a file that grew and
			// was not filled.
			if len(b) < 2*recordLen || zero(b) {
				return records, false, nil
			}
			return bad("a record is damaged")
		}
		l.m[r.Key] = r.Value
		records++
	}
	return records, len(b) == 0, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Get gives the value of a key.
func (l *Ledger) Get(k Key) (Value, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	v, ok := l.m[k]
	return v, ok
}

// Len is how many keys there are.
func (l *Ledger) Len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.m)
}

// Update calls f, which looks at the table and gives the record that it wants to write, and writes
// it. Nobody else writes meanwhile. When it returns nil the record is durable. With write false
// nothing is written. An error of f is returned as it is. Kinds of errors: errs.Full where a new
// key has no room; errs.Unavailable after a failed write, until the table is opened again, since
// nobody knows then what the disk holds; those of the disk.
func (l *Ledger) Update(f func(get func(Key) (Value, bool)) (r Record, write bool, err error)) error {
	const op = "kit/ledger.Update"
	l.write.Lock()
	defer l.write.Unlock()
	r, write, err := f(l.Get)
	if err != nil {
		return err
	}
	if !write {
		return nil
	}
	if l.failed != nil {
		return errs.E(op, errs.Unavailable, "", l.failed)
	}
	if _, ok := l.Get(r.Key); !ok && l.Len() >= l.max {
		return errs.E(op, errs.Full, "", errors.New("the ledger is full"))
	}
	if l.old() {
		if err := l.anew(); err != nil { // which of the two files is there is not known
			l.failed = err
			return errs.Wrap(op, err)
		}
	}
	b := encode(r)
	_, err = l.f.WriteAt(b, l.at)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		l.failed = err
		return vfs.Error(op, err)
	}
	l.at += recordLen
	l.mu.Lock()
	l.m[r.Key] = r.Value
	l.mu.Unlock()
	return nil
}

// Set writes one record.
func (l *Ledger) Set(k Key, v Value) error {
	return l.Update(func(func(Key) (Value, bool)) (Record, bool, error) { return Record{k, v}, true, nil })
}

// Close ends the use of the table.
func (l *Ledger) Close() error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.failed == nil {
		l.failed = errors.New("the ledger is closed")
	}
	return vfs.Error("kit/ledger.Close", l.f.Close())
}
