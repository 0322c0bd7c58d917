package rig

import (
	"fmt"
	"os"
	"sync"
	"time"

	"postern.email/interop/mailclient"
)

// System is one mail server under test, started on a fresh directory.
type System struct {
	Name        string
	Domain      string
	Submissions string // implicit TLS, host:port
	IMAPS       string
	Roots       []int // the processes whose trees are the server
	stop        func() error
	again       func() (*System, error) // starts it on the same data
}

// Account is one user; the same name and password work for SMTP and IMAP.
type Account struct{ Addr, Password string }

// Account i of the benchmark. Names are 9 letters long: the chatmail rule.
func (s *System) Account(i int) Account {
	return Account{fmt.Sprintf("bench%04d@%s", i, s.Domain), "bench-password-0"}
}

// Stop ends the server and waits for it. A second call does nothing.
func (s *System) Stop() error {
	stop := s.stop
	s.stop = func() error { return nil }
	return stop()
}

// Restart stops the server and starts it again on the same data.
func (s *System) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	n, err := s.again()
	if err == nil {
		*s = *n
	}
	return err
}

// SMTP opens a logged-in submission session.
func (s *System) SMTP(a Account) (*mailclient.SMTP, error) {
	c, err := mailclient.DialSMTP(s.Submissions, mailclient.TLS, Dialer)
	if err != nil {
		return nil, fmt.Errorf("%s: smtp: %w", s.Name, err)
	}
	if err := c.AuthPlain(a.Addr, a.Password); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: smtp: %w", s.Name, err)
	}
	return c, nil
}

// IMAP opens a logged-in session.
func (s *System) IMAP(a Account) (*mailclient.IMAP, error) {
	c, err := mailclient.DialIMAP(s.IMAPS, mailclient.TLS, Dialer)
	if err != nil {
		return nil, fmt.Errorf("%s: imap: %w", s.Name, err)
	}
	if err := c.Login(a.Addr, a.Password); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: imap: %w", s.Name, err)
	}
	return c, nil
}

// CreateAccounts logs each account in once. A server may limit how fast
// addresses are made, so a refusal is tried again until a minute is over.
func (s *System) CreateAccounts(n int) error {
	deadline := time.Now().Add(time.Minute + time.Duration(n)*100*time.Millisecond)
	return Parallel(4, n, func(_, i int) error {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			c, err := s.IMAP(s.Account(i))
			if err == nil {
				c.Logout()
				return nil
			}
			if time.Now().After(deadline) {
				return err
			}
			<-tick.C
		}
	})
}

// Parallel runs f(worker, i) for i in [0, n) on c workers and gives the first error.
func Parallel(c, n int, f func(worker, i int) error) error {
	var (
		mu    sync.Mutex
		next  int
		first error
		wg    sync.WaitGroup
	)
	take := func() (int, bool) {
		mu.Lock()
		defer mu.Unlock()
		if first != nil || next >= n {
			return 0, false
		}
		next++
		return next - 1, true
	}
	for w := range c {
		wg.Go(func() {
			for {
				i, ok := take()
				if !ok {
					return
				}
				if err := f(w, i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

func writeFile(path, text string, mode os.FileMode) error {
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
