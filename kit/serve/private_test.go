package serve

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// TestPrivate: only the owner may use the socket, also where its path is longer than a socket's name; one
// that a killed server left is replaced, and a file that is none is not.
func TestPrivate(t *testing.T) {
	for name, dir := range map[string]string{"short": t.TempDir(), "long": filepath.Join(t.TempDir(), strings.Repeat("long", 40))} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "sock")
			for range 2 { // the second finds what the first left when it was killed
				l, err := Private(path)
				if err != nil {
					t.Fatal(err)
				}
				if st, err := os.Stat(path); err != nil || st.Mode() != os.ModeSocket|0o600 {
					t.Errorf("%v, %v", st, err)
				}
				if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
					t.Errorf("%v, %v", left, err)
				}
				came := make(chan error, 1)
				go func() {
					c, err := l.Accept()
					if err == nil {
						_, err = c.Write([]byte("x"))
						c.Close()
					}
					came <- err
				}()
				c, err := DialPrivate(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				var b [1]byte
				if n, err := c.Read(b[:]); n != 1 || b[0] != 'x' {
					t.Error(n, err)
				}
				c.Close()
				if err := <-came; err != nil {
					t.Error(err)
				}
				l.(*socket).Listener.Close()
			}
			l, err := Private(path)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("the socket stays: %v", err)
			}
			if _, err := DialPrivate(t.Context(), path); !os.IsNotExist(err.(*net.OpError).Unwrap()) {
				t.Error(err)
			}
			if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Private(path); errs.KindOf(err) != errs.Exists || errs.Public(err) != "there is something else in the place of the socket "+path {
				t.Error(err)
			}
			if b, err := os.ReadFile(path); string(b) != "mine" {
				t.Error(string(b), err)
			}
		})
	}
	if _, err := Private(filepath.Join(t.TempDir(), "none", "sock")); errs.KindOf(err) != errs.Unavailable || !strings.HasPrefix(errs.Public(err), "cannot make the socket ") {
		t.Error(err)
	}
}
