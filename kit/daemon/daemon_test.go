package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
)

// TestMain also plays the child processes of the tests below.
func TestMain(m *testing.M) {
	switch os.Getenv("DAEMON_TEST_CHILD") {
	case "":
		goleak.VerifyTestMain(m)
	case "pid", "background":
		playDetached(os.Getenv("DAEMON_TEST_CHILD"))
	case "hold":
		l, err := Hold(vfs.OS(), os.Getenv("DAEMON_TEST_DIR"), time.Now())
		if err != nil {
			fmt.Println(errs.Public(err))
			os.Exit(1)
		}
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
		l.Close()
	case "harden":
		if err := Harden(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		var r unix.Rlimit
		unix.Getrlimit(unix.RLIMIT_CORE, &r)
		d, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		fmt.Println(r.Cur, r.Max, d, unix.Umask(0))
	case "exec": // first life
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		f, err := Socket(l)
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		bufio.NewReader(os.Stdin).ReadString('\n') // somebody has connected
		os.Setenv("DAEMON_TEST_CHILD", "execed")
		fmt.Println(Exec("/proc/self/exe", os.Args, map[string]*os.File{"web": f}, []byte("opened keys")))
		os.Exit(1)
	case "execed": // second life
		in, err := Inherit()
		if err != nil {
			panic(err)
		}
		c, err := in.Sockets["web"].Accept()
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(c, "%d %v %s %q", os.Getpid(), in.Restart, in.Secret, os.Getenv(envRestart))
		c.Close()
	case "inherit":
		os.Setenv(envPID, strconv.Itoa(os.Getpid()))
		in, err := Inherit()
		l := in.Sockets["imaps"]
		json.NewEncoder(os.Stdout).Encode([]any{err == nil, len(in.Sockets), l != nil && l.Addr().String() == os.Getenv("DAEMON_TEST_ADDR"), os.Getenv(envFDs), in.Restart})
	}
}

func child(t *testing.T, what string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(exe)
	c.Env = append(append(os.Environ(), "DAEMON_TEST_CHILD="+what), env...)
	c.Stderr = os.Stderr
	return c
}

func TestHold(t *testing.T) {
	dir := t.TempDir()
	c := child(t, "hold", "DAEMON_TEST_DIR="+dir)
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("child says %q", line)
	}
	_, err := Hold(vfs.OS(), dir, time.Now())
	want := fmt.Sprintf("in use by process %d, since 20", c.Process.Pid)
	if errs.KindOf(err) != errs.Exists || !strings.Contains(errs.Public(err), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	in.Close()
	c.Wait()
	l, err := Hold(vfs.OS(), dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Hold(vfs.OS(), dir, time.Now()); errs.KindOf(err) != errs.Exists {
		t.Errorf("twice in one process: %v", err)
	}
	l.Close()
	if _, err := Hold(vfs.OS(), filepath.Join(dir, "none"), time.Now()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("no directory: %v", err)
	}
}

func TestHarden(t *testing.T) {
	out, err := child(t, "harden").Output()
	if err != nil || string(out) != "0 0 0 63\n" {
		t.Errorf("core limit, dumpable, umask = %q, %v", out, err)
	}
}

// TestExec: a client that connects while the program is replaced is served by
// the next one, which has the same pid and the secret.
func TestExec(t *testing.T) {
	c := child(t, "exec")
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	addr, _ := bufio.NewReader(out).ReadString('\n')
	conn, err := net.Dial("tcp", strings.TrimSpace(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(in, "go")
	got, _ := io.ReadAll(conn)
	if want := fmt.Sprintf("%d true opened keys \"\"", c.Process.Pid); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
	in.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

func TestInheritFromSystemd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, _ := Socket(l)
	defer f.Close()
	c := child(t, "inherit", envFDs+"=1", envNames+"=imaps", "DAEMON_TEST_ADDR="+l.Addr().String())
	c.ExtraFiles = []*os.File{f}
	out, err := c.Output()
	if err != nil || string(out) != "[true,1,true,\"\",false]\n" {
		t.Errorf("got %s, %v", out, err)
	}
	// Variables meant for another process are left out.
	t.Setenv(envPID, "1")
	t.Setenv(envFDs, "1")
	t.Setenv(envRestart, "1 x=200")
	if in, err := Inherit(); err != nil || len(in.Sockets) != 0 || in.Restart || os.Getenv(envFDs) != "" {
		t.Errorf("took %v, %v", in, err)
	}
	for _, bad := range []string{"x", "x=1", "x=y"} {
		t.Setenv(envRestart, strconv.Itoa(os.Getpid())+" "+bad)
		if _, err := Inherit(); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	t.Setenv(envPID, strconv.Itoa(os.Getpid()))
	t.Setenv(envFDs, "100000")
	if _, err := Inherit(); errs.KindOf(err) != errs.Invalid {
		t.Errorf("too many: %v", err)
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Notify(func(string) string { return path }, "READY=1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, _ := l.Read(b)
	if string(b[:n]) != "READY=1" {
		t.Errorf("got %q", b[:n])
	}
	if err := Notify(func(string) string { return "" }, "X"); err != nil {
		t.Error(err)
	}
	if err := Notify(func(string) string { return path + "none" }, "X"); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
}

func TestSignals(t *testing.T) {
	reload, force := make(chan bool, 1), make(chan bool, 1)
	ctx, stop := Signals(context.Background(), func() { reload <- true }, func() { force <- true })
	defer stop()
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	<-reload
	if ctx.Err() != nil {
		t.Fatal("SIGHUP stopped the program")
	}
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	<-ctx.Done()
	if len(force) != 0 {
		t.Fatal("the first SIGTERM forced")
	}
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	<-force
}

func listen(t *testing.T, trusted ...string) *Listener {
	t.Helper()
	return listenWaiting(t, ProxyHeaderWait, trusted...)
}

func listenWaiting(t *testing.T, wait time.Duration, trusted ...string) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var nets limits.Trusted
	for _, s := range trusted {
		nets = append(nets, netip.MustParsePrefix(s))
	}
	l := newListener(inner, nets, wait)
	t.Cleanup(func() { l.Close() })
	return l
}

// ask connects, sends and gives the peer that the server sees and what it reads.
func ask(t *testing.T, l *Listener, send string) (limits.Peer, string) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, send)
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(s)
	p := PeerOf(s)
	s.Close()
	c.Close()
	return p, string(got)
}

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

func TestProxyProtocol(t *testing.T) {
	l := listen(t, "127.0.0.0/8")
	for _, c := range []struct{ name, send, addr, rest string }{
		{"v1", "PROXY TCP4 192.0.2.7 192.0.2.1 1111 25\r\nEHLO x\r\n", "192.0.2.7", "EHLO x\r\n"},
		{"v1 six", "PROXY TCP6 2001:db8::7 ::1 1111 25\r\nEHLO", "2001:db8::7", "EHLO"},
		{"v2", v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x04\x57\x00\x19a1 LOGIN", "192.0.2.7", "a1 LOGIN"},
		{"v2 local", v2 + "\x20\x00\x00\x00a1", "", "a1"},
		{"v1 unknown", "PROXY UNKNOWN\r\nEHLO", "", "EHLO"},
		{"none", "EHLO x\r\n", "", "EHLO x\r\n"},
		{"none, first byte alike", "PASS x\r\n", "", "PASS x\r\n"},
		{"nothing", "", "", ""},
	} {
		p, rest := ask(t, l, c.send)
		if c.addr == "" && (!p.Exempt || p.Network() != "") || c.addr != "" && (p.Exempt || p.Addr.String() != c.addr) || rest != c.rest {
			t.Errorf("%s: peer %v, rest %q", c.name, p, rest)
		}
	}
}

// TestProxyHeaderOfAStranger: only trusted networks are believed.
func TestProxyHeaderOfAStranger(t *testing.T) {
	l := listen(t, "10.0.0.0/8")
	const h = "PROXY TCP4 192.0.2.7 192.0.2.1 1111 25\r\n"
	p, rest := ask(t, l, h)
	if p.Exempt || p.Addr.String() != "127.0.0.1" || rest != h {
		t.Errorf("peer %v, rest %q", p, rest)
	}
}

func TestTornProxyHeaderIsRefused(t *testing.T) {
	l := listen(t, "127.0.0.0/8")
	for _, send := range []string{"PROXY TCP4 192.0.2.7", "PROXY TCP4 nonsense here 1 2\r\n", v2 + "\x21\x11\xff\xff", v2 + "\x99\x11\x00\x0c"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, send)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%q: the connection is still open: %v", send, err)
		}
		c.Close()
	}
}

// TestCloseEndsWaiting: connections whose header is awaited do not hold up Close.
func TestCloseEndsWaiting(t *testing.T) {
	l := listenWaiting(t, time.Hour, "127.0.0.0/8")
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for deadline := time.Now().Add(10 * time.Second); len(l.slots) == 0 && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close: %v", err)
	}
}

func TestMemoryFile(t *testing.T) {
	f, err := MemoryFile("x", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); string(b) != "secret" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if name, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); !strings.HasPrefix(name, "/memfd:") {
		t.Errorf("it is a file on a disk: %s", name)
	}
}
