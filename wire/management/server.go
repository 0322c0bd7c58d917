package management

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/serve"
	"postern.email/wire/lineio"
)

// Times of a connection.
const (
	idleTime  = 10 * time.Minute // for a command
	writeTime = 10 * time.Second
)

// Listen makes the socket, removing one that a killed proxy left there. The caller holds the lock
// of the proxy's directory. Only the owner of the socket may connect.
func Listen(path string) (net.Listener, error) {
	const op = "wire/management.Listen"
	st, err := os.Lstat(path)
	switch {
	case err == nil && st.Mode()&os.ModeSocket == 0:
		return nil, errs.E(op, errs.Exists, "there is something else in the place of the management socket "+path, nil)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, errs.E(op, errs.Unavailable, "cannot replace the management socket "+path, err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, errs.E(op, errs.Unavailable, "cannot look at the management socket "+path, err)
	}
	// Until the rights are set, the socket lies in a directory that only the owner can enter.
	private, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot make the management socket "+path, err)
	}
	defer os.RemoveAll(private)
	fresh := filepath.Join(private, "s")
	l, err := net.Listen("unix", fresh)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot make the management socket "+path+"; a shorter Management.Path may help", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		l.Close()
		return nil, errs.E(op, errs.Unavailable, "cannot make the management socket "+path, err)
	}
	return &listener{Listener: l, path: path}, nil
}

type listener struct {
	net.Listener
	path string
	once sync.Once
	err  error
}

// Close stops listening and removes the socket.
func (l *listener) Close() error {
	l.once.Do(func() { l.err = errors.Join(l.Listener.Close(), os.Remove(l.path)) })
	return l.err
}

// Serve answers on l until ctx ends.
func Serve(ctx context.Context, l net.Listener, b Backend) error {
	err := serve.Listener(ctx, l, serve.Options{
		Conns:  limits.NewConns(MaxConns, 0),
		Grace:  time.Second,
		Handle: func(ctx context.Context, c net.Conn, _ limits.Peer) { handle(ctx, c, b) },
	})
	return errs.Wrap("wire/management.Serve", err)
}

// session is one connection.
type session struct {
	b Backend
	w *lineio.Writer
}

func handle(ctx context.Context, c net.Conn, b Backend) {
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	// Lines may end in LF alone, as those of a script do.
	r := bufio.NewReaderSize(c, MaxLine+2)
	s := &session{b: b, w: lineio.NewWriter(c, writeTime)}
	s.reply(codeReady, Service+" Service ready")
	for s.w.Flush() == nil && ctx.Err() == nil {
		c.SetReadDeadline(time.Now().Add(idleTime))
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			s.reply(codeSyntax, textSyntax)
			break
		}
		if err != nil || s.command(ctx, strings.Trim(string(line), " \t\r\n")) {
			break
		}
	}
	_ = s.w.Flush()
}

func (s *session) reply(code, text string) { _, _ = s.w.WriteString(code + " " + text + "\r\n") }

// result answers a command whose outcome is err.
func (s *session) result(err error) {
	switch {
	case err == nil:
		s.reply(codeOK, textOK)
	case errs.KindOf(err) == errs.NotFound:
		s.reply(codeFailed, textFailed)
	default:
		s.reply(codeFailed, textFailed+": "+lineio.Clean(errs.Public(err), 500))
	}
}

// command does what a line says.
func (s *session) command(ctx context.Context, line string) (quit bool) {
	words := strings.Split(line, " ")
	name, args := strings.ToUpper(words[0]), words[1:]
	if need, ok := arguments[name]; !ok {
		s.reply(codeUnknown, textUnknown)
		return false
	} else if len(args) != need || slices.Contains(args, "") {
		s.reply(codeSyntax, textSyntax)
		return false
	}
	switch name {
	case cmdGet:
		key, err := s.b.Get(ctx, args[0])
		if err != nil {
			s.result(err)
			return false
		}
		s.reply(codeOK, key)
	case cmdSet:
		err := s.b.Set(ctx, args[0], args[1])
		if errs.KindOf(err) == errs.Invalid && err != nil {
			s.reply(codeSyntax, textSyntax)
			return false
		}
		s.result(err)
	case cmdRemove:
		s.result(s.b.Remove(ctx, args[0]))
	case cmdList:
		s.list(ctx)
	case cmdQuery:
		s.result(s.b.Query(ctx, args[0], args[1]))
	case cmdShutdown:
		s.b.Shutdown()
		s.reply(codeOK, textOK)
	case cmdQuit:
		s.reply(codeOK, textOK)
		return true
	}
	return false
}

func (s *session) list(ctx context.Context) {
	all, err := s.b.List(ctx)
	s.result(err)
	if err != nil {
		return
	}
	d := lineio.NewDotWriter(s.w)
	for _, r := range all {
		if _, err := d.Write([]byte(r.User + " " + r.Key + "\r\n")); err != nil {
			return
		}
	}
	_ = d.Close()
}
