package relay

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"postern.email/kit/vfs"
)

// doors log in by each protocol.
func doors(s *Server) map[string]func(name, password string) error {
	return map[string]func(name, password string) error{
		"IMAP": func(name, password string) error { return login(s, name, password) },
		"SMTP": func(name, password string) error {
			c, err := submitter(s, name, password)
			if err == nil {
				c.Close()
			}
			return err
		},
		"POP3": func(name, password string) error {
			c, err := connect(s.Info().PrivatePOP3)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.line(); err != nil {
				return err
			}
			for _, cmd := range []string{"USER " + name, "PASS " + password, "QUIT"} {
				fmt.Fprintf(c, "%s\r\n", cmd)
				if l, err := c.line(); err != nil || !strings.HasPrefix(l, "+OK") {
					return fmt.Errorf("%s: %w", l, err)
				}
			}
			return nil
		},
	}
}

// TestEveryDoorMakesOrRefuses: an address can be made by a first login through each
// protocol; with the nocreate file there through none, at once and without a restart,
// while old logins go on through all; and it is over when the file is gone.
func TestEveryDoorMakesOrRefuses(t *testing.T) {
	fs := vfs.NewCrashDisk()
	s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "accounts.nocreate_file=/stop"))
	for name, try := range doors(s) {
		user := strings.ToLower(name) + "@example.org"
		allowed(t, try(user, annas))
		if err := vfs.WriteFileAtomic(fs, "/stop", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := try("new"+user, annas); err == nil {
			t.Errorf("%s: an address was made in spite of the nocreate file", name)
		}
		allowed(t, try(user, annas))
		if err := fs.Remove("/stop"); err != nil {
			t.Fatal(err)
		}
		allowed(t, try("new"+user, annas))
	}
}

// TestNothingOfTheClientIsLogged: what a client calls itself is in no line of the log,
// also at debug, and in no file.
func TestNothingOfTheClientIsLogged(t *testing.T) {
	const canary = "canary-of-ehlo.example"
	var log logText
	fs := vfs.NewCrashDisk()
	c := testConfig(t, "/data", "log.level=debug")
	s := begin(t, Deps{FS: fs, NoControl: true, Logger: Logger(&log, c, new(slog.LevelVar))}, c)
	cl, err := submitter(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	m, _ := sealedMail(anna, 1000)
	for _, hello := range []string{"EHLO " + canary, "HELO " + canary, "EHLO " + canary + " too many", "EHLO " + strings.Repeat(canary, 100)} {
		_, _ = cl.smtp("%s", hello)
	}
	other := mustDial(t, s.Info().PrivateSubmission) // the over-long line may have ended the first one
	for _, cmd := range []string{"", "EHLO " + canary, "AUTH PLAIN AGFubmFAZXhhbXBsZS5vcmcAd3Jvbmc=", "NONSENSE " + canary} {
		if _, err := other.smtp("%s", cmd); err != nil {
			t.Fatal(err)
		}
	}
	allowed(t, submits(s, m))
	cl2, err := submitter(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer cl2.Close()
	if _, err := cl2.smtp("EHLO " + canary); err != nil {
		t.Fatal(err)
	}
	allowed(t, cl2.send(anna, []string{anna}, m))
	if text := log.String(); text == "" || strings.Contains(text, "canary") {
		t.Errorf("the log:\n%s", text)
	}
	r, err := reader(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.imap("SELECT INBOX"); err != nil {
		t.Fatal(err)
	}
	got, err := r.imap("FETCH 1:* BODY[HEADER]")
	if err != nil || !strings.Contains(got, "Return-Path") || strings.Contains(got, "canary") || strings.Contains(got, "127.0.0.1") {
		t.Errorf("%s %v", got, err)
	}
}
