package road

import (
	"context"

	"postern.email/wire/smtp"
)

// Probe goes the way to a canonical domain by SMTP as a mail would, up to the point where
// the first host is ready for one, and hands over none. It gives that host, or why there is
// none.
func (r *Roads) Probe(ctx context.Context, domain string) (host string, why *smtp.Reply) {
	ctx, cancel := context.WithTimeout(ctx, r.o.Reach)
	defer cancel()
	p, err := r.plan(ctx, domain)
	if err != nil {
		return "", replyOf(err)
	}
	why = &smtp.Reply{Code: 421, Enhanced: "4.4.1", Text: "No mail server takes mail by SMTP"}
	for i := range p.targets {
		t := &p.targets[i]
		if t.noSMTP {
			continue
		}
		addrs, tlsa, err := r.resolve(ctx, t)
		if err == nil {
			s := r.Session(domain)
			if err = s.connect(ctx, p, t, addrs, tlsa); err == nil {
				s.Close()
				return t.host, nil
			}
		}
		why = replyOf(err)
		if ctx.Err() != nil {
			break
		}
	}
	return "", why
}
