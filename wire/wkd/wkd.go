// Package wkd finds the OpenPGP key of a mail address where the address's own domain shows it: the Web
// Key Directory (draft-koch-openpgp-webkey-service). Whoever looks up tells that domain that somebody
// wants to write to the address.
package wkd

import (
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/openpgp"
)

const (
	// Timeout bounds one look-up, both methods together.
	Timeout = 30 * time.Second
	// MaxHeader bounds the header of an answer, in bytes.
	MaxHeader = 32 << 10
	// maxRedirects is how many are followed, all of them within the host.
	maxRedirects = 3
)

// zbase32 is the alphabet of RFC 6189 §5.1.6.
var zbase32 = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// URLs gives where the key of an address may be (§3.1): with the advanced method, and with the direct one
// for domains that have no host of the name openpgpkey. errs.Invalid for an address without a domain name.
func URLs(a mail.Address) (advanced, direct string, err error) {
	domain := mail.CanonicalDomain(a.Domain)
	u, err := url.Parse("https://" + domain)
	if err != nil || a.Local == "" || !strings.Contains(domain, ".") || strings.HasPrefix(domain, "[") || net.ParseIP(domain) != nil || u.Host != domain || strings.Contains(domain, ":") {
		return "", "", errs.E("wire/wkd.URLs", errs.Invalid, "no key can be looked up for an address of this form", err)
	}
	// Letters of ASCII alone are mapped to lower case.
	sum := sha1.Sum([]byte(strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, a.Local)))
	name := "hu/" + zbase32.EncodeToString(sum[:]) + "?l=" + strings.ReplaceAll(url.QueryEscape(a.Local), "+", "%20")
	return "https://openpgpkey." + domain + "/.well-known/openpgpkey/" + domain + "/" + name, "https://" + domain + "/.well-known/openpgpkey/" + name, nil
}

// NewTransport gives the Transport of a Client that connects with dial and keeps no connection. conf says
// whose certificates are believed.
func NewTransport(dial func(ctx context.Context, network, addr string) (net.Conn, error), conf *tls.Config) *http.Transport {
	return &http.Transport{DialContext: dial, TLSClientConfig: conf, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: MaxHeader}
}

// Client looks keys up. Its fields do not change; it may be used by many goroutines.
type Client struct {
	// Transport fetches pages. It must check certificates as the web does. Nothing of it is kept between
	// look-ups but what it keeps itself.
	Transport http.RoundTripper
	// Absent reports whether an error of Transport says that there is no such host; nil: what the DNS says.
	Absent func(error) bool
	Now    func() time.Time // nil: time.Now
}

// Find gives the key of an address, in its binary form, with no user ID but those of the address. The
// advanced method is asked, and the direct one if the host for that cannot be reached (§3.1). errs.NotFound
// where the domain shows no key, errs.Invalid or errs.TooLarge where it shows something else,
// errs.Unavailable where it cannot be asked now, errs.Canceled when ctx ends.
func (c *Client) Find(ctx context.Context, a mail.Address) ([]byte, error) {
	const op = "wire/wkd.Find"
	advanced, direct, err := URLs(a)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	inTime, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	half, cancelHalf := context.WithTimeout(ctx, Timeout/2)
	defer cancelHalf()
	absent := c.Absent
	if absent == nil {
		absent = noHost
	}
	res, first := c.get(half, advanced)
	gone := first != nil && absent(first)
	if first != nil && unreached(first) {
		if res, err = c.get(inTime, direct); err == nil && missing(res) && !gone {
			// The host of the advanced method may be there and down: what the other says is no last word.
			res.Body.Close()
			err = first
		}
	} else {
		err = first
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, errs.E(op, errs.Canceled, "", ctx.Err())
	case err != nil && gone && absent(err):
		return nil, errs.E(op, errs.NotFound, "the domain has no web key directory", err)
	case err != nil:
		text := "the web key directory of the domain cannot be asked"
		if e := (*errs.Error)(nil); errors.As(err, &e) { // a SOCKS proxy says more
			text += ": " + errs.Public(e)
		}
		return nil, errs.E(op, errs.Unavailable, text, err)
	}
	defer res.Body.Close()
	switch {
	case missing(res):
		return nil, errs.E(op, errs.NotFound, "the domain shows no key for this address", nil)
	case res.StatusCode != http.StatusOK:
		return nil, errs.E(op, errs.Unavailable, "the web key directory of the domain has no answer now", fmt.Errorf("status %d", res.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, openpgp.MaxKeys+1))
	switch {
	case ctx.Err() != nil:
		return nil, errs.E(op, errs.Canceled, "", ctx.Err())
	case err != nil:
		return nil, errs.E(op, errs.Unavailable, "the web key directory of the domain broke off", err)
	}
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	key, err := openpgp.ForAddress(body, a, now())
	return key, errs.Wrap(op, err)
}

// get asks one host, with nothing in the request that tells one program from another.
func (c *Client) get(ctx context.Context, where string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "")
	host := req.URL.Host
	client := http.Client{Transport: c.Transport, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > maxRedirects || r.URL.Scheme != "https" || !strings.EqualFold(r.URL.Host, host) {
			return http.ErrUseLastResponse
		}
		r.Header.Del("Referer")
		return nil
	}}
	return client.Do(req)
}

// missing reports whether an answer says that there is no such key.
func missing(r *http.Response) bool {
	return r.StatusCode == http.StatusNotFound || r.StatusCode == http.StatusGone
}

// noHost reports whether the DNS said that there is no such name.
func noHost(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsNotFound
}

// unreached reports whether no connection came about: what fails after that is the host's own fault,
// and no reason to ask another.
func unreached(err error) bool {
	var n *net.OpError
	return errors.As(err, &n) && n.Op == "dial" || noHost(err) || errs.KindOf(err) == errs.Unavailable || errors.Is(err, context.DeadlineExceeded)
}
