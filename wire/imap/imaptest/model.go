package imaptest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// The model is written from RFC 9051, RFC 7162 and RFC 6851, not from the server: a
// list of messages, what each session was told of them, and what a server may tell
// when. Every line of the server is held against it.

// ModelOptions of one random run.
type ModelOptions struct {
	Addr     string
	Login    string // arguments of LOGIN
	Sessions int
	Steps    int
	Seed     uint64
	// Deliver puts a message into INBOX from outside.
	Deliver func()
	// Filter, if set, sees each line of the server to session n before the model
	// does, and may change it or drop it (""): for seeded faults.
	Filter func(session int, line string) string
}

// message is one message of the truth.
type message struct {
	uid    uint32
	flags  map[string]bool
	modseq uint64 // as told by the server; 0: not told since the last change
	least  uint64 // it must be at least this
}

// model is the truth about INBOX and all sessions.
type model struct {
	o        ModelOptions
	rnd      *rand.Rand
	messages []*message // ascending UID
	nextUID  uint32
	highest  uint64 // highest mod-sequence that was told
	sessions []*session
	log      []string // for the report
}

// session is what one client was told.
type session struct {
	m         *model
	n         int
	nc        net.Conn
	r         *bufio.Reader
	tag       int
	list      []uint32 // UID by sequence number
	told      map[uint32]string
	condstore bool
	qresync   bool
	keywords  map[string]bool
}

// RunModel runs random commands of several sessions and gives the first
// disagreement with the model, with the conversation that led to it.
func RunModel(o ModelOptions) (err error) {
	m := &model{o: o, rnd: rand.New(rand.NewPCG(o.Seed, 1)), nextUID: 1}
	defer func() {
		for _, s := range m.sessions {
			_ = s.nc.Close()
		}
		if err != nil {
			from := max(0, len(m.log)-40)
			err = fmt.Errorf("seed %d: %w\n%s", o.Seed, err, strings.Join(m.log[from:], "\n"))
		}
	}()
	for n := range o.Sessions {
		nc, err := net.Dial("tcp", o.Addr)
		if err != nil {
			return err
		}
		s := &session{m: m, n: n, nc: nc, r: bufio.NewReader(nc)}
		m.sessions = append(m.sessions, s)
		if _, err := s.line(); err != nil {
			return err
		}
		if _, err := s.run("LOGIN "+o.Login, nil); err != nil {
			return err
		}
		if n%3 == 2 {
			s.qresync, s.condstore = true, true
			if _, err := s.run("ENABLE QRESYNC", nil); err != nil {
				return err
			}
		}
		if err := s.sel(); err != nil {
			return err
		}
	}
	for range o.Steps {
		if err := m.sessions[m.rnd.IntN(len(m.sessions))].step(); err != nil {
			return err
		}
	}
	for _, s := range m.sessions {
		if err := s.settle(); err != nil {
			return err
		}
	}
	return nil
}

func (m *model) find(uid uint32) *message {
	i, ok := slices.BinarySearchFunc(m.messages, uid, func(a *message, uid uint32) int { return int(int64(a.uid) - int64(uid)) })
	if !ok {
		return nil
	}
	return m.messages[i]
}

func (m *model) add(flags ...string) {
	msg := &message{uid: m.nextUID, flags: map[string]bool{}, least: m.highest + 1}
	for _, f := range flags {
		msg.flags[f] = true
	}
	m.nextUID++
	m.messages = append(m.messages, msg)
}

func (m *model) remove(uid uint32) {
	m.messages = slices.DeleteFunc(m.messages, func(a *message) bool { return a.uid == uid })
}

// change gives a message other flags; its mod-sequence must rise above all told.
func (m *model) change(msg *message, op string, flags []string) {
	before := msg.text()
	msg.apply(op, flags)
	if msg.text() != before {
		msg.modseq, msg.least = 0, m.highest+1
	}
}

