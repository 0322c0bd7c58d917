package smtp

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"postern.email/kit/errs"
	"postern.email/wire/lineio"
)

// naive is a second reading of what a server says: byte by byte, from RFC 5321 §4.2. It ends at the
// first thing that is no reply.
func naive(stream []byte) (replies []naiveReply) {
	var cur naiveReply
	for {
		end := bytes.Index(stream, []byte("\r\n"))
		if end < 0 {
			return replies
		}
		line := string(stream[:end])
		stream = stream[end+2:]
		if strings.ContainsAny(line, "\r\n\x00") || len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
			return replies
		}
		code, err := strconv.ParseUint(line[:3], 10, 16)
		if err != nil || code < 200 || code > 599 || len(cur.lines) > 0 && int(code) != cur.code {
			return replies
		}
		cur.code = int(code)
		cur.lines = append(cur.lines, line[min(len(line), 4):])
		if len(line) == 3 || line[3] == ' ' {
			replies = append(replies, cur)
			cur = naiveReply{}
		}
	}
}

type naiveReply struct {
	code  int
	lines []string
}

// FuzzReply: every reply that is read is one that stands there, and what is kept of it is bounded and
// can be shown.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"220 mx\r\n", "250-a\r\n250-b\r\n250 c\r\n", "550 5.1.1 no\r\n", "250-a\r\n251 b\r\n", "250 a\n", "250\r\n250 5.\r\n", "4\xfe50 4.2.2 \xff\x1b\r\xfe\n", "550-5.7.1 a\r\n550 5.7.1 b\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > maxInput {
			return
		}
		conn := &streamConn{pieces: pieces(in)}
		want := naive(bytes.ReplaceAll(in, []byte{cut}, nil))
		r := replyReader{in: lineio.NewReader(conn, lineio.Times{}), maxLines: 10, maxBytes: 2000}
		for n := 0; ; n++ {
			lines := 1
			r.each = func(string) { lines++ }
			code, err := r.next()
			if err != nil {
				if n < len(want) && len(want[n].lines) <= 10 && size(want[n]) <= 2000 {
					t.Errorf("%q: reply %d: %v", in, n, err)
				}
				return
			}
			if n >= len(want) || code != want[n].code || lines != len(want[n].lines) || lines > 10 {
				t.Fatalf("%q: reply %d: %d in %d lines", in, n, code, lines)
			}
			reply := r.reply()
			if !utf8.ValidString(reply.Text) || len(reply.Text) > MaxReplyText || strings.ContainsFunc(reply.Text, unicode.IsControl) {
				t.Errorf("%q: text %q", in, reply.Text)
			}
			if reply.Enhanced != "" && (reply.Enhanced[0]-'0' != byte(code/100) || strings.Trim(reply.Enhanced, "0123456789.") != "") {
				t.Errorf("%q: enhanced code %q", in, reply.Enhanced)
			}
			if got, err := ParseReply(reply.String()); err != nil || *got != *reply {
				// Spaces at the ends go, and what follows no code may look like one.
				if err != nil || reply.Enhanced != "" && got.Enhanced != reply.Enhanced {
					t.Errorf("%q: %v read again: %v, %v", in, reply, got, err)
				}
			}
		}
	})
}

func size(r naiveReply) (n int) {
	for _, l := range r.lines {
		n += len(l) + 6
	}
	return n
}

