package lab

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell is a member that is a shell with a script.
func shell(t *testing.T, script string, info any) *member {
	t.Helper()
	c, err := Config{Dir: t.TempDir()}.complete()
	must(t, err)
	l := &Lab{c: c, say: func(string) {}, spawn: newSpawner(), broken: make(chan error, 1)}
	must(t, l.mkdir("logs"))
	m := l.add("mix", 0, info)
	m.program, m.args = "/bin/sh", []string{"-c", script}
	t.Cleanup(func() {
		m.kill()
		l.wg.Wait()
		l.spawn.close()
	})
	return m
}

// TestMember: a member is ready with its line, which is read; it stops when it is asked to, and can be
// killed and started again.
func TestMember(t *testing.T) {
	var info struct{ ID string }
	m := shell(t, `echo '{"id":"one"}'; trap 'exit 0' TERM; while :; do sleep 0.05; done`, &info)
	must(t, m.start(t.Context()))
	first := m.pid()
	if info.ID != "one" || !m.up() || first == 0 {
		t.Errorf("%+v, %v, %d", info, m.up(), first)
	}
	must(t, m.again(t.Context()))
	if m.pid() == first || !m.up() || syscall.Kill(first, 0) == nil {
		t.Errorf("process %d, then %d", first, m.pid())
	}
	must(t, m.stop())
	if m.up() {
		t.Error("it runs on")
	}
	select {
	case err := <-m.lab.broken:
		t.Errorf("a planned end is a fault: %v", err)
	default:
	}
}

// TestMemberEnds: one that ends by itself breaks the lab, and the error has the end of its log; one that
// ends before it is ready does not start.
func TestMemberEnds(t *testing.T) {
	m := shell(t, `echo ready; read x < "$0"; echo the disk is gone >&2; exit 3`, nil)
	fifo := m.lab.path("fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	m.args = append(m.args, fifo)
	must(t, m.start(t.Context()))
	must(t, os.WriteFile(fifo, []byte("\n"), 0o600))
	err := <-m.lab.broken
	for _, want := range []string{"mix1 ended by itself", "exit status 3", "the disk is gone"} {
		if !strings.Contains(errs.Public(err), want) {
			t.Errorf("the error does not say %q: %s", want, errs.Public(err))
		}
	}
	m = shell(t, "echo no port is free >&2; exit 1", nil)
	if err := m.start(t.Context()); errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.Public(err), "no port is free") {
		t.Errorf("%v", err)
	}
	m = shell(t, "echo '{'; sleep 100", new(struct{ ID string }))
	if err := m.start(t.Context()); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("a ready line that is no JSON: %v", err)
	}
}
