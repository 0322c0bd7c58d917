package imap

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"
)

const (
	// maxBeforeLogin bounds a command of a stranger.
	maxBeforeLogin = 16 << 10
	// maxSkip bounds what is read and thrown away behind a refused literal that
	// the client sends without waiting (RFC 7888 §4).
	maxSkip = 128 << 20
	// appendStep is how much memory for a message is taken at once: a size that is
	// only announced costs nothing.
	appendStep = 1 << 20
	// literalTime is how long a client may take for a step of a literal.
	literalTime = 2 * time.Minute
)

var errTooMuch = errors.New("too much data behind a refused literal")

// literalSpec is what stands at the end of a line that a literal follows.
type literalSpec struct {
	size    uint64
	nowait  bool // "+": the client does not wait (RFC 7888)
	textEnd int  // where the spec begins in the text
}

// literalAt finds "{n}", "{n+}", "~{n}" or "~{n+}" at the end of text.
func literalAt(text []byte) (l literalSpec, ok bool) {
	if len(text) < 3 || text[len(text)-1] != '}' {
		return l, false
	}
	open := bytes.LastIndexByte(text, '{')
	if open < 0 {
		return l, false
	}
	digits := text[open+1 : len(text)-1]
	if n := len(digits); n > 0 && digits[n-1] == '+' {
		l.nowait = true
		digits = digits[:n-1]
	}
	size, err := strconv.ParseUint(string(digits), 10, 63)
	if err != nil || !isDigit(digits[0]) {
		return l, false
	}
	l.size = size
	l.textEnd = open
	if open > 0 && text[open-1] == '~' {
		l.textEnd--
	}
	return l, true
}

// readCommand reads one command with its literals. A command that was refused on
// the way is answered here; then the result is nil without an error.
func (c *conn) readCommand() (*command, error) {
	cmd := &command{s: c.s, memory: c.room, text: (*commandBuffers.Get().(*[]byte))[:0]}
	refused := error(nil) // why, once a literal was not taken
	maxLine, maxCommand := c.s.o.MaxLine, c.s.o.MaxCommand
	if c.state == notAuth {
		maxLine, maxCommand = min(maxLine, maxBeforeLogin), min(maxCommand, maxBeforeLogin)
	}
	skipped := uint64(0)
	lineStart := 0
	for {
		c.readBy(time.Now().Add(literalTime))
		if c.state == notAuth {
			c.readBy(c.loginBy)
		}
		text, err := c.r.line(cmd.text, maxLine)
		cmd.text = text
		if errors.Is(err, errBareLF) || errors.Is(err, errBadByte) {
			refused = bad("", "Lines end with CRLF and hold no NUL or CR")
			err = nil
			c.closing = c.closing || c.state == notAuth
		} else if err == nil && len(cmd.text) > maxCommand {
			err = errLineTooLong
		}
		if err != nil {
			cmd.free()
			return nil, err
		}
		lit, ok := literalAt(cmd.text[lineStart:])
		if !ok || isBare(refused) {
			break
		}
		if refused == nil {
			lit.textEnd += lineStart
			var taken bool
			taken, refused = c.takeLiteral(cmd, lit, maxCommand)
			if isIO(refused) {
				cmd.free()
				return nil, refused
			}
			lineStart = len(cmd.text)
			if taken {
				continue
			}
		}
		if !lit.nowait {
			break // the client waits, and our NO or BAD is the answer (RFC 9051 §4.3)
		}
		// The rest of the command comes anyway; nothing of it is interpreted.
		if skipped += lit.size; lit.size > maxSkip || skipped > maxSkip {
			cmd.free()
			return nil, errTooMuch
		}
		if err := c.skip(int64(lit.size)); err != nil {
			cmd.free()
			return nil, err
		}
		lineStart = len(cmd.text)
	}
	if refused == nil {
		if len(cmd.text) == 0 { // an empty line, as some clients send behind a literal
			cmd.free()
			return nil, nil
		}
		return cmd, nil
	}
	p := &parser{b: cmd.text}
	tag, err := p.tag()
	if err != nil {
		tag = "*"
	}
	cmd.free()
	c.tag = tag
	st := answer(refused, false)
	if st.bad {
		c.tagged("BAD", st.code, st.text)
		c.wrong()
	} else {
		c.tagged("NO", st.code, st.text)
	}
	return nil, nil
}

