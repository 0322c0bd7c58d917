package alias

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"postern.email/kit/checkup"
	"postern.email/kit/errs"
	"postern.email/kit/postmap"
)

// Diagnosis is one thing that Doctor looked at.
type Diagnosis = checkup.Diagnosis

// rewriting are the parameters of main.cf that may name the map, those first that fit best.
var rewriting = []string{"virtual_alias_maps", "recipient_canonical_maps", "canonical_maps"}

// others are what else is asked of main.cf.
var others = []string{"sender_canonical_maps", "smtpd_sender_login_maps", "default_database_type", "mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"}

// mapType finds the type of the map: what the configuration says, else what main.cf says where it names the map, else
// Postfix's default. errs.NotFound without Postfix, errs.Unavailable where it does not answer.
func mapType(ctx context.Context, c *Config, p postmap.Postfix) (string, error) {
	if c.Postern.MapType != "" {
		return c.Postern.MapType, nil
	}
	settings, err := p.Settings(ctx, append(slices.Clone(rewriting), others...)...)
	if err != nil {
		return "", err
	}
	if uses := postmap.Uses(settings, append(slices.Clone(rewriting), "smtpd_sender_login_maps"), c.PostfixConfig.MapFilePath); len(uses) > 0 {
		return uses[0].Type, nil
	}
	return settings["default_database_type"], nil
}

// doctor collects.
type doctor struct{ checkup.List }

// Doctor looks whether the map can be kept and whether Postfix uses it. It needs no running server and changes
// nothing; run it as the user that the server runs as.
func Doctor(ctx context.Context, c Config, p postmap.Postfix) []Diagnosis {
	var d doctor
	if p.ConfigDir == "" {
		p.ConfigDir = c.Postern.PostfixDir
	}
	d.programs(p)
	settings, err := p.Settings(ctx, append(slices.Clone(rewriting), others...)...)
	if err != nil {
		d.Fault("main.cf", "Look at it with: postconf -n", "Postfix's configuration cannot be read: %s", said(err))
		return d.List
	}
	d.uses(&c, settings)
	typ, err := mapType(ctx, &c, p)
	if err == nil {
		d.known(ctx, p, typ)
	}
	listed := func(string) bool { return false } // whether a line of others in the map names a domain (virtual(5))
	if err == nil {
		if t := d.table(ctx, &c, p, typ); t != nil {
			listed = func(domain string) bool { line, err := t.Foreign(domain); return err == nil && line > 0 }
		}
	}
	d.domains(&c, settings, listed)
	return d.List
}

func said(err error) string {
	if text := errs.Public(err); text != "" {
		return text
	}
	return "the disk or a program failed"
}

func (d *doctor) programs(p postmap.Postfix) {
	for _, name := range []string{"postmap", "postconf"} {
		path, err := p.Program(name)
		if err != nil {
			d.Fault(name, "Install Postfix, or put the directory of its programs into PATH.", "%s", said(err))
			continue
		}
		d.OK(name, "%s", path)
	}
}

// uses says where main.cf names the map, and what follows for answers.
func (d *doctor) uses(c *Config, settings map[string]string) {
	path := c.PostfixConfig.MapFilePath
	all := postmap.Uses(settings, rewriting, path)
	if len(all) == 0 {
		typ := c.Postern.MapType
		if typ == "" {
			typ = settings["default_database_type"]
		}
		d.Fault("main.cf", fmt.Sprintf("postconf -e 'virtual_alias_maps = %s:%s' && postfix reload    (with what is in virtual_alias_maps now in front of it)", typ, path),
			"Postfix does not use the map: none of %s names %s", strings.Join(rewriting, ", "), path)
		return
	}
	for _, u := range all {
		if c.Postern.MapType != "" && u.Type != c.Postern.MapType {
			d.Fault("map type", "Set Postern.MapType to "+u.Type+", or leave it out.", "%s names the map as %s, and Postern.MapType is %s", u.Parameter, u.Type, c.Postern.MapType)
		}
		if !slices.Contains(postmap.Types(), u.Type) {
			d.Fault("map type", "Name it as one of "+strings.Join(postmap.Types(), ", ")+" in main.cf.", "%s names the map as %s, which cannot be replaced while Postfix runs", u.Parameter, u.Type)
		}
		if u.Parameter == "canonical_maps" {
			d.Advise("answers", "Use recipient_canonical_maps or virtual_alias_maps in place of canonical_maps.", "canonical_maps is for senders, too: a mail that is sent as an alias gets the address behind it")
			continue
		}
		d.OK("main.cf", "%s uses the map", u.Parameter)
	}
	if uses := postmap.Uses(settings, []string{"sender_canonical_maps"}, path); len(uses) > 0 {
		d.Advise("answers", "Take the map out of sender_canonical_maps.", "sender_canonical_maps names the map: a mail that is sent as an alias gets the address behind it")
	}
	if uses := postmap.Uses(settings, []string{"smtpd_sender_login_maps"}, path); len(uses) > 0 {
		d.OK("answers", "smtpd_sender_login_maps names the map: who logs in as the address behind an alias may send as the alias")
	}
}

