package mtasts

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// FetchTimeout bounds one fetch of a policy (RFC 8461 §3.3).
const FetchTimeout = time.Minute

// Fetcher finds the policy of a domain where the domain shows it. Its fields do not
// change; it may be used by many goroutines.
type Fetcher struct {
	// TXT gives the TXT records of a name: errs.NotFound when there are none, any
	// other error is temporary. A wire/dns.Resolver's fits.
	TXT func(ctx context.Context, name string) (txts []string, authentic bool, err error)
	// Client fetches pages. It must check certificates as the web does and keep no
	// pages. Its redirects, cookies and time limit are not used.
	Client *http.Client
}

// ID gives the id of the policy that a domain announces. errs.NotFound when it announces
// none, errs.Invalid when the announcement is malformed, errs.Unavailable when it cannot
// be looked up now.
func (f *Fetcher) ID(ctx context.Context, domain string) (string, error) {
	const op = "wire/mtasts.ID"
	txts, _, err := f.TXT(ctx, RecordPrefix+domain)
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return "", errs.E(op, errs.NotFound, noneAnnounced, err)
	case err != nil:
		return "", errs.Wrap(op, err)
	}
	id, err := ParseRecord(txts)
	return id, errs.Wrap(op, err)
}

// Policy fetches the policy (§3.3). errs.Unavailable when the page cannot be had,
// errs.Invalid or errs.TooLarge when it is no policy, errs.Canceled when the caller gave
// up.
func (f *Fetcher) Policy(ctx context.Context, domain string) (Policy, error) {
	const op = "wire/mtasts.Policy"
	inTime, cancel := context.WithTimeout(ctx, FetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(inTime, http.MethodGet, "https://"+HostPrefix+domain+Path, nil)
	if err != nil {
		return Policy{}, errs.E(op, errs.Invalid, "not a domain", err)
	}
	client := http.Client{Transport: f.Client.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return Policy{}, errs.E(op, gaveUp(ctx), "the MTA-STS policy cannot be fetched", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return Policy{}, errs.E(op, errs.Unavailable, "the MTA-STS policy cannot be fetched", fmt.Errorf("status %s", res.Status))
	}
	// Pages of users, which a web server may show under any path, are of other types (§3.2).
	if t, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || t != "text/plain" {
		return Policy{}, errs.E(op, errs.Invalid, "the MTA-STS policy is not of type text/plain", err)
	}
	var text strings.Builder
	if _, err := io.Copy(&text, io.LimitReader(res.Body, MaxPolicy+1)); err != nil {
		return Policy{}, errs.E(op, gaveUp(ctx), "the MTA-STS policy cannot be fetched", err)
	}
	p, err := ParsePolicy(text.String())
	return p, errs.Wrap(op, err)
}

// gaveUp is the kind of an error of the network.
func gaveUp(ctx context.Context) errs.Kind {
	if ctx.Err() != nil {
		return errs.Canceled
	}
	return errs.Unavailable
}

// policyDomain is the form of a domain that is looked up. ok is false for what has no
// policy: no host name, or an address literal.
func policyDomain(domain string) (string, bool) {
	d := mail.CanonicalDomain(domain)
	d, ok := pattern(d)
	return d, ok && !strings.HasPrefix(d, "*")
}
