package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"postern.email/deploy"
	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/role/mix"
)

// Where things of a node lie on a machine of its own.
const (
	mixSystemDir  = "/var/lib/postern-mix"
	mixSystemUnit = "/etc/systemd/system/postern-mix.service"
)

// mixSetUp is one run of mix init.
type mixSetUp struct {
	src     mixSource
	nick    string
	network string // the network file that was named; empty: none
	file    string // of the configuration, absolute
	unit    string // of systemd; empty: none

	cfg   mix.Config
	fresh bool // the configuration is made by this run
	info  mix.Info
	notes []string
	making
}

func mixInitCommand(io streams) *cobra.Command {
	u := &mixSetUp{}
	var addresses []string
	var contact string
	c := &cobra.Command{Use: "init NICKNAME", Short: "Set up a node: configuration, keys, unit", Args: cobra.ExactArgs(1),
		Long: `Set up a node of the mix network: write its configuration and its keys, and say what to
do next. It may be run again: what is there stays as it is. When it fails, what it made
is removed.

The network file tells which network it is; whoever runs an authority gives it out.

For root the configuration is ` + systemMixConfig + ` and the data lies in
` + mixSystemDir + `; for others they are ~/.config/postern/mix.toml and
~/.local/share/postern/mix, or with --config elsewhere mix-data beside it. --set writes
further options into the file.`,
		Example: "  sudo postern mix init aurora --network net.txt --address mix.example.org:48099 --contact you@example.net --unit\n  postern mix init aurora --network net.txt --config ./mix.toml --set directory.publish=true"}
	u.src.flags(c)
	c.Flags().StringVar(&u.network, "network", "", "the network `file`")
	c.Flags().StringArrayVar(&addresses, "address", nil, "where others reach this node, `host:port` (incoming.addresses); up to four times")
	c.Flags().StringVar(&contact, "contact", "", "your mail `address`, for the operators of authorities (contact_email)")
	c.Flags().StringVar(&u.unit, "unit", "", "write a systemd unit too, to this `file`")
	c.Flags().Lookup("unit").NoOptDefVal = mixSystemUnit
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		u.nick = args[0]
		var set []string
		if len(addresses) > 0 {
			set = append(set, "incoming.addresses="+strings.Join(addresses, ","))
		}
		if contact != "" {
			set = append(set, "contact_email="+contact)
		}
		u.src.set = append(set, u.src.set...)
		if err := u.run(c.Context(), io); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, struct {
				Config string   `json:"config"`
				Node   mix.Info `json:"node"`
				Made   []string `json:"made,omitempty"`
				Kept   []string `json:"kept,omitempty"`
				Notes  []string `json:"notes,omitempty"`
				Next   []string `json:"next"`
			}{u.file, u.info, u.made, u.kept, u.notes, u.next()})
		}
		return u.print(io)
	}
	return c
}

// run makes what is not there.
func (u *mixSetUp) run(ctx context.Context, io streams) (err error) {
	defer func() {
		if err != nil {
			u.takeBack()
		}
	}()
	unit, err := decided(u.place, u.configuration, u.unit != "", u.unitText)
	if err != nil {
		return err
	}
	if u.fresh {
		if err := u.write(u.file, mixConfigText(&u.cfg, u.src.set)); err != nil {
			return err
		}
	}
	if err := u.writeOrKeep(u.unit, unit); err != nil {
		return err
	}
	return u.keys(ctx, io)
}

// place says where the configuration belongs.
func (u *mixSetUp) place() error {
	if u.file = u.src.file; u.file == "" && os.Geteuid() == 0 {
		u.file = systemMixConfig
	} else if u.file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return hint(errs.E("cmd.mix.init", errs.Invalid, "the home directory is not known", err), "Name the configuration: --config FILE")
		}
		u.file = filepath.Join(home, ".config", "postern", "mix.toml")
	}
	return absolute(&u.file)
}