// isBare reports a refusal because of the line itself: no literal follows for sure.
func isBare(err error) bool {
	st := (*statusError)(nil)
	return errors.As(err, &st) && st.bad && st.code == ""
}

// ioError marks a failure of the connection.
type ioError struct{ error }

func (e ioError) Unwrap() error { return e.error }

func isIO(err error) bool {
	var e ioError
	return errors.As(err, &e)
}

// takeLiteral reads the literal behind the text of cmd, or says why not. taken
// says that its bytes are read, kept or not.
func (c *conn) takeLiteral(cmd *command, lit literalSpec, maxCommand int) (taken bool, err error) {
	message := c.state != notAuth && isAppendData(cmd.text[:lit.textEnd], cmd.data, c.enabled.utf8ok())
	if message {
		if lit.size > uint64(c.s.o.MaxAppend) {
			return false, no("TOOBIG", "The message is larger than APPENDLIMIT")
		}
	} else if lit.size > uint64(maxCommand-len(cmd.text)) {
		return false, bad("TOOBIG", "The literal is too large")
	}
	cmd.text = append(cmd.text, '\r', '\n')
	if !lit.nowait {
		c.w.s("+ OK\r\n")
	}
	if c.r.buffered() == 0 || !lit.nowait {
		if err := c.w.flush(); err != nil {
			return false, ioError{err}
		}
	}
	if message {
		return true, c.readMessage(cmd, int(lit.size))
	}
	n := int(lit.size)
	cmd.text = slices.Grow(cmd.text, n)
	into := cmd.text[len(cmd.text) : len(cmd.text)+n]
	if _, err := io.ReadFull(&c.r, into); err != nil {
		return false, ioError{err}
	}
	cmd.text = cmd.text[:len(cmd.text)+n]
	return true, nil
}

// isAppendData reports whether the literal behind text is the data of a message:
// the command is APPEND and its mailbox name is complete.
func isAppendData(text []byte, data []messageData, utf8ok bool) bool {
	p := &parser{b: text, data: data, utf8: utf8ok}
	if _, err := p.tag(); err != nil || !p.take(' ') || !p.word("APPEND") || !p.take(' ') {
		return false
	}
	if p.done() {
		return false
	}
	_, err := p.astring()
	return err == nil && p.take(' ')
}

// readMessage reads n bytes into memory of their own, in steps that are counted
// against the memory for messages of all sessions.
func (c *conn) readMessage(cmd *command, n int) error {
	at := len(cmd.text)
	var raw []byte
	for len(raw) < n {
		step := min(n-len(raw), appendStep)
		// Growing may copy, so twice the step's end is never held for long.
		if !cmd.memory.Acquire(int64(step)) {
			if err := c.skip(int64(n - len(raw))); err != nil {
				return ioError{err}
			}
			return no("UNAVAILABLE", "Too many uploads at once, try again later")
		}
		cmd.held += int64(step)
		c.readBy(time.Now().Add(literalTime))
		raw = slices.Grow(raw, step)
		into := raw[len(raw) : len(raw)+step]
		if _, err := io.ReadFull(&c.r, into); err != nil {
			return ioError{err}
		}
		raw = raw[:len(raw)+step]
	}
	cmd.data = append(cmd.data, messageData{at: at, raw: raw})
	return nil
}

// skip reads and drops n bytes.
func (c *conn) skip(n int64) error {
	for n > 0 {
		step := min(n, appendStep)
		c.readBy(time.Now().Add(literalTime))
		if _, err := io.CopyN(io.Discard, &c.r, step); err != nil {
			return err
		}
		n -= step
	}
	return nil
}
