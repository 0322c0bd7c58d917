package access

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/kit/vfs"
	"postern.email/wire/imap"
)

// BenchmarkIdleSessions measures what a waiting session costs: the server runs in a
// process of its own with TLS, and its PSS is read before and after IDLE_SESSIONS
// (default 500) sessions on as many accounts with IDLE_MAILS (default 20) mails each
// wait in IDLE. Nothing is collected by force.
func BenchmarkIdleSessions(b *testing.B) {
	if os.Getenv("IDLE_SERVER") != "" {
		idleServer(b)
		return
	}
	sessions, mails := envInt("IDLE_SESSIONS", 500), envInt("IDLE_MAILS", 20)
	dir := b.TempDir()
	for range b.N {
		// The first process makes accounts and mails, the second one is measured.
		addr, _, stop := startIdleServer(b, dir)
		for i := range sessions {
			idleClient(b, addr, i, true, mails).Close()
		}
		stop()
		addr, pid, stop := startIdleServer(b, dir)
		idleClient(b, addr, 0, false, 0).Close()
		before := pss(b, pid)
		open := make([]*tls.Conn, sessions)
		for i := range open {
			open[i] = idleClient(b, addr, i, false, 0)
		}
		after := pss(b, pid)
		b.ReportMetric(float64(after-before)/float64(sessions), "KiB/session")
		b.ReportMetric(float64(before), "KiB-before")
		for _, c := range open {
			c.Close()
		}
		stop()
	}
}

func startIdleServer(b *testing.B, dir string) (addr string, pid int, stop func()) {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=BenchmarkIdleSessions", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), "IDLE_SERVER="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if a, ok := strings.CutPrefix(lines.Text(), "addr "); ok {
			return a, cmd.Process.Pid, func() { in.Close(); _ = cmd.Wait() }
		}
	}
	b.Fatal("the server did not start")
	return "", 0, nil
}

func envInt(name string, value int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return value
}

func pss(b *testing.B, pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Skip("the kernel does not tell PSS")
	}
	for _, l := range strings.Split(string(raw), "\n") {
		if f := strings.Fields(l); len(f) == 3 && f[0] == "Pss:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	b.Fatal("no Pss line")
	return 0
}

func idleClient(b *testing.B, addr string, i int, first bool, mails int) *tls.Conn {
	b.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReaderSize(c, 512)
	ask := func(text, until string) {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write([]byte(text)); err != nil {
			b.Fatal(err)
		}
		for {
			l, err := r.ReadString('\n')
			if err != nil {
				b.Fatalf("%q: %v", text, err)
			}
			if strings.HasPrefix(l, until) {
				return
			}
		}
	}
	ask(fmt.Sprintf("a LOGIN user%06d@example.org secret-word\r\n", i), "a OK")
	if first {
		one := "Subject: x\r\nFrom: a@example.org\r\n\r\n" + strings.Repeat("x", 1000)
		text := "b APPEND INBOX"
		for range mails {
			text += fmt.Sprintf(" {%d+}\r\n%s", len(one), one)
		}
		if mails > 0 {
			ask(text+"\r\n", "b OK")
		}
		return c
	}
	ask("c SELECT INBOX\r\n", "c OK")
	ask("d UID FETCH 1:10 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (FROM)])\r\n", "d OK")
	ask("e IDLE\r\n", "+ ")
	return c
}

// idleServer is the other process.
func idleServer(b *testing.B) {
	conf := agenttest.TLS(b)
	w := newWorld(b, vfs.OS(), os.Getenv("IDLE_SERVER"), func(_ *Options, o *imap.Options) { o.TLS, o.Implicit = conf, true })
	fmt.Println("addr", w.addr)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent is done
}