// configuration reads the configuration that is there, or makes one in memory.
func (u *mixSetUp) configuration() error {
	const op = "cmd.mix.init"
	if exists(u.file) {
		src := u.src
		src.file = u.file
		l, err := src.load()
		if err != nil {
			return err
		}
		if l.Nickname != u.nick {
			return hint(errs.E(op, errs.Exists, u.file+" is the configuration of "+l.Nickname+"; nothing was changed", nil), "To set up another node, name another file: --config FILE")
		}
		u.cfg = l.Config
		u.kept = append(u.kept, u.file)
		if len(u.src.set) > 0 || u.src.dir != "" {
			u.notes = append(u.notes, u.file+" stays as it was: what --set, --address, --contact and --dir say is not in it. Write it there yourself.")
		}
		return nil
	}
	config.Defaults(&u.cfg)
	u.cfg.Nickname = u.nick
	switch {
	case u.src.dir != "":
		u.cfg.Server.BaseDir = u.src.dir
	case u.file == systemMixConfig:
		u.cfg.Server.BaseDir = mixSystemDir
	case u.src.file == "":
		u.cfg.Server.BaseDir = filepath.Join(filepath.Dir(upDir()), "mix")
	default:
		u.cfg.Server.BaseDir = filepath.Join(filepath.Dir(u.file), "mix-data")
	}
	if err := config.Apply(&u.cfg, u.src.set); err != nil {
		return usageError{"postern mix config", err}
	}
	if u.cfg.Nickname != u.nick {
		return usageError{"postern mix init", fmt.Errorf("the nickname is given twice: as an argument and with --set")}
	}
	if err := absolute(&u.cfg.Server.BaseDir); err != nil {
		return err
	}
	u.fresh = true
	return hint(u.cfg.Check(), "To see what can be set: postern mix config")
}

// keys makes the data directory with the keys, or finds it.
func (u *mixSetUp) keys(ctx context.Context, io streams) error {
	var text []byte
	if u.network != "" {
		b, err := config.ReadFile(u.network)
		if err != nil {
			return hint(errs.E("cmd.mix.init", errs.KindOf(err), "cannot read the network file "+u.network, err), "Whoever runs an authority of the network gives it out.")
		}
		text = b
	}
	before := exists(u.cfg.Server.BaseDir)
	l := mixLoaded{Config: u.cfg, file: u.file}
	d := mixDeps(io, &l)
	info, made, err := mix.Init(ctx, l.Config, d, text)
	if err == nil {
		err = giveBack(u.cfg.Server.BaseDir)
	}
	if err != nil {
		if !before {
			os.RemoveAll(u.cfg.Server.BaseDir)
		}
		if text == nil && !exists(u.cfg.NetworkFile()) {
			return hint(err, "Name the network file: --network FILE. Whoever runs an authority of the network gives it out.")
		}
		return mixStartError(err, &l)
	}
	u.info = info
	if made {
		u.made = append(u.made, u.cfg.Server.BaseDir)
	} else {
		u.kept = append(u.kept, u.cfg.Server.BaseDir)
	}
	return nil
}

// next are the commands to type next.
func (u *mixSetUp) next() []string {
	with := ""
	if u.src.file != "" {
		with = " -f " + u.src.file
	}
	start := "postern mix start" + with
	if u.unit != "" {
		start = enable("systemctl", u.unit)
	}
	all := []string{start, "postern mix status" + with}
	if !u.cfg.Directory.Publish {
		all = append(all, "postern mix reload"+with)
	}
	return append(all, "postern authority approve "+u.info.ID)
}

