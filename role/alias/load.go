package alias

import (
	"fmt"
	"path/filepath"
	"strings"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/ini"
	"postern.email/mail"
	wire "postern.email/wire/alias"
)

// invalidValues are IncognitoMail's words for a configuration that cannot be used.
const invalidValues = "invalid configuration values"

// Loaded is a configuration that was read.
type Loaded struct {
	Config
	File     string   // "": none, everything is the default
	Warnings []string // of what in the file has no effect, or not the one that it seems to have
}

// Load reads a configuration file in IncognitoMail's form, then the --set words, and checks it whole;
// relative names of files are completed from the working directory. errs.NotFound, or errs.Invalid with
// a public text that names the place.
func Load(path string, set []string) (Loaded, error) {
	const op = "role/alias.Load"
	text, err := config.ReadFile(path)
	if err != nil {
		return Loaded{}, errs.Wrap(op, err)
	}
	l, err := LoadText(path, text, set)
	return l, errs.Wrap(op, err)
}

// LoadText is Load for a text that was read already; name is its name in error texts.
func LoadText(name string, text []byte, set []string) (Loaded, error) {
	l := Loaded{File: name}
	config.Defaults(&l.Config)
	if err := l.take(name, text); err != nil {
		return l, err
	}
	if err := config.Apply(&l.Config, set); err != nil {
		return l, err
	}
	if err := l.complete(); err != nil {
		return l, err
	}
	return l, l.Check()
}

// Bare is the configuration without a file, for commands to a server that runs with the default
// socket. It is not checked: no server could start with it.
func Bare(set []string) (Loaded, error) {
	var l Loaded
	config.Defaults(&l.Config)
	if err := config.Apply(&l.Config, set); err != nil {
		return l, err
	}
	return l, l.complete()
}

// take sets the options that a text names.
func (l *Loaded) take(name string, text []byte) error {
	const op = "role/alias.LoadText"
	entries, err := ini.Parse(name, text)
	if err != nil {
		return err
	}
	options := config.Options(&l.Config)
	seen := map[string]int{}
	for _, e := range entries {
		fault := func(format string, args ...any) error {
			return errs.E(op, errs.Invalid, fmt.Sprintf("%s:%d: ", name, e.Line)+fmt.Sprintf(format, args...), nil)
		}
		if e.Sub != "" {
			return fault("there is no section [%s %q]", e.Section, e.Sub)
		}
		key := e.Section + "." + e.Key
		o := find(options, key)
		switch {
		case e.Key == "" && !hasSection(options, e.Section):
			return fault("%s", unknown(&l.Config, e.Section))
		case e.Key == "":
			continue
		case o == nil:
			return fault("%s", unknown(&l.Config, key))
		}
		value := e.Value
		if o.Type == "yes/no" {
			value = truth(e)
		} else if e.Blank {
			return fault("%s has no value; write %s = value", o.Key, e.Key)
		}
		if before := seen[o.Key]; before > 0 {
			l.Warnings = append(l.Warnings, fmt.Sprintf("%s:%d: %s is there twice, first in line %d; the last one counts", name, e.Line, o.Key, before))
		}
		seen[o.Key] = e.Line
		if err := config.Apply(&l.Config, []string{o.Key + "=" + value}); err != nil {
			return fault("%s", strings.TrimPrefix(errs.Public(err), "--set "))
		}
	}
	return nil
}

// find gives the option with this key in any case.
func find(options []config.Option, key string) *config.Option {
	for i := range options {
		if strings.EqualFold(options[i].Key, key) {
			return &options[i]
		}
	}
	return nil
}

func hasSection(options []config.Option, name string) bool {
	for _, o := range options {
		if section, _, _ := strings.Cut(o.Key, "."); strings.EqualFold(section, name) {
			return true
		}
	}
	return false
}

// unknown names the nearest known key.
func unknown(c *Config, key string) string {
	_, err := config.Find(c, key)
	return errs.Public(err)
}

