package smtp

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// streamConn is a client that says everything it has to say, one piece a read, and
// never listens.
type streamConn struct {
	pieces [][]byte
	out    bytes.Buffer
}

func (c *streamConn) Read(p []byte) (int, error) {
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func (c *streamConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *streamConn) Close() error                     { return nil }
func (c *streamConn) LocalAddr() net.Addr              { return nil }
func (c *streamConn) RemoteAddr() net.Addr             { return nil }
func (c *streamConn) SetDeadline(time.Time) error      { return nil }
func (c *streamConn) SetReadDeadline(time.Time) error  { return nil }
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

const (
	cut      = '\xfe' // in fuzz input: the network cuts the stream here
	maxPiece = 512
	maxInput = 8 << 10
)

func pieces(in []byte) (out [][]byte) {
	for p := range bytes.SplitSeq(in, []byte{cut}) {
		for c := range slices.Chunk(p, maxPiece) {
			out = append(out, c)
		}
	}
	return out
}

// model is a second, naive reading of the same stream: byte by byte, from the RFCs.
// It knows which mails a server may take; all that the server takes beyond was smuggled.
type model struct {
	pieces [][]byte
	at     int // in pieces[0]
	mails  []string

	greeted, extended, open, utf8 bool
	tried, rcpts                  int
	chunks                        []byte
	chunking                      bool
}

func (m *model) next() (byte, bool) {
	for len(m.pieces) > 0 && m.at == len(m.pieces[0]) {
		m.pieces, m.at = m.pieces[1:], 0
	}
	if len(m.pieces) == 0 {
		return 0, false
	}
	m.at++
	return m.pieces[0][m.at-1], true
}

// pending: the piece in hand holds more.
func (m *model) pending() bool { return len(m.pieces) > 0 && m.at < len(m.pieces[0]) }

// line reads to CRLF; not ok at anything else that ends lines, at NUL and at the end.
func (m *model) line() (string, bool) {
	var b []byte
	for {
		c, ok := m.next()
		if !ok || c == '\n' || c == 0 {
			return "", false
		}
		if c == '\r' {
			c, ok = m.next()
			return string(b), ok && c == '\n'
		}
		b = append(b, c)
	}
}

func (m *model) reset() { m.open, m.tried, m.rcpts, m.chunks, m.chunking = false, 0, 0, nil, false }

func (m *model) run() {
	for {
		l, ok := m.line()
		if !ok || !m.command(l) {
			return
		}
	}
}

func (m *model) command(l string) bool {
	if len(l) > MaxCommand && !isAuth([]byte(l)) {
		return true
	}
	if strings.IndexFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
		return false
	}
	l = strings.TrimRight(l, " ")
	verb, arg, _ := strings.Cut(l, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "HELO":
		if arg != "" && !strings.Contains(arg, " ") {
			m.reset()
			m.greeted, m.extended = true, strings.EqualFold(verb, "EHLO")
		}
	case "RSET":
		if arg == "" {
			m.reset()
		}
	case "QUIT":
		return arg != ""
	case "MAIL":
		from, params, r := cutPath(arg, "FROM:")
		if !m.greeted || m.open || r != nil || from.Local == "blocked" || from.Local == "wordy" || from.Domain == "" && from.Local != "" ||
			params != "" && !m.extended {
			return true
		}
		o, r := parseMailParams(params)
		if r == nil && !o.RequireTLS && (o.UTF8 || asciiAddress(from)) && o.Size <= fuzzMaxSize {
			m.reset()
			m.open, m.utf8 = true, o.UTF8
		}
	case "RCPT":
		if !m.open || m.chunking {
			return true
		}
		m.tried++
		to, params, r := cutPath(arg, "TO:")
		if r != nil || to.IsZero() || to.Local == "unknown" || to.Local == "bug" || params != "" && !m.extended {
			return true
		}
		if _, r := parseRcptParams(params, m.utf8); r == nil && (m.utf8 || asciiAddress(to)) {
			m.rcpts++
		}
	case "DATA":
		switch {
		case arg != "":
		case m.pending():
			return false
		case m.open && m.rcpts > 0 && !m.chunking:
			return m.data()
		}
	case "BDAT":
		return m.bdat(arg)
	}
	return true
}

func (m *model) data() bool {
	var text strings.Builder
	for {
		l, ok := m.line()
		if !ok {
			return false
		}
		if l == "." {
			if !strings.Contains(text.String(), "X-Refuse: 1") {
				m.mails = append(m.mails, text.String())
			}
			m.reset()
			return true
		}
		text.WriteString(strings.TrimPrefix(l, ".") + "\r\n")
	}
}

