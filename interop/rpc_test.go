package interop

import (
	"bufio"
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
	"testing"
	"time"
)

// rpcServer is one deltachat-rpc-server: newline-delimited JSON-RPC 2.0 on its
// standard input and output.
type rpcServer struct {
	t  testing.TB
	in io.WriteCloser

	mu      sync.Mutex
	id      int
	waiting map[int]chan rpcReply
	ended   error

	events chan rpcEvent // closed when the process ends
}

type rpcReply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// rpcEvent is one event of the core; Fields has what belongs to its kind.
type rpcEvent struct {
	Account int            `json:"contextId"`
	Fields  map[string]any `json:"event"`
}

func (e rpcEvent) kind() string { s, _ := e.Fields["kind"].(string); return s }

func (e rpcEvent) number(field string) int { f, _ := e.Fields[field].(float64); return int(f) }

// deltachatBinary finds the real core or skips the test.
func deltachatBinary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("POSTERN_DELTACHAT"); path != "" {
		return path
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	path := filepath.Join("node_modules", "@deltachat", "stdio-rpc-server-"+runtime.GOOS+"-"+arch, "deltachat-rpc-server")
	abs, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(abs)
	}
	if err != nil {
		missing(t, "deltachat-rpc-server (npm ci in interop/)")
	}
	return abs
}

// startRPC runs the core on an empty accounts folder.
func startRPC(t testing.TB) *rpcServer {
	t.Helper()
	cmd := exec.Command(deltachatBinary(t))
	log, err := os.Create(filepath.Join(t.TempDir(), "core.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "DC_ACCOUNTS_PATH="+filepath.Join(t.TempDir(), "accounts"), "RUST_LOG=info")
	cmd.Stderr = log
	in, out := startPiped(t, cmd)
	r := &rpcServer{t: t, in: in, waiting: map[int]chan rpcReply{}, events: make(chan rpcEvent, 4096)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		r.readAll(out)
	}()
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		r.pump()
	}()
	t.Cleanup(func() {
		in.Close() // the core ends with its input
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		<-read
		timer.Stop()
		_ = cmd.Wait()
		<-pumped
		log.Close()
		if t.Failed() {
			t.Logf("end of the core's log:\n%s", tail(log.Name(), 6000))
		}
	})
	return r
}

func (r *rpcServer) readAll(out io.Reader) {
	br := bufio.NewReaderSize(out, 1<<16)
	var err error
	for {
		var line []byte
		if line, err = br.ReadBytes('\n'); err != nil {
			break
		}
		var reply rpcReply
		if json.Unmarshal(line, &reply) != nil || reply.ID == 0 {
			continue
		}
		r.mu.Lock()
		ch := r.waiting[reply.ID]
		delete(r.waiting, reply.ID)
		r.mu.Unlock()
		if ch != nil {
			ch <- reply
		}
	}
	r.mu.Lock()
	r.ended = fmt.Errorf("the core ended: %w", err)
	for _, ch := range r.waiting {
		close(ch)
	}
	r.waiting = nil
	r.mu.Unlock()
}

// pump fetches events for as long as the process lives.
func (r *rpcServer) pump() {
	defer close(r.events)
	for {
		var batch []rpcEvent
		if err := r.call(&batch, "get_next_event_batch"); err != nil {
			return
		}
		for _, e := range batch {
			switch e.kind() {
			case "Info", "SmtpMessageSent", "ImapMessageDeleted", "ConnectivityChanged":
				continue // noise here
			}
			select {
			case r.events <- e:
			default: // nobody listens any more
			}
		}
	}
}

// call runs one method and decodes its result into out (nil: dropped).
func (r *rpcServer) call(out any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	ch := make(chan rpcReply, 1)
	r.mu.Lock()
	if r.waiting == nil {
		defer r.mu.Unlock()
		return r.ended
	}
	r.id++
	id := r.id
	r.waiting[id] = ch
	req, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	if err == nil {
		_, err = r.in.Write(append(req, '\n'))
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	reply, ok := <-ch
	if !ok {
		return errors.New("the core ended")
	}
	if reply.Error != nil {
		return fmt.Errorf("%s: %s", method, reply.Error.Message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(reply.Result, out)
}

// must is call that fails the test.
func (r *rpcServer) must(out any, method string, params ...any) {
	r.t.Helper()
	if err := r.call(out, method, params...); err != nil {
		r.t.Fatal(err)
	}
}

// await reads events until f says that one is it.
func (r *rpcServer) await(limit time.Duration, what string, f func(rpcEvent) bool) rpcEvent {
	r.t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var seen []string
	for {
		select {
		case e, ok := <-r.events:
			if !ok {
				r.t.Fatalf("waiting for %s: the core ended", what)
			}
			if k := e.kind(); k == "Error" || k == "Warning" || k == "MsgFailed" {
				seen = append(seen, fmt.Sprint(e.Fields))
			}
			if f(e) {
				return e
			}
		case <-timer.C:
			r.t.Fatalf("waited %v for %s; the core said meanwhile:\n%s", limit, what, strings.Join(seen, "\n"))
		}
	}
}
