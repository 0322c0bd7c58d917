package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern.email/kit/checkup"
	"postern.email/kit/config"
	"postern.email/kit/dial"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/control"
	"postern.email/wire/dns"
)

// Diagnosis is one thing that doctor looked at.
type Diagnosis = checkup.Diagnosis

// DoctorArgs are the arguments of the command doctor.
type DoctorArgs struct {
	// Try is a domain whose mail host is connected to on port 25; empty: none is.
	Try string `json:"try,omitempty"`
}

// Times of Doctor.
const (
	doctorTime = 2 * time.Minute  // all of it
	doorTime   = 10 * time.Second // one connection, up to the certificate
	tryTime    = 40 * time.Second
)

// diagnoses is the list that grows.
type diagnoses = checkup.List

func (s *Server) askDoctor(ctx context.Context, args json.RawMessage, _ func(any) error) (any, error) {
	var a DoctorArgs
	if len(args) > 0 {
		if err := control.Args(args, &a); err != nil {
			return nil, err
		}
	}
	return s.Doctor(ctx, a)
}

// Doctor looks at the machine, at the DNS, and at the relay as strangers do: whether its
// name leads here, and whether what answers there shows a certificate that they trust. It
// asks the resolver and trusts the certificates that the configuration names. errs.Invalid
// when a.Try is no domain.
func (s *Server) Doctor(ctx context.Context, a DoctorArgs) ([]Diagnosis, error) {
	const op = "role/relay.Doctor"
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	try := mail.CanonicalDomain(a.Try)
	if a.Try != "" {
		if _, err := mail.ParseAddress("x@" + try); err != nil {
			return nil, errs.E(op, errs.Invalid, "what to try is not a domain", err)
		}
	}
	c := &s.c
	trust, err := dial.New(dial.Options{CAFiles: c.TLS.TrustedCAs, FS: s.d.FS})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	var d diagnoses
	s.diagnoseMachine(&d)
	s.diagnoseCerts(&d)
	var addrs []netip.Addr
	if ip, err := netip.ParseAddr(c.host()); err == nil {
		d.OK("DNS", "the domain is an address: nothing has to be in the DNS")
		addrs = []netip.Addr{ip}
	} else {
		s.diagnoseResolver(ctx, &d)
		if dns.IsLocal(c.Domain) {
			d.Fault("DNS", "Set domain to a name that others can look up.", "%s means the machine itself to everybody: no other reaches this one by it", c.Domain)
		} else if err := s.diagnoseRecords(ctx, &d); err != nil {
			return nil, errs.Wrap(op, err)
		}
		addrs, _ = s.addresses(ctx, c.Domain) // what is wrong with it was said
	}
	s.diagnoseDoors(ctx, trust, addrs, &d)
	s.diagnoseOut(ctx, try, &d)
	s.diagnoseAliases(&d)
	s.diagnoseMix(ctx, &d)
	return d, nil
}

// diagnoseRecords tells of the records that are missing or wrong.
func (s *Server) diagnoseRecords(ctx context.Context, d *diagnoses) error {
	z, err := s.Zone(ctx, true)
	if err != nil {
		return err
	}
	bad, silent := z.bad()
	if silent != nil { // one sentence says it
		d.Fault("DNS", silent.Advice(), "records cannot be looked at: %s", oneLine(silent.Says))
	}
	for _, r := range bad {
		if r.Required {
			d.Fault(r.What, r.Advice(), "%s", oneLine(r.Says))
		} else {
			d.Advise(r.What, r.Advice(), "%s", oneLine(r.Says))
		}
	}
	if len(bad) == 0 && silent == nil {
		of := s.c.Domain
		if n := len(s.c.furtherDomains()); n > 0 {
			of += fmt.Sprintf(", and of %d further domains of aliases,", n)
		}
		d.OK("DNS", "all %d records of %s are as they should be", len(z.Records), of)
	}
	return nil
}

// Advice is what to do about a record, with the line to paste.
func (r Record) Advice() string {
	switch {
	case r.Next != "":
		return r.Next
	case r.Aside != "" && r.Value == "":
		return sentence(r.Aside)
	case r.Aside != "":
		return sentence(r.Aside) + " The record: " + r.Line
	case r.Verdict == RecordWrong:
		return "In the DNS, put this in its place: " + r.Line
	}
	return "Add this record: " + r.Line
}

// sentence begins with a large letter and ends with a full stop.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// leastInodes is how many more files a disk should be able to hold.
const leastInodes = 10_000

// otherFiles is about what the store, the listeners and this program's own files need
// beside connections.
const otherFiles = 1000

