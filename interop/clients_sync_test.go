package interop

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// syncTool is a program that keeps a tree of Maildirs equal to an account.
type syncTool struct {
	run    func(t testing.TB)              // one run; it must succeed
	folder func(name string) string        // where a folder lies
	forget func(t testing.TB, name string) // makes it forget a folder that a person renames on both sides
}

// manyMails is how many mails a synchronising client carries.
func manyMails() int {
	if long() {
		return 10000
	}
	return 300
}

// synchronise carries mails, flags, deletions and folders both ways, each time
// twice: what is done must not be done again.
func synchronise(t *testing.T, s *server, u user, tool syncTool) {
	t.Helper()
	n, maker := manyMails(), mailclient.NewMaker(uint64(len(t.Name())))
	inbox, work := tool.folder("INBOX"), tool.folder("Work")
	s.at(t, u, "", "CREATE Work", "CREATE Work/Deep")
	fill(t, s, u, "INBOX", "", n/2, maker)
	fill(t, s, u, "Work", `\Seen`, 20, maker)
	fill(t, s, u, "Work/Deep", `\Flagged`, 5, maker)
	tool.run(t)
	for i := range n / 2 {
		mail := maker.Mail(u.addr, 2000)
		writeFile(t, filepath.Join(inbox, "cur", strconv.Itoa(i)+".made.here:2,FS"), string(mail))
	}
	whole := func(when string, inbox, work, deep int) {
		t.Helper()
		tool.run(t)
		for round, again := range []string{"", ", again"} {
			if round > 0 {
				runAgain(t, s, u, tool, when)
			}
			equalFolders(t, when+again+", INBOX", folderAt(t, s, u, "INBOX"), folderHere(t, tool.folder("INBOX")), inbox)
			equalFolders(t, when+again+", Work", folderAt(t, s, u, "Work"), folderHere(t, tool.folder("Work")), work)
			equalFolders(t, when+again+", Work/Deep", folderAt(t, s, u, "Work/Deep"), folderHere(t, tool.folder("Work/Deep")), deep)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	whole("new mails on both sides", n, 20, 5)

	s.at(t, u, "INBOX", `STORE 1:10 +FLAGS (\Answered \Seen)`, `STORE 11:15 +FLAGS.SILENT (\Flagged)`)
	flagHere(t, work, 7, "S", "FRS")
	whole("flags on both sides", n, 20, 5)

	s.at(t, u, "INBOX", `STORE 1:8 +FLAGS (\Deleted)`, "EXPUNGE")
	flagHere(t, work, 6, "S", "")
	whole("deletions on both sides", n-8, 14, 5)

	// A folder is renamed at the server.
	s.at(t, u, "", "RENAME Work/Deep Deeper")
	tool.forget(t, "Work/Deep")
	tool.run(t)
	tool.run(t)
	runAgain(t, s, u, tool, "renamed at the server")
	equalFolders(t, "renamed at the server", folderAt(t, s, u, "Deeper"), folderHere(t, tool.folder("Deeper")), 5)

	// A folder is renamed here: one side takes it as a new one with the same mails.
	if err := os.Rename(tool.folder("Deeper"), tool.folder("Deepest")); err != nil {
		t.Fatal(err)
	}
	s.at(t, u, "", "DELETE Deeper")
	tool.forget(t, "Deeper")
	tool.forget(t, "Deepest")
	tool.run(t)
	tool.run(t)
	runAgain(t, s, u, tool, "renamed here")
	equalFolders(t, "renamed here", folderAt(t, s, u, "Deepest"), folderHere(t, tool.folder("Deepest")), 5)
	equalFolders(t, "at the end, Work", folderAt(t, s, u, "Work"), folderHere(t, work), 14)
}

// runAgain runs the program when nothing is left to do, and demands that it changes nothing
// on either side.
func runAgain(t testing.TB, s *server, u user, tool syncTool, when string) {
	t.Helper()
	at, here := stateAt(t, s, u), stateHere(t, filepath.Dir(tool.folder("INBOX")))
	tool.run(t)
	if now := stateAt(t, s, u); now != at {
		t.Errorf("%s: the run again changed the server from\n%s\nto\n%s", when, at, now)
	}
	now := stateHere(t, filepath.Dir(tool.folder("INBOX")))
	changed := 0
	for name := range here {
		if !now[name] {
			changed++
		}
	}
	if changed > 0 || len(now) != len(here) {
		t.Errorf("%s: the run again changed %d of %d files here, %d are there now", when, changed, len(here), len(now))
	}
}

// stateAt gives what every change at the server would change: the counters of all folders.
func stateAt(t testing.TB, s *server, u user) string {
	t.Helper()
	c := s.mustLogin(t, u)
	defer c.Logout()
	answers, err := c.Cmd(`LIST "" "*" RETURN (SUBSCRIBED STATUS (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ))`)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range answers {
		all = append(all, r.Text)
	}
	if text := strings.Join(all, "\n"); strings.Contains(text, "HIGHESTMODSEQ") && strings.Contains(text, "LIST") {
		return text
	}
	t.Fatalf("LIST with STATUS says %q", all)
	return ""
}

// stateHere gives the names of all mails in all folders, flags included.
func stateHere(t testing.TB, root string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if parent := filepath.Base(filepath.Dir(path)); err == nil && !d.IsDir() && (parent == "cur" || parent == "new") {
			all[path] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatalf("no mails in %s", root)
	}
	return all
}

func TestOfflineIMAP(t *testing.T) {
	offlineimap := needTool(t, "offlineimap")
	s := start(t)
	u, dir := s.plainUser(t), t.TempDir()
	rc := config(t, filepath.Join(dir, "rc"), `[general]
accounts = one
metadata = {dir}/meta
ui = quiet
socktimeout = 60
[Account one]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {dir}/mail
sync_deletes = yes
[Repository far]
type = IMAP
remotehost = localhost
remoteport = {imaps}
remoteuser = {user}
remotepass = {password}
ssl = yes
sslcacertfile = {cert}
auth_mechanisms = PLAIN
maxconnections = 2
`, s.values(t, u, dir))
	near := filepath.Join(dir, "mail")
	makeMaildir(t, near)
	folder := func(name string) string { return filepath.Join(near, filepathDots(name)) }
	synchronise(t, s, u, syncTool{
		run: func(t testing.TB) {
			t.Helper()
			command(t, []string{"HOME=" + dir}, offlineimap, "-c", rc, "-o").want(t, 0)
		},
		folder: folder,
		forget: func(t testing.TB, name string) {
			t.Helper()
			for _, old := range []string{
				folder(name), filepath.Join(dir, "meta", "Account-one", "LocalStatus-sqlite", filepathDots(name)),
				filepath.Join(dir, "meta", "Repository-near", "FolderValidity", filepathDots(name)),
				filepath.Join(dir, "meta", "Repository-far", "FolderValidity", filepathDots(name)),
			} {
				if old == folder("Deepest") {
					continue
				}
				if err := os.RemoveAll(old); err != nil {
					t.Fatal(err)
				}
			}
		},
	})
}

// filepathDots is how OfflineIMAP writes folders in folders.
func filepathDots(name string) string {
	out := []rune(name)
	for i, r := range out {
		if r == '/' {
			out[i] = '.'
		}
	}
	return string(out)
}

func TestMbsyncFolders(t *testing.T) {
	mbsync := needTool(t, "mbsync")
	s := start(t)
	u, dir := s.plainUser(t), t.TempDir()
	near := filepath.Join(dir, "mail")
	if err := os.Mkdir(near, 0o700); err != nil {
		t.Fatal(err)
	}
	rc := config(t, filepath.Join(dir, "rc"), `IMAPAccount far
Host localhost
Port {imaps}
User {user}
Pass {password}
SSLType IMAPS
CertificateFile {cert}

IMAPStore far
Account far

MaildirStore near
Path {dir}/mail/
Inbox {dir}/mail/INBOX
SubFolders Verbatim

Channel both
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
`, s.values(t, u, dir))
	folder := func(name string) string { return filepath.Join(near, name) }
	synchronise(t, s, u, syncTool{
		run: func(t testing.TB) {
			t.Helper()
			command(t, []string{"HOME=" + dir}, mbsync, "--config", rc, "both").want(t, 0)
		},
		folder: folder,
		forget: func(t testing.TB, name string) {
			t.Helper()
			if name != "Deepest" {
				if err := os.RemoveAll(folder(name)); err != nil {
					t.Fatal(err)
				}
				return
			}
			for _, state := range []string{".mbsyncstate", ".uidvalidity"} {
				if err := os.RemoveAll(filepath.Join(folder(name), state)); err != nil {
					t.Fatal(err)
				}
			}
		},
	})
}
