package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"postern.email/bench/rig"
	"postern.email/interop/mailclient"
)

// Sizes of the phases, from the flags.
type sizes struct {
	Mails, MailBytes int
	Large            int // mails of the large mailbox; 0: not measured
	Appends          int
	Idle, PeerIdle   int
	Slow             int
}

// Numbers of the accounts, the idle ones behind them.
const (
	accReader = iota
	accAppend
	accLarge
	accHuge
	accSender
	accIdle
)

// rest is how long a system gets to come to rest before its memory is read:
// dovecot parks waiting sessions after 30 s.
const rest = 35 * time.Second

// settle is how long a system gets to give back what a burst of work took.
const settle = 15 * time.Second

// bench drives one system in one round.
type bench struct {
	*rig.System
	sz   sizes
	m    rig.Measures
	say  io.Writer
	seed uint64
}

func (b *bench) step(format string, args ...any) {
	fmt.Fprintf(b.say, "  %s: "+format+"\n", append([]any{b.Name}, args...)...)
}

// usage is what a piece of work took.
type usage struct{ wall, server, own time.Duration }

func (b *bench) timed(f func() error) (u usage, err error) {
	own := rig.OwnCPU()
	before, err := b.CPU()
	if err != nil {
		return u, err
	}
	start := time.Now()
	if err := f(); err != nil {
		return u, err
	}
	u.wall = time.Since(start)
	after, err := b.CPU()
	u.server, u.own = after-before, rig.OwnCPU()-own
	return u, err
}

// run takes all measures of a system that was just started on an empty directory.
func (b *bench) run() error {
	if err := b.CreateAccounts(accIdle); err != nil {
		return err
	}
	if b.sz.Idle > 0 {
		<-time.After(rest)
		if err := b.memoryInto(mRSS0, mPSS0); err != nil {
			return err
		}
	}
	b.step("APPEND")
	if err := b.appendRate(accAppend); err != nil {
		return err
	}
	b.step("filling the mailboxes")
	hashes, err := b.fill(accReader, b.sz.Mails, b.mails(2))
	if err != nil {
		return err
	}
	if b.sz.Large > 0 {
		if _, err := b.fill(accLarge, b.sz.Large, b.small()); err != nil {
			return err
		}
	}
	b.step("SELECT")
	if err := b.selects(); err != nil {
		return err
	}
	b.step("FETCH")
	<-time.After(settle) // what storing left to be tidied up in the background is no part of reading
	if err := b.fetches(hashes); err != nil {
		return err
	}
	b.step("readers that do not read")
	if err := b.slowReaders(); err != nil {
		return err
	}
	if b.sz.Idle > 0 {
		b.step("%d sessions in IDLE", b.sz.Idle)
		if err := b.idle(); err != nil {
			return err
		}
	}
	return b.memoryInto(mRSSEnd, "")
}

func (b *bench) memoryInto(rssName, pssName string) error {
	rss, pss, err := b.Memory()
	b.m[rssName] = float64(rss) / 1024
	if pssName != "" {
		b.m[pssName] = float64(pss) / 1024
	}
	return err
}

// starts is how often a server is started to see its first SELECT: one time alone says more of
// the moment than of the server.
const starts = 5

// selects measures the first SELECT after a start, the middle one of a few starts, and later ones.
func (b *bench) selects() error {
	boxes := []struct {
		account, mails int
		first, later   string
	}{{accReader, b.sz.Mails, mSelFirst, mSelLater}, {accLarge, b.sz.Large, mBigFirst, mBigLater}}
	first, later := make([][]time.Duration, len(boxes)), make([][]time.Duration, len(boxes))
	for range starts {
		if err := b.Restart(); err != nil {
			return err
		}
		for i, box := range boxes {
			if box.mails == 0 {
				continue
			}
			took, err := b.selectOften(box.account, box.mails)
			if err != nil {
				return err
			}
			first[i], later[i] = append(first[i], took[0]), append(later[i], took[1:]...)
		}
	}
	for i, box := range boxes {
		if box.mails > 0 {
			b.m[box.first] = rig.MS(rig.Percentile(first[i], 50))
			b.m[box.later] = rig.MS(rig.Percentile(later[i], 50))
		}
	}
	return nil
}

