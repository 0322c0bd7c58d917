package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

// envDetached tells a process that Detach started it: "ready-fd secret-fd".
const envDetached = "POSTERN_DETACHED"

// maxDetachedText bounds what a process in the background says before it is ready, in bytes.
const maxDetachedText = 64 << 10

// Detach starts a copy of this process in the background: in a session of its own (setsid(2)),
// without a terminal, with the arguments args, args[0] being the name it is called by. secret
// (may be nil) goes to it through a pipe. Detach returns when the copy has called
// Background.Ready, with its process number and what it said on standard error until then. When it ends before that,
// code is its exit code, above zero; what it said is there too. errs.Unavailable when it cannot
// be started, errs.Canceled when ctx ends first; the copy is killed then.
func Detach(ctx context.Context, path string, args []string, secret []byte) (pid, code int, said string, err error) {
	const op = "kit/daemon.Detach"
	fault := func(err error) (int, int, string, error) {
		return 0, 0, "", errs.E(op, errs.Unavailable, "cannot start a process in the background", err)
	}
	ready, readyEnd, err := os.Pipe()
	if err != nil {
		return fault(err)
	}
	defer ready.Close()
	text, textEnd, err := os.Pipe()
	if err != nil {
		readyEnd.Close()
		return fault(err)
	}
	defer text.Close()
	hidden, err := MemoryFile("postern-secret", secret)
	if err != nil {
		readyEnd.Close()
		textEnd.Close()
		return fault(err)
	}
	defer hidden.Close()
	// The copy's own descriptors begin at 3, in the order of ExtraFiles.
	c := &exec.Cmd{Path: path, Args: args, Stdout: textEnd, Stderr: textEnd, ExtraFiles: []*os.File{readyEnd, hidden},
		Env: append(os.Environ(), envDetached+"="+strconv.Itoa(firstFD)+" "+strconv.Itoa(firstFD+1)), SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	err = c.Start()
	readyEnd.Close()
	textEnd.Close()
	if err != nil {
		return fault(err)
	}
	defer context.AfterFunc(ctx, func() { c.Process.Kill() })()
	var b bytes.Buffer
	read := make(chan struct{})
	go func() { // ends with the copy's standard error, which Ready turns away
		defer close(read)
		_, _ = io.Copy(&b, io.LimitReader(text, maxDetachedText))
		_, _ = io.Copy(io.Discard, text)
	}()
	one := make([]byte, 1)
	_, rerr := ready.Read(one)
	<-read
	if rerr == nil {
		pid = c.Process.Pid
		return pid, 0, b.String(), errs.Wrap(op, c.Process.Release())
	}
	werr := c.Wait()
	if ctx.Err() != nil {
		return 0, 0, b.String(), errs.E(op, errs.Canceled, "", ctx.Err())
	}
	var exit *exec.ExitError
	switch {
	case errors.As(werr, &exit) && exit.ExitCode() > 0:
		return 0, exit.ExitCode(), b.String(), nil
	case werr == nil:
		werr = fmt.Errorf("it ended without an error")
	}
	return 0, 0, b.String(), errs.E(op, errs.Unavailable, "the process in the background ended before it was ready", werr)
}

// Background is a process's own end of Detach.
type Background struct {
	Secret []byte // what Detach was given; nil: nothing

	once  sync.Once
	ready *os.File
}

// Detached tells whether Detach started this process, and gives its end of it. It may be called
// once; the variable is gone from the environment then, so that no child takes it for its own.
func Detached() (*Background, bool, error) {
	const op = "kit/daemon.Detached"
	text := os.Getenv(envDetached)
	if text == "" {
		return nil, false, nil
	}
	os.Unsetenv(envDetached)
	var ready, hidden int
	if n, err := fmt.Sscanf(text, "%d %d", &ready, &hidden); n != 2 || ready < firstFD || hidden < firstFD {
		return nil, true, errs.E(op, errs.Invalid, envDetached+" is malformed", err)
	}
	unix.CloseOnExec(ready)
	unix.CloseOnExec(hidden)
	f := os.NewFile(uintptr(hidden), "secret")
	secret, err := io.ReadAll(io.LimitReader(f, maxSecret))
	f.Close()
	if err != nil {
		return nil, true, errs.E(op, errs.Unavailable, "", err)
	}
	if len(secret) == 0 {
		secret = nil
	}
	return &Background{Secret: secret, ready: os.NewFile(uintptr(ready), "ready")}, true, nil
}

// Ready turns standard input, output and error to /dev/null and tells the process that waits in
// Detach. Calls after the first do nothing.
func (b *Background) Ready() error {
	const op = "kit/daemon.Background.Ready"
	var err error
	b.once.Do(func() {
		defer b.ready.Close()
		null, oerr := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if oerr != nil {
			err = errs.E(op, errs.Unavailable, "", oerr)
			return
		}
		defer null.Close()
		for fd := range firstFD {
			if derr := unix.Dup3(int(null.Fd()), fd, 0); derr != nil {
				err = errs.E(op, errs.Unavailable, "", derr)
				return
			}
		}
		if _, werr := b.ready.Write([]byte{1}); werr != nil {
			err = errs.E(op, errs.Unavailable, "", werr)
		}
	})
	return err
}
