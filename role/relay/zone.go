package relay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/mail/dmarc"
	"postern.email/post/dkimkey"
	"postern.email/wire/control"
	"postern.email/wire/dns"
	"postern.email/wire/mtasts"
	"postern.email/wire/web"

	mdns "github.com/miekg/dns"
)

// Zone is the list of records that belong in the DNS for one relay.
type Zone struct {
	Domain  string   `json:"domain"`
	Note    string   `json:"note,omitempty"` // why there are no records, where there are none
	Records []Record `json:"records"`
	// Checked says that the resolver was asked, and each record has a verdict.
	Checked bool `json:"checked"`
}

// Record is one record that belongs in the DNS.
type Record struct {
	What  string `json:"what"`           // in a word or two: "MX", "DKIM p2026a-rsa", "MX of alias.example"
	Name  string `json:"name"`           // with a dot at its end
	Type  string `json:"type"`           // "A", "TXT", …
	Value string `json:"value"`          // as in a zone file; empty where it is not known yet
	Text  string `json:"text,omitempty"` // of a TXT record: all strings as one, for forms with one field
	Line  string `json:"line"`           // the whole record for a zone file
	Why   string `json:"why"`            // what it is for
	Zone  string `json:"zone"`           // the domain to which it belongs: the relay's own, or a further one of aliases
	// Required: without it mail does not arrive, or is refused by others. All else is recommended.
	Required bool `json:"required"`
	// Aside says why the record does not belong in the zone file of the domain, or not yet.
	Aside string `json:"aside,omitempty"`

	Verdict Verdict  `json:"verdict,omitempty"`
	Says    string   `json:"says,omitempty"`  // the verdict in a sentence
	Found   []string `json:"found,omitempty"` // what is there instead
	Next    string   `json:"next,omitempty"`  // what to do, where it is not to add the line

	check func(context.Context) finding
}

// Verdict is what was found of a record.
type Verdict string

// The verdicts. A record that is not needed here may be absent and is not wrong.
const (
	RecordOK        Verdict = "ok"
	RecordMissing   Verdict = "missing"
	RecordWrong     Verdict = "wrong" // there is another one
	RecordUnknown   Verdict = "unknown"
	RecordNotNeeded Verdict = "not needed"
)

// Bad reports whether something should be done about a checked record.
func (r Record) Bad() bool {
	return r.Verdict == RecordMissing || r.Verdict == RecordWrong || r.Verdict == RecordUnknown && r.Required
}

// bad gives the checked records about which something should be done, and one of those
// for which the resolver had no answer, if there is any.
func (z Zone) bad() (list []Record, silent *Record) {
	for i, r := range z.Records {
		switch {
		case !r.Bad():
		case r.Verdict != RecordUnknown:
			list = append(list, r)
		case silent == nil:
			silent = &z.Records[i]
		}
	}
	return list, silent
}

// finding is the result of a check.
type finding struct {
	verdict  Verdict
	says     string
	found    []string
	next     string
	required bool // more than the record itself: what is there does harm
}

const (
	recordTTL  = 3600             // seconds; long enough for caches, short enough for a mistake
	zoneTime   = 30 * time.Second // all questions of one check
	maxAsking  = 32               // of them at one time
	addAddress = "<the public IPv4 address of this machine>"
)

// Zone gives the records of this relay, and with check what the resolver says of each.
// The first call makes the first pair of signing keys. A record that the resolver does not
// answer for is no error; errors are those of the store.
func (s *Server) Zone(ctx context.Context, check bool) (Zone, error) {
	ctx, cancel := context.WithTimeout(ctx, zoneTime)
	defer cancel()
	z := Zone{Domain: s.c.Domain, Records: []Record{}, Note: s.c.nameless()}
	if z.Note != "" {
		return z, nil
	}
	var err error
	if z.Records, err = s.records(ctx); err != nil || !check {
		return z, err
	}
	z.Checked = true
	var asking sync.WaitGroup
	places := make(chan struct{}, maxAsking)
	for i := range z.Records {
		r := &z.Records[i]
		s.names.Forget(r.Name) // an operator has just put it there
		places <- struct{}{}
		asking.Go(func() {
			defer func() { <-places }()
			f := r.check(ctx)
			r.Verdict, r.Says, r.Found, r.Next = f.verdict, f.says, f.found, f.next
			r.Required = r.Required || f.required
		})
	}
	asking.Wait()
	return z, nil
}

