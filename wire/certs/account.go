package certs

import (
	"context"
	"encoding/json"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// Authority tells what a CAA record may say so that certificates go on coming: the
// domain by which the authority goes in such records (RFC 8659 §4.2), and the URL of
// the account there (RFC 8657 §3), empty before the first order. Both are empty where
// ACME is not in use; name is empty when the authority does not say it, for which an
// authority other than Let's Encrypt is asked.
func (c *Certs) Authority(ctx context.Context) (name, account string) {
	if c.acme == nil {
		return "", ""
	}
	dir := directory(c.o.ACME)
	if u, err := url.Parse(dir); err == nil && strings.HasSuffix(u.Hostname(), ".api.letsencrypt.org") {
		name = "letsencrypt.org"
	} else if cl, ok := c.acme.issuer.(*client); ok {
		if meta, err := cl.meta(ctx); err == nil && len(meta.CAAIdentities) > 0 {
			name = strings.ToLower(meta.CAAIdentities[0])
		}
	}
	return name, c.acme.account(ctx, (&certmagic.ACMEIssuer{CA: dir}).IssuerKey(), c.o.ACME.Email)
}

// account gives the URL of the account that is stored for email, else of the only one
// there is.
func (a *authority) account(ctx context.Context, issuer, email string) string {
	keys, err := a.store.List(ctx, path.Join("acme", certmagic.StorageKeys.Safe(issuer), "users"), true)
	if err != nil {
		return ""
	}
	var all []string
	for _, k := range keys {
		text, err := a.store.Load(ctx, k)
		var acc acme.Account
		if path.Ext(k) != ".json" || err != nil || json.Unmarshal(text, &acc) != nil || acc.Location == "" {
			continue
		}
		if email == "" && len(acc.Contact) == 0 || slices.ContainsFunc(acc.Contact, func(s string) bool { return strings.EqualFold(s, "mailto:"+email) }) {
			return acc.Location
		}
		all = append(all, acc.Location)
	}
	if len(all) == 1 {
		return all[0]
	}
	return ""
}
