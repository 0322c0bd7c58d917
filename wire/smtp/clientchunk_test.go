package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"postern.email/kit/errs"
)

// chunkServer takes chunks and answers the n-th (from 1) with what say gives; it notes what came.
type chunkServer struct {
	ext  string
	say  func(n int) string
	hold int // answers that wait until this many chunks have come; the client must not wait for them
	seen []string
	raw  bytes.Buffer
}

func (s *chunkServer) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	io.WriteString(conn, "220 mx.example\r\n")
	n, owed := 0, ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		s.seen = append(s.seen, line)
		switch {
		case strings.HasPrefix(line, "EHLO"):
			io.WriteString(conn, "250-mx.example\r\n250-CHUNKING\r\n250 "+s.ext+"\r\n")
		case strings.HasPrefix(line, "BDAT"):
			var size int64
			fmt.Sscanf(line, "BDAT %d", &size)
			if _, err := io.CopyN(&s.raw, r, size); err != nil {
				return
			}
			n++
			owed += s.say(n)
			if n >= s.hold {
				io.WriteString(conn, owed)
				owed = ""
			}
		default:
			io.WriteString(conn, "250 ok\r\n")
		}
	}
}

// TestClientChunks: a large mail goes in chunks, two under way where PIPELINING is offered; the last
// goes only when all before it were taken; after a refusal nothing more of the mail goes out, and
// the connection is not used again, because nobody knows what the server takes for commands.
func TestClientChunks(t *testing.T) {
	text := strings.Repeat("12345678\r\n", 3*ChunkSize/10+1)
	last := fmt.Sprintf("BDAT %d LAST", len(text)-3*ChunkSize)
	full := fmt.Sprintf("BDAT %d", ChunkSize)
	ok := func(int) string { return "250 ok\r\n" }
	at := func(bad int, reply string) func(int) string {
		return func(n int) string {
			if n == bad {
				return reply
			}
			return "250 ok\r\n"
		}
	}
	for _, x := range []struct {
		name, ext string
		say       func(int) string
		hold      int
		want      string
		unknown   bool
		seen      []string
	}{
		{"all", "8BITMIME", ok, 0, "taken", false, []string{full, full, full, last}},
		{"two ahead", "PIPELINING", ok, 2, "taken", false, []string{full, full, full, last}},
		{"first", "8BITMIME", at(1, "552 5.3.4 large\r\n"), 0, "552 5.3.4 large", false, []string{full}},
		{"first, two ahead", "PIPELINING", at(1, "552 5.3.4 large\r\n"), 2, "552 5.3.4 large", false, []string{full, full}},
		{"second", "8BITMIME", at(2, "452 4.3.1 later\r\n"), 0, "452 4.3.1 later", false, []string{full, full}},
		{"third", "PIPELINING", at(3, "421 4.3.2 bye\r\n"), 0, "421 4.3.2 bye", false, []string{full, full, full}},
		{"last", "8BITMIME", at(4, "554 5.7.1 spam\r\n"), 0, "554 5.7.1 spam", false, []string{full, full, full, last}},
		{"asks for more", "8BITMIME", at(1, "354 go\r\n"), 0, "error: unavailable", false, []string{full}},
		{"does not know it", "8BITMIME", at(1, "500 5.5.2 what\r\n"), 0, "error: unavailable", false, []string{full}},
		{"junk", "8BITMIME", at(2, "what\r\n"), 0, "error: unavailable", false, []string{full, full}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := &chunkServer{ext: x.ext, say: x.say, hold: x.hold}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				conn, err := l.Accept()
				if err == nil {
					s.serve(conn)
				}
			}()
			c := mustConnect(t, l.Addr().String(), ClientOptions{})
			sent, err := c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader(text))
			if got := outcomes(sent); got != x.want || sent.Unknown != x.unknown {
				t.Errorf("%s, unknown %v, %v", got, sent.Unknown, err)
			}
			reusable := x.want == "taken" || x.name == "last"
			if (err == nil) != reusable || c.Reusable() != reusable {
				t.Errorf("reusable %v, %v", c.Reusable(), err)
			}
			c.Close()
			<-done
			var chunks []string
			for _, l := range s.seen {
				if strings.HasPrefix(l, "BDAT") {
					chunks = append(chunks, l)
				}
			}
			// A chunk that was under way when the refusal came may have been cut off.
			if !slices.Equal(chunks, x.seen) {
				t.Errorf("%q", chunks)
			}
			if x.want == "taken" && s.raw.String() != text {
				t.Error("other bytes came")
			}
		})
	}
}

// brokenPipe is a server that stops to read after some bytes, having said why.
type brokenPipe struct {
	streamConn
	room int
}

func (b *brokenPipe) Write(p []byte) (int, error) {
	n := min(b.room, len(p))
	b.room -= n
	if n < len(p) {
		return n, syscall.EPIPE
	}
	return n, nil
}

