package interop

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.email/interop/imapmodel"
)

// dovecotConf makes Dovecot serve Maildirs to anybody with the one password, on
// one port of the loopback without TLS.
const dovecotConf = `base_dir = {dir}/run
state_dir = {dir}/state
instance_name = interop
protocols = imap
listen = 127.0.0.1
log_path = {dir}/log
disable_plaintext_auth = no
ssl = no
mail_location = sdbox:{dir}/mail/%u
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 0
passdb {
  driver = static
  args = password=interop
}
userdb {
  driver = static
  args = uid=mail gid=mail home={dir}/mail/%u
}
namespace inbox {
  inbox = yes
}
service imap-login {
  inet_listener imap {
    port = {port}
  }
  inet_listener imaps {
    port = 0
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service stats {
  chroot =
}
`

// startDovecot gives the address of a Dovecot that runs until the test ends.
func startDovecot(t *testing.T) string {
	t.Helper()
	dovecot := needTool(t, "dovecot")
	if os.Getuid() != 0 {
		missing(t, "root (Dovecot changes users)")
	}
	dir, err := os.MkdirTemp("", "dovecot") // short: socket paths are bounded; open to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.MkdirAll(filepath.Join(dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	for _, open := range []string{dir, filepath.Join(dir, "mail")} {
		if err := os.Chmod(open, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port := hostPort(t, addr)
	conf := filepath.Join(dir, "dovecot.conf")
	writeFile(t, conf, strings.NewReplacer("{dir}", dir, "{port}", port).Replace(dovecotConf))
	cmd := exec.Command(dovecot, "-F", "-c", conf)
	tie(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Dovecot's log:\n%s", tail(filepath.Join(dir, "log"), 2000))
		}
	})
	eventually(t, patience, func() error {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err
	})
	return addr
}

// TestIMAPModelAgainstDovecot checks the model itself: a server that many have
// used for long must pass it.
func TestIMAPModelAgainstDovecot(t *testing.T) {
	addr := startDovecot(t)
	n := 0
	account := func() imapmodel.Account {
		n++
		user := "user" + strconv.Itoa(n)
		return imapmodel.Account{
			User: user, Password: "interop",
			Dial:    func() (net.Conn, error) { return net.Dial("tcp", addr) },
			Deliver: func() error { return appendAs(addr, user) },
		}
	}
	runs, steps := 6, 200
	if long() {
		runs, steps = 60, 1000
	}
	quirks := imapmodel.Quirks{UIDOnlyWithQResync: true, StoreTellsChanges: true, StoreIgnoredReadOnly: true, ExpungeByOldFlags: true,
		MoveHalfDone: true, IdleTellsLate: true}
	runModel(t, account, imapmodel.Options{Steps: steps, Quirks: quirks}, runs)
}

// appendAs puts a mail into INBOX with a connection of its own.
func appendAs(addr, user string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	const mail = "Subject: from outside\r\n\r\nhello\r\n"
	if _, err := fmt.Fprintf(c, "a LOGIN %s interop\r\nb APPEND INBOX {%d+}\r\n%s\r\nc LOGOUT\r\n", user, len(mail), mail); err != nil {
		return err
	}
	said, err := io.ReadAll(c)
	if err == nil && !strings.Contains(string(said), "b OK") {
		err = fmt.Errorf("%s", said)
	}
	return err
}
