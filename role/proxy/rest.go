package proxy

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/wire/management"
)

// resting does something with the keys of a proxy that does not run: errs.Exists when one does.
func resting(d Deps, c Config, do func(*Server) error) error {
	s, err := prepare(d, c)
	if err != nil {
		return err
	}
	if err = s.hold(); err == nil {
		err = s.openBook()
	}
	if err == nil {
		err = do(s)
	}
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return err
}

// Recipients lists the keys of recipients while no proxy runs in the directory.
func Recipients(ctx context.Context, d Deps, c Config) (list []management.Recipient, err error) {
	err = resting(d, c, func(s *Server) (err error) {
		list, err = recipients{s}.List(ctx)
		return err
	})
	return list, errs.Wrap("role/proxy.Recipients", err)
}

// Verify shows a recipient's key, or that of an own account, or notes that a fingerprint was compared, while
// no proxy runs in the directory.
func Verify(d Deps, c Config, a VerifyArgs) (r Recipient, err error) {
	err = resting(d, c, func(s *Server) (err error) {
		r, err = s.verified(a)
		return err
	})
	return r, errs.Wrap("role/proxy.Verify", err)
}
