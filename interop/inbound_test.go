package interop

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/smtp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/wire/dns/dnstest"
)

// signedMails are mails that other programs signed, with their keys.
const signedMails = "../mail/dkim/testdata"

// newKeyServer is a DNS server that knows the keys of the signed mails.
func newKeyServer(t testing.TB) *dnstest.Server {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(signedMails, "keys.txt"))
	if err != nil {
		t.Fatal(err)
	}
	s := dnstest.New(t)
	for line := range strings.Lines(string(text)) {
		name, txt, _ := strings.Cut(strings.TrimSpace(line), "\t")
		s.AddTXT(t, name, txt)
	}
	return s
}

func signedMail(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(signedMails, name+".eml"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// inboundArgs are what swaks needs to be another mail server.
func (s *server) inboundArgs(t testing.TB, to user, raw []byte) []string {
	host, port := hostPort(t, s.SMTP)
	return []string{"--tls", "--server", host, "--port", port, "--helo", "mx.remote.example", "--tls-ca-path", s.TLSCert, "--tls-verify",
		"--from", "alice@remote.example", "--to", to.addr, "--data", "@" + swaksFile(t, raw)}
}

// mails gives all of a user's INBOX.
func (s *server) mails(t testing.TB, u user) []string {
	t.Helper()
	all, err := s.tryMails(u)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// set changes an account as the operator does.
func (s *server) set(t testing.TB, args ...string) {
	t.Helper()
	command(t, nil, binary(t), append(append([]string{"account"}, args...), "--dir", s.dir)...).want(t, 0)
}

// TestInbound: mails that OpenDKIM and mailauth signed come in over STARTTLS; every
// other mail is refused with the words of the reference.
func TestInbound(t *testing.T) {
	swaks := needTool(t, "swaks")
	keys := newKeyServer(t)
	s := start(t, "network.resolver="+keys.Addr, "mail.max_message_size=100K")
	users := s.created(t, 3)
	me, open, blocked := users[0], users[1], users[2]
	s.set(t, "set", open.addr, "accept-cleartext", "on")
	s.set(t, "block", blocked.addr)
	nobody := user{addr: "nobody@" + s.Domain}

	taken := []string{"opendkim-relaxed-relaxed-enc", "opendkim-relaxed-simple-enc", "opendkim-simple-simple-enc", "mailauth-rsa-relaxed-relaxed-enc",
		"mailauth-ed25519-enc", "mailauth-both-enc", "mailauth-list-enc"}
	for _, name := range taken {
		command(t, nil, swaks, s.inboundArgs(t, me, signedMail(t, name))...).want(t, swaksOK, "<~  250 ")
	}
	inbox := s.mails(t, me)
	if len(inbox) != len(taken) {
		t.Errorf("%d mails arrived, want %d", len(inbox), len(taken))
	}
	for _, m := range inbox {
		if !strings.HasPrefix(m, "Return-Path: <alice@remote.example>\r\n") || strings.Contains(m, "DKIM-Signature") {
			t.Errorf("header as delivered:\n%.400s", m)
		}
	}

	signed := signedMail(t, "opendkim-relaxed-relaxed-enc")
	_, bare, _ := bytes.Cut(signed, []byte("MIME-Version"))
	bare = append([]byte("MIME-Version"), bare...)
	plain := signedMail(t, "mailauth-both-plain")
	with := func(raw []byte, old, new string) []byte {
		if !bytes.Contains(raw, []byte(old)) {
			t.Fatalf("the mail holds no %q", old)
		}
		return bytes.Replace(raw, []byte(old), []byte(new), 1)
	}
	for _, c := range []struct {
		name string
		to   user
		raw  []byte
		code int
		says string
	}{
		{"unknown recipient", nobody, signed, swaksRcpt, "550 5.1.1 "},
		{"blocked recipient", blocked, signed, swaksRcpt, "550 5.2.1 "},
		{"another domain", user{addr: "x@remote.example"}, signed, swaksRcpt, "554 5.7.1 Relay access denied"},
		{"not signed", me, bare, swaksData, "554 5.7.1 No DKIM signature found"},
		{"changed", me, with(signed, "Subject: [...]", "Subject: [..]"), swaksData, "554 5.7.1 No valid DKIM signature found"},
		{"signed by another domain", me, signedMail(t, "mailauth-foreign-enc"), swaksData, "554 5.7.1 No valid DKIM signature found"},
		{"SHA-1", me, signedMail(t, "opendkim-sha1-enc"), swaksData, "554 5.7.1 No valid DKIM signature found"},
		{"l=", me, signedMail(t, "mailauth-length-enc"), swaksData, "554 5.7.1 No valid DKIM signature found"},
		{"From an IP literal", me, with(signed, "alice@remote.example", "alice@[192.0.2.1]"), swaksData, "554 5.7.1 No valid DKIM signature found"},
		{"cleartext", me, plain, swaksData, "523 Encryption Needed: Invalid Unencrypted Mail"},
		{"cleartext, not signed, to one who takes it", open, []byte("From: <alice@remote.example>\r\n\r\nhello\r\n"), swaksData, "554 5.7.1 No DKIM signature found"},
		{"two From", me, append([]byte("From: <eve@remote.example>\r\n"), signed...), swaksData, "500 Invalid FROM header: "},
		{"no From", me, with(signed, "\nFrom:", "\nX-From:"), swaksData, "500 Invalid FROM header: "},
		{"no header", me, []byte("hello\r\n\r\nhello\r\n"), swaksData, "500 Failed to parse message: "},
		{"not UTF-8", me, []byte("From: <alice@remote.example>\r\n\r\n\xe4\r\n"), swaksData, "554 Non-UTF-8 message"},
		{"too large", me, append(bytes.Clone(signed), bytes.Repeat([]byte("0123456789\r\n"), 10_000)...), swaksData, "552 5.3.4 Message exceeds maximum size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			command(t, nil, swaks, s.inboundArgs(t, c.to, c.raw)...).want(t, c.code, c.says)
		})
	}
	t.Run("without TLS", func(t *testing.T) {
		command(t, nil, swaks, append(s.inboundArgs(t, me, signed)[1:], "--no-tls")...).want(t, swaksMail, "530 5.7.0 Must issue a STARTTLS command first")
	})
	t.Run("the key cannot be looked up", func(t *testing.T) {
		keys.Fail("", "", dnstest.ServFail)
		defer keys.Fail("", "", dnstest.None)
		raw := signedMail(t, "mailauth-rsa-simple-simple-enc") // its selector was asked before:
		raw = with(raw, "s=ma2048", "s=other")                 // so another one
		command(t, nil, swaks, s.inboundArgs(t, me, raw)...).want(t, swaksData, "451 4.7.5 ")
	})
	if got := s.mails(t, me); len(got) != len(taken) {
		t.Errorf("refused mails arrived: %d, want %d", len(got), len(taken))
	}

	t.Run("cleartext to one who takes it", func(t *testing.T) {
		command(t, nil, swaks, append(s.inboundArgs(t, open, plain), "--from", "bounces@elsewhere.example")...).want(t, swaksOK, "<~  250 ")
		got := s.mails(t, open)
		if len(got) != 1 || !strings.HasPrefix(got[0], "Return-Path: <>\r\n") || !strings.Contains(got[0], "A line  with   runs") {
			t.Errorf("%q", got)
		}
		both := append(s.inboundArgs(t, open, plain), "--to", open.addr+","+me.addr)
		command(t, nil, swaks, both...).want(t, swaksData, "523 Encryption Needed: Invalid Unencrypted Mail")
	})
	if a, b := len(s.mails(t, me)), len(s.mails(t, open)); a != len(taken) || b != 1 {
		t.Errorf("%d and %d mails, want %d and 1", a, b, len(taken))
	}
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := smtp.Dial(s.SMTP)
		if err != nil {
			t.Fatal(err)
		}
		err = c.StartTLS(&tls.Config{RootCAs: s.pool, ServerName: s.Domain, MinVersion: version, MaxVersion: version})
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		c.Close()
	}
}

// httpClient asks a relay over HTTPS, until the test ends.
func (s *server) httpClient(t testing.TB) *http.Client {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool, ServerName: s.Domain}, ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// poster gives a function that sends a mail over HTTPS as another relay does.
func (s *server) poster(t testing.TB) func(method, from string, raw []byte, to ...string) (int, string) {
	client := s.httpClient(t)
	return func(method, from string, raw []byte, to ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.HTTPS+"/mxdeliv", bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if from != "" {
			req.Header.Set("X-MAIL-FROM", from)
		}
		for _, a := range to {
			req.Header.Add("X-MAIL-TO", a)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, strings.TrimSpace(string(text))
	}
}

// TestInboundHTTPS: the same policy behind POST /mxdeliv.
func TestInboundHTTPS(t *testing.T) {
	keys := newKeyServer(t)
	s := start(t, "network.resolver="+keys.Addr)
	users := s.created(t, 2)
	signed := signedMail(t, "mailauth-both-enc")
	post := s.poster(t)
	large := append(bytes.Clone(signed), bytes.Repeat([]byte(strings.Repeat("0", 98)+"\r\n"), 20_000)...)
	for _, c := range []struct {
		name, method, from string
		raw                []byte
		to                 []string
		status             int
		says               string
	}{
		{"taken", "POST", "alice@remote.example", signed, []string{users[0].addr, users[1].addr}, 200, "250 2.0.0 OK"},
		{"sent again", "POST", "alice@remote.example", signed, []string{users[0].addr}, 200, "250 2.0.0 OK"}, // and stored once, see below
		{"null sender", "POST", "", signedMail(t, "mailauth-ed25519-enc"), []string{users[0].addr}, 200, "250 2.0.0 OK"},
		{"GET", "GET", "", nil, nil, 405, "502 "},
		{"no recipient", "POST", "", signed, nil, 400, "503 5.5.1 "},
		{"unknown", "POST", "", signed, []string{"nobody@" + s.Domain}, 400, "550 5.1.1 "},
		{"one unknown", "POST", "", signed, []string{users[0].addr, "nobody@" + s.Domain}, 503, "451 4.5.3 "},
		{"another domain", "POST", "", signed, []string{"x@remote.example"}, 400, "554 5.7.1 Relay access denied"},
		{"bare LF", "POST", "", bytes.ReplaceAll(signed, []byte("\r\n"), []byte("\n")), []string{users[0].addr}, 400, "500 Invalid DATA"},
		{"over a megabyte is read", "POST", "", large, []string{users[0].addr}, 400, "523 Encryption Needed: Invalid Unencrypted Mail"},
		{"too large", "POST", "", bytes.Repeat(large, 20), []string{users[0].addr}, 413, "552 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text := post(c.method, c.from, c.raw, c.to...)
			if status != c.status || !strings.HasPrefix(text, c.says) {
				t.Errorf("%d %q, want %d %q", status, text, c.status, c.says)
			}
		})
	}
	for i, want := range []string{"Return-Path: <alice@remote.example>", "Return-Path: <>"} {
		got := s.mails(t, users[0])
		if len(got) != 2 || !strings.HasPrefix(got[i], want) {
			t.Errorf("%d mails; %.60q", len(got), got)
		}
	}
	if got := s.mails(t, users[1]); len(got) != 1 {
		t.Errorf("%d mails", len(got))
	}
}