// selectOften selects the INBOX of an account of so many mails a few times over one connection.
func (b *bench) selectOften(account, mails int) (took []time.Duration, err error) {
	c, err := b.IMAP(b.Account(account))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for range 21 {
		start := time.Now()
		m, err := c.Select("INBOX")
		took = append(took, time.Since(start))
		if err != nil {
			return nil, err
		}
		if m.Exists != mails {
			return nil, fmt.Errorf("%s: %d mails of %d", b.Name, m.Exists, mails)
		}
	}
	return took, nil
}

// read fetches an item with a literal of all mails, in order.
func (b *bench) read(c *mailclient.IMAP, items string) ([][]byte, error) {
	var got [][]byte
	err := c.Each(func(r mailclient.Response) {
		if len(r.Literals) > 0 {
			got = append(got, r.Literals[0])
		}
	}, "UID FETCH 1:* (%s)", items)
	return got, err
}

// fetches reads the whole mailbox: bodies, headers, and what a list of mails shows.
// Each is read three times, by a session of its own; the middle one counts.
func (b *bench) fetches(hashes []mailclient.Hash) error {
	var bodies [][]byte
	for _, f := range []struct{ items, rate, cpu string }{
		{"BODY.PEEK[]", mBodies, mBodiesCPU},
		{"BODY.PEEK[HEADER]", mHeaders, mHeadersCPU},
		{"FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (DATE FROM SUBJECT MESSAGE-ID)]", mFields, mFieldsCPU},
	} {
		var rates, cpus, owns []float64
		for range 3 {
			c, err := b.IMAP(b.Account(accReader))
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Select("INBOX"); err != nil {
				return err
			}
			var got [][]byte
			u, err := b.timed(func() (err error) {
				got, err = b.read(c, f.items)
				return err
			})
			if err != nil {
				return err
			}
			n := float64(len(got))
			rates = append(rates, n/u.wall.Seconds())
			cpus = append(cpus, u.server.Seconds()*1e6/n)
			owns = append(owns, u.own.Seconds()*1e6/n)
			if f.rate == mBodies {
				bodies = got
			}
			if err := check(hashes, bodies, got, f.rate); err != nil {
				return fmt.Errorf("%s: %s: %w", b.Name, f.items, err)
			}
		}
		b.m[f.rate], b.m[f.cpu] = rig.Median(rates), rig.Median(cpus)
		if f.rate == mBodies {
			b.m[mBodiesMB], b.m[mBodiesOwn] = b.m[mBodies]*float64(b.sz.MailBytes)/1e6, rig.Median(owns)
		}
	}
	return nil
}

// check compares what was read with what was stored.
func check(hashes []mailclient.Hash, bodies, got [][]byte, what string) error {
	if len(got) != len(hashes) {
		return fmt.Errorf("%d of %d mails", len(got), len(hashes))
	}
	for i, raw := range got {
		ok := false
		head, _, _ := bytes.Cut(bodies[i], []byte("\r\n\r\n"))
		switch what {
		case mBodies:
			ok = sha256.Sum256(raw) == hashes[i]
		case mHeaders:
			ok = string(raw) == string(head)+"\r\n\r\n"
		default: // the wanted lines, in whatever order
			ok = bytes.HasSuffix(raw, []byte("\r\n\r\n"))
			for line := range strings.Lines(string(head) + "\r\n") {
				name, _, _ := strings.Cut(line, ":")
				switch strings.ToLower(name) {
				case "date", "from", "subject", "message-id":
					ok = ok && bytes.Contains(raw, []byte(line))
				}
			}
		}
		if !ok {
			return fmt.Errorf("mail %d is not what was stored", i+1)
		}
	}
	return nil
}

