package smtp

import (
	"fmt"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// What the client says itself, in the server's place, when the server's offer leaves no
// way to send the mail as it is.
var (
	replyNeedsUTF8     = reply(550, "5.6.7", "the server does not take internationalized mail (SMTPUTF8)")
	replyNeeds8Bit     = reply(554, "5.6.3", "the server does not take 8-bit mail (8BITMIME)")
	replyNeedsTLS      = reply(550, "5.7.30", "the server does not promise TLS on the whole way (REQUIRETLS)")
	replyServerMaximum = reply(552, "5.3.4", "the mail is larger than the server takes")
	replyBadRcpt       = reply(501, "5.1.3", "bad recipient address syntax")
)

// unsendable tells why a mail cannot go to this server at all; nil when it can. Nothing
// is converted: a signature would break.
func (c *Client) unsendable(e *Envelope, size int64) *Reply {
	x := &c.ext
	switch {
	case e.Options.RequireTLS && !(c.secure && x.RequireTLS):
		return replyNeedsTLS
	case x.Size > 0 && size > x.Size:
		return replyServerMaximum
	case e.Options.Body == Body8Bit && !x.EightBit:
		return replyNeeds8Bit
	case !x.UTF8 && (e.Options.UTF8 || !isASCII(e.From.Local)):
		return replyNeedsUTF8
	}
	return nil
}

// needsUTF8 reports whether MAIL says SMTPUTF8 (RFC 6531 §3.4): for the header's sake,
// which only the caller knows, or for a local part of the envelope. A server that cannot
// do it is never told; what needs it is then refused here.
func (c *Client) needsUTF8(e *Envelope) bool {
	if !c.ext.UTF8 {
		return false
	}
	if e.Options.UTF8 || !isASCII(e.From.Local) {
		return true
	}
	for i := range e.Rcpts {
		if !isASCII(e.Rcpts[i].To.Local) {
			return true
		}
	}
	return false
}

// path gives an address in angle brackets. Where SMTPUTF8 is not used a host name goes as
// A-labels (RFC 5890), which is the same name and asks nothing of the server. ok is
// false when the address is none: it could smuggle in a second command.
func path(a mail.Address, utf8 bool) (path string, ok bool) {
	if !utf8 && !isASCII(a.Domain) {
		a.Domain = mail.CanonicalDomain(a.Domain)
	}
	path = "<" + a.String() + ">"
	back, err := mail.ParsePath(path)
	return path, err == nil && back == a && (utf8 || isASCII(path))
}

// mailLine gives the MAIL command with what of the options this server has offered to
// understand. utf8 is what needsUTF8 says. errs.Invalid when they cannot be written.
func (c *Client) mailLine(e *Envelope, size int64, utf8 bool) (string, error) {
	const op = "wire/smtp.Client.Send"
	path, ok := path(e.From, utf8)
	if !ok || e.From.Domain == "" && !e.From.IsZero() {
		return "", errs.E(op, errs.Invalid, "bad sender address", nil)
	}
	x, o := &c.ext, &e.Options
	line := make([]byte, 0, 256)
	line = append(append(line, "MAIL FROM:"...), path...)
	if x.SizeKnown {
		line = strconv.AppendInt(append(line, " SIZE="...), size, 10)
	}
	if x.EightBit {
		switch o.Body {
		case Body7Bit:
			line = append(line, " BODY=7BIT"...)
		case Body8Bit:
			line = append(line, " BODY=8BITMIME"...)
		}
	}
	if utf8 {
		line = append(line, " SMTPUTF8"...)
	}
	if o.RequireTLS {
		line = append(line, " REQUIRETLS"...)
	}
	if x.DSN {
		switch o.Return {
		case ReturnFull:
			line = append(line, " RET=FULL"...)
		case ReturnHeaders:
			line = append(line, " RET=HDRS"...)
		}
		if o.EnvID != "" {
			id, ok := toXtext(o.EnvID)
			if !ok || len(id) > maxEnvID {
				return "", errs.E(op, errs.Invalid, "bad envelope id", nil)
			}
			line = append(append(line, " ENVID="...), id...)
		}
	}
	return string(append(line, "\r\n"...)), nil
}

// rcptLine gives the RCPT command of one recipient, or what the client answers in the
// server's place. utf8 says that MAIL had SMTPUTF8.
func (c *Client) rcptLine(r *Recipient, utf8 bool) (string, *Reply) {
	if !utf8 && !isASCII(r.To.Local) {
		return "", replyNeedsUTF8
	}
	path, ok := path(r.To, utf8)
	if !ok || r.To.IsZero() {
		return "", replyBadRcpt
	}
	params := ""
	if c.ext.DSN {
		if params, ok = dsnParams(&r.Options, utf8); !ok {
			return "", replyBadRcpt
		}
	}
	return "RCPT TO:" + path + params + "\r\n", nil
}

var notifyWords = [...]struct {
	bit  Notify
	word string
}{{NotifyNever, "NEVER"}, {NotifySuccess, "SUCCESS"}, {NotifyFailure, "FAILURE"}, {NotifyDelay, "DELAY"}}

// dsnParams writes the parameters of RCPT (RFC 3461 §4.1 and §4.2).
func dsnParams(o *RcptOptions, utf8 bool) (params string, ok bool) {
	if o.Notify == 0 && o.OriginalType == "" {
		return "", true
	}
	var b strings.Builder
	if o.Notify != 0 {
		sep := " NOTIFY="
		for _, w := range notifyWords {
			if o.Notify&w.bit != 0 {
				b.WriteString(sep + w.word)
				sep = ","
			}
		}
		if o.Notify&NotifyNever != 0 && o.Notify != NotifyNever {
			return "", false
		}
	}
	if o.OriginalType != "" {
		var addr string
		if o.OriginalType == "utf-8" {
			addr, ok = toUTF8Xtext(o.OriginalAddress, utf8)
		} else {
			addr, ok = toXtext(o.OriginalAddress)
		}
		if !ok || !isKeyword(strings.ToUpper(o.OriginalType)) || len(o.OriginalType)+1+len(addr) > maxORCPT {
			return "", false
		}
		b.WriteString(" ORCPT=" + o.OriginalType + ";" + addr)
	}
	return b.String(), true
}

// toXtext encodes what xtext decodes; ok is false for what it would refuse.
func toXtext(s string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == ' ' || c == '+' || c == '=' || c >= 0x80 {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String(), s != "" && plainUTF8(s)
}

// toUTF8Xtext writes an address of the type "utf-8" (RFC 6533 §3), which is kept as it was
// written: escapes already in it stay, and what may not stand there gets its own.
func toUTF8Xtext(s string, utf8 bool) (text string, ok bool) {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == ' ' || r == '+' || r == '=' || r >= 0x80 && !utf8:
			fmt.Fprintf(&b, `\x{%02X}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), s != "" && plainUTF8(s)
}
