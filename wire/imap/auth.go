package imap

import (
	"context"
	"postern.email/kit/errs"
	"postern.email/wire/sasl"
)

// cmdStartTLS is RFC 9051 §6.2.1. Bytes behind the command would be taken for
// commands of the protected session, so they end it (CVE-2011-0411 and after).
func cmdStartTLS(c *conn, _ context.Context, p *parser) (reply, error) {
	if err := p.end(); err != nil {
		return reply{}, err
	}
	if c.tls || c.s.o.TLS == nil {
		return reply{}, bad("", "TLS is not possible here or on already")
	}
	if c.r.buffered() > 0 {
		return reply{}, &statusError{bad: true, text: "Nothing may follow STARTTLS", closing: true}
	}
	c.after = func(ctx context.Context) {
		c.r.release()
		c.readBy(c.loginBy)
		if err := c.handshake(ctx); err != nil {
			c.closing = true
			c.w.err = err // nothing can be said any more
		}
	}
	return reply{"", "Begin TLS now"}, nil
}

// cmdLogin is RFC 9051 §6.2.3.
func cmdLogin(c *conn, ctx context.Context, p *parser) (reply, error) {
	if !c.mayAuth() {
		return reply{}, no("PRIVACYREQUIRED", "Use STARTTLS first")
	}
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	user, err := p.astring()
	if err != nil {
		return reply{}, err
	}
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	password, err := p.astring()
	if err != nil {
		return reply{}, err
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	return c.login(ctx, user, password)
}

func (c *conn) login(ctx context.Context, user, password string) (reply, error) {
	session, err := c.s.o.Backend.Login(ctx, LoginRequest{Username: user, Password: password, Peer: c.peer})
	if err != nil {
		return reply{}, err
	}
	c.session, c.state = session, auth
	return reply{"CAPABILITY " + c.capabilities(), "Logged in"}, nil
}

// maxSASLLine bounds one answer of the client (RFC 4954 §4 asks for 12,288).
const maxSASLLine = 12288

// cmdAuthenticate is RFC 9051 §6.2.2 with SASL-IR (RFC 4959).
func cmdAuthenticate(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	mechanism, err := p.upperAtom()
	if err != nil {
		return reply{}, err
	}
	var response []byte
	if p.take(' ') {
		response, err = sasl.Decode(p.b[p.i:])
		if err != nil {
			return reply{}, syntaxf("initial response is not base64")
		}
	} else if err := p.end(); err != nil {
		return reply{}, err
	}
	if !c.mayAuth() {
		return reply{}, no("PRIVACYREQUIRED", "Use STARTTLS first")
	}
	server, err := sasl.New(mechanism)
	if err != nil {
		return reply{}, no("CANNOT", "No such mechanism")
	}
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			if errs.KindOf(err) == errs.Denied {
				return reply{}, err
			}
			return reply{}, bad("", publicText(errs.Public(err)))
		}
		if done {
			cred := server.Credentials()
			return c.login(ctx, cred.Username, cred.Password)
		}
		c.w.s("+ ", sasl.Encode(challenge), "\r\n")
		if err := c.w.flush(); err != nil {
			return reply{}, err
		}
		line, err := c.r.line(nil, maxSASLLine)
		if err != nil {
			return reply{}, &statusError{bad: true, text: "Wrong line", closing: true}
		}
		if string(line) == "*" {
			return reply{}, bad("", "Authentication stopped")
		}
		if response, err = sasl.Decode(line); err != nil {
			return reply{}, bad("", "The response is not base64")
		}
	}
}
