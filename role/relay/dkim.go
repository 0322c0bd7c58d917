package relay

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dkim"
	"postern.email/post/dkimkey"
	"postern.email/wire/control"
)

// DKIMPair is a pair of signing keys as the commands show it. Times are RFC 3339, in UTC.
type DKIMPair struct {
	Name      string       `json:"name"`
	State     string       `json:"state"`               // new, active, retiring, removed
	Published bool         `json:"published,omitempty"` // its private halves, by dkim.publish_old_keys
	Made      string       `json:"made"`
	Activated string       `json:"activated,omitempty"`
	Retired   string       `json:"retired,omitempty"`
	MayGo     string       `json:"records_may_go,omitempty"` // of a retiring pair: from then on nothing under way needs its records
	Removed   string       `json:"removed,omitempty"`
	Records   []DKIMRecord `json:"records,omitempty"` // of show and rotate: those of the domain, then of each further domain of aliases
}

// DKIMRecord is a record that belongs in the DNS.
type DKIMRecord struct {
	Selector string `json:"selector"`
	Name     string `json:"name"` // without a dot at its end
	Text     string `json:"text"` // all strings of the record as one
	Line     string `json:"line"` // for a zone file
	// Seen is what the resolver shows: found, absent, other (another key), or unknown (no
	// answer). Empty: it was not asked.
	Seen string `json:"seen,omitempty"`
}

// DKIMKeys is the answer of the dkim commands.
type DKIMKeys struct {
	Domain  string     `json:"domain"`
	Further []string   `json:"further,omitempty"` // domains of aliases, which have the same keys
	Overlap string     `json:"overlap"`           // how long the records of a retired pair must stay, in words
	Pairs   []DKIMPair `json:"pairs"`             // oldest first
}

// dkimLookTime bounds all questions of one dkim.show.
const dkimLookTime = 15 * time.Second

// keysPath is where published keys lie.
const keysPath = "/.well-known/dkim-keys/"

// openDKIM opens the signing keys. An address as domain has no place in the DNS for
// their records: its mail is not signed.
func (s *Server) openDKIM(ctx context.Context) (err error) {
	if strings.HasPrefix(s.c.Domain, "[") {
		return nil
	}
	s.dkim, err = dkimkey.Open(ctx, dkimkey.Options{Store: s.db, Root: s.root, Domain: s.c.Domain, Also: s.c.furtherDomains(), Overlap: s.c.DKIM.Overlap.Std(),
		Publish: s.c.DKIM.PublishOldKeys, NewRSA: s.d.NewRSA, Now: s.d.Now, Rand: s.d.Rand, Logger: s.d.Logger})
	return err
}

// runDKIM looks after the signing keys.
func (s *Server) runDKIM(ctx context.Context) error { return s.dkim.Run(ctx, s.freshTXT) }

// freshTXT asks the resolver and not what it said lately: an operator has just put the
// record there.
func (s *Server) freshTXT(ctx context.Context, name string) ([]string, bool, error) {
	s.names.Forget(name)
	return s.names.TXT(ctx, name)
}

// signer gives the function that signs what leaves, nil when it is not signed. The first
// mail makes the first pair of keys; that waits for the disk only.
func (s *Server) signer() func(header []byte, body ...[]byte) (fields []byte, err error) {
	if s.dkim == nil {
		return nil
	}
	return func(header []byte, body ...[]byte) ([]byte, error) {
		keys, err := s.dkim.Signing(context.Background())
		if err != nil {
			return nil, err
		}
		return (&dkim.Signer{Domain: s.signingDomain(header), Keys: keys}).Sign(header, body...)
	}
}

// signingDomain gives the domain whose signature a mail gets: that in From where it is one of
// aliases, which has the same records as the relay's own; else the relay's own.
func (s *Server) signingDomain(header []byte) string {
	if h, _, err := mail.ParseHeader(header); err == nil {
		if from, err := mail.FromAddress(h); err == nil {
			for _, d := range s.c.aliasDomains() {
				if mail.CanonicalDomain(d) == mail.CanonicalDomain(from.Domain) {
					return d
				}
			}
		}
	}
	return s.c.Domain
}

