package road

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strconv"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/dane"
	"postern.email/wire/smtp"
)

// MaxRcpts is how many recipients one SMTP transaction has where the host says no
// number (RFC 5321 §4.5.3.1.8: at least 100 must be taken).
const MaxRcpts = 100

// Job is one mail for recipients of one domain.
type Job struct {
	From    mail.Address // zero: the null sender
	Options smtp.MailOptions
	Rcpts   []smtp.Recipient
	Body    smtp.Content
	// Verified asks for the strictest trust, whatever the operator's routes and the exceptions say.
	Verified bool
	// Begin ends when no host shall be asked any more whether it is ready for the mail; one that is
	// goes on taking it. nil: never.
	Begin context.Context
}

// Outcome is what became of a Job.
type Outcome struct {
	// Unreached: no host would hear of the mail, and why; 5xx: none ever will. The
	// mail itself was not judged, and Answers is nil.
	Unreached *smtp.Reply
	// Answers has one for each recipient: below 400, the other side has taken
	// responsibility; 4xx, not now; 5xx, never.
	Answers []*smtp.Reply
	Host    string // who answered; empty: this host itself did
	Reports bool   // it knows DSN (RFC 3461) and reports of success itself where that is asked for
}

// refuse is a reason of our own, in the words of the reference where it has some.
func refuse(code int, enhanced, text string) error {
	return &smtp.Reply{Code: code, Enhanced: enhanced, Text: text}
}

// replyOf gives the reply in an error of plan, resolve or connect.
func replyOf(err error) *smtp.Reply {
	var r *smtp.Reply
	if errors.As(err, &r) {
		return r
	}
	return &smtp.Reply{Code: 451, Enhanced: "4.4.0", Text: errs.Public(err)}
}

// Session is one worker's way to a domain. It keeps its SMTP connection between mails. It
// is used by one goroutine.
type Session struct {
	r      *Roads
	domain string
	c      *smtp.Client
	at     target // where c leads
	// vouched of the plan that led to c.
	vouched bool
}

// Session begins a way to a canonical domain. Nothing is connected yet.
func (r *Roads) Session(domain string) *Session { return &Session{r: r, domain: domain} }

// Close ends the session politely.
func (s *Session) Close() {
	if s.c != nil {
		s.c.Quit()
		s.c = nil
	}
}

