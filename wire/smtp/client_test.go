package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// connect makes a Client for addr; it is closed with the test.
func connect(t testing.TB, addr string, o ClientOptions) (*Client, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(t.Context(), conn, o)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func mustConnect(t testing.TB, addr string, o ClientOptions) *Client {
	t.Helper()
	c, err := connect(t, addr, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// envelope makes one without options.
func envelope(t testing.TB, from string, to ...string) Envelope {
	t.Helper()
	e := Envelope{From: addr(t, from)}
	for _, s := range to {
		e.Rcpts = append(e.Rcpts, Recipient{To: addr(t, s)})
	}
	return e
}

// outcomes gives one word for each recipient.
func outcomes(s Sent) string {
	var out []string
	for _, r := range s.Rcpts {
		var reply *Reply
		switch {
		case r == nil:
			out = append(out, "taken")
		case errors.As(r, &reply):
			out = append(out, reply.String())
		default:
			out = append(out, "error: "+errs.KindOf(r).Error())
		}
	}
	return strings.Join(out, "; ")
}

const plainMail = "Subject: x\r\n\r\n.\r\n..\r\n.a\r\nlast\r\n"

// roads are the ways in which the bytes of a mail travel.
var roads = map[string]ClientOptions{"BDAT": {}, "DATA": {NoChunking: true}}

// TestClientDelivers: every option of an envelope and every byte of a mail arrives at our own
// server, by DATA and by BDAT, in the clear, after STARTTLS and under implicit TLS.
func TestClientDelivers(t *testing.T) {
	serverTLS, clientTLS := testTLS(t)
	for road, o := range roads {
		for _, how := range []string{"clear", "starttls", "implicit"} {
			t.Run(road+" "+how, func(t *testing.T) {
				f := &fake{}
				so := Options{Hostname: "mx.example", Backend: f, TLS: serverTLS, Implicit: how == "implicit", MaxRecipients: 7, MaxMails: 70}
				o := o
				o.Hostname = "me.example"
				if how != "clear" {
					o.TLS, o.Implicit, o.RequireTLS = clientTLS, so.Implicit, true
				}
				c := mustConnect(t, start(t, so), o)
				secure := how != "clear"
				want := Extensions{StartTLS: !secure, Pipelining: true, Chunking: true, EightBit: true, UTF8: true, DSN: true, Enhanced: true,
					RequireTLS: secure, SizeKnown: true, Size: DefaultMaxSize, Limits: Limits{MailMax: 70, RcptMax: 7}}
				if diff := cmp.Diff(want, c.Extensions()); diff != "" {
					t.Error(diff)
				}
				if (c.TLS() != nil) != secure {
					t.Errorf("TLS: %v", c.TLS())
				}
				e := Envelope{
					From:    addr(t, "ü@example.org"),
					Options: MailOptions{Body: Body8Bit, UTF8: true, Return: ReturnHeaders, EnvID: "a+b=c d", RequireTLS: secure},
					Rcpts: []Recipient{
						{To: addr(t, `"a b"@example.org`), Options: RcptOptions{Notify: NotifyNever, OriginalType: "rfc822", OriginalAddress: "x+y=z@example.org"}},
						{To: addr(t, "unknown@example.org")},
						{To: addr(t, "ö@münchen.example"), Options: RcptOptions{Notify: NotifySuccess | NotifyFailure | NotifyDelay, OriginalType: "utf-8", OriginalAddress: `ö\x{41}@example.org`}},
						{To: mail.Address{Local: "postmaster"}},
					},
				}
				sent, err := c.Send(t.Context(), e, strings.NewReader(plainMail))
				if err != nil {
					t.Fatal(err)
				}
				if got := outcomes(sent); got != "taken; 550 5.1.1 no such user; taken; taken" || sent.Reply.String() != "250 2.0.0 OK" || sent.Unknown || sent.Stale {
					t.Errorf("%s; %+v", got, sent)
				}
				mo := e.Options
				mo.Size = int64(len(plainMail))
				wantMail := got{From: "ü@example.org", Mail: mo, To: []string{`"a b"@example.org`, "ö@münchen.example", "postmaster"},
					Rcpt: []RcptOptions{e.Rcpts[0].Options, e.Rcpts[2].Options, {}}, Raw: plainMail}
				if diff := cmp.Diff([]got{wantMail}, f.taken()); diff != "" {
					t.Error(diff)
				}
				if !c.Reusable() {
					t.Error("not reusable")
				}
				c.Quit()
				if c.Reusable() {
					t.Error("reusable after QUIT")
				}
				if _, err := c.Send(t.Context(), e, strings.NewReader(plainMail)); errs.KindOf(err) != errs.Unavailable {
					t.Errorf("after QUIT: %v", err)
				}
			})
		}
	}
}

// TestClientReuse: many mails on one connection, with failures between them that leave a
// transaction open.
func TestClientReuse(t *testing.T) {
	for road, o := range roads {
		t.Run(road, func(t *testing.T) {
			f := &fake{}
			c := mustConnect(t, start(t, Options{Backend: f, MaxMails: 8}), o)
			send := func(e Envelope, text, want string) {
				t.Helper()
				sent, err := c.Send(t.Context(), e, strings.NewReader(text))
				if got := outcomes(sent); err != nil || got != want {
					t.Fatalf("%s, %v; want %s", got, err, want)
				}
			}
			send(envelope(t, "a@example.org", "b@example.org"), "1\r\n", "taken")
			send(envelope(t, "a@example.org", "unknown@example.org", "unknown@example.org"), "no\r\n", "550 5.1.1 no such user; 550 5.1.1 no such user")
			send(envelope(t, "", "b@example.org"), "2\r\n", "taken")
			send(envelope(t, "blocked@example.org", "b@example.org"), "no\r\n", "550 5.7.1 blocked")
			send(envelope(t, "nodata@example.org", "b@example.org", "unknown@example.org"), "no\r\n", "452 4.3.1 no space left; 550 5.1.1 no such user")
			send(envelope(t, "a@example.org", "b@example.org"), "X-Refuse: 1\r\n", "523 Encryption Needed: Invalid Unencrypted Mail")
			if err := c.Reset(t.Context()); err != nil {
				t.Fatal(err)
			}
			send(envelope(t, "a@example.org", "b@example.org"), "", "taken")
			if !c.Reusable() {
				t.Error("not reusable after 7 of 8 mails")
			}
			send(envelope(t, "a@example.org", "b@example.org"), "3", "taken")
			if c.Reusable() {
				t.Error("reusable beyond MAILMAX")
			}
			var raws []string
			for _, m := range f.taken() {
				raws = append(raws, m.Raw)
			}
			want := []string{"1\r\n", "2\r\n", "", "3"}
			if road == "DATA" {
				want[3] = "3\r\n" // a line cannot but end
			}
			if !slices.Equal(raws, want) {
				t.Errorf("%q", raws)
			}
		})
	}
}

// TestClientSizes: mails around the sizes of blocks and chunks arrive unchanged, with dots
// and line ends wherever a block may end.
func TestClientSizes(t *testing.T) {
	f := &fake{}
	address := start(t, Options{Backend: f})
	line := strings.Repeat(".", 75) + "\r\n"
	for road, o := range roads {
		c := mustConnect(t, address, o)
		for _, size := range []int{1, 2, 3, 76, 77, 17 << 10, blockSize - 1, blockSize, blockSize + 1, 2*blockSize + 5, ChunkSize - 1, ChunkSize, ChunkSize + 1, 3*ChunkSize + 7} {
			raw := strings.Repeat(line, size/len(line))
			if pad := size - len(raw); pad >= 2 {
				raw += strings.Repeat("x", pad-2) + "\r\n"
			} else {
				raw = raw[:max(0, len(raw)-2)] + strings.Repeat("y", pad)
				if len(raw) > 0 && size > 1 {
					raw += "\r\n"
				}
			}
			sent, err := c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader(raw))
			if err != nil || outcomes(sent) != "taken" {
				t.Fatalf("%s, %d: %s, %v", road, size, outcomes(sent), err)
			}
			if road == "DATA" && !strings.HasSuffix(raw, "\r\n") {
				raw += "\r\n"
			}
			mails := f.taken()
			if got := mails[len(mails)-1].Raw; got != raw {
				t.Errorf("%s, %d: %d bytes came", road, size, len(got))
			}
		}
	}
}

// TestClientContent: a mail that could be read in two ways is cut off unsent, and the
// connection with it; so is one that is shorter than it says.
func TestClientContent(t *testing.T) {
	long := strings.Repeat("x", MaxTextLine+1) + "\r\n"
	far := strings.Repeat("12345678\r\n", blockSize/10)
	for road, o := range roads {
		for _, c := range []struct {
			name    string
			content Content
			kind    errs.Kind
		}{
			{"bare LF", strings.NewReader("a\nb\r\n"), errs.Invalid},
			{"LF dot LF", strings.NewReader("a\n.\nMAIL FROM:<x@example.org>\r\n"), errs.Invalid},
			{"bare CR", strings.NewReader("a\rb\r\n"), errs.Invalid},
			{"CR dot CR", strings.NewReader("a\r\n.\r\r\nb\r\n"), errs.Invalid},
			{"NUL", strings.NewReader("a\x00\r\n"), errs.Invalid},
			{"long line", strings.NewReader(long), errs.TooLarge},
			{"no line", strings.NewReader(strings.Repeat("x", 3*blockSize)), errs.TooLarge},
			{"far bare LF", strings.NewReader(far + "\n.\r\n"), errs.Invalid},
			{"short", liar{strings.NewReader("a\r\n"), 10}, errs.Corrupt},
			{"far short", liar{strings.NewReader(far), int64(len(far) + 1)}, errs.Corrupt},
			{"broken", broke{}, errs.NoSpace},
		} {
			f := &fake{}
			client := mustConnect(t, start(t, Options{Backend: f}), o)
			sent, err := client.Send(t.Context(), envelope(t, "a@example.org", "b@example.org", "unknown@example.org"), c.content)
			if errs.KindOf(err) != c.kind {
				t.Errorf("%s, %s: %v", road, c.name, err)
			}
			if got := outcomes(sent); got != "error: "+c.kind.Error()+"; 550 5.1.1 no such user" || sent.Unknown || client.Reusable() {
				t.Errorf("%s, %s: %s, unknown %v, reusable %v", road, c.name, got, sent.Unknown, client.Reusable())
			}
			eventually(t, "the transfer is aborted", func() bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.open == 0
			})
			if len(f.taken()) != 0 {
				t.Errorf("%s, %s: a mail was taken", road, c.name)
			}
		}
	}
}

type liar struct {
	*strings.Reader
	size int64
}

func (l liar) Size() int64 { return l.size }

type broke struct{}

func (broke) Size() int64 { return 10 }
func (broke) ReadAt([]byte, int64) (int, error) {
	return 0, errs.E("test", errs.NoSpace, "", nil)
}

// TestClientTLS: whose certificate is believed is the configuration's business; without TLS
// where it is required nothing of a mail is said.
func TestClientTLS(t *testing.T) {
	serverTLS, clientTLS := testTLS(t)
	unnamed := clientTLS.Clone()
	unnamed.ServerName = ""
	refuse := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return errs.E("test", errs.Denied, "no", errNo) }}
	for _, c := range []struct {
		name   string
		server *tls.Config
		o      ClientOptions
		kind   errs.Kind
		is     error
		secure bool
	}{
		{"verified", serverTLS, ClientOptions{TLS: clientTLS, RequireTLS: true}, 0, nil, true},
		{"name from Host", serverTLS, ClientOptions{TLS: unnamed, Host: "localhost", RequireTLS: true}, 0, nil, true},
		{"wrong name", serverTLS, ClientOptions{TLS: unnamed, Host: "other.example", RequireTLS: true}, errs.Denied, ErrHandshake, false},
		{"unknown issuer", serverTLS, ClientOptions{TLS: &tls.Config{ServerName: "localhost"}, RequireTLS: true}, errs.Denied, ErrHandshake, false},
		{"own check", serverTLS, ClientOptions{TLS: refuse, RequireTLS: true}, errs.Denied, errNo, false},
		{"own check, not required", serverTLS, ClientOptions{TLS: refuse}, errs.Unavailable, errNo, false},
		{"not offered", nil, ClientOptions{TLS: clientTLS, RequireTLS: true}, errs.Denied, ErrNoTLS, false},
		{"not offered, not required", nil, ClientOptions{TLS: clientTLS}, 0, nil, false},
		{"not wanted", serverTLS, ClientOptions{}, 0, nil, false},
		{"required without configuration", serverTLS, ClientOptions{RequireTLS: true}, errs.Invalid, nil, false},
		{"bad own name", serverTLS, ClientOptions{Hostname: "a\r\nb"}, errs.Invalid, nil, false},
	} {
		client, err := connect(t, start(t, Options{Backend: &fake{}, TLS: c.server}), c.o)
		if c.kind != 0 {
			if errs.KindOf(err) != c.kind || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := client.TLS() != nil; got != c.secure || client.Extensions().RequireTLS != c.secure {
			t.Errorf("%s: TLS %v", c.name, got)
		}
	}
	wrong, err := connect(t, start(t, Options{Backend: &fake{}, TLS: serverTLS}), ClientOptions{TLS: &tls.Config{ServerName: "localhost"}})
	var bad *tls.CertificateVerificationError
	if err == nil || !errors.As(err, &bad) {
		t.Errorf("the reason is not in the chain: %v, %v", wrong, err)
	}
}

