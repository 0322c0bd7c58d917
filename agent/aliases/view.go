package aliases

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/align"
	"postern.email/post/alias"
	wire "postern.email/wire/alias"
)

// view shows an alias to its owner.
func (d *Desk) view(v *alias.Vault, al *alias.Alias) (View, error) {
	n, err := v.Notes(al)
	if err != nil {
		return View{}, err
	}
	out := d.bare(al)
	out.Site, out.Label, out.Note = n.Site, n.Label, n.Note
	out.Derived, out.Created, out.Last = al.Derived, day(al.Created), day(al.Last)
	out.Received, out.Refused, out.Sent = al.Received, al.Refused, al.Sent
	out.MaxMails, out.IdleDays = al.MaxMails, al.IdleDays
	if !al.Expires.IsZero() {
		out.Expires = al.Expires.UTC().Format(time.RFC3339)
	}
	for _, p := range n.Correspondents {
		out.Correspondents = append(out.Correspondents, Correspondent{Address: p.Address, First: day(p.First), Last: day(p.Last), State: p.State, Mails: p.Mails})
	}
	out.Leaked, out.RestorableTill = leaked(n, al.Mode), day(d.o.Aliases.Restorable(al))
	return out, nil
}

// bare is what somebody sees of an alias who may change aliases but not see them.
func (d *Desk) bare(al *alias.Alias) View {
	return View{Address: al.Address.String(), Mode: al.Mode.String(), Class: al.Class.String(), State: d.state(al), Correspondents: []Correspondent{}}
}

func (d *Desk) state(al *alias.Alias) string {
	switch {
	case al.Deleted != 0:
		return wire.StateDeleted
	case al.Judge(mail.Address{}, d.o.Now()).Action == alias.Expired:
		return wire.StateExpired
	case al.Paused:
		return wire.StatePaused
	}
	return wire.StateActive
}

func day(d alias.Day) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// leaked reports whether somebody wrote who had no reason to know the alias: of another
// organization than the site that it was made for, the sender that is pinned, those whom the
// owner allowed or wrote to, and, where there is none of these, the first that wrote. The first is
// remembered as pinned in every mode; where the pin decides nothing and the site is known, being first
// is no reason.
func leaked(n alias.Notes, mode alias.Mode) bool {
	known := make(map[string]bool)
	add := func(address string) {
		if _, domain, ok := strings.Cut(address, "@"); ok && domain != "" {
			known[align.Organization(domain)] = true
		}
	}
	if n.Site != "" {
		add("@" + n.Site)
	}
	pins := mode == alias.ModePinned || n.Site == ""
	var first alias.Correspondent
	for _, p := range n.Correspondents {
		switch {
		case p.State == alias.StateAllowed, p.State == alias.StateWrittenTo, p.State == alias.StatePinned && pins:
			add(p.Address)
		default:
			if p.Mails > 0 && p.Address != "" && (first.Address == "" || p.First < first.First) {
				first = p
			}
		}
	}
	if len(known) == 0 {
		add(first.Address)
	}
	for _, p := range n.Correspondents {
		_, domain, ok := strings.Cut(p.Address, "@")
		stranger := p.State == alias.StateSeen || p.State == alias.StateAsks || p.State == alias.StateBlocked || p.State == alias.StatePinned && !pins
		if ok && p.Mails > 0 && stranger && !known[align.Organization(domain)] {
			return true
		}
	}
	return false
}

// matches reports whether an alias is what a search looks for; search is in lower case, site as aliasname.SiteHost
// has it. Names of hosts are found in both of their forms (RFC 5890 §2.3.2.1).
func matches(v *View, search, site string) bool {
	if site != "" && !strings.EqualFold(v.Site, site) {
		return false
	}
	if search == "" {
		return true
	}
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), search) }
	hasName := func(name string) bool {
		u, err := idna.ToUnicode(name)
		return has(name) || err == nil && u != name && has(u)
	}
	return has(v.Address) || hasName(v.Site) || has(v.Label) || has(v.Note) ||
		slices.ContainsFunc(v.Correspondents, func(p Correspondent) bool {
			_, domain, _ := strings.Cut(p.Address, "@")
			return has(p.Address) || hasName(domain)
		})
}

// parseEnd reads when an alias ends: RFC 3339, or a day, at whose end it does; "": never.
func parseEnd(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errs.E("agent/aliases.parseEnd", errs.Invalid, textDay, nil)
	}
	return t, nil
}
