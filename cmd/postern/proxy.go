package main

import (
	"context"
	"fmt"
	stdio "io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"postern.email/kit/config"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/packet"
	"postern.email/role/proxy"
	"postern.email/role/relay"
	"postern.email/wire/control"
)

// proxySource is where the configuration of a mail proxy comes from.
type proxySource struct {
	file string
	dir  string
	set  []string
}

func (s *proxySource) flags(c *cobra.Command) {
	c.Flags().StringVarP(&s.file, "config", "f", "", "configuration `file` (default postern/mailproxy.toml in $XDG_CONFIG_HOME, that is ~/.config)")
	c.Flags().StringVar(&s.dir, "dir", "", "data `directory` (Proxy.DataDir)")
	c.Flags().StringArrayVar(&s.set, "set", nil, "override an option, Section.Key=`value`; may be repeated")
}

// find gives the file to read where none was named.
func (s *proxySource) find() error {
	if s.file == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return usageError{"postern proxy", fmt.Errorf("the home directory is not known; name the configuration: -f FILE")}
		}
		s.file = filepath.Join(base, "postern", "mailproxy.toml")
	}
	return absolute(&s.file)
}

// usual tells whether the file is the one that is read where none is named.
func (s *proxySource) usual() bool {
	var u proxySource
	return u.find() == nil && u.file == s.file
}

// check looks at what the command line sets, before any file.
func (s *proxySource) check() error {
	var c proxy.Config
	config.Defaults(&c)
	if err := config.Apply(&c, s.set); err != nil {
		return usageError{"postern proxy config", err}
	}
	return s.find()
}

// load reads the configuration.
func (s *proxySource) load() (proxy.Config, error) {
	if err := s.check(); err != nil {
		return proxy.Config{}, err
	}
	set := s.set
	if s.dir != "" {
		if err := absolute(&s.dir); err != nil {
			return proxy.Config{}, err
		}
		set = append(slices.Clone(set), "Proxy.DataDir="+s.dir)
	}
	c, err := proxy.Load(s.file, set)
	if err != nil && errs.KindOf(err) == errs.NotFound {
		return c, hint(err, "To make one: postern proxy init ADDRESS --relay URL\n  or name another: -f FILE")
	}
	return c, hint(err, "To see what can be set: postern proxy config")
}

// call asks the running proxy.
func (s *proxySource) call(ctx context.Context, command string, args, result any) error {
	c, err := s.load()
	if err != nil {
		return err
	}
	return s.ask(ctx, c, command, args, result)
}

func (s *proxySource) ask(ctx context.Context, c proxy.Config, command string, args, result any) error {
	err := control.Call(ctx, c.Proxy.DataDir, command, args, result, nil)
	if err != nil && errs.KindOf(err) == errs.NotFound && !proxyRuns(ctx, c) {
		return hint(errs.E("cmd.proxy", errs.NotFound, "no proxy runs with the data in "+c.Proxy.DataDir, err), "To start one: postern proxy -f "+s.file)
	}
	return err
}

// proxyRuns tells whether a proxy answers.
func proxyRuns(ctx context.Context, c proxy.Config) bool {
	return control.Call(ctx, c.Proxy.DataDir, "status", nil, nil, nil) == nil
}

// proxyDeps are the surroundings of the program.
func proxyDeps() proxy.Deps {
	return proxy.Deps{Version: relay.Version, Careless: careless()}
}

func proxyCommand(io streams) *cobra.Command {
	var src proxySource
	var generate, register bool
	var passwordFile, invite string
	c := &cobra.Command{Use: "proxy", Short: "Run a mail proxy: ordinary mail programs, over the mix network", GroupID: groupProxy, Args: cobra.NoArgs,
		Long: `Run a mail proxy on your own machine. Mail programs hand in mail by SMTP and read it by
POP3 or IMAP; it travels through the mix network, so that nobody sees who writes to whom.

  postern proxy init you@relay.example     # keys, configuration, registration
  postern proxy

It stays in the foreground, and logs to standard output unless the file says otherwise.
SIGHUP has it read the directory of recipients' keys again; all other signals stop it
cleanly. The configuration is mailproxy's, with some options more; called as mailproxy
(a link to this program) it takes -f, -g and -r directly.`,
		Example: "  postern proxy\n  postern proxy -f mailproxy.toml --json\n  postern proxy -f mailproxy.toml -r"}
	src.flags(c)
	c.Flags().BoolVarP(&generate, "generate", "g", false, "make the keys that are missing, and end")
	c.Flags().BoolVarP(&register, "register", "r", false, "register the accounts of the file that are not registered with their relays, and end")
	c.Flags().StringVar(&passwordFile, "password-file", "", "with -r: `file` whose first line is the password at the relay")
	c.Flags().StringVar(&invite, "invite", "", "with -r: what the relay gave out, if it takes proxies by invitation only")
	js := c.Flags().Bool("json", false, "print one line of JSON on standard output when it is ready; the log goes to standard error")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := src.load()
		if err != nil {
			return err
		}
		switch {
		case generate && register:
			return usageError{"postern proxy", fmt.Errorf("-g and -r exclude each other")}
		case generate || cfg.Debug.GenerateOnly && !register:
			return proxyGenerate(c.Context(), io, cfg, *js)
		case register:
			return proxyRegister(c.Context(), io, cfg, passwordFile, invite, *js)
		}
		return runProxy(c.Context(), io, cfg, *js)
	}
	c.AddCommand(proxyInitCommand(io), proxyStatusCommand(io), proxyPasswdCommand(io), proxyRecipientsCommand(io), proxyVerifyCommand(io), proxyEvidenceCommand(io), proxyNymsCommand(io), proxyStopCommand(io), proxyConfigCommand(io))
	return c
}

