package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"postern.email/deploy"
	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/role/relay"
	"postern.email/wire/control"
	"postern.email/wire/web"
)

// Where things lie on a machine that belongs to the relay.
const (
	systemDir  = "/var/lib/postern"
	systemUnit = "/etc/systemd/system/postern.service"
)

// setUp is one run of init.
type setUp struct {
	src    source
	domain string
	file   string // of the configuration, absolute
	unit   string // of systemd; empty: none

	cfg   relay.Config
	fresh bool // the configuration is made by this run
	notes []string
	making
}

func initCommand(io streams) *cobra.Command {
	var src source
	var resolver, unit string
	c := &cobra.Command{Use: "init DOMAIN", Short: "Set up a relay: write its configuration and keys, print its DNS records", GroupID: groupRun, Args: cobra.ExactArgs(1),
		Long: `Set up a relay for a mail domain: write its configuration and its keys, and print the
records that belong in the DNS. It may be run again: what is there stays as it is, and
the records are printed again. When it fails, what it made is removed.

For root the configuration is ` + systemConfig + ` and the data lies in
` + systemDir + `; for others, or with --config elsewhere, the data lies in
postern-data beside the configuration. --set writes further options into the file.

An IP address can stand in place of the domain, and so can a name that begins with _;
what such relays lack is said.`,
		Example: "  postern init example.org\n  postern init example.org --config ./postern.toml --set tls.acme_email=you@example.net\n  sudo postern init example.org --unit\n  postern init 198.51.100.7"}
	src.flags(c)
	c.Flags().StringVar(&resolver, "resolver", "", "DNS server to ask, `address:port` (network.resolver)")
	c.Flags().StringVar(&unit, "unit", "", "write a systemd unit too, to this `file`")
	c.Flags().Lookup("unit").NoOptDefVal = systemUnit
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if resolver != "" {
			src.set = append([]string{"network.resolver=" + resolver}, src.set...)
		}
		u := &setUp{src: src, domain: mail.CanonicalDomain(strings.TrimSuffix(web.HostOf(strings.ToLower(args[0])), ".")), unit: unit}
		z, err := u.run(c.Context(), io)
		if err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, struct {
				Config string     `json:"config"`
				Dir    string     `json:"dir"`
				Made   []string   `json:"made,omitempty"`
				Kept   []string   `json:"kept,omitempty"`
				Notes  []string   `json:"notes,omitempty"`
				Zone   relay.Zone `json:"zone"`
				Next   []string   `json:"next"`
			}{u.file, u.cfg.Dir, u.made, u.kept, u.notes, z, u.next()})
		}
		return u.print(io, z)
	}
	return c
}

// run makes what is not there.
func (u *setUp) run(ctx context.Context, io streams) (z relay.Zone, err error) {
	defer func() {
		if err != nil {
			u.takeBack()
		}
	}()
	text, err := decided(u.place, u.configuration, u.unit != "", u.unitText)
	if err != nil {
		return z, err
	}
	if u.fresh {
		if err := u.write(u.file, configText(&u.cfg, u.src.set)); err != nil {
			return z, err
		}
	}
	if u.unit != "" && exists(u.unit) {
		u.kept = append(u.kept, u.unit)
	} else if u.unit != "" {
		if err := u.write(u.unit, text); err != nil {
			return z, err
		}
	}
	u.notes = append(u.notes, u.cfg.Lacks()...)
	return u.keys(ctx, io)
}

// place says where the configuration and the data belong.
func (u *setUp) place() error {
	if u.src.file == "" {
		u.src.file = os.Getenv("POSTERN_CONFIG")
	}
	if u.src.file == "" {
		u.src.file = "postern.toml"
		if os.Geteuid() == 0 {
			u.src.file = systemConfig
		}
	}
	var err error
	if u.file, err = filepath.Abs(u.src.file); err != nil {
		return errs.E("cmd.init", errs.Invalid, "the configuration file has no path", err)
	}
	return nil
}

// configuration reads the configuration that is there, or makes one in memory.
func (u *setUp) configuration() (err error) {
	const op = "cmd.init"
	if exists(u.file) {
		if u.cfg, err = u.src.load(); err != nil {
			return err
		}
		if u.cfg.Domain != u.domain {
			return hint(errs.E(op, errs.Exists, u.src.file+" is the configuration of "+u.cfg.Domain+"; nothing was changed", nil), "To set up another relay, name another file: --config FILE")
		}
		u.kept = append(u.kept, u.file)
		if len(u.src.set) > 0 || u.src.dir != "" {
			u.notes = append(u.notes, u.src.file+" stays as it was: what --set, --resolver and --dir say is not in it. Write it there yourself.")
		}
		return nil
	}
	dir := u.src.dir
	switch {
	case dir != "":
	case u.file == systemConfig:
		dir = systemDir
	default:
		dir = filepath.Join(filepath.Dir(u.file), "postern-data")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return errs.E(op, errs.Invalid, "the data directory has no path", err)
	}
	if err := config.Load(&u.cfg, "", []string{"domain=" + u.domain}); err != nil {
		return usageError{"postern init", fmt.Errorf("%q is no domain: write one such as example.org, or an IP address", u.domain)}
	}
	u.cfg.Dir = dir
	if err := config.Apply(&u.cfg, u.src.set); err != nil {
		return usageError{"postern config describe", err}
	}
	if u.cfg.Domain != u.domain {
		return usageError{"postern init", fmt.Errorf("the domain is given twice: as an argument and with --set")}
	}
	if err := u.cfg.Check(); err != nil {
		return hint(err, "To see what can be set: postern config describe")
	}
	u.fresh = true
	return nil
}

