package daemon

import (
	"io"
	"time"

	"postern.email/kit/errs"
)

// CloseWithin closes a server, or gives up after d: errs.Unavailable, and what is not closed
// then ends with the process.
func CloseWithin(s io.Closer, d time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- s.Close() }()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return errs.E("kit/daemon.CloseWithin", errs.Unavailable, "the server did not stop in time and was cut; nothing acknowledged is lost", nil)
	}
}
