package interop

import (
	"path/filepath"
	"testing"

	"postern.email/interop/mailclient"
)

// The programs that carry mail away: each takes all that is there, over POP3 and
// over IMAP where it can, takes nothing twice, and removes what it was told to.

// fetchedMails is how many mails they find. Those that start a process for each mail get
// fewer: it would be the machine that is tested.
func fetchedMails(processEach bool) int {
	switch {
	case !long():
		return 20
	case processEach:
		return 1000
	}
	return 10000
}

func TestFetchmail(t *testing.T) {
	fetchmail := needTool(t, "fetchmail")
	s := start(t, noSendLimit...)
	for _, way := range []struct{ name, poll string }{
		{"POP3S", "protocol POP3 port {pop3s}"},
		{"IMAPS", "protocol IMAP port {imaps}"},
		{"POP3-STLS", "protocol POP3 port {pop3}"},
	} {
		t.Run(way.name, func(t *testing.T) {
			u, dir := s.plainUser(t), t.TempDir()
			want := received(t, s, u, fetchedMails(true))
			box := makeMaildir(t, filepath.Join(dir, "box"))
			mda := deliveryAgent(t, dir, box)
			tls := "ssl"
			if way.name == "POP3-STLS" {
				tls = `sslproto "TLS1.2+"`
			}
			rc := config(t, filepath.Join(dir, "rc"), `set no bouncemail
set idfile "{dir}/ids"
poll localhost `+way.poll+` uidl
 user "{user}" password "{password}" `+tls+` sslcertck sslcertfile "{cert}" KEEP
 mda "sh `+mda+`"
`, s.values(t, u, dir))
			run := func(keep string, code int) {
				t.Helper()
				command(t, []string{"HOME=" + dir, "FETCHMAILHOME=" + dir}, "sed", "-i", "-E", "s/ (KEEP|keep|nokeep)$/ "+keep+"/", rc).want(t, 0)
				command(t, []string{"HOME=" + dir, "FETCHMAILHOME=" + dir}, fetchmail, "--fetchmailrc", rc, "--pidfile", filepath.Join(dir, "pid")).want(t, code)
			}
			if way.name == "IMAPS" { // which has no list of what was fetched: it marks as seen
				command(t, nil, "sed", "-i", "s/ uidl$//", rc).want(t, 0)
			}
			run("keep", 0)
			gotAll(t, "first run", box, want)
			left(t, s, u, len(want))
			run("keep", 1) // nothing new
			gotAll(t, "second run", box, want)
			for h := range received(t, s, u, 3) {
				want[h] = true
			}
			run("nokeep", 0)
			gotAll(t, "third run", box, want)
		})
	}
}

// deliveryAgent writes a script that puts its input into a Maildir: the programs
// refuse to do that themselves as root.
func deliveryAgent(t testing.TB, dir, box string) string {
	t.Helper()
	path := filepath.Join(dir, "mda")
	writeFile(t, path, "f=$(mktemp '"+box+"/tmp/XXXXXXXXXXXX') && cat > $f && mv $f '"+box+"/new/'\n")
	return path
}

func TestGetmail(t *testing.T) {
	getmail := needTool(t, "getmail")
	s := start(t, noSendLimit...)
	for _, way := range []struct{ name, retriever string }{
		{"POP3S", "type = SimplePOP3SSLRetriever\nport = {pop3s}"},
		{"IMAPS", "type = SimpleIMAPSSLRetriever\nport = {imaps}\nmailboxes = (\"INBOX\",)"},
	} {
		t.Run(way.name, func(t *testing.T) {
			u, dir := s.plainUser(t), t.TempDir()
			// Few, also in a long run: getmail 6.18 can miss the end of the process that it
			// starts for a mail, and then gives up.
			want := received(t, s, u, 20)
			box := makeMaildir(t, filepath.Join(dir, "box"))
			mda := deliveryAgent(t, dir, box)
			run := func(remove string) {
				t.Helper()
				rc := config(t, filepath.Join(dir, "getmailrc"), "[retriever]\n"+way.retriever+`
server = localhost
username = {user}
password = {password}
ca_certs = {cert}
[destination]
type = MDA_external
path = /bin/sh
arguments = ("`+mda+`",)
allow_root_commands = true
[options]
read_all = false
verbose = 1
delivered_to = false
received = false
delete = `+remove+"\n", s.values(t, u, dir))
				command(t, []string{"HOME=" + dir}, getmail, "--getmaildir", dir, "--rcfile", rc).want(t, 0)
			}
			run("false")
			gotAll(t, "first run", box, want)
			left(t, s, u, len(want))
			run("false")
			gotAll(t, "second run", box, want)
			run("true")
			gotAll(t, "third run", box, want)
			left(t, s, u, 0)
		})
	}
}

