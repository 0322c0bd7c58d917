package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"postern.email/kit/errs"
)

// udpSize is the largest answer that is asked for by UDP: below what RFC 9715 allows, so
// that it crosses every network in one piece. Larger ones come by TCP.
const udpSize = 1232

// maxUDP is what is read of a datagram: some servers send more than they were told to.
const maxUDP = 4096

// exchange asks the servers in turn until one answers: yes, no such name, or no such
// record. name ends with a dot. trusted says whether the answer's AD bit is to be
// believed. ctx must have a deadline.
func (r *Resolver) exchange(ctx context.Context, name string, typ uint16) (m *mdns.Msg, trusted bool, err error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, false, noAnswer(ctx, nil)
	}
	list := r.servers.list()
	order := r.rest.order(len(list), r.o.Now())
	var helpless [MaxServers]bool // it answered and cannot help: not asked again
	err = errors.New("no server")
	for try := range rounds * len(list) {
		i := order[try%len(list)]
		if helpless[i] {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		began := time.Now()
		m, err = r.query(ctx, list[i].addr, name, typ, rounds*len(list)-try)
		if err == nil {
			return m, list[i].trusted, nil
		}
		var f *failure
		helpless[i] = errors.As(err, &f)
		switch {
		case !helpless[i] && ctx.Err() == nil && (!isTimeout(err) || time.Since(began) >= fairWait):
			r.rest.silent(i, r.o.Now())
		case helpless[i] && f.forged:
			return nil, false, noAnswer(ctx, err) // another server would only know less
		}
	}
	return nil, false, noAnswer(ctx, err)
}

// fairWait is how long a server must have been waited for before it counts as silent: a
// caller with little time is not its fault.
const fairWait = time.Second

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// noAnswer is the error of a look-up that came to nothing.
func noAnswer(ctx context.Context, cause error) error {
	const op = "wire/dns.exchange"
	if cause == nil {
		cause = ctx.Err()
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return errs.E(op, errs.Canceled, "", cause)
	}
	var f *failure
	if errors.As(cause, &f) {
		return errs.E(op, errs.Unavailable, f.public(), cause)
	}
	return errs.E(op, errs.Unavailable, "the resolver does not answer", cause)
}

// failure is a server's word that it has no answer.
type failure struct {
	rcode  int
	forged bool // DNSSEC says so, and the server tells (RFC 8914)
	code   uint16
	coded  bool
}

func (f *failure) Error() string {
	s := mdns.RcodeToString[f.rcode]
	if f.coded {
		s += fmt.Sprintf(" (%s)", mdns.ExtendedErrorCodeToString[f.code])
	}
	return s
}

func (f *failure) public() string {
	switch {
	case f.forged:
		return "the resolver finds that the answer is not what the domain's owner signed"
	case f.rcode == mdns.RcodeRefused:
		return "the resolver refuses to answer"
	}
	return "the resolver has no answer now"
}

// failed is the failure that m tells of, or nil.
func failed(m *mdns.Msg) error {
	switch m.Rcode {
	case mdns.RcodeNameError:
		return nil
	case mdns.RcodeSuccess:
		// A server that asks nobody for others and knows nothing itself points elsewhere.
		if !m.Authoritative && !m.RecursionAvailable && len(m.Answer) == 0 {
			return &failure{rcode: mdns.RcodeRefused}
		}
		return nil
	}
	f := &failure{rcode: m.Rcode}
	if o := m.IsEdns0(); o != nil {
		for _, opt := range o.Option {
			if e, ok := opt.(*mdns.EDNS0_EDE); ok {
				f.code, f.coded = e.InfoCode, true
				switch e.InfoCode {
				case mdns.ExtendedErrorCodeDNSBogus, mdns.ExtendedErrorCodeSignatureExpired, mdns.ExtendedErrorCodeSignatureNotYetValid,
					mdns.ExtendedErrorCodeDNSKEYMissing, mdns.ExtendedErrorCodeRRSIGsMissing, mdns.ExtendedErrorCodeNoZoneKeyBitSet, mdns.ExtendedErrorCodeNSECMissing:
					f.forged = true
				}
			}
		}
	}
	return f
}