// diagnoseMachine looks at disk, memory, load and open files.
func (s *Server) diagnoseMachine(d *diagnoses) {
	c, m := &s.c, s.d.System
	if err := s.db.Health(); err != nil {
		d.Fault("store", "Look at the disk, then restart: postern restart. What was acknowledged is safe.", "the disk failed, and nothing more is accepted")
	}
	if free, err := m.DiskFree(); err == nil {
		text := rough(free) + " are free"
		switch {
		case free < int64(c.Mail.MinFreeSpace):
			d.Fault("disk", "Make room. mail.min_free_space sets the limit.", "only %s: no mail is taken", text)
		case free < int64(c.Accounts.MinFreeDiskSpace):
			d.Fault("disk", "Make room. accounts.min_free_disk_space sets the limit.", "only %s: no new addresses are made", text)
		default:
			d.OK("disk", "%s", text)
		}
	}
	if n, err := m.Inodes(); err == nil && n < leastInodes {
		d.Fault("disk", "Remove files, or make a file system with more inodes.", "it can hold only %d more files, whatever their size", n)
	}
	if free, err := m.MemAvailable(); err == nil {
		text := rough(free) + " are available"
		if least := int64(c.Accounts.MinAvailableMemory); free < least {
			d.Fault("memory", "Give the machine more memory, or run less on it. accounts.min_available_memory sets the limit.", "only %s: no new addresses are made", text)
		} else {
			d.OK("memory", "%s", text)
		}
	}
	if load, err := m.Load1(); err == nil && c.Accounts.MaxLoad > 0 && load > c.Accounts.MaxLoad {
		d.Advise("load", "See what keeps the machine busy. accounts.max_load sets the limit.", "the load average is %.1f: no new addresses are made now", load)
	}
	if n, err := m.OpenFiles(); err == nil {
		k := &c.Connections
		want := int64(k.IMAP) + int64(k.SMTP) + int64(k.POP3) + int64(k.Web) + int64(c.Delivery.Destinations) + otherFiles
		if s.mix != nil {
			want += 2 * int64(c.Mixnet.Clients) // in, and out to as many nodes at most
		}
		if n < want {
			d.Advise("open files", fmt.Sprintf("Set LimitNOFILE=%d in the unit (ulimit -n %[1]d), or lower [connections].", want),
				"the system allows %d, and all connections that the configuration allows need about %d: beyond that new ones fail", n, want)
		} else {
			d.OK("open files", "%d are allowed, about %d can be needed", n, want)
		}
	}
}

// rough gives a size in whole units, of which there are at least ten if it can be.
func rough(n int64) string {
	unit := 0
	for n>>unit >= 10<<10 && unit < 30 {
		unit += 10
	}
	return config.Bytes(n >> unit << unit).String()
}

// diagnoseCerts tells what is known here about the certificates. Names beside the domain are
// spoken of when the domain has one: before that, what keeps it away keeps theirs away too.
func (s *Server) diagnoseCerts(d *diagnoses) {
	aliases := s.c.webNames()
	for i, x := range s.certs.Status().Certs {
		names := strings.Join(x.Names, ", ")
		switch {
		case x.Issuer == "" && x.Error == "" && i == 0:
			d.Fault("certificate", "The authority looks for this machine on port 80 or 443 of the name. It is tried again by itself: postern status.", "there is none for %s yet", names)
		case x.Error == "":
		case x.Issuer == "" && slices.Contains(aliases, names):
			d.Advise("certificate", "Let the name lead to this machine, or do without it.", "%s: %s", names, oneLine(x.Error))
		default:
			d.Fault("certificate", "It is tried again by itself: postern status shows when. postern restart tries at once.", "%s: %s", names, oneLine(x.Error))
		}
		if i == 0 && x.Issuer == "" {
			return
		}
	}
}

// diagnoseOut tries port 25 to the outside.
func (s *Server) diagnoseOut(ctx context.Context, try string, d *diagnoses) {
	const what = "port 25 out"
	switch {
	case !s.c.Delivery.Remote:
		d.OK(what, "not needed: delivery.remote is off")
		return
	case try == "":
		d.OK(what, "not tried. To try it: postern doctor --try DOMAIN, with a domain whose mail host may be connected to; no mail is sent")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	host, why := s.roads.Probe(ctx, try)
	switch {
	case why == nil:
		d.OK(what, "%s, a mail host of %s, is ready for mail", host, try)
	case why.Enhanced == "4.4.1":
		d.Fault(what, "Many hosters keep port 25 closed until they are asked to open it. Meanwhile mail reaches only hosts that take it over HTTPS.",
			"no mail host of %s answers: %s", try, oneLine(why.Text))
	default:
		d.Fault(what, "Try another domain too: this may be that host's fault.", "the mail hosts of %s take no mail from here: %s", try, oneLine(why.String()))
	}
}

func orSystem(resolver string) string {
	if resolver == "" {
		return "the system's resolver is in use"
	}
	return resolver
}

func join(addrs []netip.Addr) string { return strings.Join(texts(addrs), ", ") }
