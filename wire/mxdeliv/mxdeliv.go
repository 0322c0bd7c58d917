// Package mxdeliv takes mail from other relays over HTTPS, for those that cannot reach
// port 25: POST /mxdeliv with the sender in X-MAIL-FROM (none: the null path), each
// recipient in an X-MAIL-TO of its own, and the mail as it is in the body.
//
// 200 says that the mail is durable for every recipient. 400 carries the SMTP reply that
// refuses it, 413 the one for a mail that is too large. 503, also with an SMTP reply, says
// that this way is no good for this mail now: when some of several recipients are refused,
// one status cannot speak for all, and the sender's next way, SMTP, answers for each. 429
// says that the sender's network has sent too much for now.
package mxdeliv

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/wire/lineio"
)

// Path is where the handler belongs.
const Path = "/mxdeliv"

// Defaults of Options, and fixed limits.
const (
	DefaultMaxSize       = 31457280 // bytes of one mail
	DefaultMaxRecipients = 1000     // of one mail
	DefaultMemory        = 256 << 20
	MaxTextLine          = 16384 // bytes of a line of a mail, as in wire/smtp

	readBlock = time.Minute      // a body brings at least minBlock bytes in each
	minBlock  = 16 << 10         //
	readTotal = 15 * time.Minute // one body
	judgeTime = 3 * time.Minute  // from the last byte to the answer
	firstRoom = 64 << 10         // bytes made room for before any came
	largeMail = 1 << 20          // beyond, a mail may use only half of the memory
)

// Mail is one mail that came.
type Mail struct {
	From mail.Address // zero: the null path
	To   []mail.Address
	Raw  []byte // CRLF line ends; valid until Deliver returns
	Peer limits.Peer
}

// Outcome is what became of a mail.
type Outcome uint8

const (
	Accepted Outcome = iota // durable for every recipient
	Refused                 // for all of them, and nothing is kept
	Split                   // some recipients were refused, and nothing is kept
	Later                   // the peer is over a limit; nothing is kept
)

// Backend decides. Its methods may be called by many goroutines.
type Backend interface {
	// Admit is asked before the body is read. When not ok the peer is told to come later,
	// with reply, an SMTP reply on one line, without line end.
	Admit(ctx context.Context, peer limits.Peer) (reply string, ok bool)

	// Deliver takes a mail. reply is an SMTP reply on one line, without line end.
	Deliver(ctx context.Context, m Mail) (o Outcome, reply string)
}

// Options of a Handler. Backend is needed.
type Options struct {
	Backend       Backend
	MaxSize       int64         // bytes of one mail
	MaxRecipients int           // of one mail
	Memory        *limits.Bytes // mails being received; nil: a budget of DefaultMemory of its own
	Share         int64         // bytes of Memory that one network may take; 0: no such limit
	// PeerOf gives who sent a request; nil: nobody knows, and nobody is limited.
	PeerOf func(*http.Request) limits.Peer
	// Received is told how many bytes of a body came, whether the mail was taken or not.
	// nil: nobody counts.
	Received func(limits.Peer, int64)
}

// Handler is the http.Handler. It speaks only under TLS.
type Handler struct{ o Options }

// New makes a Handler.
func New(o Options) *Handler {
	defaults.Positive(&o.MaxSize, DefaultMaxSize)
	defaults.Positive(&o.MaxRecipients, DefaultMaxRecipients)
	if o.Memory == nil {
		o.Memory = limits.NewBytes(DefaultMemory)
	}
	if o.PeerOf == nil {
		o.PeerOf = func(*http.Request) limits.Peer { return limits.Peer{} }
	}
	if o.Received == nil {
		o.Received = func(limits.Peer, int64) {}
	}
	return &Handler{o}
}

// answer is a status with an SMTP reply.
type answer struct {
	status int
	text   string
}

