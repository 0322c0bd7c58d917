package node

import (
	"context"
	"errors"
	"time"

	"postern.email/kit/errs"
)

// rotate has keys made ahead and old ones destroyed, in time, until ctx ends.
func (n *Node) rotate(ctx context.Context) error {
	return again(ctx, n.rotating, func() time.Duration {
		changed, err := n.rotateOnce(ctx)
		if err != nil && ctx.Err() == nil {
			n.o.Logger.Error("packet keys could not be changed", "error", errs.Public(err))
		}
		n.mu.Lock()
		n.keysErr = err
		n.mu.Unlock()
		if changed {
			n.desc.renew()
		}
		wait := n.o.Keys.Next().Sub(n.o.Now())
		if err != nil || wait <= 0 {
			wait = max(wait, rotatePause)
		}
		return min(wait, rotateLongest)
	})
}

// Times between two looks at the keys.
const (
	rotatePause   = 10 * time.Second // after a failure
	rotateLongest = 10 * time.Minute
)

// rotateOnce destroys keys only while the network's directory says that the clock is right: a
// key that is gone does not come back.
func (n *Node) rotateOnce(ctx context.Context) (changed bool, err error) {
	forget := func(ctx context.Context, id uint32) error { return n.forget(ctx, id) }
	if n.view.Load().valid != nil {
		forget = nil
	}
	return n.o.Keys.Rotate(ctx, n.o.Now(), forget)
}

// DeleteKeys destroys all packet keys and their memory, makes new ones, and publishes them. It
// is for an operator who has reason to.
func (n *Node) DeleteKeys(ctx context.Context) error {
	const op = "mixnet/node.DeleteKeys"
	err := n.o.Keys.DeleteAll(ctx, n.forget)
	_, made := n.o.Keys.Rotate(ctx, n.o.Now(), nil)
	n.desc.renew()
	return errs.Wrap(op, errors.Join(err, made))
}