// oldKeys serves the published keys, each at keysPath + selector + ".pem".
func (s *Server) oldKeys(w http.ResponseWriter, r *http.Request) {
	selector, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, keysPath), ".pem")
	var text []byte
	if ok && s.dkim != nil {
		text, ok = s.dkim.Published(selector)
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case !ok || text == nil:
		http.Error(w, "not found", http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=us-ascii")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(text)
	}
}

// dkimCommands are the commands of the control socket about signing keys.
func (s *Server) dkimCommands() map[string]control.Handler {
	h := make(map[string]control.Handler)
	for name, fn := range map[string]func(context.Context) ([]DKIMPair, error){"dkim.show": s.showDKIM, "dkim.rotate": s.rotateDKIM, "dkim.list": s.listDKIM} {
		h[name] = func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) {
			if s.dkim == nil {
				return nil, errs.E("role/relay."+name, errs.Unsupported, "the domain is an IP address: there is no place in the DNS for a key, so its mail is not signed", nil)
			}
			pairs, err := fn(ctx)
			return DKIMKeys{s.c.Domain, s.c.furtherDomains(), words(s.c.DKIM.Overlap), pairs}, err
		}
	}
	return h
}

// showDKIM gives the pairs whose records belong in the DNS, and what is seen there.
func (s *Server) showDKIM(ctx context.Context) ([]DKIMPair, error) {
	pairs, err := s.dkim.Current(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dkimLookTime)
	defer cancel()
	out := make([]DKIMPair, len(pairs))
	var asking sync.WaitGroup
	places := make(chan struct{}, maxAsking)
	for i, p := range pairs {
		if out[i], err = s.dkimPair(p, true); err != nil {
			return nil, err
		}
		n := 0
		for _, domain := range s.c.signedDomains() {
			for _, key := range p.Keys {
				r := &out[i].Records[n]
				n++
				places <- struct{}{}
				asking.Go(func() {
					defer func() { <-places }()
					r.Seen = key.Look(ctx, domain, s.freshTXT).String()
				})
			}
		}
	}
	asking.Wait()
	return out, nil
}

func (s *Server) rotateDKIM(ctx context.Context) ([]DKIMPair, error) {
	p, err := s.dkim.Rotate(ctx)
	if err != nil {
		return nil, err
	}
	out, err := s.dkimPair(p, true)
	return []DKIMPair{out}, err
}

func (s *Server) listDKIM(context.Context) ([]DKIMPair, error) {
	out := []DKIMPair{}
	for _, p := range s.dkim.List() {
		one, err := s.dkimPair(p, false)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// dkimPair puts a pair into the form of the commands.
func (s *Server) dkimPair(p dkimkey.Pair, records bool) (DKIMPair, error) {
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	out := DKIMPair{Name: p.Name, State: p.State.String(), Published: p.Published, Made: stamp(p.Made), Activated: stamp(p.Activated),
		Retired: stamp(p.Retired), Removed: stamp(p.Removed)}
	if p.State == dkimkey.Retiring {
		out.MayGo = stamp(s.dkim.MayGo(p))
	}
	if !records {
		return out, nil
	}
	for _, domain := range s.c.signedDomains() {
		list, err := dkimRecords(p, domain)
		if err != nil {
			return out, err
		}
		out.Records = append(out.Records, list...)
	}
	return out, nil
}

// dkimRecords are the records of a pair in one domain, in the order of its keys.
func dkimRecords(p dkimkey.Pair, domain string) (list []DKIMRecord, err error) {
	for _, key := range p.Keys {
		text, err := dkim.Record(key.Public)
		if err != nil {
			return nil, err
		}
		line, err := dkim.ZoneLine(key.Selector, domain, key.Public)
		if err != nil {
			return nil, err
		}
		list = append(list, DKIMRecord{Selector: key.Selector, Name: dkim.RecordName(key.Selector, domain), Text: text, Line: line})
	}
	return list, nil
}