var (
	sayFrom     = &answer{http.StatusBadRequest, "501 5.1.7 bad sender address syntax"}
	sayTo       = &answer{http.StatusBadRequest, "501 5.1.3 bad recipient address syntax"}
	sayNobody   = &answer{http.StatusBadRequest, "503 5.5.1 no recipients"}
	sayMany     = &answer{http.StatusServiceUnavailable, "452 4.5.3 too many recipients"}
	sayLarge    = &answer{http.StatusRequestEntityTooLarge, "552 5.3.4 Message exceeds maximum size"}
	sayNoMemory = &answer{http.StatusServiceUnavailable, "452 4.3.1 too many mails at once, try again later"}
	sayBadData  = &answer{http.StatusBadRequest, "500 Invalid DATA"}
	saySlow     = &answer{http.StatusRequestTimeout, "421 4.4.2 timeout, closing connection"}
	sayBroken   = &answer{http.StatusBadRequest, "421 4.4.2 connection broken"}
	sayTLS      = &answer{http.StatusForbidden, "530 5.7.0 TLS is needed"}
)

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := h.serve(w, r)
	head := w.Header()
	head.Set("Content-Type", "text/plain; charset=utf-8")
	head.Set("Cache-Control", "no-store")
	if a.status == http.StatusMethodNotAllowed {
		head.Set("Allow", http.MethodPost)
	}
	w.WriteHeader(a.status)
	io.WriteString(w, a.text+"\n")
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) *answer {
	switch {
	case r.Method != http.MethodPost:
		return &answer{http.StatusMethodNotAllowed, "502 5.5.1 POST only"}
	case r.TLS == nil:
		return sayTLS
	case r.ContentLength > h.o.MaxSize:
		return sayLarge
	}
	m, a := h.envelope(r.Header)
	if a != nil {
		return a
	}
	m.Peer = h.o.PeerOf(r)
	if reply, ok := h.o.Backend.Admit(r.Context(), m.Peer); !ok {
		return &answer{http.StatusTooManyRequests, reply}
	}
	b := body{budget: h.o.Memory.Share(m.Peer, h.o.Share), max: h.o.MaxSize, timer: http.NewResponseController(w)}
	defer b.release()
	defer func() { h.o.Received(m.Peer, int64(len(b.text))) }()
	b.timer.SetWriteDeadline(time.Now().Add(readTotal + judgeTime)) // what cannot set it has none
	if a := b.read(r.Body, r.ContentLength); a != nil {
		return a
	}
	if lineio.CheckText(b.text, MaxTextLine) != nil {
		return sayBadData
	}
	m.Raw = b.text
	ctx, cancel := context.WithTimeout(r.Context(), judgeTime)
	defer cancel()
	switch o, text := h.o.Backend.Deliver(ctx, m); o {
	case Accepted:
		return &answer{http.StatusOK, text}
	case Split:
		return &answer{http.StatusServiceUnavailable, text}
	case Later:
		return &answer{http.StatusTooManyRequests, text}
	default:
		return &answer{http.StatusBadRequest, text}
	}
}

// envelope reads the addresses; angle brackets around them are taken too.
func (h *Handler) envelope(head http.Header) (m Mail, a *answer) {
	switch from := head.Values("X-Mail-From"); {
	case len(from) > 1:
		return m, sayFrom
	case len(from) == 1:
		text := bare(from[0])
		if text == "" {
			break
		}
		var err error
		if m.From, err = mail.ParseAddress(text); err != nil {
			return m, sayFrom
		}
	}
	to := head.Values("X-Mail-To")
	switch {
	case len(to) == 0:
		return m, sayNobody
	case len(to) > h.o.MaxRecipients:
		return m, sayMany
	}
	for _, text := range to {
		addr, err := mail.ParseAddress(bare(text))
		if err != nil {
			return m, sayTo
		}
		m.To = append(m.To, addr)
	}
	return m, nil
}

func bare(s string) string {
	s = strings.TrimSpace(s)
	if in, ok := strings.CutPrefix(s, "<"); ok && strings.HasSuffix(in, ">") {
		return in[:len(in)-1]
	}
	return s
}

// body is a mail that comes.
type body struct {
	budget limits.Share
	max    int64
	timer  *http.ResponseController
	text   []byte
	held   int64
}

func (b *body) release() { b.budget.Release(b.held) }

// read takes the whole body. The time of a request, which is short for pages, is
// replaced by one that a large mail on a thin line can keep.
func (b *body) read(r io.Reader, length int64) *answer {
	room := int64(firstRoom)
	if 0 <= length && length < room {
		room = length + 1
	}
	began := time.Now()
	window, seen := began, 0
	for {
		if int64(len(b.text)) == b.held && !b.grow(room) {
			return sayNoMemory
		}
		until := window.Add(readBlock)
		if end := began.Add(readTotal); end.Before(until) {
			until = end
		}
		b.timer.SetReadDeadline(until) // what cannot set it has none
		n, err := r.Read(b.text[len(b.text):cap(b.text)])
		b.text = b.text[:len(b.text)+n]
		switch {
		case int64(len(b.text)) > b.max:
			return sayLarge
		case err == io.EOF:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return saySlow
		case err != nil:
			return sayBroken
		}
		room = int64(cap(b.text))
		if len(b.text)-seen >= minBlock {
			window, seen = time.Now(), len(b.text)
		}
	}
}

// grow makes room for n more bytes, but for no more than one byte beyond the limit.
func (b *body) grow(n int64) bool {
	n = min(n, b.max+1-b.held)
	acquire := b.budget.Acquire
	if b.held+n > largeMail {
		acquire = b.budget.AcquireHalf
	}
	if !acquire(n) {
		return false
	}
	b.held += n
	text := make([]byte, len(b.text), b.held)
	copy(text, b.text)
	b.text = text
	return true
}
