package road

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/mxdeliv"
	"postern.email/wire/smtp"
)

// maxSingle is up to how many recipients a mail is posted to one by one, after a host
// refused all of them with one answer.
const maxSingle = 50

// webRoad is the way over HTTPS. Connections are shared by all sessions; a client has
// those of one kind, so that none that was made under less trust is used for more.
type webRoad struct {
	r *Roads

	mu      sync.Mutex
	clients map[webKind]*mxdeliv.Client
}

// webKind is what connections of one client have in common. There are as many as routes
// with a host, and two more.
type webKind struct {
	host  string // of the operator's route; empty: the name in the URL
	trust Trust
}

func newWebRoad(r *Roads) *webRoad { return &webRoad{r: r, clients: make(map[webKind]*mxdeliv.Client)} }

func (w *webRoad) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.clients {
		c.Close()
	}
}

func (w *webRoad) client(k webKind) *mxdeliv.Client {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.clients[k]
	if c == nil {
		c = mxdeliv.NewClient(mxdeliv.ClientOptions{Connect: w.r.o.Connect, DialTLS: func(ctx context.Context, host, port string) (*tls.Conn, error) {
			return w.dial(ctx, k, host, port)
		}})
		w.clients[k] = c
	}
	return c
}

// dial connects to a host and verifies it, if it must be.
func (w *webRoad) dial(ctx context.Context, k webKind, name, port string) (*tls.Conn, error) {
	const op = "agent/road.dial"
	host := name
	if k.host != "" {
		host = k.host
	}
	var addrs []netip.Addr
	if ip, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{ip}
	} else {
		h, err := w.r.o.Names.Addresses(ctx, host)
		if err != nil {
			return nil, err
		}
		addrs = interleave(h.Addrs)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, errs.E(op, errs.Invalid, "", err)
	}
	last := errs.E(op, errs.Unavailable, "the host has no address", nil)
	for _, a := range addrs {
		if w.r.o.Us != nil && w.r.o.Us(netip.AddrPortFrom(a, uint16(n))) {
			last = errs.E(op, errs.Denied, "the way leads back to this host", nil)
			continue
		}
		var c net.Conn
		if c, err = w.r.dial(ctx, a, uint16(n)); err != nil {
			last = errs.E(op, errs.Unavailable, "", err)
			continue
		}
		t := tls.Client(c, w.r.webTLS(k.trust, name))
		if err = t.HandshakeContext(ctx); err == nil {
			return t, nil
		}
		c.Close()
		last = errs.E(op, errs.Denied, "", err)
	}
	return nil, last
}

// webTLS is what a host must prove over HTTPS. DANE speaks of port 25 only.
func (r *Roads) webTLS(trust Trust, name string) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: r.o.Roots, Time: r.o.Now,
		NextProtos: []string{"h2", "http/1.1"}, ClientSessionCache: r.webSessions}
	if trust != Verified {
		c.InsecureSkipVerify, c.ClientSessionCache = true, nil
	}
	return c
}

// send posts a mail to a host. false: the host does not take it this way; Unreached says
// why.
func (w *webRoad) send(ctx context.Context, t *target, j Job) (Outcome, bool) {
	k := webKind{trust: t.trust}
	if t.host != t.name {
		k.host = t.host
	}
	c := w.client(k)
	at := t.name
	if strings.Contains(at, ":") {
		at = "[" + at + "]"
	}
	if t.https != 443 {
		at += ":" + strconv.Itoa(int(t.https))
	}
	to := make([]mail.Address, len(j.Rcpts))
	for i := range j.Rcpts {
		to[i] = j.Rcpts[i].To
	}
	out, again, ok := w.post(ctx, c, t, at, j, to)
	if !again || len(to) == 1 || len(to) > maxSingle {
		return out, ok
	}
	// One answer for all says nothing about each: ask for each.
	out = Outcome{Host: t.host, Answers: make([]*smtp.Reply, len(to))}
	for i := range to {
		one, _, ok := w.post(ctx, c, t, at, j, to[i:i+1])
		switch {
		case ok:
			out.Answers[i] = one.Answers[0]
		case i == 0:
			return one, false
		default:
			fill(out.Answers, &smtp.Reply{Code: 451, Enhanced: "4.4.2", Text: one.Unreached.Text})
			return out, true
		}
	}
	return out, true
}

// gate ends a request when nothing shall be begun any more, unless the host is taking the mail by then: either
// no byte of the mail leaves, or nothing is cut.
type gate struct {
	smtp.Content
	cut func()

	mu   sync.Mutex
	open bool // a byte was read
	shut bool
}

// gated puts a gate before a mail that ends the context for its request with begin (nil: never).
func gated(ctx, begin context.Context, mail smtp.Content) (context.Context, smtp.Content, context.CancelFunc) {
	if begin == nil {
		return ctx, mail, func() {}
	}
	ctx, cut := context.WithCancel(ctx)
	g := &gate{Content: mail, cut: cut}
	undo := context.AfterFunc(begin, g.close)
	if begin.Err() != nil {
		g.close()
	}
	return ctx, g, func() {
		undo()
		cut()
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		g.shut = true
		g.cut()
	}
}

// ReadAt implements smtp.Content.
func (g *gate) ReadAt(p []byte, off int64) (int, error) {
	g.mu.Lock()
	shut := g.shut
	g.open = !shut
	g.mu.Unlock()
	if shut {
		return 0, errs.E("agent/road.gate", errs.Canceled, "", nil)
	}
	return g.Content.ReadAt(p, off)
}

// post is one request. again: the answer is one for several recipients, and no yes.
func (w *webRoad) post(ctx context.Context, c *mxdeliv.Client, t *target, at string, j Job, to []mail.Address) (out Outcome, again, ok bool) {
	ctx, body, done := gated(ctx, j.Begin, j.Body)
	defer done()
	a, err := c.Deliver(ctx, at, mxdeliv.Outgoing{From: j.From, To: to, Content: body})
	answer := func(r *smtp.Reply) Outcome {
		o := Outcome{Host: t.host, Answers: make([]*smtp.Reply, len(to))}
		fill(o.Answers, r)
		return o
	}
	switch {
	case err != nil && a.Unknown:
		return answer(lost(true)), false, true
	case err != nil:
		return Outcome{Unreached: &smtp.Reply{Code: 421, Enhanced: "4.4.2", Text: t.host + " does not answer over HTTPS"}}, false, false
	case a.Outcome == mxdeliv.Accepted:
		return answer(&smtp.Reply{Code: 250, Enhanced: "2.0.0", Text: "OK (HTTPS)"}), false, true
	case a.Outcome == mxdeliv.Refused:
		r, err := smtp.ParseReply(a.Reply)
		if err != nil {
			r = &smtp.Reply{Code: 451, Enhanced: "4.3.0", Text: a.Reply}
		}
		return answer(r), len(to) > 1, true
	}
	w.r.o.Logger.Debug("road: no mail over HTTPS", "why", a.Why)
	text := t.host + " does not take mail over HTTPS"
	if errors.Is(a.Why, mxdeliv.ErrNoAnswer) {
		text = t.host + " does not answer over HTTPS with a certificate that is trusted"
	}
	return Outcome{Unreached: &smtp.Reply{Code: 421, Enhanced: "4.4.1", Text: text}}, errors.Is(a.Why, mxdeliv.ErrNotNow), false
}
