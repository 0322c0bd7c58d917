package smallworld

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"postern.email/kit/tooltest"
)

// EximPackage is where the Debian package exim4-daemon-light lies unpacked, below the folder of the tests:
// it cannot be installed beside Postfix.
const EximPackage = "peers/exim4"

const eximConf = `primary_hostname = {domain}
domainlist ours = {domain}
spool_directory = {dir}/spool
log_file_path = {dir}/log/%slog
local_interfaces = <; {ip}.` + SMTP + `; {ip}.2587
keep_environment =
never_users =
exim_path = {program}
deliver_drop_privilege
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
dkim_verify_signers = $dkim_signers
acl_smtp_mail = check_mail
acl_smtp_rcpt = check_rcpt
acl_smtp_data = check_data
begin acl
check_mail:
  deny condition = ${if eq{$received_port}{` + SMTP + `}}
       !encrypted = *
       message = TLS is needed
  accept
check_rcpt:
  accept domains = +ours
         local_parts = {users}
  accept condition = ${if eq{$received_port}{2587}}
         !domains = +ours
  deny message = not here
check_data:
  accept add_header = :at_start:${authresults {$primary_hostname}}
begin routers
boxes:
  driver = accept
  domains = +ours
  local_parts = {users}
  transport = maildir
others:
  driver = dnslookup
  domains = ! +ours
  transport = smtp
begin transports
maildir:
  driver = appendfile
  directory = {dir}/mail/$local_part_data
  maildir_format
  return_path_add
smtp:
  driver = smtp
  port = ` + SMTP + `
  hosts_require_tls = *
  tls_verify_hosts = *
  tls_verify_certificates = {ca}
  dkim_domain = {domain}
  dkim_selector = s1
  dkim_private_key = {dir}/dkim.pem
  dkim_canon = relaxed
begin retry
* * F,1h,1s
`

// Exim is Debian's Exim (with GnuTLS and DKIM of its own) as the mail host of a domain, set
// up like Postfix.
type Exim struct {
	Domain, Submission string
	dir                string
}

// Exim starts one until the test ends. It needs root, and skips the test where the program is neither
// installed nor unpacked.
func (w *World) Exim(t testing.TB, domain string, users ...string) *Exim {
	t.Helper()
	program, err := filepath.Abs(filepath.Join(EximPackage, "usr/sbin/exim4"))
	if err == nil {
		_, err = os.Stat(program)
	}
	if err != nil {
		program = tooltest.Tool(t, "exim4")
	}
	needRoot(t, "Exim starts for root only")
	dir := publicDir(t, "exim")
	ip := w.Host(t, domain)
	cert, key := w.CA.Issue(t, domain)
	e := &Exim{Domain: domain, Submission: ip + ":2587", dir: dir}
	// The program is made for a user Debian-exim, which its package would have made.
	owner := uid(t, "mail")
	passwd, err := os.ReadFile("/etc/passwd")
	group, gerr := os.ReadFile("/etc/group")
	id := strconv.Itoa(owner)
	err = errors.Join(err, gerr)
	for _, d := range []string{"spool", "log", "mail", "etc"} {
		path := filepath.Join(dir, d)
		err = errors.Join(err, os.Mkdir(path, 0o755), os.Chown(path, owner, owner))
	}
	mine := func(from, to string) string { // readable for it alone
		text, rerr := os.ReadFile(from)
		to = filepath.Join(dir, "etc", to)
		err = errors.Join(err, rerr, os.WriteFile(to, text, 0o600), os.Chown(to, owner, owner))
		return to
	}
	w.dkimKey(t, dir, domain)
	fill := strings.NewReplacer("{dir}", dir, "{program}", program, "{ip}", ip, "{domain}", domain, "{users}", strings.Join(users, " : "), "{cert}", mine(cert, "cert.pem"),
		"{key}", mine(key, "key.pem"), "{ca}", mine(w.CA.File, "ca.pem")).Replace
	conf := filepath.Join(dir, "etc", "exim.conf")
	err = errors.Join(err, os.Chown(filepath.Join(dir, "dkim.pem"), owner, owner), os.WriteFile(conf, []byte(fill(eximConf)), 0o644),
		os.WriteFile(dir+"/etc/passwd", append([]byte("Debian-exim:x:"+id+":"+id+"::/:/usr/sbin/nologin\n"), passwd...), 0o644),
		os.WriteFile(dir+"/etc/group", append([]byte("Debian-exim:x:"+id+":\n"), group...), 0o644),
		os.WriteFile(dir+"/etc/resolv.conf", []byte(resolvConf(w.Resolver(t))), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range []string{"passwd", "group", "resolv.conf"} {
		files["/etc/"+f] = filepath.Join(dir, "etc", f)
	}
	p := start(t, filepath.Join(dir, "log", "said"), within(files, program, "-C", conf, "-bdf", "-q1s"))
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("Exim's log:\n%s", e.Log())
		}
	})
	await(t, "Exim listens", func() bool {
		if p.over() {
			t.Fatalf("Exim does not start:\n%s", e.Log())
		}
		return answers("tcp", e.Submission)
	})
	return e
}

// Log is all that it said so far.
func (e *Exim) Log() string {
	var all strings.Builder
	for _, name := range []string{"said", "panic", "reject", "main"} {
		text, _ := os.ReadFile(filepath.Join(e.dir, "log", strings.Replace(name+"log", "saidlog", "said", 1)))
		all.Write(text)
	}
	return all.String()
}

// Mails gives a user's mails with CRLF, in no order.
func (e *Exim) Mails(name string) ([]string, error) {
	return maildir(filepath.Join(e.dir, "mail", name))
}
