package dkim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"postern.email/kit/tooltest"
)

// Programs that ask the system's resolver see what a test wants them to see in a network
// and mount namespace of their own, where /etc/resolv.conf names a server on loopback. The
// test binary runs itself in there: it is that server, and the parent of the program.
const insideEnv = "POSTERN_DKIM_INSIDE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(insideEnv); dir != "" {
		code, err := inside(dir, os.Args[1:])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// inside serves the records in dir and runs a program; it gives its exit code.
func inside(dir string, args []string) (int, error) {
	const failed = 125
	text, err := os.ReadFile(filepath.Join(dir, "records"))
	if err != nil {
		return failed, err
	}
	var records map[string][]string
	if err := json.Unmarshal(text, &records); err != nil {
		return failed, err
	}
	if err := unix.Mount(filepath.Join(dir, "resolv.conf"), "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return failed, fmt.Errorf("mounting: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return failed, fmt.Errorf("loopback: %w", err)
	}
	ready := make(chan bool, 2)
	for _, network := range []string{"udp", "tcp"} {
		s := &dns.Server{Addr: "127.0.0.1:53", Net: network, Handler: answers(records), NotifyStartedFunc: func() { ready <- true }}
		go func() {
			if err := s.ListenAndServe(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				ready <- false
			}
		}()
	}
	if a, b := <-ready, <-ready; !a || !b {
		return failed, nil
	}
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), insideEnv+"=")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Run(); c.ProcessState == nil {
		return failed, err
	}
	return c.ProcessState.ExitCode(), nil
}

// answers is a server of TXT records; names not in the list do not exist.
func answers(records map[string][]string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		txts, ok := records[strings.ToLower(strings.TrimSuffix(name, "."))]
		if !ok {
			m.Rcode = dns.RcodeNameError
		}
		for _, t := range txts {
			rr := &dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 1}}
			for len(t) > 0 {
				n := min(len(t), maxString)
				rr.Txt, t = append(rr.Txt, t[:n]), t[n:]
			}
			if q.Question[0].Qtype == dns.TypeTXT {
				m.Answer = append(m.Answer, rr)
			}
		}
		if w.LocalAddr().Network() == "udp" {
			m.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(m)
	}
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// withRecords runs a program that sees these TXT records in the DNS.
func withRecords(t *testing.T, records map[string][]string, stdin []byte, args ...string) (out string, code int) {
	t.Helper()
	dir := t.TempDir()
	text, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"records": text, "resolv.conf": []byte("nameserver 127.0.0.1\noptions attempts:1 timeout:5\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self, args...)
	c.Env = append(os.Environ(), insideEnv+"="+dir)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	c.Stdin = bytes.NewReader(stdin)
	b, err := c.CombinedOutput()
	if c.ProcessState == nil {
		tooltest.Missing(t, fmt.Sprintf("namespaces for a resolver of our own: %v", err))
	}
	return string(b), c.ProcessState.ExitCode()
}
