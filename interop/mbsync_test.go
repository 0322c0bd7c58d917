package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// TestMbsync lets isync carry 1,000 mails each way, changes flags on both
// sides, and runs it again: the last run must change nothing on either side.
func TestMbsync(t *testing.T) {
	mbsync := needTool(t, "mbsync")
	s := start(t)
	u := s.created(t, 1)[0]
	const n = 1000
	maker := mailclient.NewMaker(4)
	c := s.mustLogin(t, u)
	want := map[mailclient.Hash]bool{}
	for range n {
		mail := maker.Mail(u.addr, 2500)
		if _, err := c.Append("INBOX", `\Seen`, mail); err != nil {
			t.Fatal(err)
		}
		want[mailclient.BodyHash(mail)] = true
	}
	dir := t.TempDir()
	box := filepath.Join(dir, "mail", "INBOX")
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(box, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		mail := maker.Mail(u.addr, 2500)
		writeFile(t, filepath.Join(box, "cur", fmt.Sprintf("%d.local:2,FS", i)), string(mail))
		want[mailclient.BodyHash(mail)] = true
	}
	host, port := hostPort(t, s.IMAPS)
	config := filepath.Join(dir, "mbsyncrc")
	writeFile(t, config, fmt.Sprintf(`IMAPAccount far
Host %s
Port %s
User %s
PassCmd "cat %s"
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account far

MaildirStore near
Path %s/
Inbox %s
SubFolders Verbatim

Channel both
Far :far:
Near :near:
Patterns INBOX
Create Both
Expunge Both
SyncState *
`, host, port, u.addr, filepath.Join(dir, "password"), s.TLSCert, filepath.Join(dir, "mail"), box))
	writeFile(t, filepath.Join(dir, "password"), u.password+"\n")
	sync := func() {
		t.Helper()
		command(t, []string{"HOME=" + dir}, mbsync, "--config", config, "both").want(t, 0)
	}
	sync()
	far, near := farSide(t, s, u), nearSide(t, box)
	check := func(when string) {
		t.Helper()
		if len(far) != 2*n || len(near) != 2*n {
			t.Fatalf("%s: %d mails at the server and %d here, want %d", when, len(far), len(near), 2*n)
		}
		for h := range want {
			if far[h] == "" || near[h] == "" {
				t.Fatalf("%s: a mail is missing or altered on one side", when)
			}
		}
	}
	check("first run")
	sync()
	far2, near2 := farSide(t, s, u), nearSide(t, box)
	same(t, "server", far, far2)
	same(t, "Maildir", near, near2)

	// Flags travel too.
	if _, err := c.Select("INBOX"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cmd(`UID STORE 1:10 +FLAGS (\Answered)`); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cmd(`UID STORE 11:15 +FLAGS (\Deleted)`); err != nil {
		t.Fatal(err)
	}
	sync()
	near = nearSide(t, box)
	answered := 0
	for _, v := range near {
		if strings.Contains(v, "R") {
			answered++
		}
	}
	if answered != 10 || len(near) != 2*n-5 {
		t.Errorf("after changes at the server: %d answered and %d mails here, want 10 and %d", answered, len(near), 2*n-5)
	}
}

// farSide maps each body at the server to its UID and flags.
func farSide(t testing.TB, s *server, u user) map[mailclient.Hash]string {
	t.Helper()
	c := s.mustLogin(t, u)
	if _, err := c.Select("INBOX"); err != nil {
		t.Fatal(err)
	}
	all := map[mailclient.Hash]string{}
	err := c.FetchAll("1:*", func(m mailclient.Message) {
		flags := strings.Fields(strings.ReplaceAll(m.Flags, `\Recent`, ""))
		slices.Sort(flags)
		all[mailclient.BodyHash(m.Raw)] = fmt.Sprint(m.UID, flags)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// nearSide maps each body of a Maildir to its file name, flags included.
func nearSide(t testing.TB, box string) map[mailclient.Hash]string {
	t.Helper()
	all := map[mailclient.Hash]string{}
	for _, sub := range []string{"cur", "new"} {
		files, err := os.ReadDir(filepath.Join(box, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(filepath.Join(box, sub, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			raw = []byte(strings.ReplaceAll(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n", "\r\n"))
			all[mailclient.BodyHash(raw)] = sub + "/" + f.Name()
		}
	}
	return all
}

func same(t testing.TB, what string, a, b map[mailclient.Hash]string) {
	t.Helper()
	changed := len(b) - len(a)
	for h, v := range a {
		if b[h] != v {
			changed++
		}
	}
	if changed != 0 {
		t.Errorf("%s: the second run changed %d mails", what, changed)
	}
}
