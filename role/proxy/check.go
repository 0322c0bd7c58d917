package proxy

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"postern.email/kit/errs"
)

// off is the word for an address at which nothing listens.
const off = "off"

// Check finds options that cannot be used, alone or together. errs.Invalid; the public text names
// the option.
func (c Config) Check() error {
	for _, check := range []func() error{c.checkProxy, c.checkLogging, c.checkManagement, c.checkUpstream} {
		if err := check(); err != nil {
			return err
		}
	}
	_, err := c.Accounts()
	return err
}

func bad(format string, args ...any) error {
	return errs.E("role/proxy.Check", errs.Invalid, fmt.Sprintf(format, args...), nil)
}

// MaxAccounts bounds the accounts of one proxy.
const MaxAccounts = 64

func (c *Config) checkProxy() error {
	p := &c.Proxy
	switch {
	case p.DataDir == "":
		return bad("Proxy.DataDir is needed: an absolute path")
	case !filepath.IsAbs(p.DataDir):
		return bad("Proxy.DataDir is no absolute path: %s", p.DataDir)
	case !filepath.IsAbs(p.RecipientDir):
		return bad("Proxy.RecipientDir is no absolute path: %s", p.RecipientDir)
	case !filepath.IsAbs(p.KeyFile):
		return bad("Proxy.KeyFile is no absolute path: %s", p.KeyFile)
	}
	for _, a := range []struct {
		key, addr string
		may       bool // be off
	}{{"POP3Address", p.POP3Address, false}, {"SMTPAddress", p.SMTPAddress, false}, {"IMAPAddress", p.IMAPAddress, true}, {"PageAddress", p.PageAddress, true}} {
		if a.may && a.addr == off {
			continue
		}
		at, err := netip.ParseAddrPort(a.addr)
		if err != nil {
			return bad("Proxy.%s is no IP address and port: %s", a.key, a.addr)
		}
		switch {
		case at.Addr().Unmap().IsLoopback():
		case a.key == "SMTPAddress" && !p.SMTPAuth:
			return bad("Proxy.SMTPAuth = false lets everybody who reaches Proxy.SMTPAddress send as you: it must be a loopback address then, such as 127.0.0.1:2525")
		case !p.AllowRemote:
			return bad("Proxy.%s is no loopback address: others could read passwords and mail on the way; if nobody listens there, set Proxy.AllowRemote = true", a.key)
		}
	}
	return nil
}

// logLevels are the words of Logging.Level.
var logLevels = []string{"ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"}

func (c *Config) checkLogging() error {
	if !slices.Contains(logLevels, c.Logging.Level) {
		return bad("Logging.Level is none of %s: %s", strings.Join(logLevels, ", "), c.Logging.Level)
	}
	return nil
}

func (c *Config) checkManagement() error {
	if c.Management.Enable && !filepath.IsAbs(c.Management.Path) {
		return bad("Management.Path is no absolute path: %s", c.Management.Path)
	}
	return nil
}

// maxCredential is the longest name or password of SOCKS (RFC 1929 §2).
const maxCredential = 255

// transports are the words of UpstreamProxy.PreferedTransports.
var transports = []string{"tcp", "tcp4", "tcp6", "onion"}

func (c *Config) checkUpstream() error {
	u := &c.UpstreamProxy
	for _, t := range u.PreferedTransports {
		if !slices.Contains(transports, t) {
			return bad("UpstreamProxy.PreferedTransports: %s is none of %s", t, strings.Join(transports, ", "))
		}
	}
	switch u.Type {
	case "none":
		return nil
	case "socks5", "tor+socks5":
	default:
		return bad("UpstreamProxy.Type is none of none, socks5, tor+socks5: %s", u.Type)
	}
	switch {
	case len(u.User) > maxCredential || len(u.Password) > maxCredential:
		return bad("UpstreamProxy.User and UpstreamProxy.Password have at most %d bytes", maxCredential)
	case (u.User == "") != (u.Password == ""):
		return bad("UpstreamProxy.User and UpstreamProxy.Password belong together: give both or none")
	case u.User != "" && u.Type == "tor+socks5":
		return bad("UpstreamProxy.User cannot be given with tor+socks5, where names choose circuits")
	}
	switch u.Network {
	case "tcp":
		if _, err := netip.ParseAddrPort(u.Address); err != nil {
			return bad("UpstreamProxy.Address is no IP address and port: %s", u.Address)
		}
	case "unix":
		if !filepath.IsAbs(u.Address) {
			return bad("UpstreamProxy.Address is no absolute path of a socket: %s", u.Address)
		}
	default:
		return bad("UpstreamProxy.Network is neither tcp nor unix: %s", u.Network)
	}
	return nil
}

// Warnings are what the user should know of the configuration, one sentence each: options that are
// unsafe, and those that cannot mean here what they meant in mailproxy.
func (c Config) Warnings() (out []string) {
	say := func(cond bool, text string) {
		if cond {
			out = append(out, text)
		}
	}
	p := &c.Proxy
	say(c.Logging.Level == "DEBUG" && !c.Logging.Disable, DebugWarning)
	say(p.AllowRemote && c.remote(), "Proxy.AllowRemote: passwords and mail cross the network between mail programs and this proxy as they are.")
	say(!p.SMTPAuth, "Proxy.SMTPAuth = false: every program on this machine can send as you.")
	say(p.AllowCleartext, "Proxy.AllowCleartext: mail to recipients outside of the mix network may be readable for everybody from its exit on, and mail to reply addresses for their relay.")
	say(p.WebKeyDirectory && c.UpstreamProxy.Type == "none", "Proxy.WebKeyDirectory without UpstreamProxy: the domains of recipients, and who watches this machine's line, see that you look up keys there.")
	say(p.AllowClassicalRecipients, "Proxy.AllowClassicalRecipients: mail to bare X25519 keys can be read later by whoever records it now and has a quantum computer then.")
	say(c.Debug.PollingInterval != 30, "Debug.PollingInterval has no effect: mail comes at a constant rate that the network sets, so that nobody sees when there is some.")
	say(!c.Debug.SendDecoyTraffic, "Debug.SendDecoyTraffic = false has no effect: without cover traffic everybody on the way would see when you have mail.")
	asked := false
	for _, a := range c.NonvotingAuthority {
		asked = asked || a.Address != ""
	}
	for _, a := range c.VotingAuthority {
		for _, p := range a.Peers {
			asked = asked || len(p.Addresses) > 0
		}
	}
	say(asked, "The addresses of authorities are not connected to: the directory comes over the line to the relay, and is checked against their keys.")
	return out
}

// DebugWarning is what mailproxy's manual says of the level.
const DebugWarning = "Warning: The DEBUG log level is unsafe for production use."

// remote reports whether something listens on other than loopback addresses.
func (c *Config) remote() bool {
	for _, a := range []string{c.Proxy.POP3Address, c.Proxy.SMTPAddress, c.Proxy.IMAPAddress, c.Proxy.PageAddress} {
		if at, err := netip.ParseAddrPort(a); err == nil && !at.Addr().Unmap().IsLoopback() {
			return !c.Proxy.NoLaunchListeners
		}
	}
	return false
}
