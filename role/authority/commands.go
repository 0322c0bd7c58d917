package authority

import (
	"context"
	"encoding/json"
	"os"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
	"postern.email/wire/control"
)

// NodeArgs name a node for a command.
type NodeArgs struct {
	// Node is a fingerprint, its first 16 digits or more, or (not for approve) a nickname.
	Node string `json:"node"`
	// Descriptor is the hash of the descriptor that the operator saw; approve takes no other.
	// Empty: the one that waits now.
	Descriptor string `json:"descriptor,omitempty"`
}

// commands is the table of the control socket.
func (s *Server) commands() map[string]control.Handler {
	decide := func(exact bool, fn func(id packet.ID, n Node, a NodeArgs) error) control.Handler {
		return control.With(func(_ context.Context, a NodeArgs) (any, error) {
			n, err := pick(s.core.nodes(), a.Node, exact)
			if err != nil {
				return nil, err
			}
			id, _ := parseID(n.ID) // pick gives whole ones
			return n, fn(id, n, a)
		})
	}
	return map[string]control.Handler{
		"status": func(context.Context, json.RawMessage, func(any) error) (any, error) { return s.Status(), nil },
		"stop": func(context.Context, json.RawMessage, func(any) error) (any, error) {
			select {
			case s.asked <- struct{}{}:
			default: // it is asked already
			}
			return os.Getpid(), nil
		},
		"authority.list": func(_ context.Context, _ json.RawMessage, progress func(any) error) (any, error) {
			all := s.core.nodes()
			for _, n := range all { // one a line: all together may be more than a line holds
				if err := progress(n); err != nil {
					return nil, err
				}
			}
			return len(all), nil
		},
		"authority.node": decide(false, func(packet.ID, Node, NodeArgs) error { return nil }),
		"authority.approve": decide(true, func(id packet.ID, n Node, a NodeArgs) error {
			if n.State != StateWaits && n.State != StateChanged {
				return errs.E("role/authority.approve", errs.NotFound, "nothing of this node waits for a decision: its state is "+n.State, nil)
			}
			if a.Descriptor == "" {
				a.Descriptor = n.Descriptor
			}
			h, ok := parseID(a.Descriptor)
			if !ok {
				return errs.E("role/authority.approve", errs.Invalid, "the hash of a descriptor has 64 digits", nil)
			}
			return s.core.approve(id, directory.Hash(h))
		}),
		"authority.reject": decide(false, func(id packet.ID, _ Node, _ NodeArgs) error { return s.core.reject(id) }),
		"authority.forget": decide(false, func(id packet.ID, _ Node, _ NodeArgs) error { return s.core.forget(id) }),
	}
}