// FuzzClient: whatever a server says, no recipient counts as served without a yes to MAIL, to it, to
// DATA and to the mail; not a byte of the mail goes out before somebody wants it; and what is
// said looks like SMTP.
func FuzzClient(f *testing.F) {
	const content = "X-Content: 1\r\n\r\n.\r\nend\r\n"
	for _, s := range []string{
		"220 mx\r\n\xfe250 mx\r\n\xfe250 ok\r\n\xfe250 ok\r\n\xfe550 no\r\n\xfe354 go\r\n\xfe250 ok\r\n\xfe221 bye\r\n",
		"220 mx\r\n\xfe250-mx\r\n250-PIPELINING\r\n250 SIZE 1000\r\n\xfe250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n\xfe250 ok\r\n",
		"220 mx\r\n\xfe250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n\xfe250 ok\r\n250 ok\r\n450 ok\r\n\xfe250 ok\r\n",
		"220 mx\r\n\xfe250-mx\r\n250 CHUNKING\r\n\xfe250 ok\r\n\xfe250 ok\r\n\xfe450 ok\r\n\xfe421 ok\r\n",
		"220 mx\r\n\xfe502 mx\r\n\xfe250 mx\r\n\xfe550 ok\r\n\xfe250 ok\r\n\xfe250 ok\r\n\xfe250 ok\r\n",
		"220 mx\r\n\xfe250-mx\r\n250 PIPELINING\r\n\xfe550 no\r\n550 no\r\n550 no\r\n354 go\r\n\xfe250 ok\r\n\xfe250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n\xfe250 ok\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > maxInput {
			return
		}
		conn := &streamConn{pieces: pieces(in)}
		said := naive(bytes.ReplaceAll(in, []byte{cut}, nil))
		next := func() (code int, r naiveReply) {
			if len(said) > 0 {
				r, said = said[0], said[1:]
			}
			return r.code, r
		}
		c, err := NewClient(context.Background(), conn, ClientOptions{})
		greeting, _ := next()
		hello, ehlo := next()
		if hello/100 == 5 {
			hello, _ = next()
			ehlo = naiveReply{}
		}
		if (err == nil) != (greeting/100 == 2 && hello/100 == 2) {
			t.Fatalf("%q: %v", in, err)
		}
		if err != nil {
			return
		}
		chunking := false
		for _, l := range ehlo.lines[min(1, len(ehlo.lines)):] {
			chunking = chunking || strings.EqualFold(strings.SplitN(strings.TrimRight(l, " "), " ", 2)[0], "CHUNKING")
		}
		before := conn.out.Len()
		sent, err := c.Send(context.Background(), Envelope{From: addr(t, "a@example.org"),
			Rcpts: []Recipient{{To: addr(t, "b@example.org")}, {To: addr(t, "c@example.org")}}}, strings.NewReader(content))
		mail, _ := next()
		rcpts := [2]int{}
		rcpts[0], _ = next()
		rcpts[1], _ = next()
		data := 300
		if !chunking {
			data, _ = next()
		}
		final, _ := next()
		for i, r := range sent.Rcpts {
			served := mail/100 == 2 && rcpts[i]/100 == 2 && data/100 == 3 && final/100 == 2
			if r == nil && (!served || sent.Reply == nil || sent.Reply.Code != final) {
				t.Errorf("%q: recipient %d is served: %d %d %d %d", in, i, mail, rcpts[i], data, final)
			}
			var reply *Reply
			if errors.As(r, &reply) && reply.Code < 400 {
				t.Errorf("%q: recipient %d is refused by %v", in, i, reply)
			}
		}
		out := conn.out.Bytes()[before:]
		wanted := mail/100 == 2 && (rcpts[0]/100 == 2 || rcpts[1]/100 == 2) && data/100 == 3
		if bytes.Contains(out, []byte("X-Content")) && !wanted {
			t.Errorf("%q: the mail went out: %q", in, out)
		}
		if sent.Unknown && !bytes.Contains(out, []byte("end\r\n")) {
			t.Errorf("%q: unknown, but never sent: %q", in, out)
		}
		if err != nil && (errs.KindOf(err) != errs.Unavailable || c.Reusable()) {
			t.Errorf("%q: %v, reusable %v", in, err, c.Reusable())
		}
		if c.Reusable() {
			c.Reset(context.Background())
		}
		c.Quit()
		for l := range strings.SplitSeq(strings.TrimSuffix(conn.out.String(), "\r\n"), "\r\n") {
			verb, _, _ := strings.Cut(l, " ")
			if !strings.Contains("|EHLO|HELO|MAIL|RCPT|DATA|BDAT|RSET|QUIT|.|..|end|X-Content:||", "|"+verb+"|") {
				t.Errorf("%q: said %q", in, l)
			}
		}
	})
}
