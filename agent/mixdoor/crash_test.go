package mixdoor

import (
	"crypto/rand"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/agent/deliver"
	"postern.email/agent/vouch"
	"postern.email/kit/disktest"
	"postern.email/kit/racetest"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
	"postern.email/post/account"
)

// crashed is one life of an office in which ben reads his mail with a mail proxy.
type crashed struct {
	*world
	acked atomic.Int64 // steps
}

// steps are what comes from outside: the packets of a letter to anna, ben and nobody, and a mail of
// another host to both.
func (c *crashed) steps(letterOf [][]byte, other []byte) []func() error {
	var out []func() error
	for i, b := range letterOf {
		out = append(out, func() error {
			return c.d.Exit(c.t.Context(), [16]byte{byte(i + 1)}, packet.Content{Kind: content.Mail, Body: b})
		})
	}
	return append(out, func() error {
		var to []account.Account
		for _, name := range []string{"anna", "ben"} {
			a, err := c.Accounts.Resolve(c.t.Context(), c.Address(name))
			if err != nil {
				return err
			}
			to = append(to, a)
		}
		return c.o.Deliver.Begin().Hand(c.t.Context(), deliver.Parcel{From: c.Address("eve@far.example"), Local: to, Home: to[0].ID.Shard(), Head: other, Proof: [][]byte{[]byte("proof")}})
	})
}

// live does the steps from the n-th on, and works on what is at the door.
func (c *crashed) live(steps []func() error, n int64) {
	c.t.Helper()
	for _, step := range steps[n:] {
		if err := step(); err != nil {
			c.t.Fatal(err)
		}
		c.acked.Add(1)
	}
	c.work()
}

// proxied gives the mails in ben's packet box.
func (c *crashed) proxied(key *letter.PrivateKey) (out []*vouch.Mail) {
	c.t.Helper()
	a, err := c.Accounts.Resolve(c.t.Context(), c.Address("ben"))
	if err != nil {
		c.t.Fatal(err)
	}
	items, err := c.box.Next(c.t.Context(), a.ID, 0, 64)
	if err != nil {
		c.t.Fatal(err)
	}
	as := letter.NewAssembler(letter.Limits{})
	for _, it := range items {
		p, err := packet.OpenContent(it.Payload)
		if err != nil {
			c.t.Fatal(err)
		}
		f, err := letter.Open(key, p.Body)
		if err != nil {
			c.t.Fatal(err)
		}
		l, err := as.Add(f, time.Now())
		if err != nil {
			c.t.Fatal(err)
		}
		if l == nil {
			continue
		}
		m, err := vouch.ParseMail(l.Content)
		if err != nil {
			c.t.Fatal(err)
		}
		out = append(out, m)
	}
	if n, _ := as.Waiting(); n != 0 {
		c.t.Error("a part of a letter is in the box")
	}
	return out
}

// TestCrash cuts the disk at every sync while a letter and a mail come for an ordinary account and for one
// that is read with a mail proxy: what was acknowledged is there without being sent again, and all of it
// is there once when it is, also the report to the sender.
func TestCrash(t *testing.T) {
	base := vfs.NewCrashDisk()
	w := &crashed{world: newWorld(t, base)}
	for _, name := range []string{"anna", "ben", "carl"} {
		w.Create(name, nil)
	}
	key, err := letter.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.proxy("ben", key.Public())
	carl := "carl@" + domain
	list := w.seal(draft{sender: carl, to: []string{"anna", "nobody", "ben"}, raw: pgp(carl, 30_000)})
	other := pgp("eve@far.example", 40_000)
	if len(list) < 2 {
		t.Fatal(len(list))
	}
	start := base.Clone(vfs.Kept, 0)
	every := int64(1)
	if racetest.Enabled {
		every = 7
	}
	cuts := disktest.Cuts(every, func(n int64, after bool, u vfs.Unsynced) (more bool) {
		t.Run("", func(t *testing.T) {
			var at int64
			first := &crashed{}
			cut := vfs.CutAt(start.Clone(vfs.Kept, 0), n, after, u, uint64(n), func() { at = first.acked.Load() })
			first.world = newWorld(t, cut.FS)
			first.live(first.steps(list, other), 0)
			disk := cut.Disk()
			if disk == nil {
				return
			}
			more = true
			next := &crashed{world: newWorld(t, disk)}
			if n%2 == 0 {
				at = 0 // nobody heard an answer, and all of it comes again
			}
			next.live(next.steps(list, other), at)
			anna, reports := next.Inbox("anna"), next.Inbox("carl")
			box := next.proxied(key)
			if len(anna) != 2 || len(box) != 2 || len(reports) != 1 || !strings.Contains(reports[0], "nobody@"+domain) {
				t.Errorf("cut %d (after %v, %v), %d acknowledged: %d and %d mails, %d reports", n, after, u, at, len(anna), len(box), len(reports))
			}
			senders := map[mail.Address]int{}
			for _, m := range box {
				senders[m.Sender]++
			}
			if senders[next.Address(carl)] != 1 || senders[next.Address("eve@far.example")] != 1 {
				t.Error(senders)
			}
			if s := next.d.Status(); s.Letters != 0 {
				t.Errorf("left at the door: %+v", s)
			}
		})
		return more
	})
	if cuts < 12 {
		t.Errorf("only %d cuts", cuts)
	}
}
