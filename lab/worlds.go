package lab

import (
	"context"
	"fmt"
	"strings"

	"postern.email/lab/world"
	"postern.email/role/relay"
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

// writeZone writes the DNS records of all domains: those of the world, and more of the relays.
func (l *Lab) writeZone(more []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "; The names of a lab, written by postern lab.\n%[1]s. 5 IN A 127.0.0.1\n%[1]s. 5 IN MX 10 %[1]s.\n", worldDomain)
	for _, line := range more {
		b.WriteString(line + "\n")
	}
	return writeFile(l.path("world", "zone"), []byte(b.String()), 0o600)
}

// publish makes the keys of the relays that have none, and puts what the relays print into the DNS, as
// their operators do.
func (l *Lab) publish(ctx context.Context, relays []*member) error {
	var lines []string
	for i, m := range relays {
		var made struct{ Zone relay.Zone }
		if err := l.command(ctx, &made, "init", relayDomain(i), "--config", m.config, "--json"); err != nil {
			return err
		}
		for _, r := range made.Zone.Records {
			if r.Aside == "" || r.Type == "PTR" { // the lab has the zone of the addresses, too
				lines = append(lines, fmt.Sprintf("%s 5 IN %s %s", r.Name, r.Type, r.Value))
			}
		}
	}
	return l.writeZone(lines)
}
