package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"postern.email/bench/rig"
	"postern.email/interop/mailclient"
)

// Sizes of the phases, from the flags.
type sizes struct {
	Mails     int // at 16 sessions; the other phases take fractions of it
	MailBytes int
	Idle      int // idle IMAP sessions; 0: not measured
	Logins    int
}

// Names of the measures, in the order of the report.
const (
	mAccepted16  = "submission, 16 sessions: accepted/s"
	mDelivered16 = "- delivered and visible/s"
	mCommit50    = "- commit p50 ms"
	mCommit95    = "- commit p95 ms"
	mCommit99    = "- commit p99 ms"
	mCPU         = "- server CPU ms per mail"
	mClientCPU   = "- load generator CPU ms per mail"
	mSyncs16     = "- syncs per mail (own phase, traced)"
	mAccepted1   = "submission, 1 session: accepted/s"
	mCommit1p50  = "- commit p50 ms (1 session)"
	mCommit1p99  = "- commit p99 ms (1 session)"
	mSyncs1      = "- syncs per mail (1 session, own phase, traced)"
	mTenAccept   = "10 recipients: copies accepted/s"
	mTenDeliver  = "- copies delivered/s"
	mFresh       = "new TLS+AUTH session for each mail, 16 at once: mails/s"
	mIdle50      = "submit to body at an IDLE client p50 ms"
	mIdle95      = "- p95 ms"
	mLogins      = "IMAP logins again, 16 at once: logins/s"
	mRSS         = "idle RSS MiB (sum)"
	mPSS         = "idle PSS MiB"
	mPSSEnd      = "PSS MiB after the load"
	mPerSession  = "PSS growth per idle IDLE session KiB"
	mAllIn       = "- PSS per idle session, all in, KiB"
)

var order = []string{mAccepted16, mDelivered16, mCommit50, mCommit95, mCommit99, mCPU, mClientCPU, mSyncs16,
	mAccepted1, mCommit1p50, mCommit1p99, mSyncs1, mTenAccept, mTenDeliver, mFresh,
	mIdle50, mIdle95, mLogins, mRSS, mPSS, mPSSEnd, mPerSession, mAllIn}

// run takes all measures of a system that was just started on an empty directory.
func (s *bench) run(sz sizes, seed uint64, dir string, say io.Writer) (rig.Measures, error) {
	m := rig.Measures{}
	step := func(name string) { fmt.Fprintf(say, "  %s: %s\n", s.Name, name) }
	step("accounts")
	if err := s.CreateAccounts(accounts); err != nil {
		return m, err
	}
	var l ledger
	checked := 0
	verify := func() error {
		n, err := s.verify(&l)
		checked += n
		return err
	}

	if sz.Idle > 0 {
		<-time.After(hibernation) // what making the accounts took is given back by then
	}
	rss, pss, err := s.Memory()
	if err != nil {
		return m, err
	}
	m[mRSS], m[mPSS] = float64(rss)/1024, float64(pss)/1024
	if sz.Idle > 0 {
		step(fmt.Sprintf("%d and %d idle sessions", sz.Idle, 2*sz.Idle))
		if m[mPerSession], m[mAllIn], err = s.idleMemory(sz.Idle); err != nil {
			return m, err
		}
	}

	// Caches, pools and worker processes get warm before any clock runs.
	if _, err := s.send(s.pack(seed+1000, 200, 1, sz.MailBytes), senders, false, &l); err != nil {
		return m, err
	}
	if err := verify(); err != nil {
		return m, err
	}
	step("16 sessions")
	r, err := s.send(s.pack(seed, sz.Mails, 1, sz.MailBytes), senders, false, &l)
	if err != nil {
		return m, err
	}
	m[mAccepted16], m[mDelivered16] = r.accepted(), r.delivered()
	m[mCommit50], m[mCommit95], m[mCommit99] = rig.MS(rig.Percentile(r.Commits, 50)), rig.MS(rig.Percentile(r.Commits, 95)), rig.MS(rig.Percentile(r.Commits, 99))
	m[mCPU], m[mClientCPU] = rig.MS(r.ServerCPU)/float64(r.Mails), rig.MS(r.ClientCPU)/float64(r.Mails)
	if err := verify(); err != nil {
		return m, err
	}

	step("1 session")
	if r, err = s.send(s.pack(seed+1, max(sz.Mails/5, 100), 1, sz.MailBytes), 1, false, &l); err != nil {
		return m, err
	}
	m[mAccepted1] = r.accepted()
	m[mCommit1p50], m[mCommit1p99] = rig.MS(rig.Percentile(r.Commits, 50)), rig.MS(rig.Percentile(r.Commits, 99))

	step("10 recipients")
	if r, err = s.send(s.pack(seed+2, max(sz.Mails/10, 50), 10, sz.MailBytes), senders, false, &l); err != nil {
		return m, err
	}
	m[mTenAccept], m[mTenDeliver] = r.copies(), r.delivered()

	step("a new session for each mail")
	if r, err = s.send(s.pack(seed+3, max(sz.Mails/4, 100), 1, sz.MailBytes), senders, true, &l); err != nil {
		return m, err
	}
	m[mFresh] = r.accepted()
	if err := verify(); err != nil {
		return m, err
	}

	step("IDLE")
	lat, err := s.idleLatency(seed+4, 100, sz.MailBytes, &l)
	if err != nil {
		return m, err
	}
	m[mIdle50], m[mIdle95] = rig.MS(rig.Percentile(lat, 50)), rig.MS(rig.Percentile(lat, 95))

	step("logins")
	if m[mLogins], err = s.loginRate(sz.Logins); err != nil {
		return m, err
	}

	step("syncs")
	for _, t := range []struct {
		name string
		c, n int
	}{{mSyncs16, senders, 1000}, {mSyncs1, 1, 200}} {
		parcels := s.pack(seed+5+uint64(t.c), t.n, 1, sz.MailBytes)
		n, ok, err := s.CountSyncs(dir, func() error {
			_, err := s.send(parcels, t.c, false, &l)
			return err
		})
		if err != nil {
			return m, err
		}
		if ok {
			m[t.name] = float64(n) / float64(t.n)
		}
	}
	if err := verify(); err != nil {
		return m, err
	}
	if _, pss, err = s.Memory(); err != nil {
		return m, err
	}
	m[mPSSEnd] = float64(pss) / 1024
	fmt.Fprintf(say, "  %s: %d copies checked: each arrived once and unaltered\n", s.Name, checked)
	return m, nil
}

