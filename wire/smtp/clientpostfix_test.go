//go:build unix

package smtp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postern.email/kit/tooltest"
	"postern.email/mail"
)

// postfixMain is a Postfix that takes everything and hands it to the server at relayhost.
const postfixMain = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
myhostname = mx.example
mydestination =
alias_maps =
local_recipient_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:%[2]s
smtp_dns_support_level = disabled
smtputf8_enable = yes
local_header_rewrite_clients =
message_size_limit = 5000000
smtpd_tls_chain_files = %[1]s/pem
smtpd_tls_security_level = encrypt
smtpd_recipient_restrictions = check_recipient_access inline:{ {refused@example.org = 550 5.1.1 not here} {later@example.org = 450 4.2.0 not now} } permit_mynetworks reject
maillog_file = /dev/stdout
`

const postfixMaster = `127.0.0.1:%s inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// postfix starts one that relays to next, and gives its address and the client's side of its TLS.
func postfix(t *testing.T, next string) (string, *tls.Config) {
	t.Helper()
	prog := tooltest.Tool(t, "postfix")
	if os.Getuid() != 0 {
		t.Skip("Postfix starts for root only")
	}
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Skip("no user postfix")
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/tmp", "postfix")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	_, nextPort, _ := net.SplitHostPort(next)
	serverTLS, clientTLS := testTLS(t)
	cert := serverTLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})...)
	try := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	try(os.Chmod(dir, 0o755))
	for _, d := range []string{"/etc", "/spool", "/data"} {
		try(os.Mkdir(dir+d, 0o755))
	}
	try(os.Chown(dir+"/data", uid, -1))
	try(os.WriteFile(dir+"/pem", chain, 0o600))
	try(os.WriteFile(dir+"/etc/main.cf", fmt.Appendf(nil, postfixMain, dir, nextPort), 0o644))
	try(os.WriteFile(dir+"/etc/master.cf", fmt.Appendf(nil, postfixMaster, port), 0o644))
	log, err := os.OpenFile(dir+"/log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	try(err)
	defer log.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), prog, "-c", dir+"/etc", "start-fg")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // at its end it kills its whole group
	try(cmd.Start())
	t.Cleanup(func() {
		stop := exec.Command(prog, "-c", dir+"/etc", "stop")
		stop.SysProcAttr = cmd.SysProcAttr
		if out, err := stop.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
			cmd.Process.Kill()
		}
		cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(dir + "/log")
			t.Logf("%s", text)
		}
	})
	addr := "127.0.0.1:" + port
	eventually(t, "Postfix listens", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return addr, clientTLS
}

// TestPostfix: a real Postfix takes what the Client sends, by DATA and by BDAT, under TLS, with DSN and
// SMTPUTF8, and hands on the same bytes.
func TestPostfix(t *testing.T) {
	f := &fake{}
	address, clientTLS := postfix(t, start(t, Options{Backend: f}))
	for road, o := range roads {
		o.TLS, o.RequireTLS = clientTLS, true
		c := mustConnect(t, address, o)
		x := c.Extensions()
		if !x.Pipelining || !x.Chunking || !x.EightBit || !x.UTF8 || !x.DSN || !x.Enhanced || x.Size != 5_000_000 || c.TLS() == nil {
			t.Fatalf("%+v", x)
		}
		for _, size := range []int{0, 1000, 2*ChunkSize + 50_000} {
			text := "Subject: " + road + " " + strconv.Itoa(size) + "\r\n\r\n" + strings.Repeat(".\r\n..ü"+strings.Repeat("x", 70)+"\r\n", size/80) + ".\r\n"
			e := Envelope{From: addr(t, "a@example.org"), Options: MailOptions{Body: Body8Bit, Return: ReturnHeaders, EnvID: "id+1"}, Rcpts: []Recipient{
				{To: addr(t, "b@example.org"), Options: RcptOptions{Notify: NotifyNever, OriginalType: "rfc822", OriginalAddress: "x+y@example.org"}},
				{To: addr(t, "refused@example.org")}, {To: addr(t, "later@example.org")}, {To: addr(t, "ü@example.org")},
			}}
			sent, err := c.Send(t.Context(), e, strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			got := outcomes(sent)
			if !strings.HasPrefix(got, "taken; 550 5.1.1 <refused@example.org>: ") || !strings.Contains(got, "; 450 4.2.0 <later@example.org>: ") || !strings.HasSuffix(got, "; taken") {
				t.Fatalf("%s", got)
			}
			seen := map[string]bool{}
			eventually(t, "Postfix hands it on", func() bool {
				for _, m := range f.taken() {
					if strings.HasSuffix(m.Raw, "\r\n"+text) {
						for i, to := range m.To {
							seen[to] = true
							if to == "b@example.org" && (m.Rcpt[i] != e.Rcpts[0].Options || m.Mail.EnvID != "id+1" || m.Mail.Return != ReturnHeaders || m.Mail.Body != Body8Bit) {
								t.Errorf("%+v, %+v", m.Mail, m.Rcpt[i])
							}
						}
					}
				}
				return seen["b@example.org"] && seen["ü@example.org"]
			})
		}
		sent, err := c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader(strings.Repeat("12345678\r\n", 500_001)))
		if err != nil || sent.Rcpts[0] != error(replyServerMaximum) {
			t.Errorf("%s, %v", outcomes(sent), err)
		}
		if sent, err := c.Send(t.Context(), Envelope{From: mail.Address{}, Rcpts: []Recipient{{To: addr(t, "refused@example.org")}}}, strings.NewReader(plainMail)); err != nil || !strings.HasPrefix(outcomes(sent), "550 5.1.1 ") {
			t.Errorf("%s, %v", outcomes(sent), err)
		}
		c.Quit()
	}
}
