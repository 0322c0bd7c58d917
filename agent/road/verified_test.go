package road

import "testing"

// TestVerified: a mail that asks for it goes only to hosts that prove who they are, whatever the
// operator's routes and the exceptions for odd names say, also where a connection is open already.
func TestVerified(t *testing.T) {
	w := newWorld(t)
	plain, unknown, good := w.newHost("plain.example"), w.newHost(), w.newHost("good.example")
	plain.noTLS = true
	for name, h := range map[string]*host{"plain.example": plain, "any.example": unknown, "_odd.example": unknown, "good.example": good} {
		w.at(name, h)
	}
	for _, h := range []*host{plain, unknown, good} {
		w.serveSMTP(h)
	}
	routes, err := ParseRoutes([]string{"plain.example tls=none", "any.example tls=any"})
	if err != nil {
		t.Fatal(err)
	}
	r := w.roads(func(o *Options) { o.Routes, o.NoWeb = routes, true })
	for domain, want := range map[string]string{
		"plain.example": "unreached: 451 4.7.4 plain.example does not offer TLS; mail is not sent without it",
		"any.example":   "unreached: 451 4.7.5 The TLS certificate of any.example is not trusted: ",
		"_odd.example":  "unreached: 451 4.7.5 The TLS certificate of _odd.example is not trusted: ",
		"good.example":  "250 2.0.0",
	} {
		s := r.Session(domain)
		wants(t, domain+", first", s.Send(t.Context(), job(domain, "x")), "250 2.0.0")
		strict := job(domain, "x")
		strict.Verified = true
		wants(t, domain, s.Send(t.Context(), strict), want)
		s.Close()
	}
	if n := len(plain.mails()) + len(unknown.mails()); n != 3 {
		t.Errorf("%d mails went to hosts that prove nothing, want those that did not ask", n)
	}
}
