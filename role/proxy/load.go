package proxy

import (
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"postern.email/kit/config"
	"postern.email/kit/errs"
)

// Load reads a configuration file, in mailproxy's form or with our options more, then what the
// --set words say, and checks all of it. errs.NotFound, or errs.Invalid with a public text that names
// the place.
func Load(path string, set []string) (Config, error) {
	const op = "role/proxy.Load"
	text, err := config.ReadFile(path)
	if err != nil {
		return Config{}, errs.Wrap(op, err)
	}
	c, err := LoadText(path, text, set)
	return c, errs.Wrap(op, err)
}

// LoadText is Load for a file that was read already; name is its name in error texts.
func LoadText(name string, text []byte, set []string) (Config, error) {
	const op = "role/proxy.LoadText"
	var c Config
	if err := config.LoadText(&c, name, text, set); err != nil {
		return c, err
	}
	if !hasSection(text, "Proxy") {
		return c, errs.E(op, errs.Invalid, name+": there is no section [Proxy]", nil)
	}
	c.complete()
	if err := c.Check(); err != nil {
		return c, errs.E(op, errs.Invalid, name+": "+errs.Public(err), err)
	}
	return c, nil
}

// hasSection tells whether the (valid) text has a table of this name, in any case.
func hasSection(text []byte, name string) bool {
	var all map[string]any
	if err := toml.Unmarshal(text, &all); err != nil {
		return false
	}
	for k := range all {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

// complete puts the defaults where the file says nothing by an empty text or, of a time, by zero
// or less, as mailproxy does.
func (c *Config) complete() {
	var fresh Config
	config.Defaults(&fresh)
	text := func(v *string, def string) {
		if *v == "" {
			*v = def
		}
	}
	p, f := &c.Proxy, &fresh.Proxy
	text(&p.POP3Address, f.POP3Address)
	text(&p.SMTPAddress, f.SMTPAddress)
	text(&p.IMAPAddress, f.IMAPAddress)
	text(&p.PageAddress, f.PageAddress)
	if p.DataDir != "" {
		text(&p.RecipientDir, filepath.Join(p.DataDir, "recipients"))
		text(&p.KeyFile, filepath.Join(p.DataDir, "node.key"))
		text(&c.Management.Path, filepath.Join(p.DataDir, "management_sock"))
	}
	text(&c.Logging.Level, fresh.Logging.Level)
	c.Logging.Level = strings.ToUpper(c.Logging.Level)
	if c.Logging.File != "" && !filepath.IsAbs(c.Logging.File) {
		c.Logging.File = filepath.Join(p.DataDir, c.Logging.File)
	}
	u := &c.UpstreamProxy
	u.Type, u.Network = strings.ToLower(u.Type), strings.ToLower(u.Network)
	text(&u.Type, fresh.UpstreamProxy.Type)
	text(&u.Network, fresh.UpstreamProxy.Network)
	d, g := &c.Debug, &fresh.Debug
	for _, x := range []struct {
		v   *int
		def int
	}{{&d.ReceiveTimeout, 0}, {&d.BounceQueueLifetime, g.BounceQueueLifetime}, {&d.UrgentQueueLifetime, g.UrgentQueueLifetime},
		{&d.PollingInterval, g.PollingInterval}, {&d.RetransmitSlack, g.RetransmitSlack}} {
		if *x.v <= 0 {
			*x.v = x.def
		}
	}
}
