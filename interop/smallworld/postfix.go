package smallworld

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"postern.email/kit/tooltest"
)

const postfixMain = `compatibility_level = 3.6
queue_directory = {dir}/spool
data_directory = {dir}/data
maillog_file = /dev/stdout
myhostname = {domain}
mydomain = {domain}
myorigin = {domain}
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
biff = no
append_dot_mydomain = no
local_header_rewrite_clients =
message_size_limit = 31457280
mailbox_size_limit = 0
in_flow_delay = 0
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = texthash:{dir}/etc/boxes
virtual_alias_maps = inline:{ {gone@{domain} = nobody@{domain}} }
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
virtual_mailbox_limit = 0
smtpd_tls_chain_files = {key}, {cert}
smtpd_tls_security_level = encrypt
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_tls_received_header = yes
smtpd_recipient_restrictions =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtp_tcp_port = ` + SMTP + `
smtp_tls_security_level = verify
smtp_tls_mandatory_protocols = >=TLSv1.2
smtp_tls_CAfile = {ca}
smtp_tls_loglevel = 1
smtp_connect_timeout = 10s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
milter_default_action = tempfail
smtpd_milters = {milter}
non_smtpd_milters = {milter}
internal_mail_filter_classes = bounce
milter_macro_daemon_name = ORIGINATING
`

// PostfixServices are the lines of master.cf behind the doors, none of them in a chroot.
const PostfixServices = `pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// Two doors: one for other hosts, one for users, whose mail is signed. A third one is for
// users too, and its mail is not.
const postfixMaster = `{ip}:` + SMTP + ` inet n - n - - smtpd
  -o milter_macro_daemon_name=OUTSIDE
{ip}:2587 inet n - n - - smtpd
  -o smtpd_tls_security_level=may
  -o smtpd_relay_restrictions=permit_mynetworks,reject
{ip}:2588 inet n - n - - smtpd
  -o smtpd_tls_security_level=may
  -o smtpd_relay_restrictions=permit_mynetworks,reject
  -o smtpd_milters=
