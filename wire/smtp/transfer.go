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
	msg, ok := newMessage(s.memory, s.o.MaxSize)
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
	begin := s.in.Total()
	r := s.receive(&msg)
	s.received(begin)
	if r != nil {
		t.Abort()
		s.resetTx(false)
		s.reply(r)
		return
	}
	s.commit(ctx, t, &msg)
}

// received tells what came since begin (a value of s.in.Total).
func (s *session) received(begin int64) {
	if n := s.in.Total() - begin; s.o.Received != nil && n > 0 {
		s.o.Received(s.peer, n)
	}
}

// receive reads a mail up to CRLF.CRLF. Size and memory are judged while it comes;
// the rest is then read and dropped, so that it is not taken for commands.
// Faults of the stream end the session: where a mail ends is then a matter of opinion.
func (s *session) receive(msg *message) *Reply {
	s.in.SetTimes(lineio.Times{Idle: s.o.DataBlock})
	defer s.commandTimes()
	var lost fault
	keep := func(p []byte) {
		if lost == faultNone {
			lost = msg.append(p)
		}
	}
	begin := s.in.Total()
	pace := s.newPace(time.Now())
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
		if s.in.Total()-begin > dropFactor*s.o.MaxSize+MaxTextLine {
			s.quit, s.drain = true, true
			return replyTooLarge
		}
		pace.keep()
		p, err = s.in.PeekMore()
	}
}

// pace bounds the time of a mail: MinRate in any DataBlock of time, and DataTotal for
// all of it. Otherwise a client that sends most of a large mail and then a byte now
// and then would hold our memory for hours.
type pace struct {
	s      *session
	end    time.Time // of the whole mail
	window time.Time // when the present block of time began
	seen   int64     // s.in.Total() at that time
}

func (s *session) newPace(began time.Time) *pace {
	p := &pace{s: s, end: began.Add(s.o.DataTotal), window: time.Now(), seen: s.in.Total()}
	p.keep()
	return p
}

// keep sets the deadline of the next read.
func (p *pace) keep() {
	want := p.s.o.MinRate * int64(p.s.o.DataBlock/time.Second)
	if total := p.s.in.Total(); total-p.seen >= want {
		p.window, p.seen = time.Now(), total
	}
	until := p.window.Add(p.s.o.DataBlock)
	if p.end.Before(until) {
		until = p.end
	}
	p.s.in.Until(until)
}

// commandTimes sets the times of reading a command. In the middle of a mail in chunks
// they are short, because of the memory that it holds.
func (s *session) commandTimes() {
	times, until := lineio.Times{Idle: s.o.Idle, Line: s.o.Line}, time.Time{}
	if c := s.tx.chunks; c != nil {
		times.Idle, until = s.o.DataBlock, c.began.Add(s.o.DataTotal)
	}
	s.in.SetTimes(times)
	s.in.Until(until)
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
	s.refused = 0
	r := replyOK
	if teller, ok := t.(Teller); ok {
		if text := clean(teller.Text()); text != "" {
			r = reply(250, "2.0.0", text)
		}
	}
	s.reply(r)
}

// chunks is a mail that comes by BDAT.
type chunks struct {
	began    time.Time
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
	begin := s.in.Total()
	r := s.chunk(ctx, size, last)
	s.received(begin)
	if r != nil {
		s.reply(r)
		if r.Code/100 != 2 {
			s.chunkFailed(r)
		}
	}
	s.commandTimes()
}

// chunkStep is how much of a chunk is made room for at a time: a size alone, without
// bytes, must not take memory.
const chunkStep = 64 << 10

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
	began := time.Now()
	if s.tx.chunks != nil {
		began = s.tx.chunks.began
	}
	pace := s.newPace(began)
	refuse := func(left int64, r *Reply) *Reply {
		for left > 0 {
			n := min(left, chunkStep)
			if err := s.in.Discard(n); err != nil {
				return s.broken(err)
			}
			left -= n
			pace.keep()
		}
		return r
	}
	if r := s.canSend(); r != nil {
		return refuse(size, r)
	}
	if s.tx.chunks == nil {
		msg, ok := newMessage(s.memory, s.o.MaxSize)
		if !ok {
			return refuse(size, replyNoMemory)
		}
		t, err := s.backend.Data(ctx)
		if err != nil {
			msg.release()
			r := ReplyFor(err)
			if r.Code/100 < 4 {
				r = reply(451, "4.3.0", "local error, try again later")
			}
			return refuse(size, r)
		}
		s.tx.chunks = &chunks{began: began, msg: msg, transfer: t}
	}
	c := s.tx.chunks
	if c.msg.len()+size > s.o.MaxSize {
		return refuse(size, replyTooLarge)
	}
	for left := size; left > 0; {
		n := min(left, chunkStep)
		if f := c.msg.reserve(int(n)); f != faultNone {
			return refuse(left, lostReply(f))
		}
		have := *c.msg.data
		if err := s.in.ReadFull(have[len(have) : len(have)+int(n)]); err != nil {
			return s.broken(err)
		}
		*c.msg.data = have[:len(have)+int(n)]
		left -= n
		pace.keep()
	}
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