// apply is STORE FLAGS, +FLAGS or -FLAGS.
func (msg *message) apply(op string, flags []string) {
	if op == "" {
		msg.flags = map[string]bool{}
	}
	for _, f := range flags {
		if op == "-" {
			delete(msg.flags, f)
		} else {
			msg.flags[f] = true
		}
	}
}

func (msg *message) text() string {
	all := make([]string, 0, len(msg.flags))
	for f := range msg.flags {
		all = append(all, f)
	}
	sort.Strings(all)
	return strings.Join(all, " ")
}

func (s *session) line() (string, error) {
	for {
		_ = s.nc.SetReadDeadline(time.Now().Add(Patience))
		l, err := s.r.ReadString('\n')
		if err != nil {
			return l, fmt.Errorf("session %d: %w", s.n, err)
		}
		l = strings.TrimSuffix(l, "\r\n")
		if s.m.o.Filter != nil {
			if l = s.m.o.Filter(s.n, l); l == "" {
				continue
			}
		}
		s.m.log = append(s.m.log, fmt.Sprintf("S%d: %s", s.n, l))
		return l, nil
	}
}

// run sends a command and gives the untagged lines and the tagged one, last.
func (s *session) run(cmd string, literal []byte) ([]string, error) {
	s.tag++
	tag := fmt.Sprintf("t%d", s.tag)
	s.m.log = append(s.m.log, fmt.Sprintf("C%d: %s %s", s.n, tag, cmd))
	text := tag + " " + cmd + "\r\n"
	if literal != nil {
		text += string(literal) + "\r\n"
	}
	_ = s.nc.SetWriteDeadline(time.Now().Add(Patience))
	if _, err := s.nc.Write([]byte(text)); err != nil {
		return nil, err
	}
	var out []string
	for {
		l, err := s.line()
		if err != nil {
			return out, err
		}
		if l == "+ idling" {
			if _, err := s.nc.Write([]byte("DONE\r\n")); err != nil {
				return out, err
			}
			continue
		}
		if rest, ok := strings.CutPrefix(l, tag+" "); ok {
			return append(out, rest), nil
		}
		out = append(out, l)
	}
}

// sel selects INBOX: everything is told anew.
func (s *session) sel() error {
	cmd := "SELECT INBOX"
	if s.n%3 == 1 {
		cmd += " (CONDSTORE)"
		s.condstore = true
	}
	lines, err := s.run(cmd, nil)
	if err != nil {
		return err
	}
	s.list, s.told, s.keywords = nil, map[uint32]string{}, map[string]bool{}
	for _, msg := range s.m.messages {
		s.list = append(s.list, msg.uid)
	}
	seen := map[string]bool{}
	for _, l := range lines {
		if n, ok := number(l, "EXISTS"); ok {
			seen["EXISTS"] = true
			if n != len(s.list) {
				return fmt.Errorf("SELECT tells %d messages, there are %d", n, len(s.list))
			}
		}
		if f, ok := strings.CutPrefix(l, "* FLAGS ("); ok {
			s.learn(f)
		}
		if c := codeNumber(l, "UIDNEXT"); c > 0 && uint32(c) != s.m.nextUID {
			return fmt.Errorf("UIDNEXT is %d, must be %d", c, s.m.nextUID)
		}
		if c := codeNumber(l, "HIGHESTMODSEQ"); c > 0 {
			seen["HIGHESTMODSEQ"] = true
			if c < s.m.highest {
				return fmt.Errorf("HIGHESTMODSEQ %d is below %d, which was told before", c, s.m.highest)
			}
			for _, msg := range s.m.messages {
				if msg.least > c {
					return fmt.Errorf("HIGHESTMODSEQ %d is below that of UID %d", c, msg.uid)
				}
			}
			s.m.highest = c
		}
	}
	if !seen["EXISTS"] || !seen["HIGHESTMODSEQ"] {
		return fmt.Errorf("SELECT is incomplete: %q", lines)
	}
	return nil
}