// truth is a truth value as gcfg reads it: the key alone is one, too.
func truth(e ini.Entry) string {
	switch v := strings.ToLower(e.Value); {
	case e.Blank || v == "yes" || v == "on" || v == "1":
		return "true"
	case v == "no" || v == "off" || v == "0":
		return "false"
	default:
		return v
	}
}

// complete makes names of files absolute and puts in what follows from others.
func (c *Config) complete() error {
	if c.Postern.StateDir == "" && c.Persistence.DatabasePath != "" {
		c.Postern.StateDir = c.Persistence.DatabasePath + ".postern"
	}
	if c.Postern.KeyFile == "" && c.Postern.StateDir != "" {
		c.Postern.KeyFile = filepath.Join(c.Postern.StateDir, "node.key")
	}
	for _, p := range []*string{&c.General.UnixSockPath, &c.General.LockFilePath, &c.General.TLSCertFile, &c.General.TLSKeyFile, &c.Persistence.DatabasePath,
		&c.PostfixConfig.MapFilePath, &c.Postern.StateDir, &c.Postern.KeyFile, &c.Postern.PostfixDir} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return errs.E("role/alias.complete", errs.Unavailable, "the working directory is not known; write names of files in full", err)
		}
		*p = abs
	}
	return nil
}

// Check looks at the options together, in the order of IncognitoMail's own check. errs.Invalid.
func (c *Config) Check() error {
	bad := func(format string, args ...any) error {
		return errs.E("role/alias.Check", errs.Invalid, invalidValues+": "+fmt.Sprintf(format, args...), nil)
	}
	if c.General.MailSystem != "postfix" {
		return bad("General.MailSystem is %q; there is postfix only", c.General.MailSystem)
	}
	if c.Persistence.Type != "boltdb" {
		return bad("Persistence.Type is %q; there is boltdb only", c.Persistence.Type)
	}
	for _, o := range []struct{ key, value string }{{"General.UnixSockPath", c.General.UnixSockPath}, {"General.LockFilePath", c.General.LockFilePath},
		{"General.ListenPath", c.General.ListenPath}, {"General.ListenAddress", c.General.ListenAddress}, {"Persistence.DatabasePath", c.Persistence.DatabasePath},
		{"PostfixConfig.Domain", c.PostfixConfig.Domain}, {"PostfixConfig.MapFilePath", c.PostfixConfig.MapFilePath}} {
		if o.value == "" {
			return bad("%s is needed", o.key)
		}
	}
	if !strings.HasPrefix(c.General.ListenPath, "/") {
		return bad("General.ListenPath begins with a slash")
	}
	if path := c.General.ListenPath; path != rootPath && !wire.ValidPath(path) {
		return bad("General.ListenPath has no braces, spaces, ? or #, and lies outside of %s and %s", wire.PagePath, wire.APIPath)
	}
	if (c.General.TLSCertFile == "") != (c.General.TLSKeyFile == "") {
		return bad("a certificate needs both General.TLSCertFile and General.TLSKeyFile")
	}
	if _, err := c.Domains(); err != nil {
		return bad("PostfixConfig.Domain: %s", errs.Public(err))
	}
	return nil
}

// maxDomains bounds the domains of one server.
const maxDomains = 64

// Domains are the domains of the aliases, canonical, without the at sign; the first is the default.
// errs.Invalid.
func (c *Config) Domains() ([]string, error) {
	const op = "role/alias.Domains"
	var all []string
	for _, word := range strings.FieldsFunc(c.PostfixConfig.Domain, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		d := strings.TrimPrefix(word, "@")
		a, err := mail.ParseAddress("x@" + d)
		if err != nil || strings.HasPrefix(d, "[") {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("%q is no domain; write @example.org", word), err)
		}
		all = append(all, a.Canonical().Domain)
	}
	switch {
	case len(all) == 0:
		return nil, errs.E(op, errs.Invalid, "there is no domain; write @example.org", nil)
	case len(all) > maxDomains:
		return nil, errs.E(op, errs.Invalid, fmt.Sprintf("there are more than %d domains", maxDomains), nil)
	}
	return all, nil
}