var errNo = errors.New("nobody is believed")

// TestClientUnwritable: an envelope that cannot be written is refused before a word is
// said, and the connection stays.
func TestClientUnwritable(t *testing.T) {
	f := &fake{}
	c := mustConnect(t, start(t, Options{Backend: f}), ClientOptions{})
	good := addr(t, "b@example.org")
	for name, e := range map[string]Envelope{
		"no recipients":  {From: good},
		"second command": {From: mail.Address{Local: "a", Domain: "b>\r\nRSET\r\nMAIL FROM:<c@d"}, Rcpts: []Recipient{{To: good}}},
		"parameter":      {From: mail.Address{Local: "a", Domain: "b> SIZE=1 X=<"}, Rcpts: []Recipient{{To: good}}},
		"postmaster":     {From: mail.Address{Local: "postmaster"}, Rcpts: []Recipient{{To: good}}},
		"id":             {From: good, Options: MailOptions{EnvID: "a\r\nb"}, Rcpts: []Recipient{{To: good}}},
		"long id":        {From: good, Options: MailOptions{EnvID: strings.Repeat("+", 34)}, Rcpts: []Recipient{{To: good}}},
	} {
		if sent, err := c.Send(t.Context(), e, strings.NewReader("a\r\n")); errs.KindOf(err) != errs.Invalid || sent.Rcpts != nil || !c.Reusable() {
			t.Errorf("%s: %+v, %v", name, sent, err)
		}
	}
	e := Envelope{From: good, Rcpts: []Recipient{
		{To: mail.Address{Local: "a", Domain: "b>\r\nRCPT TO:<c@d"}},
		{To: mail.Address{}},
		{To: good, Options: RcptOptions{Notify: NotifyNever | NotifyDelay}},
		{To: good, Options: RcptOptions{OriginalType: "x;y", OriginalAddress: "z"}},
		{To: good, Options: RcptOptions{OriginalType: "rfc822", OriginalAddress: "a\x00b"}},
		{To: good, Options: RcptOptions{OriginalType: "rfc822", OriginalAddress: strings.Repeat("x", maxORCPT)}},
		{To: good, Options: RcptOptions{OriginalType: "utf-8"}},
	}}
	bad := strings.TrimSuffix(strings.Repeat(replyBadRcpt.String()+"; ", len(e.Rcpts)), "; ")
	if sent, err := c.Send(t.Context(), e, strings.NewReader("a\r\n")); err != nil || outcomes(sent) != bad {
		t.Errorf("%s, %v", outcomes(sent), err)
	}
	e.Rcpts = append(e.Rcpts, Recipient{To: good})
	if sent, err := c.Send(t.Context(), e, strings.NewReader("a\r\n")); err != nil || outcomes(sent) != bad+"; taken" {
		t.Errorf("%s, %v", outcomes(sent), err)
	}
	if m := f.taken(); len(m) != 1 || len(m[0].To) != 1 {
		t.Errorf("%+v", m)
	}
}

