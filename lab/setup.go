package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/role/relay"
)

// networkName is the name of a lab's mix network.
const networkName = "postern-lab"

// Domains of a lab; nobody can have a name that ends in .test (RFC 2606).
const worldDomain = "world.test"

func relayDomain(i int) string { return memberName("relay", i) + ".test" }

// setUp makes what every member needs before its first start. What an earlier try has made
// stays, but for certificates.
func (l *Lab) setUp(ctx context.Context) error {
	for i := range Authorities {
		m := l.add("authority", i, nil)
		m.config = l.path(m.name, "authority.toml")
		m.args = []string{"authority", "serve", "--config", m.config, "--set", "vote.parameters=" + l.c.parameters(), "--json"}
	}
	for i := range Mixes {
		m := l.add("mix", i, nil)
		m.config = l.path(m.name, "mix.toml")
		m.args = []string{"mix", "start", "--nodaemon", "--quiet", "-f", m.config, "--json"}
		if l.c.Loss > 0 {
			m.args = append(m.args, "--set", fmt.Sprintf("experiment.lose=%.3f", l.c.lossAtMix()))
		}
	}
	if l.plan.Made {
		return nil
	}
	l.say("Making keys and configurations in " + l.c.Dir)
	if err := l.certificates(); err != nil {
		return err
	}
	if err := l.initAuthorities(ctx); err != nil {
		return err
	}
	mixes := l.of("mix")
	return each(len(mixes), func(i int) error {
		m, at := mixes[i], l.plan.at(mixes[i].name, "link")
		return l.command(ctx, nil, "mix", "init", m.name, "--network", l.info.Network, "-f", m.config, "--dir", m.dir, "--address", at, "--contact", "lab@"+worldDomain, "--json",
			"--set", "incoming.listen="+at, "--set", "directory.publish=true")
	})
}

// certificates makes the authority that all trust, and what it gives to relays and world.
func (l *Lab) certificates() error {
	ca, err := newCertAuthority(l.c.Dir)
	if err != nil {
		return err
	}
	hosts := map[string][]string{"world": {worldDomain, "127.0.0.1"}}
	for i := range Relays {
		hosts[memberName("relay", i)] = []string{relayDomain(i), "mta-sts." + relayDomain(i), "127.0.0.1"}
	}
	for name, names := range hosts {
		if err := l.mkdir(name); err != nil {
			return err
		}
		if err := ca.issue(l.path(name, "cert.pem"), l.path(name, "cert.key"), names...); err != nil {
			return err
		}
	}
	return nil
}

// initAuthorities makes the keys of all, and the network file of all together.
func (l *Lab) initAuthorities(ctx context.Context) error {
	const op = "lab.initAuthorities"
	join := []string{"authority", "network"}
	for _, m := range l.of("authority") {
		// Each would find the file of all, or of another, and say that it is not named.
		if err := os.Remove(l.info.Network); err != nil && !os.IsNotExist(err) {
			return errs.E(op, errs.Unavailable, "cannot remove "+l.info.Network, err)
		}
		var made struct {
			Network string `json:"network"`
		}
		at := l.plan.at(m.name, "link")
		if err := l.command(ctx, &made, "authority", "init", networkName, "--address", at, "--period", l.plan.Period.String(), "--config", m.config, "--dir", m.dir,
			"--set", "listen.link="+at, "--set", "network="+l.info.Network, "--json"); err != nil {
			return err
		}
		own := l.path(m.name, "own.network")
		if err := writeFile(own, []byte(made.Network), 0o600); err != nil {
			return err
		}
		join = append(join, own)
	}
	if err := os.Remove(l.info.Network); err != nil && !os.IsNotExist(err) {
		return errs.E(op, errs.Unavailable, "cannot remove "+l.info.Network, err)
	}
	return l.command(ctx, nil, append(join, "--output", l.info.Network)...)
}

