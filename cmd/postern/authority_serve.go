package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/role/authority"
)

// authorityStopTime bounds a clean stop: links have half a minute to be told.
const authorityStopTime = 45 * time.Second

func authorityServe(io streams) *cobra.Command {
	var src authoritySource
	c := &cobra.Command{Use: "serve", Short: "Run the authority that a configuration file describes", Args: cobra.NoArgs,
		Long: `Run an authority as a service. It stays in the foreground, logs to standard error and
tells systemd when it is ready. SIGTERM and SIGINT stop it cleanly, a second one at once;
SIGHUP reads log.level and what it votes for (vote) again. It may be killed at any time: what it has said is on the disk,
and it goes on there.

Its clock must be right to within minutes: the authorities do everything at fixed times.`,
		Example: "  postern authority serve\n  postern authority serve --config authority.toml --set log.level=debug"}
	src.flags(c)
	js := c.Flags().Bool("json", false, "print one line of JSON on standard output when every listener is open")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := src.load()
		if err != nil {
			return err
		}
		if err := daemon.Harden(); err != nil {
			return err
		}
		got, err := daemon.Inherit()
		if err != nil {
			return err
		}
		level := new(slog.LevelVar)
		logger := authority.Logger(io.err, cfg, level)
		ctx, reload, stopSignals := watchSignals(c.Context())
		defer stopSignals()
		d := authorityDeps(io, cfg)
		d.Logger, d.Level, d.Sockets = logger, level, got.Sockets
		s, err := authority.Start(ctx, cfg, d)
		if err != nil {
			return authorityStartError(err, &src)
		}
		info := s.Info()
		logger.Info("ready", "network", info.Network, "authorities", info.Authorities, "period", info.Period, "version", d.Version)
		if *js {
			if err := printJSON(io.out, info); err != nil {
				s.Close()
				return err
			}
		}
		notify := notifier(logger)
		notify("READY=1")
		for {
			select {
			case <-reload:
				reread(logger, src.load, s.Reload)
				continue
			case err := <-s.Broken():
				notify("STOPPING=1")
				s.Close()
				return hint(err, "What this authority has said is on the disk. Look at the log above, then start again.")
			case <-s.Requests():
			case <-ctx.Done():
			}
			notify("STOPPING=1")
			return closeWithin(s, authorityStopTime)
		}
	}
	return c
}

// authorityStartError adds what to do next.
func authorityStartError(err error, src *authoritySource) error {
	switch errs.KindOf(err) {
	case errs.NotFound:
		return hint(err, "To make keys and a network file: postern authority init NETWORK --address HOST:48100"+src.again())
	case errs.Exists:
		return hint(err, "To look at what runs: postern authority status"+src.again())
	case errs.Denied:
		return hint(err, "To join the network files of all authorities: postern authority network FILE... --output FILE")
	case errs.Auth:
		return hint(err, "Nothing was changed. Look at identity.passphrase in the configuration.")
	}
	return err
}

func authorityStatus(io streams) *cobra.Command {
	var src authoritySource
	c := &cobra.Command{Use: "status", Short: "Show how the running authority does: consensus, agreement, other authorities", Args: cobra.NoArgs,
		Example: "  postern authority status\n  postern authority status --json | jq .consensus"}
	src.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var st authority.Status
		if err := src.call(c.Context(), "status", nil, &st, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, st)
		}
		fmt.Fprintf(io.out, "Authority %s of %s, %s, process %d, since %s\n", st.Authority[:fingerprintDigits], st.Network, st.Version, st.PID, st.Since)
		fmt.Fprintf(io.out, "  health       %s\n", st.Health)
		fmt.Fprintf(io.out, "  time         %s, epoch %d of %s\n", st.Now, st.Epoch, st.Period)
		if p := st.Consensus; p != nil {
			old := ""
			if !p.Usable {
				old = " (too old to be used)"
			}
			fmt.Fprintf(io.out, "  consensus    epoch %d, valid %s to %s%s\n", p.Epoch, p.ValidAfter, p.ValidUntil, old)
			fmt.Fprintf(io.out, "               %d relays; mixes by layer: %d, %d, %d; signed by %d of %d\n", p.Layers[0], p.Layers[1], p.Layers[2], p.Layers[3], len(p.SignedBy), st.Authorities)
			for _, w := range p.Warnings {
				fmt.Fprintf(io.out, "               warning: %s\n", w)
			}
		} else {
			fmt.Fprintln(io.out, "  consensus    none yet")
		}
		a := st.Agreement
		text := a.Phase
		if a.StaysOut {
			text += "; this authority takes no part"
		}
		if a.Waits != "" {
			text += "; " + a.Waits
		}
		fmt.Fprintf(io.out, "  next         epoch %d: %s\n", a.Epoch, text)
		for _, x := range st.AuthorityList {
			state := "answered " + dash(x.Heard)
			switch {
			case x.Self:
				state = "this one"
			case x.Problem != "":
				state = "does not answer: " + x.Problem
			}
			fmt.Fprintf(io.out, "  authority    %s  vote %s, reveal %s, signature %s; %s\n", x.ID[:fingerprintDigits], here(x.Vote), here(x.Reveal), here(x.Endorsement), state)
		}
		fmt.Fprintf(io.out, "  nodes        %d approved (%d can be voted for), %d wait, %d rejected\n", st.Nodes.Approved, st.Nodes.Fresh, st.Nodes.Waiting, st.Nodes.Rejected)
		fmt.Fprintf(io.out, "  proofs       %d\n", len(st.Proofs))
		if st.Nodes.Waiting > 0 {
			fmt.Fprintf(io.out, "Nodes wait for a decision: postern authority list --waiting%s\n", src.again())
		}
		return nil
	}
	return c
}

func here(ok bool) string {
	if ok {
		return "here"
	}
	return "missing"
}
