package pop3

import (
	"context"
	"strconv"
	"strings"

	"postern.email/kit/errs"
)

// message reads a message number: it must exist and not be marked as deleted.
func (c *conn) message(arg string) (int, bool) {
	n, err := strconv.Atoi(arg)
	if err != nil || n < 1 || n > c.drop.Len() || c.deleted[n-1] || arg[0] == '+' {
		return 0, false
	}
	return n - 1, true
}

const noSuch = "-ERR no such message"

func (c *conn) stat(ctx context.Context, arg string) (bool, error) {
	var count, octets int64
	for i := range c.drop.Len() {
		if c.deleted[i] {
			continue
		}
		size, err := c.drop.Size(ctx, i)
		if err != nil {
			return c.failed(err)
		}
		count++
		octets += size
	}
	return false, c.reply("+OK %d %d", count, octets)
}

func (c *conn) list(ctx context.Context, arg string) (bool, error) {
	return c.listing(arg, func(i int) (string, error) {
		size, err := c.drop.Size(ctx, i)
		return strconv.FormatInt(size, 10), err
	})
}

func (c *conn) uidl(_ context.Context, arg string) (bool, error) {
	return c.listing(arg, func(i int) (string, error) { return c.drop.UID(i), nil })
}

// listing answers LIST and UIDL, for one message or all.
func (c *conn) listing(arg string, of func(int) (string, error)) (bool, error) {
	if arg != "" {
		i, ok := c.message(arg)
		if !ok {
			return c.mistake(noSuch)
		}
		text, err := of(i)
		if err != nil {
			return c.failed(err)
		}
		return false, c.reply("+OK %d %s", i+1, text)
	}
	if err := c.reply("+OK"); err != nil {
		return true, err
	}
	for i := range c.drop.Len() {
		if c.deleted[i] {
			continue
		}
		text, err := of(i)
		if err != nil {
			return true, err // the answer has begun: an error cannot be told any more
		}
		if err := c.reply("%d %s", i+1, text); err != nil {
			return true, err
		}
	}
	return false, c.reply(".")
}

func (c *conn) retr(ctx context.Context, arg string) (bool, error) {
	i, ok := c.message(arg)
	if !ok {
		return c.mistake(noSuch)
	}
	return c.send(ctx, i, -1)
}

func (c *conn) top(ctx context.Context, arg string) (bool, error) {
	number, lines, _ := strings.Cut(arg, " ")
	i, ok := c.message(number)
	if !ok {
		return c.mistake(noSuch)
	}
	n, err := strconv.ParseInt(lines, 10, 64)
	if err != nil || n < 0 {
		return c.mistake("-ERR TOP needs a message and a number of lines")
	}
	return c.send(ctx, i, n)
}

func (c *conn) send(ctx context.Context, i int, top int64) (bool, error) {
	body, err := c.drop.Open(ctx, i)
	if err != nil {
		return c.failed(err)
	}
	defer body.Close()
	if err := c.reply("+OK message follows"); err != nil {
		return true, err
	}
	return false, sendBody(c.w, body, top)
}

func (c *conn) dele(_ context.Context, arg string) (bool, error) {
	i, ok := c.message(arg)
	if !ok {
		return c.mistake(noSuch)
	}
	c.deleted[i] = true
	return false, c.reply("+OK marked; QUIT deletes")
}

func (c *conn) rset(context.Context, string) (bool, error) {
	clear(c.deleted)
	return false, c.reply("+OK nothing is marked")
}

// quit is RFC 1939 §6: only now are the marked messages deleted. The lock is free
// before the answer goes out, so that whoever hears it may log in again at once.
func (c *conn) quit(ctx context.Context, _ string) (bool, error) {
	defer c.release()
	if len(c.deleted) > 0 {
		indexes := make([]int, 0, len(c.deleted))
		for i := range c.drop.Len() {
			if c.deleted[i] {
				indexes = append(indexes, i)
			}
		}
		if err := c.drop.Delete(ctx, indexes); err != nil {
			return true, c.reply("-ERR " + respCode(err) + "some deleted messages were not removed: " + errs.Public(err))
		}
	}
	return true, c.reply("+OK bye")
}

// release gives the maildrop back, once. Replies leave later, with the next flush.
func (c *conn) release() {
	if c.drop != nil {
		c.drop.Close()
		c.drop = nil
	}
}

func (c *conn) failed(err error) (bool, error) {
	return c.mistake("-ERR " + respCode(err) + errs.Public(err))
}
