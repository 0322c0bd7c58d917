// Package dnstest is a DNS server for tests, on a loopback port, by UDP and TCP: fixed
// records, aliases, denials with SOA, signed zones, and failures on demand. It answers
// for all names, as a recursive server does.
package dnstest

import (
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"
)

// Failure is what a server does instead of answering well.
type Failure int

// Failures for Server.Fail.
const (
	None      Failure = iota
	ServFail          // it has no answer
	Refused           // it does not want to
	Bogus             // it validates, and found a forgery (SERVFAIL with the extended error 6)
	Silent            // it does not answer
	Mangled           // the right id, then bytes that are no message
	Spoofed           // others answer first: another id, another question, a question for an answer, no message at all
	Truncated         // an empty answer by UDP that says TC; all of it by TCP
	Old               // it knows no EDNS: FORMERR
	Bare              // it follows no aliases, and denies without SOA
	Lame              // it points elsewhere: no answer, neither authoritative nor recursive
	Forged            // signatures that do not match
)

type key struct {
	name string // with its last dot, in lower case
	typ  uint16 // 0: every type
}

// Server is one DNS server. It may be used by many goroutines.
type Server struct {
	Addr string // "127.0.0.1:port"

	mu      sync.Mutex
	records map[string][]mdns.RR // by owner
	fails   map[key]Failure
	asked   map[key]int
	secure  []string
	zones   map[string]*signer
}

// New starts a server with records, see Add. It stops when the test ends.
func New(t testing.TB, records ...string) *Server {
	t.Helper()
	s := &Server{records: map[string][]mdns.RR{}, fails: map[key]Failure{}, asked: map[key]int{}, zones: map[string]*signer{}}
	s.Add(t, records...)
	pc, l := listen(t, "127.0.0.1:0")
	s.Addr = pc.LocalAddr().String()
	s.serve(t, pc, l)
	return s
}

// Listen makes the server answer at one more address (host:port) until the test ends.
func (s *Server) Listen(t testing.TB, addr string) {
	t.Helper()
	pc, l := listen(t, addr)
	s.serve(t, pc, l)
}

func (s *Server) serve(t testing.TB, pc net.PacketConn, l net.Listener) {
	for _, srv := range []*mdns.Server{{PacketConn: pc, Handler: s}, {Listener: l, Handler: s}} {
		started, done := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go func() {
			defer close(done)
			srv.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() { srv.Shutdown(); <-done })
	}
}

// listen takes one port for both.
func listen(t testing.TB, addr string) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 100 {
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		pc.Close()
	}
	t.Fatal("no port is free by UDP and TCP")
	return nil, nil
}

// Add adds records in the form of a zone file, such as "example.org 300 MX 10
// mx.example.org". All names are absolute.
func (s *Server) Add(t testing.TB, records ...string) {
	t.Helper()
	for _, text := range records {
		rr, err := mdns.NewRR(text)
		if err != nil || rr == nil {
			t.Fatalf("record %q: %v", text, err)
		}
		s.mu.Lock()
		name := strings.ToLower(rr.Header().Name)
		s.records[name] = append(s.records[name], rr)
		s.mu.Unlock()
	}
}

