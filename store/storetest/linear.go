package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"postern.email/kit/vfs"
	"postern.email/store"

	"github.com/anishathalye/porcupine"
)

// LinearConfig sizes LinearCheck.
type LinearConfig struct {
	Clients int
	Ops     int // each
	Seed    uint64
}

const linearKeys = 3

// linearTimeout bounds the search for an order; a history that short is decided
// in milliseconds.
const linearTimeout = 30 * time.Second

type linearState [linearKeys]uint64

// linearOp is one call: read everything, set one key, or move: add `by` to one key
// and take it from another, reading both.
type linearOp struct {
	kind     byte // 'r', 's', 'm'
	from, to int
	value    uint64
}

// LinearCheck runs clients at once on a few keys (Views that read all of them,
// single writes, transactions over two keys in two shards) and searches for one
// order of all calls that explains every answer and respects real time.
func LinearCheck(ctx context.Context, e Engine, c LinearConfig) error {
	return using(ctx, e, vfs.NewCrashDisk(), func(st store.Store) error {
		history, err := linearHistory(ctx, st, e.OneLog, c)
		if err != nil {
			return err
		}
		result := porcupine.CheckOperationsTimeout(linearModel(), history, linearTimeout)
		if result != porcupine.Ok {
			return fmt.Errorf("%d calls by %d clients, seed %d: linearizable: %v", len(history), c.Clients, c.Seed, result)
		}
		return nil
	})
}

func linearModel() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return linearState{} },
		Step: func(state, input, output any) (bool, any) {
			s, op, out := state.(linearState), input.(linearOp), output.(linearState)
			switch op.kind {
			case 'r':
				return s == out, s
			case 's':
				s[op.to] = op.value
				return true, s
			}
			ok := s[op.from] == out[op.from] && s[op.to] == out[op.to]
			s[op.from] -= op.value
			s[op.to] += op.value
			return ok, s
		},
	}
}

func linearHistory(ctx context.Context, st store.Store, oneLog bool, c LinearConfig) ([]porcupine.Operation, error) {
	var (
		mu      sync.Mutex
		history []porcupine.Operation
		first   error
		wg      sync.WaitGroup
		begin   = time.Now()
	)
	for client := range c.Clients {
		rng := rand.New(rand.NewPCG(c.Seed, uint64(client)))
		wg.Go(func() {
			for range c.Ops {
				op := linearOp{kind: "rsmm"[rng.IntN(4)], from: rng.IntN(linearKeys), value: uint64(rng.IntN(1000))}
				op.to = (op.from + 1 + rng.IntN(linearKeys-1)) % linearKeys
				call := time.Since(begin).Nanoseconds()
				out, err := linearDo(ctx, st, oneLog, op)
				back := time.Since(begin).Nanoseconds()
				mu.Lock()
				if err != nil {
					first = errors.Join(first, err)
				}
				history = append(history, porcupine.Operation{
					ClientId: client, Input: op, Call: call, Output: out, Return: back,
				})
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return history, first
}

func linearKey(i int) string { return fmt.Sprintf("key%d", i) }

// linearDo does one call. All keys lie in shard 1, so that one View reads them at
// one moment; with one log the moves begin in another shard.
func linearDo(ctx context.Context, st store.Store, oneLog bool, op linearOp) (out linearState, err error) {
	if op.kind == 'r' {
		err = st.View(ctx, 1, func(r store.Reader) error {
			for i := range out {
				if out[i], err = number(r, linearKey(i)); err != nil {
					return err
				}
			}
			return nil
		})
		return out, err
	}
	home := store.Shard(1)
	if oneLog {
		home = 2
	}
	done := st.Intend()
	defer done()
	err = st.Update(ctx, home, func(tx store.Tx) error {
		if oneLog {
			var err error
			if tx, err = tx.Other(1); err != nil {
				return err
			}
		}
		if op.kind == 's' {
			return tx.Set([]byte(linearKey(op.to)), bytesOf(op.value))
		}
		for _, i := range []int{op.from, op.to} {
			n, err := number(tx, linearKey(i))
			if err != nil {
				return err
			}
			out[i] = n
		}
		return errors.Join(
			tx.Set([]byte(linearKey(op.from)), bytesOf(out[op.from]-op.value)),
			tx.Set([]byte(linearKey(op.to)), bytesOf(out[op.to]+op.value)))
	})
	return out, err
}

func linearizable(t *testing.T, e Engine) {
	for seed := range uint64(3) {
		if err := LinearCheck(t.Context(), e, LinearConfig{Clients: 6, Ops: 40, Seed: seed}); err != nil {
			t.Fatal(err)
		}
	}
}
