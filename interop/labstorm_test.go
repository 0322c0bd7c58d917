package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// TestLabKill: while parts of the lab are killed and started again all the time (authorities, mixes,
// relays, proxies, the world), every mail that a proxy has acknowledged arrives, and none twice,
// counted at the POP3 and IMAP doors after a restart of everything. Some of them are for reply addresses, so
// that each takes a reply block at a relay.
func TestLabKill(t *testing.T) {
	t.Parallel()
	l := startLab(t, "--profile", "full", "--kill")
	l.storm(t, 40, 10, 10, 12*time.Minute)
}

// TestLabStorm: 1,000 mails between ten proxies, with 10 % of the packets lost, and parts of everything
// killed on the way.
func TestLabStorm(t *testing.T) {
	if !long() {
		t.Skip("POSTERN_LONG=1 runs it: it takes half an hour")
	}
	l := startLab(t, "--kill", "--loss", "10", "--proxies", "10")
	l.storm(t, 1000, 40, 0, 3*time.Hour)
}

// handIn gives a mail to a proxy by SMTP, and tells whether the proxy may have taken it: it may, with an error too.
func (p *labProxy) handIn(to string, raw []byte) (maybe bool, err error) {
	c, err := mailclient.DialSMTP(p.SMTP, mailclient.Plain, mailclient.Dialer{})
	if err != nil {
		return false, err
	}
	defer c.Close()
	if err := c.AuthPlain(p.Account, p.Password); err != nil {
		return false, err
	}
	if err := c.Envelope(p.Account, []string{to}); err != nil {
		return false, err
	}
	return true, c.Data(raw)
}

// labView is what the live page knows.
type labView struct {
	Kills      int
	Came, Lost uint64 // at mixes, on purpose
}

// look reads the first view that the live page streams.
func (l *testLab) look(t testing.TB) (v labView) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.Page+"events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(bytes.TrimPrefix(line, []byte("data: ")), &v)
	}
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return v
}

// storm hands mails in while the lab is disturbed, at least so many and until there were at least so
// many kills, so many of them for a reply address of each proxy, and counts what arrives. A relay has a day's
// reply blocks for an address, and a mail that is lost on its way to the proxy is lost, so answers are
// for a lab that loses no packets.
func (l *testLab) storm(t *testing.T, mails, kills, answers int, limit time.Duration) {
	t.Helper()
	nyms := l.stormNyms(t, answers)
	type fate struct {
		to    int
		taken bool
	}
	var mu sync.Mutex
	sent := map[string]fate{}
	pace := time.NewTicker(100 * time.Millisecond)
	defer pace.Stop()
	hand := func(i int) error {
		from := i % len(l.Proxies)
		to := (from + 1 + rand.IntN(len(l.Proxies)-1)) % len(l.Proxies)
		p, q := &l.Proxies[from], &l.Proxies[to]
		answer := nyms[to].take()
		for try := 0; ; try++ {
			id := fmt.Sprintf("mail %d, hand-in %d", i, try)
			at := q.Account
			if answer != "" {
				at = answer
			}
			maybe, err := p.handIn(at, labMail(p.Account, at, id, "the text of "+id))
			if maybe {
				mu.Lock()
				sent[id] = fate{to, err == nil}
				mu.Unlock()
			}
			if err == nil {
				return nil
			}
			if code := mailclient.CodeOf(err); code >= 500 {
				return err
			}
			if try == 200 {
				return fmt.Errorf("the proxy takes nothing: %w", err)
			}
			<-time.After(200 * time.Millisecond)
		}
	}
	count := 0
	for count < mails || l.look(t).Kills < kills || slices.ContainsFunc(nyms, (*stormNym).left) {
		const batch = 10
		each(t, 4, batch, func(i int) error {
			<-pace.C
			return hand(count + i)
		})
		count += batch
	}
	unsure := 0
	for _, f := range sent {
		if !f.taken {
			unsure++
		}
	}
	t.Logf("%d mails were taken, of %d it is not known; %d kills", len(sent)-unsure, unsure, l.look(t).Kills)
	missing := func(door func(*labProxy) (map[string]int, error)) error {
		left := 0
		var example string
		for i := range l.Proxies {
			got, err := door(&l.Proxies[i])
			if err != nil {
				return err
			}
			for id, f := range sent {
				if f.to == i && f.taken && got[id] == 0 {
					left, example = left+1, id
				}
			}
		}
		if left > 0 {
			return fmt.Errorf("%d have not come, among them %s", left, example)
		}
		return nil
	}
	began := time.Now()
	deadline := began.Add(limit)
	for {
		err := missing((*labProxy).byIMAP)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
	}
	v := l.look(t)
	t.Logf("%d kills", v.Kills)
	if i := slices.Index(l.args, "--loss"); i >= 0 {
		want, err := strconv.ParseFloat(l.args[i+1], 64)
		if err != nil {
			t.Fatal(err)
		}
		way := 100 * (1 - math.Pow(1-float64(v.Lost)/float64(v.Came), 3))
		t.Logf("of %d packets that came to be sent on by a mix, %d were lost on purpose: %.1f %% on a way through three", v.Came, v.Lost, way)
		if math.Abs(way-want) > want/4 {
			t.Errorf("%.1f %% of the packets were lost on purpose, not about %v %%", way, want)
		}
	}
	t.Logf("the last came %v after the last was handed in", time.Since(began).Round(time.Second))

	l.args = nil // from now on nothing is killed
	l.stop(t)
	l.run(t)
	for name, door := range map[string]func(*labProxy) (map[string]int, error){"IMAP": (*labProxy).byIMAP, "POP3": (*labProxy).byPOP3} {
		for i := range l.Proxies {
			got, err := door(&l.Proxies[i])
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			for id, n := range got {
				f, ok := sent[id]
				if !ok || f.to != i {
					if !strings.HasPrefix(id, "mail ") {
						t.Errorf("%s: somebody got a mail with the subject %q", name, id)
						continue
					}
					t.Errorf("%s: %q came to the wrong one", name, id)
				}
				if n != 1 {
					t.Errorf("%s: %q is there %d times", name, id, n)
				}
			}
			for id, f := range sent {
				if f.to == i && f.taken && got[id] != 1 {
					t.Errorf("%s: %q is there %d times", name, id, got[id])
				}
			}
		}
	}
}

