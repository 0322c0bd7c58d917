package imaptest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// RunStress runs random commands of many sessions at once. What each is told is
// held against what holds whatever the others do: numbers exist, a number keeps its
// UID until an EXPUNGE that is allowed, nothing is told twice gone. At the end all
// sessions know the same.
func RunStress(o ModelOptions) error {
	clients := make([]*stressClient, o.Sessions)
	for n := range clients {
		nc, err := net.Dial("tcp", o.Addr)
		if err != nil {
			return err
		}
		defer nc.Close()
		clients[n] = &stressClient{n: n, rnd: rand.New(rand.NewPCG(o.Seed, uint64(n))),
			s: session{n: n, nc: nc, r: bufio.NewReader(nc), m: &model{}}, qresync: n%3 == 2}
		if err := clients[n].begin(o.Login); err != nil {
			return err
		}
	}
	failures := make([]error, len(clients))
	var wg sync.WaitGroup
	for n, c := range clients {
		wg.Go(func() {
			for range o.Steps {
				if err := c.step(); err != nil {
					log := c.s.m.log
					failures[n] = fmt.Errorf("session %d: %w\n%s", n, err, strings.Join(log[max(0, len(log)-30):], "\n"))
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range o.Steps {
			o.Deliver()
		}
	})
	wg.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	var all [][]string
	for _, c := range clients {
		state, err := c.end()
		if err != nil {
			return err
		}
		all = append(all, state)
	}
	for n := range all {
		if !slices.Equal(all[n], all[0]) {
			return fmt.Errorf("sessions 0 and %d end with different mailboxes:\n%q\n%q", n, all[0], all[n])
		}
	}
	return nil
}

// stressClient knows the UIDs it was told; 0 stands for one it was not.
type stressClient struct {
	n       int
	rnd     *rand.Rand
	s       session
	qresync bool
	uids    []uint32
}

func (c *stressClient) begin(login string) error {
	if _, err := c.s.line(); err != nil {
		return err
	}
	cmds := []string{"LOGIN " + login}
	if c.qresync {
		cmds = append(cmds, "ENABLE QRESYNC")
	}
	for _, cmd := range cmds {
		if lines, err := c.s.run(cmd, nil); err != nil || !strings.HasPrefix(lines[len(lines)-1], "OK") {
			return fmt.Errorf("%s: %q %w", cmd, lines, err)
		}
	}
	return c.do("SELECT INBOX", false)
}

// do runs a command and follows what is told.
func (c *stressClient) do(cmd string, numbers bool) error {
	if strings.HasPrefix(cmd, "SELECT") {
		c.uids = nil
	}
	lines, err := c.s.run(cmd, nil)
	if err != nil {
		return err
	}
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "OK ") && !strings.Contains(last, "[EXPUNGEISSUED]") {
		return fmt.Errorf("%s: %s", cmd, last)
	}
	for _, l := range lines[:len(lines)-1] {
		if err := c.told(l, numbers); err != nil {
			return fmt.Errorf("%w: %q", err, l)
		}
	}
	return nil
}

var anyUID = regexp.MustCompile(`UID (\d+)`)

func (c *stressClient) told(l string, numbers bool) error {
	if set, ok := strings.CutPrefix(l, "* VANISHED "); ok {
		if !c.qresync || numbers {
			return fmt.Errorf("VANISHED is not allowed now")
		}
		for _, uid := range setNumbers(set) {
			i := c.place(uid)
			if i < 0 {
				return fmt.Errorf("UID %d vanished and was not known", uid)
			}
			c.uids = slices.Delete(c.uids, i, i+1)
		}
		return nil
	}
	m := numbered.FindStringSubmatch(l)
	if m == nil {
		return nil
	}
	n, _ := strconv.Atoi(m[1])
	switch m[2] {
	case "EXISTS":
		if n < len(c.uids) {
			return fmt.Errorf("the mailbox shrinks from %d", len(c.uids))
		}
		for len(c.uids) < n {
			c.uids = append(c.uids, 0)
		}
	case "EXPUNGE":
		if numbers || c.qresync || n < 1 || n > len(c.uids) {
			return fmt.Errorf("EXPUNGE is not allowed now, or its number not there (%d)", len(c.uids))
		}
		c.uids = slices.Delete(c.uids, n-1, n)
	case "FETCH":
		if n < 1 || n > len(c.uids) {
			return fmt.Errorf("there are %d messages", len(c.uids))
		}
		if u := anyUID.FindStringSubmatch(m[3]); u != nil {
			uid, _ := strconv.Atoi(u[1])
			if known := c.uids[n-1]; known != 0 && known != uint32(uid) {
				return fmt.Errorf("this number has UID %d", known)
			}
			c.uids[n-1] = uint32(uid)
		}
	}
	return nil
}

// place finds the number of a UID: where it was told, or a number between its
// neighbours whose UID was not told, because UIDs ascend.
func (c *stressClient) place(uid uint32) int {
	unknown := -1
	for i, u := range c.uids {
		switch {
		case u == uid:
			return i
		case u == 0 && unknown < 0:
			unknown = i
		case u > uid:
			return unknown
		case u != 0:
			unknown = -1
		}
	}
	return unknown
}

func (c *stressClient) step() error {
	if err := c.learn(); err != nil {
		return err
	}
	if len(c.uids) == 0 {
		return c.do("NOOP", false)
	}
	i := c.rnd.IntN(len(c.uids))
	seq, uid := i+1, c.uids[i]
	if uid == 0 { // it was expunged before it was told
		return c.do("NOOP", false)
	}
	flag := modelFlags[c.rnd.IntN(len(modelFlags))]
	switch k := c.rnd.IntN(20); {
	case k < 3:
		return c.do(fmt.Sprintf("STORE %d +FLAGS (%s)", seq, flag), true)
	case k < 6:
		return c.do(fmt.Sprintf("UID STORE %d:%d -FLAGS (%s)", uid, uid+2, flag), false)
	case k < 9:
		return c.do("FETCH 1:* (UID FLAGS)", true)
	case k < 11:
		return c.do(fmt.Sprintf("UID FETCH %d BODY.PEEK[]", uid), false)
	case k < 13:
		return c.do("EXPUNGE", false)
	case k < 15:
		return c.do(fmt.Sprintf("UID MOVE %d Trash", uid), false)
	case k < 17:
		return c.do("IDLE", false)
	case k < 18:
		return c.do("SELECT INBOX", false)
	case k < 19:
		return c.do("SEARCH UNSEEN", true)
	}
	return c.do("NOOP", false)
}

// learn asks for the UIDs that are not known: VANISHED names them.
func (c *stressClient) learn() error {
	if !slices.Contains(c.uids, 0) {
		return nil
	}
	return c.do("FETCH 1:* (UID)", true)
}

var ownSight = regexp.MustCompile(` ?\\Recent| MODSEQ \(\d+\)`)

// end gives the mailbox as this session sees it when nothing happens any more.
func (c *stressClient) end() ([]string, error) {
	if err := c.do("NOOP", false); err != nil {
		return nil, err
	}
	if len(c.uids) == 0 {
		return nil, nil
	}
	lines, err := c.s.run("FETCH 1:* (UID FLAGS)", nil)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range lines[:len(lines)-1] {
		if strings.Contains(l, " FETCH ") {
			// What differs from session to session by right is left out.
			out = append(out, ownSight.ReplaceAllString(l, ""))
		}
	}
	if len(out) != len(c.uids) {
		return nil, fmt.Errorf("session %d: %d messages are known and %d there", c.n, len(c.uids), len(out))
	}
	return out, nil
}
