package management

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keys is a backend with keys in memory.
type keys struct {
	mu      sync.Mutex
	all     map[string]string
	queried []string
	stopped int
}

func (k *keys) Get(_ context.Context, user string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key, ok := k.all[user]; ok {
		return key, nil
	}
	return "", errs.E("", errs.NotFound, "there is none", nil)
}

func (k *keys) Set(_ context.Context, user, key string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch key {
	case "bad":
		return errs.E("", errs.Invalid, "no key", nil)
	case "classical":
		return errs.E("", errs.Denied, "not without AllowClassicalRecipients\r\n250 ok", nil)
	}
	k.all[user] = key
	return nil
}

func (k *keys) Remove(_ context.Context, user string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.all[user]; !ok {
		return errs.E("", errs.NotFound, "", nil)
	}
	delete(k.all, user)
	return nil
}

func (k *keys) List(context.Context) (out []Recipient, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for user, key := range k.all {
		out = append(out, Recipient{user, key})
	}
	slices.SortFunc(out, func(a, b Recipient) int { return strings.Compare(a.User, b.User) })
	return out, nil
}

func (k *keys) Query(_ context.Context, sender, user string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.queried = append(k.queried, sender+" "+user)
	return nil
}

func (k *keys) Shutdown() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped++
}

// done tells what was asked for beside keys.
func (k *keys) done() (queried []string, stopped, all int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.queried), k.stopped, len(k.all)
}

// begin serves a backend and gives the path of its socket.
func begin(t *testing.T) (*keys, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "m") // short: see sun_path of unix(7)
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "sock")
	l, err := Listen(path)
	must(t, err)
	k := &keys{all: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, k) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return k, path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// talk is one connection of a script: lines that are sent, and the answers to each.
func talk(t *testing.T, path, end string, script ...string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	must(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	want := func(line string) {
		t.Helper()
		got, err := r.ReadString('\n')
		if err != nil || got != line+"\r\n" {
			t.Fatalf("got %q, %v; want %q", got, err, line)
		}
	}
	want("220 Postern Mailproxy Management Interface Service ready")
	for _, line := range script {
		if answer, ok := strings.CutPrefix(line, "< "); ok {
			want(answer)
			continue
		}
		_, err := io.WriteString(c, line+end)
		must(t, err)
	}
	if _, err := r.ReadByte(); err != io.EOF && len(script) > 0 && strings.HasPrefix(script[len(script)-2], "QUIT") {
		t.Fatalf("after QUIT: %v", err)
	}
}

// TestCommands: every command with every reply that it has, word for word, and lines that end
// in LF alone.
func TestCommands(t *testing.T) {
	for _, end := range []string{"\r\n", "\n"} {
		k, path := begin(t)
		talk(t, path, end,
			"GET_RECIPIENT bob@example.org", "< 554 Transaction failed",
			"SET_RECIPIENT bob@example.org pk:1", "< 250 Requested action ok, completed",
			"get_recipient bob@example.org", "< 250 pk:1",
			"SET_RECIPIENT .dot@example.org pk:2", "< 250 Requested action ok, completed",
			"LIST_RECIPIENTS", "< 250 Requested action ok, completed", "< ..dot@example.org pk:2", "< bob@example.org pk:1", "< .",
			"SET_RECIPIENT bob@example.org bad", "< 501 Syntax error in parameters or arguments",
			"SET_RECIPIENT bob@example.org classical", "< 554 Transaction failed: not without AllowClassicalRecipients  250 ok",
			"REMOVE_RECIPIENT bob@example.org", "< 250 Requested action ok, completed",
			"REMOVE_RECIPIENT bob@example.org", "< 554 Transaction failed",
			"QUERY_RECIPIENT alice@example.org bob@example.org", "< 250 Requested action ok, completed",
			"SHUTDOWN", "< 250 Requested action ok, completed",
			"QUIT", "< 250 Requested action ok, completed")
		if queried, stopped, _ := k.done(); len(queried) != 1 || queried[0] != "alice@example.org bob@example.org" || stopped != 1 {
			t.Errorf("%q, %d", queried, stopped)
		}
	}
}

// TestSyntax: words that are missing, too many or empty, and commands that do not exist.
func TestSyntax(t *testing.T) {
	k, path := begin(t)
	const syntax, unknown = "< 501 Syntax error in parameters or arguments", "< 500 Syntax error, command unrecognised"
	talk(t, path, "\r\n", "GET_RECIPIENT", syntax, "GET_RECIPIENT a b", syntax, "SET_RECIPIENT a", syntax, "SET_RECIPIENT a b c", syntax, "SET_RECIPIENT  a", syntax,
		"REMOVE_RECIPIENT", syntax, "LIST_RECIPIENTS all", syntax, "QUERY_RECIPIENT a", syntax, "SHUTDOWN now", syntax, "QUIT now", syntax,
		"", unknown, "HELP", unknown, "EHLO x", unknown, "QUIT", "< 250 Requested action ok, completed")
	if _, stopped, all := k.done(); all != 0 || stopped != 0 {
		t.Errorf("%d, %d", all, stopped)
	}
	talk(t, path, "\r\n", "GET_RECIPIENT "+strings.Repeat("x", MaxLine), syntax)
}

// TestSocket: only its owner may use it; one that a killed proxy left is replaced, and a file that is
// none is not.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	l, err := Listen(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 {
		t.Errorf("%v", left)
	}
	must(t, l.Close())
	killed, err := net.Listen("unix", path)
	must(t, err)
	killed.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, killed.Close()) // as a kill does
	l, err = Listen(path)
	must(t, err)
	must(t, l.Close())
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
	if _, err := Dial(t.Context(), path); errs.KindOf(err) != errs.NotFound {
		t.Errorf("%v", err)
	}
	must(t, os.WriteFile(path, []byte("mine"), 0o600))
	if _, err := Listen(path); errs.KindOf(err) != errs.Exists {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "mine" {
		t.Error("the file is gone")
	}
}