func TestMpop(t *testing.T) {
	mpop := needTool(t, "mpop")
	s := start(t, noSendLimit...)
	for _, way := range []struct{ name, tls string }{
		{"POP3S", "port {pop3s}\ntls_starttls off"},
		{"STLS", "port {pop3}\ntls_starttls on"},
	} {
		t.Run(way.name, func(t *testing.T) {
			u, dir := s.plainUser(t), t.TempDir()
			want := received(t, s, u, fetchedMails(false))
			box := makeMaildir(t, filepath.Join(dir, "box"))
			run := func(keep string) {
				t.Helper()
				rc := config(t, filepath.Join(dir, "mpoprc"), `account default
host localhost
`+way.tls+`
tls on
tls_trust_file {cert}
auth on
user {user}
password {password}
delivery maildir {dir}/box
uidls_file {dir}/uidls
received_header off
keep `+keep+"\n", s.values(t, u, dir))
				command(t, []string{"HOME=" + dir}, mpop, "--file", rc).want(t, 0)
			}
			run("on")
			gotAll(t, "first run", box, want)
			left(t, s, u, len(want))
			run("on")
			gotAll(t, "second run", box, want)
			run("off")
			gotAll(t, "third run", box, want)
			left(t, s, u, 0)
		})
	}
}

// TestCurlPOP3 lists, reads and deletes over POP3S.
func TestCurlPOP3(t *testing.T) {
	curl := needTool(t, "curl")
	s := start(t, noSendLimit...)
	u, dir := s.plainUser(t), t.TempDir()
	want := received(t, s, u, 3)
	base := append(s.curlBase(t, s.POP3S), "--user", u.addr+":"+u.password)
	list := command(t, nil, curl, append(base, s.url(t, "pop3s", s.POP3S, "/"))...)
	list.want(t, 0, "1 ", "2 ", "3 ")
	box := makeMaildir(t, filepath.Join(dir, "box"))
	for _, n := range []string{"1", "2", "3"} {
		command(t, nil, curl, append(base, "--output", filepath.Join(box, "new", n), s.url(t, "pop3s", s.POP3S, "/"+n))...).want(t, 0)
	}
	gotAll(t, "RETR", box, want)
	top := command(t, nil, curl, append(base, "--request", "TOP 1 0", s.url(t, "pop3s", s.POP3S, "/"))...)
	top.want(t, 0, "Content-Type: multipart/encrypted")
	command(t, nil, curl, append(base, "--request", "DELE 2", "--head", s.url(t, "pop3s", s.POP3S, "/"))...).want(t, 0)
	left(t, s, u, 2)
	wrong := append(s.curlBase(t, s.POP3S), "--user", u.addr+":wrong", s.url(t, "pop3s", s.POP3S, "/"))
	command(t, nil, curl, wrong...).want(t, 67)
}

// TestMsmtp sends over both doors, to oneself and to another.
func TestMsmtp(t *testing.T) {
	msmtp := needTool(t, "msmtp")
	s := start(t)
	from, to, dir := s.plainUser(t), s.plainUser(t), t.TempDir()
	for _, way := range []struct{ name, tls string }{
		{"implicit TLS", "port {submissions}\ntls_starttls off"},
		{"STARTTLS", "port {submission}\ntls_starttls on"},
	} {
		rc := config(t, filepath.Join(dir, "msmtprc"), `account default
host localhost
`+way.tls+`
tls on
tls_trust_file {cert}
auth on
user {user}
password {password}
from {user}
`, s.values(t, from, dir))
		send := func(mail []byte, code int) {
			t.Helper()
			command(t, []string{"HOME=" + dir}, "sh", "-c", `"$0" --file "$1" -- "$2" < "$3"`, msmtp, rc, to.addr, mailFile(t, mail)).want(t, code)
		}
		send(mailclient.NewMaker(9).Mail(from.addr, 2000), 0)
		send([]byte("From: <"+from.addr+">\r\nTo: <"+to.addr+">\r\nSubject: in the clear\r\n\r\nhello\r\n"), 69)
	}
	left(t, s, to, 1) // the same body twice
}
