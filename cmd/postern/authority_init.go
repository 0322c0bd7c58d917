package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.email/deploy"
	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/role/authority"
)

// authoritySetUp is one run of authority init.
type authoritySetUp struct {
	src       authoritySource
	network   string
	period    time.Duration
	addresses []string
	file      string // of the configuration, absolute
	unit      string // of systemd; empty: none

	cfg   authority.Config
	fresh bool               // the configuration is made by this run
	own   *directory.Network // names this authority alone
	notes []string
	making
}

func authorityInit(io streams) *cobra.Command {
	u := &authoritySetUp{}
	c := &cobra.Command{Use: "init NETWORK --address HOST:PORT", Short: "Set up an authority: configuration, keys, network file", Args: cobra.ExactArgs(1),
		Long: `Set up an authority: write its configuration, its keys and a network file that names it,
and print that file. It may be run again: what is there stays as it is, and the file is
printed again. When it fails, what it made is removed.

With one authority the network is complete: all members use this network file. With
several, each operator runs this with the same name and period, and gives the others the
printed file; all of them join these files (postern authority network) and use the result.

For root the configuration is ` + authoritySystemConfig + `, the network file
` + authoritySystemNetwork + ` and the data lies in ` + authoritySystemDir + `;
for others, or with --config elsewhere, all lie beside the configuration.`,
		Example: "  sudo postern authority init example-net --address auth.example.org:48100 --unit\n  postern authority init test-net --address 127.0.0.1:48100 --period 1m --config ./authority.toml\n  postern authority init example-net --address auth.example.org:48100 --set identity.passphrase=ask"}
	u.src.flags(c)
	c.Flags().StringArrayVar(&u.addresses, "address", nil, "where others reach this authority, `host:port`; up to four times")
	c.Flags().DurationVar(&u.period, "period", directory.DefaultPeriod, "length of an epoch, whole seconds up to a day; the same for all members")
	c.Flags().StringVar(&u.unit, "unit", "", "write a systemd unit too, to this `file`")
	c.Flags().Lookup("unit").NoOptDefVal = authoritySystemUnit
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		u.network = args[0]
		if err := u.run(c.Context(), io); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, struct {
				Config  string   `json:"config"`
				Dir     string   `json:"dir"`
				Network string   `json:"network_file"`
				ID      string   `json:"authority"`
				Text    string   `json:"network"`
				Made    []string `json:"made,omitempty"`
				Kept    []string `json:"kept,omitempty"`
				Notes   []string `json:"notes,omitempty"`
				Next    []string `json:"next"`
			}{u.file, u.cfg.Dir, u.cfg.Network, u.id(), string(u.own.Bytes()), u.made, u.kept, u.notes, u.next()})
		}
		return u.print(io)
	}
	return c
}

// id is the fingerprint of this authority.
func (u *authoritySetUp) id() string { return fmt.Sprintf("%x", u.own.Contacts()[0].ID[:]) }

// run makes what is not there.
func (u *authoritySetUp) run(ctx context.Context, io streams) (err error) {
	defer func() {
		if err != nil {
			u.takeBack()
		}
	}()
	unit, err := decided(u.place, u.configuration, u.unit != "", u.unitText)
	if err != nil {
		return err
	}
	if err := u.again(); err != nil {
		return err
	}
	if u.fresh {
		if err := u.write(u.file, authorityConfigText(&u.cfg, u.src.set)); err != nil {
			return err
		}
	}
	if err := u.writeOrKeep(u.unit, unit); err != nil {
		return err
	}
	return u.keys(ctx, io)
}

// place says where the configuration belongs.
func (u *authoritySetUp) place() error {
	if u.src.file == "" {
		u.src.file = os.Getenv(authorityConfigEnv)
	}
	if u.src.file == "" {
		u.src.file = "authority.toml"
		if os.Geteuid() == 0 {
			u.src.file = authoritySystemConfig
		}
	}
	u.file = u.src.file
	return absolute(&u.file)
}

