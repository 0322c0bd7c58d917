package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// readyWithin is what the README promises; it is reported here, because a
// machine that builds three other things at once is no measure.
const readyWithin = 3 * time.Second

// TestUpTwice: the second program on one directory says who holds it and
// changes nothing; after the first has ended, the same data goes on.
func TestUpTwice(t *testing.T) {
	s := start(t)
	t.Logf("first start ready after %v (promised: %v)", s.took.Round(time.Millisecond), readyWithin)
	u := s.created(t, 1)[0]
	mail := mailclient.NewMaker(6).Mail(u.addr, 4000)
	if err := s.mustSubmit(t, u).Send(u.addr, []string{u.addr}, mail); err != nil {
		t.Fatal(err)
	}
	cert, err := os.ReadFile(s.TLSCert)
	if err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(binary(t), "up", "--dir", s.dir, "--ports", "0", "--json")
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	out, err := cmd.CombinedOutput()
	timer.Stop()
	if err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("a second program on one directory ended with %v, want exit code 1\n%s", err, out)
	}
	for _, want := range []string{s.dir, itoa(s.cmd.Process.Pid)} { // which directory, and who
		if !strings.Contains(string(out), want) {
			t.Errorf("the second program does not name %q:\n%s", want, out)
		}
	}
	if got := s.inbox(t, u); got[mailclient.BodyHash(mail)] != 1 {
		t.Error("the first program lost a mail to the second")
	}

	if code := s.stop(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	s.run(t)
	t.Logf("second start ready after %v", s.took.Round(time.Millisecond))
	if got := s.inbox(t, u); got[mailclient.BodyHash(mail)] != 1 {
		t.Error("the mail is not there after a clean restart")
	}
	again, err := os.ReadFile(s.TLSCert)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(cert) {
		t.Error("the restart made a new certificate: clients that pinned it are lost")
	}
	if filepath.Clean(s.Dir) != filepath.Clean(s.dir) {
		t.Errorf("it says dir %q, want %q", s.Dir, s.dir)
	}
}

// TestReadyMeansReady: every address in the ready line answers at once.
func TestReadyMeansReady(t *testing.T) {
	s := start(t)
	u := s.newUser()
	for name, err := range map[string]error{
		"imaps":       login(s, s.IMAPS, mailclient.TLS, u),
		"imap":        login(s, s.IMAP, mailclient.STARTTLS, u),
		"submissions": submit(s, s.Submissions, mailclient.TLS, u),
		"submission":  submit(s, s.Submission, mailclient.STARTTLS, u),
		"https imap":  login(s, s.HTTPS, mailclient.TLS, u, "imap"),
		"https smtp":  submit(s, s.HTTPS, mailclient.TLS, u, "smtp"),
		"smtp":        dialOnly(s, s.SMTP),
		"pop3s":       pop(s, s.POP3S, mailclient.TLS, u),
		"pop3":        pop(s, s.POP3, mailclient.STARTTLS, u),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The password must not cross the ports in the clear.
	if err := login(s, s.IMAP, mailclient.Plain, u); err == nil {
		t.Error("imap takes a password without TLS")
	}
	if err := submit(s, s.Submission, mailclient.Plain, u); err == nil {
		t.Error("submission takes a password without TLS")
	}
	if err := pop(s, s.POP3, mailclient.Plain, u); err == nil {
		t.Error("pop3 takes a password without TLS")
	}
}
