package imapmodel

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxResponse = 1 << 20 // of one response with its literals
	queued      = 1 << 14 // responses that wait for their interpretation
)

// wire is one connection. One goroutine reads; it ends with the connection.
type wire struct {
	name    string
	conn    net.Conn
	log     *Log
	timeout time.Duration
	replies chan Reply
	failed  error // why replies was closed; to be read after that
	n       int
}

func dial(name string, connect func() (net.Conn, error), log *Log, timeout time.Duration) (*wire, error) {
	conn, err := connect()
	if err != nil {
		return nil, err
	}
	w := &wire{name: name, conn: conn, log: log, timeout: timeout, replies: make(chan Reply, queued)}
	go w.read()
	return w, nil
}

func (w *wire) close() {
	w.conn.Close()
	for range w.replies { // until the reader has ended
		continue
	}
}

func (w *wire) read() {
	defer close(w.replies)
	r := bufio.NewReader(w.conn)
	for {
		raw, err := readResponse(r)
		if err != nil {
			w.failed = err
			return
		}
		w.log.add(w.name+"<", raw)
		reply, err := parseReply(raw)
		if err != nil {
			w.failed = fmt.Errorf("not a response (%w): %q", err, raw)
			return
		}
		w.replies <- reply
	}
}

// readResponse reads one response; literals stay in it as they came.
func readResponse(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		b.WriteString(line)
		size, ok := literalSize(line)
		if !ok {
			if !strings.HasSuffix(line, "\r\n") {
				return "", fmt.Errorf("line without CRLF: %q", line)
			}
			return strings.TrimSuffix(b.String(), "\r\n"), nil
		}
		if b.Len()+size > maxResponse {
			return "", fmt.Errorf("a response of more than %d bytes", maxResponse)
		}
		if _, err := io.CopyN(&b, r, int64(size)); err != nil {
			return "", err
		}
	}
}

// literalSize tells whether a line announces a literal: {n}, {n+} or ~{n}.
func literalSize(line string) (int, bool) {
	line = strings.TrimRight(line, "\r\n")
	if !strings.HasSuffix(line, "}") {
		return 0, false
	}
	i := strings.LastIndexByte(line, '{')
	if i < 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(line[i+1:len(line)-1], "+"), 10, 31)
	return int(n), err == nil
}

// send writes a command and gives its tag. A literal goes with it, in the form
// that waits for nothing (RFC 7888).
func (w *wire) send(command string, literal string) (tag string, err error) {
	w.n++
	tag = w.name + strconv.Itoa(w.n)
	line := tag + " " + command
	if literal != "" {
		line += fmt.Sprintf(" {%d+}\r\n%s", len(literal), literal)
	}
	return tag, w.raw(line)
}

func (w *wire) raw(line string) error {
	w.log.add(w.name+">", line)
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return err
	}
	_, err := io.WriteString(w.conn, line+"\r\n")
	return err
}

// next waits for one response.
func (w *wire) next(limit time.Duration) (Reply, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r, ok := <-w.replies:
		if !ok {
			return r, fmt.Errorf("connection lost: %w", w.failed)
		}
		return r, nil
	case <-timer.C:
		return Reply{}, errSilent
	}
}

var errSilent = fmt.Errorf("no answer in time")

// until collects responses up to the one with the tag ("+": a continuation).
func (w *wire) until(tag string) ([]Reply, error) {
	var all []Reply
	for {
		r, err := w.next(w.timeout)
		if err != nil {
			return all, err
		}
		all = append(all, r)
		if r.Tag == tag {
			return all, nil
		}
		if r.Tag != "*" && tag == "+" {
			return all, fmt.Errorf("no continuation: %s", r.Raw)
		}
	}
}

// do runs a command that must succeed.
func (w *wire) do(command string) ([]Reply, error) {
	tag, err := w.send(command, "")
	if err != nil {
		return nil, err
	}
	all, err := w.until(tag)
	if err != nil {
		return all, err
	}
	if last := all[len(all)-1]; last.Kind != "OK" {
		return all, fmt.Errorf("%s: %s", command, last.Raw)
	}
	return all, nil
}

// Log keeps the conversation of one run. It is safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	lines []string
}

func (l *Log) add(who, text string) {
	if i := strings.IndexByte(text, '\n'); i >= 0 && len(text) > 300 {
		text = text[:300] + "…"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, who+" "+strings.ReplaceAll(text, "\r\n", `\r\n`))
}

// Lines gives what was said so far.
func (l *Log) Lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}
