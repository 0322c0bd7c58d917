package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/serve"
)

// Call sends one command to the server that holds dir and decodes its result into
// result (nil: ignored). progress (may be nil) is called for each progress line.
// errs.NotFound: no server runs there. Errors of the command keep their kind and
// public text.
func Call(ctx context.Context, dir, command string, args, result any, progress func(json.RawMessage)) error {
	return call(ctx, filepath.Join(dir, SocketName), "in "+dir, command, args, result, progress)
}

// CallAt is Call to the server whose socket is at path.
func CallAt(ctx context.Context, path, command string, args, result any, progress func(json.RawMessage)) error {
	return call(ctx, path, "at "+path, command, args, result, progress)
}

// call is Call; where names the server in error texts.
func call(ctx context.Context, path, where, command string, args, result any, progress func(json.RawMessage)) error {
	const op = "wire/control.Call"
	var raw json.RawMessage
	if args != nil {
		b, err := json.Marshal(args)
		if err != nil {
			return errs.E(op, errs.Internal, "", err)
		}
		raw = b
	}
	line, err := json.Marshal(request{Version: Version, Command: command, Args: raw})
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	if len(line) >= MaxLine {
		return errs.E(op, errs.TooLarge, "the request is too large", nil)
	}
	c, err := serve.DialPrivate(ctx, path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return errs.E(op, errs.NotFound, "no server is running "+where, err)
		}
		return errs.E(op, errs.Unavailable, "cannot reach the server "+where, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	c.SetWriteDeadline(time.Now().Add(ioTime))
	if _, err := c.Write(append(line, '\n')); err != nil {
		return errs.E(op, errs.Unavailable, "the server does not answer", err)
	}
	in := bufio.NewReader(c)
	for {
		a, err := readAnswer(in)
		if err != nil {
			if ctx.Err() != nil {
				return errs.E(op, errs.Canceled, "", ctx.Err())
			}
			return errs.E(op, errs.Unavailable, "the server went away before it answered", err)
		}
		switch {
		case a.Error != nil:
			return a.Error.err(op)
		case !a.Done:
			if progress != nil {
				progress(a.Progress)
			}
			continue
		}
		if result == nil || len(a.Result) == 0 {
			return nil
		}
		if err := json.Unmarshal(a.Result, result); err != nil {
			return errs.E(op, errs.Invalid, "the server's answer cannot be read", err)
		}
		return nil
	}
}

// readAnswer reads one line of at most MaxLine bytes.
func readAnswer(in *bufio.Reader) (a answer, err error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return a, err
		}
		if len(line) > MaxLine {
			return a, errs.E("wire/control.readAnswer", errs.TooLarge, "", nil)
		}
	}
	return a, json.Unmarshal(line, &a)
}
