package client

import (
	"postern.email/kit/errs"
	"postern.email/mixnet/letter"
)

// Who carries messages from Store to Store over another way than a Client and the mix network, as
// tests of what stands above do, uses Message, Put and Finish. No Client may run then.

// Message reads a message that waits, bodies and all. errs.NotFound; errs.Corrupt.
func (s *Store) Message(name string) (*Outgoing, error) {
	const op = "mixnet/client.Store.Message"
	if !validName(name) {
		return nil, errs.E(op, errs.NotFound, "no message has this name", nil)
	}
	h, f, err := s.openMessage(name)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	f.Close()
	o := h.Outgoing
	o.Name = name
	for i := range h.Count {
		b, err := s.body(name, h, i)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		o.Bodies = append(o.Bodies, b)
	}
	return &o, nil
}

// Put keeps a fragment that has come, under the number of its item in the relay's box; with is the
// Note of the reply block that it came with, empty without one. It is durable on return; the same item
// again changes nothing. errs.Full when too much was not collected.
func (s *Store) Put(item uint64, f *letter.Fragment, with string) error {
	return errs.Wrap("mixnet/client.Store.Put", s.put(item, f, with))
}

// Finish notes what became of a message that waits, and removes it. It is durable on return.
func (s *Store) Finish(name string, r Result, why string) error {
	const op = "mixnet/client.Store.Finish"
	p, err := s.Progress(name)
	if err != nil {
		return errs.Wrap(op, err)
	}
	return errs.Wrap(op, s.endAs(p, r, why))
}
