package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/logs"
	"postern.email/lab"
	"postern.email/lab/world"
)

// labStopTime bounds the stop of a whole lab.
const labStopTime = 40 * time.Second

func labCommand(io streams) *cobra.Command {
	var cfg lab.Config
	var ports string
	c := &cobra.Command{
		Use: "lab", Short: "Try all of it: a whole mix network with relays, proxies and mail hosts on this machine", GroupID: groupRun, Args: cobra.NoArgs,
		Long: `Run a whole world on this machine: three directory authorities, six mixes, two relays,
two mail proxies with an account each, and a small Internet with names and an ordinary
mail host. Each is a process of its own, and they talk through sockets on 127.0.0.1, as
they would between machines. No root and no Internet is needed.

It is ready within about a minute and prints how to log in. The same directory continues
where it was. Ctrl-C stops everything.

A real network is slow on purpose: a mail waits in each mix. --speed divides all mean
delays and intervals; 1 is as slow as a real network. Epochs are short in any case.`,
		Example: "  postern lab\n  postern lab --ports 0 --dir /tmp/lab --json\n  postern lab --speed 1\n  postern lab --kill --loss 10",
	}
	f := c.Flags()
	f.StringVar(&cfg.Dir, "dir", "", "data directory (default postern/lab in $XDG_DATA_HOME, that is ~/.local/share)")
	f.StringVar(&ports, "ports", "", "0: a new lab takes free ports in place of the usual ones")
	f.IntVar(&cfg.Speed, "speed", lab.DefaultSpeed, fmt.Sprintf("divide delays and intervals by this `number`, 1 to %d", lab.MaxSpeed))
	f.StringVar(&cfg.Profile, "profile", "low", "cover traffic: low, or full with ten times as much")
	f.DurationVar(&cfg.Period, "period", lab.DefaultPeriod, "length of an epoch of a new lab")
	f.IntVar(&cfg.Proxies, "proxies", lab.DefaultProxies, fmt.Sprintf("`number` of proxies of a new lab, up to %d", lab.MaxProxies))
	f.BoolVar(&cfg.Kill, "kill", false, "kill parts at random, and start them again, all the time")
	f.IntVar(&cfg.Loss, "loss", 0, fmt.Sprintf("lose this `percentage` of all packets on their way through the mixes, up to %d", lab.MaxLoss))
	f.BoolVar(&cfg.Tor, "tor", false, "lead the road from the proxies to their relays through a private Tor network (needs Debian's tor)")
	js := f.Bool("json", false, "print one line of JSON with every address, account and password when all is ready")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if ports != "" && ports != "0" {
			return usageError{c.CommandPath(), fmt.Errorf("--ports takes 0 only")}
		}
		// For the lab 0 means the default, and the last two are asked for only where they are named.
		for name, zero := range map[string]bool{"speed": cfg.Speed == 0, "proxies": cfg.Proxies == 0, "period": cfg.Period == 0} {
			if zero {
				return usageError{c.CommandPath(), fmt.Errorf("--%s cannot be 0", name)}
			}
		}
		if !f.Changed("period") {
			cfg.Period = 0
		}
		if !f.Changed("proxies") {
			cfg.Proxies = 0
		}
		cfg.FreePorts = ports == "0"
		if cfg.Dir == "" {
			cfg.Dir = filepath.Join(filepath.Dir(upDir()), "lab")
		}
		var err error
		if cfg.Program, err = executable(); err != nil {
			return err
		}
		if err := daemon.Harden(); err != nil {
			return err
		}
		ctx, _, stopSignals := watchSignals(c.Context())
		defer stopSignals()
		l, err := lab.Start(ctx, cfg, func(text string) { fmt.Fprintln(io.err, text) })
		if err != nil {
			switch errs.KindOf(err) {
			case errs.Exists:
				return hint(err, "To run another lab beside it: postern lab --ports 0 --dir DIR")
			case errs.Invalid:
				return usageError{c.CommandPath(), err}
			case errs.Denied, errs.Canceled:
				return err
			}
			return hint(err, "What every part says is in the directory logs of "+cfg.Dir)
		}
		if *js {
			err = printJSON(io.out, l.Info())
		} else {
			err = greetLab(io, l.Info())
		}
		if err != nil {
			return firstOf(err, closeWithin(l, labStopTime))
		}
		select {
		case err = <-l.Broken():
			err = hint(err, "The lab is stopped. What every part says is in "+filepath.Join(l.Info().Dir, "logs"))
		case <-ctx.Done():
		}
		return firstOf(err, closeWithin(l, labStopTime))
	}
	c.AddCommand(labWorldCommand(io))
	return c
}

