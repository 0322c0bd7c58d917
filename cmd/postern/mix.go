package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern.email/kit/config"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/role/mix"
	"postern.email/role/relay"
	"postern.email/wire/control"
)

// mixConfigs are the places where the configuration of a node is looked for, in this order:
// the four of mixminiond(8), then our own. The first two, and the fifth, are in the home directory.
var mixConfigs = []string{"~/mixminiond.conf", "~/etc/mixminiond.conf", "/etc/mixminiond.conf", "/etc/mixminion/mixminiond.conf",
	"~/.config/postern/mix.toml", systemMixConfig}

// systemMixConfig is the configuration of the node that belongs to the machine.
const systemMixConfig = "/etc/postern/mix.toml"

// deprecatedMix are the names that commands had before mixminiond was a program of its own.
const deprecatedMix = "server-"

func mixCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "mix", Short: "Run a node of the mix network; send and fetch through it", GroupID: groupMix,
		Long: `Run a node of the mix network, and use the network by hand.

  postern mix init NICKNAME --network FILE    # configuration, keys, unit
  postern mix start

The commands and options are those of mixminiond(8): called as mixminiond or mixminion
(a link to this program) it takes them directly, "mixminiond start -f FILE". Its
configuration file is read as it is; postern import mixminiond FILE rewrites it and says
what becomes of each option.

Without -f the configuration is looked for in
  ` + strings.Join(mixConfigs, "\n  ")}
	for _, sub := range mixCommands(io) {
		c.AddCommand(sub)
	}
	return c
}

// mixCommands are the commands of a node, and those of people who use the network by hand.
func mixCommands(io streams) []*cobra.Command {
	all := []*cobra.Command{mixInitCommand(io), mixStartCommand(io), mixStopCommand(io), mixReloadCommand(io), mixRepublishCommand(io), mixDelkeysCommand(io),
		mixStatsCommand(io), mixQueueCommand(io), mixStatusCommand(io), mixUpgradeCommand(io), mixConfigCommand(io), mixSimulateCommand(io)}
	return append(all, mixClientCommands(io)...)
}

// mixNames are the names by which this program is mixminiond.
var mixNames = []string{"mixminiond", "mixminion"}

// namedArgs are the words of a command line with the name of the program: as mixminiond or
// mixminion it has the commands of postern mix, as mailproxy those of postern proxy, as incognitomail its own.
func namedArgs(args []string) []string {
	if filepath.Base(args[0]) == "mailproxy" {
		return append([]string{"proxy"}, args[1:]...)
	}
	if filepath.Base(args[0]) == incognitoName {
		return append([]string{incognitoName}, args[1:]...)
	}
	if slices.Contains(mixNames, filepath.Base(args[0])) {
		return append([]string{"mix"}, args[1:]...)
	}
	return args[1:]
}

// mixArgs gives the words of a command line in our form: DELKEYS in any case; the deprecated
// server-start; and --h, --Q and --f, which the manual of mixminiond writes with two hyphens.
// obsolete is the deprecated name that was used, if any.
func mixArgs(args []string) (out []string, obsolete string) {
	if len(args) < 2 || args[0] != "mix" {
		return args, ""
	}
	args = slices.Clone(args)
	if strings.EqualFold(args[1], "delkeys") || strings.EqualFold(args[1], deprecatedMix+"delkeys") {
		args[1] = strings.ToLower(args[1])
	}
	if rest, ok := strings.CutPrefix(args[1], deprecatedMix); ok && slices.Contains(mixminiondCommands, rest) {
		args[1], obsolete = rest, deprecatedMix+rest
	}
	for i, a := range args[2:] {
		switch a {
		case "--":
			return args, obsolete
		case "--h", "--Q", "--f":
			args[2+i] = a[1:]
		}
	}
	return args, obsolete
}

// mixminiondCommands are those of mixminiond(8).
var mixminiondCommands = []string{"start", "stop", "reload", "republish", "delkeys", "stats", "upgrade"}

// mixSource is where a command's configuration of a node comes from.
type mixSource struct {
	file string
	dir  string
	set  []string
}

func (s *mixSource) flags(c *cobra.Command) {
	c.Flags().StringVarP(&s.file, "config", "f", "", "configuration `file`, ours or a mixminiond.conf (default: the first that there is, see postern mix --help)")
	c.Flags().StringVar(&s.dir, "dir", "", "the node's `directory` (server.base_dir, BaseDir)")
	c.Flags().StringArrayVar(&s.set, "set", nil, "override an option, section.key=`value`; may be repeated")
}

// command makes c one on a node that a configuration describes.
func (s *mixSource) command(c *cobra.Command, do func(*mixLoaded) error) {
	s.flags(c)
	c.RunE = func(*cobra.Command, []string) error {
		l, err := s.load()
		if err != nil {
			return err
		}
		return do(&l)
	}
}

// find names the configuration file: that of -f, else the first of mixConfigs that there is.
func (s *mixSource) find() (string, error) {
	if s.file != "" {
		return s.file, nil
	}
	home, _ := os.UserHomeDir()
	for _, name := range mixConfigs {
		if rest, ok := strings.CutPrefix(name, "~/"); ok {
			if home == "" {
				continue
			}
			name = filepath.Join(home, rest)
		}
		if exists(name) {
			return name, nil
		}
	}
	return "", hint(errs.E("cmd.mix", errs.NotFound, "there is no configuration of a node in "+strings.Join(mixConfigs, ", "), nil),
		"To make one: postern mix init NICKNAME --network FILE. To name one: -f FILE")
}