// ZoneArgs are the arguments of the command dns.
type ZoneArgs struct {
	Check bool `json:"check"` // ask the resolver
}

func (s *Server) askZone(ctx context.Context, args json.RawMessage, _ func(any) error) (any, error) {
	var a ZoneArgs
	if err := control.Args(args, &a); err != nil {
		return nil, err
	}
	return s.Zone(ctx, a.Check)
}

// nameless says why there is nothing to put into the DNS for a domain, or "".
func (c *Config) nameless() string {
	if _, err := netip.ParseAddr(c.host()); err == nil {
		return "the domain is an IP address: nothing has to be in the DNS"
	}
	if dns.IsLocal(c.Domain) {
		return c.Domain + " means the machine itself to everybody: nothing has to be in the DNS, and nobody else reaches it"
	}
	return ""
}

// bare reports whether no authority vouches for a domain by its kind, which other relays
// know: an address, or a name that begins with "_".
func (c *Config) bare() bool {
	_, err := netip.ParseAddr(c.host())
	return err == nil || strings.HasPrefix(c.Domain, "_")
}

// Lacks says what a relay of this configuration cannot do because of its name, a sentence
// each.
func (c Config) Lacks() []string {
	c = c.withLiteral()
	_, err := netip.ParseAddr(c.host())
	ip := err == nil
	var all []string
	if ip {
		all = append(all, "Addresses end in @"+c.Domain+". Its mail is not signed (DKIM), as there is no place in the DNS for a key: only relays that take mail from addresses without a signature take it.")
	}
	if c.tlsMode() == tlsSelfSigned {
		all = append(all, "No authority vouches for its certificate, which is self-signed: apps must be told to accept it (the page and the code that they scan say so), and browsers warn.")
		if !ip {
			all = append(all, "Other hosts that ask for a verified certificate, as all relays of this kind do of ordinary names, do not deliver to it.")
		}
		if strings.HasPrefix(c.Domain, "_") {
			all[len(all)-1] = "Relays of this kind deliver to names that begin with _ all the same; other mail hosts may not."
		}
	}
	return all
}

// fqdn gives a name with a dot at its end.
func fqdn(name string) string { return name + "." }

// records makes the list.
func (s *Server) records(ctx context.Context) ([]Record, error) {
	d := s.c.Domain
	all := s.addressRecords(ctx)
	add := func(r Record) { all = append(all, r) }
	add(Record{What: "MX", Name: fqdn(d), Type: "MX", Value: "10 " + fqdn(d), Required: true, Why: "mail for the domain comes to this machine", check: s.checkMX(d)})
	pairs, err := s.needed(ctx)
	if err != nil {
		return nil, err
	}
	signing, err := s.signingRecords(pairs, d)
	if err != nil {
		return nil, err
	}
	all = append(all, signing...)
	add(textRecord("SPF", d, "v=spf1 a ~all", "mail of the domain comes from this machine (RFC 7208)", s.checkSPF(d)))
	add(s.policyRecord(d))
	add(textRecord("ADSP", "_adsp._domainkey."+d, "dkim=discardable", "the same, for old software (RFC 5617)", s.checkText("_adsp._domainkey."+d, "dkim=", "dkim=discardable")))
	if !s.certs.SelfSigned() { // a policy asks for a certificate that is vouched for
		add(s.announcement(d))
	}
	for _, alias := range web.Aliases(d) {
		why := map[string]string{"mta-sts." + d: "where others fetch the MTA-STS policy", "www." + d: "for people who type it",
			"autoconfig." + d: "where mail programs look for their settings"}[alias]
		if alias == mtasts.HostPrefix+d && s.certs.SelfSigned() {
			continue
		}
		add(Record{What: strings.TrimSuffix(alias, "."+d), Name: fqdn(alias), Type: "CNAME", Value: fqdn(d), Why: why, check: s.checkAlias(alias)})
	}
	add(s.reportRecord(d))
	if r, ok := s.certificateRecord(); ok {
		add(r)
	}
	if r, ok := s.authorityRecord(ctx); ok {
		add(r)
	}
	all = append(all, s.serviceRecords()...)
	further, err := s.aliasRecords(pairs)
	if err != nil {
		return nil, err
	}
	all = append(all, further...)
	for i := range all {
		r := &all[i]
		if r.Zone == "" {
			r.Zone = d
		}
		if r.Line == "" {
			r.Line = fmt.Sprintf("%s %d IN %s %s", r.Name, recordTTL, r.Type, r.Value)
		}
	}
	return all, nil
}