// greetLab prints how to use the lab.
func greetLab(io streams, i lab.Info) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nThe lab runs: %d authorities, %d mixes, %d relays, speed %d. Everything is kept in %s\n\n", len(i.Authorities), len(i.Mixes), len(i.Relays), i.Speed, i.Dir)
	if len(i.Proxies) > 0 {
		b.WriteString("Mail proxies, for any mail program on this machine (no TLS: it stays on 127.0.0.1).\nWhat they send goes through the mixes:\n")
		for _, p := range i.Proxies {
			fmt.Fprintf(&b, "  %s   password %s\n    SMTP %s   POP3 %s   IMAP %s\n", p.Account, p.Password, p.SMTP, p.POP3, p.IMAP)
			if p.Page != "" {
				fmt.Fprintf(&b, "    how it stands: %s\n", p.Page)
			}
		}
	}
	fmt.Fprintf(&b, "\nOrdinary users of the relays (TLS; mail between them has to be end-to-end encrypted).\nThe certificate authority is %s:\n", i.CA)
	for _, r := range i.Relays {
		fmt.Fprintf(&b, "  %s   password %s\n    IMAP %s   SMTP %s   POP3 %s   web https://%s/\n", r.Account, r.Password, r.IMAPS, r.Submissions, r.POP3S, r.HTTPS)
	}
	w := i.World
	fmt.Fprintf(&b, "\nSomebody elsewhere, at an ordinary mail host (no TLS):\n  %s   password %s\n    SMTP %s   POP3 %s\n", w.Account, w.Password, w.Submission, w.POP3)
	if i.Page != "" {
		fmt.Fprintf(&b, "\nWatch it: %s\n", i.Page)
	}
	b.WriteString("Ctrl-C stops it.\n")
	_, err := fmt.Fprint(io.out, b.String())
	return err
}

// labWorldCommand runs what stands for the Internet in a lab.
func labWorldCommand(io streams) *cobra.Command {
	var file string
	c := &cobra.Command{Use: "world", Short: "Run the small Internet of a lab", Hidden: true, Args: cobra.NoArgs, Example: "  postern lab world --config world.json"}
	c.Flags().StringVar(&file, "config", "", "what it is told, as postern lab writes it")
	js := c.Flags().Bool("json", false, "print one line of JSON when every door is open")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if file == "" {
			return usageError{c.CommandPath(), fmt.Errorf("--config is needed")}
		}
		if err := daemon.Harden(); err != nil {
			return err
		}
		cfg, err := world.Load(file)
		if err != nil {
			return err
		}
		ctx, _, stopSignals := watchSignals(c.Context())
		defer stopSignals()
		w, err := world.Start(cfg, logs.New(io.err, logs.Options{}))
		if err != nil {
			return err
		}
		if *js {
			if err := printJSON(io.out, map[string]any{"ready": true, "domain": cfg.Domain}); err != nil {
				return firstOf(err, w.Close())
			}
		}
		select {
		case err = <-w.Broken():
		case <-ctx.Done():
		}
		return firstOf(err, closeWithin(w, stopTime))
	}
	return c
}