const textNoType = "this Postfix has no tables of the type %s"

// known says whether this Postfix has the type of the map: in some distributions cdb and lmdb are packages of their own.
func (d *doctor) known(ctx context.Context, p postmap.Postfix, typ string) {
	if has, err := p.Knows(ctx, typ); err == nil && !has && slices.Contains(postmap.Types(), typ) {
		d.Fault("map type", "Install it (in Debian: apt-get install postfix-"+typ+"), or take another type: postconf -m", textNoType, typ)
	}
}

// table says whether the map can be written and is what the marks say.
func (d *doctor) table(ctx context.Context, c *Config, p postmap.Postfix, typ string) *postmap.Table {
	t, err := postmap.New(postmap.Options{Path: c.PostfixConfig.MapFilePath, Type: typ, Compile: p.Compile})
	if err != nil {
		return nil // said already
	}
	if err := t.Writable(); err != nil {
		d.Fault("map", "Run the server as the user who owns the map and its directory; that is often postfix or root.", "user %d: %s", os.Geteuid(), said(err))
		return nil
	}
	st, err := t.State()
	switch {
	case err != nil:
		d.Fault("map", "", "%s", said(err))
	case !st.Exists:
		d.OK("map", "%s is not there yet and can be made", c.PostfixConfig.MapFilePath)
	case !st.Fresh:
		d.Fault("map", "postern alias sync, with the server running; or: postmap "+typ+":"+c.PostfixConfig.MapFilePath, "the index is older than the map, or missing")
	default:
		d.OK("map", "%s can be written; %d lines of aliases, %d of others", c.PostfixConfig.MapFilePath, len(st.Ours), st.Foreign)
	}
	if err == nil && st.Fresh && len(st.Ours) > 0 {
		// Postfix itself must find what stands there.
		l := st.Ours[0]
		got, err := p.Query(ctx, typ, c.PostfixConfig.MapFilePath, l.Key)
		switch {
		case err != nil:
			d.Fault("look-up", "", "%s", said(err))
		case got != l.Value:
			d.Fault("look-up", "postern alias sync", "Postfix does not find the first alias of the map")
		default:
			d.OK("look-up", "Postfix finds what the map says")
		}
	}
	return t
}

// domains says whether Postfix takes mail for the domains of the aliases at all.
func (d *doctor) domains(c *Config, settings map[string]string, listed func(domain string) bool) {
	all, err := c.Domains()
	if err != nil {
		d.Fault("domain", "", "%s", said(err))
		return
	}
	known := map[string]bool{}
	unsure := false
	for _, name := range []string{"mydestination", "virtual_alias_domains", "virtual_mailbox_domains", "relay_domains"} {
		for _, word := range strings.FieldsFunc(settings[name], func(r rune) bool { return strings.ContainsRune(", \t{}", r) }) {
			known[strings.ToLower(word)] = true
			// virtual_alias_domains is $virtual_alias_maps where nothing else is said.
			_, file, table := strings.Cut(strings.TrimPrefix(word, "proxy:"), ":")
			unsure = unsure || table && file != c.PostfixConfig.MapFilePath || strings.HasPrefix(word, "/")
		}
	}
	for _, domain := range all {
		switch {
		case known[domain] || listed(domain):
			d.OK("domain", "Postfix takes mail for %s", domain)
		case unsure:
			d.Advise("domain", "postconf virtual_alias_domains mydestination", "%s is in none of the lists of main.cf; it may be in a table that they name", domain)
		default:
			d.Fault("domain", "postconf -e 'virtual_alias_domains = "+domain+"' && postfix reload    (with what is in it now in front)", "Postfix takes no mail for %s", domain)
		}
	}
}

// maxNamed bounds the lines that are named.
const maxNamed = 20

// conflicts names what only the running server knows: the aliases that are not in the map because a line of others has
// their address.
func (s *Server) conflicts() []Diagnosis {
	d := checkup.List{}
	st := s.keeper.State()
	if st.Error != "" {
		d.Fault("map", "Look at the log of the server.", "it could not be written: %s", st.Error)
	}
	for i, c := range st.conflicts {
		if i == maxNamed {
			d.Fault("map", "", "%d more aliases are left out", len(st.conflicts)-i)
			break
		}
		d.Fault("map", "Remove the line, if the mail shall go to the owner of the alias.", "line %d says something else of %s, which is an alias; the line stays, the alias is left out", c.Line, c.Key)
	}
	return d
}

// AsError gives the faults among diagnoses as one error, nil where there are none.
func AsError(all []Diagnosis) error {
	n := checkup.List(all).Faults()
	if n == 0 {
		return nil
	}
	return errs.E("role/alias.Doctor", errs.Unavailable, fmt.Sprintf("%d of %d things are not in order", n, len(all)), errors.New("doctor"))
}