// idleLatency measures n times from the first byte of MAIL to the last byte of
// the body at a client that waited in IDLE.
func (s *bench) idleLatency(seed uint64, n, size int, l *ledger) ([]time.Duration, error) {
	parcels := s.pack(seed, n, 1, size)
	for i := range parcels {
		parcels[i].from, parcels[i].to = 0, []int{senders}
		parcels[i].data = mailclient.NewMaker(seed+uint64(i)).Mail(s.Account(0).Addr, size)
		parcels[i].hash = mailclient.BodyHash(parcels[i].data)
	}
	l.add(parcels)
	out, err := s.SMTP(s.Account(0))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	in, err := s.IMAP(s.Account(senders))
	if err != nil {
		return nil, err
	}
	defer in.Close()
	box, err := in.Select("INBOX")
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	have := box.Exists
	var lat []time.Duration
	for i := range parcels {
		p := &parcels[i]
		if err := in.Idle(); err != nil {
			return nil, err
		}
		// The server has time to settle, and no rhythm to fall into.
		<-time.After(20*time.Millisecond + time.Duration(rng.IntN(30))*time.Millisecond)
		start := time.Now()
		sent := make(chan error, 1)
		go func() { sent <- out.Send(s.Account(0).Addr, []string{s.Account(senders).Addr}, p.data) }()
		for exists := have; exists <= have; {
			text, err := in.Wait(30 * time.Second)
			if err != nil {
				return nil, fmt.Errorf("%s: waiting in IDLE: %w", s.Name, err)
			}
			if strings.HasSuffix(text, " EXISTS") {
				_, _ = fmt.Sscanf(text, "* %d EXISTS", &exists)
			}
		}
		have++
		found := false
		err := in.DoneAndFetch(have, func(m mailclient.Message) { found = found || mailclient.BodyHash(m.Raw) == p.hash })
		lat = append(lat, time.Since(start))
		if err := <-sent; err != nil {
			return nil, err
		}
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, fmt.Errorf("%s: the body at the IDLE client is not what was sent", s.Name)
		}
	}
	return lat, nil
}

// loginRate logs in n times, 16 at once, each over a new TLS connection, to
// accounts that have logged in before.
func (s *bench) loginRate(n int) (float64, error) {
	held := make([]*mailclient.IMAP, accounts) // keeps the accounts in use, as in life
	defer closeAll(held)
	for i := range held {
		c, err := s.IMAP(s.Account(i))
		if err != nil {
			return 0, err
		}
		held[i] = c
	}
	start := time.Now()
	err := rig.Parallel(16, n, func(_, i int) error {
		c, err := s.IMAP(s.Account(i % accounts))
		if err != nil {
			return err
		}
		c.Close()
		return nil
	})
	return float64(n) / time.Since(start).Seconds(), err
}

// hibernation is how long the peer waits before it parks an idle session.
const hibernation = 35 * time.Second

// idleMemory opens n sessions that wait in IDLE, then n more, each time waits as
// long as a server may take to park them, and gives KiB of PSS: the growth per
// session from n to 2n, and all memory divided by 2n. The first n let caches and
// what the logins took come to rest.
func (s *bench) idleMemory(n int) (growth, allIn float64, err error) {
	all := make([]*mailclient.IMAP, 2*n)
	defer closeAll(all)
	var pss [2]int64
	for half := range pss {
		err = rig.Parallel(8, n, func(_, i int) error {
			i += half * n
			c, err := s.IMAP(s.Account(i % accounts))
			if err != nil {
				return err
			}
			all[i] = c
			if _, err := c.Select("INBOX"); err != nil {
				return err
			}
			return c.Idle()
		})
		if err != nil {
			return 0, 0, err
		}
		<-time.After(hibernation)
		if _, pss[half], err = s.Memory(); err != nil {
			return 0, 0, err
		}
	}
	return float64(pss[1]-pss[0]) / float64(n), float64(pss[1]) / float64(2*n), nil
}