// TestClientManyRecipients: a group is never so long that both sides wait for each other.
func TestClientManyRecipients(t *testing.T) {
	f := &fake{}
	for road, o := range roads {
		c := mustConnect(t, start(t, Options{Backend: f, MaxRefused: 1 << 20}), o)
		for _, n := range []int{maxAhead - 2, maxAhead - 1, maxAhead, maxAhead + 1, 1000} {
			var to []string
			for i := range n {
				name := "b@example.org"
				if i%20 == 3 {
					name = "unknown@example.org"
				}
				to = append(to, name)
			}
			sent, err := c.Send(t.Context(), envelope(t, "a@example.org", to...), strings.NewReader("a\r\n"))
			if err != nil {
				t.Fatalf("%s, %d: %v", road, n, err)
			}
			for i, r := range sent.Rcpts {
				if (r != nil) != (i%20 == 3) {
					t.Errorf("%s, %d: recipient %d: %v", road, n, i, r)
				}
			}
			// Nobody at all: no mail is announced, however the groups fall.
			clear(to)
			for i := range to {
				to[i] = "unknown@example.org"
			}
			mails := len(f.taken())
			sent, err = c.Send(t.Context(), envelope(t, "a@example.org", to[:min(n, 90)]...), strings.NewReader("a\r\n"))
			if err != nil || slices.Contains(sent.Rcpts, nil) || len(f.taken()) != mails {
				t.Fatalf("%s, %d: %s, %v", road, n, outcomes(sent), err)
			}
		}
	}
}

// TestClientCanceled: the end of the context ends a Send that waits, at once.
func TestClientCanceled(t *testing.T) {
	for road, o := range roads {
		f := &fake{hold: make(chan struct{}), held: make(chan struct{})}
		c := mustConnect(t, start(t, Options{Backend: f}), o)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-f.held
			cancel()
		}()
		sent, err := c.Send(ctx, envelope(t, "a@example.org", "b@example.org", "unknown@example.org"), bytes.NewReader([]byte("a\r\n")))
		if errs.KindOf(err) != errs.Canceled || outcomes(sent) != "error: canceled; 550 5.1.1 no such user" || c.Reusable() || !sent.Unknown {
			t.Errorf("%s: %s, %v", road, outcomes(sent), err)
		}
		close(f.hold)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	conn, err := net.Dial("tcp", start(t, Options{Backend: &fake{}}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(ctx, conn, ClientOptions{}); errs.KindOf(err) != errs.Canceled {
		t.Errorf("canceled before: %v", err)
	}
}