// TestClientCut: a server that closes in the middle of a mail is heard out: its refusal counts, a
// yes does not, and what it may have taken is unknown only when the last byte was under way.
func TestClientCut(t *testing.T) {
	large := strings.Repeat("12345678\r\n", 100_000)
	for _, x := range []struct {
		name    string
		o       ClientOptions
		room    int
		words   []string
		want    string
		unknown bool
	}{
		{"refusal", ClientOptions{NoChunking: true}, 50_000, []string{"552 5.3.4 large\r\n"}, "552 5.3.4 large", false},
		{"nothing", ClientOptions{NoChunking: true}, 50_000, nil, "error: unavailable", false},
		{"yes", ClientOptions{NoChunking: true}, 50_000, []string{"250 ok\r\n"}, "error: unavailable", false},
		{"at the end", ClientOptions{NoChunking: true}, len(large) + 70, nil, "error: unavailable", true},
		{"yes at the end", ClientOptions{NoChunking: true}, len(large) + 70, []string{"250 ok\r\n"}, "error: unavailable", true},
		{"refusal at the end", ClientOptions{NoChunking: true}, len(large) + 70, []string{"554 5.7.1 no\r\n"}, "554 5.7.1 no", false},
		{"refusal of a chunk", ClientOptions{}, 50_000, []string{"552 5.3.4 large\r\n"}, "552 5.3.4 large", false},
		{"nothing to a chunk", ClientOptions{}, 50_000, nil, "error: unavailable", false},
		{"envelope", ClientOptions{}, 40, []string{"550 no\r\n"}, "error: unavailable", false},
	} {
		conn := &brokenPipe{room: x.room}
		replies := []string{"220 mx\r\n", "250-mx\r\n250 CHUNKING\r\n", "250 ok\r\n", "250 ok\r\n"}
		if x.o.NoChunking {
			replies = append(replies, "354 go\r\n")
		}
		for _, r := range append(replies, x.words...) {
			conn.pieces = append(conn.pieces, []byte(r))
		}
		c, err := NewClient(t.Context(), conn, x.o)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader(large))
		if got := outcomes(sent); got != x.want || sent.Unknown != x.unknown || errs.KindOf(err) != errs.Unavailable || c.Reusable() {
			t.Errorf("%s: %s, unknown %v, %v", x.name, got, sent.Unknown, err)
		}
	}
}

// TestClientLogs: refusals are logged with their codes, without an address or a server's words.
func TestClientLogs(t *testing.T) {
	var log bytes.Buffer
	o := ClientOptions{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	c := mustConnect(t, start(t, Options{Backend: &fake{}}), o)
	for _, from := range []string{"a@example.org", "blocked@example.org", "nodata@example.org"} {
		if _, err := c.Send(t.Context(), envelope(t, from, "unknown@example.org", "b@example.org"), strings.NewReader("X-Refuse: 1\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []string{"at=RCPT code=550 enhanced=5.1.1", "at=MAIL code=550 enhanced=5.7.1", "at=mail code=523"} {
		if !strings.Contains(log.String(), at) {
			t.Errorf("%s is not logged", at)
		}
	}
	for _, private := range []string{"example.org", "no such user", "Encryption"} {
		if strings.Contains(log.String(), private) {
			t.Errorf("%q is logged", private)
		}
	}
}

// TestParseReply: the one-line form of replies, as other roads carry it.
func TestParseReply(t *testing.T) {
	for in, want := range map[string]*Reply{
		"554 5.7.1 No valid DKIM signature found": {554, "5.7.1", "No valid DKIM signature found"},
		"523 Encryption Needed":                   {523, "", "Encryption Needed"},
		"452":                                     {452, "", ""},
		"452 4.3.1":                               {452, "4.3.1", ""},
		"250 5.7.1 x":                             {250, "", "5.7.1 x"},
		"550 a\tb\u202ec":                         {550, "", "a b c"},
		"550 " + strings.Repeat("x", 2000):        {550, "", strings.Repeat("x", MaxReplyText)},
		"550-x":                                   nil,
		"55":                                      nil,
		"650 x":                                   nil,
		"":                                        nil,
		"<html>":                                  nil,
	} {
		got, err := ParseReply(in)
		if (err != nil) != (want == nil) || want != nil && *got != *want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
		if err != nil && errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestNoReplyInViolations: an error that is no refusal must not look like one to errors.As.
func TestNoReplyInViolations(t *testing.T) {
	conn := &streamConn{pieces: [][]byte{[]byte("220 mx\r\n"), []byte("250 mx\r\n"), []byte("354 go\r\n")}}
	c, err := NewClient(t.Context(), conn, ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sent, err := c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader("a\r\n"))
	var r *Reply
	if !errors.Is(err, ErrProtocol) || errors.As(err, &r) || errors.As(sent.Rcpts[0], &r) {
		t.Errorf("%v, %v", err, sent)
	}
}