func (u *mixSetUp) print(io streams) error {
	var b strings.Builder
	b.WriteString(u.told(func(name string) string {
		if name == u.cfg.Server.BaseDir {
			return "keys, packets, directory"
		}
		return ""
	}))
	for _, n := range u.notes {
		fmt.Fprintf(&b, "\nNote: %s\n", n)
	}
	fmt.Fprintf(&b, "\nThe node %s has the fingerprint\n  %s\nIts identity key is the only thing that cannot be made again: keep a copy of\n  %s\n", u.info.Nickname, u.info.ID, u.cfg.IdentityFile())
	why := map[string]string{"start": "runs it", "status": "how it does", "reload": "once it runs well, and directory.publish = true: advertises it",
		"approve": "what the operators of the network's authorities type"}
	b.WriteString("\nNext:\n")
	for _, n := range u.next() {
		word := "start"
		for w := range why {
			if strings.Contains(n, w) {
				word = w
			}
		}
		fmt.Fprintf(&b, "  %s\n      # %s\n", n, why[word])
	}
	_, err := fmt.Fprint(io.out, b.String())
	return err
}

// unitText is the unit of this program with this configuration.
func (u *mixSetUp) unitText() (string, error) {
	if u.cfg.Server.BaseDir != mixSystemDir {
		return "", hint(errs.E("cmd.mix.init", errs.Invalid, "under systemd the data lies in "+mixSystemDir+", and the configuration says "+u.cfg.Server.BaseDir, nil),
			"Leave --dir out, or set server.base_dir to "+mixSystemDir+".")
	}
	exe, err := ownProgram(u.file)
	if err != nil {
		return "", err
	}
	return startLine(deploy.Mix(), "mix start --nodaemon --echo", systemMixConfig, exe, u.file)
}

// mixTop are options at the top of the file that an operator must think of.
var mixTop = []choice{
	{"mode", "What it does: mix, or any of relay, mailbox and exit.", `["mix"]`},
	{"contact_email", "Where the operators of authorities reach you. It stands in the descriptor, for everybody to see.", `"you@example.net"`},
	{"family", "The same name in all nodes of one operator, so that no packet passes through two of them.", `"your-name"`},
}

var mixChoices = []choice{
	{"incoming.addresses", "Under which addresses others reach it. Without this, the public ones of the machine.", `["mix.example.org:48099"]`},
	{"directory.publish", "Advertise it, once you know that it will stay up. Authorities let a new node wait until their operators approve it.", "true"},
	{"keys.encrypt", "Seal the identity key under a passphrase; passphrase_file, a systemd credential or the terminal give it.", "true"},
	{"server.daemon", "Go to the background on start.", "true"},
	{"server.max_bandwidth", "What it reads and writes in a second at most.", `"2M"`},
	{"log.level", "trace, debug, info, warn, error, fatal or never; trace and debug show addresses.", `"info"`},
	{"outgoing.deny", "Networks that it does not connect to.", `["10.0.0.0/8"]`},
}

// mixConfigText is a fresh file: what was decided, and what must be thought of.
func mixConfigText(c *mix.Config, set []string) string {
	given := map[string]bool{"nickname": true}
	for _, word := range set {
		key, _, _ := strings.Cut(word, "=")
		given[strings.TrimSpace(key)] = true
	}
	var b strings.Builder
	b.WriteString("# A node of a mix network, written by postern mix init.\n# What stands behind # is not set. All options with their defaults: postern mix config\n\n")
	b.WriteString(assignment(c, "nickname") + "\n")
	written := map[string]bool{"nickname": true}
	for _, x := range mixTop {
		written[x.key] = true
		fmt.Fprintf(&b, "# %s\n", x.why)
		if given[x.key] {
			b.WriteString(assignment(c, x.key) + "\n")
		} else {
			fmt.Fprintf(&b, "#%s = %s\n", x.key, x.example)
		}
	}
	for _, o := range config.Options(c) {
		if !strings.Contains(o.Key, ".") && given[o.Key] && !written[o.Key] {
			b.WriteString(assignment(c, o.Key) + "\n")
		}
	}
	return b.String() + sections(c, mixChoices, append([]string{"server.base_dir="}, set...))
}
