package pop3

import (
	"context"
	"strings"

	"postern.email/kit/errs"
	"postern.email/wire/lineio"
	"postern.email/wire/sasl"
)

// user is RFC 1939 §7: USER, then PASS on the next line. The two belong
// together: any other command in between forgets the name.
func (c *conn) user(ctx context.Context, name string) (bool, error) {
	if !sasl.MayAuth(c.security()) {
		return c.mistake("-ERR [AUTH] a password may not cross this connection; use STLS or the TLS port")
	}
	if name == "" {
		return c.mistake("-ERR USER needs a name")
	}
	if err := c.reply("+OK now PASS"); err != nil {
		return true, err
	}
	if c.r.Buffered() == 0 {
		if err := c.flush(); err != nil {
			return true, err
		}
	}
	line, err := c.readLine()
	if err != nil {
		return true, c.readFailed(err)
	}
	verb, password, _ := strings.Cut(line, " ")
	if !strings.EqualFold(verb, "PASS") {
		if strings.EqualFold(verb, "USER") {
			return c.mistake("-ERR PASS must follow USER") // and no recursion through endless USERs
		}
		return c.one(ctx, line)
	}
	return c.login(ctx, name, password) // a password may hold spaces: the rest of the line
}

// auth is RFC 5034.
func (c *conn) auth(ctx context.Context, arg string) (bool, error) {
	if !sasl.MayAuth(c.security()) {
		return c.mistake("-ERR [AUTH] a password may not cross this connection; use STLS or the TLS port")
	}
	if arg == "" { // some clients list the mechanisms so
		return false, c.reply("+OK\r\n" + strings.Join(sasl.Mechanisms(c.security()), "\r\n") + "\r\n.")
	}
	mech, initial, given := strings.Cut(arg, " ")
	server, err := sasl.New(mech)
	if err != nil {
		return c.mistake("-ERR " + errs.Public(err))
	}
	var response []byte
	if given {
		if response, err = sasl.Decode([]byte(initial)); err != nil {
			return c.mistake("-ERR " + errs.Public(err))
		}
	}
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			return c.mistake("-ERR [AUTH] " + errs.Public(err))
		}
		if done {
			cred := server.Credentials()
			return c.login(ctx, cred.Username, cred.Password)
		}
		if err := c.reply("+ " + sasl.Encode(challenge)); err != nil {
			return true, err
		}
		if err := c.flush(); err != nil {
			return true, err
		}
		line, err := c.readLine()
		if err != nil {
			return true, c.readFailed(err)
		}
		if line == "*" {
			return c.mistake("-ERR authentication cancelled")
		}
		if response, err = sasl.Decode([]byte(line)); err != nil {
			return c.mistake("-ERR " + errs.Public(err))
		}
	}
}

func (c *conn) login(ctx context.Context, name, password string) (bool, error) {
	drop, err := c.o.Backend.Login(ctx, c.peer, name, password)
	if err != nil {
		return c.mistake("-ERR " + respCode(err) + errs.Public(err))
	}
	c.drop, c.deleted = drop, make(map[int]bool)
	c.r.SetTimes(lineio.Times{Idle: c.o.IdleTimeout, Line: lineTime})
	return false, c.reply("+OK maildrop locked and ready")
}

// respCode gives the response code of RFC 2449 §8 and RFC 3206, with a space behind.
func respCode(err error) string {
	switch k := errs.KindOf(err); {
	case k == errs.Exists:
		return "[IN-USE] "
	case k == errs.Auth || k == errs.Denied:
		return "[AUTH] "
	case k == errs.Corrupt:
		return "[SYS/PERM] "
	case k.Temporary():
		return "[SYS/TEMP] "
	}
	return ""
}