qmgr unix n - n 1 1 qmgr
` + PostfixServices

// Postfix is Debian's Postfix as the mail host of a domain: TLS with a certificate of the
// world's authority in both directions, names of the world, a Maildir for each user. The
// address "gone" is taken, and what comes for it bounces.
type Postfix struct {
	Domain     string
	Addr       string // where mail of other hosts comes in, with STARTTLS
	Submission string // where users hand in, without login or TLS
	Unsigned   string // the same, and OpenDKIM does not sign

	dir, program string
	resolver     string
	filter       []int // processes of OpenDKIM
	p            *process
}

// PostfixOptions of Start. Only Domain is needed.
type PostfixOptions struct {
	Domain    string
	Users     []string // names that have a box
	Cert, Key string   // files; empty: issued by the world's authority
	Resolver  string   // address that answers on port 53; empty: the world's names
	Main      []string // more lines for main.cf, which come last
	NoDKIM    bool     // neither signs nor verifies
}

// Postfix starts one, with OpenDKIM as its filter, until the test ends. It needs root, and
// skips the test where Postfix or OpenDKIM is not installed.
func (w *World) Postfix(t testing.TB, o PostfixOptions) *Postfix {
	t.Helper()
	program := tooltest.Tool(t, "postfix")
	needRoot(t, "Postfix starts for root only")
	dir := publicDir(t, "postfix")
	ip := w.Host(t, o.Domain)
	if o.Cert == "" {
		o.Cert, o.Key = w.CA.Issue(t, o.Domain)
	}
	if o.Resolver == "" {
		o.Resolver = w.Resolver(t)
	}
	p := &Postfix{Domain: o.Domain, Addr: ip + ":" + SMTP, Submission: ip + ":2587", Unsigned: ip + ":2588", dir: dir, program: program, resolver: o.Resolver}
	try := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	mailUser := uid(t, "mail")
	for _, d := range []struct {
		name string
		uid  int
	}{{"etc", 0}, {"spool", 0}, {"data", uid(t, "postfix")}, {"mail", mailUser}} {
		path := filepath.Join(dir, d.name)
		try(os.Mkdir(path, 0o755), os.Chown(path, d.uid, -1))
	}
	var boxes strings.Builder
	for _, u := range o.Users {
		fmt.Fprintf(&boxes, "%[1]s@%[2]s %[1]s/\n", u, o.Domain)
	}
	milter := "unix:" + filepath.Join(dir, "milter")
	if o.NoDKIM {
		milter = ""
	} else {
		p.filter = []int{w.openDKIM(t, dir, o.Domain)}
	}
	fill := strings.NewReplacer("{dir}", dir, "{ip}", ip, "{domain}", o.Domain, "{uid}", strconv.Itoa(mailUser), "{key}", o.Key, "{cert}", o.Cert,
		"{ca}", w.CA.File, "{milter}", milter).Replace
	main := fill(postfixMain + strings.Join(append(o.Main, ""), "\n"))
	try(os.WriteFile(dir+"/etc/main.cf", []byte(main), 0o644),
		os.WriteFile(dir+"/etc/master.cf", []byte(fill(postfixMaster)), 0o644),
		os.WriteFile(dir+"/etc/boxes", []byte(boxes.String()), 0o644),
		os.WriteFile(dir+"/etc/resolv.conf", []byte(resolvConf(o.Resolver)), 0o644),
		// Programs that are no longer root open it by themselves: postsuper, when a mail was cut off while
		// it came in and it wants to say so, or Postfix does not start.
		os.WriteFile(filepath.Join(dir, "log"), nil, 0o666), os.Chmod(filepath.Join(dir, "log"), 0o666))
	p.Run(t)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			log := p.Log()
			t.Logf("end of Postfix's log:\n%s", log[max(0, len(log)-6000):])
		}
	})
	return p
}

// Config is the directory of its main.cf.
func (p *Postfix) Config() string { return filepath.Join(p.dir, "etc") }

// Run starts it, again after Kill, on the same queue.
func (p *Postfix) Run(t testing.TB) {
	t.Helper()
	begin := func() {
		p.p = start(t, filepath.Join(p.dir, "log"), within(map[string]string{"/etc/resolv.conf": p.dir + "/etc/resolv.conf"}, p.program, "-c", p.dir+"/etc", "start-fg"))
	}
	begin()
	// A machine that is short of time may still be taking back locks and ports of the one that was
	// killed; its operator would start it again.
	tries := 1
	await(t, "Postfix listens", func() bool {
		if p.p.over() {
			if tries++; tries > 10 {
				log := p.Log()
				t.Fatalf("Postfix does not start:\n%s", log[max(0, len(log)-2000):])
			}
			begin()
		}
		return answers("tcp", p.Submission) && !p.p.over()
	})
}

// Kill ends all of its processes at once, as a power cut does to them (not to the disk), and
// waits until none of them is left. Its master makes a process group of its own.
func (p *Postfix) Kill() {
	text, err := os.ReadFile(filepath.Join(p.dir, "spool", "pid", "master.pid"))
	if master, perr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && perr == nil && master > 1 {
		killGroup(master)
	}
	p.p.kill()
}

// CutOff leaves what a power cut leaves of a mail that was coming in.
func (p *Postfix) CutOff(t testing.TB) {
	t.Helper()
	name := filepath.Join(p.dir, "spool", "incoming", "806291.30465")
	if err := errors.Join(os.WriteFile(name, []byte("C"), 0o600), os.Chown(name, uid(t, "postfix"), -1)); err != nil {
		t.Fatal(err)
	}
}

// Log is all that it said so far.
func (p *Postfix) Log() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Mails gives a user's mails with CRLF, in no order.
func (p *Postfix) Mails(name string) ([]string, error) {
	return maildir(filepath.Join(p.dir, "mail", name))
}

// Count gives how many mails a user has.
func (p *Postfix) Count(name string) (int, error) {
	list, err := os.ReadDir(filepath.Join(p.dir, "mail", name, "new"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return len(list), err
}

// Waiting counts the mails in its queue that it has taken.
func (p *Postfix) Waiting() (n int, err error) {
	for _, q := range []string{"maildrop", "incoming", "active", "deferred", "hold"} {
		err := filepath.WalkDir(filepath.Join(p.dir, "spool", q), func(_ string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it went meanwhile
			}
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && info.Mode()&0o100 != 0 { // else it was cut off while it came in, and nobody was told yes
				n++
			}
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("queue %s: %w", q, err)
		}
	}
	return n, nil
}

// Roots are its first process and that of its filter: all others are below them.
func (p *Postfix) Roots() []int { return append(p.filter, p.p.cmd.Process.Pid) }