// keys makes the data directory with the keys, or finds them, and gives the records.
func (u *setUp) keys(ctx context.Context, io streams) (z relay.Zone, err error) {
	err = control.Call(ctx, u.cfg.Dir, "dns", relay.ZoneArgs{}, &z, nil)
	if errs.KindOf(err) != errs.NotFound {
		u.kept = append(u.kept, u.cfg.Dir)
		return z, err
	}
	s, made, err := relay.Init(ctx, keyDeps(io, u.cfg), u.cfg)
	if err != nil {
		return z, startError(err)
	}
	if made {
		u.made = append(u.made, u.cfg.Dir)
	} else {
		u.kept = append(u.kept, u.cfg.Dir)
	}
	z, err = s.Zone(ctx, false)
	return z, firstOf(err, s.Close(), giveBack(u.cfg.Dir))
}

// next are the commands to type next.
func (u *setUp) next() []string {
	with := ""
	if u.file != systemConfig || os.Geteuid() != 0 {
		with = " --config " + u.src.file
	}
	start := "postern serve" + with
	if u.unit != "" {
		start = enable("systemctl", u.unit)
	}
	return []string{start, "postern dns" + with, "postern doctor" + with}
}

func (u *setUp) print(io streams, z relay.Zone) error {
	var b strings.Builder
	b.WriteString(u.told(func(name string) string {
		if name == u.cfg.Dir {
			return "node key, signing keys, stored mail"
		}
		return ""
	}))
	for _, n := range u.notes {
		fmt.Fprintf(&b, "\nNote: %s\n", n)
	}
	if z.Note == "" {
		fmt.Fprintf(&b, "\nPut these records into the DNS of %s:\n\n", z.Domain)
		b.WriteString(z.File())
	} else {
		fmt.Fprintf(&b, "\nThere are no records to make: %s.\n", z.Note)
	}
	b.WriteString(nextSteps(u.next(), "runs the relay", "looks whether the records are there", "looks at the running relay as strangers do"))
	_, err := fmt.Fprint(io.out, b.String())
	return err
}

// unitText is the unit of this program with this configuration.
func (u *setUp) unitText() (string, error) {
	if u.cfg.Dir != systemDir {
		return "", hint(errs.E("cmd.init", errs.Invalid, "under systemd the data lies in "+systemDir+", and the configuration says "+u.cfg.Dir, nil), "Leave --dir out, or set dir to "+systemDir+".")
	}
	exe, err := ownProgram(u.file)
	if err != nil {
		return "", err
	}
	return unitFor(exe, u.file)
}

// unitFor puts the paths into the unit.
func unitFor(exe, file string) (string, error) {
	return startLine(deploy.Unit, "serve", systemConfig, exe, file)
}

// choices are what the operator of a relay must think of.
var choices = []choice{
	{"tls.acme_email", "Where the certificate authority may write to you.", `"you@example.net"`},
	{"tls.cert", "Your own certificate in place of one from the authority: the file with the whole chain, and its key.", `"/etc/postern/fullchain.pem"`},
	{"tls.key", "", `"/etc/postern/privkey.pem"`},
	{"network.resolver", "The DNS server to ask: best one on this machine that validates DNSSEC, such as unbound. Without it, that of the system.", `"127.0.0.1:53"`},
	{"network.addresses", "The addresses under which others reach this machine, if it is behind address translation.", `["198.51.100.7"]`},
	{"metadata.admin", "Your contact: apps and the web page show it, and reports on TLS go there. It must take unencrypted mail.", `"mailto:you@example.net"`},
	{"node_key.file", "What opens names and keys on the disk. On another disk, one that is seized shows nothing.", `"/media/key/node.key"`},
	{"mixnet.enabled", "Be the two ends of ways through a mix network (docs/mix-relay.md); the network file comes from those who run its authorities, and the name is yours to choose.", `true`},
	{"mixnet.network", "", `"/etc/postern/network"`},
	{"mixnet.nickname", "", `"myrelay"`},
	{"delivery.routes", "Ways to single domains in place of what the DNS says.", `["example.net host=10.0.0.7 smtp=2525"]`},
}

// configText is a fresh file: what was decided, and what must be thought of.
func configText(c *relay.Config, set []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# A Postern relay for %s, written by postern init.\n# What stands behind # is not set. All options with their defaults: postern config describe\n", c.Domain)
	fmt.Fprintf(&b, "\n%s\n%s\n", assignment(c, "domain"), assignment(c, "dir"))
	if _, err := netip.ParseAddr(c.Domain); err == nil {
		b.WriteString("# Addresses end in @" + "[" + c.Domain + "].\n")
	}
	return b.String() + sections(c, choices, set)
}
