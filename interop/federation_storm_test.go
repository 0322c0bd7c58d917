package interop

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"postern.email/interop/mailclient"
	"postern.email/interop/smallworld"
)

// stormHost is one of the hosts of a storm.
type stormHost struct {
	name  string
	users []user
	send  func(from user, to []string, raw []byte) error // nil error: acknowledged
	again func()                                         // kills and restarts it
	read  func(u user) ([]string, error)
	kills int
}

// tryHand is hand with an error.
func tryHand(addr, from string, to []string, raw []byte) error {
	c, err := mailclient.DialSMTP(addr, mailclient.Plain, mailclient.Dialer{})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Send(from, to, raw)
}

// stormRelay is a relay of ours in a storm. Its ports change with each start.
func stormRelay(t *testing.T, s *server, n int) *stormHost {
	var mu sync.RWMutex
	open := map[string]*mailclient.SMTP{}
	var omu sync.Mutex // guards open; each session is used by one sender
	return &stormHost{name: s.Domain, users: s.created(t, n),
		send: func(from user, to []string, raw []byte) (err error) {
			omu.Lock()
			c := open[from.addr]
			omu.Unlock()
			if c == nil {
				mu.RLock()
				c, err = s.submit(from)
				mu.RUnlock()
				if err != nil {
					return err
				}
			}
			if err = c.Send(from.addr, to, raw); err != nil {
				c.Close()
				c = nil
			}
			omu.Lock()
			open[from.addr] = c
			omu.Unlock()
			return err
		},
		again: func() {
			mu.Lock()
			defer mu.Unlock()
			s.kill()
			s.run(t)
		},
		read: s.tryMails,
	}
}

// stormLedger is what was asked and acknowledged, by recipient.
type stormLedger struct {
	acks
	from map[mailclient.Hash]string // the host that a mail began at
}

var postfixID = regexp.MustCompile(`by c\.example \(Postfix\) with ESMTPS id (\w+)`)

// TestKillStorm: two relays and a Postfix exchange mail in all directions while each of them is
// killed again and again. At the end every acknowledged mail is there. Between relays of ours, and from
// Postfix to us, none is there twice; those that Postfix has twice are counted, by who sent or wrote
// them twice.
func TestKillStorm(t *testing.T) {
	mails, rounds := 300, 12
	if long() {
		mails, rounds = 10_000, 120
	}
	seed := uint64(os.Getpid())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t)
	p := w.Postfix(t, smallworld.PostfixOptions{Domain: "c.example", Users: []string{"u0", "u1"}})
	lifted := append([]string{"exchange.mails_per_network=0"}, noSendLimit...)
	relays := []*server{w.relay(t, "a.example", lifted...), w.relay(t, "b.example", lifted...)}
	hosts := []*stormHost{stormRelay(t, relays[0], 2), stormRelay(t, relays[1], 2), {
		name: "c.example", users: []user{{addr: "u0@c.example"}, {addr: "u1@c.example"}},
		send:  func(from user, to []string, raw []byte) error { return tryHand(p.Submission, from.addr, to, raw) },
		again: func() { p.Kill(); p.CutOff(t); p.Run(t) },
		read:  func(u user) ([]string, error) { return p.Mails(u.addr[:2]) },
	}}
	number := map[string]int{} // of recipients
	for i, h := range hosts {
		for j, u := range h.users {
			number[u.addr] = i*10 + j
		}
	}
	ledger := &stormLedger{*newAcks(), map[mailclient.Hash]string{}}

	tokens := make(chan struct{}, mails)
	var senders sync.WaitGroup
	for i, h := range hosts {
		for j, from := range h.users {
			maker := mailclient.NewMaker(seed<<8 + uint64(i*10+j))
			rng := rand.New(rand.NewPCG(seed, uint64(100+i*10+j)))
			senders.Go(func() {
				for range tokens {
					for k := 0; ; k++ { // until one is acknowledged
						first := hosts[(i+1+rng.IntN(2))%3]
						to := []string{first.users[rng.IntN(2)].addr}
						if rng.IntN(4) == 0 { // one on each of the others
							second := hosts[3-i-slices.Index(hosts, first)]
							to = append(to, second.users[rng.IntN(2)].addr)
						}
						raw := maker.Mail(from.addr, 1500+rng.IntN(12_000))
						hash := mailclient.BodyHash(raw)
						ledger.mu.Lock()
						ledger.from[hash] = h.name
						ledger.mu.Unlock()
						for _, a := range to {
							ledger.asked(number[a], hash)
						}
						err := h.send(from, to, raw)
						if err == nil {
							for _, a := range to {
								ledger.acked(number[a], hash)
							}
							break
						}
						if k == 5000 {
							t.Errorf("%s takes no mail: %v", h.name, err)
							return
						}
						<-time.After(20 * time.Millisecond) // it is being started
					}
				}
			})
		}
	}
	var order []int
	for round := range rounds {
		for range mails*(round+1)/rounds - mails*round/rounds {
			tokens <- struct{}{}
		}
		timer := time.NewTimer(time.Duration(rng.IntN(400)) * time.Millisecond)
		<-timer.C
		if round%3 == 0 {
			order = rng.Perm(3)
		}
		h := hosts[order[round%3]]
		h.kills++
		h.again()
	}
	close(tokens)
	senders.Wait()
	if t.Failed() {
		return
	}
	waiting := func() error {
		if n, err := p.Waiting(); err != nil || n > 0 {
			return fmt.Errorf("%d mails wait in Postfix, %v", n, err)
		}
		return nil
	}
	for range 2 { // what left one may wait in another
		eventually(t, 5*time.Minute, waiting)
		for _, s := range relays {
			s.emptyQueue(t)
		}
	}
	ledger.judge(t, hosts, number)
}

