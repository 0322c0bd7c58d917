package relay

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

// diagnoseAliases tells of a service that was stopped. The records of the domains of aliases are looked at
// with the others.
func (s *Server) diagnoseAliases(d *diagnoses) {
	if st := s.aliasStatus(); st != nil && st.Stopped {
		d.Advise("aliases", "To start it again: postern restart", "the alias service was stopped (postern alias stop); mail to aliases goes on")
	}
}
