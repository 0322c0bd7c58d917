package smtp

import (
	"context"
	"errors"
	"os"
	"time"

	"postern.email/wire/lineio"
)

// dropFactor bounds what is read and thrown away of a mail that was refused while it
// came: so many times the largest mail.
const dropFactor = 2

// canSend answers DATA and BDAT in the wrong place; nil when a mail may come.
func (s *session) canSend() *Reply {
	switch {
	case !s.tx.open:
		return replySequence
	case s.tx.rcpts == 0 && s.tx.tried > 0:
		return reply(554, "5.5.1", "no valid recipients")
	case s.tx.rcpts == 0:
		return replySequence
	}
	return nil
}

// data is DATA (RFC 5321 §4.1.1.4).
func (s *session) data(ctx context.Context, arg string) {
	if arg != "" {
		s.fault(replySyntax)
		return
	}
	if s.in.Buffered() > 0 {
		// RFC 2920 §3.1: DATA is the last of a group, for the client cannot know
		// yet whether 354 comes. If not, its mail would be read as commands.
		s.reply(reply(503, "5.5.1", "nothing may be sent between DATA and 354"))
		s.quit, s.drain = true, true
		return
	}
	if s.tx.chunks != nil {
		s.fault(replySequence) // RFC 3030 §3: not after BDAT
		return
	}
	if r := s.canSend(); r != nil {
		s.fault(r)
		return
	}
	msg, ok := newMessage(s.o.Memory, s.o.MaxSize)
	if !ok {
		s.reply(replyNoMemory)
		s.resetTx(true)
		return
	}
	defer msg.release()
	t, err := s.backend.Data(ctx)
	if err != nil {
		s.fail("DATA", err)
		s.resetTx(true)
		return
	}
	s.text("354 end with <CRLF>.<CRLF>\r\n")
	r := s.receive(&msg)
	if r != nil {
		t.Abort()
		s.resetTx(false)
		s.reply(r)
		return
	}
	s.commit(ctx, t, &msg)
}

// receive reads a mail up to CRLF.CRLF. Size and memory are judged while it comes;
// the rest is then read and dropped, so that it is not taken for commands.
// Faults of the stream end the session: where a mail ends is then a matter of opinion.
func (s *session) receive(msg *message) *Reply {
	s.in.SetTimes(lineio.Times{Idle: s.o.DataBlock})
	defer func() {
		s.in.SetTimes(lineio.Times{Idle: s.o.Idle, Line: s.o.Line})
		s.in.Until(time.Time{})
	}()
	var lost fault
	keep := func(p []byte) {
		if lost == faultNone {
			lost = msg.append(p)
		}
	}
	started := time.Now()
	begin := s.in.Total()
	p, err := s.in.Peek()
	for {
		if err != nil {
			return s.broken(err)
		}
		taken, done, f := scanData(p, keep)
		switch {
		case f == faultLine:
			s.quit, s.drain = true, true
			return replyLineTooLong
		case f != faultNone:
			s.quit, s.drain = true, true
			return replyBadData
		}
		s.in.Advance(taken)
		if done {
			return lostReply(lost)
		}
		got := s.in.Total() - begin
		if got > dropFactor*s.o.MaxSize+MaxTextLine {
			s.quit, s.drain = true, true
			return replyTooLarge
		}
		// A client that feeds us byte after byte has to keep a pace.
		s.in.Until(started.Add(s.o.DataBlock + time.Duration(got/s.o.MinRate)*time.Second))
		p, err = s.in.PeekMore()
	}
}

func lostReply(f fault) *Reply {
	switch f {
	case faultSize:
		return replyTooLarge
	case faultMemory:
		return replyNoMemory
	case faultLine:
		return replyLineTooLong
	case faultContent:
		return replyBadData
	}
	return nil
}

// broken answers a stream that ended or stalled inside a mail.
func (s *session) broken(err error) *Reply {
	s.quit = true
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return replyTimeout
	}
	return reply(421, "4.4.2", "connection broken")
}

