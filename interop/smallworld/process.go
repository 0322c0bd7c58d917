package smallworld

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// process is a program with all that it starts, in a process group of its own.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// start runs a command; what it says is added to the file log.
func start(t testing.TB, log string, cmd *exec.Cmd) *process {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	return p
}

// kill ends all of it at once and waits until none of it is left.
func (p *process) kill() {
	killGroup(p.cmd.Process.Pid)
	<-p.ended
}

// over reports whether the first process has ended.
func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// killGroup ends a process group and waits, for at most ten seconds, until it is empty.
func killGroup(leader int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range 2000 {
		if syscall.Kill(-leader, syscall.SIGKILL) != nil {
			return
		}
		<-tick.C
	}
}

// await polls until f is true, for at most three minutes: a machine that is short of time may
// need them, and the others do not wait.
func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-tick.C
	}
}

func answers(network, addr string) bool {
	c, err := net.DialTimeout(network, addr, 5*time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}
