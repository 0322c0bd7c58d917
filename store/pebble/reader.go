package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"postern.email/kit/errs"
	"postern.email/store"

	"github.com/cockroachdb/pebble/v2"
)

// ctxEvery is how many records a scan reads between two looks at the context.
const ctxEvery = 256

// prefixOf gives the first two bytes of every key of shard s; those of s+1 end it.
func prefixOf(s store.Shard) (p [2]byte) {
	binary.BigEndian.PutUint16(p[:], uint16(s))
	return p
}

func fullKey(p [2]byte, key []byte) []byte {
	return append(append(make([]byte, 0, 2+len(key)), p[:]...), key...)
}

func splitKey(full []byte) (store.Shard, []byte) {
	return store.Shard(binary.BigEndian.Uint16(full)), full[2:]
}

// bounds gives the full keys that enclose [start, end) in a shard.
func bounds(p [2]byte, start, end []byte) (lower, upper []byte) {
	lower = fullKey(p, start)
	if end == nil {
		next := prefixOf(store.Shard(binary.BigEndian.Uint16(p[:])) + 1)
		return lower, next[:]
	}
	return lower, fullKey(p, end)
}

// source is what a reader reads: a snapshot, or the batch of a group.
type source interface {
	Get(key []byte) ([]byte, io.Closer, error)
	NewIter(*pebble.IterOptions) (*pebble.Iterator, error)
}

// getCopy reads one full key. The value is the caller's own.
func getCopy(src source, full []byte) ([]byte, error) {
	v, closer, err := src.Get(full)
	if err != nil {
		return nil, readError("store/pebble.Get", err)
	}
	v = append(make([]byte, 0, len(v)), v...)
	if err := closer.Close(); err != nil {
		return nil, readError("store/pebble.Get", err)
	}
	return v, nil
}

// reader is the store.Reader of View.
type reader struct {
	ctx    context.Context
	stop   <-chan struct{} // the store is closing
	src    source
	prefix [2]byte
	ended  bool
	key    []byte // space for one full key
}

// end makes a reader that outlives its function useless, so that the mistake
// shows at once instead of reading a closed snapshot.
func (r *reader) end() { r.ended = true }

func (r *reader) usable() error {
	if r.ended {
		return errs.E("store/pebble", errs.Internal, "", errLate)
	}
	select {
	case <-r.stop:
		return errs.E("store/pebble", errs.Unavailable, publicClosed, nil)
	default:
	}
	if err := r.ctx.Err(); err != nil {
		return errs.E("store/pebble", errs.Canceled, "", err)
	}
	return nil
}

func (r *reader) Get(key []byte) ([]byte, error) {
	if err := r.usable(); err != nil {
		return nil, err
	}
	r.key = append(append(r.key[:0], r.prefix[:]...), key...)
	return getCopy(r.src, r.key)
}

var errOrder = errors.New("the keys do not ascend")

// ascending reports whether keys are in the order that GetMany asks for.
func ascending(keys [][]byte) bool {
	for i := 1; i < len(keys); i++ {
		if bytes.Compare(keys[i-1], keys[i]) >= 0 {
			return false
		}
	}
	return true
}

// GetMany seeks with one iterator. Pebble notices that the keys ascend, and looks
// for each from where the last one was found.
func (r *reader) GetMany(keys [][]byte, fn func(i int, value []byte) (bool, error)) error {
	const op = "store/pebble.GetMany"
	if err := r.usable(); err != nil {
		return err
	}
	if !ascending(keys) {
		return errs.E(op, errs.Invalid, "", errOrder)
	}
	if len(keys) < 2 {
		return r.getOne(keys, fn)
	}
	lower := fullKey(r.prefix, keys[0])
	upper := append(fullKey(r.prefix, keys[len(keys)-1]), 0) // the next key behind the last
	it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(op, err)
	}
	err = r.getMany(it, keys, fn)
	if cerr := it.Close(); err == nil && cerr != nil {
		return readError(op, cerr)
	}
	return err
}

// getOne is GetMany of one key at most: that needs no iterator, and the filters of tables
// that do not hold it save looking into them.
func (r *reader) getOne(keys [][]byte, fn func(i int, value []byte) (bool, error)) error {
	const op = "store/pebble.GetMany"
	if len(keys) == 0 {
		return nil
	}
	value, closer, err := r.src.Get(fullKey(r.prefix, keys[0]))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return readError(op, err)
	}
	_, err = fn(0, value)
	if cerr := closer.Close(); err == nil && cerr != nil {
		return readError(op, cerr)
	}
	return err
}

func (r *reader) getMany(it *pebble.Iterator, keys [][]byte, fn func(i int, value []byte) (bool, error)) error {
	const op = "store/pebble.GetMany"
	full := make([]byte, 0, store.MaxKey/4)
	for i, key := range keys {
		if i > 0 && i%ctxEvery == 0 {
			if err := r.usable(); err != nil {
				return err
			}
		}
		full = append(append(full[:0], r.prefix[:]...), key...)
		if !it.SeekGE(full) {
			return readError(op, it.Error())
		}
		if !bytes.Equal(it.Key(), full) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return readError(op, err)
		}
		if more, err := fn(i, value); err != nil || !more {
			return err
		}
	}
	return nil
}

func (r *reader) Scan(start, end []byte, fn func(key, value []byte) (bool, error)) error {
	return r.scanShard(start, end, false, fn)
}

func (r *reader) ScanReverse(start, end []byte, fn func(key, value []byte) (bool, error)) error {
	return r.scanShard(start, end, true, fn)
}

func (r *reader) scanShard(start, end []byte, reverse bool, fn func(key, value []byte) (bool, error)) error {
	lower, upper := bounds(r.prefix, start, end)
	return r.scan(lower, upper, reverse, func(key, value []byte) (bool, error) { return fn(key[2:], value) })
}

// scan calls fn with full keys.
func (r *reader) scan(lower, upper []byte, reverse bool, fn func(key, value []byte) (bool, error)) error {
	const op = "store/pebble.Scan"
	if err := r.usable(); err != nil {
		return err
	}
	if bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return readError(op, err)
	}
	err = func() error {
		step, ok := it.Next, false
		if reverse {
			step, ok = it.Prev, it.Last()
		} else {
			ok = it.First()
		}
		for n := 1; ok; n++ {
			value, err := it.ValueAndErr()
			if err != nil {
				return readError(op, err)
			}
			more, err := fn(it.Key(), value)
			if err != nil || !more {
				return err
			}
			if n%ctxEvery == 0 {
				if err := r.usable(); err != nil {
					return err
				}
			}
			ok = step()
		}
		return readError(op, it.Error())
	}()
	if cerr := it.Close(); err == nil && cerr != nil {
		return readError(op, cerr)
	}
	return err
}
