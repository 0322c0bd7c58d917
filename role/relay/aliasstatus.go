package relay

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// AliasStatus is what `postern status` shows of aliases. No number in it tells about one user.
type AliasStatus struct {
	Domains []string `json:"domains"`
	Stopped bool     `json:"stopped"` // by postern alias stop
	Forward bool     `json:"forward"` // mailboxes elsewhere are served
}

// aliasStatus gives the state of the alias service; nil: there are no aliases.
func (s *Server) aliasStatus() *AliasStatus {
	if s.alias.desk == nil {
		return nil
	}
	return &AliasStatus{Domains: s.c.aliasDomains(), Stopped: s.alias.stopped.Load(), Forward: s.alias.forward != nil}
}

// diagnoseAliases says whether mail for the domains of aliases comes here. That of the relay's own
// is looked at with its other records.
func (s *Server) diagnoseAliases(ctx context.Context, d *diagnoses) {
	st := s.aliasStatus()
	if st == nil {
		return
	}
	const what = "aliases"
	if st.Stopped {
		d.Advise(what, "To start it again: postern restart", "the alias service was stopped (postern alias stop); mail to aliases goes on")
	}
	for _, domain := range st.Domains {
		if domain = mail.CanonicalDomain(domain); domain == mail.CanonicalDomain(s.c.Domain) {
			continue
		}
		line := domain + ". IN MX 10 " + s.c.host() + "."
		list, _, err := s.names.MX(ctx, domain)
		switch {
		case err != nil && errs.KindOf(err) != errs.NotFound:
			d.Fault(what, "Look at network.resolver, and try again.", "the mail servers of %s cannot be looked up", domain)
			continue
		case err != nil || len(list) == 0:
			d.Fault(what, "Add this record: "+line, "%s has no mail server: no mail comes for its aliases", domain)
			continue
		}
		here := 0
		for _, m := range list {
			if mail.CanonicalDomain(m.Host) == mail.CanonicalDomain(s.c.host()) {
				here++
			}
		}
		switch {
		case here == 0:
			d.Fault(what, "In the DNS, put this in its place: "+line, "mail for aliases at %s goes to another server", domain)
		case here < len(list):
			d.Advise(what, "Take the others away, unless they pass mail on to this relay.", "some mail for aliases at %s goes to other servers", domain)
		default:
			d.OK(what, "mail for aliases at %s comes here", domain)
		}
	}
}
