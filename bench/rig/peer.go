package rig

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern.email/interop/mailclient"
	"postern.email/interop/smallworld"
)

// The peer is Debian's Postfix and Dovecot, set up like a chatmail relay:
// smtps with Dovecot's SASL, delivery by LMTP over a unix socket into Maildirs
// with gz and quota, sessions hibernate after 30 s. Everything is synced before
// it is acknowledged (queue file, then Maildir). Passwords are checked against
// one static password, which costs the peer nothing. It does not log.
//
// PeerName is its name in reports.
const PeerName = "postfix+dovecot"

// PeerMissing says why the peer cannot be driven here, or "".
func PeerMissing() string {
	if os.Geteuid() != 0 {
		return "needs root"
	}
	for _, tool := range []string{"postfix", "postconf", "dovecot", "doveadm"} {
		if _, err := lookTool(tool); err != nil {
			return tool + " is not installed"
		}
	}
	if matches, _ := filepath.Glob("/usr/lib/dovecot/lmtp"); len(matches) == 0 {
		return "dovecot-lmtpd is not installed"
	}
	return ""
}

func lookTool(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && !st.IsDir() {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

const postfixMain = `compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = mail.{domain}
myorigin = {domain}
mydestination =
relayhost =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
biff = no
append_dot_mydomain = no
recipient_delimiter = +
mailbox_size_limit = 0
message_size_limit = 31457280
virtual_transport = lmtp:unix:private/dovecot-lmtp
virtual_mailbox_domains = {domain}
smtpd_tls_cert_file = {dir}/cert.pem
smtpd_tls_key_file = {dir}/key.pem
smtpd_tls_security_level = encrypt
smtpd_tls_mandatory_protocols = >=TLSv1.3
smtpd_peername_lookup = no
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_reject_unlisted_recipient = no
smtpd_sender_login_maps = regexp:{dir}/etc/login_map
smtpd_sender_restrictions = reject_sender_login_mismatch, permit_sasl_authenticated, reject
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions =
smtpd_client_connection_count_limit = 0
`

const postfixMaster = `127.0.0.1:{smtps} inet n - n - 5000 smtpd
  -o smtpd_tls_wrappermode=yes
qmgr unix n - n 300 1 qmgr
proxywrite unix - - n - 1 proxymap
` + smallworld.PostfixServices

const dovecotConf = `base_dir = {dir}/run
state_dir = {dir}/state
instance_name = relaybench
protocols = imap lmtp
listen = 127.0.0.1
log_path = {dir}/dovecot.log
auth_mechanisms = plain login
auth_username_chars = abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@[]
default_client_limit = 20000
mail_plugins = zlib quota
mail_location = maildir:{dir}/mail/%u
mail_cache_max_size = 500K
mail_uid = mail
mail_gid = mail
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 0
ssl = required
ssl_cert = <{dir}/cert.pem
ssl_key = <{dir}/key.pem
ssl_min_protocol = TLSv1.3
imap_hibernate_timeout = 30s
lmtp_add_received_header = no
passdb {
  driver = static
  args = password=bench-password-0
}
userdb {
  driver = static
  args = uid=mail gid=mail home={dir}/mail/%u
}
namespace inbox {
  inbox = yes
}
protocol imap {
  mail_plugins = zlib quota imap_quota
}
plugin {
  zlib_save = gz
  quota = maildir:User quota
  quota_rule = *:storage=500M
  quota_grace = 0
}
service imap {
  process_limit = 10000
  unix_listener imap-master {
    user = dovecot
  }
}
service imap-hibernate {
  unix_listener imap-hibernate {
    mode = 0660
    group = dovecot
  }
}
service imap-login {
  service_count = 0
  vsz_limit = 1G
  process_min_avail = 10
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = {imaps}
    ssl = yes
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service lmtp {
  user = mail
  unix_listener {dir}/queue/private/dovecot-lmtp {
    user = postfix
    group = postfix
    mode = 0600
  }
}
service auth {
  unix_listener {dir}/queue/private/auth {
    user = postfix
    group = postfix
    mode = 0660
  }
}
service stats {
  chroot =
}
`

// StartPeer starts the peer in dir, which is empty.
func StartPeer(dir string) (*System, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	const domain = "bench.test"
	fill := strings.NewReplacer("{dir}", dir, "{domain}", domain,
		"{smtps}", strconv.Itoa(ports[0]), "{imaps}", strconv.Itoa(ports[1])).Replace
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	postfixID, err := userID("postfix")
	if err != nil {
		return nil, err
	}
	mailID, err := userID("mail")
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		name string
		uid  int
	}{{"etc", 0}, {"queue", 0}, {"data", postfixID}, {"mail", mailID}, {"run", 0}, {"state", 0}} {
		path := filepath.Join(dir, d.name)
		if err := errors.Join(os.Mkdir(path, 0o755), os.Chown(path, d.uid, -1)); err != nil {
			return nil, err
		}
	}
	if err := writeCertificate(dir, "mail."+domain); err != nil {
		return nil, err
	}
	err = errors.Join(
		writeFile(filepath.Join(dir, "etc/main.cf"), fill(postfixMain), 0o644),
		writeFile(filepath.Join(dir, "etc/master.cf"), fill(postfixMaster), 0o644),
		writeFile(filepath.Join(dir, "etc/login_map"), "/^(.*)$/ ${1}\n", 0o644),
		writeFile(filepath.Join(dir, "dovecot.conf"), fill(dovecotConf), 0o644),
	)
	if err != nil {
		return nil, err
	}
	return launchPeer(dir, domain, ports)
}

// launchPeer starts what StartPeer has configured in dir.
func launchPeer(dir, domain string, ports []int) (*System, error) {
	postfix := func(verb string) error {
		tool, err := lookTool("postfix")
		if err != nil {
			return err
		}
		out, err := exec.Command(tool, "-c", filepath.Join(dir, "etc"), verb).CombinedOutput()
		if err != nil {
			return fmt.Errorf("postfix %s: %w: %s", verb, err, out)
		}
		return nil
	}
	if err := postfix("start"); err != nil { // makes queue/private, where dovecot listens
		return nil, err
	}
	dovecotTool, err := lookTool("dovecot")
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	dovecot := exec.Command(dovecotTool, "-F", "-c", filepath.Join(dir, "dovecot.conf"))
	dovecot.Stdout, dovecot.Stderr = &said, &said
	if err := dovecot.Start(); err != nil {
		return nil, errors.Join(err, postfix("stop"))
	}
	stop := func() error {
		err := postfix("stop")
		_ = dovecot.Process.Signal(syscall.SIGTERM)
		_ = dovecot.Wait()
		return err
	}
	pid, err := os.ReadFile(filepath.Join(dir, "queue/pid/master.pid"))
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	master, err := strconv.Atoi(strings.TrimSpace(string(pid)))
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	s := &System{
		Name: PeerName, Domain: domain,
		Submissions: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])),
		IMAPS:       net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1])),
		Roots:       []int{master, dovecot.Process.Pid},
		stop:        stop,
		again:       func() (*System, error) { return launchPeer(dir, domain, ports) },
	}
	if err := s.waitReady(20 * time.Second); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "dovecot.log"))
		return nil, errors.Join(fmt.Errorf("%w; dovecot said: %s%s", err, said.String(), log), stop())
	}
	return s, nil
}

// waitReady polls until both protocols let an account in.
func (s *System) waitReady(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := func() error {
			c, err := s.IMAP(s.Account(0))
			if err != nil {
				return err
			}
			c.Logout()
			var m *mailclient.SMTP
			if m, err = s.SMTP(s.Account(0)); err != nil {
				return err
			}
			m.Quit()
			return nil
		}()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}
