package daemon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

// playDetached is what the copies that these tests start do.
func playDetached(what string) {
	switch what {
	case "pid":
		l, err := HoldPid(os.Getenv("DAEMON_TEST_FILE"))
		if err != nil {
			fmt.Println(errs.Public(err))
			os.Exit(1)
		}
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
		l.Close()
	case "background":
		b, detached, err := Detached()
		if err != nil || !detached {
			fmt.Fprintln(os.Stderr, "not detached", err)
			os.Exit(9)
		}
		sid, _ := unix.Getsid(0)
		fmt.Fprintln(os.Stderr, os.Args[0], string(b.Secret), os.Getenv(envDetached) == "", sid == os.Getpid())
		ctx, stop := Signals(context.Background(), func() {}, func() { os.Exit(1) })
		switch os.Getenv("DAEMON_TEST_END") {
		case "early":
			os.Exit(7)
		case "never":
			<-ctx.Done()
		}
		l, err := HoldPid(os.Getenv("DAEMON_TEST_FILE"))
		if err != nil {
			os.Exit(8)
		}
		if err := b.Ready(); err != nil {
			os.Exit(8)
		}
		fmt.Fprintln(os.Stderr, "said to nobody")
		<-ctx.Done()
		stop()
		l.Close()
	}
}

// TestHoldPid: the file holds the number, one process holds the file, and a number that a
// dead process left names nobody.
func TestHoldPid(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	if _, err := PidOf(file); errs.KindOf(err) != errs.NotFound {
		t.Errorf("no file: %v", err)
	}
	c := child(t, "pid", "DAEMON_TEST_FILE="+file)
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("child says %q", line)
	}
	want := strconv.Itoa(c.Process.Pid)
	if text, err := os.ReadFile(file); err != nil || string(text) != want+"\n" {
		t.Errorf("file: %q, %v", text, err)
	}
	if pid, err := PidOf(file); err != nil || pid != c.Process.Pid {
		t.Errorf("PidOf = %d, %v", pid, err)
	}
	if _, err := HoldPid(file); errs.KindOf(err) != errs.Exists || !strings.Contains(errs.Public(err), "held by process "+want+", since 20") {
		t.Errorf("held twice: %v", err)
	}
	c.Process.Kill() // leaves its number
	in.Close()
	c.Wait()
	if text, _ := os.ReadFile(file); string(text) != want+"\n" {
		t.Errorf("file after a kill: %q", text)
	}
	if pid, err := PidOf(file); errs.KindOf(err) != errs.NotFound {
		t.Errorf("after a kill: %d, %v", pid, err)
	}
	l, err := HoldPid(file)
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := PidOf(file); err != nil || pid != os.Getpid() {
		t.Errorf("own: %d, %v", pid, err)
	}
	l.Close()
	if text, _ := os.ReadFile(file); len(text) != 0 {
		t.Errorf("after Close: %q", text)
	}
	if _, err := HoldPid(filepath.Join(file, "x")); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("no such directory: %v", err)
	}
}

// TestDetach: the copy leads a session of its own, has the secret and the name it was given,
// is waited for until it is ready, and then says nothing to its parent.
func TestDetach(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	t.Setenv("DAEMON_TEST_CHILD", "background")
	t.Setenv("DAEMON_TEST_FILE", file)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pid, code, said, err := Detach(t.Context(), exe, []string{"some-name"}, []byte("a secret"))
	if err != nil || code != 0 || said != "some-name a secret true true\n" {
		t.Fatalf("code %d, %q, %v", code, said, err)
	}
	if got, err := PidOf(file); err != nil || got != pid {
		t.Errorf("it holds %d, %v; want %d", got, err, pid)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
		t.Errorf("it ended with %v, %v", status, err)
	}
}

// TestDetachFails: what keeps the copy from being ready is told.
func TestDetachFails(t *testing.T) {
	t.Setenv("DAEMON_TEST_CHILD", "background")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DAEMON_TEST_END", "early")
	if _, code, said, err := Detach(t.Context(), exe, []string{"n"}, nil); err != nil || code != 7 || said != "n  true true\n" {
		t.Errorf("early end: code %d, %q, %v", code, said, err)
	}
	t.Setenv("DAEMON_TEST_END", "never")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, _, _, err := Detach(ctx, exe, []string{"n"}, nil); errs.KindOf(err) != errs.Canceled {
		t.Errorf("never ready: %v", err)
	}
	if _, _, _, err := Detach(t.Context(), filepath.Join(t.TempDir(), "none"), []string{"n"}, nil); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("no program: %v", err)
	}
	if _, detached, err := Detached(); detached || err != nil {
		t.Errorf("this process is in the background: %v", err)
	}
	t.Setenv(envDetached, "x")
	if _, detached, err := Detached(); !detached || errs.KindOf(err) != errs.Invalid {
		t.Errorf("a malformed variable: %v, %v", detached, err)
	}
}