// textRecord is a TXT record.
func textRecord(what, name, text, why string, check func(context.Context) finding) Record {
	return Record{What: what, Name: fqdn(name), Type: "TXT", Text: text, Value: quoted(text), Why: why, check: check}
}

// quoted gives a text as strings of a zone file, of at most 255 bytes each (RFC 1035 §3.3,
// §5.1).
func quoted(text string) string {
	var parts []string
	for first := true; first || text != ""; first = false {
		n := min(len(text), 255)
		parts = append(parts, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text[:n])+`"`)
		text = text[n:]
	}
	return strings.Join(parts, " ")
}

// here gives the addresses under which others reach this machine; none when they cannot
// be known here.
func (s *Server) here() []netip.Addr {
	var all []netip.Addr
	for _, text := range s.c.Network.Addresses {
		if a, err := netip.ParseAddr(text); err == nil { // the configuration has checked it
			all = append(all, a.Unmap())
		}
	}
	if len(all) == 0 {
		all, _ = s.d.System.PublicAddresses()
	}
	return all
}

// addressRecords are A, AAAA and PTR of every address.
func (s *Server) addressRecords(ctx context.Context) []Record {
	d := s.c.Domain
	own := s.here()
	known := len(own) > 0
	if !known {
		h, _ := s.addresses(ctx, d)
		own = h
	}
	var all, back []Record
	for i, a := range own {
		a = a.Unmap()
		r := Record{What: "A", Name: fqdn(d), Type: "A", Value: a.String(), Required: true, Why: "where this machine is", check: s.checkAddress(a, own, known, i == 0)}
		if a.Is6() {
			r.What, r.Type, r.Required = "AAAA", "AAAA", !own[0].Unmap().Is4()
		}
		all = append(all, r)
		if name, err := mdns.ReverseAddr(a.String()); err == nil {
			back = append(back, Record{What: "PTR " + a.String(), Name: name, Type: "PTR", Value: fqdn(d), Why: "the name of the address, which many hosts ask for",
				Aside: "in the zone of the address: whoever gave you the address sets it (reverse DNS)", check: s.checkReverse(a)})
		}
	}
	if len(all) == 0 {
		all = append(all, Record{What: "A", Name: fqdn(d), Type: "A", Line: fmt.Sprintf("%s %d IN A %s", fqdn(d), recordTTL, addAddress), Required: true,
			Why: "where this machine is", Aside: "its public address cannot be seen from here; to tell it: network.addresses", check: s.checkAnyAddress})
	}
	return append(all, back...)
}

// policyRecord asks others to refuse what is not a domain's.
func (s *Server) policyRecord(domain string) Record {
	name := dmarc.Prefix + domain
	return textRecord("DMARC", name, "v=DMARC1; p=reject; adkim=s; aspf=s", "others refuse mail that only pretends to come from the domain (RFC 9989)", s.checkDMARC(name))
}

// announcement tells others of the MTA-STS policy of a domain whose mail server this relay is.
func (s *Server) announcement(domain string) Record {
	policy := mtasts.Ours(s.c.host()).Record()
	return textRecord("MTA-STS", mtasts.RecordPrefix+domain, policy, "others deliver over verified TLS only (RFC 8461)", s.checkPolicy(domain, policy))
}

// needed are the pairs of keys whose records others need now. The first call makes the first pair.
func (s *Server) needed(ctx context.Context) ([]dkimkey.Pair, error) {
	if s.dkim == nil {
		return nil, nil
	}
	pairs, err := s.dkim.Current(ctx)
	return slices.DeleteFunc(pairs, func(p dkimkey.Pair) bool {
		return p.State == dkimkey.Retiring && !s.d.Now().Before(s.dkim.MayGo(p))
	}), err
}

