package interop

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// acks is a client's list of what the server said yes to, and what it was
// asked: a mail that was sent but not answered may or may not have arrived.
type acks struct {
	mu   sync.Mutex
	asky map[int]map[mailclient.Hash]bool // by recipient: handed over, answer unknown or yes
	acky map[int]map[mailclient.Hash]bool // by recipient: 250
}

func newAcks() *acks {
	return &acks{asky: map[int]map[mailclient.Hash]bool{}, acky: map[int]map[mailclient.Hash]bool{}}
}

func (a *acks) put(m map[int]map[mailclient.Hash]bool, to int, h mailclient.Hash) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m[to] == nil {
		m[to] = map[mailclient.Hash]bool{}
	}
	m[to][h] = true
}

func (a *acks) asked(to int, h mailclient.Hash) { a.put(a.asky, to, h) }
func (a *acks) acked(to int, h mailclient.Hash) { a.put(a.acky, to, h) }

func (a *acks) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, m := range a.acky {
		n += len(m)
	}
	return n
}

// check compares the list with what IMAP shows.
func (a *acks) check(t testing.TB, s *server, users []user) {
	t.Helper()
	var mu sync.Mutex
	lost, doubled, foreign, unacked := 0, 0, 0, 0
	each(t, 4, len(users), func(i int) error {
		got, err := s.tryInbox(users[i])
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for h := range a.acky[i] {
			if got[h] == 0 {
				lost++
			}
		}
		for h, n := range got {
			if n > 1 {
				doubled++
			}
			if !a.asky[i][h] {
				foreign++
			} else if !a.acky[i][h] {
				unacked++
			}
		}
		return nil
	})
	t.Logf("%d acknowledged; %d more arrived whose answer was cut off (SMTP's own window)", a.count(), unacked)
	if lost+doubled+foreign > 0 {
		t.Errorf("%d acknowledged mails lost, %d doubled, %d altered or foreign", lost, doubled, foreign)
	}
}

// load sends small mails from each user to all users' inboxes in turn until
// halt is closed or its session breaks; errors that are answers (4xx, 5xx) go
// to refused, when it is given.
func (s *server) load(t testing.TB, users []user, a *acks, halt <-chan struct{}, refused func(error)) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i, u := range users {
		session := s.mustSubmit(t, u)
		maker := mailclient.NewMaker(rand.Uint64())
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-halt:
					return
				default:
				}
				to := (i + k) % len(users)
				mail := maker.Mail(u.addr, 1500+k%7*3000)
				h := mailclient.BodyHash(mail)
				a.asked(to, h)
				err := session.Send(u.addr, []string{users[to].addr}, mail)
				switch {
				case err == nil:
					a.acked(to, h)
				case mailclient.CodeOf(err) != 0 && refused != nil:
					refused(err)
					session.Close()
					if session, err = s.submit(u); err != nil {
						return
					}
				default:
					return // the cut
				}
			}
		})
	}
	return wg.Wait
}

// TestKillUnderLoad kills the server again and again while mail flows: what was
// acknowledged is there exactly once after each start.
func TestKillUnderLoad(t *testing.T) {
	s := start(t, noSendLimit...)
	users := s.created(t, 8)
	a := newAcks()
	cuts := 4
	if long() {
		cuts = 40
	}
	for cut := range cuts {
		before := a.count()
		wait := s.load(t, users, a, nil, nil)
		eventually(t, patience, func() error {
			if n := a.count() - before; n < 100+rand.IntN(100) {
				return fmt.Errorf("%d acknowledged so far", n)
			}
			return nil
		})
		s.kill()
		wait()
		s.run(t)
		t.Logf("cut %d: ready again after %v", cut+1, s.took.Round(time.Millisecond))
		a.check(t, s, users)
	}
}

// TestKillUnderAppend is the same for IMAP: APPEND, STORE and EXPUNGE that were
// answered with OK hold after the cut.
func TestKillUnderAppend(t *testing.T) {
	s := start(t)
	users := s.created(t, 4)
	type state struct {
		want map[mailclient.Hash]string // flags of what stays
		gone map[mailclient.Hash]bool
		open map[mailclient.Hash]bool // touched last, not answered
	}
	states := make([]state, len(users))
	for i := range states {
		states[i] = state{map[mailclient.Hash]string{}, map[mailclient.Hash]bool{}, map[mailclient.Hash]bool{}}
	}
	var mu sync.Mutex
	done := 0
	var wg sync.WaitGroup
	for i, u := range users {
		c := s.mustLogin(t, u)
		if _, err := c.Select("INBOX"); err != nil {
			t.Fatal(err)
		}
		maker := mailclient.NewMaker(uint64(i) + 50)
		wg.Go(func() {
			st := &states[i]
			for k := 0; ; k++ {
				mail := maker.Mail(u.addr, 2000)
				h := mailclient.BodyHash(mail)
				st.open = map[mailclient.Hash]bool{h: true}
				if _, err := c.Append("INBOX", "", mail); err != nil {
					return
				}
				st.open = map[mailclient.Hash]bool{}
				st.want[h] = ""
				uid := k + 1
				switch k % 3 {
				case 1:
					st.open[h] = true
					if _, err := c.Cmd(`UID STORE %d +FLAGS (\Flagged)`, uid); err != nil {
						return
					}
					st.want[h] = `\Flagged`
				case 2:
					st.open[h] = true
					if _, err := c.Cmd(`UID STORE %d +FLAGS (\Deleted)`, uid); err != nil {
						return
					}
					if _, err := c.Cmd("EXPUNGE"); err != nil {
						return
					}
					delete(st.want, h)
					st.gone[h] = true
				}
				st.open = map[mailclient.Hash]bool{}
				mu.Lock()
				done++
				mu.Unlock()
			}
		})
	}
	eventually(t, patience, func() error {
		mu.Lock()
		defer mu.Unlock()
		if done < 300 {
			return fmt.Errorf("%d rounds so far", done)
		}
		return nil
	})
	s.kill()
	wg.Wait()
	s.run(t)
	for i, u := range users {
		st := states[i]
		c := s.mustLogin(t, u)
		if _, err := c.Select("INBOX"); err != nil {
			t.Fatal(err)
		}
		got := map[mailclient.Hash]string{}
		err := c.FetchAll("1:*", func(m mailclient.Message) {
			h := mailclient.BodyHash(m.Raw)
			if _, twice := got[h]; twice {
				t.Errorf("a mail is there twice")
			}
			got[h] = m.Flags
		})
		if err != nil {
			t.Fatal(err)
		}
		for h, flags := range st.want {
			have, ok := got[h]
			if st.open[h] {
				continue
			}
			if !ok || (flags != "" && !containsWord(have, flags)) {
				t.Errorf("an answered change is lost: there=%v flags=%q want %q", ok, have, flags)
			}
		}
		for h := range got {
			if st.gone[h] {
				t.Errorf("an expunged mail came back")
			} else if _, ok := st.want[h]; !ok && !st.open[h] {
				t.Errorf("a mail that was never handed over")
			}
		}
	}
}

func containsWord(list, word string) bool {
	for _, w := range strings.Fields(list) {
		if w == word {
			return true
		}
	}
	return false
}
