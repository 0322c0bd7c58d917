package interop

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// screen is a program in a terminal of tmux.
type screen struct {
	t    testing.TB
	tmux string
	sock string
}

// open starts a program in a terminal of 120 by 40 characters.
func open(t testing.TB, dir string, env []string, name string, args ...string) *screen {
	t.Helper()
	s := &screen{t, needTool(t, "tmux"), filepath.Join(dir, "tmux")}
	quoted := []string{}
	for _, word := range append([]string{name}, args...) {
		quoted = append(quoted, "'"+strings.ReplaceAll(word, "'", `'\''`)+"'")
	}
	run := []string{"-S", s.sock, "-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40"}
	for _, e := range env {
		run = append(run, "-e", e)
	}
	// What the program says at its end stays to be read.
	command(t, append(env, "TERM=xterm"), s.tmux, append(run, strings.Join(quoted, " ")+"; cat")...).want(t, 0)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen:\n%s", s.text())
		}
		_ = exec.Command(s.tmux, "-S", s.sock, "kill-server").Run()
	})
	return s
}

func (s *screen) text() string {
	out, err := exec.Command(s.tmux, "-S", s.sock, "capture-pane", "-p").CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// keys presses keys by tmux's names ("Enter"), text is typed.
func (s *screen) keys(names ...string) {
	s.t.Helper()
	command(s.t, nil, s.tmux, append([]string{"-S", s.sock, "send-keys"}, names...)...).want(s.t, 0)
}

func (s *screen) typed(text string) {
	s.t.Helper()
	command(s.t, nil, s.tmux, "-S", s.sock, "send-keys", "-l", text).want(s.t, 0)
}

// shows waits until the screen shows all texts.
func (s *screen) shows(texts ...string) {
	s.t.Helper()
	eventually(s.t, patience, func() error {
		seen := s.text()
		for _, text := range texts {
			if !strings.Contains(seen, text) {
				return fmt.Errorf("the screen does not show %q:\n%s", text, seen)
			}
		}
		return nil
	})
}

// hides waits until the screen does not show a text.
func (s *screen) hides(text string) {
	s.t.Helper()
	eventually(s.t, patience, func() error {
		if seen := s.text(); strings.Contains(seen, text) {
			return fmt.Errorf("the screen shows %q:\n%s", text, seen)
		}
		return nil
	})
}

// letters puts some mails in the clear into a user's INBOX.
func letters(t testing.TB, s *server, u user, subjects ...string) {
	t.Helper()
	c := s.mustLogin(t, u)
	defer c.Logout()
	for _, subject := range subjects {
		mail := "From: Some One <someone@example.org>\r\nTo: <" + u.addr + ">\r\nSubject: " + subject +
			"\r\nDate: Thu, 19 Nov 2026 08:01:02 +0000\r\nMessage-ID: <" + url.PathEscape(subject) + "@example.org>\r\n" +
			"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThis is the text of " + subject + ".\r\n"
		if _, err := c.Append("INBOX", "", []byte(mail)); err != nil {
			t.Fatal(err)
		}
	}
}

// subjects gives the subjects and flags of a folder at the server.
func subjects(t testing.TB, s *server, u user, folder string) string {
	t.Helper()
	c := s.mustLogin(t, u)
	defer c.Logout()
	if _, err := c.Select(folder); err != nil {
		return err.Error()
	}
	var all []string
	err := c.FetchAll("1:*", func(m mailclient.Message) {
		_, rest, _ := strings.Cut("\n"+string(m.Raw), "\nSubject: ")
		subject, _, _ := strings.Cut(rest, "\r\n")
		all = append(all, subject+" "+flagLetters(m.Flags))
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, "; ")
}

// becomes waits until a folder at the server is so.
func becomes(t testing.TB, s *server, u user, folder, want string) {
	t.Helper()
	eventually(t, patience, func() error {
		if got := subjects(t, s, u, folder); got != want {
			return fmt.Errorf("%s holds %q, want %q", folder, got, want)
		}
		return nil
	})
}

// gpgKeys makes a key ring with a key for each address.
func gpgKeys(t testing.TB, addrs ...string) (home string) {
	t.Helper()
	gpg := needTool(t, "gpg")
	home, err := os.MkdirTemp("", "gpg") // short: the agent's socket lies in it
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"GNUPGHOME=" + home}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), env...)
		_ = cmd.Run()
		os.RemoveAll(home)
	})
	for _, addr := range addrs {
		command(t, env, gpg, "--batch", "--passphrase", "", "--quick-gen-key", "<"+addr+">", "future-default", "default", "never").want(t, 0)
	}
	return home
}