// configuration reads the configuration that is there, or makes one in memory.
func (u *authoritySetUp) configuration() (err error) {
	if exists(u.file) {
		if u.cfg, err = u.src.load(); err != nil {
			return err
		}
		u.kept = append(u.kept, u.file)
		if len(u.src.set) > 0 || u.src.dir != "" {
			u.notes = append(u.notes, u.src.file+" stays as it was: what --set and --dir say is not in it. Write it there yourself.")
		}
		return nil
	}
	config.Defaults(&u.cfg)
	if u.file != authoritySystemConfig {
		beside := filepath.Dir(u.file)
		u.cfg.Dir, u.cfg.Network = filepath.Join(beside, "postern-authority"), filepath.Join(beside, "network")
	}
	if u.src.dir != "" {
		u.cfg.Dir = u.src.dir
	}
	if err := config.Apply(&u.cfg, u.src.set); err != nil {
		return usageError{"postern authority config", err}
	}
	if err := u.cfg.Check(); err != nil {
		return hint(err, "To see what can be set: postern authority config")
	}
	u.fresh = true
	return absolute(&u.cfg.Dir, &u.cfg.Network)
}

// again takes what an earlier run was told from the network file that it made.
func (u *authoritySetUp) again() error {
	if !exists(u.cfg.Network) {
		if len(u.addresses) == 0 {
			return usageError{"postern authority init", fmt.Errorf("--address is needed: where others reach this authority, host:port")}
		}
		return nil
	}
	n, err := authority.LoadNetwork(vfs.OS(), u.cfg.Network)
	if err != nil {
		return err
	}
	if n.Name() != u.network {
		return hint(errs.E("cmd.authority", errs.Exists, u.cfg.Network+" is the file of another network, "+n.Name()+"; nothing was changed", nil),
			"To set up an authority of another network, name another configuration: --config FILE")
	}
	u.period = n.Period()
	return nil
}

// keys makes the keys, or finds them, and the network file.
func (u *authoritySetUp) keys(ctx context.Context, io streams) error {
	own, made, err := authority.Init(ctx, u.cfg, authorityDeps(io, u.cfg), u.network, u.period, u.addresses)
	if err != nil {
		return authorityStartError(err, &u.src)
	}
	u.own = own
	if made {
		u.made = append(u.made, u.cfg.Dir)
		u.undo = append(u.undo, func() { authority.Uninit(u.cfg, authority.Deps{}) })
	} else {
		u.kept = append(u.kept, u.cfg.Dir)
	}
	if err := giveBack(u.cfg.Dir); err != nil {
		return err
	}
	if !exists(u.cfg.Network) {
		return u.write(u.cfg.Network, string(own.Bytes()))
	}
	u.kept = append(u.kept, u.cfg.Network)
	n, err := authority.LoadNetwork(vfs.OS(), u.cfg.Network)
	if err != nil {
		return err
	}
	for _, c := range n.Contacts() {
		if c.ID == own.Contacts()[0].ID {
			return nil
		}
	}
	u.notes = append(u.notes, u.cfg.Network+" does not name this authority. Join the files of all of them: postern authority network FILE... --output "+u.cfg.Network)
	return nil
}

// unitText is the unit of this program with this configuration.
func (u *authoritySetUp) unitText() (string, error) {
	if u.cfg.Dir != authoritySystemDir {
		return "", hint(errs.E("cmd.authority", errs.Invalid, "under systemd the data lies in "+authoritySystemDir+", and the configuration says "+u.cfg.Dir, nil), "Leave --dir out, or set dir to "+authoritySystemDir+".")
	}
	if u.cfg.Identity.Passphrase == "ask" {
		return "", hint(errs.E("cmd.authority", errs.Invalid, "a service cannot ask for a passphrase", nil), "Set identity.passphrase to credential, or to none.")
	}
	exe, err := ownProgram(u.file)
	if err != nil {
		return "", err
	}
	return startLine(deploy.Authority(), "authority serve", authoritySystemConfig, exe, u.file)
}

// next are the commands to type next.
func (u *authoritySetUp) next() []string {
	with := u.src.again()
	start := "postern authority serve" + with
	if u.unit != "" {
		start = enable("systemctl", u.unit)
	}
	return []string{start, "postern authority status" + with, "postern authority list" + with}
}

