package lab

import (
	"context"
	"fmt"
	"strings"

	"postern.email/kit/errs"
	"postern.email/lab/world"
)

// worldUser is the name of the account at the ordinary mail host.
const worldUser = "willi"

// startWorld starts names and the ordinary mail host.
func (l *Lab) startWorld(ctx context.Context) error {
	l.say("Starting a small Internet: names, and the mail host of " + worldDomain)
	if err := l.mkdir("world", "data"); err != nil {
		return err
	}
	address := worldUser + "@" + worldDomain
	l.plan.password(address)
	if err := l.writeZone(nil); err != nil {
		return err
	}
	m := l.add("world", 0, nil)
	var err error
	if m.config, err = l.worldConfig(); err != nil {
		return err
	}
	m.args = []string{"lab", "world", "--config", m.config, "--json"}
	if err := m.start(ctx); err != nil {
		return err
	}
	l.info.World = WorldInfo{DNS: l.plan.at("world", "dns"), Domain: worldDomain, SMTP: l.plan.at("world", "smtp"), Submission: l.plan.at("world", "submission"), POP3: l.plan.at("world", "pop3"),
		Account: address, Password: l.plan.password(address), Dir: l.path("world", "data", "mail"), PID: m.pid()}
	return nil
}

// worldSettings are what the world is told.
func (l *Lab) worldSettings() world.Config {
	c := world.Config{Dir: l.path("world", "data"), Domain: worldDomain, Zone: l.path("world", "zone"), DNS: l.plan.at("world", "dns"), SMTP: l.plan.at("world", "smtp"),
		Submission: l.plan.at("world", "submission"), POP3: l.plan.at("world", "pop3"), Cert: l.path("world", "cert.pem"), Key: l.path("world", "cert.key"), CA: l.info.CA,
		Accounts: map[string]string{worldUser: l.plan.password(worldUser + "@" + worldDomain)}, Ports: map[string]int{}}
	for i := range Relays {
		c.Ports[relayDomain(i)] = l.plan.Ports[memberName("relay", i)]["smtp"]
	}
	return c
}

// writeZone writes the DNS records of all domains. more are further ones.
func (l *Lab) writeZone(more []string) error {
	domains := []string{worldDomain}
	for i := range Relays {
		domains = append(domains, relayDomain(i))
	}
	var b strings.Builder
	b.WriteString("; The names of a lab, written by postern lab.\n")
	for _, d := range domains {
		fmt.Fprintf(&b, "%[1]s. 5 IN A 127.0.0.1\n%[1]s. 5 IN MX 10 %[1]s.\n", d)
	}
	for _, line := range more {
		b.WriteString(line + "\n")
	}
	return writeFile(l.path("world", "zone"), []byte(b.String()), 0o600)
}

// publishKeys puts the keys with which the relays sign into the DNS.
func (l *Lab) publishKeys(ctx context.Context, relays []*member) error {
	var lines []string
	for _, m := range relays {
		var keys struct {
			Pairs []struct {
				Records []struct{ Name, Text string }
			}
		}
		err := l.command(ctx, &keys, "dkim", "show", "--config", m.config, "--json")
		if err != nil || len(keys.Pairs) == 0 {
			return errs.E("lab.publishKeys", errs.Unavailable, "the signing keys of "+m.name+" cannot be read", err)
		}
		for _, p := range keys.Pairs {
			for _, x := range p.Records {
				lines = append(lines, txtRecord(x.Name, x.Text))
			}
		}
	}
	return l.writeZone(lines)
}

// txtRecord is a TXT record of any length (RFC 1035 §3.3.14: strings of at most 255 octets). The texts
// of DKIM keys hold neither quotes nor backslashes.
func txtRecord(name, text string) string {
	const most = 255
	line := strings.TrimSuffix(name, ".") + ". 5 IN TXT"
	for text != "" {
		n := min(len(text), most)
		line += ` "` + text[:n] + `"`
		text = text[n:]
	}
	return line
}