func TestNeomutt(t *testing.T) {
	neomutt := needTool(t, "neomutt")
	s := start(t)
	u, other, dir := s.plainUser(t), s.plainUser(t), t.TempDir()
	gnupg := gpgKeys(t, u.addr, other.addr)
	values := s.values(t, u, dir)
	values["userinfo"] = url.QueryEscape(u.addr)
	rc := config(t, filepath.Join(dir, "rc"), `set folder="imaps://localhost:{imaps}/" spoolfile="+INBOX" record="+Sent" postponed="+Drafts"
set imap_user="{user}" imap_pass="{password}" imap_idle=yes imap_condstore=yes imap_qresync=yes
set smtp_url="smtps://{userinfo}@localhost:{submissions}/" smtp_pass="{password}"
set certificate_file="{cert}" ssl_force_tls=yes
set from="{user}" realname="" use_from=yes envelope_from=yes
set header_cache="{dir}/cache" message_cachedir="{dir}/cache"
set confirmappend=no delete=yes mail_check=1 timeout=1 wait_key=no sleep_time=0 sort=mailbox-order quit=yes
set crypt_use_gpgme=yes pgp_default_key="{user}" pgp_self_encrypt=yes crypt_verify_sig=no crypt_protected_headers_write=yes
set editor="sh {dir}/editor %s" edit_headers=no autoedit=no fast_reply=no abort_noattach=no
set index_format="%C %S%t %s"
`, values)
	env := []string{"HOME=" + dir, "GNUPGHOME=" + gnupg, "LC_ALL=C.UTF-8"}
	letters(t, s, u, "alpha", "beta", "gamma")
	scr := open(t, dir, env, neomutt, "-n", "-F", rc)
	scr.shows("alpha", "beta", "gamma")
	scr.keys("=") // the first
	scr.keys("Enter")
	scr.shows("This is the text of alpha.")
	scr.keys("q")
	scr.shows("gamma")
	scr.keys("=", "F", "$")
	becomes(t, s, u, "INBOX", "alpha FS; beta ; gamma ")
	letters(t, s, u, "delta")
	scr.shows("delta") // by IDLE
	s.at(t, u, "INBOX", `STORE 3 +FLAGS (\Deleted)`, "EXPUNGE")
	scr.hides("gamma")
	scr.keys("=", "j", "s")
	scr.shows("Save to mailbox")
	scr.keys("C-u")
	scr.typed("=Archive")
	scr.keys("Enter")
	scr.shows("reate") // Create imaps://…?
	scr.keys("y")
	scr.keys("$")
	becomes(t, s, u, "Archive", "beta ")
	becomes(t, s, u, "INBOX", "alpha FS; delta ")
	scr.keys("l")
	scr.shows("Limit to messages")
	scr.typed("=b 'text of delta'") // searched at the server
	scr.keys("Enter")
	scr.hides("alpha")
	scr.shows("delta")
	scr.keys("q")

	// What is sent in the clear is refused; what gpg encrypts arrives, also at home.
	command(t, env, "sh", "-c", `echo hello | "$0" -n -F "$1" -e "set record=''" -s "a subject" -- "$2"`, neomutt, rc, other.addr).want(t, 1, "523")
	writeFile(t, filepath.Join(dir, "editor"), "echo 'a secret word' >> \"$1\"\n")
	scr = open(t, t.TempDir(), env, neomutt, "-n", "-F", rc)
	scr.shows("delta")
	scr.keys("m")
	scr.shows("To:")
	scr.typed(other.addr)
	scr.keys("Enter")
	scr.shows("Subject:")
	scr.typed("a subject")
	scr.keys("Enter")
	scr.shows("y:Send", "a subject")
	scr.keys("p")
	scr.shows("(e)ncrypt")
	scr.keys("e", "y")
	becomes(t, s, u, "Sent", "... S")
	becomes(t, s, other, "INBOX", "[...] ")
	values["user"], values["password"], values["userinfo"] = other.addr, other.password, url.QueryEscape(other.addr)
	scr.keys("q")
	text, err := os.ReadFile(rc)
	if err != nil {
		t.Fatal(err)
	}
	second := t.TempDir()
	writeFile(t, filepath.Join(second, "rc"), strings.NewReplacer(u.addr, other.addr, u.password, other.password, dir, second).Replace(string(text)))
	scr = open(t, second, env, neomutt, "-n", "-F", filepath.Join(second, "rc"))
	scr.shows("Msgs:1")
	scr.keys("Enter")
	scr.shows("a secret word")
	scr.keys("q", "q")
}

func TestAerc(t *testing.T) {
	aerc := needTool(t, "aerc")
	s := start(t)
	u, dir := s.plainUser(t), t.TempDir()
	confDir := filepath.Join(dir, "aerc")
	if err := os.Mkdir(confDir, 0o700); err != nil {
		t.Fatal(err)
	}
	values := s.values(t, u, dir)
	values["userinfo"] = url.QueryEscape(u.addr) + ":" + url.QueryEscape(u.password)
	config(t, filepath.Join(confDir, "accounts.conf"), `[Home]
source = imaps://{userinfo}@localhost:{imaps}
outgoing = smtps+plain://{userinfo}@localhost:{submissions}
default = INBOX
from = <{user}>
copy-to = Sent
cache-headers = false
check-mail = 1s
`, values)
	env := []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_CACHE_HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_RUNTIME_DIR=" + dir,
		"SSL_CERT_FILE=" + s.TLSCert, "LC_ALL=C.UTF-8", "TERM=screen"}
	letters(t, s, u, "alpha", "beta", "gamma")
	scr := open(t, dir, env, aerc)
	scr.shows("alpha", "beta", "gamma", "Drafts")
	do := func(text string) {
		t.Helper()
		scr.typed(":" + text)
		scr.keys("Enter")
	}
	do("select 0") // the newest stands first
	do("flag")
	becomes(t, s, u, "INBOX", "alpha ; beta ; gamma F")
	do("view")
	scr.shows("This is the text of gamma.")
	do("close")
	becomes(t, s, u, "INBOX", "alpha ; beta ; gamma FS")
	do("mkdir Archive")
	scr.shows("Archive")
	do("cf INBOX")
	scr.shows("alpha")
	do("select 1")
	do("move Archive")
	becomes(t, s, u, "Archive", "beta ")
	becomes(t, s, u, "INBOX", "alpha ; gamma FS")
	letters(t, s, u, "delta")
	scr.shows("delta")
	s.at(t, u, "INBOX", `STORE 1 +FLAGS (\Deleted)`, "EXPUNGE")
	scr.hides("alpha")
	do("select 0")
	do("delete")
	becomes(t, s, u, "INBOX", "gamma FS")
	do("cf Archive")
	scr.shows("beta")
	do("search -b text of beta")
	do("quit")
}