// signingRecords are the records of keys in one domain.
func (s *Server) signingRecords(pairs []dkimkey.Pair, domain string) (all []Record, err error) {
	for _, p := range pairs {
		shown, err := dkimRecords(p, domain)
		if err != nil {
			return nil, err
		}
		why := "others verify the signatures of mail with it"
		switch p.State {
		case dkimkey.New:
			why = "the next key: it signs as soon as it is seen here"
		case dkimkey.Retiring:
			why = "the last key: mail that it signed is under way until " + s.dkim.MayGo(p).UTC().Format(time.DateOnly)
		}
		for i, r := range shown {
			key := p.Keys[i]
			_, value, _ := strings.Cut(r.Line, " IN TXT ")
			all = append(all, Record{What: "DKIM " + r.Selector, Name: fqdn(r.Name), Type: "TXT", Text: r.Text, Value: value, Line: r.Line, Why: why,
				Required: p.State != dkimkey.New && strings.Contains(r.Text, "k=rsa"), check: s.checkKey(domain, key)})
		}
	}
	return all, nil
}

// reportRecord asks others for reports on TLS (RFC 8460). They come by mail, unencrypted, so
// the operator must say where to.
func (s *Server) reportRecord(domain string) Record {
	name := "_smtp._tls." + domain
	to, ok := strings.CutPrefix(s.c.Metadata.Admin, "mailto:")
	to, _, _ = strings.Cut(to, "?")
	r := textRecord("TLSRPT", name, "v=TLSRPTv1; rua=mailto:"+to, "others report failures of TLS to the operator (RFC 8460)", s.checkReports(name, ok && to != ""))
	if !ok || to == "" {
		r = textRecord("TLSRPT", name, "v=TLSRPTv1; rua=mailto:<your address>", r.Why, r.check)
		r.Value, r.Text, r.Line = "", "", fmt.Sprintf("%s %d IN TXT %s", r.Name, recordTTL, r.Value)
		r.Aside = "reports need an address that takes unencrypted mail: set metadata.admin = \"mailto:…\""
	}
	return r
}