func (m *model) bdat(arg string) bool {
	size, last, ok := parseBDAT(arg)
	if !ok || size > dropFactor*fuzzMaxSize {
		return false
	}
	var chunk []byte
	for range size {
		c, ok := m.next()
		if !ok {
			return false
		}
		chunk = append(chunk, c)
	}
	if !m.open || m.rcpts == 0 {
		m.reset()
		return true
	}
	m.chunking = true
	m.chunks = append(m.chunks, chunk...)
	if !last {
		return true
	}
	text := string(m.chunks)
	m.reset()
	plain := strings.ReplaceAll(text, "\r\n", "")
	if !strings.ContainsAny(plain, "\r\n\x00") && !strings.Contains(text, "X-Refuse: 1") {
		m.mails = append(m.mails, text)
	}
	return true
}

const fuzzMaxSize = 100_000

// states are what was said before the fuzzer's bytes begin.
var states = []string{
	"",
	"EHLO me\r\n",
	"EHLO me\r\nMAIL FROM:<a@example.org>\r\n",
	"EHLO me\r\nMAIL FROM:<a@example.org> SMTPUTF8\r\nRCPT TO:<b@example.org>\r\n",
	"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\xfe",
	"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\xfetext",
	"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\xfetext\r",
	"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\xfetext\r\n.",
	"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n\xfetext\r\n.\r\n",
	"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 4\r\ntext",
	"EHLO me\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT 4\r\nte",
	"EHLO me\r\nMAIL FROM:<nodata2@example.org>\r\nRCPT TO:<unknown@example.org>\r\nBDAT 4\r\ntext",
}

// FuzzStream: whatever is fed, in every state, no mail is taken whose bytes did not
// stand between DATA's 354 and CRLF.CRLF or inside the sizes of BDAT, and none that
// did is lost.
func FuzzStream(f *testing.F) {
	for _, s := range []string{
		"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n\xfeSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n",
		"x\r\n.\nMAIL FROM:<e@f>\r\n", "\n.\r\n", "\r.\r\n", "\r\n\x00.\r\n", "BDAT 3 LAST\r\nxxx", "BDAT 2\r\n\r\nBDAT 0 LAST\r\n",
		"DATA\r\n.\r\n", "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nBDAT 0 LAST\r\n", "BDAT 5 LATS\r\nQUIT\r\n", "\xfe\r\xfe\n\xfe.\xfe\r\xfe\n\xfe",
	} {
		for i := range states {
			f.Add(byte(i), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, state byte, in []byte) {
		if len(in) > maxInput {
			return
		}
		stream := append([]byte(states[int(state)%len(states)]), in...)
		back := &fake{}
		conn := &streamConn{pieces: pieces(stream)}
		ServeConn(context.Background(), conn, Options{Backend: back, MaxSize: fuzzMaxSize, MaxErrors: 1 << 30, MaxRefused: 1 << 30,
			MaxMails: 1 << 30, MaxRecipients: 1 << 30})
		want := &model{pieces: pieces(stream)}
		want.run()
		var mails []string
		for _, m := range back.mails {
			mails = append(mails, m.Raw)
			if m.To == nil {
				t.Errorf("%q: a mail without recipients", stream)
			}
		}
		if !slices.Equal(mails, want.mails) {
			t.Errorf("%q: taken %q, want %q\nreplies: %q", stream, mails, want.mails, conn.out.String())
		}
		if back.open != 0 {
			t.Errorf("%q: %d transfers were never ended", stream, back.open)
		}
		checkReplies(t, conn.out.String())
	})
}

// FuzzAuth: no mail without login, and no login without the right password.
func FuzzAuth(f *testing.F) {
	for _, s := range []string{"AUTH PLAIN AGEAc2VjcmV0\r\n", "AUTH LOGIN\r\nYQ==\r\nc2VjcmV0\r\n", "AUTH LOGIN YQ==\r\n*\r\n",
		"AUTH PLAIN\r\n\r\n", "AUTH PLAIN =\r\nMAIL FROM:<a@b>\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > maxInput {
			return
		}
		stream := slices.Concat([]byte("EHLO me\r\n"), in, []byte("\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 2 LAST\r\n\r\n"))
		back := &fake{}
		conn := &streamConn{pieces: pieces(stream)}
		ServeConn(context.Background(), conn, Options{Backend: back, OfferAuth: true, RequireAuth: true, Private: true})
		for _, m := range back.mails {
			if m.Login == "" {
				t.Errorf("%q: a mail without login", stream)
			}
		}
		if len(back.mails) > 0 && !strings.Contains(conn.out.String(), "\r\n235 2.7.0 ") {
			t.Errorf("%q: a login without a word", stream)
		}
		checkReplies(t, conn.out.String())
	})
}

// checkReplies: the server speaks whole lines of three digits.
func checkReplies(t *testing.T, out string) {
	if !strings.HasSuffix(out, "\r\n") {
		t.Errorf("replies %q", out)
		return
	}
	for l := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
		if len(l) < 4 || strings.Trim(l[:3], "0123456789") != "" || l[3] != ' ' && l[3] != '-' || strings.ContainsAny(l, "\r\n\x00") {
			t.Errorf("reply line %q", l)
		}
	}
}
