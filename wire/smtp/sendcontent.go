package smtp

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/wire/lineio"
)

// ChunkSize is the size of one BDAT chunk; a mail up to this size is a single one.
const ChunkSize = 1 << 20

const (
	// blockSize is how much of a mail is read at a time. It is more than the writer's
	// buffer, so that a block goes to the network without being copied again.
	blockSize = 32 << 10
	// chunksAhead is how many chunks are under way where PIPELINING is offered.
	chunksAhead = 2
	// lastWords is how long a reply is waited for after the server has stopped to read.
	lastWords = 5 * time.Second
)

// A line and the first half of its end must fit into a block.
var _ [blockSize - MaxTextLine - 2]struct{}

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }} // free memory, no state

// lines reads a content in blocks of whole lines and judges them.
type lines struct {
	content Content
	size    int64
	off     int64 // of what is read next
	block   *[blockSize]byte
	given   int // bytes of block that next has given out
	have    int // bytes in block
}

// next gives the next whole lines, or at the end what is left; valid until the next call.
// io.EOF at the end.
func (l *lines) next() ([]byte, error) {
	l.have = copy(l.block[:], l.block[l.given:l.have])
	l.given = 0
	if want := min(int64(blockSize-l.have), l.size-l.off); want > 0 {
		n, err := l.content.ReadAt(l.block[l.have:l.have+int(want)], l.off)
		if int64(n) < want {
			if err == nil || err == io.EOF {
				err = errs.E("wire/smtp", errs.Corrupt, "the mail is shorter than its size", io.ErrUnexpectedEOF)
			}
			return nil, err
		}
		l.have += n
		l.off += want
	}
	if l.have == 0 {
		return nil, io.EOF
	}
	end := l.have
	if l.off < l.size {
		if end = bytes.LastIndexByte(l.block[:l.have], '\n') + 1; end == 0 {
			return nil, lineio.ErrTooLong
		}
	}
	l.given = end
	return l.block[:end], lineio.CheckText(l.block[:end], MaxTextLine)
}

// stream hands the whole mail to write, in order.
func (t *transmission) stream(write func(p []byte) error) error {
	block := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(block)
	l := lines{content: t.content, size: t.size, block: block}
	for {
		p, err := l.next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			t.c.failed = true // nothing but the end of the connection takes back what was sent
			return errs.Wrap("wire/smtp.Client.Send", err)
		case time.Now().After(t.c.until):
			t.c.failed = true
			return errs.E("wire/smtp.Client.Send", errs.Unavailable, "the server takes the mail too slowly", nil)
		}
		if err := write(p); err != nil || t.decided {
			return err
		}
	}
}

// data sends the mail after a 354 (RFC 5321 §4.1.1.4).
func (t *transmission) data() error {
	c := t.c
	dots := lineio.NewDotWriter(c.out)
	err := t.stream(func(p []byte) error {
		if _, err := dots.Write(p); err != nil {
			return t.cut(err)
		}
		return nil
	})
	if err != nil || t.decided {
		return err
	}
	t.final = true
	dots.Close()
	if err := c.out.Flush(); err != nil {
		return t.cut(err)
	}
	return t.finish()
}

// finish reads the reply to the whole mail.
func (t *transmission) finish() error {
	c := t.c
	c.until = time.Time{} // the mail is out; what comes now decides
	code, err := c.read(c.o.Timeouts.DataEnd)
	if err != nil {
		return err
	}
	return t.outcome(code)
}

// outcome takes the reply that was just read for that to the whole mail.
func (t *transmission) outcome(code int) error {
	c := t.c
	if code/100 == 3 {
		return c.violation()
	}
	r := c.replies.reply()
	t.sent.Reply = r
	if code >= 400 {
		c.debug("mail")
		t.all(r)
		return nil
	}
	c.dirty, t.decided = false, true
	return nil
}

// cut is called when the server does not take what we write. It may have said why.
func (t *transmission) cut(err error) error {
	c := t.c
	c.failed = true
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return broken(err)
	}
	c.until = time.Time{}
	for range t.pending + 1 {
		code, rerr := c.read(lastWords)
		if rerr != nil {
			break
		}
		if code >= 400 {
			return t.outcome(code)
		}
	}
	return broken(err)
}

// chunks sends the mail by BDAT (RFC 3030 §2). The last chunk goes only when the server
// has taken all before it: otherwise one that forgets a lost chunk could say yes to half a mail.
func (t *transmission) chunks() error {
	c := t.c
	rest, left := t.size, int64(0) // of the mail, of the chunk
	if rest == 0 {
		t.final = true
		c.out.WriteString("BDAT 0 LAST\r\n")
	}
	err := t.stream(func(p []byte) error {
		for len(p) > 0 {
			if left == 0 {
				left = min(rest, ChunkSize)
				if err := t.beginChunk(left, left == rest); err != nil || t.decided {
					return err
				}
			}
			n := min(left, int64(len(p)))
			left -= n
			rest -= n
			t.final = rest == 0
			if _, err := c.out.Write(p[:n]); err != nil {
				return t.cut(err)
			}
			p = p[n:]
			if left == 0 && rest > 0 {
				t.pending++
			}
		}
		return nil
	})
	if err != nil || t.decided {
		return err
	}
	if err := c.out.Flush(); err != nil {
		return t.cut(err)
	}
	c.until = time.Time{}
	code, err := c.read(c.o.Timeouts.DataEnd)
	if err != nil {
		return err
	}
	return t.chunkOutcome(code)
}

// beginChunk waits until the next chunk may go, and announces it.
func (t *transmission) beginChunk(size int64, last bool) error {
	c, ahead := t.c, 0
	if c.ext.Pipelining && !last {
		ahead = chunksAhead - 1
	}
	if t.pending > ahead {
		if err := c.out.Flush(); err != nil {
			return t.cut(err)
		}
	}
	for ; t.pending > ahead; t.pending-- {
		code, err := c.read(c.o.Timeouts.DataEnd)
		if err != nil {
			return err
		}
		if code/100 != 2 {
			return t.chunkOutcome(code)
		}
	}
	c.out.WriteString("BDAT ")
	c.out.WriteString(strconv.FormatInt(size, 10))
	if last {
		c.out.WriteString(" LAST")
	}
	c.out.WriteString("\r\n")
	return nil
}

// chunkOutcome judges the reply that decides over a mail in chunks. A server that refuses
// the command (500 to 504), or a chunk in the middle, has perhaps not read the bytes that came
// with it, and would take them for commands: their replies must not meet our next mail. If it
// does not even know BDAT, which it has offered, nothing is said about the mail.
func (t *transmission) chunkOutcome(code int) error {
	c := t.c
	if command := 500 <= code && code <= 504; command || t.pending > 0 || !t.final {
		c.failed = true
		if code == 502 || command && (string(c.replies.enhanced) == "5.5.1" || string(c.replies.enhanced) == "5.5.2") {
			c.debug("BDAT")
			return c.violation()
		}
	}
	return t.outcome(code)
}
