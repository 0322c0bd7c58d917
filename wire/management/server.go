package management

import (
	"bufio"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
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
// of the proxy's directory. Only the owner of the socket may connect. See serve.Private for errors.
func Listen(path string) (net.Listener, error) {
	l, err := serve.Private(path)
	return l, errs.Wrap("wire/management.Listen", err)
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