// Send hands over one mail. What it returns is about this mail or about the way
// (Outcome.Unreached), never an error to guess from.
func (s *Session) Send(ctx context.Context, j Job) Outcome {
	if s.c != nil {
		// A kept connection may have been closed by the other side meanwhile. If it took no
		// part of the mail the mail goes over a new one.
		if out, ok := s.overSMTP(ctx, j); ok {
			return out
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.r.o.Total)
	defer cancel()
	reach, stop := context.WithTimeout(ctx, s.r.o.Reach)
	defer stop()
	if j.Begin != nil {
		defer context.AfterFunc(j.Begin, stop)()
	}
	p, err := s.r.plan(reach, s.domain)
	if err != nil {
		return Outcome{Unreached: replyOf(err)}
	}
	if j.Options.RequireTLS && !p.vouched {
		return all(j, &smtp.Reply{Code: 550, Enhanced: "5.7.30", Text: "REQUIRETLS is needed, and nothing vouches for the mail servers of " + s.domain}, "")
	}
	why := &smtp.Reply{Code: 421, Enhanced: "4.4.1", Text: "Failed to connect to any mail server"}
	for i := range p.targets {
		t := &p.targets[i]
		if j.Verified {
			strict := *t
			strict.trust = Verified
			t = &strict
		}
		if out, ok := s.try(ctx, reach, p, t, j); ok {
			return out
		} else if out.Unreached != nil {
			why = out.Unreached
		}
		if ctx.Err() != nil || reach.Err() != nil {
			break
		}
	}
	if why.Code >= 500 { // what one host says of us may change, and another may take the mail later
		why = &smtp.Reply{Code: 421, Enhanced: "4.4.1", Text: why.String()}
	}
	return Outcome{Unreached: why}
}

// try hands the mail to one host. false: the next one should be tried; Unreached says why.
func (s *Session) try(ctx, reach context.Context, p *plan, t *target, j Job) (Outcome, bool) {
	addrs, tlsa, err := s.r.resolve(reach, t)
	if err != nil {
		return Outcome{Unreached: replyOf(err)}, false
	}
	if s.r.o.Us != nil {
		for _, a := range addrs {
			if s.r.o.Us(netip.AddrPortFrom(a, t.smtp)) {
				return Outcome{Unreached: &smtp.Reply{Code: 451, Enhanced: "4.4.6", Text: "Mail for " + s.domain + " loops back to this host"}}, false
			}
		}
	}
	var last *smtp.Reply
	asked := false
	// REQUIRETLS has no word in /mxdeliv (RFC 8689 §4.2.1).
	if !t.noWeb && !j.Options.RequireTLS && t.trust != Plain && (t.noSMTP || !s.r.hosts.skipWeb(t.host)) {
		asked = true
		out, ok := s.r.web.send(ctx, t, j)
		if ok {
			return out, true
		}
		last = out.Unreached
	}
	if t.noSMTP {
		return Outcome{Unreached: last}, false
	}
	if err := s.connect(reach, p, t, addrs, tlsa); err != nil {
		return Outcome{Unreached: replyOf(err)}, false
	}
	out, ok := s.overSMTP(ctx, j)
	if ok && asked {
		s.r.hosts.bySMTP(t.host)
	}
	return out, ok
}

// connect opens an SMTP connection to one of a host's addresses.
func (s *Session) connect(ctx context.Context, p *plan, t *target, addrs []netip.Addr, tlsa dane.Policy) error {
	var last error
	for _, a := range addrs {
		c, err := s.r.dial(ctx, a, t.smtp)
		if err != nil {
			last = refuse(421, "4.4.1", "Failed to connect to any mail server; "+t.host+" does not answer")
			continue
		}
		cl, err := smtp.NewClient(ctx, c, smtp.ClientOptions{Hostname: s.r.o.Hostname, Host: t.name, TLS: s.r.tls(t, tlsa),
			RequireTLS: t.trust != Plain, Timeouts: s.r.o.Timeouts, Logger: s.r.o.Logger})
		if err == nil {
			s.c, s.at, s.vouched = cl, *t, p.vouched
			return nil
		}
		last = s.r.notReady(t, err)
		if ctx.Err() != nil {
			break
		}
	}
	if last == nil {
		last = refuse(421, "4.4.1", "Failed to connect to any mail server; "+t.host+" has no address")
	}
	return last
}

// notReady says why a host that answered cannot be given mail.
func (r *Roads) notReady(t *target, err error) error {
	var reply *smtp.Reply
	var cert *tls.CertificateVerificationError
	switch {
	case errors.Is(err, smtp.ErrNoTLS):
		return refuse(451, "4.7.4", t.host+" does not offer TLS; mail is not sent without it")
	case errors.As(err, &cert), errors.Is(err, errDANE):
		return refuse(451, "4.7.5", "The TLS certificate of "+t.host+" is not trusted: "+certFault(err))
	case errors.Is(err, smtp.ErrHandshake):
		return refuse(451, "4.7.5", "No TLS with "+t.host+" is possible")
	case errors.As(err, &reply):
		return &smtp.Reply{Code: reply.Code, Enhanced: reply.Enhanced, Text: t.host + " said: " + reply.Text}
	case errs.KindOf(err) == errs.Canceled:
		return refuse(421, "4.4.1", t.host+" does not answer in time")
	}
	return refuse(421, "4.4.2", t.host+" does not answer as a mail server should")
}

func certFault(err error) string {
	var name x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, errDANE):
		return "it does not fit the TLSA records"
	case errors.As(err, &name):
		return "it is for another name"
	case errors.As(err, &authority):
		return "no authority that is trusted here has signed it (an intermediate may be missing)"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it is not valid at this time"
	}
	return "it is not in order"
}

