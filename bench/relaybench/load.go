package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"postern.email/bench/rig"
	"postern.email/interop/mailclient"
)

// Numbers of accounts: senders come first, then the recipients.
const (
	senders    = 16
	recipients = 50
	accounts   = senders + recipients
)

// bench drives one system.
type bench struct{ *rig.System }

// parcel is one mail to be sent, made before the clock runs.
type parcel struct {
	from int   // account
	to   []int // accounts
	data []byte
	hash mailclient.Hash
}

// pack makes n mails of about size bytes, each to k of the recipients.
func (s *bench) pack(seed uint64, n, k, size int) []parcel {
	maker := mailclient.NewMaker(seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	all := make([]parcel, n)
	for i := range all {
		p := &all[i]
		p.from = i % senders
		for _, r := range rng.Perm(recipients)[:k] {
			p.to = append(p.to, senders+r)
		}
		p.data = maker.Mail(s.Account(p.from).Addr, size)
		p.hash = mailclient.BodyHash(p.data)
	}
	return all
}

// result is what one load did.
type result struct {
	Mails, Copies int
	Accept        time.Duration // first byte to last 250
	Deliver       time.Duration // first byte until the last copy is visible by IMAP
	Commits       []time.Duration
	ServerCPU     time.Duration // until Deliver
	ClientCPU     time.Duration // the same, of this process
}

func (r result) accepted() float64  { return float64(r.Mails) / r.Accept.Seconds() }
func (r result) copies() float64    { return float64(r.Copies) / r.Accept.Seconds() }
func (r result) delivered() float64 { return float64(r.Copies) / r.Deliver.Seconds() }

// ledger remembers what must lie in which mailbox.
type ledger struct {
	count [accounts]int
	sent  map[mailclient.Hash]int // copies
}

func (l *ledger) add(parcels []parcel) {
	if l.sent == nil {
		l.sent = map[mailclient.Hash]int{}
	}
	for _, p := range parcels {
		l.sent[p.hash] += len(p.to)
		for _, a := range p.to {
			l.count[a]++
		}
	}
}

// send submits the parcels over c sessions that stay open, or over a new
// session each, and waits until all of them are visible.
func (s *bench) send(parcels []parcel, c int, fresh bool, l *ledger) (result, error) {
	l.add(parcels)
	res := result{Mails: len(parcels), Commits: make([]time.Duration, len(parcels))}
	for _, p := range parcels {
		res.Copies += len(p.to)
	}
	// A session belongs to one sender: worker w sends the parcels of senders w, w+c, ...
	lanes := make([][]int, c)
	for i, p := range parcels {
		lanes[p.from%c] = append(lanes[p.from%c], i)
	}
	sessions := make([]map[int]*mailclient.SMTP, c)
	if !fresh {
		for i := range sessions {
			sessions[i] = map[int]*mailclient.SMTP{}
			for from := i; from < senders; from += c {
				session, err := s.SMTP(s.Account(from))
				if err != nil {
					return res, err
				}
				defer session.Close()
				sessions[i][from] = session
			}
		}
	}
	poll, err := s.watchers()
	if err != nil {
		return res, err
	}
	defer closeAll(poll)
	own := rig.OwnCPU()
	before, err := s.CPU()
	if err != nil {
		return res, err
	}

	start := time.Now()
	errs := make([]error, c)
	var wg sync.WaitGroup
	for w := range c {
		wg.Go(func() {
			var to []string
			for _, i := range lanes[w] {
				p := &parcels[i]
				to = to[:0]
				for _, a := range p.to {
					to = append(to, s.Account(a).Addr)
				}
				t := time.Now()
				session := sessions[w][p.from]
				if fresh {
					var err error
					if session, err = s.SMTP(s.Account(p.from)); err != nil {
						errs[w] = err
						return
					}
				}
				if err := session.Send(s.Account(p.from).Addr, to, p.data); err != nil {
					errs[w] = fmt.Errorf("%s: mail %d: %w", s.Name, i, err)
					return
				}
				if fresh {
					session.Quit()
				}
				res.Commits[i] = time.Since(t)
			}
		})
	}
	wg.Wait()
	res.Accept = time.Since(start)
	for _, err := range errs {
		if err != nil {
			return res, err
		}
	}
	if err := s.awaitVisible(poll, l); err != nil {
		return res, err
	}
	res.Deliver = time.Since(start)
	after, err := s.CPU()
	res.ServerCPU, res.ClientCPU = after-before, rig.OwnCPU()-own
	return res, err
}

// watchers opens one IMAP session a recipient.
func (s *bench) watchers() ([]*mailclient.IMAP, error) {
	all := make([]*mailclient.IMAP, recipients)
	err := rig.Parallel(4, recipients, func(_, i int) error {
		c, err := s.IMAP(s.Account(senders + i))
		all[i] = c
		return err
	})
	if err != nil {
		closeAll(all)
		return nil, err
	}
	return all, nil
}

func closeAll(all []*mailclient.IMAP) {
	for _, c := range all {
		if c != nil {
			c.Close()
		}
	}
}

// awaitVisible asks for one mailbox's count at a time, at most 50 times a
// second, so that the asking costs the server next to nothing.
func (s *bench) awaitVisible(poll []*mailclient.IMAP, l *ledger) error {
	deadline := time.Now().Add(5 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i, c := range poll {
		for {
			n := 0
			err := c.Each(func(r mailclient.Response) {
				var name string
				_, _ = fmt.Sscanf(r.Text, "* STATUS %s (MESSAGES %d)", &name, &n)
			}, `STATUS "INBOX" (MESSAGES)`)
			if err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			if n >= l.count[senders+i] {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: a mailbox holds %d of %d acknowledged mails after 5 minutes", s.Name, n, l.count[senders+i])
			}
			<-tick.C
		}
	}
	return nil
}

// verify fetches every mailbox and compares: each mail arrived once and
// unaltered. Then it empties the mailboxes and the ledger.
func (s *bench) verify(l *ledger) (checked int, err error) {
	var mu sync.Mutex
	got := map[mailclient.Hash]int{}
	err = rig.Parallel(4, recipients, func(_, i int) error {
		c, err := s.IMAP(s.Account(senders + i))
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Select("INBOX"); err != nil {
			return err
		}
		err = c.FetchAll("1:*", func(m mailclient.Message) {
			h := mailclient.BodyHash(m.Raw)
			mu.Lock()
			got[h]++
			checked++
			mu.Unlock()
		})
		if err != nil {
			return err
		}
		if l.count[senders+i] > 0 {
			if _, err := c.Cmd(`UID STORE 1:* +FLAGS.SILENT (\Deleted)`); err != nil {
				return err
			}
			if _, err := c.Cmd("EXPUNGE"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return checked, fmt.Errorf("%s: verify: %w", s.Name, err)
	}
	var lost, doubled, altered int
	for h, want := range l.sent {
		switch n := got[h]; {
		case n < want:
			lost += want - n
		case n > want:
			doubled += n - want
		}
	}
	for h, n := range got {
		if l.sent[h] == 0 {
			altered += n
		}
	}
	*l = ledger{}
	if lost+doubled+altered > 0 {
		return checked, fmt.Errorf("%s: %d copies lost, %d doubled, %d altered or foreign", s.Name, lost, doubled, altered)
	}
	return checked, nil
}
