package dnstest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/kit/tooltest"
)

// Unbound runs Debian's unbound, a validating resolver that finds the zones at s and trusts
// anchors (DNSKEY records), until the test ends. at is an IP address, for a free port of it, or
// host:port. It gives where it answers, and skips the test where unbound is not installed.
func (s *Server) Unbound(t testing.TB, at string, zones, anchors []string) string {
	t.Helper()
	program := tooltest.Tool(t, "unbound")
	if net.ParseIP(at) != nil {
		free, l := listen(t, at+":0")
		at = free.LocalAddr().String()
		free.Close()
		l.Close()
	}
	host, port, _ := net.SplitHostPort(at)
	dir := t.TempDir()
	var c strings.Builder
	fmt.Fprintf(&c, `server:
	directory: %q
	chroot: ""
	username: ""
	pidfile: ""
	use-syslog: no
	logfile: ""
	verbosity: 1
	num-threads: 1
	interface: %s
	port: %s
	access-control: 127.0.0.0/8 allow
	do-not-query-localhost: no
	do-ip6: no
	module-config: "validator iterator"
	ede: yes
	local-zone: "test." nodefault
`, dir, host, port)
	for _, a := range anchors {
		fmt.Fprintf(&c, "	trust-anchor: %q\n", strings.ReplaceAll(a, "\t", " "))
	}
	c.WriteString("remote-control:\n	control-enable: no\n")
	_, serverPort, _ := net.SplitHostPort(s.Addr)
	for _, z := range zones {
		fmt.Fprintf(&c, "stub-zone:\n	name: %q\n	stub-addr: 127.0.0.1@%s\n", z+".", serverPort)
	}
	conf := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(conf, []byte(c.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-d", "-c", conf)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	done := make(chan struct{})
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
		cmd.Wait()
	})
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), "start of service") {
			go func() {
				defer close(done)
				for lines.Scan() {
					t.Log(lines.Text())
				}
			}()
			return at
		}
	}
	close(done)
	t.Fatalf("unbound does not start:\n%s", strings.Join(said, "\n"))
	return ""
}
