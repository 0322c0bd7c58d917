package storetest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/store"
)

const (
	killEnv     = "POSTERN_STORETEST_KILL" // the directory, in the child
	killWriters = 6
	killRounds  = 8
	killTxs     = 100_000 // more than any round reaches
)

// Main is for TestMain of an engine's package: it runs the tests, or, in the
// process that the kill test starts, the writers that get killed.
func Main(m *testing.M, e Engine) {
	if d := os.Getenv(killEnv); d != "" {
		if err := killChild(e, d); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killChild writes until it is killed and prints each acknowledgement.
func killChild(e Engine, d string) error {
	ctx := context.Background()
	st, err := e.Open(ctx, vfs.OS(), d)
	if err != nil {
		return err
	}
	var (
		wg sync.WaitGroup
		mu sync.Mutex
	)
	for w := range killWriters {
		s := newSession(e, killWriters)
		wg.Go(func() {
			for range killTxs {
				if err := s.write(ctx, st, w); err != nil {
					fmt.Fprintln(os.Stderr, err)
					return
				}
				a := s.snapshot()
				mu.Lock()
				_, _ = fmt.Printf("ack %d %d %d\n", w, a.last[w], a.count)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return st.Close()
}

func kill(t *testing.T, e Engine) {
	d := filepath.Join(t.TempDir(), "store")
	s := newSession(e, killWriters)
	for round := range killRounds {
		killRound(t, s, d, 20+37*round)
		st, err := e.Open(t.Context(), vfs.OS(), d)
		if err != nil {
			t.Fatalf("round %d: open after kill -9: %v", round, err)
		}
		err = s.verify(t.Context(), st, s.snapshot())
		if cerr := st.Close(); cerr != nil {
			t.Errorf("round %d: close: %v", round, cerr)
		}
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if s.snapshot().count < killRounds*20 {
		t.Fatalf("only %d acknowledgements", s.snapshot().count)
	}
}

// killRound starts the writers in a process of its own and kills it after some
// acknowledgements.
func killRound(t *testing.T, s *session, d string, after int) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), killEnv+"="+d)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewReader(out)
	for n := 0; ; n++ {
		if n == after {
			must(t, cmd.Process.Kill())
		}
		line, err := lines.ReadString('\n')
		if err != nil {
			break // the last line may be cut: it was never heard
		}
		var w int
		var i, count uint64
		if _, err := fmt.Sscanf(line, "ack %d %d %d\n", &w, &i, &count); err != nil {
			t.Fatalf("the writers said %q", line)
		}
		s.note(w, i, count)
	}
	_ = cmd.Wait() // it was killed
	if stderr.Len() > 0 {
		t.Fatalf("the writers failed: %s", stderr.String())
	}
}

var _ store.Store = (*Faulty)(nil)
