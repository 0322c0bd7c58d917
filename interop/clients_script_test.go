package interop

import (
	"os"
	"path/filepath"
	"testing"

	"postern.email/interop/mailclient"
)

// script runs one of testdata/clients, which says "done" at its end.
func script(t testing.TB, interpreter, name string, args ...string) {
	t.Helper()
	command(t, nil, interpreter, append([]string{filepath.Join("testdata", "clients", name)}, args...)...).want(t, 0, "done\n")
}

func TestImaplib(t *testing.T) {
	python := needTool(t, "python3")
	s := start(t)
	u := s.plainUser(t)
	_, port := hostPort(t, s.IMAPS)
	script(t, python, "imaplib_client.py", "localhost", port, s.TLSCert, u.addr, u.password)
}

func TestPoplib(t *testing.T) {
	python := needTool(t, "python3")
	s := start(t, noSendLimit...)
	u := s.plainUser(t)
	received(t, s, u, 6)
	_, tls := hostPort(t, s.POP3S)
	_, stls := hostPort(t, s.POP3)
	script(t, python, "poplib_client.py", "localhost", tls, stls, s.TLSCert, u.addr, u.password, "6")
}

func TestSmtplib(t *testing.T) {
	python := needTool(t, "python3")
	s := start(t)
	from, to := s.plainUser(t), s.plainUser(t)
	mail := mailclient.NewMaker(5).Mail(from.addr, 3000)
	_, tls := hostPort(t, s.Submissions)
	_, starttls := hostPort(t, s.Submission)
	script(t, python, "smtplib_client.py", "localhost", tls, starttls, s.TLSCert, from.addr, from.password, to.addr, mailFile(t, mail))
	if got := s.inbox(t, to); got[mailclient.BodyHash(mail)] != 1 || len(got) != 1 {
		t.Errorf("%d mails arrived, or not the one that was sent", len(got))
	}
}

// TestImapflow drives two sessions of npm's imapflow, one with QRESYNC.
func TestImapflow(t *testing.T) { imapflow(t, "plain") }

// TestImapflowCompressed does the same with COMPRESS=DEFLATE, which imapflow uses where it
// is offered.
func TestImapflowCompressed(t *testing.T) { imapflow(t, "compressed", "imap.imap_compress=yes") }

func imapflow(t *testing.T, form string, options ...string) {
	t.Helper()
	node := needTool(t, "node")
	if _, err := os.Stat(filepath.Join("node_modules", "imapflow")); err != nil {
		missing(t, "imapflow (npm ci in interop)")
	}
	s := start(t, options...)
	u := s.plainUser(t)
	_, port := hostPort(t, s.IMAPS)
	script(t, node, "imapflow.mjs", "localhost", port, s.TLSCert, u.addr, u.password, form)
}
