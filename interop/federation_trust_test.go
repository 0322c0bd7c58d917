package interop

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"postern.email/interop/mailclient"
	"postern.email/interop/smallworld"
	"postern.email/wire/dns/dnstest"
)

// waits waits until the only mail in a relay's queue for a domain gives a reason with this text.
func (s *server) waits(t testing.TB, domain, why string) {
	t.Helper()
	eventually(t, patience, func() error {
		r := command(t, nil, binary(t), "queue", "list", "--to", domain, "--dir", s.dir)
		if !strings.Contains(r.out, why) {
			return fmt.Errorf("the queue does not say %q: %s", why, r.out)
		}
		return nil
	})
}

// send has a user send one mail of some size.
func (s *server) send(t testing.TB, from user, maker *mailclient.Maker, size int, to ...string) (raw []byte) {
	t.Helper()
	c, err := s.submit(from)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Quit()
	raw = maker.Mail(from.addr, size)
	if err := c.Send(from.addr, to, raw); err != nil {
		t.Fatal(err)
	}
	return raw
}

// trap counts the connections to a mail host that must not get any, on both its ports. Its
// certificate is in order.
func (w *world) trap(t testing.TB, name string) (count func() int) {
	t.Helper()
	at := w.Address()
	w.DNS.Add(t, name+". 60 IN A "+at)
	conf := w.certified(t, name)
	var mu sync.Mutex
	n := 0
	for _, port := range []string{worldSMTP, worldHTTPS} {
		listen(t, at+":"+port, func(c net.Conn) {
			defer c.Close()
			mu.Lock()
			n++
			mu.Unlock()
			if port == worldHTTPS {
				_ = tls.Server(c, conf).Handshake()
			}
		})
	}
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestMTASTS: a relay publishes its policy; another one fetches it, from where the world's names
// and authority say, and gives no mail to a host that the policy does not name, though an MX
// record puts that one first and its certificate is good. Without looking at policies it
// would have gone there.
func TestMTASTS(t *testing.T) {
	w := newWorld(t)
	b := w.relay(t, "b.example")
	to := b.created(t, 1)[0]
	at, _ := hostPort(t, b.SMTP)
	w.DNS.Add(t, "mta-sts.b.example. 60 IN A "+at, `_mta-sts.b.example. 60 IN TXT "v=STSv1; id=20261126150000;"`)
	trapped := w.trap(t, "thief.example")
	w.DNS.Add(t, "b.example. 60 IN MX 1 thief.example.")
	maker := mailclient.NewMaker(3)

	a := w.relay(t, "a.example")
	a.send(t, a.created(t, 1)[0], maker, 4000, to.addr)
	a.emptyQueue(t)
	if n := trapped(); n != 0 {
		t.Errorf("%d connections to a host that is not in the policy", n)
	}
	if w.DNS.Asked("mta-sts.b.example", "A") == 0 {
		t.Error("the policy was not fetched")
	}
	blind := w.relay(t, "blind.example", "delivery.mta_sts=false")
	blind.send(t, blind.created(t, 1)[0], maker, 4000, to.addr)
	blind.emptyQueue(t)
	if trapped() == 0 {
		t.Error("the trap caught nobody: the test proves nothing")
	}
	if got := b.inbox(t, to); len(got) != 2 {
		t.Errorf("%d mails, want 2", len(got))
	}
}

// TestDANE: what is signed in the DNS takes the place of authorities, checked by Debian's unbound. A
// Postfix with a certificate that nobody vouches for gets mail where a TLSA record names its
// key; where the record names another key, or the zone is forged, mail waits, and the queue
// says why. In the other direction a Postfix that believes TLSA records alone sends to a relay with
// a certificate of its own making.
func TestDANE(t *testing.T) {
	w := newWorld(t)
	cert, key := smallworld.SelfSigned(t, "right.example", "mx.plain.example")
	zones := []string{"right.example", "wrong.example", "bogus.example", "forged.example", "plain.example", "self.example"}
	var anchors []string
	for _, z := range zones {
		if z != "plain.example" {
			anchors = append(anchors, w.DNS.Sign(t, z))
		}
	}
	w.DNS.Add(t, "plain.example. 60 IN NS ns.plain.example.", "ns.plain.example. 60 IN A 127.0.0.1")
	resolver := w.DNS.Unbound(t, w.Address()+":53", zones, anchors)
	host, _ := hostPort(t, resolver)
	p := w.Postfix(t, smallworld.PostfixOptions{Domain: "right.example", Users: []string{"bob"}, Cert: cert, Key: key, Resolver: host,
		Main: []string{"virtual_mailbox_domains = right.example wrong.example bogus.example plain.example", "virtual_mailbox_maps = static:bob/",
			"smtp_dns_support_level = dnssec", "smtp_tls_security_level = dane-only", "dnssec_probe ="}})
	at, _ := hostPort(t, p.Addr)
	w.DNS.Add(t, "_2525._tcp.right.example. 60 IN TLSA "+smallworld.TLSA(t, cert),
		"wrong.example. 60 IN MX 10 mx.wrong.example.", "mx.wrong.example. 60 IN A "+at, "_2525._tcp.mx.wrong.example. 60 IN TLSA 3 1 1 "+strings.Repeat("ab", 32),
		"bogus.example. 60 IN MX 10 mx.bogus.example.", "mx.bogus.example. 60 IN A "+at, "_2525._tcp.mx.bogus.example. 60 IN TLSA "+smallworld.TLSA(t, cert),
		// Its record fits, and nothing is signed: it says nothing.
		"plain.example. 60 IN MX 10 mx.plain.example.", "mx.plain.example. 60 IN A "+at, "_2525._tcp.mx.plain.example. 60 IN TLSA "+smallworld.TLSA(t, cert))
	w.DNS.Add(t, "forged.example. 60 IN MX 10 right.example.")
	w.DNS.Fail("forged.example", "MX", dnstest.Forged)
	w.DNS.Fail("_2525._tcp.mx.bogus.example", "TLSA", dnstest.Forged)

	a := w.relay(t, "a.example", "network.resolver="+resolver, "network.resolver_dnssec=auto")
	me := a.created(t, 1)[0]
	maker := mailclient.NewMaker(4)
	for _, z := range []string{"right.example", "wrong.example", "bogus.example", "forged.example", "plain.example"} {
		a.send(t, me, maker, 4000, "bob@"+z)
	}
	awaitMail(t, func() ([]string, error) { return p.Mails("bob") }, "From: <"+me.addr+">", "Delivered-To: bob@right.example")
	a.waits(t, "wrong.example", "451 4.7.5 The TLS certificate of mx.wrong.example is not trusted: it does not fit the TLSA records")
	a.waits(t, "bogus.example", "451 4.7.5 The TLSA records of mx.bogus.example cannot be looked up now")
	a.waits(t, "forged.example", "421 4.4.3 DNS resolution failed for forged.example: the resolver finds that the answer is not what the domain's owner signed")
	a.waits(t, "plain.example", "451 4.7.5 The TLS certificate of mx.plain.example is not trusted: no authority that is trusted here has signed it")
	if got, err := p.Mails("bob"); err != nil || len(got) != 1 {
		t.Errorf("%d mails, want 1; %v", len(got), err)
	}

	s := w.relay(t, "self.example", "tls.mode=self-signed", "tls.cert=", "tls.key=")
	you := s.created(t, 1)[0]
	w.DNS.Add(t, "_2525._tcp.self.example. 60 IN TLSA "+smallworld.TLSA(t, s.TLSCert))
	hand(t, p.Submission, "bob@right.example", you.addr, "", maker.Mail("bob@right.example", 4000))
	awaitMail(t, func() ([]string, error) { return s.tryMails(you) }, "From: <bob@right.example>")
	if log := p.Log(); !strings.Contains(log, "Verified TLS connection established to self.example") {
		t.Errorf("Postfix did not verify by DANE:\n%s", log)
	}
}