func (s *session) learn(list string) {
	for _, f := range strings.Fields(strings.TrimSuffix(list, ")")) {
		s.keywords[f] = true
	}
}

var numbered = regexp.MustCompile(`^\* (\d+) ([A-Z]+)(.*)$`)

func number(l, word string) (int, bool) {
	m := numbered.FindStringSubmatch(l)
	if m == nil || m[2] != word {
		return 0, false
	}
	n, err := strconv.Atoi(m[1])
	return n, err == nil
}

func codeNumber(l, code string) uint64 {
	_, rest, ok := strings.Cut(l, "["+code+" ")
	if !ok {
		return 0
	}
	digits, _, _ := strings.Cut(rest, "]")
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}

// untagged holds the untagged lines of one command against the model. expunge says
// whether EXPUNGE is allowed now (RFC 9051 §7.5.1).
func (s *session) untagged(lines []string, expunge bool) error {
	for _, l := range lines {
		switch {
		case strings.HasPrefix(l, "* VANISHED (EARLIER)"):
			return fmt.Errorf("VANISHED (EARLIER) was not asked for")
		case strings.HasPrefix(l, "* VANISHED "):
			if !s.qresync {
				return fmt.Errorf("VANISHED to a client that did not enable QRESYNC")
			}
			if !expunge {
				return fmt.Errorf("VANISHED is not allowed now: %q", l)
			}
			for _, uid := range setNumbers(strings.TrimPrefix(l, "* VANISHED ")) {
				i := slices.Index(s.list, uid)
				if i < 0 || s.m.find(uid) != nil {
					return fmt.Errorf("VANISHED of UID %d, which is there or was never told", uid)
				}
				s.list = slices.Delete(s.list, i, i+1)
			}
		case strings.HasPrefix(l, "* FLAGS ("):
			s.learn(strings.TrimPrefix(l, "* FLAGS ("))
		case strings.HasPrefix(l, "* SEARCH"), strings.HasPrefix(l, "* OK ["):
		default:
			m := numbered.FindStringSubmatch(l)
			if m == nil {
				return fmt.Errorf("unexpected line %q", l)
			}
			n, _ := strconv.Atoi(m[1])
			if err := s.numbered(n, m[2], m[3], expunge); err != nil {
				return fmt.Errorf("%w: %q", err, l)
			}
		}
	}
	return nil
}

func (s *session) numbered(n int, word, rest string, expunge bool) error {
	switch word {
	case "RECENT":
		return nil
	case "EXISTS":
		if n < len(s.list) {
			return fmt.Errorf("EXISTS shrinks the mailbox from %d", len(s.list))
		}
		last := uint32(0)
		if len(s.list) > 0 {
			last = s.list[len(s.list)-1]
		}
		for _, msg := range s.m.messages {
			if msg.uid > last && len(s.list) < n {
				s.list = append(s.list, msg.uid)
			}
		}
		if len(s.list) != n {
			return fmt.Errorf("EXISTS tells of messages that are not there (%d known)", len(s.list))
		}
		return nil
	case "EXPUNGE":
		switch {
		case !expunge:
			return fmt.Errorf("EXPUNGE is not allowed now")
		case s.qresync:
			return fmt.Errorf("EXPUNGE to a client that enabled QRESYNC")
		case n < 1 || n > len(s.list):
			return fmt.Errorf("EXPUNGE of a number that is not there")
		case s.m.find(s.list[n-1]) != nil:
			return fmt.Errorf("EXPUNGE of UID %d, which is still there", s.list[n-1])
		}
		s.list = slices.Delete(s.list, n-1, n)
		return nil
	case "FETCH":
		if n < 1 || n > len(s.list) {
			return fmt.Errorf("FETCH of a number that is not there")
		}
		return s.fetched(s.list[n-1], rest)
	}
	return fmt.Errorf("unexpected response")
}

