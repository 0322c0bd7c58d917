package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/store"
)

// keepLog is how many log records a writer keeps; older ones it deletes by range.
const keepLog = 8

// lookEvery is how often the reader beside the writers looks.
const lookEvery = time.Millisecond

// session is the workload of the crash, kill and fault checks. Each transaction
// of writer w with number i (from 1):
//
//   - counts the global counter up to n and writes order/n = (w, i),
//   - sets a = i in the writer's first shard and b = i in its second,
//   - writes log/i, some random bytes that depend on (w, i) alone,
//   - deletes all but the last keepLog log records.
//
// So every state that a prefix of the committed transactions can give is known,
// and verify accepts no other.
type session struct {
	oneLog  bool
	writers int

	mu    sync.Mutex
	acked acks
	seen  uint64 // highest counter that a View showed
}

// acks is what was acknowledged: the last number of each writer.
type acks struct {
	last  map[int]uint64
	count uint64 // highest value of the global counter
	seen  uint64
}

func newSession(e Engine, writers int) *session {
	return &session{oneLog: e.OneLog, writers: writers, acked: acks{last: make(map[int]uint64)}}
}

// snapshot is what has been acknowledged and seen until now.
func (s *session) snapshot() acks {
	s.mu.Lock()
	defer s.mu.Unlock()
	return acks{maps.Clone(s.acked.last), s.acked.count, s.seen}
}

func (s *session) note(w int, i, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked.last[w] = i
	s.acked.count = max(s.acked.count, n)
}

// shards gives the shards of the global counter and of a writer.
func (s *session) shards(w int) (order, first, second store.Shard) {
	if !s.oneLog {
		return 7, 7, 7
	}
	return 7, store.Shard(100 + 613*w), store.Shard(101 + 613*w)
}

