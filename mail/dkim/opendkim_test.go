package dkim

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/kit/tooltest"
)

// lua writes a string so that Lua reads it, byte for byte.
func lua(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "\\%03d", s[i])
	}
	return `"` + b.String() + `"`
}

// TestOpenDKIM: OpenDKIM, running now as a milter, signs a mail in every form.
func TestOpenDKIM(t *testing.T) {
	opendkim, miltertest := tooltest.Tool(t, "opendkim"), tooltest.Tool(t, "miltertest")
	s := newSigner()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(s.rsa)})))
	fields := [][2]string{{"From", "Joe <joe@a.example>"}, {"To", "suzie@b.example"}, {"Subject", "white \t space\n  folded"}}
	const body = " a  line \t\r\n\r\nmore\r\n\r\n\r\n"
	v := &Verifier{Lookup: records(map[string][]string{"k._domainkey.a.example": {"p=" + s.rsaRecord()}})}
	for i, form := range []string{"simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"} {
		socket := path(fmt.Sprint("socket", i))
		write("conf", fmt.Sprintf("Syslog no\nMode s\nDomain a.example\nSelector k\nKeyFile %s\nCanonicalization %s\nOversignHeaders From\n"+
			"SignatureAlgorithm rsa-sha256\nRequireSafeKeys no\nInternalHosts 127.0.0.1\nSocket local:%s\n", path("key"), form, socket))
		filter := exec.Command(opendkim, "-f", "-x", path("conf"))
		filter.Stderr = t.Output()
		if err := filter.Start(); err != nil {
			t.Fatal(err)
		}
		stop := func() { filter.Process.Kill(); filter.Wait() }
		deadline := time.NewTimer(20 * time.Second)
		tick := time.NewTicker(20 * time.Millisecond)
		for up := false; !up; {
			select {
			case <-tick.C:
				_, err := os.Stat(socket)
				up = err == nil
			case <-deadline.C:
				stop()
				t.Fatal("opendkim does not start")
			}
		}
		deadline.Stop()
		tick.Stop()
		script := fmt.Sprintf("c = mt.connect(\"local:%s\")\nmt.conninfo(c, \"localhost\", \"127.0.0.1\")\nmt.mailfrom(c, \"<joe@a.example>\")\n", socket)
		raw := ""
		for _, f := range fields {
			script += fmt.Sprintf("mt.header(c, %s, %s)\n", lua(f[0]), lua(f[1]))
			raw += f[0] + ": " + strings.ReplaceAll(f[1], "\n", "\r\n") + "\r\n"
		}
		script += fmt.Sprintf("mt.eoh(c)\nmt.bodystring(c, %s)\nmt.eom(c)\nf = io.open(%q, \"wb\")\nf:write(mt.getheader(c, \"DKIM-Signature\", 0))\nf:close()\nmt.disconnect(c)\n", lua(body), path("signature"))
		write("script", script)
		out, err := exec.CommandContext(t.Context(), miltertest, "-s", path("script")).CombinedOutput()
		stop()
		if err != nil {
			t.Fatalf("miltertest: %v\n%s", err, out)
		}
		field, err := os.ReadFile(path("signature"))
		if err != nil {
			t.Fatal(err)
		}
		signed := "DKIM-Signature: " + strings.TrimLeft(strings.ReplaceAll(strings.ReplaceAll(string(field), "\r\n", "\n"), "\n", "\r\n"), " ") + "\r\n" + raw + "\r\n" + body
		if got := v.Verify(t.Context(), []byte(signed), "a.example"); got.Verdict != Valid || !strings.Contains(signed, "c="+form) {
			t.Errorf("%s: %+v\n%s", form, got, signed)
		}
		if got := v.Verify(t.Context(), []byte(strings.Replace(signed, "more", "less", 1)), "a.example"); got.Verdict != Invalid {
			t.Errorf("%s: changed: %+v", form, got)
		}
	}
}