// dial connects to one address.
func (r *Roads) dial(ctx context.Context, a netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Connect)
	defer cancel()
	return r.o.Dial(ctx, "tcp", net.JoinHostPort(a.String(), strconv.Itoa(int(port))))
}

// overSMTP sends over the open connection. false: the mail was not judged and may be sent over
// another connection.
func (s *Session) overSMTP(ctx context.Context, j Job) (Outcome, bool) {
	if j.Options.RequireTLS && !s.vouched || j.Verified && s.at.trust != Verified {
		s.Close()
		return Outcome{}, false
	}
	c := s.c
	defer func() {
		if !c.Reusable() {
			c.Close()
			s.c = nil
		}
	}()
	out := Outcome{Host: s.at.host, Answers: make([]*smtp.Reply, len(j.Rcpts)), Reports: c.Extensions().DSN}
	most := MaxRcpts
	if n := c.Extensions().Limits.RcptMax; n > 0 {
		most = n
	}
	for first := 0; first < len(j.Rcpts); first += most {
		if first > 0 && !c.Reusable() { // it takes no more mails over this connection
			fill(out.Answers, &smtp.Reply{Code: 451, Enhanced: "4.4.2", Text: "The host takes no more over this connection"})
			break
		}
		part := j.Rcpts[first:min(first+most, len(j.Rcpts))]
		sent, err := c.Send(ctx, smtp.Envelope{From: j.From, Options: j.Options, Rcpts: part}, j.Body)
		known := false
		for i, why := range sent.Rcpts {
			var r *smtp.Reply
			switch {
			case why == nil:
				out.Answers[first+i], known = taken(sent.Reply), true
			case errors.As(why, &r):
				out.Answers[first+i], known = r, true
			}
		}
		switch {
		case err == nil:
			continue
		case errs.KindOf(err) == errs.Invalid, errs.KindOf(err) == errs.TooLarge:
			// The mail itself cannot be sent by SMTP; no host will take it.
			fill(out.Answers, &smtp.Reply{Code: 554, Enhanced: "5.6.0", Text: "The mail cannot be sent: " + errs.Public(err)})
			return out, true
		case sent.Stale && first == 0:
			return Outcome{}, false
		case first == 0 && !known && !sent.Unknown:
			// Nothing was said about this mail. On a kept connection that is no news.
			return Outcome{Unreached: replyOf(s.r.notReady(&s.at, err))}, false
		}
		fill(out.Answers, lost(sent.Unknown)) // the rest: later
		break
	}
	return out, true
}

// taken is the answer for a recipient that the host has taken responsibility for.
func taken(r *smtp.Reply) *smtp.Reply {
	if r == nil {
		return &smtp.Reply{Code: 250, Enhanced: "2.0.0", Text: "OK (SMTP)"}
	}
	return r
}

// fill gives those who have no answer yet this one.
func fill(answers []*smtp.Reply, r *smtp.Reply) {
	for i := range answers {
		if answers[i] == nil {
			answers[i] = r
		}
	}
}

// lost is the answer for recipients of whom nothing was heard.
func lost(uncertain bool) *smtp.Reply {
	if uncertain {
		return &smtp.Reply{Code: 451, Enhanced: "4.4.2", Text: "The connection was lost before the answer; the mail may have arrived and is sent again"}
	}
	return &smtp.Reply{Code: 451, Enhanced: "4.4.2", Text: "The connection was lost"}
}

// all gives every recipient one answer.
func all(j Job, r *smtp.Reply, host string) Outcome {
	out := Outcome{Host: host, Answers: make([]*smtp.Reply, len(j.Rcpts))}
	fill(out.Answers, r)
	return out
}
