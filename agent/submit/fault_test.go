package submit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern.email/kit/tooltest"
	"postern.email/kit/vfs"
)

// TestNeverAfterFailedSync: once a sync has failed every mail is refused for now, in
// words, and none is answered 250; what was acknowledged before can be read.
func TestNeverAfterFailedSync(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	var w *world
	w = openWorld(t, faults, "/data", func(o *Options) { o.Guard = func() error { return w.Store.Health() } })
	c, late := w.dial("anna"), w.dial("anna")
	if got := c.mail("anna", encrypted("anna", 1000), "anna"); got != "250 2.0.0 OK" {
		t.Fatal(got)
	}
	// One session is past MAIL when the disk breaks.
	late.cmd("MAIL FROM:<anna@mail.example>", "250 ")
	late.cmd("RCPT TO:<anna@mail.example>", "250 ")
	late.cmd("DATA", "354 ")
	faults.FailFrom(vfs.OpSync, 1, errors.New("the disk is gone"))
	late.cmd(encrypted("anna", 1000)+".", "451 4.3.0 ")
	for range 3 {
		c.cmd("MAIL FROM:<anna@mail.example>", "451 4.3.0 ")
	}
	if n := len(w.Inbox("anna")); n != 1 {
		t.Errorf("%d mails can be read", n)
	}
}

// TestDiskFull: with no space left mail is refused for now and nothing is damaged.
func TestDiskFull(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	w := openWorld(t, faults, "/data", nil)
	c := w.dial("anna")
	if got := c.mail("anna", encrypted("anna", 1000), "anna"); got != "250 2.0.0 OK" {
		t.Fatal(got)
	}
	faults.SetSpace(1000)
	for range 3 {
		if got := c.mail("anna", encrypted("anna", 200_000), "anna"); !strings.HasPrefix(got, "452 4.3.1") && !strings.HasPrefix(got, "451 ") {
			t.Errorf("%q", got)
		}
	}
	if n := len(w.Inbox("anna")); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// TestTogether: many sessions write to each other at once; every 250 is a mail, once.
func TestTogether(t *testing.T) {
	w := newWorld(t, nil)
	const users, mails = 8, 20
	var wg sync.WaitGroup
	for u := range users {
		w.Create(fmt.Sprintf("box%d", u), nil)
	}
	for u := range users {
		c := w.dial(fmt.Sprintf("user%d", u))
		wg.Go(func() {
			for i := range mails {
				raw := strings.Replace(encrypted(fmt.Sprintf("user%d", u), 800), "Message-ID: <x@", fmt.Sprintf("Message-ID: <%d.%d@", u, i), 1)
				io.WriteString(c.conn, fmt.Sprintf("MAIL FROM:<user%d@mail.example>\r\nRCPT TO:<box%d@mail.example>\r\nRCPT TO:<box%d@mail.example>\r\nDATA\r\n", u, u%users, (u+i)%users))
				for _, want := range []string{"250", "250", "250", "354"} {
					if r := c.reply(); r[:3] != want {
						t.Error(r)
						return
					}
				}
				io.WriteString(c.conn, raw+".\r\n")
				if r := c.reply(); r != "250 2.0.0 OK" {
					t.Error(r)
				}
			}
		})
	}
	wg.Wait()
	seen := make(map[string]int)
	for u := range users {
		for _, m := range w.Inbox(fmt.Sprintf("box%d", u)) {
			_, id, _ := strings.Cut(m, "Message-ID: <")
			id, _, _ = strings.Cut(id, "@")
			seen[fmt.Sprintf("%s to %d", id, u)]++
		}
	}
	for u := range users {
		for i := range mails {
			for _, to := range []int{u, (u + i) % users} {
				if n := seen[fmt.Sprintf("%d.%d to %d", u, i, to)]; n != 1 {
					t.Errorf("mail %d of %d came %d times to %d", i, u, n, to)
				}
			}
		}
	}
}

// TestSwaks: a client that nobody here wrote.
func TestSwaks(t *testing.T) {
	swaks := tooltest.Tool(t, "swaks")
	w := newWorld(t, nil)
	host, port, _ := strings.Cut(w.addr, ":")
	file := filepath.Join(t.TempDir(), "mail")
	if err := os.WriteFile(file, []byte(encrypted("anna", 3000)), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		args = append([]string{"--server", host, "--port", port, "--from", "anna@mail.example", "--data", "@" + file,
			"--auth-user", "anna@mail.example", "--auth-password", password, "--ehlo", "me.example"}, args...)
		out, _ := exec.CommandContext(t.Context(), swaks, args...).CombinedOutput()
		return string(out)
	}
	for _, auth := range []string{"PLAIN", "LOGIN"} {
		if out := run("--auth", auth, "--to", "anna@mail.example", "--pipeline"); !strings.Contains(out, "<-  250 2.0.0 OK") {
			t.Errorf("%s:\n%s", auth, out)
		}
	}
	if out := run("--auth", "PLAIN", "--to", "nobody@mail.example"); !strings.Contains(out, "<** 550 5.1.1 ") {
		t.Error(out)
	}
	if n := len(w.Inbox("anna")); n != 2 {
		t.Errorf("%d mails", n)
	}
}