// AddTXT adds a TXT record of any length, with a TTL of five minutes.
func (s *Server) AddTXT(t testing.TB, name, text string) {
	t.Helper()
	var parts strings.Builder
	for first := true; first || text != ""; first = false {
		n := min(len(text), 255) // a string of a record holds no more
		parts.WriteString(` "`)
		for _, c := range []byte(text[:n]) {
			if c < ' ' || c > '~' || c == '"' || c == '\\' {
				d := strconv.Itoa(int(c) + 1000)
				parts.WriteString(`\` + d[1:])
			} else {
				parts.WriteByte(c)
			}
		}
		parts.WriteByte('"')
		text = text[n:]
	}
	s.Add(t, name+" 300 TXT"+parts.String())
}

// Remove drops all records of a name.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, fqdn(name))
}

// Secure sets the AD bit in answers of which every name lies in one of the zones, as
// a server that validates does for signed ones. A name is a zone here too.
func (s *Server) Secure(zones ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, z := range zones {
		s.secure = append(s.secure, fqdn(z))
	}
}

// Fail makes questions for a name and type ("" for all of either) fail from now on, or
// with None no more. The more exact of two rules holds.
func (s *Server) Fail(name, typ string, f Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails[key{fqdn(name), mdns.StringToType[typ]}] = f
}

// Asked tells how often a question came so far.
func (s *Server) Asked(name, typ string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[key{fqdn(name), mdns.StringToType[typ]}]
}

func fqdn(name string) string {
	if name == "" {
		return ""
	}
	return strings.ToLower(mdns.Fqdn(name))
}

func (s *Server) failure(k key) Failure {
	for _, k := range []key{k, {k.name, 0}, {"", k.typ}, {"", 0}} {
		if f, ok := s.fails[k]; ok {
			return f
		}
	}
	return None
}

// ServeDNS implements miekg/dns's Handler.
func (s *Server) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	if len(q.Question) != 1 || q.Response {
		return
	}
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	m, f := s.answer(q)
	switch f {
	case Silent:
		return
	case Mangled:
		w.Write([]byte{byte(q.Id >> 8), byte(q.Id), 0x80, 0, 0, 9, 0xc0})
		return
	case Spoofed:
		spoof(w, q)
	case Truncated:
		if udp {
			m = new(mdns.Msg).SetReply(q)
			m.Truncated, m.RecursionAvailable = true, true
		}
	}
	if udp {
		size := mdns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	w.WriteMsg(m)
}

// spoof is what somebody who does not see the question can send.
func spoof(w mdns.ResponseWriter, q *mdns.Msg) {
	bad := func(change func(*mdns.Msg)) {
		m := new(mdns.Msg).SetReply(q)
		m.RecursionAvailable, m.AuthenticatedData, m.Rcode = true, true, mdns.RcodeNameError
		change(m)
		w.WriteMsg(m)
	}
	bad(func(m *mdns.Msg) { m.Id ^= 1 })
	bad(func(m *mdns.Msg) { m.Question[0].Name = "other.example." })
	bad(func(m *mdns.Msg) { m.Question[0].Qtype = mdns.TypeHINFO })
	bad(func(m *mdns.Msg) { m.Response = false })
	bad(func(m *mdns.Msg) { m.Question = nil })
	w.Write([]byte{1})
}

func (s *Server) answer(q *mdns.Msg) (*mdns.Msg, Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{fqdn(q.Question[0].Name), q.Question[0].Qtype}
	s.asked[k]++
	f := s.failure(k)
	m := new(mdns.Msg).SetReply(q)
	m.RecursionAvailable, m.Authoritative = true, true
	o := q.IsEdns0()
	if o != nil && f != Old {
		m.SetEdns0(udpSize, o.Do())
	}
	switch f {
	case ServFail:
		m.Rcode = mdns.RcodeServerFailure
		return m, f
	case Refused:
		m.Rcode = mdns.RcodeRefused
		return m, f
	case Bogus:
		m.Rcode = mdns.RcodeServerFailure
		if o := m.IsEdns0(); o != nil {
			o.Option = append(o.Option, &mdns.EDNS0_EDE{InfoCode: mdns.ExtendedErrorCodeDNSBogus})
		}
		return m, f
	case Old:
		if o != nil {
			m.Rcode, m.Question = mdns.RcodeFormatError, nil
			return m, f
		}
	case Lame:
		m.RecursionAvailable, m.Authoritative = false, false
		return m, f
	}
	names := s.fill(m, k, f)
	m.AuthenticatedData = o != nil && s.allSecure(names)
	if o != nil && o.Do() {
		s.sign(m, names[len(names)-1], f == Forged)
	}
	return m, f
}

const udpSize = 1232

// fill puts in the records and gives the names that the answer speaks of, the last of
// which is where the aliases ended.
func (s *Server) fill(m *mdns.Msg, k key, f Failure) (names []string) {
	name := k.name
	for range 20 {
		names = append(names, name)
		var alias *mdns.CNAME
		found := false
		for _, rr := range s.records[name] {
			if rr.Header().Rrtype == k.typ {
				m.Answer, found = append(m.Answer, mdns.Copy(rr)), true
			} else if c, ok := rr.(*mdns.CNAME); ok {
				alias = c
			}
		}
		if found {
			return names
		}
		if alias == nil {
			break
		}
		m.Answer = append(m.Answer, mdns.Copy(alias))
		if f == Bare {
			return names
		}
		name = fqdn(alias.Target)
	}
	if !s.exists(name) {
		m.Rcode = mdns.RcodeNameError
	}
	if f != Bare {
		m.Ns = append(m.Ns, s.soa(name))
	}
	return names
}

// exists reports whether a name, or one below it, has records.
func (s *Server) exists(name string) bool {
	for n, rrs := range s.records {
		if len(rrs) > 0 && mdns.IsSubDomain(name, n) {
			return true
		}
	}
	return false
}

// soa is the SOA record of the zone of a name: the nearest there is, else one of the
// root that lets denials be kept for a minute.
func (s *Server) soa(name string) mdns.RR {
	for n := name; n != "."; n = parent(n) {
		for _, rr := range s.records[n] {
			if soa, ok := rr.(*mdns.SOA); ok {
				return mdns.Copy(soa)
			}
		}
	}
	return &mdns.SOA{Hdr: mdns.RR_Header{Name: ".", Rrtype: mdns.TypeSOA, Class: mdns.ClassINET, Ttl: 60}, Ns: "ns.", Mbox: "ns.", Serial: 1, Refresh: 1, Retry: 1, Expire: 1, Minttl: 60}
}

func parent(name string) string {
	if i, end := mdns.NextLabel(name, 0); !end {
		return name[i:]
	}
	return "."
}

func (s *Server) allSecure(names []string) bool {
	for _, n := range names {
		in := false
		for _, z := range s.secure {
			in = in || mdns.IsSubDomain(z, n)
		}
		if !in {
			return false
		}
	}
	return true
}
