package alias

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/postmap"
	"postern.email/kit/vfs"
)

// mapFile is a table whose index the test makes itself, and the lines that should be in it.
type mapFile struct {
	path     string
	compiles atomic.Int32
	fail     atomic.Bool
	hold     chan struct{} // nil: no compile waits

	mu    sync.Mutex
	lines []postmap.Line
	next  time.Time
}

func (m *mapFile) compile(ctx context.Context, _, path string) error {
	m.compiles.Add(1)
	if m.hold != nil {
		select {
		case <-m.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if m.fail.Load() {
		return errs.E("x", errs.Unavailable, "postmap of Postfix failed", errors.New("why"))
	}
	return vfs.WriteFileAtomic(vfs.OS(), path+".db", []byte("index"), 0o600)
}

func (m *mapFile) want(context.Context) ([]postmap.Line, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]postmap.Line(nil), m.lines...), m.next, nil
}

func (m *mapFile) add(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, postmap.Line{Key: key, Value: "t@y.example"})
}

// text is what stands in the map.
func (m *mapFile) text(t testing.TB) string {
	t.Helper()
	b, err := vfs.ReadFile(vfs.OS(), m.path)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		t.Fatal(err)
	}
	return string(b)
}

// startKeeper runs a keeper until the test ends, or stop is called.
func startKeeper(t *testing.T, m *mapFile, log io.Writer) (k *keeper, stop func()) {
	t.Helper()
	m.path = filepath.Join(t.TempDir(), "map")
	table, err := postmap.New(postmap.Options{Path: m.path, Type: "hash", Compile: m.compile})
	if err != nil {
		t.Fatal(err)
	}
	k = newKeeper(table, m.want, time.Now, slog.New(slog.NewTextHandler(log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return k, stop
}

// TestManyChangesAreOneRewriting: all who change something while the map is being written wait for the same next
// one, and it holds what each of them has changed.
func TestManyChangesAreOneRewriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mapFile{hold: make(chan struct{})}
		k, _ := startKeeper(t, m, io.Discard)
		m.add("first@x.example")
		one := make(chan error, 1)
		go func() { _, err := k.Sync(t.Context()); one <- err }()
		synctest.Wait() // it is being written
		const callers = 100
		all := make(chan error, callers)
		for i := range callers {
			go func() {
				key := strings.Repeat("x", i+1) + "@x.example"
				m.add(key)
				_, err := k.Sync(t.Context())
				if err == nil && !strings.Contains(m.text(t), "\n"+key+" t@y.example\n") {
					err = errors.New("the map does not show " + key)
				}
				all <- err
			}()
		}
		synctest.Wait()
		close(m.hold)
		if err := <-one; err != nil {
			t.Error(err)
		}
		for range callers {
			if err := <-all; err != nil {
				t.Error(err)
			}
		}
		if n := m.compiles.Load(); n > 3 {
			t.Errorf("%d rewritings for 101 changes", n)
		}
		if st := k.State(); st.Lines != callers+1 || st.Waits || st.Error != "" || st.Written.IsZero() {
			t.Errorf("%+v", st)
		}
	})
}

// TestMapIsTriedAgain: after a map that could not be written nobody has to ask again; whoever asked is told, and the
// log names no address.
func TestMapIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		m := &mapFile{}
		m.fail.Store(true)
		m.add("secret@x.example")
		k, _ := startKeeper(t, m, &log)
		if _, err := k.Sync(t.Context()); errs.KindOf(err) != errs.Unavailable || errs.Public(err) != "postmap of Postfix failed" {
			t.Error(err)
		}
		if st := k.State(); !st.Waits || st.Error != "postmap of Postfix failed" {
			t.Errorf("%+v", st)
		}
		m.fail.Store(false)
		time.Sleep(lastRetry) // of the bubble's clock
		synctest.Wait()
		if st := k.State(); st.Waits || st.Error != "" || st.Lines != 1 || !strings.Contains(m.text(t), "secret@x.example t@y.example") {
			t.Errorf("%+v, %q", st, m.text(t))
		}
		if s := log.String(); strings.Contains(s, "secret") || !strings.Contains(s, "could not be written") || !strings.Contains(s, "is written again") {
			t.Errorf("the log: %s", s)
		}
	})
}

// TestMapFollowsTheClock: what ends by date leaves the map at that time, and what somebody spoils is mended.
func TestMapFollowsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mapFile{next: time.Now().Add(time.Minute)}
		m.add("ends@x.example")
		k, _ := startKeeper(t, m, io.Discard)
		if _, err := k.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.mu.Lock()
		m.lines, m.next = nil, time.Time{}
		m.mu.Unlock()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if s := m.text(t); s != "" {
			t.Errorf("it is still there: %q", s)
		}
		m.add("other@x.example")
		time.Sleep(lookEvery + time.Second)
		synctest.Wait()
		if s := m.text(t); !strings.Contains(s, "other@x.example") {
			t.Errorf("not looked at again: %q", s)
		}
	})
}

// TestKeeperEnds: who waits when the server stops is told; and a caller can give up.
func TestKeeperEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mapFile{hold: make(chan struct{})}
		m.add("a@x.example")
		k, stop := startKeeper(t, m, io.Discard)
		errc := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, err := k.Sync(ctx); errc <- err }()
		synctest.Wait()
		cancel()
		if err := <-errc; errs.KindOf(err) != errs.Canceled {
			t.Error(err)
		}
		go func() { _, err := k.Sync(context.Background()); errc <- err }()
		synctest.Wait()
		stop()
		if err := <-errc; errs.KindOf(err) != errs.Canceled || errs.Public(err) != "the server stops; the map is written when it starts again" {
			t.Errorf("the map was not written, and who waits is told: %v", err)
		}
	})
}
