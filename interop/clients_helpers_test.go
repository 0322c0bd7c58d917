package interop

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// plainUser has a password that needs no quoting in anybody's configuration.
func (s *server) plainUser(t testing.TB) user {
	t.Helper()
	u := s.newUser()
	u.password = "pw-" + strings.SplitN(u.addr, "@", 2)[0] + "-0123456789"
	c, err := s.login(u)
	if err != nil {
		t.Fatal(err)
	}
	c.Logout()
	return u
}

// letters of flags as Maildir writes them, sorted.
func flagLetters(flags string) string {
	var out []string
	for name, letter := range map[string]string{`\Draft`: "D", `\Flagged`: "F", `\Answered`: "R", `\Seen`: "S", `\Deleted`: "T"} {
		if slices.Contains(strings.Fields(flags), name) {
			out = append(out, letter)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "")
}

// folderAt reads a folder at the server: each body with its flags.
func folderAt(t testing.TB, s *server, u user, folder string) map[mailclient.Hash]string {
	t.Helper()
	c := s.mustLogin(t, u)
	defer c.Logout()
	if _, err := c.Select(folder); err != nil {
		t.Fatal(err)
	}
	all := map[mailclient.Hash]string{}
	err := c.FetchAll("1:*", func(m mailclient.Message) {
		h := mailclient.BodyHash(m.Raw)
		if _, twice := all[h]; twice {
			t.Errorf("%s: a mail is there twice", folder)
		}
		all[h] = flagLetters(m.Flags)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// folderHere reads a Maildir in the same form.
func folderHere(t testing.TB, dir string) map[mailclient.Hash]string {
	t.Helper()
	all := map[mailclient.Hash]string{}
	for h, name := range nearSide(t, dir) {
		_, flags, _ := strings.Cut(name, ":2,")
		letters := strings.Split(flags, "")
		slices.Sort(letters)
		all[h] = strings.Join(letters, "")
	}
	return all
}

// equalFolders demands that both sides hold the same, and n mails.
func equalFolders(t testing.TB, when string, at, here map[mailclient.Hash]string, n int) {
	t.Helper()
	if len(at) != n || len(here) != n {
		t.Errorf("%s: %d mails at the server and %d here, want %d", when, len(at), len(here), n)
		return
	}
	for h, flags := range at {
		switch got, ok := here[h]; {
		case !ok:
			t.Errorf("%s: a mail is on one side only", when)
			return
		case got != flags:
			t.Errorf("%s: flags %q at the server, %q here", when, flags, got)
			return
		}
	}
}

// makeMaildir makes an empty Maildir.
func makeMaildir(t testing.TB, dir string) string {
	t.Helper()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fill appends n mails to a folder and gives their bodies.
func fill(t testing.TB, s *server, u user, folder, flags string, n int, maker *mailclient.Maker) []mailclient.Hash {
	t.Helper()
	c := s.mustLogin(t, u)
	defer c.Logout()
	var all []mailclient.Hash
	for range n {
		mail := maker.Mail(u.addr, 2000)
		if _, err := c.Append(folder, flags, mail); err != nil {
			t.Fatal(err)
		}
		all = append(all, mailclient.BodyHash(mail))
	}
	return all
}

// at runs IMAP commands in a folder, as another client of the user would.
func (s *server) at(t testing.TB, u user, folder string, commands ...string) {
	t.Helper()
	c := s.mustLogin(t, u)
	defer c.Logout()
	if folder != "" {
		if _, err := c.Select(folder); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range commands {
		if _, err := c.Cmd("%s", command); err != nil {
			t.Fatal(err)
		}
	}
}

// flagHere changes the flags of some mails of a Maildir, which a mail program
// does by renaming files; "" as flags removes the mail.
func flagHere(t testing.TB, dir string, n int, pick, flags string) {
	t.Helper()
	sub := filepath.Join(dir, "cur")
	files, err := os.ReadDir(sub)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name, have, _ := strings.Cut(f.Name(), ":2,")
		if n == 0 || have != pick {
			continue
		}
		n--
		old := filepath.Join(sub, f.Name())
		if flags == "" {
			err = os.Remove(old)
		} else {
			err = os.Rename(old, filepath.Join(sub, name+":2,"+flags))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n != 0 {
		t.Fatalf("%s lacks %d mails with flags %q", dir, n, pick)
	}
}

// config writes a configuration file in which {name} stands for values.
func config(t testing.TB, path, text string, values map[string]string) string {
	t.Helper()
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "{"+name+"}", value)
	}
	writeFile(t, path, strings.NewReplacer(pairs...).Replace(text))
	return path
}

// values are what configurations name most.
func (s *server) values(t testing.TB, u user, dir string) map[string]string {
	t.Helper()
	v := map[string]string{"dir": dir, "user": u.addr, "password": u.password, "cert": s.TLSCert, "domain": s.Domain}
	for name, addr := range map[string]string{"imaps": s.IMAPS, "imap": s.IMAP, "pop3s": s.POP3S, "pop3": s.POP3,
		"submissions": s.Submissions, "submission": s.Submission} {
		v["host"], v[name] = hostPort(t, addr)
	}
	return v
}

// received sends n mails to a user over SMTP and gives their bodies.
func received(t testing.TB, s *server, to user, n int) map[mailclient.Hash]bool {
	t.Helper()
	from := s.created(t, 1)[0]
	c := s.mustSubmit(t, from)
	maker := mailclient.NewMaker(uint64(len(to.addr)) + 77)
	all := map[mailclient.Hash]bool{}
	for range n {
		mail := maker.Mail(from.addr, 1500)
		if err := c.Send(from.addr, []string{to.addr}, mail); err != nil {
			t.Fatal(err)
		}
		all[mailclient.BodyHash(mail)] = true
	}
	return all
}

// gotAll demands that a Maildir holds exactly these bodies.
func gotAll(t testing.TB, what, dir string, want map[mailclient.Hash]bool) {
	t.Helper()
	got := folderHere(t, dir)
	missing := 0
	for h := range want {
		if _, ok := got[h]; !ok {
			missing++
		}
	}
	if missing > 0 || len(got) != len(want) {
		t.Errorf("%s: %d mails of %d are missing or altered, %d are there", what, missing, len(want), len(got))
	}
}

// left demands that a user's INBOX holds n mails.
func left(t testing.TB, s *server, u user, n int) {
	t.Helper()
	if got := s.inbox(t, u); len(got) != n {
		t.Errorf("%d mails are left at the server, want %d", len(got), n)
	}
}
