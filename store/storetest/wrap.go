package storetest

import (
	"context"
	"errors"
	"sync/atomic"

	"postern.email/kit/errs"
	"postern.email/store"
)

// SplitLogs wraps an engine so that Tx.Other says errs.Unsupported, as an engine
// with one log a shard does. It exercises the callers' fall-back to two
// transactions.
func SplitLogs(st store.Store) store.Store { return splitLogs{st} }

type splitLogs struct{ store.Store }

func (s splitLogs) Update(ctx context.Context, sh store.Shard, fn func(store.Tx) error) error {
	return s.Store.Update(ctx, sh, func(tx store.Tx) error { return fn(splitTx{tx}) })
}

type splitTx struct{ store.Tx }

func (splitTx) Other(store.Shard) (store.Tx, error) {
	return nil, errs.E("store/storetest.Other", errs.Unsupported, "", nil)
}

// Twice wraps an engine so that every transaction function is run once for nothing before
// the run that counts, as the contract allows.
func Twice(st store.Store) store.Store { return twice{st} }

type twice struct{ store.Store }

var errAgain = errors.New("run it again")

func (s twice) Update(ctx context.Context, sh store.Shard, fn func(store.Tx) error) error {
	var wrong error
	err := s.Store.Update(ctx, sh, func(tx store.Tx) error {
		if wrong = fn(tx); wrong != nil {
			return wrong
		}
		return errAgain
	})
	if wrong != nil || !errors.Is(err, errAgain) {
		return err
	}
	return s.Store.Update(ctx, sh, fn)
}

// Faulty is a store whose Updates can be made to fail around the commit. Updates
// are counted from 1.
type Faulty struct {
	store.Store

	// Before is asked before the n-th Update; with an error nothing is written and
	// Update returns it. nil asks nobody.
	Before func(n int64) error

	// After is asked after the n-th Update was committed; with an error Update
	// returns it although the transaction is durable, as a caller sees it whose
	// connection is cut right then. nil asks nobody.
	After func(n int64) error

	count atomic.Int64
}

// Update implements store.Store.
func (f *Faulty) Update(ctx context.Context, s store.Shard, fn func(store.Tx) error) error {
	n := f.count.Add(1)
	if f.Before != nil {
		if err := f.Before(n); err != nil {
			return err
		}
	}
	if err := f.Store.Update(ctx, s, fn); err != nil {
		return err
	}
	if f.After != nil {
		return f.After(n)
	}
	return nil
}

// Count is how many Updates were asked for.
func (f *Faulty) Count() int64 { return f.count.Load() }
