package pebble

import (
	"context"
	"errors"
	"log/slog"

	"postern.email/kit/errs"
	"postern.email/store"

	"github.com/cockroachdb/pebble/v2"
)

// Update implements store.Store.
func (d *DB) Update(ctx context.Context, s store.Shard, fn func(store.Tx) error) error {
	const op = "store/pebble.Update"
	if err := checkShard(op, s); err != nil {
		return err
	}
	if err := d.Health(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return errs.E(op, errs.Canceled, "", err)
	}
	select {
	case d.queue.slots <- struct{}{}:
	case <-ctx.Done():
		return errs.E(op, errs.Canceled, "", ctx.Err())
	case <-d.guard.tripped:
		return d.Health()
	case <-d.closing:
		return errs.E(op, errs.Unavailable, publicClosed, nil)
	}
	r := &request{ctx: ctx, shard: s, fn: fn, done: make(chan error, 1)}
	if err := d.queue.push(r); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		if r.state.CompareAndSwap(reqQueued, reqCanceled) {
			d.queue.signal() // its slot can go
			return errs.E(op, errs.Canceled, "", ctx.Err())
		}
		// The committer has it: wait, so that an error never hides a commit.
		return <-r.done
	}
}

// group is what shares one batch and one sync.
type group struct {
	batch   *pebble.Batch
	members []*request // taken, not answered
	txs     []*txCore  // merged into batch
	bytes   int
}

// answer gives every member its answer.
func (g *group) answer(err error) {
	for _, r := range g.members {
		r.done <- err
	}
	g.members = nil
}

// commitLoop is the committer: the one goroutine that runs transactions. It owns
// the rule of acknowledgement (see commit).
func (d *DB) commitLoop() {
	g := &group{}
	ended := false
	defer func() {
		if ended {
			close(d.stopped)
			return
		}
		// A transaction function ended this goroutine (runtime.Goexit, as t.Fatal
		// does). Nothing of its group was written; another committer goes on.
		g.answer(errs.E("store/pebble.Update", errs.Internal, "",
			errors.New("a transaction function ended its goroutine")))
		go d.commitLoop()
	}()
	for d.gather() {
		*g = group{}
		d.runGroup(g)
		d.commit(g)
	}
	why := d.Health()
	if why == nil {
		why = errs.E("store/pebble.Update", errs.Unavailable, publicClosed, nil)
	} else {
		d.log.Error("the store stopped", slog.Any("error", why))
	}
	for _, r := range d.queue.shut(why) {
		r.done <- why
	}
	ended = true
}

// runGroup runs waiting transactions, one after another, each over the writes of
// those before it.
func (d *DB) runGroup(g *group) {
	for len(g.members) < d.o.MaxGroup && g.bytes < MaxGroupBytes {
		r := d.queue.pop()
		if r == nil {
			return
		}
		if g.batch == nil {
			g.batch = d.pdb.NewIndexedBatch()
		}
		g.members = append(g.members, r)
		c := &txCore{ctx: r.ctx, base: g.batch}
		err := runTx(c, r)
		if err != nil {
			g.members = g.members[:len(g.members)-1]
			r.done <- err
			continue
		}
		if c.empty() {
			// It may have read what the group has not committed yet: it is
			// answered with the group all the same.
			continue
		}
		if err := c.mergeInto(g.batch); err != nil {
			// Half a transaction may be in the batch now, so the whole group has to
			// be given up. Only a failed read of the disk gets here (mergeRange).
			g.txs = nil
			g.answer(readError("store/pebble.Update", err))
			return
		}
		g.txs = append(g.txs, c)
		g.bytes += c.bytes
	}
}

// runTx runs one transaction function over its buffer. It turns a panic into an
// error, as one faulty caller must not stop the acknowledgements of all others.
func runTx(c *txCore, r *request) (err error) {
	defer func() {
		c.ended = true
		if p := recover(); p != nil {
			err = errs.E("store/pebble.Update", errs.Internal, "", panicError(p))
		}
	}()
	if err := r.fn(&tx{c: c, prefix: prefixOf(r.shard)}); err != nil {
		return err
	}
	return c.broken
}

// commit makes a group durable and only then acknowledges it. This is the one
// place in the store that says "done" to anybody.
func (d *DB) commit(g *group) {
	if g.batch == nil || len(g.members) == 0 && len(g.txs) == 0 {
		g.abandon()
		return
	}
	if len(g.txs) == 0 {
		g.abandon()
		g.answer(nil) // they only read, and what they read was durable
		return
	}
	err := d.dirty.note(g.batch, g.txs)
	if err == nil {
		err = d.inside(func() error { return d.pdb.Apply(g.batch, pebble.Sync) })
	}
	if err != nil {
		d.guard.trip(err)
		g.answer(d.Health())
		return // the batch may still be in use inside Pebble
	}
	written := uint64(g.batch.Len())
	g.abandon()
	d.snaps.publish(d.pdb.NewSnapshot())
	d.watches.fire(g.txs)
	d.stats.groups.Add(1)
	d.stats.txs.Add(uint64(len(g.txs)))
	d.stats.bytes.Add(written)
	g.answer(nil)
}

// abandon gives the batch's memory back.
func (g *group) abandon() {
	if g.batch != nil {
		_ = g.batch.Close()
		g.batch = nil
	}
}
