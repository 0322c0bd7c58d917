package smallworld

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/kit/tooltest"
)

const openDKIMConf = `Background no
Syslog no
Mode sv
Canonicalization relaxed/simple
Domain {domain}
Selector s1
KeyFile {dir}/dkim.pem
RequireSafeKeys false
OversignHeaders From
SignatureAlgorithm rsa-sha256
InternalHosts 192.0.2.1
MTA ORIGINATING
AuthservID {domain}
AlwaysAddARHeader yes
SendReports no
UMask 000
Socket local:{dir}/milter
Nameservers {resolver}
`

// openDKIM runs Debian's OpenDKIM at dir/milter: it signs what comes from a listener named
// ORIGINATING, and writes a verdict on all other mail. Its key is published.
func (w *World) openDKIM(t testing.TB, dir, domain string) (pid int) {
	t.Helper()
	program := tooltest.Tool(t, "opendkim")
	w.dkimKey(t, dir, domain)
	conf := filepath.Join(dir, "etc", "opendkim.conf")
	writeFile(t, conf, strings.NewReplacer("{dir}", dir, "{domain}", domain, "{resolver}", w.Resolver(t)).Replace(openDKIMConf))
	log := filepath.Join(dir, "opendkim.log")
	p := start(t, log, exec.Command(program, "-f", "-x", conf))
	t.Cleanup(func() {
		p.kill()
		if said, _ := os.ReadFile(log); t.Failed() {
			t.Logf("OpenDKIM ended with %v and said: %s", p.cmd.ProcessState, said)
		}
	})
	await(t, "OpenDKIM listens", func() bool { return answers("unix", filepath.Join(dir, "milter")) })
	return p.cmd.Process.Pid
}

// dkimKey makes a key at dir/dkim.pem and publishes it for the selector s1.
func (w *World) dkimKey(t testing.TB, dir, domain string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "dkim.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	w.DNS.AddTXT(t, "s1._domainkey."+domain, "v=DKIM1; k=rsa; p="+base64.StdEncoding.EncodeToString(public))
}