// certificateRecord pins the key of the certificate (RFC 6698, RFC 7671: 3 1 1), for hosts
// that look at DNSSEC.
func (s *Server) certificateRecord() (Record, bool) {
	leaf := s.leaf()
	if leaf == nil {
		return Record{}, false
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	name := "_25._tcp." + s.c.Domain
	r := Record{What: "TLSA", Name: fqdn(name), Type: "TLSA", Value: "3 1 1 " + hex.EncodeToString(sum[:]), check: s.checkPin(name, sum[:]),
		Why: "the key of the certificate, for hosts that look at DNSSEC (RFC 7672); of use only in a signed zone. The key stays the same when the certificate is renewed"}
	if s.c.tlsMode() == tlsFiles {
		r.Why = "the key of the certificate, for hosts that look at DNSSEC (RFC 7672); of use only in a signed zone"
		r.Aside = "only if whoever renews tls.cert keeps its key (certbot: --reuse-key): with a new key this record makes others refuse to deliver"
	}
	return r, true
}

// authorityRecord lets only the authority in use give out certificates (RFC 8659), and
// only to this relay's account there (RFC 8657).
func (s *Server) authorityRecord(ctx context.Context) (Record, bool) {
	ca, account := s.certs.Authority(ctx)
	if ca == "" {
		return Record{}, false
	}
	issue := ca
	if account != "" {
		issue += "; accounturi=" + account
	}
	return Record{What: "CAA", Name: fqdn(s.c.Domain), Type: "CAA", Value: "0 issue " + quoted(issue), Why: "no other authority gives out certificates for the domain, and this one to nobody else",
		check: s.checkAuthority(ca, account)}, true
}

// services are what mail programs look up (RFC 6186, RFC 8314 §5.1), by listener.
var services = []struct{ name, listener string }{{"_submissions", "submissions"}, {"_submission", "submission"}, {"_imaps", "imaps"}, {"_imap", "imap"},
	{"_pop3s", "pop3s"}, {"_pop3", "pop3"}, {"_autodiscover", ""}}

// serviceRecords say where the services are, and which are not offered.
func (s *Server) serviceRecords() (all []Record) {
	for _, v := range services {
		name := v.name + "._tcp." + s.c.Domain
		port := 0
		if v.listener != "" {
			port = s.usualPort(v.listener)
		}
		r := Record{What: "SRV " + v.name[1:], Name: fqdn(name), Type: "SRV", Value: "0 0 0 .", Why: "not offered", check: s.checkService(name, port)}
		switch {
		case port < 0: // it is not known before the start
			continue
		case port > 0:
			r.Value, r.Why = fmt.Sprintf("0 1 %d %s", port, fqdn(s.c.Domain)), "mail programs find the service"
		}
		all = append(all, r)
	}
	return all
}

// usualPort is the port of a listener, of a stopped relay as configured: 0 when it is off,
// -1 when only the start will tell.
func (s *Server) usualPort(name string) int {
	if p := s.portOf(name); p != 0 {
		return p
	}
	_, port, err := net.SplitHostPort(config.Values(&s.c)["listen."+name])
	if err != nil || len(s.ports) > 0 {
		return 0
	}
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil || n == 0 {
		return -1
	}
	return n
}

// File is the list as a zone file (RFC 1035 §5), one part for each domain. What does not belong there
// stands in it as a comment.
func (z Zone) File() string {
	var b strings.Builder
	fmt.Fprintf(&b, "; DNS records of %s for Postern\n", z.Domain)
	if z.Note != "" {
		fmt.Fprintf(&b, "; %s\n", z.Note)
	}
	var zones []string
	for _, r := range z.Records {
		if !slices.Contains(zones, r.Zone) {
			zones = append(zones, r.Zone)
		}
	}
	for i, zone := range zones {
		if i > 0 {
			fmt.Fprintf(&b, "\n;;; %s, a domain of aliases\n", zone)
		}
		z.part(&b, zone)
	}
	return b.String()
}

// part writes the records of one domain.
func (z Zone) part(b *strings.Builder, zone string) {
	for _, required := range []bool{true, false} {
		title := map[bool]string{true: "Required", false: "Recommended"}[required]
		for _, r := range z.Records {
			if r.Required != required || r.Zone != zone {
				continue
			}
			if title != "" {
				fmt.Fprintf(b, "\n;; %s\n", title)
				title = ""
			}
			fmt.Fprintf(b, "\n; %s: %s\n", r.What, r.Why)
			line := r.Line
			if r.Aside != "" {
				fmt.Fprintf(b, "; %s\n", r.Aside)
				line = "; " + line
			}
			b.WriteString(line + "\n")
			if z.Checked {
				fmt.Fprintf(b, "; %s\n", r.judged())
			}
		}
	}
}

// judged is the verdict of a checked record, on one line.
func (r Record) judged() string {
	mark := map[Verdict]string{RecordOK: "ok", RecordMissing: "MISSING", RecordWrong: "WRONG", RecordUnknown: "NOT KNOWN", RecordNotNeeded: "not needed"}[r.Verdict]
	text := mark
	if r.Says != "" {
		text += ": " + r.Says
	}
	if next := r.todo(); next != "" {
		text += ". " + next
	}
	return oneLine(text)
}

// todo is what to do about a bad record, as a sentence.
func (r Record) todo() string {
	switch {
	case r.Next != "":
		return r.Next
	case r.Aside != "" || !r.Bad():
		return ""
	case r.Verdict == RecordMissing:
		return "Add the line above."
	case r.Verdict == RecordWrong:
		return "Put the line above in its place."
	}
	return ""
}

// oneLine keeps what the DNS says from ending a comment.
func oneLine(text string) string { return printable(strings.Join(strings.Fields(text), " ")) }

// recordError turns the error of a look-up into a finding.
func recordError(err error) finding {
	if errs.KindOf(err) == errs.NotFound {
		return finding{verdict: RecordMissing, says: "there is no such record"}
	}
	return finding{verdict: RecordUnknown, says: errs.Public(err), next: "Look at network.resolver, or try later."}
}
