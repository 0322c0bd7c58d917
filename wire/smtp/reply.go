package smtp

import (
	"errors"
	"strconv"
	"strings"

	"postern.email/kit/errs"
)

// Reply is one SMTP reply; as an error it is sent to the client as it is, so it must
// hold nothing that this client may not know.
type Reply struct {
	Code     int    // 2xx, 3xx, 4xx, 5xx
	Enhanced string // RFC 3463, "5.1.1"; empty: none is written
	Text     string // one line of printable text
}

func (r *Reply) Error() string { return r.String() }

// String gives the reply without line end.
func (r *Reply) String() string {
	if r.Enhanced == "" {
		return strconv.Itoa(r.Code) + " " + r.Text
	}
	return strconv.Itoa(r.Code) + " " + r.Enhanced + " " + r.Text
}

// Is makes two replies equal to errors.Is when code and enhanced code agree.
func (r *Reply) Is(target error) bool {
	t, ok := target.(*Reply)
	return ok && t.Code == r.Code && t.Enhanced == r.Enhanced
}

func reply(code int, enhanced, text string) *Reply { return &Reply{code, enhanced, text} }

// ReplyFor translates an error of the Backend. It is the one place where kinds of
// failure become SMTP codes.
func ReplyFor(err error) *Reply {
	var r *Reply
	if errors.As(err, &r) {
		return r
	}
	text := clean(errs.Public(err))
	switch errs.KindOf(err) {
	case errs.Invalid:
		return reply(550, "5.6.0", text)
	case errs.NotFound:
		return reply(550, "5.1.1", text)
	case errs.Exists, errs.Denied:
		return reply(550, "5.7.1", text)
	case errs.Auth:
		return reply(535, "5.7.8", text)
	case errs.TooLarge:
		return replyTooLarge
	case errs.Full:
		return reply(452, "4.2.2", text)
	case errs.NoSpace:
		return reply(452, "4.3.1", text)
	case errs.Busy:
		return reply(451, "4.7.0", text)
	case errs.Canceled:
		return reply(421, "4.3.2", text)
	case errs.Unsupported:
		return reply(550, "5.3.3", text)
	case errs.Unavailable, errs.Conflict:
		return reply(451, "4.3.0", text)
	}
	// Internal, Corrupt and whatever comes later: the words stay inside.
	return reply(451, "4.3.0", "local error, try again later")
}

// clean keeps a text on one line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// The replies of the protocol itself.
var (
	replyOK          = reply(250, "2.0.0", "OK")
	replyTooLarge    = reply(552, "5.3.4", "Message exceeds maximum size")
	replyNoMemory    = reply(452, "4.3.1", "too many mails at once, try again later")
	replySequence    = reply(503, "5.5.1", "bad sequence of commands")
	replySyntax      = reply(501, "5.5.4", "syntax error in parameters")
	replyUnknown     = reply(500, "5.5.1", "unknown command")
	replyNotCRLF     = reply(500, "5.5.2", "line must end with CRLF")
	replyLineTooLong = reply(500, "5.5.2", "line too long")
	replyBadData     = reply(500, "", "Invalid DATA")
	replyManyErrors  = reply(421, "4.7.0", "too many errors")
	replyManyConns   = reply(421, "4.7.0", "too many connections, try again later")
	replyManyMails   = reply(421, "4.7.0", "too many mails in one session")
	replyTimeout     = reply(421, "4.4.2", "timeout, closing connection")
	replyShutdown    = reply(421, "4.3.2", "shutting down, try again later")
	replyTLSNow      = reply(530, "5.7.0", "Must issue a STARTTLS command first")
	replyAuthNow     = reply(530, "5.7.0", "Authentication required")
	replyNotUTF8     = reply(553, "5.6.7", "non-ASCII address without SMTPUTF8")
)