// byIMAP counts the mails of an INBOX by their subjects.
func (p *labProxy) byIMAP() (map[string]int, error) {
	c, err := mailclient.DialIMAP(p.IMAP, mailclient.Plain, mailclient.Dialer{})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Login(p.Account, p.Password); err != nil {
		return nil, err
	}
	if _, err := c.Select("INBOX"); err != nil {
		return nil, err
	}
	got := map[string]int{}
	err = c.FetchAll("1:*", func(m mailclient.Message) { got[subjectOf(m.Raw)]++ })
	return got, err
}

// byPOP3 does so by POP3.
func (p *labProxy) byPOP3() (map[string]int, error) {
	c, n, err := dialPOP3(p.POP3, p.Account, p.Password)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	got := map[string]int{}
	for i := range n {
		if err := sayPOP3(c, fmt.Sprintf("RETR %d", i+1)); err != nil {
			return nil, err
		}
		raw, err := c.ReadDotBytes()
		if err != nil {
			return nil, err
		}
		got[subjectOf(raw)]++
	}
	return got, sayPOP3(c, "QUIT")
}

// dialPOP3 begins a session at a POP3 door and gives how many mails are there.
func dialPOP3(at, user, password string) (c *textproto.Conn, mails int, err error) {
	if c, err = textproto.Dial("tcp", at); err != nil {
		return nil, 0, err
	}
	for _, line := range []string{"", "USER " + user, "PASS " + password, "LIST"} {
		if err == nil {
			err = sayPOP3(c, line)
		}
	}
	var list []string
	if err == nil {
		list, err = c.ReadDotLines()
	}
	if err != nil {
		c.Close()
		return nil, 0, err
	}
	return c, len(list), nil
}

// sayPOP3 sends a line, or waits for the greeting, and wants +OK.
func sayPOP3(c *textproto.Conn, line string) error {
	if line != "" {
		if err := c.PrintfLine("%s", line); err != nil {
			return err
		}
	}
	said, err := c.ReadLine()
	if err == nil && !strings.HasPrefix(said, "+OK") {
		err = errors.New(said)
	}
	return err
}

// subjectOf gives the subject of a mail.
func subjectOf(raw []byte) string {
	for line := range strings.Lines(string(raw)) {
		if s, ok := strings.CutPrefix(line, "Subject: "); ok {
			return strings.TrimSpace(s)
		}
	}
	return ""
}
