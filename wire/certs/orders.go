package certs

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"postern.email/kit/errs"
)

// ordersAnHour bounds the orders for one name in any hour, whatever happens: also
// for a server that is restarted again and again. It is what Let's Encrypt allows a
// name to fail (https://letsencrypt.org/docs/rate-limits).
const ordersAnHour = 5

// ordersFile is where the times of orders are kept, in the storage.
const ordersFile = "orders.json"

// orders counts the orders of the last hour, on the disk.
type orders struct {
	store *storage
	now   func() time.Time

	mu    sync.Mutex
	begun map[string][]int64 // by name: Unix times, the oldest first
}

// readOrders reads what an earlier process did. A file that cannot be read is as
// good as none: the bound is a courtesy, and no reason not to start.
func readOrders(s *storage, now func() time.Time) *orders {
	o := &orders{store: s, now: now, begun: make(map[string][]int64)}
	if text, err := s.Load(context.Background(), ordersFile); err == nil {
		if json.Unmarshal(text, &o.begun) != nil || o.begun == nil {
			o.begun = make(map[string][]int64)
		}
	}
	return o
}

// busyUntil is an error that says when another try makes sense.
type busyUntil struct {
	err error
	at  time.Time
}

func (b busyUntil) Error() string { return b.err.Error() }
func (b busyUntil) Unwrap() error { return b.err }

// begin notes an order for name before it is made, or refuses it (errs.Busy).
func (o *orders) begin(ctx context.Context, name string) error {
	const op = "wire/certs.orders"
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	for n, list := range o.begun {
		// A time ahead of the clock was written by a clock that was wrong.
		list = slices.DeleteFunc(list, func(t int64) bool { return t <= now.Add(-time.Hour).Unix() || t > now.Unix() })
		if o.begun[n] = list; len(list) == 0 {
			delete(o.begun, n)
		}
	}
	list := o.begun[name]
	if len(list) >= ordersAnHour {
		return busyUntil{errs.E(op, errs.Busy, "as many certificates as an authority allows were ordered for this name in the last hour", nil),
			time.Unix(list[len(list)-ordersAnHour], 0).Add(time.Hour)}
	}
	o.begun[name] = append(list, now.Unix())
	return errs.Wrap(op, o.write(ctx))
}

// undo takes the last order for name back: it reached nobody.
func (o *orders) undo(ctx context.Context, name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if list := o.begun[name]; len(list) > 0 {
		o.begun[name] = list[:len(list)-1]
		_ = o.write(ctx) // at worst one order too many stays counted
	}
}

func (o *orders) write(ctx context.Context) error {
	text, err := json.Marshal(o.begun)
	if err != nil {
		return err
	}
	return o.store.Store(ctx, ordersFile, text)
}