func number(r store.Reader, key string) (uint64, error) {
	v, err := r.Get([]byte(key))
	switch {
	case errors.Is(err, errs.NotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case len(v) != 8:
		return 0, fmt.Errorf("%s has %d bytes", key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

func bytesOf(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func payload(w int, i uint64) []byte {
	r := rand.New(rand.NewPCG(uint64(w), i))
	b := make([]byte, 200+r.IntN(3000))
	for j := range b {
		b[j] = byte(r.Uint32())
	}
	return b
}

func (s *session) key(w int, name string) string { return fmt.Sprintf("w%02d/%s", w, name) }

func (s *session) logKey(w int, i uint64) []byte {
	return fmt.Appendf(nil, "w%02d/log/%08d", w, i)
}

// write does one transaction of writer w.
func (s *session) write(ctx context.Context, st store.Store, w int) error {
	done := st.Intend()
	defer done()
	order, first, second := s.shards(w)
	var i, n uint64
	err := st.Update(ctx, first, func(tx store.Tx) error {
		at := func(sh store.Shard) (store.Tx, error) {
			if sh == first {
				return tx, nil
			}
			return tx.Other(sh)
		}
		o, err := at(order)
		if err != nil {
			return err
		}
		b, err := at(second)
		if err != nil {
			return err
		}
		if n, err = number(o, "count"); err != nil {
			return err
		}
		if i, err = number(tx, s.key(w, "a")); err != nil {
			return err
		}
		n, i = n+1, i+1
		var from []byte
		if i > keepLog {
			from = s.logKey(w, i-keepLog+1)
		}
		return errors.Join(
			o.Set([]byte("count"), bytesOf(n)),
			o.Set(fmt.Appendf(nil, "order/%08d", n), append(bytesOf(uint64(w)), bytesOf(i)...)),
			tx.Set([]byte(s.key(w, "a")), bytesOf(i)),
			b.Set([]byte(s.key(w, "b")), bytesOf(i)),
			tx.Set(s.logKey(w, i), payload(w, i)),
			func() error {
				if from == nil {
					return nil
				}
				return tx.DeleteRange(s.logKey(w, 0), from)
			}(),
		)
	})
	if err == nil {
		s.note(w, i, n)
	}
	return err
}

// look reads the global counter as a client would.
func (s *session) look(ctx context.Context, st store.Store) error {
	order, _, _ := s.shards(0)
	return st.View(ctx, order, func(r store.Reader) error {
		n, err := number(r, "count")
		if err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = max(s.seen, n)
		return nil
	})
}

// run lets every writer write txs times, with one reader beside them, until a
// writer fails. The error is the first one.
func (s *session) run(ctx context.Context, st store.Store, txs int) error {
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	fail := func(err error) {
		if err != nil {
			once.Do(func() { first = err })
		}
	}
	ended := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
			}
			if err := s.look(ctx, st); err != nil {
				fail(err)
				return
			}
		}
	})
	for w := range s.writers {
		wg.Go(func() {
			for range txs {
				if err := s.write(ctx, st, w); err != nil {
					fail(err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(ended)
	reader.Wait()
	return first
}

// verify compares a store with what was acknowledged before a crash.
func (s *session) verify(ctx context.Context, st store.Store, a acks) error {
	order, _, _ := s.shards(0)
	seq := make(map[int]uint64)
	var count uint64
	err := st.View(ctx, order, func(r store.Reader) (err error) {
		if count, err = number(r, "count"); err != nil {
			return err
		}
		next := uint64(1)
		err = r.Scan([]byte("order/"), []byte("order0"), func(k, v []byte) (bool, error) {
			if string(k) != fmt.Sprintf("order/%08d", next) || len(v) != 16 {
				return false, fmt.Errorf("order record %d: found %q", next, k)
			}
			w, i := int(binary.BigEndian.Uint64(v)), binary.BigEndian.Uint64(v[8:])
			if i != seq[w]+1 {
				return false, fmt.Errorf("order record %d: writer %d jumps from %d to %d", next, w, seq[w], i)
			}
			seq[w] = i
			next++
			return true, nil
		})
		if err == nil && next != count+1 {
			err = fmt.Errorf("the counter is %d, the last order record %d", count, next-1)
		}
		return err
	})
	if err != nil {
		return err
	}
	if count < a.count {
		return fmt.Errorf("transaction %d was acknowledged, the last one found is %d", a.count, count)
	}
	if count < a.seen {
		return fmt.Errorf("transaction %d was shown to a reader, the last one found is %d", a.seen, count)
	}
	for w := range s.writers {
		if seq[w] < a.last[w] {
			return fmt.Errorf("writer %d: %d was acknowledged, the last one found is %d", w, a.last[w], seq[w])
		}
		if err := s.verifyWriter(ctx, st, w, seq[w]); err != nil {
			return fmt.Errorf("writer %d: %w", w, err)
		}
	}
	return nil
}

// verifyWriter compares a writer's records with those after its transaction i.
func (s *session) verifyWriter(ctx context.Context, st store.Store, w int, i uint64) error {
	_, first, second := s.shards(w)
	err := st.View(ctx, first, func(r store.Reader) error {
		a, err := number(r, s.key(w, "a"))
		if err != nil {
			return err
		}
		if a != i {
			return fmt.Errorf("a is %d, want %d: half a transaction", a, i)
		}
		next := uint64(1)
		if i > keepLog {
			next = i - keepLog + 1
		}
		err = r.Scan(s.logKey(w, 0), []byte(s.key(w, "log0")), func(k, v []byte) (bool, error) {
			if !bytes.Equal(k, s.logKey(w, next)) {
				return false, fmt.Errorf("found %q, want log record %d", k, next)
			}
			if !bytes.Equal(v, payload(w, next)) {
				return false, fmt.Errorf("log record %d is damaged", next)
			}
			next++
			return true, nil
		})
		if err == nil && next != i+1 {
			err = fmt.Errorf("the last log record is %d, want %d", next-1, i)
		}
		return err
	})
	if err != nil {
		return err
	}
	return st.View(ctx, second, func(r store.Reader) error {
		b, err := number(r, s.key(w, "b"))
		if err == nil && b != i {
			err = fmt.Errorf("b is %d, want %d: half a transaction", b, i)
		}
		return err
	})
}