// relayConfig writes the configuration of a relay.
func (l *Lab) relayConfig(i int) (file string, err error) {
	name := memberName("relay", i)
	file = l.path(name, "postern.toml")
	set := []string{"domain=" + relayDomain(i), "dir=" + l.path(name, "data"), "tls.mode=files", "tls.cert=" + l.path(name, "cert.pem"), "tls.key=" + l.path(name, "cert.key"), "tls.trusted_cas=" + l.info.CA,
		"network.resolver=" + l.plan.at("world", "dns"), "network.resolver_dnssec=yes", "network.addresses=127.0.0.1", "metadata.admin=mailto:" + worldUser + "@" + worldDomain, "delivery.first_retry=1s", "delivery.last_retry=5s",
		"listen.http=off", "listen.https_alt=off", "accounts.max_load=0", "accounts.min_available_memory=0", "accounts.min_free_disk_space=0",
		"mixnet.enabled=true", "mixnet.network=" + l.info.Network, "mixnet.nickname=" + name, "mixnet.listen=" + l.plan.at(name, "link"), "mixnet.addresses=" + l.plan.at(name, "link"),
		"exit.enabled=true", "exit.cleartext=true", "exit.other_domains=true", "exit.maximum_size=16M", "exit.per_recipient=1000", "mixnet.tokens_per_day=64"}
	for _, door := range doors["relay"] {
		if door != "link" {
			set = append(set, "listen."+door+"="+l.plan.at(name, door))
		}
	}
	// Names lead to the address, as everywhere; the ports are the lab's own.
	routes := []string{fmt.Sprintf("%s smtp=%d https=off", worldDomain, l.plan.Ports["world"]["smtp"])}
	for k := range Relays {
		if other := l.plan.Ports[memberName("relay", k)]; k != i {
			routes = append(routes, fmt.Sprintf("%s smtp=%d https=%d", relayDomain(k), other["smtp"], other["https"]))
			routes = append(routes, fmt.Sprintf("* https=%d", other["https"])) // where its MTA-STS policy is fetched
		}
	}
	var c relay.Config
	config.Defaults(&c)
	if err := config.Apply(&c, append(set, "delivery.routes="+strings.Join(routes, ","))); err != nil {
		return "", err
	}
	if err := c.Check(); err != nil {
		return "", err
	}
	text, err := configText(&c, "# A relay of a lab, written by postern lab at each start.\n")
	if err != nil {
		return "", err
	}
	return file, writeFile(file, text, 0o600)
}

// configText is a configuration file with what differs from the defaults.
func configText(c *relay.Config, head string) ([]byte, error) {
	var usual relay.Config
	config.Defaults(&usual)
	were, section := config.Values(&usual), ""
	var top, rest strings.Builder
	now := config.Values(c)
	for _, o := range config.Options(c) {
		if now[o.Key] == were[o.Key] {
			continue
		}
		line, err := config.Assignment(c, o.Key)
		if err != nil {
			return nil, err
		}
		in, _, nested := strings.Cut(o.Key, ".")
		switch {
		case !nested:
			top.WriteString(line + "\n")
			continue
		case in != section:
			section = in
			rest.WriteString("\n[" + section + "]\n")
		}
		rest.WriteString(line + "\n")
	}
	return []byte(head + top.String() + rest.String()), nil
}

// worldConfig writes what the world is told.
func (l *Lab) worldConfig() (string, error) {
	file := l.path("world", "world.json")
	b, err := json.MarshalIndent(l.worldSettings(), "", "  ")
	if err != nil {
		return "", errs.E("lab.worldConfig", errs.Internal, "", err)
	}
	return file, writeFile(file, append(b, '\n'), 0o600)
}

// mkdir makes a member's directory.
func (l *Lab) mkdir(elem ...string) error {
	if err := os.MkdirAll(l.path(elem...), 0o700); err != nil {
		return errs.E("lab.mkdir", errs.Unavailable, "cannot make the directory "+l.path(elem...), err)
	}
	return nil
}

// there tells whether a file is there.
func there(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