// TestClient: what the program's own client makes of the replies.
func TestClient(t *testing.T) {
	k, path := begin(t)
	c, err := Dial(t.Context(), path)
	must(t, err)
	defer c.Close()
	if _, err := c.Get("x@example.org"); errs.KindOf(err) != errs.NotFound {
		t.Errorf("%v", err)
	}
	must(t, c.Set("x@example.org", "pk:x"))
	must(t, c.Set(".y@example.org", "pk:y"))
	if key, err := c.Get("x@example.org"); key != "pk:x" || err != nil {
		t.Errorf("%q, %v", key, err)
	}
	list, err := c.List()
	if err != nil || fmt.Sprint(list) != "[{.y@example.org pk:y} {x@example.org pk:x}]" {
		t.Errorf("%v, %v", list, err)
	}
	if err := c.Set("x@example.org", "bad"); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), "this is no key") {
		t.Errorf("%v", err)
	}
	if err := c.Set("x@example.org", "classical"); errs.KindOf(err) != errs.Denied || !strings.Contains(errs.Public(err), "AllowClassicalRecipients") {
		t.Errorf("%v", err)
	}
	for _, word := range []string{"", "a b", "a\r\nSHUTDOWN"} {
		if err := c.Remove(word); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%q: %v", word, err)
		}
	}
	must(t, c.Remove("x@example.org"))
	must(t, c.Query("a@example.org", "b@example.org"))
	must(t, c.Shutdown())
	if queried, stopped, _ := k.done(); stopped != 1 || len(queried) != 1 {
		t.Errorf("%q, %d", queried, stopped)
	}
}

// TestManyConnections: those beyond the bound are closed, and the others go on.
func TestManyConnections(t *testing.T) {
	_, path := begin(t)
	var open []*Client
	for range MaxConns {
		c, err := Dial(t.Context(), path)
		must(t, err)
		open = append(open, c)
	}
	if _, err := Dial(t.Context(), path); err == nil {
		t.Error("one more is served")
	}
	must(t, open[0].Set("a", "b"))
	for _, c := range open {
		c.Close()
	}
}

// FuzzCommand: whatever comes is answered with lines that have a code, and nothing but SHUTDOWN
// stops the proxy.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"GET_RECIPIENT a", "SET_RECIPIENT a b", "LIST_RECIPIENTS", "QUERY_RECIPIENT a b", "SHUTDOWN", "QUIT", "", " ", "set_recipient  a", "SET_RECIPIENT a classical", "\x00\xff", "QUIT\nQUIT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k := &keys{all: map[string]string{}}
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			handle(t.Context(), server, k)
			server.Close()
		}()
		go func() {
			_, _ = io.WriteString(client, text+"\nQUIT\n")
		}()
		r := bufio.NewReader(client)
		inList := false
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			switch {
			case !strings.HasSuffix(line, "\r\n"):
				t.Fatalf("%q", line)
			case inList:
				inList = line != ".\r\n"
			case len(line) < 5 || line[3] != ' ' || !slices.Contains([]string{codeReady, codeOK, codeUnknown, codeSyntax, codeFailed}, line[:3]):
				t.Fatalf("%q", line)
			}
			if strings.Contains(strings.ToUpper(text), cmdList) && strings.HasPrefix(line, "250 "+textOK) {
				inList = true // or not: then the next line is taken as one of a list, which is harmless
			}
		}
		client.Close()
		<-done
		if k.stopped > 0 && !strings.Contains(strings.ToUpper(text), cmdShutdown) {
			t.Fatal("stopped")
		}
	})
}
