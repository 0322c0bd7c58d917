package serve

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"postern.email/kit/errs"
)

// Private makes a Unix socket to which only its owner may connect, and takes the place of one that a
// killed server left there: the caller holds a lock, so that nobody else listens on it. The path may be
// longer than a socket's name (unix(7)). Closing the listener removes the socket; who closes it
// second waits for the first, so that another server may make its socket there afterwards.
//
// errs.Exists when something that is no socket lies there; errs.Unavailable; both with a public
// text that names the path.
func Private(path string) (net.Listener, error) {
	const op = "kit/serve.Private"
	st, err := os.Lstat(path)
	switch {
	case err == nil && st.Mode()&os.ModeSocket == 0:
		return nil, errs.E(op, errs.Exists, "there is something else in the place of the socket "+path, nil)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, errs.E(op, errs.Unavailable, "cannot replace the socket "+path, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, errs.E(op, errs.Unavailable, "cannot look at the socket "+path, err)
	}
	fail := func(err error) (net.Listener, error) {
		return nil, errs.E(op, errs.Unavailable, "cannot make the socket "+path, err)
	}
	// Until the rights are set, the socket lies in a directory that only the owner can enter.
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(private)
	fresh := filepath.Join(private, "s")
	short, done, err := reach(fresh)
	if err != nil {
		return fail(err)
	}
	defer done()
	l, err := net.Listen("unix", short)
	if err != nil {
		return fail(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // the name that it was made under is gone by then
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		l.Close()
		return fail(err)
	}
	return &socket{Listener: l, path: path}, nil
}

// DialPrivate connects to a socket of Private. The errors are those of net.Dialer.
func DialPrivate(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := reach(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

// socket is a listener that removes its socket in the end.
type socket struct {
	net.Listener
	path string
	once sync.Once
	err  error
}

// Close stops listening and removes the socket.
func (l *socket) Close() error {
	l.once.Do(func() { l.err = errors.Join(l.Listener.Close(), os.Remove(l.path)) })
	return l.err
}

// maxSun is the longest name of a Unix socket (sun_path of unix(7), with its zero).
const maxSun = 107

// reach gives a name of path that is short enough for a socket: path itself, or one through a
// descriptor of its directory. done must be called after the name was used.
func reach(path string) (short string, done func(), err error) {
	if len(path) <= maxSun {
		return path, func() {}, nil
	}
	f, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(f.Fd())), filepath.Base(path)), func() { f.Close() }, nil
}