func (u *authoritySetUp) print(io streams) error {
	var b strings.Builder
	b.WriteString(u.told(func(name string) string {
		switch name {
		case u.cfg.Dir:
			return "identity key, link key"
		case u.cfg.Network:
			return "network file: all members need the same one"
		}
		return ""
	}))
	for _, n := range u.notes {
		fmt.Fprintf(&b, "\nNote: %s\n", n)
	}
	fmt.Fprintf(&b, "\nThis authority's fingerprint: %s\n\nThe network file with this authority alone. If there are others, give it to them, and\njoin all of them with: postern authority network FILE... --output %s\n\n", u.id(), u.cfg.Network)
	b.Write(u.own.Bytes())
	b.WriteString(nextSteps(u.next(), "runs the authority", "how it does", "which nodes wait for a decision"))
	_, err := fmt.Fprint(io.out, b.String())
	return err
}

// authorityChoices are what the operator of an authority must think of.
var authorityChoices = []choice{
	{"listen.http", "A status page and the signed documents over plain HTTP.", `":8480"`},
	{"vote.profile", "Cover traffic: low for fewer than 1,000 users, full beyond. The consensus has the median of all authorities.", `"full"`},
	{"vote.parameters", "Single parameters in place of those of the profile.", `["delay=30000"]`},
	{"identity.passphrase", "A passphrase for the identity key: ask, or credential for a service under systemd.", `"credential"`},
}

// authorityConfigText is a fresh file: what was decided, and what must be thought of.
func authorityConfigText(c *authority.Config, set []string) string {
	return "# A directory authority, written by postern authority init.\n# What stands behind # is not set. All options with their defaults: postern authority config\n" +
		fmt.Sprintf("\n%s\n# Name and period of the network, its authorities: the same file for all members.\n%s\n", assignment(c, "dir"), assignment(c, "network")) +
		sections(c, authorityChoices, set)
}

func authorityNetwork(io streams) *cobra.Command {
	var output string
	c := &cobra.Command{Use: "network FILE...", Short: "Join what several authorities say of themselves into the network file", Args: cobra.MinimumNArgs(1),
		Long: `Join the network files that the authorities of one network made of themselves into the
one that all members use. More than half of the authorities in it must sign the list of
nodes. Check on another way that each file comes from the operator that it is of: who is
named here decides who the network is.

With one file it shows what is in it.`,
		Example: "  postern authority network a.network b.network c.network --output /etc/postern/network\n  postern authority network /etc/postern/network --json"}
	c.Flags().StringVar(&output, "output", "", "write the result to this `file`")
	js := asJSON(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		var parts []*directory.Network
		for _, name := range args {
			n, err := authority.LoadNetwork(vfs.OS(), name)
			if err != nil {
				return err
			}
			parts = append(parts, n)
		}
		n, err := directory.JoinNetworks(parts...)
		if err != nil {
			return err
		}
		if output != "" {
			if err := vfs.WriteFileAtomic(vfs.OS(), output, n.Bytes(), 0o644); err != nil {
				return errs.E("cmd.network", errs.KindOf(err), "cannot write "+output, err)
			}
		}
		v := networkView(n)
		switch {
		case *js:
			return printJSON(io.out, v)
		case output == "":
			_, err := io.out.Write(n.Bytes())
			return err
		}
		fmt.Fprintf(io.out, "Wrote %s: network %s, period %s, %d of %d authorities must sign:\n", output, v.Network, v.Period, v.Threshold, len(v.Authorities))
		for _, a := range v.Authorities {
			fmt.Fprintf(io.out, "  %s  %s\n", a.ID, strings.Join(a.Addresses, " "))
		}
		return nil
	}
	return c
}

// networkText is a network file as the command shows it.
type networkText struct {
	Network     string        `json:"network"`
	Period      string        `json:"period"`
	Threshold   int           `json:"threshold"`
	Authorities []contactText `json:"authorities"`
	Text        string        `json:"text"`
}

type contactText struct {
	ID        string   `json:"id"`
	LinkKey   string   `json:"link_key"`
	Addresses []string `json:"addresses"`
}

func networkView(n *directory.Network) networkText {
	v := networkText{Network: n.Name(), Period: n.Period().String(), Threshold: n.Threshold(), Text: string(n.Bytes())}
	for _, c := range n.Contacts() {
		v.Authorities = append(v.Authorities, contactText{fmt.Sprintf("%x", c.ID[:]), c.LinkKey.String(), c.Addresses})
	}
	return v
}
