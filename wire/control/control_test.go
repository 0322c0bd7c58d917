package control

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, dir string, h map[string]Handler) (stop func()) {
	t.Helper()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, h) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

var echo = map[string]Handler{
	"echo": func(_ context.Context, args json.RawMessage, progress func(any) error) (any, error) {
		for i := range 3 {
			if err := progress(i); err != nil {
				return nil, err
			}
		}
		return args, nil
	},
	"fail": func(context.Context, json.RawMessage, func(any) error) (any, error) {
		return nil, errs.E("secret.op", errs.Full, "the box is full", io.EOF)
	},
	"big": func(context.Context, json.RawMessage, func(any) error) (any, error) {
		return strings.Repeat("x", 1<<20), nil
	},
}

func TestCall(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), strings.Repeat("long", 40))} {
		os.MkdirAll(dir, 0o700)
		stop := start(t, dir, echo)
		st, err := os.Stat(filepath.Join(dir, SocketName))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("socket: %v, %v", st, err)
		}
		var got map[string]int
		var seen []string
		err = Call(t.Context(), dir, "echo", map[string]int{"a": 1}, &got, func(p json.RawMessage) { seen = append(seen, string(p)) })
		if err != nil || got["a"] != 1 || strings.Join(seen, "") != "012" {
			t.Errorf("%v %v %v", got, seen, err)
		}
		err = Call(t.Context(), dir, "fail", nil, nil, nil)
		if errs.KindOf(err) != errs.Full || errs.Public(err) != "the box is full" || strings.Contains(err.Error(), "secret") {
			t.Errorf("fail: %v", err)
		}
		var s string
		if err := Call(t.Context(), dir, "big", nil, &s, nil); err != nil || len(s) != 1<<20 {
			t.Errorf("big: %d, %v", len(s), err)
		}
		if err := Call(t.Context(), dir, "none", nil, nil, nil); errs.KindOf(err) != errs.Unsupported {
			t.Errorf("unknown command: %v", err)
		}
		if err := Call(t.Context(), dir, "echo", strings.Repeat("x", MaxLine), nil, nil); errs.KindOf(err) != errs.TooLarge {
			t.Errorf("too large: %v", err)
		}
		stop()
		if err := Call(t.Context(), dir, "echo", nil, nil, nil); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "no server is running in ") {
			t.Errorf("no server: %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, SocketName)); !os.IsNotExist(err) {
			t.Errorf("the socket is still there: %v", err)
		}
	}
}

// TestAt: a socket may have a name of its own.
func TestAt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.sock")
	if err := CallAt(t.Context(), path, "echo", nil, nil, nil); errs.KindOf(err) != errs.NotFound || errs.Public(err) != "no server is running at "+path {
		t.Errorf("no server: %v", err)
	}
	l, err := ListenAt(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, echo) }()
	var got map[string]int
	if err := CallAt(t.Context(), path, "echo", map[string]int{"a": 1}, &got, nil); err != nil || got["a"] != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestKilledServer: the socket file of a killed server is replaced.
func TestKilledServer(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := Call(t.Context(), dir, "echo", nil, nil, nil); errs.KindOf(err) != errs.NotFound {
		t.Errorf("dead socket: %v", err)
	}
	start(t, dir, echo)()
}

// TestGoneClientEndsCommand: a command ends when its caller goes, and Serve ends
// running commands.
func TestGoneClientEndsCommand(t *testing.T) {
	dir := t.TempDir()
	began, ended := make(chan bool, 2), make(chan bool, 2)
	wait := func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) {
		began <- true
		<-ctx.Done()
		ended <- true
		return nil, ctx.Err()
	}
	stop := start(t, dir, map[string]Handler{"wait": wait})
	ctx, cancel := context.WithCancel(t.Context())
	errc := make(chan error)
	go func() { errc <- Call(ctx, dir, "wait", nil, nil, nil) }()
	<-began
	cancel()
	<-ended
	if err := <-errc; errs.KindOf(err) != errs.Canceled {
		t.Error(err)
	}
	go func() { errc <- Call(t.Context(), dir, "wait", nil, nil, nil) }()
	<-began
	stop()
	<-ended
	if err := <-errc; err == nil {
		t.Error("a stopped server gave a result")
	}
}

func TestVersionAndGarbage(t *testing.T) {
	dir := t.TempDir()
	defer start(t, dir, echo)()
	for send, want := range map[string]string{
		`{"v":99,"command":"echo"}`: "different versions",
		`nonsense`:                  "not JSON",
	} {
		c, err := net.Dial("unix", filepath.Join(dir, SocketName))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, send+"\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		if !strings.Contains(line, want) {
			t.Errorf("%s: %s", send, line)
		}
		c.Close()
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"v":1,"command":"echo","args":{"a":1}}`))
	f.Add([]byte(`{"v":1,"command":"fail"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, line []byte) {
		out, err := run(t.Context(), line, echo, func(answer) error { return nil })
		if err == nil && !json.Valid(out) {
			t.Fatalf("result %q", out)
		}
	})
}

// TestWith: a command's arguments come in as they were sent; what cannot be read as them is refused.
func TestWith(t *testing.T) {
	h := With(func(_ context.Context, a struct{ Name string }) (string, error) { return "for " + a.Name, nil })
	if got, err := h(t.Context(), json.RawMessage(`{"name":"anna"}`), nil); got != "for anna" || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, raw := range []string{"", "{", `{"name":1}`} {
		if got, err := h(t.Context(), json.RawMessage(raw), nil); got != nil || errs.KindOf(err) != errs.Invalid || errs.Public(err) != "the command's arguments cannot be read" {
			t.Errorf("%q: %v, %v", raw, got, err)
		}
	}
}