// slowReaders opens sessions that ask for mails of 30 MB, several times over, and never read.
func (b *bench) slowReaders() error {
	if _, err := b.fill1(accHuge, 3, b.huge()); err != nil {
		return err
	}
	<-time.After(settle) // what storing them took is given back
	_, before, err := b.Memory()
	if err != nil {
		return err
	}
	all := make([]*mailclient.IMAP, b.sz.Slow)
	defer closeAll(all)
	err = rig.Parallel(8, len(all), func(_, i int) error {
		c, err := b.IMAP(b.Account(accHuge))
		if err != nil {
			return err
		}
		all[i] = c
		if _, err := c.Select("INBOX"); err != nil {
			return err
		}
		return c.Send("UID FETCH 1:* (BODY.PEEK[])", "UID FETCH 1:* (BODY.PEEK[] ENVELOPE BODYSTRUCTURE)", "UID SEARCH TEXT nothing")
	})
	if err != nil {
		return err
	}
	most := before
	for range 20 { // the most that is held within some seconds
		<-time.After(250 * time.Millisecond)
		_, now, err := b.Memory()
		if err != nil {
			return err
		}
		most = max(most, now)
	}
	b.m[mSlow] = float64(most-before) / 1024
	b.m[mSlowEach] = float64(most-before) / float64(len(all))
	return nil
}

// fill1 is fill with one mail an APPEND.
func (b *bench) fill1(account, n int, mail func() []byte) (int, error) {
	c, err := b.IMAP(b.Account(account))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for range n {
		if _, err := c.Append("INBOX", "", mail()); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func closeAll(all []*mailclient.IMAP) {
	for _, c := range all {
		if c != nil {
			c.Close()
		}
	}
}

// idle opens one session an account on a server that was just started, lets them wait, and
// measures the growth of memory; then it wakes some of them.
func (b *bench) idle() error {
	n := b.sz.Idle
	if err := b.CreateAccounts(accIdle + n); err != nil {
		return err
	}
	mail := b.mails(3)
	if err := rig.Parallel(1, n, func(_, i int) error {
		_, err := b.fill1(accIdle+i, 2, mail)
		return err
	}); err != nil {
		return err
	}
	if err := b.Restart(); err != nil {
		return err
	}
	<-time.After(settle)
	_, before, err := b.Memory()
	if err != nil {
		return err
	}
	all := make([]*mailclient.IMAP, n)
	defer closeAll(all)
	err = rig.Parallel(4, n, func(_, i int) error {
		c, err := b.IMAP(b.Account(accIdle + i))
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
		return err
	}
	<-time.After(rest)
	_, after, err := b.Memory()
	if err != nil {
		return err
	}
	b.m[mIdle], b.m[mIdleEach] = float64(n), float64(after-before)/float64(n)
	return b.wake(all)
}

// wake sends mails to waiting accounts and measures from the 250, the moment when the
// sender knows of the commit, to the EXISTS; one that comes before the 250 counts as 0.
func (b *bench) wake(all []*mailclient.IMAP) error {
	out, err := b.SMTP(b.Account(accSender))
	if err != nil {
		return err
	}
	defer out.Close()
	var lat []time.Duration
	mail := b.mails(4)
	for i := range min(len(all), 300) {
		raw := mail()
		var (
			wg   sync.WaitGroup
			seen time.Time
			werr error
		)
		wg.Go(func() {
			for seen.IsZero() && werr == nil {
				var text string
				if text, werr = all[i].Wait(30 * time.Second); strings.HasSuffix(text, " EXISTS") {
					seen = time.Now()
				}
			}
		})
		err := out.Send(b.Account(accSender).Addr, []string{b.Account(accIdle + i).Addr}, raw)
		acked := time.Now()
		if err != nil {
			all[i].Close()
		}
		wg.Wait()
		if err := errors.Join(err, werr); err != nil {
			return err
		}
		lat = append(lat, max(0, seen.Sub(acked)))
	}
	b.m[mWake50], b.m[mWake99] = rig.MS(rig.Percentile(lat, 50)), rig.MS(rig.Percentile(lat, 99))
	return nil
}
