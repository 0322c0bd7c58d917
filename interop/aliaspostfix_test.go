package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postern.email/interop/mailclient"
	"postern.email/interop/smallworld"
)

// incognito is the program under IncognitoMail's name, beside a Postfix, as Postfix's own user.
type incognito struct {
	dir, bin, conf string
	user           *syscall.Credential
	server         *exec.Cmd
}

// newIncognito makes a directory for state and map that belongs to Postfix's user.
func newIncognito(t *testing.T) *incognito {
	t.Helper()
	needTool(t, "postmap")
	u, err := osuser.Lookup("postfix")
	if err != nil || os.Getuid() != 0 {
		missing(t, "root, and the user postfix")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	dir, err := os.MkdirTemp("/tmp", "incognito")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in := &incognito{dir: dir, bin: filepath.Join(dir, "incognitomail"), conf: filepath.Join(dir, "incognitomail.conf"), user: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	program, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(in.bin, program, 0o755), os.Chown(dir, uid, gid), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return in
}

// start writes the configuration and runs the server until the test ends.
func (in *incognito) start(t *testing.T, postfixDir, domains string) {
	t.Helper()
	text := strings.NewReplacer("DIR", in.dir, "POSTFIX", postfixDir, "DOMAINS", domains).Replace(`[General]
UnixSockPath = "DIR/sock" ; one directory for all
LockFilePath = "DIR/lock"
ListenAddress = "127.0.0.1:0"
[Persistence]
DatabasePath = "DIR/incognito.db"
[PostfixConfig]
Domain = "DOMAINS"
MapFilePath = "DIR/map"
[Postern]
PostfixDir = "POSTFIX"
`)
	if err := os.WriteFile(in.conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	in.serve(t)
}

func (in *incognito) serve(t *testing.T) {
	t.Helper()
	in.server = in.command()
	log := &bytes.Buffer{}
	in.server.Stderr = log
	tie(in.server)
	in.server.SysProcAttr.Credential = in.user
	if err := in.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.server.Process.Kill()
		in.server.Wait()
		if t.Failed() {
			t.Logf("log of incognitomail:\n%s", log)
		}
	})
	eventually(t, patience, func() error {
		_, err := in.try("-c", in.conf, "new", "account", "ready@c.example")
		return err
	})
}

func (in *incognito) command(args ...string) *exec.Cmd {
	c := exec.Command(in.bin, append([]string{"-c", in.conf}, args...)...)
	c.Dir = in.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: in.user}
	return c
}

// try runs a command line and gives its standard output without the last line end.
func (in *incognito) try(args ...string) (string, error) {
	c := exec.Command(in.bin, args...)
	c.Dir = in.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: in.user}
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%q: %w: %s%s", args, err, &said, &out)
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