var (
	fetchUID    = regexp.MustCompile(`UID (\d+)`)
	fetchFlags  = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
	fetchModSeq = regexp.MustCompile(`MODSEQ \((\d+)\)`)
)

func (s *session) fetched(uid uint32, rest string) error {
	msg := s.m.find(uid)
	if msg == nil {
		return fmt.Errorf("FETCH of UID %d, which is expunged", uid)
	}
	if m := fetchUID.FindStringSubmatch(rest); m != nil && m[1] != strconv.Itoa(int(uid)) {
		return fmt.Errorf("this number has UID %d", uid)
	}
	if m := fetchFlags.FindStringSubmatch(rest); m != nil {
		var flags []string
		for _, f := range strings.Fields(m[1]) {
			if f == `\Recent` {
				continue
			}
			if !s.keywords[f] {
				return fmt.Errorf("keyword %s was not announced", f)
			}
			flags = append(flags, f)
		}
		sort.Strings(flags)
		if got, want := strings.Join(flags, " "), msg.text(); got != want {
			return fmt.Errorf("flags of UID %d are %q", uid, want)
		}
		s.told[uid] = msg.text()
	}
	if m := fetchModSeq.FindStringSubmatch(rest); m != nil {
		n, _ := strconv.ParseUint(m[1], 10, 64)
		if msg.modseq == 0 && n < msg.least {
			return fmt.Errorf("MODSEQ of UID %d must be at least %d", uid, msg.least)
		}
		if msg.modseq != 0 && n != msg.modseq {
			return fmt.Errorf("MODSEQ of UID %d was told as %d and it did not change", uid, msg.modseq)
		}
		msg.modseq = n
		s.m.highest = max(s.m.highest, n)
	}
	return nil
}

func setNumbers(set string) (out []uint32) {
	for _, r := range strings.Split(set, ",") {
		lo, hi, ok := strings.Cut(r, ":")
		if !ok {
			hi = lo
		}
		a, _ := strconv.Atoi(lo)
		b, _ := strconv.Atoi(hi)
		for n := a; n <= b && n-a < 100000; n++ {
			out = append(out, uint32(n))
		}
	}
	return out
}

// settle runs NOOP, after which the session must know all there is, and then reads
// everything: no change may have gone untold.
func (s *session) settle() error {
	lines, err := s.run("NOOP", nil)
	if err != nil {
		return err
	}
	if err := s.untagged(lines[:len(lines)-1], true); err != nil {
		return err
	}
	if err := s.current(); err != nil {
		return err
	}
	if len(s.list) == 0 {
		return nil
	}
	items := "(UID FLAGS)"
	if s.condstore {
		items = "(UID FLAGS MODSEQ)"
	}
	lines, err = s.run("FETCH 1:* "+items, nil)
	if err != nil {
		return err
	}
	if len(lines) != len(s.list)+1 && !hasFlags(lines) {
		return fmt.Errorf("FETCH 1:* gave %d lines for %d messages", len(lines)-1, len(s.list))
	}
	return s.untagged(lines[:len(lines)-1], false)
}

func hasFlags(lines []string) bool {
	return slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "* FLAGS") })
}

// current demands that what the session was told is the truth.
func (s *session) current() error {
	if len(s.list) != len(s.m.messages) {
		return fmt.Errorf("session %d knows %d messages, there are %d", s.n, len(s.list), len(s.m.messages))
	}
	for i, msg := range s.m.messages {
		if s.list[i] != msg.uid {
			return fmt.Errorf("session %d: number %d is UID %d, must be %d", s.n, i+1, s.list[i], msg.uid)
		}
		if told, ok := s.told[msg.uid]; ok && told != msg.text() {
			return fmt.Errorf("session %d was not told that the flags of UID %d are %q now (it knows %q)", s.n, msg.uid, msg.text(), told)
		}
	}
	return nil
}
