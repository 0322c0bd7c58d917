package smtp

import (
	"errors"
	"io"

	"postern.email/kit/errs"
	"postern.email/wire/lineio"
)

// maxReplyLine is the longest line of a reply that is read, without its CRLF. RFC 5321
// §4.5.3.1.5 allows 512 with it; EHLO lines of some servers are longer.
const maxReplyLine = 4096

// MaxReplyText bounds Reply.Text of what a server said; the rest is cut off.
const MaxReplyText = 1024

// replyReader reads replies (RFC 5321 §4.2). What next read stays until the next call.
type replyReader struct {
	in       *lineio.Reader
	maxLines int
	maxBytes int
	each     func(text string) // called with every line but the first, without its code

	code     int
	enhanced []byte // as in Reply; empty: none
	text     []byte // lines joined by spaces, not yet cleaned, cut after MaxReplyText
}

// next reads one reply. All its lines must bear the same code. Errors other than those
// of the connection are ErrProtocol: nothing in the stream means anything then.
func (r *replyReader) next() (code int, err error) {
	r.code, r.enhanced, r.text = 0, r.enhanced[:0], r.text[:0]
	left := r.maxBytes
	for n := 1; ; n++ {
		line, err := r.in.Line(min(maxReplyLine, left))
		if err != nil {
			return 0, replyFault(err, n > 1)
		}
		left -= len(line) + len("\r\n")
		code, enhanced, text, more, ok := cutReply(line)
		switch {
		case !ok:
			return 0, because(ErrProtocol, errors.New("malformed reply"))
		case n > 1 && code != r.code:
			return 0, because(ErrProtocol, errors.New("a reply with two codes"))
		case n == r.maxLines && more, more && left <= 0:
			return 0, because(ErrProtocol, errors.New("endless reply"))
		}
		if n == 1 {
			r.code, r.enhanced = code, append(r.enhanced, enhanced...)
		} else if r.each != nil {
			r.each(string(line[min(len(line), 4):]))
		}
		r.add(text)
		if !more {
			return code, nil
		}
	}
}

// replyFault tells what the server did wrong from what the network did.
func replyFault(err error, inside bool) error {
	switch {
	case err == lineio.ErrBareCR, err == lineio.ErrBareLF, err == lineio.ErrNUL, err == lineio.ErrTooLong:
		return because(ErrProtocol, err)
	case err == io.EOF && inside:
		return io.ErrUnexpectedEOF
	}
	return err
}

// add appends the text of one line.
func (r *replyReader) add(text []byte) {
	if room := MaxReplyText - len(r.text); room > 0 && len(text) > 0 {
		if len(r.text) > 0 {
			r.text = append(r.text, ' ')
		}
		r.text = append(r.text, text[:min(len(text), room)]...)
	}
}

// reply gives what next read.
func (r *replyReader) reply() *Reply {
	return &Reply{Code: r.code, Enhanced: string(r.enhanced), Text: lineio.Clean(string(r.text), MaxReplyText)}
}

// ParseReply reads a reply on one line, without its line end, as other roads than SMTP
// carry it (wire/mxdeliv). The text is cleaned and cut as that of a Client's replies.
func ParseReply(line string) (*Reply, error) {
	code, enhanced, text, more, ok := cutReply([]byte(line))
	if !ok || more {
		return nil, errs.E("wire/smtp.ParseReply", errs.Invalid, "malformed reply", nil)
	}
	return &Reply{Code: code, Enhanced: string(enhanced), Text: lineio.Clean(string(text), MaxReplyText)}, nil
}

// cutReply reads one line of a reply: three digits, then "-" when more lines follow, or
// a space, or nothing at all (RFC 5321 §4.2). Only the first digit is judged: servers use
// numbers that no RFC names.
func cutReply(line []byte) (code int, enhanced, text []byte, more, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) {
		return 0, nil, nil, false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, nil, nil, false, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, nil, nil, false, false
	}
	enhanced, text = cutEnhanced(line[4:], line[0])
	return code, enhanced, text, line[3] == '-', true
}

// cutEnhanced takes an enhanced code (RFC 3463 §2) off the start of a text. One whose
// class is not that of the reply says nothing that could be believed, and stays text.
func cutEnhanced(text []byte, class byte) (enhanced, rest []byte) {
	if len(text) < 5 || text[0] != class || class == '3' || text[1] != '.' {
		return nil, text
	}
	i := 2
	for part := 0; part < 2; part++ {
		from := i
		for i < len(text) && isDigit(text[i]) {
			i++
		}
		if i == from || i-from > 3 {
			return nil, text
		}
		if part == 0 {
			if i == len(text) || text[i] != '.' {
				return nil, text
			}
			i++
		}
	}
	if i == len(text) {
		return text, nil
	}
	if text[i] != ' ' {
		return nil, text
	}
	return text[:i], text[i+1:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
