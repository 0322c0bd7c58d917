package control

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/serve"
)

// ioTime bounds the reading of a request and the writing of one line.
const ioTime = 10 * time.Second

// Handler runs one command. args is the request's JSON (nil when absent);
// progress sends a line before the result and fails when the client has gone.
// The result must encode as JSON; nil is an empty result. ctx ends when the
// client goes or the server stops.
type Handler func(ctx context.Context, args json.RawMessage, progress func(any) error) (any, error)

// Listen makes the socket in dir, removing one that a killed server left there.
// The caller holds the lock of dir, so nobody else listens on it.
func Listen(dir string) (net.Listener, error) {
	return ListenAt(filepath.Join(dir, SocketName))
}

// ListenAt is Listen with the socket at a path of its own; the caller holds a lock that belongs to it.
func ListenAt(path string) (net.Listener, error) {
	l, err := serve.Private(path)
	return l, errs.Wrap("wire/control.Listen", err)
}

// Serve answers commands on l until ctx ends; then running commands end too.
func Serve(ctx context.Context, l net.Listener, handlers map[string]Handler) error {
	err := serve.Listener(ctx, l, serve.Options{
		Conns: limits.NewConns(MaxConns, 0),
		Handle: func(ctx context.Context, c net.Conn, _ limits.Peer) {
			handle(ctx, c, handlers)
		},
	})
	return errs.Wrap("wire/control.Serve", err)
}

func handle(ctx context.Context, c net.Conn, handlers map[string]Handler) {
	c.SetReadDeadline(time.Now().Add(ioTime))
	r := bufio.NewReader(io.LimitReader(c, MaxLine+1))
	line, err := r.ReadBytes('\n')
	if err != nil {
		return // gone, too long or too slow: nobody to answer
	}
	enc := json.NewEncoder(c)
	send := func(a answer) error {
		a.Version = Version
		c.SetWriteDeadline(time.Now().Add(ioTime))
		return enc.Encode(a)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := make(chan struct{})
	go func() { // the client sends nothing more: the end of its side ends the command
		defer close(watched)
		c.SetReadDeadline(time.Time{})
		r.ReadByte()
		cancel()
	}()
	defer func() { c.Close(); <-watched }()
	result, err := run(ctx, line, handlers, send)
	if err != nil {
		send(answer{Error: faultOf(err), Done: true})
		return
	}
	send(answer{Result: result, Done: true})
}

func run(ctx context.Context, line []byte, handlers map[string]Handler, send func(answer) error) (json.RawMessage, error) {
	const op = "wire/control.run"
	var q request
	if err := json.Unmarshal(line, &q); err != nil {
		return nil, errs.E(op, errs.Invalid, "the request is not JSON", err)
	}
	if q.Version != Version {
		return nil, errs.E(op, errs.Unsupported, "this command and the running server are of different versions; run: postern restart", nil)
	}
	h, ok := handlers[q.Command]
	if !ok {
		return nil, errs.E(op, errs.Unsupported, "the running server does not know this command; it may be older than the command", nil)
	}
	result, err := h(ctx, q.Args, func(p any) error {
		b, err := json.Marshal(p)
		if err != nil {
			return errs.E(op, errs.Internal, "", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return send(answer{Progress: b})
	})
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(result)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	return b, nil
}
