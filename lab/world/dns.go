package world

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"postern.email/kit/config"
	"postern.email/kit/errs"
)

// zone is all names that there are: what stands in a file, and the host's own records.
type zone struct {
	file string
	own  []string

	mu      sync.Mutex
	records map[string][]mdns.RR // by owner, in lower case with its last dot
	changed time.Time            // of the file, when it was read
	size    int64
}

// udpSize is the largest answer by UDP to who did not say more.
const udpSize = 1232

func openZone(file string, own ...string) (*zone, error) {
	z := &zone{file: file, own: own}
	z.mu.Lock()
	defer z.mu.Unlock()
	return z, z.refresh()
}

// refresh reads the file again if it has changed. A file that cannot be read leaves what was
// there. Under z.mu.
func (z *zone) refresh() error {
	const op = "lab/world.zone"
	st, err := os.Stat(z.file)
	if err != nil {
		return errs.E(op, errs.Unavailable, "cannot read "+z.file, err)
	}
	if st.ModTime().Equal(z.changed) && st.Size() == z.size && z.records != nil {
		return nil
	}
	text, err := config.ReadFile(z.file)
	if err != nil {
		return errs.E(op, errs.KindOf(err), "cannot read "+z.file, err)
	}
	records := map[string][]mdns.RR{}
	for i, line := range append(strings.Split(string(text), "\n"), z.own...) {
		if line = strings.TrimSpace(line); line == "" || line[0] == ';' {
			continue
		}
		rr, err := mdns.NewRR(line)
		if err != nil || rr == nil {
			return errs.E(op, errs.Invalid, fmt.Sprintf("line %d of %s is no record", i+1, z.file), err)
		}
		name := strings.ToLower(rr.Header().Name)
		records[name] = append(records[name], rr)
	}
	z.records, z.changed, z.size = records, st.ModTime(), st.Size()
	return nil
}

// maxAliases is how many CNAME records are followed one after another.
const maxAliases = 8

// answer gives the records of a name, those of the name that it is another one for included (RFC 1034
// §3.6.2), and whether there is the name or one below it.
func (z *zone) answer(name string, typ uint16) (found []mdns.RR, exists bool) {
	found, exists = z.lookup(name, typ)
	for n := 0; n < maxAliases && len(found) == n && typ != mdns.TypeCNAME; n++ {
		alias, _ := z.lookup(name, mdns.TypeCNAME)
		if len(alias) == 0 {
			break
		}
		name = alias[0].(*mdns.CNAME).Target
		there, _ := z.lookup(name, typ)
		found = append(append(found, alias[0]), there...)
	}
	return found, exists
}

// lookup gives the records that stand under a name itself, and whether there is the name or one below it.
func (z *zone) lookup(name string, typ uint16) (found []mdns.RR, exists bool) {
	name = strings.ToLower(mdns.Fqdn(name))
	z.mu.Lock()
	defer z.mu.Unlock()
	_ = z.refresh() // what was there stays
	for owner, all := range z.records {
		if !mdns.IsSubDomain(name, owner) {
			continue
		}
		exists = true
		for _, rr := range all {
			if owner == name && rr.Header().Rrtype == typ {
				found = append(found, mdns.Copy(rr))
			}
		}
	}
	return found, exists
}

// ServeDNS implements miekg/dns's Handler.
func (z *zone) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	if len(q.Question) != 1 || q.Response {
		return
	}
	m := new(mdns.Msg).SetReply(q)
	m.Authoritative, m.RecursionAvailable = true, true
	size := mdns.MinMsgSize
	if o := q.IsEdns0(); o != nil {
		size = max(size, min(int(o.UDPSize()), udpSize))
		m.SetEdns0(udpSize, o.Do())
	}
	found, exists := z.answer(q.Question[0].Name, q.Question[0].Qtype)
	m.Answer = found
	if len(found) == 0 {
		if !exists {
			m.Rcode = mdns.RcodeNameError
		}
		m.Ns = []mdns.RR{&mdns.SOA{Hdr: mdns.RR_Header{Name: ".", Rrtype: mdns.TypeSOA, Class: mdns.ClassINET, Ttl: 1}, Ns: "ns.", Mbox: "ns.", Serial: 1, Refresh: 1, Retry: 1, Expire: 1, Minttl: 1}}
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		m.Truncate(size)
	}
	_ = w.WriteMsg(m) // who did not get it asks again
}

// serve answers on one of a TCP listener and a UDP socket, until ctx ends.
func (z *zone) serve(ctx context.Context, l net.Listener, u net.PacketConn) error {
	s := &mdns.Server{Listener: l, PacketConn: u, Handler: z}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	stop := context.AfterFunc(ctx, func() {
		<-started
		_ = s.Shutdown()
	})
	defer stop()
	return s.ActivateAndServe()
}

// host gives the mail host of a domain, by its MX records, and where it is.
func (z *zone) host(domain string) (name string, ip net.IP, ok bool) {
	name = domain
	best := uint16(0xffff)
	all, _ := z.lookup(domain, mdns.TypeMX)
	for _, rr := range all {
		if mx, is := rr.(*mdns.MX); is && mx.Preference <= best {
			best, name = mx.Preference, strings.TrimSuffix(mx.Mx, ".")
		}
	}
	at, _ := z.lookup(name, mdns.TypeA)
	for _, rr := range at {
		if a, is := rr.(*mdns.A); is {
			return name, a.A, true
		}
	}
	return "", nil, false
}
