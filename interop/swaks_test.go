package interop

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// swaksArgs are what every run of swaks needs. It sends one mail and ends with
// the code of the stage that was refused.
func (s *server) swaksArgs(t testing.TB, u user, sec, mech string) []string {
	addr := s.Submissions
	args := []string{"--tls-on-connect"}
	if sec == "STARTTLS" {
		addr, args = s.Submission, []string{"--tls"}
	}
	host, port := hostPort(t, addr)
	return append(args, "--server", host, "--port", port, "--helo", "swaks.example", "--tls-ca-path", s.TLSCert,
		"--tls-verify", "--auth", mech, "--auth-user", u.addr, "--auth-password", u.password, "--from", u.addr)
}

// Exit codes of swaks 20201014: see its manual, EXIT CODES.
const (
	swaksOK   = 0
	swaksMail = 23
	swaksRcpt = 24
	swaksData = 26 // after the end of data
	swaksAuth = 28
)

// mailFile writes a mail where swaks can read it.
func mailFile(t testing.TB, raw []byte) string {
	path := filepath.Join(t.TempDir(), "mail.eml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// swaksFile is mailFile for swaks, which adds a line end of its own.
func swaksFile(t testing.TB, raw []byte) string {
	return mailFile(t, bytes.TrimSuffix(raw, []byte("\r\n")))
}

func TestSwaks(t *testing.T) {
	swaks := needTool(t, "swaks")
	s := start(t)
	users := s.created(t, 2)
	from, to := users[0], users[1]
	maker := mailclient.NewMaker(1)
	want := map[mailclient.Hash]int{}
	for _, sec := range []string{"TLS", "STARTTLS"} {
		for _, mech := range []string{"PLAIN", "LOGIN"} {
			t.Run(sec+" "+mech, func(t *testing.T) {
				mail := maker.Mail(from.addr, 3000)
				args := append(s.swaksArgs(t, from, sec, mech), "--to", to.addr, "--data", "@"+swaksFile(t, mail))
				command(t, nil, swaks, args...).want(t, swaksOK, "TLSv1.3", "<~  250 ")
				want[mailclient.BodyHash(mail)]++
			})
		}
	}
	got := s.inbox(t, to)
	for h := range want {
		if got[h] != 1 {
			t.Errorf("a mail that swaks handed over is there %d times", got[h])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d mails arrived, want %d", len(got), len(want))
	}
}

// TestSwaksRealMail sends what a real client encrypted (not made by our maker).
func TestSwaksRealMail(t *testing.T) {
	swaks := needTool(t, "swaks")
	samples, err := filepath.Glob("testdata/encrypted-*.eml")
	if err != nil || len(samples) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	s := start(t)
	users := s.created(t, 2)
	for _, sample := range samples {
		t.Run(filepath.Base(sample), func(t *testing.T) {
			raw, err := os.ReadFile(sample)
			if err != nil {
				t.Fatal(err)
			}
			mail := strings.ReplaceAll(string(raw), "sender@example.org", users[0].addr)
			args := append(s.swaksArgs(t, users[0], "TLS", "PLAIN"), "--to", users[1].addr, "--data", "@"+swaksFile(t, []byte(mail)))
			command(t, nil, swaks, args...).want(t, swaksOK, "<~  250 ")
		})
	}
	if got := s.inbox(t, users[1]); len(got) != len(samples) {
		t.Errorf("%d mails arrived, want %d", len(got), len(samples))
	}
}

func TestSwaksRefusals(t *testing.T) {
	swaks := needTool(t, "swaks")
	s := start(t)
	users := s.created(t, 2)
	me, other := users[0], users[1]
	sealed := func(from string) string { return swaksFile(t, mailclient.NewMaker(2).Mail(from, 3000)) }
	plain := swaksFile(t, []byte("From: <"+me.addr+">\r\nTo: <"+other.addr+">\r\nSubject: hello\r\n\r\nin the clear\r\n"))
	wrong := me
	wrong.password = "this is not the password"
	for _, c := range []struct {
		name string
		as   user
		args []string
		code int
		says string
	}{
		{"cleartext", me, []string{"--to", other.addr, "--data", "@" + plain}, swaksData, "523 Encryption Needed: Invalid Unencrypted Mail"},
		{"MAIL FROM another", me, []string{"--from", other.addr, "--to", other.addr, "--data", "@" + sealed(other.addr)}, swaksRcpt, "553 5.7.1"},
		{"From header another", me, []string{"--to", other.addr, "--data", "@" + sealed(other.addr)}, swaksData, "500 "},
		{"wrong password", wrong, []string{"--to", other.addr, "--data", "@" + sealed(me.addr)}, swaksAuth, "535 5.7.8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append(s.swaksArgs(t, c.as, "TLS", "PLAIN"), c.args...)
			command(t, nil, swaks, args...).want(t, c.code, "<~* "+c.says)
		})
	}
	t.Run("AUTH without TLS", func(t *testing.T) {
		host, port := hostPort(t, s.Submission)
		r := command(t, nil, swaks, "--server", host, "--port", port, "--auth", "PLAIN",
			"--auth-user", me.addr, "--auth-password", me.password, "--from", me.addr, "--to", other.addr)
		if r.code == swaksOK || strings.Contains(r.out, " 235 ") {
			t.Errorf("a password was taken in the clear\n%s", r.out)
		}
	})
	if got := s.inbox(t, other); len(got) != 0 {
		t.Errorf("%d refused mails arrived", len(got))
	}
}
