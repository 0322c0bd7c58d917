package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern.email/kit/errs"
)

const (
	startTime = 90 * time.Second // longest time until a member is ready
	stopTime  = 25 * time.Second // longest time for a clean stop; then it is killed
	maxLine   = 1 << 20          // of what a member says when it is ready
	tailBytes = 2000             // of a log, shown when a member ends
)

// member is one role of the lab: a process that is started, watched, killed and started again.
type member struct {
	name, kind string
	dir        string   // its data; its control socket is there
	config     string   // its configuration
	args       []string // of the process
	log        string   // file with what it says
	info       any      // its ready line is read into this; nil: only waited for

	program string                 // another one than the lab's own; empty: that
	ready   func(line []byte) bool // is this the line that says so; nil: the first is

	lab *Lab

	mu   sync.Mutex
	proc *process
	said []byte // the end of what came on its standard output, where that is no JSON
}

// heard keeps the end of what a member says.
type heard struct{ m *member }

func (h *heard) Write(b []byte) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if h.m.ready != nil {
		h.m.said = append(h.m.said, b...)
		h.m.said = h.m.said[max(0, len(h.m.said)-tailBytes):]
	}
	return len(b), nil
}

// process is one run of a member.
type process struct {
	cmd     *exec.Cmd
	ended   chan struct{}
	planned bool // its end is wanted; under member.mu
}

// spawner starts processes, all from one thread that lives as long as the lab: on Linux the
// kernel ends a child when the thread that started it is gone.
type spawner struct{ jobs chan func() }

func newSpawner() *spawner {
	s := &spawner{make(chan func())}
	go func() {
		runtime.LockOSThread()
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	s.jobs <- func() { done <- cmd.Start() }
	return <-done
}

func (s *spawner) close() { close(s.jobs) }

// start runs the member and waits until it says that it is ready.
func (m *member) start(ctx context.Context) error {
	const op = "lab.start"
	f, err := os.OpenFile(m.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return errs.E(op, errs.Unavailable, "cannot write "+m.log, err)
	}
	defer f.Close()
	program := m.program
	if program == "" {
		program = m.lab.c.Program
	}
	cmd := exec.Command(program, m.args...)
	cmd.Stderr = f
	out, err := cmd.StdoutPipe()
	if err != nil {
		return errs.E(op, errs.Unavailable, m.name+" cannot be started", err)
	}
	tie(cmd)
	if err := m.lab.spawn.start(cmd); err != nil {
		return errs.E(op, errs.Unavailable, m.name+" cannot be started", err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	m.mu.Lock()
	m.proc = p
	m.mu.Unlock()
	ready := make(chan error, 1)
	m.lab.wg.Go(func() {
		r := bufio.NewReaderSize(io.TeeReader(out, &heard{m: m}), 64<<10)
		line, err := readReady(r, m.ready)
		if err == nil && m.info != nil {
			if err = json.Unmarshal(line, m.info); err != nil {
				err = fmt.Errorf("its ready line cannot be read: %w", err)
			}
		}
		ready <- err
		_, _ = io.Copy(io.Discard, r)
		_ = cmd.Wait()
		close(p.ended)
		m.over(p)
	})
	t := time.NewTimer(startTime)
	defer t.Stop()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	case <-t.C:
		err = fmt.Errorf("not ready after %v", startTime)
	}
	if err == nil {
		return nil
	}
	m.kill()
	if ctx.Err() != nil {
		return errs.E(op, errs.Canceled, "", err)
	}
	return errs.E(op, errs.Unavailable, m.name+" did not start"+m.lastWords(), err)
}

// readReady takes the line that says that a member is ready.
func readReady(r *bufio.Reader, is func([]byte) bool) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil && is != nil && !is(line):
			line = nil
		case err == nil:
			return bytes.TrimSpace(line), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, errors.New("it ended before it was ready")
		case len(line) > maxLine:
			return nil, errors.New("a line of it is too long")
		}
	}
}

// over is called when a run has ended: if nobody wanted that, the lab is broken.
func (m *member) over(p *process) {
	m.mu.Lock()
	planned := p.planned
	m.mu.Unlock()
	if planned {
		return
	}
	select {
	case m.lab.broken <- errs.E("lab.member", errs.Unavailable, m.name+" ended by itself: "+p.cmd.ProcessState.String()+m.lastWords(), nil):
	default:
	}
}

// lastWords gives where the log is, and its end.
func (m *member) lastWords() string {
	b, err := os.ReadFile(m.log)
	if err != nil {
		return ""
	}
	m.mu.Lock()
	b = append(b, m.said...)
	m.mu.Unlock()
	b = bytes.TrimSpace(b[max(0, len(b)-tailBytes):])
	if len(b) == 0 {
		return "; it said nothing"
	}
	return "; the end of " + m.log + ":\n    " + strings.ReplaceAll(string(b), "\n", "\n    ")
}

// running gives the present run, whose end is wanted from now on; nil where there is none.
func (m *member) running() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc != nil {
		m.proc.planned = true
	}
	return m.proc
}

// up tells whether the member runs.
func (m *member) up() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc == nil {
		return false
	}
	select {
	case <-m.proc.ended:
		return false
	default:
		return true
	}
}

// kill ends the process at once, as a power cut would, and waits for that.
func (m *member) kill() {
	if p := m.running(); p != nil {
		p.kill()
	}
}

// kill ends the process with all that it started, and waits for that.
func (p *process) kill() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
}

// stop ends it cleanly, or kills it when that takes too long.
func (m *member) stop() error {
	p := m.running()
	if p == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-p.ended:
		return nil
	case <-t.C:
		p.kill()
		return errs.E("lab.stop", errs.Unavailable, fmt.Sprintf("%s did not stop within %v and was killed; nothing that it acknowledged is lost", m.name, stopTime), nil)
	}
}

// command runs the program once, and reads its JSON into v (nil: not read).
func (l *Lab) command(ctx context.Context, v any, args ...string) error {
	const op = "lab.command"
	cmd := exec.Command(l.c.Program, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	tie(cmd)
	if err := l.spawn.start(cmd); err != nil {
		return errs.E(op, errs.Unavailable, "the program cannot be started", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return errs.E(op, errs.Canceled, "", ctx.Err())
		}
		return errs.E(op, errs.Unavailable, "postern "+strings.Join(args, " ")+": "+strings.TrimSpace(said.String()), err)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(out.Bytes(), v); err != nil {
		return errs.E(op, errs.Internal, "the answer of postern "+args[0]+" cannot be read", err)
	}
	return nil
}

// logFile is where a member says what it says.
func (l *Lab) logFile(name string) string { return filepath.Join(l.c.Dir, "logs", name+".log") }
