package interop

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// reloginWithin is the bar for 5,000 accounts; fewer have the same time here.
const reloginWithin = 3 * time.Minute

// TestEverybodyComesBack: after kill -9 all accounts log in again within three
// minutes, each from its own network, while a stranger sends 100 wrong logins a second, and mail keeps
// flowing between those who are in.
func TestEverybodyComesBack(t *testing.T) {
	n := 200
	if long() {
		n = 5000
	}
	s := start(t, noSendLimit...)
	began := time.Now()
	users := s.created(t, n)
	t.Logf("%d accounts made in %v", n, time.Since(began).Round(time.Millisecond))
	s.kill()
	s.run(t)

	halt := make(chan struct{})
	var wg sync.WaitGroup
	var wrong, wrongIn atomic.Int64
	// The stranger: half of the guesses at real names, half at others, paced.
	// Each guess is held for some seconds by the server, so many must be under way at a time.
	slots := make(chan struct{}, 800)
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		started := time.Now()
		for i := 0; ; i++ {
			// 100 a second on the whole: ticks that were missed are made up for.
			for time.Since(started) < time.Duration(i)*10*time.Millisecond {
				select {
				case <-halt:
					return
				case <-tick.C:
				}
			}
			select {
			case <-halt:
				return
			case slots <- struct{}{}:
			}
			u := users[i%n]
			u.password = fmt.Sprintf("guess number %d", i)
			if i%2 == 1 {
				u.addr = fmt.Sprintf("nobody%03d@%s", i/2%1000, s.Domain)
				u.password = "short"
			}
			wg.Go(func() {
				defer func() { <-slots }()
				c, err := s.loginFrom("127.66.66.66", u)
				wrong.Add(1)
				if err == nil {
					wrongIn.Add(1)
					c.Close()
				}
			})
		}
	})

	began = time.Now()
	mailers := users[:4]
	var a = newAcks()
	waitLoad := func() {}
	var once sync.Once
	var back atomic.Int64
	sessions := make([]*mailclient.IMAP, n)
	deadline := began.Add(reloginWithin)
	each(t, 32, n, func(i int) error {
		// A client that is refused for now tries again, as the real ones do.
		pause := 100 * time.Millisecond
		for {
			c, err := s.loginFrom(fmt.Sprintf("127.1.%d.%d", i/250, i%250+1), users[i])
			if err == nil {
				sessions[i] = c
				if back.Add(1) >= int64(len(mailers)+4) && i >= len(mailers) {
					once.Do(func() { waitLoad = s.load(t, mailers, a, halt, func(error) {}) })
				}
				return nil
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("not back after %v: %w", reloginWithin, err)
			}
			<-time.After(pause)
			pause = min(2*pause, 2*time.Second)
		}
	})
	took := time.Since(began)
	close(halt)
	wg.Wait()
	waitLoad()
	t.Logf("%d accounts back after %v; the stranger made %d wrong logins (%.0f/s); %d mails meanwhile",
		n, took.Round(time.Millisecond), wrong.Load(), float64(wrong.Load())/took.Seconds(), a.count())
	if took > reloginWithin {
		t.Errorf("took longer than %v", reloginWithin)
	}
	if wrongIn.Load() > 0 {
		t.Errorf("%d wrong logins were let in", wrongIn.Load())
	}
	if a.count() == 0 {
		t.Error("no mail flowed meanwhile")
	}
	a.check(t, s, mailers)
	for _, c := range sessions {
		c.Close()
	}
}
