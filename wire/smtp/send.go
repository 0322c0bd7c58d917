package smtp

import (
	"context"
	"fmt"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// maxAhead is how many commands of a pipelined group are under way at once. Their replies
// (of 512 octets at most) must fit into the network's buffers while we write, or both
// sides could wait for each other (RFC 2920 §3.1).
const maxAhead = 64

// Envelope is what MAIL and RCPT say.
type Envelope struct {
	From mail.Address // zero: the null path
	// Options.Size is not used: the content has one. Options.UTF8 says that the header
	// needs SMTPUTF8; for addresses of the envelope Send sees it itself. Options.Body
	// says whether the content has octets beyond ASCII.
	Options MailOptions
	Rcpts   []Recipient
}

// Recipient is one RCPT.
type Recipient struct {
	To      mail.Address
	Options RcptOptions
}

// Content is a mail as it is sent: CRLF line ends, no dots stuffed, no NUL; a bytes.Reader
// or an io.SectionReader is one. It is read once, in order.
type Content interface {
	io.ReaderAt
	Size() int64
}

// Sent is what became of a mail.
type Sent struct {
	// Rcpts has an entry for each of Envelope.Rcpts: nil when the server has taken
	// responsibility for this recipient by its 2xx after the mail; a *Reply when this
	// recipient, or the whole mail, was refused (by the server, or by the client itself
	// for want of an extension); the error of Send when it is not known.
	Rcpts []error
	// Reply is the server's reply to the whole mail; nil when none came.
	Reply *Reply
	// Unknown: the last byte may have gone out, but no reply was seen. Perhaps the server
	// has taken the mail; to send it again may make it two (RFC 5321 §4.5.3.2.6).
	Unknown bool
	// Stale: the connection was over before the server answered anything of this mail,
	// as it happens to those that were kept too long. Nothing was tried yet, so another
	// connection may be used at once.
	Stale bool
}

// Send sends one mail to some recipients. Nothing of the mail is sent when all of them
// are refused. What is known of each recipient is in Sent, also with an error. An error means that
// the connection is over, and is errs.Unavailable or errs.Canceled (ctx ended), or the
// content's own; it is errs.Invalid when the content has a line without CRLF or a NUL, and
// errs.TooLarge when a line is longer than MaxTextLine: then the mail is cut off unsent.
// Only where the envelope itself cannot be written, which is errs.Invalid as well, nothing was
// sent and the Client is as before.
//
// Recipients beyond Extensions().Limits are tried all the same.
func (c *Client) Send(ctx context.Context, e Envelope, content Content) (Sent, error) {
	const op = "wire/smtp.Client.Send"
	if c.failed {
		return Sent{}, errs.E(op, errs.Unavailable, "the connection is closed", nil)
	}
	if len(e.Rcpts) == 0 {
		return Sent{}, errs.E(op, errs.Invalid, "a mail without recipients", nil)
	}
	size := content.Size()
	t := transmission{c: c, content: content, size: size, reused: c.mails > 0}
	t.sent.Rcpts = make([]error, len(e.Rcpts))
	if r := c.unsendable(&e, size); r != nil {
		t.all(r)
		return t.sent, nil
	}
	utf8 := c.needsUTF8(&e)
	line, err := c.mailLine(&e, size, utf8)
	if err != nil {
		return Sent{}, err
	}
	if !t.plan(&e, line, utf8) {
		t.decided = true
		return t.sent, nil
	}
	done := c.guard(ctx)
	c.until = time.Now().Add(c.o.Timeouts.Transaction)
	err = t.run()
	if err == nil && c.failed {
		err = errs.E(op, errs.Unavailable, "the session is over", nil)
	}
	err = done(err)
	t.settle(err)
	if c.failed || c.in.Rebase(c.conn) != nil { // Rebase gives the buffer back while we wait
		c.abandon()
	}
	return t.sent, err
}

// transmission is one Send.
type transmission struct {
	c       *Client
	content Content
	size    int64
	reused  bool // there was a mail before this one

	steps []step

	sent     Sent
	accepted int  // recipients
	answered bool // the server has answered something
	decided  bool // the outcome of all recipients is known
	final    bool // the last byte may have gone out
	pending  int  // chunks whose replies have not come
}

// step is one command of the envelope.
type step struct {
	verb verb
	rcpt int // of RCPT: which
	line string
}

type verb uint8

const (
	verbRSET verb = iota
	verbMAIL
	verbRCPT
	verbDATA
)

var verbNames = [...]string{"RSET", "MAIL", "RCPT", "DATA"}

// plan lists the commands of the envelope; false when no recipient is left to send to.
func (t *transmission) plan(e *Envelope, mailLine string, utf8 bool) bool {
	c := t.c
	t.steps = make([]step, 0, len(e.Rcpts)+3)
	if c.dirty {
		t.steps = append(t.steps, step{verb: verbRSET, line: "RSET\r\n"})
	}
	t.steps = append(t.steps, step{verb: verbMAIL, line: mailLine})
	some := false
	for i := range e.Rcpts {
		line, r := c.rcptLine(&e.Rcpts[i], utf8)
		if r != nil {
			t.sent.Rcpts[i] = r
			continue
		}
		some = true
		t.steps = append(t.steps, step{verb: verbRCPT, rcpt: i, line: line})
	}
	if !t.chunking() {
		t.steps = append(t.steps, step{verb: verbDATA, line: "DATA\r\n"})
	}
	return some
}

func (t *transmission) chunking() bool { return t.c.ext.Chunking && !t.c.o.NoChunking }

// all gives one outcome to all recipients that have none of their own.
func (t *transmission) all(r error) {
	for i, o := range t.sent.Rcpts {
		if o == nil {
			t.sent.Rcpts[i] = r
		}
	}
	t.decided = true
}

// settle is the end of a Send whose connection may have broken.
func (t *transmission) settle(err error) {
	t.sent.Stale = t.reused && !t.answered
	if !t.decided {
		t.sent.Unknown = t.final
		t.all(err)
	}
}

func (t *transmission) run() error {
	if err := t.envelope(); err != nil || t.decided {
		return err
	}
	if err := t.unasked(); err != nil || t.decided {
		return err
	}
	if t.chunking() {
		return t.chunks()
	}
	return t.data()
}

// envelope sends the commands, in groups where PIPELINING is offered (RFC 2920), and reads
// what the server has to say to them.
func (t *transmission) envelope() error {
	c, group := t.c, 1
	if c.ext.Pipelining {
		group = maxAhead
	}
	for next := 0; next < len(t.steps); {
		last := min(next+group, len(t.steps))
		if t.decided || t.accepted == 0 && t.steps[next].verb == verbDATA {
			break // nobody is left: the mail is not even announced
		}
		for _, s := range t.steps[next:last] {
			c.out.WriteString(s.line)
		}
		c.dirty = true
		if err := c.flush(); err != nil {
			return err
		}
		for ; next < last; next++ {
			if err := t.answer(&t.steps[next]); err != nil || c.failed {
				return err
			}
		}
	}
	t.decided = t.decided || t.accepted == 0
	return nil
}

// answer reads the reply to one command.
func (t *transmission) answer(s *step) error {
	c := t.c
	limit := c.o.Timeouts.Command
	if s.verb == verbDATA {
		limit = c.o.Timeouts.DataInit
	}
	code, err := c.read(limit)
	if err != nil {
		return err
	}
	refused := code >= 400
	switch {
	case refused:
		c.debug(verbNames[s.verb])
	case (code/100 == 3) != (s.verb == verbDATA):
		return c.violation()
	}
	if code == 421 { // RFC 5321 §3.8: whatever it answers, it ends everything
		t.all(c.replies.reply())
		return nil
	}
	t.answered = true
	switch s.verb {
	case verbRSET:
		if refused {
			c.failed = true
			return errs.E("wire/smtp.Client", errs.Unavailable, "the server refuses RSET", nil) // as with violation
		}
	case verbMAIL:
		c.mails++
		if refused && !t.decided {
			t.all(c.replies.reply())
		}
	case verbRCPT:
		switch {
		case t.decided:
		case refused:
			t.sent.Rcpts[s.rcpt] = rcptReply(c.replies.reply(), t.accepted)
		default:
			t.accepted++
		}
	case verbDATA:
		switch {
		case refused && !t.decided && t.accepted > 0:
			t.all(c.replies.reply())
		case !refused && (t.decided || t.accepted == 0):
			return t.nothing()
		}
	}
	return nil
}

// rcptReply corrects an old error of the standard: 552 for too many recipients means only
// that the others should be tried again (RFC 5321 §4.5.3.1.10). A full mailbox has the same
// number, but says so.
func rcptReply(r *Reply, accepted int) *Reply {
	if r.Code == 552 && accepted > 0 && (r.Enhanced == "" || r.Enhanced == "5.5.3") {
		r.Code, r.Enhanced = 452, "4.5.3"
	}
	return r
}

// nothing answers a 354 that came although no recipient was taken (RFC 2920 §3.1): the
// mail is not sent, and the empty one in its place goes to nobody.
func (t *transmission) nothing() error {
	c := t.c
	c.out.WriteString(".\r\n")
	if err := c.flush(); err != nil {
		return err
	}
	_, err := c.read(c.o.Timeouts.Command)
	return err
}

// unasked looks at what the server has said without being asked. It may refuse to go on; a
// yes would be taken for the answer to what we have not sent yet.
func (t *transmission) unasked() error {
	c := t.c
	if c.in.Buffered() == 0 {
		return nil
	}
	code, err := c.read(c.o.Timeouts.Command)
	if err != nil {
		return err
	}
	if code < 400 {
		return c.violation()
	}
	c.failed = true
	t.all(c.replies.reply())
	return nil
}

// violation ends the connection after a reply that has no meaning at its place. No *Reply
// is in the chain: it could be taken for the answer to a mail.
func (c *Client) violation() error {
	c.failed = true
	return errs.E("wire/smtp.Client", errs.Unavailable, "", fmt.Errorf("%w: %d at the wrong place", ErrProtocol, c.replies.code))
}