// judge compares what was acknowledged with what is there.
func (l *stormLedger) judge(t *testing.T, hosts []*stormHost, number map[string]int) {
	t.Helper()
	lost, foreign, unanswered := 0, 0, 0
	twice := map[string]int{} // by way
	var resent, rewritten int // copies at Postfix
	for _, h := range hosts {
		for _, u := range h.users {
			raws, err := h.read(u)
			if err != nil {
				t.Fatal(err)
			}
			got := map[mailclient.Hash]int{}
			ids := map[mailclient.Hash]map[string]bool{} // under which Postfix took it
			for _, raw := range raws {
				hash := mailclient.BodyHash([]byte(raw))
				if got[hash]++; h.name == "c.example" {
					if ids[hash] == nil {
						ids[hash] = map[string]bool{}
					}
					if m := postfixID.FindStringSubmatch(unfolded(raw)); m != nil {
						ids[hash][m[1]] = true
					}
				}
			}
			n := number[u.addr]
			for hash := range l.acky[n] {
				if got[hash] == 0 {
					lost++
					t.Errorf("a mail from %s to %s is lost", l.from[hash], h.name)
				}
			}
			for hash, copies := range got {
				if !l.asky[n][hash] {
					foreign++
				} else if !l.acky[n][hash] {
					unanswered++
				}
				if copies > 1 {
					twice[l.from[hash]+" to "+h.name] += copies - 1
					resent += max(len(ids[hash])-1, 0)
					rewritten += copies - max(len(ids[hash]), 1)
				}
			}
		}
	}
	for _, h := range hosts {
		t.Logf("%s was killed %d times", h.name, h.kills)
	}
	t.Logf("%d copies acknowledged, %d lost; %d more arrived whose answer was cut off", l.count(), lost, unanswered)
	t.Logf("there twice: %v; at Postfix %d were sent again (the answer to the first was cut off, or not yet on our disk), %d it wrote twice itself", twice, resent, rewritten)
	if foreign > 0 {
		t.Errorf("%d mails that nobody sent: altered, or reports of failure", foreign)
	}
	for way, n := range twice {
		if way != "a.example to c.example" && way != "b.example to c.example" {
			t.Errorf("%d are there twice from %s", n, way)
		}
	}
}
