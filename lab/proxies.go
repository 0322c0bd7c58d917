package lab

import (
	"context"
	"fmt"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/wire/control"
)

// connectTime is how long a proxy is waited for until it is connected to its relay.
const connectTime = time.Minute

// usualSlack is how long a proxy waits for an acknowledgement beyond its time, in seconds and at
// speed 1.
const usualSlack = 300

// startProxies sets the proxies up, starts them, makes them known to each other and waits until each
// is connected to its relay.
func (l *Lab) startProxies(ctx context.Context) error {
	n := l.plan.Proxies
	l.say(fmt.Sprintf("Starting %d mail proxies", n))
	for i := range n {
		m := l.add("proxy", i, nil)
		m.config = l.path(m.name, "mailproxy.toml")
		m.args = []string{"proxy", "-f", m.config, "--json", "--set", fmt.Sprintf("Debug.RetransmitSlack=%d", max(1, usualSlack/l.c.Speed))}
		if l.c.Tor {
			m.args = append(m.args, "--set", "UpstreamProxy.Type=tor+socks5", "--set", "UpstreamProxy.Address="+l.info.Tor)
		}
	}
	all := l.of("proxy")
	if err := each(n, func(i int) error { return l.initProxy(ctx, all[i], i) }); err != nil {
		return err
	}
	ready := make([]proxyReady, n)
	for i, m := range all {
		m.info = &ready[i]
	}
	if err := l.startAll(ctx, all); err != nil {
		return err
	}
	for i, m := range all {
		m.info = nil
		address, r := proxyAddress(i), ready[i]
		l.info.Proxies = append(l.info.Proxies, ProxyInfo{Name: m.name, Account: address, Password: l.plan.password(address), Relay: relayDomain(i % Relays), SMTP: r.SMTP, POP3: r.POP3, IMAP: r.IMAP, Page: r.Page,
			Dir: m.dir, Config: m.config, PID: m.pid()})
	}
	if err := l.introduce(ctx, all); err != nil {
		return err
	}
	for _, m := range all {
		if err := poll(ctx, connectTime, m.name+" is connected to its relay", func() bool {
			var st proxyStatus
			return control.Call(ctx, m.dir, "status", nil, &st, nil) == nil && st.connected()
		}); err != nil {
			return err
		}
	}
	return nil
}

// proxyReady is what the lab reads of a proxy's ready line.
type proxyReady struct{ SMTP, POP3, IMAP, Page string }

// proxyStatus is what it reads of a proxy's status.
type proxyStatus struct {
	Lines []struct {
		Connected bool       `json:"connected"`
		Sent      int        `json:"sent"`
		Received  int        `json:"received"`
		Cover     int        `json:"cover"` // loops are among it
		Waiting   []struct{} `json:"waiting"`
	} `json:"lines"`
}

func (s *proxyStatus) connected() bool {
	for _, a := range s.Lines {
		if !a.Connected {
			return false
		}
	}
	return len(s.Lines) > 0
}

// initProxy makes keys and configuration of a proxy, and registers its account with its relay.
func (l *Lab) initProxy(ctx context.Context, m *member, i int) error {
	if l.plan.Made {
		return nil
	}
	if err := l.mkdir(m.name); err != nil {
		return err
	}
	address, relay := proxyAddress(i), memberName("relay", i%Relays)
	password := l.path(m.name, "password")
	if err := writeFile(password, []byte(l.plan.password(address)+"\n"), 0o600); err != nil {
		return err
	}
	args := []string{"proxy", "init", address, "-f", m.config, "--relay", "https://" + l.plan.at(relay, "https"), "--password-file", password}
	if !there(m.config) { // else an earlier try has written it, and what follows is in it
		args = append(args, "--dir", m.dir, "--ca", l.info.CA, "--set", "Proxy.AllowCleartext=true", "--set", "Management.Enable=true")
		for _, door := range doors["proxy"] {
			args = append(args, "--set", proxyKeys[door]+"="+l.plan.at(m.name, door))
		}
	}
	return l.command(ctx, nil, args...)
}

// proxyKeys are the options of a proxy for its doors.
var proxyKeys = map[string]string{"smtp": "Proxy.SMTPAddress", "pop3": "Proxy.POP3Address", "imap": "Proxy.IMAPAddress", "page": "Proxy.PageAddress"}

// introduce puts the key of each proxy's account into the directory of recipients of all others, as
// people do who have met.
func (l *Lab) introduce(ctx context.Context, all []*member) error {
	const op = "lab.introduce"
	if l.plan.Made {
		return nil
	}
	keys := make([][]byte, len(all))
	for i, m := range all {
		var own struct{ Key string }
		if err := control.Call(ctx, m.dir, "verify", map[string]string{"address": proxyAddress(i)}, &own, nil); err != nil {
			return errs.Wrap(op, err)
		}
		address, err := mail.ParseAddress(proxyAddress(i))
		if err != nil {
			return errs.Wrap(op, err)
		}
		key, err := vouch.ParseIdentity([]byte(own.Key))
		if err != nil {
			return errs.E(op, errs.Unavailable, m.name+" does not tell its key", err)
		}
		keys[i] = key.PEM(address)
	}
	for i, m := range all {
		if err := l.mkdir(m.name, "data", "recipients"); err != nil {
			return err
		}
		for k, key := range keys {
			if k == i {
				continue
			}
			if err := writeFile(l.path(m.name, "data", "recipients", proxyAddress(k)+".pem"), key, 0o600); err != nil {
				return err
			}
		}
		if err := control.Call(ctx, m.dir, "rescan", nil, nil, nil); err != nil {
			return errs.Wrap(op, err)
		}
	}
	return nil
}
