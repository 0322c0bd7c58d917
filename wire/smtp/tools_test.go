package smtp

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"postern.email/kit/tooltest"
)

// TestSMTPSource: Postfix's own load generator, several sessions, several mails and recipients each.
func TestSMTPSource(t *testing.T) {
	prog := tooltest.Tool(t, "smtp-source")
	f := &fake{}
	_, port, err := net.SplitHostPort(start(t, Options{Backend: f}))
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), prog, "-s", "4", "-m", "200", "-r", "3", "-l", "20000", "-d",
		"-f", "a@example.org", "-t", "b@example.org", "127.0.0.1:"+port).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mails := f.taken()
	if len(mails) != 200 {
		t.Fatalf("%d mails", len(mails))
	}
	for _, m := range mails {
		if len(m.To) != 3 || len(m.Raw) < 20_000 || !strings.HasSuffix(m.Raw, "\r\n") {
			t.Fatalf("%d recipients, %d bytes", len(m.To), len(m.Raw))
		}
	}
}

// TestPythonClient: smtplib over STARTTLS, both mechanisms, dots at the start of lines and
// UTF-8 addresses.
func TestPythonClient(t *testing.T) {
	prog := tooltest.Tool(t, "python3")
	server, _ := testTLS(t)
	f := &fake{}
	_, port, err := net.SplitHostPort(start(t, Options{Backend: f, TLS: server, OfferAuth: true, RequireAuth: true}))
	if err != nil {
		t.Fatal(err)
	}
	const script = `
import smtplib, ssl, sys
ctx = ssl.create_default_context(); ctx.check_hostname = False; ctx.verify_mode = ssl.CERT_NONE
for method in "PLAIN", "LOGIN":
    s = smtplib.SMTP("127.0.0.1", int(sys.argv[1]))
    s.starttls(context=ctx)
    s.ehlo()
    s.user, s.password = "anna", "secret"
    s.auth(method, getattr(s, "auth_" + method.lower()))
    s.sendmail("a@example.org", ["b@example.org"], b"Subject: x\r\n\r\n.\r\n..\r\n.a\r\n", mail_options=["BODY=8BITMIME", "RET=HDRS"], rcpt_options=["NOTIFY=NEVER"])
    s.sendmail("ü@example.org", ["ö@example.org"], b"Subject: x\r\n\r\nlast line", mail_options=["SMTPUTF8"])
    print(s.verify("anna")[0], s.noop()[0], s.rset()[0], s.quit()[0])
`
	out, err := exec.CommandContext(t.Context(), prog, "-c", script, port).CombinedOutput()
	if err != nil || string(out) != "252 250 250 221\n252 250 250 221\n" {
		t.Fatalf("%v: %s", err, out)
	}
	mails := f.taken()
	if len(mails) != 4 || mails[0].Raw != "Subject: x\r\n\r\n.\r\n..\r\n.a\r\n" || mails[1].From != "ü@example.org" ||
		mails[1].Raw != "Subject: x\r\n\r\nlast line\r\n" || mails[2].Rcpt[0].Notify != NotifyNever {
		t.Fatalf("%+v", mails)
	}
}
