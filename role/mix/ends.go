package mix

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/node"
)

// ends are what a node has beside mixing, by its mode: clients, boxes for them, exits.
type ends struct {
	mode    directory.Mode
	clients clients
}

// open makes what the mode asks for.
func (e *ends) open(ctx context.Context, s *Server) error {
	e.mode = s.c.mode()
	if e.mode.Has(directory.Relay) {
		if err := e.clients.read(s.d.FS, s.c.path(s.c.Clients.File)); err != nil {
			return err
		}
	}
	if e.mode.Has(directory.Mailbox) {
		return errs.E("role/mix.ends", errs.Unsupported, "mode mailbox is not built yet", nil)
	}
	if e.mode.Has(directory.Exit) {
		return errs.E("role/mix.ends", errs.Unsupported, "mode exit is not built yet", nil)
	}
	return nil
}

// options adds what the node is to know.
func (e *ends) options(o *node.Options) {
	if e.mode.Has(directory.Relay) {
		o.Clients = e.clients.Client
	}
}

// run begins what works on its own.
func (e *ends) run(ctx context.Context, s *Server) {}

// reload reads the files of the ends again.
func (e *ends) reload(s *Server, c Config) error {
	if !e.mode.Has(directory.Relay) {
		return nil
	}
	err := e.clients.read(s.d.FS, c.path(c.Clients.File))
	s.node.Recheck()
	return err
}

// close gives back what open took.
func (e *ends) close() error { return nil }
