package relay

import (
	"context"

	"postern.email/kit/logs"
)

// warnRecords looks at the DNS once and says in the log what is not in order there, one
// line for each record, with the line to paste. A line that names an address cannot stand
// in a log that names none; postern dns prints it.
func (s *Server) warnRecords(ctx context.Context) {
	log := s.d.Logger
	z, err := s.Zone(ctx, true)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		log.Warn("the DNS records could not be looked at; to see them: postern dns", "err", err)
		return
	}
	if z.Note != "" {
		return
	}
	bad, silent := z.bad()
	for _, r := range bad {
		what := r.What
		if r.Type == "PTR" { // it names the address
			what = r.Type
		}
		args := []any{"record", what, "required", r.Required, "found", oneLine(r.Says)}
		if next := r.Advice(); next == logs.Scrub(next) {
			args = append(args, "next", next)
		} else {
			args = append(args, "next", "postern dns prints the line")
		}
		log.Warn("a DNS record is "+string(r.Verdict)+"; the relay serves all the same", args...)
	}
	if silent != nil {
		log.Warn("the DNS records could not be looked at: the resolver does not answer; to look again: postern dns")
	} else if len(bad) == 0 {
		log.Info("the DNS records are in order", "records", len(z.Records))
	}
}