func proxyGenerate(ctx context.Context, io streams, cfg proxy.Config, js bool) error {
	keys, err := proxy.Generate(ctx, proxyDeps(), cfg)
	if err != nil {
		return err
	}
	if js {
		out := map[string]string{}
		for a, k := range keys {
			out[a] = k.String()
		}
		return printJSON(io.out, map[string]any{"dir": cfg.Proxy.DataDir, "link_keys": out})
	}
	for _, a := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(io.out, "%s\n  link key %s\n", a, keys[a])
	}
	fmt.Fprintf(io.out, "The keys are in %s\n", cfg.Proxy.DataDir)
	return nil
}

func proxyRegister(ctx context.Context, io streams, cfg proxy.Config, passwordFile, invite string, js bool) error {
	accounts, err := cfg.Accounts()
	if err != nil {
		return err
	}
	if len(accounts) == 0 {
		return hint(errs.E("cmd.proxy.register", errs.Invalid, "the configuration has no account", nil), "To add one: postern proxy init ADDRESS --relay URL")
	}
	done := []proxy.Registration{}
	for _, a := range accounts {
		if proxy.Registered(proxyDeps(), cfg, a) {
			continue
		}
		password, err := relayPassword(io, a.Address.String(), passwordFile)
		if err != nil {
			return err
		}
		r, err := proxy.Register(ctx, proxyDeps(), cfg, a, string(password), invite)
		if err != nil {
			return registerHint(err)
		}
		done = append(done, r)
		if !js {
			fmt.Fprintf(io.out, "Registered %s with a relay of the network %s.\n", r.Address, r.Network)
			if a.Pin == (packet.ID{}) {
				fmt.Fprintf(io.out, "  So that the proxy connects to no other: ProviderKeyPin = %q\n", r.Relay)
			}
		}
	}
	if js {
		return printJSON(io.out, map[string]any{"registered": done})
	}
	if len(done) == 0 {
		fmt.Fprintln(io.out, "All accounts are registered.")
	}
	return nil
}

// relayPassword reads the password of an account at its relay.
func relayPassword(io streams, address, file string) ([]byte, error) {
	return secretOf(io, "Password of "+address+" at its relay: ", file, false)
}

// firstLine reads the first line of a file.
func firstLine(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, errs.E("cmd.firstLine", errs.NotFound, "cannot read "+name+", whose first line is to be the password or secret", err)
	}
	defer f.Close()
	b, err := readLine(f)
	if err != nil {
		return nil, errs.E("cmd.firstLine", errs.Invalid, "the first line of "+name+" is to be the password or secret, and it is empty", err)
	}
	return b, nil
}

// runProxy runs until a signal or a command stops it.
func runProxy(ctx context.Context, io streams, cfg proxy.Config, js bool) error {
	if err := daemon.Harden(); err != nil {
		return err
	}
	if err := vfs.MkdirAll(vfs.OS(), cfg.Proxy.DataDir, 0o700); err != nil {
		return errs.E("cmd.proxy", errs.KindOf(err), "cannot make the directory "+cfg.Proxy.DataDir, err)
	}
	usual := stdio.Writer(io.out)
	if js {
		usual = io.err
	}
	logger, book, err := proxy.Logger(cfg, usual)
	if err != nil {
		return err
	}
	defer book.Close()
	for _, w := range cfg.Warnings() {
		logger.Warn(w)
		if cfg.Logging.File != "" || cfg.Logging.Disable {
			fmt.Fprintln(io.err, w)
		}
	}
	ctx, hup, stopSignals := watchSignals(ctx)
	defer stopSignals()
	d := proxyDeps()
	d.Logger = logger
	s, err := proxy.Start(ctx, d, cfg)
	if err != nil {
		return proxyStartError(err)
	}
	info := s.Info()
	logger.Log(ctx, proxy.LevelNotice, "ready", "smtp", info.SMTP != "", "pop3", info.POP3 != "", "imap", info.IMAP != "", "accounts", len(info.Accounts), "version", relay.Version)
	if js {
		if err := printJSON(io.out, info); err != nil {
			s.Close()
			return err
		}
	}
	notify := notifier(logger)
	notify("READY=1")
	for {
		select {
		case <-hup:
			notify("RELOADING=1")
			if _, err := s.Rescan(); err != nil {
				logger.Error("the keys of recipients cannot be read again; the old ones stay", "err", err)
			}
			notify("READY=1")
		case err := <-s.Broken():
			notify("STOPPING=1")
			s.Close()
			return hint(err, "Everything that was acknowledged is on the disk. Look at the log, then start again.")
		case <-s.Asked():
			notify("STOPPING=1")
			return closeWithin(s, stopTime)
		case <-ctx.Done():
			notify("STOPPING=1")
			return closeWithin(s, stopTime)
		}
	}
}

// proxyStartError adds what to do next.
func proxyStartError(err error) error {
	switch errs.KindOf(err) {
	case errs.Exists:
		return hint(err, "To look at what runs: postern proxy status")
	case errs.Auth:
		return hint(err, "Nothing was changed. Give the right key: Proxy.KeyFile in the configuration")
	}
	return err
}
