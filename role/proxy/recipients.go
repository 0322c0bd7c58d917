package proxy

import (
	"context"
	"sync"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/keybook"
	"postern.email/wire/management"
)

// recipients answers the management socket.
type recipients struct{ s *Server }

// recipient reads an address that a user typed.
func recipient(user string) (mail.Address, error) {
	a, err := mail.ParseAddress(user)
	if err != nil {
		return a, errs.E("role/proxy.recipient", errs.Unsupported, "this is no mail address", err)
	}
	return a.Canonical(), nil
}

// Get is that of management.Backend.
func (r recipients) Get(_ context.Context, user string) (string, error) {
	a, err := recipient(user)
	if err != nil {
		return "", err
	}
	e, err := r.s.book.Get(a)
	return e.Key.Text, err
}

// Set is that of management.Backend.
func (r recipients) Set(_ context.Context, user, key string) error {
	a, err := recipient(user)
	if err != nil {
		return err
	}
	_, err = r.s.book.Set(a, []byte(key))
	r.s.mail.out.Look()
	return err
}

// Remove is that of management.Backend.
func (r recipients) Remove(_ context.Context, user string) error {
	a, err := recipient(user)
	if err != nil {
		return err
	}
	return r.s.book.Remove(a)
}

// List is that of management.Backend.
func (r recipients) List(context.Context) ([]management.Recipient, error) {
	var out []management.Recipient
	for _, e := range r.s.book.List() {
		out = append(out, management.Recipient{User: e.Address.String(), Key: e.Key.Text})
	}
	return out, nil
}

// Query is that of management.Backend. It only begins the look-up: the way through the mixes takes its
// time. What comes of it is in the key book, and in the user's mailbox.
func (r recipients) Query(_ context.Context, sender, user string) error {
	const op = "role/proxy.Query"
	s := r.s
	u, err := s.find(sender)
	if err != nil {
		return err
	}
	to, err := recipient(user)
	switch {
	case err != nil:
		return err
	case !u.Discover:
		return errs.E(op, errs.Denied, "the account looks no keys up: InsecureKeyDiscovery is off", nil)
	}
	if _, err := u.running(); err != nil {
		return err
	}
	select {
	case s.queries <- query{u.Address, to}:
		return nil
	default:
		return errs.E(op, errs.Busy, "too many keys are looked up, try again later", nil)
	}
}

// query is a look-up that was asked for.
type query struct{ from, to mail.Address }

// maxQueries bounds those that run, and those that wait.
const maxQueries = 8

// runQueries looks keys up that were asked for, until ctx ends.
func (s *Server) runQueries(ctx context.Context) error {
	var wg sync.WaitGroup
	for range maxQueries {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case q := <-s.queries:
					within, cancel := context.WithTimeout(ctx, seconds(s.c.Debug.UrgentQueueLifetime))
					if err := s.mail.out.Query(within, q.from, q.to); err != nil {
						s.d.Logger.Warn("a key that was asked for could not be looked up", "err", err)
					}
					cancel()
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// Shutdown is that of management.Backend.
func (r recipients) Shutdown() { r.s.stop() }

// Rescan reads the directory of recipients' keys again.
func (s *Server) Rescan() (keybook.Report, error) {
	rep, err := s.book.Rescan()
	if err != nil {
		return rep, errs.Wrap("role/proxy.Rescan", err)
	}
	s.logBad()
	s.d.Logger.Log(context.Background(), LevelNotice, "the keys of recipients were read again", "recipients", rep.Entries, "added", rep.Added, "removed", rep.Removed, "unreadable", len(rep.Bad))
	s.mail.out.Look()
	return rep, nil
}