func (in *incognito) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := in.try(append([]string{"-c", in.conf}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// bareConfig is a directory with a main.cf, for Postfix's programs alone.
func bareConfig(t *testing.T, lines string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "postfixconf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(dir+"/main.cf", []byte("compatibility_level = 3.6\nmyhostname = mx.example\n"+lines), 0o644), os.WriteFile(dir+"/master.cf", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// rcpt gives what a door says to a recipient.
func rcpt(t *testing.T, addr, to string) mailclient.Reply {
	t.Helper()
	c, err := mailclient.DialSMTP(addr, mailclient.Plain, mailclient.Dialer{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r, err := c.Cmd("MAIL FROM:<shop@elsewhere.example>"); err != nil || r.Code >= 400 {
		t.Fatalf("%v %v", r, err)
	}
	r, err := c.Cmd("RCPT TO:<" + to + ">")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestAliasBesidePostfix: with a real Postfix, each way to name the map, and each type of it but btree (which
// TestAliasBesidePostfixIsKilled has): mail to a fresh alias arrives at the address behind it, at once; after delete it is
// refused at RCPT, and the aliases of others and lines by hand go on. What is sent as an alias through Postfix does not
// show the address behind it, but with canonical_maps it does, which postern alias doctor says.
func TestAliasBesidePostfix(t *testing.T) {
	for _, c := range []struct {
		parameter, typ, domain string
		shows                  bool // the address behind an alias to whom its owner writes
	}{
		{"virtual_alias_maps", "hash", "alias.example", false},
		{"recipient_canonical_maps", "lmdb", "c.example", false},
		{"canonical_maps", "cdb", "c.example", true},
	} {
		t.Run(c.parameter, func(t *testing.T) {
			in := newIncognito(t)
			w := newWorld(t)
			hand0 := "byhand@" + c.domain + " ben@c.example\n"
			if err := errors.Join(os.WriteFile(in.dir+"/map", []byte("# by hand\n"+hand0), 0o644), os.Chown(in.dir+"/map", int(in.user.Uid), int(in.user.Gid))); err != nil {
				t.Fatal(err)
			}
			// A process of Postfix that finds no table keeps to that until it ends: the table is there first.
			made := exec.Command(needTool(t, "postmap"), c.typ+":"+in.dir+"/map")
			made.Env = append(os.Environ(), "MAIL_CONFIG="+bareConfig(t, ""))
			made.SysProcAttr = &syscall.SysProcAttr{Credential: in.user}
			if out, err := made.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			main := []string{"virtual_alias_maps =", "virtual_alias_domains = alias.example", c.parameter + " = " + c.typ + ":" + in.dir + "/map"}
			p := w.Postfix(t, smallworld.PostfixOptions{Domain: "c.example", Users: []string{"anna", "ben"}, NoDKIM: true, Main: main})
			in.start(t, p.Config(), "@"+c.domain)
			box := func(name string) func() ([]string, error) { return func() ([]string, error) { return p.Mails(name) } }
			maker := mailclient.NewMaker(11)

			anna, ben := in.run(t, "new", "account", "anna@c.example"), in.run(t, "new", "account", "ben@c.example")
			mine, other := in.run(t, "new", "handle", anna), in.run(t, "new", "handle", ben)
			if !strings.HasSuffix(mine, "@"+c.domain) {
				t.Fatalf("%q", mine)
			}
			hand(t, p.Submission, "shop@elsewhere.example", mine, "", maker.Mail("one@elsewhere.example", 2000))
			awaitMail(t, box("anna"), "From: <one@elsewhere.example>")
			hand(t, p.Submission, "shop@elsewhere.example", strings.ToUpper(mine), "", maker.Mail("two@elsewhere.example", 2000))
			awaitMail(t, box("anna"), "From: <two@elsewhere.example>")

			// IM-67: what anna writes as the alias.
			hand(t, p.Submission, mine, "ben@c.example", "", maker.Mail(mine, 2000))
			m := awaitMail(t, box("ben"), "From: <"+mine+">")
			if shows := strings.Contains(m, "anna@"); shows != c.shows {
				t.Errorf("the address behind the alias shows: %v\n%.1500s", shows, m)
			}
			out, err := in.postern("alias", "doctor", "-c", in.conf)
			if err != nil || strings.Contains(out, "canonical_maps is for senders, too") != c.shows || !strings.Contains(out, "Postfix finds what the map says") {
				t.Errorf("doctor: %v\n%s", err, out)
			}

			in.run(t, "delete", "handle", strings.TrimSuffix(mine, "@"+c.domain), anna)
			if r := rcpt(t, p.Submission, mine); r.Code != 550 {
				t.Errorf("deleted: %v", r)
			}
			for _, to := range []string{other, "byhand@" + c.domain} {
				if r := rcpt(t, p.Submission, to); r.Code != 250 {
					t.Errorf("%s: %v", to, r)
				}
			}
			if text, err := os.ReadFile(in.dir + "/map"); err != nil || !strings.HasPrefix(string(text), "# by hand\n"+hand0) {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

// postern runs the program under its own name.
func (in *incognito) postern(args ...string) (string, error) {
	link := filepath.Join(in.dir, "postern")
	if err := os.Symlink(in.bin, link); err != nil && !os.IsExist(err) {
		return "", err
	}
	c := exec.Command(link, args...)
	c.Dir = in.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: in.user}
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestAliasBesidePostfixIsKilled: IM-65: a server that is killed in the middle of a hundred changes has, after its next
// start, exactly the aliases in the map that it has told of, and all of them.
func TestAliasBesidePostfixIsKilled(t *testing.T) {
	in := newIncognito(t)
	conf := bareConfig(t, "virtual_alias_maps = btree:"+in.dir+"/map\n")
	in.start(t, conf, "@alias.example, @second.example")
	secret := in.run(t, "new", "account", "anna@c.example")
	told := make(chan string, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			a, err := in.try("-c", in.conf, "new", "handle", secret)
			if err != nil {
				return
			}
			told <- a
		}
	}()
	var all []string
	for len(all) < 15 {
		all = append(all, <-told)
	}
	in.server.Process.Kill()
	in.server.Wait()
	<-done
	close(told)
	for a := range told {
		all = append(all, a)
	}
	in.serve(t)
	list := strings.Fields(in.run(t, "list", secret))
	if len(list) < len(all) || len(list) > len(all)+1 {
		t.Errorf("%d handles were told of, %d are there", len(all), len(list))
	}
	for _, a := range all {
		if to := in.lookUp(t, conf, a); to != "anna@c.example" {
			t.Errorf("%s goes to %q", a, to)
		}
	}
	text, err := os.ReadFile(in.dir + "/map")
	if err != nil || strings.Count(string(text), " anna@c.example\n") != len(list) {
		t.Errorf("%d lines for %d handles, %v", strings.Count(string(text), " anna@c.example\n"), len(list), err)
	}
	in.run(t, "stop")
	if err := in.server.Wait(); err != nil {
		t.Errorf("after stop: %v", err)
	}
	if _, err := os.Stat(in.dir + "/lock"); !os.IsNotExist(err) {
		t.Errorf("the lock stays: %v", err)
	}
}

func (in *incognito) lookUp(t *testing.T, conf, address string) string {
	t.Helper()
	out, err := exec.Command(needTool(t, "postmap"), "-c", conf, "-q", address, "btree:"+in.dir+"/map").Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