// query asks one server once, of tries that are left, by UDP and, for a long answer, by
// TCP.
func (r *Resolver) query(ctx context.Context, addr, name string, typ uint16, tries int) (*mdns.Msg, error) {
	end, ok := ctx.Deadline()
	if !ok {
		end = time.Now().Add(r.o.Timeout)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Until(end)/time.Duration(tries))
	defer cancel()
	for _, edns := range []bool{true, false} {
		m, err := r.send(ctx, "udp", addr, name, typ, edns)
		if err == nil && m.Truncated {
			m, err = r.send(ctx, "tcp", addr, name, typ, edns)
		}
		if err != nil {
			return nil, err
		}
		// A server from before EDNS understands nothing of it (RFC 6891 §7).
		if edns && (m.Rcode == mdns.RcodeFormatError || m.Rcode == mdns.RcodeNotImplemented) {
			continue
		}
		return m, failed(m)
	}
	return nil, &failure{rcode: mdns.RcodeFormatError}
}

// send is one question and its answer on one connection, so that each goes out from a
// port of its own (RFC 5452 §9.2).
func (r *Resolver) send(ctx context.Context, network, addr, name string, typ uint16, edns bool) (*mdns.Msg, error) {
	var id [2]byte
	if _, err := io.ReadFull(r.o.Rand, id[:]); err != nil {
		return nil, err
	}
	q := &mdns.Msg{Question: []mdns.Question{{Name: name, Qtype: typ, Qclass: mdns.ClassINET}}}
	q.Id, q.RecursionDesired = binary.BigEndian.Uint16(id[:]), true
	q.AuthenticatedData = true // tell us (RFC 6840 §5.7)
	if edns {
		q.SetEdns0(udpSize, true)
	}
	c, err := r.o.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if err := write(c, network, q); err != nil {
		return nil, err
	}
	buf := make([]byte, maxUDP)
	for {
		raw, err := read(c, network, buf)
		if err != nil {
			return nil, err
		}
		m, why := parse(raw, q)
		if why == nil {
			return m, nil
		}
		var other *stranger
		if network == "tcp" || !errors.As(why, &other) {
			return nil, why
		}
		// Somebody guesses; the answer may still come (RFC 5452 §9.1).
	}
}

// stranger is what comes by UDP and is no answer to the question.
type stranger struct{ why string }

func (s *stranger) Error() string { return s.why }

// parse reads an answer to q.
func parse(raw []byte, q *mdns.Msg) (*mdns.Msg, error) {
	if len(raw) < 2 || binary.BigEndian.Uint16(raw) != q.Id {
		return nil, &stranger{"an answer to another question"}
	}
	m := new(mdns.Msg)
	if err := m.Unpack(raw); err != nil {
		return nil, err
	}
	ask := q.Question[0]
	switch {
	case !m.Response || m.Opcode != mdns.OpcodeQuery || len(m.Question) > 1:
		return nil, &stranger{"not an answer"}
	case len(m.Question) == 0:
		// A server that fails may leave the question out.
		if m.Rcode == mdns.RcodeSuccess || m.Rcode == mdns.RcodeNameError {
			return nil, &stranger{"an answer without question"}
		}
	case m.Question[0].Qtype != ask.Qtype || m.Question[0].Qclass != ask.Qclass || !strings.EqualFold(m.Question[0].Name, ask.Name):
		return nil, &stranger{"an answer to another question"}
	}
	return m, nil
}

func write(c net.Conn, network string, q *mdns.Msg) error {
	raw, err := q.Pack()
	if err != nil {
		return err
	}
	if network == "tcp" {
		raw = append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...) // RFC 1035 §4.2.2
	}
	_, err = c.Write(raw)
	return err
}

// read gives one message, in buf where it fits.
func read(c net.Conn, network string, buf []byte) ([]byte, error) {
	if network != "tcp" {
		n, err := c.Read(buf)
		return buf[:n], err
	}
	if _, err := io.ReadFull(c, buf[:2]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint16(buf))
	_, err := io.ReadFull(c, raw)
	return raw, err
}
