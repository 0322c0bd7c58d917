package imapmodel

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Fault is one kind of damage that a man in the middle does to the responses of
// a correct server. From the third response on that it can be done to, it is
// done to every fourth, by which a damage that happens to be legal (another
// EXISTS repairs a lost one) is not the last.
type Fault struct {
	Name string
	// damage changes one response, given the command in progress ("" for none); ok
	// says whether it could.
	damage func(command, response string) (changed string, ok bool)

	mu   sync.Mutex
	met  int
	Done int // how often damage was done
}

var (
	modseqItem  = regexp.MustCompile(`MODSEQ \((\d+)\)`)
	uidItem     = regexp.MustCompile(`UID (\d+)`)
	fetchLine   = regexp.MustCompile(`^\* \d+ FETCH \(`)
	expungeLine = regexp.MustCompile(`^\* (?:\d+ EXPUNGE|VANISHED \d)`)
	existsLine  = regexp.MustCompile(`^\* \d+ EXISTS\r\n$`)
	flagsItem   = regexp.MustCompile(`FLAGS \(([^)]*)\)`)
)

// Faults are all kinds; each call makes new ones.
func Faults() []*Fault {
	number := func(item *regexp.Regexp, by int64) func(string, string) (string, bool) {
		return func(_, resp string) (string, bool) {
			at := item.FindStringSubmatchIndex(resp)
			if at == nil || !fetchLine.MatchString(resp) {
				return "", false
			}
			n, _ := strconv.ParseInt(resp[at[2]:at[3]], 10, 64)
			return resp[:at[2]] + strconv.FormatInt(max(1, n+by), 10) + resp[at[3]:], n+by > 0
		}
	}
	drop := func(line *regexp.Regexp) func(string, string) (string, bool) {
		return func(_, resp string) (string, bool) { return "", line.MatchString(resp) }
	}
	return []*Fault{
		{Name: "an EXPUNGE is lost", damage: drop(expungeLine)},
		{Name: "an EXISTS is lost", damage: drop(existsLine)},
		{Name: "a MODSEQ is one too high", damage: number(modseqItem, 1)},
		{Name: "a MODSEQ is one too low", damage: number(modseqItem, -1)},
		{Name: "a UID is another", damage: number(uidItem, 1)},
		{Name: "flags of a FETCH are swapped", damage: func(_, resp string) (string, bool) {
			at := flagsItem.FindStringSubmatchIndex(resp)
			if at == nil || !fetchLine.MatchString(resp) {
				return "", false
			}
			flags := resp[at[2]:at[3]]
			if strings.Contains(flags, `\Flagged`) {
				flags = strings.Replace(flags, `\Flagged`, `\Answered`, 1)
			} else {
				flags = strings.TrimSpace(flags + ` \Flagged`)
			}
			return resp[:at[2]] + flags + resp[at[3]:], true
		}},
		{Name: "EXPUNGE during FETCH", damage: func(command, resp string) (string, bool) {
			return "* 1 EXPUNGE\r\n" + resp, command == "FETCH" && fetchLine.MatchString(resp)
		}},
		{Name: "an unasked FETCH is lost", damage: func(command, resp string) (string, bool) {
			return "", fetchLine.MatchString(resp) && !strings.Contains(command, "FETCH") && command != "SELECT"
		}},
		{Name: "a VANISHED (EARLIER) is lost", damage: func(_, resp string) (string, bool) {
			return "", strings.HasPrefix(resp, "* VANISHED (EARLIER)")
		}},
		{Name: "what is told between commands is lost", damage: func(command, resp string) (string, bool) {
			return "", command == "" && (existsLine.MatchString(resp) || fetchLine.MatchString(resp))
		}},
		{Name: "EXPUNGE between commands", damage: func(command, resp string) (string, bool) {
			return resp + "* 1 EXPUNGE\r\n", command == "" && existsLine.MatchString(resp)
		}},
		{Name: "an EXPUNGE is told twice", damage: func(_, resp string) (string, bool) {
			return resp + resp, expungeLine.MatchString(resp)
		}},
		{Name: "EXISTS shrinks", damage: func(command, resp string) (string, bool) {
			n := 0
			_, err := fmt.Sscanf(resp, "* %d EXISTS", &n)
			return fmt.Sprintf("* %d EXISTS\r\n", n-1), err == nil && n > 0 && existsLine.MatchString(resp)
		}},
	}
}

// spoil gives what the client gets in place of a response.
func (f *Fault) spoil(command, response string) string {
	changed, ok := f.damage(command, response)
	if !ok {
		return response
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.met++; f.met%4 != 3 {
		return response
	}
	f.Done++
	return changed
}

// between puts the man in the middle: the client's end of a local connection,
// the other end of which is joined to the server's.
func (f *Fault) between(connect func() (net.Conn, error)) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		server, err := connect()
		if err != nil {
			return nil, err
		}
		client, inner := net.Pipe()
		m := &middle{fault: f}
		go func() { // ends when either side closes
			m.commands(server, inner)
			server.Close()
			inner.Close()
		}()
		go func() {
			m.responses(inner, server)
			server.Close()
			inner.Close()
		}()
		return client, nil
	}
}

// middle knows which command is in progress.
type middle struct {
	fault   *Fault
	mu      sync.Mutex
	tag     string
	command string
}

func (m *middle) commands(to io.Writer, from io.Reader) {
	r := bufio.NewReader(from)
	for {
		raw, err := readResponse(r) // lines and literals have the same form both ways
		if err != nil {
			return
		}
		if words := strings.Fields(raw); len(words) > 1 {
			name := strings.ToUpper(words[1])
			if name == "UID" && len(words) > 2 {
				name += " " + strings.ToUpper(words[2])
			}
			m.mu.Lock()
			m.tag, m.command = words[0], name
			m.mu.Unlock()
		}
		if _, err := io.WriteString(to, raw+"\r\n"); err != nil {
			return
		}
	}
}

func (m *middle) responses(to io.Writer, from io.Reader) {
	r := bufio.NewReader(from)
	for {
		raw, err := readResponse(r)
		if err != nil {
			return
		}
		m.mu.Lock()
		command := m.command
		if strings.HasPrefix(raw, m.tag+" ") {
			m.tag, m.command = "none", ""
		}
		m.mu.Unlock()
		out := raw + "\r\n"
		if strings.HasPrefix(raw, "* ") {
			out = m.fault.spoil(command, out)
		}
		if _, err := io.WriteString(to, out); err != nil {
			return
		}
	}
}