// commit hands the mail to the backend and answers.
func (s *session) commit(ctx context.Context, t Transfer, msg *message) {
	err := t.Commit(ctx, msg.bytes())
	s.resetTx(false)
	if err != nil {
		s.fail("mail", err)
		return
	}
	s.reply(replyOK)
}

// chunks is a mail that comes by BDAT.
type chunks struct {
	msg      message
	transfer Transfer // nil: the mail has failed; chunks are still read and refused
}

func (c *chunks) failed() bool { return c.transfer == nil }

// drop gives everything back; the transfer, if still there, is aborted.
func (c *chunks) drop() {
	if c.transfer != nil {
		c.transfer.Abort()
		c.transfer = nil
	}
	c.msg.release()
}

// bdat is BDAT (RFC 3030 §2). The bytes of a chunk follow the command whatever we
// think of it, so they are always read, exactly, and never taken for commands.
// Where their number cannot be known, or is absurd, the session ends.
func (s *session) bdat(ctx context.Context, arg string) {
	size, last, ok := parseBDAT(arg)
	if !ok {
		s.reply(reply(501, "5.5.4", "BDAT needs a size"))
		s.quit, s.drain = true, true
		return
	}
	if size > dropFactor*s.o.MaxSize {
		s.reply(replyTooLarge)
		s.quit, s.drain = true, true
		return
	}
	s.in.SetTimes(lineio.Times{Idle: s.o.DataBlock})
	s.in.Until(time.Now().Add(s.o.DataBlock + time.Duration(size/s.o.MinRate)*time.Second))
	r := s.chunk(ctx, size, last)
	s.in.SetTimes(lineio.Times{Idle: s.o.Idle, Line: s.o.Line})
	s.in.Until(time.Time{})
	if r != nil {
		s.reply(r)
		if r.Code/100 != 2 {
			s.chunkFailed(r)
		}
	}
}

// chunkFailed ends the transaction; chunks that the client has sent along with the
// bad one (RFC 3030 §4.2) meet a session without transaction.
func (s *session) chunkFailed(r *Reply) {
	if r == replySequence {
		s.errors++
	}
	open := s.tx.open
	if c := s.tx.chunks; c != nil {
		open = open && c.failed() // Abort has told the backend
		c.drop()
	}
	s.tx = transaction{}
	if open {
		s.backend.Reset()
	}
}

// chunk reads one chunk and gives the reply; nil when commit has replied.
func (s *session) chunk(ctx context.Context, size int64, last bool) *Reply {
	refuse := func(r *Reply) *Reply {
		if err := s.in.Discard(size); err != nil {
			return s.broken(err)
		}
		return r
	}
	if r := s.canSend(); r != nil {
		return refuse(r)
	}
	if s.tx.chunks == nil {
		msg, ok := newMessage(s.o.Memory, s.o.MaxSize)
		if !ok {
			return refuse(replyNoMemory)
		}
		t, err := s.backend.Data(ctx)
		if err != nil {
			msg.release()
			r := ReplyFor(err)
			if r.Code/100 < 4 {
				r = reply(451, "4.3.0", "local error, try again later")
			}
			return refuse(r)
		}
		s.tx.chunks = &chunks{msg: msg, transfer: t}
	}
	c := s.tx.chunks
	if c.msg.len()+size > s.o.MaxSize {
		return refuse(replyTooLarge)
	}
	if f := c.msg.reserve(int(size)); f != faultNone {
		return refuse(lostReply(f))
	}
	have := *c.msg.data
	room := have[len(have) : len(have)+int(size)]
	if err := s.in.ReadFull(room); err != nil {
		return s.broken(err)
	}
	*c.msg.data = have[:len(have)+int(size)]
	if !last {
		return reply(250, "2.0.0", "OK")
	}
	if f := checkText(c.msg.bytes()); f != faultNone {
		return lostReply(f)
	}
	t := c.transfer
	c.transfer = nil // Commit is its end
	s.commit(ctx, t, &c.msg)
	return nil
}