// mixLoaded is a configuration that was read.
type mixLoaded struct {
	mix.Config
	file  string
	notes []string // what of a mixminiond.conf has no effect, and why
}

// load reads the configuration that was named or found.
func (s *mixSource) load() (l mixLoaded, err error) {
	defaults := mix.Config{}
	config.Defaults(&defaults)
	if err := config.Apply(&defaults, s.set); err != nil {
		return l, usageError{"postern mix config", err}
	}
	if l.file, err = s.find(); err != nil {
		return l, err
	}
	text, err := config.ReadFile(l.file)
	if err != nil {
		return l, err
	}
	if mix.IsConf(text) {
		err = l.conf(text)
	} else {
		err = config.LoadText(&l.Config, l.file, text, nil)
	}
	if err == nil && s.dir != "" {
		l.Server.BaseDir = s.dir
	}
	if err == nil {
		err = config.Apply(&l.Config, s.set)
	}
	if err == nil {
		l.Server.BaseDir, err = filepath.Abs(l.Server.BaseDir)
	}
	l.Host.FileParanoia = l.Host.FileParanoia && !careless()
	if err == nil {
		err = l.Check()
	}
	var before hinted
	if asHint(err, &before) {
		return l, err
	}
	return l, hint(err, "To see what can be set: postern mix config")
}

// conf takes the options of a mixminiond.conf.
func (l *mixLoaded) conf(text []byte) error {
	i, err := mix.ImportConf(l.file, text)
	if err != nil {
		return err
	}
	if refused := i.Refused(); len(refused) > 0 {
		var lines []string
		for _, o := range refused {
			lines = append(lines, fmt.Sprintf("%s:%d: %s", l.file, o.Line, o))
		}
		return hint(errs.E("cmd.mix", errs.Unsupported, strings.Join(lines, "\n"), nil), "To see what becomes of each option: postern import mixminiond "+l.file)
	}
	l.Config = i.Config
	for _, o := range i.Options {
		if o.Verdict == mix.Replaced {
			l.notes = append(l.notes, fmt.Sprintf("%s:%d: %s", l.file, o.Line, o))
		}
	}
	return nil
}

// call asks the running node; its absence is an error that says what to type.
func (l *mixLoaded) call(ctx context.Context, command string, result any, progress func(json.RawMessage)) error {
	err := control.Call(ctx, l.Server.BaseDir, command, nil, result, progress)
	if errs.KindOf(err) == errs.NotFound {
		return l.notRunning(err)
	}
	return err
}

func (l *mixLoaded) notRunning(err error) error {
	return hint(errs.E("cmd.mix", errs.NotFound, "no node is running in "+l.Server.BaseDir, err), "To start it: postern mix start -f "+l.file)
}

// deps are what a node takes from this process.
func mixDeps(io streams, l *mixLoaded) mix.Deps {
	return mix.Deps{Version: relay.Version, Passphrase: mixPassphrase(io, l.Config)}
}

// mixCredential is the name of the systemd credential that holds the passphrase.
const mixCredential = "postern-mix-passphrase"

// mixPassphrase gives the passphrase of a node: from its file, from systemd, or from who sits
// at the terminal.
func mixPassphrase(io streams, c mix.Config) func(fresh bool) ([]byte, error) {
	return func(fresh bool) ([]byte, error) {
		file := c.Keys.PassphraseFile
		if dir := os.Getenv("CREDENTIALS_DIRECTORY"); file == "" && dir != "" && exists(filepath.Join(dir, mixCredential)) {
			file = filepath.Join(dir, mixCredential)
		}
		if file == "" {
			return passphraseOf(io, "identity")(fresh)
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(c.Server.BaseDir, file)
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, errs.E("cmd.passphrase", errs.Auth, "cannot read the passphrase in "+file, err)
		}
		defer f.Close()
		b, err := readLine(f)
		if err != nil {
			return nil, errs.E("cmd.passphrase", errs.Invalid, "there is no passphrase in "+file, err)
		}
		return b, nil
	}
}

// mixStartError adds what to do next.
func mixStartError(err error, l *mixLoaded) error {
	with := ""
	if l.file != "" {
		with = " -f " + l.file
	}
	if mix.NeedsUpgrade(err) {
		return hint(err, "To bring it to the present format: postern mix upgrade"+with)
	}
	switch errs.KindOf(err) {
	case errs.Exists:
		return hint(err, "To look at what runs: postern mix status"+with+". To stop it: postern mix stop"+with)
	case errs.NotFound:
		if !exists(l.NetworkFile()) {
			return hint(err, "Whoever runs an authority of the network gives it out; put it there, or name it: --set network=FILE")
		}
	case errs.Auth:
		return hint(err, "Nothing was changed.")
	case errs.NoSpace:
		return hint(err, "Nothing that waits is lost. Make room on the disk and start again.")
	}
	return err
}

// holder gives the process that runs a node. errs.NotFound with what to type when there is none.
func (l *mixLoaded) holder() (int, error) {
	pid, err := daemon.PidOf(l.PidFile())
	if errs.KindOf(err) == errs.NotFound {
		return 0, l.notRunning(err)
	}
	return pid, err
}
