package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/role/mix"
)

func mixStopCommand(io streams) *cobra.Command {
	var src mixSource
	c := &cobra.Command{Use: "stop", Short: "Stop the running node cleanly", Args: cobra.NoArgs, Example: "  postern mix stop\n  postern mix stop -f /etc/mixminiond.conf",
		Long: `Send SIGTERM to the node and wait until it has ended: it takes nothing new, answers what
is under way, and ends after server.stop_time at the latest. What waits stays on the disk
and leaves after the next start.`}
	js := asJSON(c)
	src.command(c, func(l *mixLoaded) error {
		pid, err := l.holder()
		if err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			return errs.E("cmd.mix.stop", errs.Denied, fmt.Sprintf("process %d cannot be asked to stop", pid), err)
		}
		err = pollFor(c, l.Server.StopTime.Std()+waitTime, func() (bool, error) {
			now, err := daemon.PidOf(l.PidFile())
			return errs.KindOf(err) == errs.NotFound || err == nil && now != pid, nil
		})
		if err != nil {
			return hint(err, fmt.Sprintf("It was asked to stop and still runs, as process %d.", pid))
		}
		if *js {
			return printJSON(io.out, map[string]any{"stopped": pid})
		}
		fmt.Fprintf(io.out, "Stopped process %d.\n", pid)
		return nil
	})
	return c
}

func mixReloadCommand(io streams) *cobra.Command {
	var src mixSource
	c := &cobra.Command{Use: "reload", Short: "Have the running node read its configuration again", Args: cobra.NoArgs, Example: "  postern mix reload",
		Long: `Have the node read its configuration, its lists of clients and addresses again, and open
its log and file of statistics anew, as SIGHUP does. Options that need a restart are
named. If something is wrong with the configuration, nothing changes.`}
	js := asJSON(c)
	src.command(c, func(l *mixLoaded) error {
		var r mix.Reloaded
		if err := l.call(c.Context(), "reload", &r, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, r)
		}
		switch {
		case len(r.Changed) > 0:
			fmt.Fprintf(io.out, "Changed: %s\n", strings.Join(r.Changed, ", "))
		default:
			fmt.Fprintln(io.out, "Nothing has changed; logs and lists were opened anew.")
		}
		if len(r.Restart) > 0 {
			fmt.Fprintf(io.out, "Needs a restart: %s\n", strings.Join(r.Restart, ", "))
		}
		return nil
	})
	return c
}

func mixRepublishCommand(io streams) *cobra.Command {
	var src mixSource
	c := &cobra.Command{Use: "republish", Short: "Give the node's descriptor to all authorities again", Args: cobra.NoArgs, Example: "  postern mix republish",
		Long: `Have the node make a new descriptor and give it to every authority, whether they have one
or not. It does so by itself in time, so this is almost never needed. Where
directory.publish is off the descriptor is only written.`}
	js := asJSON(c)
	src.command(c, func(l *mixLoaded) error {
		var st mix.Status
		if err := l.call(c.Context(), "republish", &st, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, struct {
				Descriptor  string                `json:"descriptor"`
				Publish     bool                  `json:"publish"`
				Authorities []mix.AuthorityStatus `json:"authorities"`
			}{st.Descriptor, st.Publish, st.Authorities})
		}
		fmt.Fprintf(io.out, "The descriptor is %s\n", st.Descriptor)
		if !st.Publish {
			fmt.Fprintln(io.out, "It is not published: directory.publish (Publish) is off.")
			return nil
		}
		for _, a := range st.Authorities {
			fmt.Fprintf(io.out, "  authority %s: %s\n", a.ID, a.Verdict)
		}
		return nil
	})
	return c
}

func mixDelkeysCommand(io streams) *cobra.Command {
	var src mixSource
	var force bool
	c := &cobra.Command{Use: "delkeys", Short: "Destroy the packet keys of a stopped node (DELKEYS)", Args: cobra.NoArgs, Example: "  postern mix DELKEYS --force",
		Long: `Destroy the packet keys of a node that does not run, and with each its memory of the
packets it has seen. The identity and the link key stay. Packets that are under way to
this node are lost; the next start makes new keys. This is for recovery, and almost never
needed.`}
	c.Flags().BoolVar(&force, "force", false, "do not ask")
	js := asJSON(c)
	src.command(c, func(l *mixLoaded) error {
		if pid, err := daemon.PidOf(l.PidFile()); err == nil {
			return hint(errs.E("cmd.mix.delkeys", errs.Exists, fmt.Sprintf("the node runs, as process %d; nothing was changed", pid), nil), "Stop it first: postern mix stop -f "+l.file)
		}
		if !force {
			fmt.Fprintf(io.err, "This destroys the packet keys of %s; packets that are under way to it are lost.\nType its name to go on: ", l.Nickname)
			answer, err := readLine(io.in)
			if err != nil || strings.TrimSpace(string(answer)) != l.Nickname {
				return errs.E("cmd.mix.delkeys", errs.Canceled, "nothing was changed", err)
			}
		}
		if err := daemon.Harden(); err != nil {
			return err
		}
		n, err := mix.DeleteKeys(c.Context(), l.Config, mixDeps(io, l))
		if err := firstOf(err, giveBack(l.Server.BaseDir)); err != nil {
			return mixStartError(err, l)
		}
		if *js {
			return printJSON(io.out, map[string]int{"deleted": n})
		}
		fmt.Fprintf(io.out, "%d keys deleted.\n", n)
		return nil
	})
	return c
}

func mixStatsCommand(io streams) *cobra.Command {
	var src mixSource
	c := &cobra.Command{Use: "stats", Short: "Print what was counted in the present period", Args: cobra.NoArgs, Example: "  postern mix stats",
		Long: `Print the counts of the period that has not ended. Those of earlier periods are in
server.stats_file (StatsFile). Of a node that does not run it is what it last saved.`}
	js := asJSON(c)
	src.command(c, func(l *mixLoaded) error {
		var text string
		err := l.call(c.Context(), "stats", &text, nil)
		if errs.KindOf(err) == errs.NotFound {
			var b strings.Builder
			if err = mix.DumpStats(l.Config, mix.Deps{}, &b); errs.KindOf(err) == errs.NotFound {
				return l.notRunning(err)
			}
			text = b.String()
		}
		if err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, map[string]string{"stats": text})
		}
		_, err = fmt.Fprint(io.out, text)
		return err
	})
	return c
}

func mixQueueCommand(io streams) *cobra.Command {
	var src mixSource
	c := &cobra.Command{Use: "queue", Short: "Show the packets that wait", Args: cobra.NoArgs, Example: "  postern mix queue\n  postern mix queue --json",
		Long: `Show what is in the log of packets, with mixminiond's words for its state: inp is being
written and was not acknowledged, msg waits, rmv was sent and is to be removed, crp is
damaged and was set aside. Nothing in it tells whose a packet is.`}
	js := asJSON(c)
	src.command(c, func(l *mixLoaded) error {
		w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		n := 0
		show := func(e mix.QueueEntry) error {
			n++
			if *js {
				return printJSON(io.out, e)
			}
			if n == 1 {
				fmt.Fprintln(w, "STATE\tNUMBER\tDUE\tNEXT\tBYTES\tPACKETS")
			}
			_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\n", e.State, orDash(fmt.Sprint(e.ID)), orDash(e.Due), orDash(e.Next), e.Bytes, e.Count)
			return err
		}
		err := l.call(c.Context(), "queue", nil, func(line json.RawMessage) {
			var e mix.QueueEntry
			if json.Unmarshal(line, &e) == nil {
				_ = show(e)
			}
		})
		if errs.KindOf(err) == errs.NotFound && mix.HasIdentity(l.Config) {
			err = mix.Queue(l.Config, mixDeps(io, l), show)
		}
		if err != nil {
			return err
		}
		if n == 0 && !*js {
			fmt.Fprintln(io.out, "No packets wait.")
		}
		return w.Flush()
	})
	return c
}

// orDash gives what is not there a form.
func orDash(s string) string {
	if s == "" || s == "0" {
		return "-"
	}
	return s
}

func mixStatusCommand(io streams) *cobra.Command {
	var src mixSource
	c := &cobra.Command{Use: "status", Short: "Show how the running node does", Args: cobra.NoArgs, Example: "  postern mix status\n  postern mix status --json"}
	js := asJSON(c)
	src.command(c, func(l *mixLoaded) error {
		var st mix.Status
		if err := l.call(c.Context(), "status", &st, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, st)
		}
		_, err := fmt.Fprint(io.out, mixStatusText(st))
		return err
	})
	return c
}

// mixStatusText puts a status into words.
func mixStatusText(st mix.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Postern %s, %s %s of %s, process %d, since %s\n", st.Version, strings.Join(st.Mode, " "), st.Nickname, st.Network, st.PID, st.Since)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("health", "%s", st.Health)
	row("fingerprint", "%s", st.ID)
	switch {
	case st.NoDir != "":
		row("directory", "%s", st.NoDir)
	case st.Listed:
		row("directory", "epoch %d, valid until %s; this node is listed, layers %s", st.Epoch, st.Until, strings.Trim(fmt.Sprint(st.Layers), "[]"))
	default:
		row("directory", "epoch %d, valid until %s; this node is not listed", st.Epoch, st.Until)
	}
	if !st.Publish {
		row("published", "no: directory.publish is off")
	} else {
		for i, a := range st.Authorities {
			name := "published"
			if i > 0 {
				name = ""
			}
			row(name, "authority %s: %s", a.ID, a.Verdict)
		}
	}
	connected := 0
	for _, p := range st.Peers {
		if p.Connected {
			connected++
		}
	}
	row("nodes", "%d of %d connected", connected, len(st.Peers))
	for _, p := range st.Peers {
		if p.Error != "" || p.Waiting > 0 {
			row("", "%s: %d packets wait%s", p.Nickname, p.Waiting, prefixed("; ", p.Error))
		}
	}
	k := st.Packets
	row("packets", "%d in the pool, %d to be tried again; since the start %d sent, %d given up, %d replays, %d damaged", k.Held, k.Later, k.Sent, k.Dropped, k.Replays, k.Damaged)
	row("loops", "%d sent, %d came back", st.Loops.Sent, st.Loops.Returned)
	for i, k := range st.Keys {
		name := "keys"
		if i > 0 {
			name = ""
		}
		row(name, "key_%04d %s, from %s until %s, accepted until %s", k.Number, k.State, k.From, k.Until, k.Accepted)
	}
	for i, why := range st.Insecure {
		name := "insecure"
		if i > 0 {
			name = ""
		}
		row(name, "%s", why)
	}
	return b.String()
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func mixUpgradeCommand(io streams) *cobra.Command {
	var src mixSource
	c := &cobra.Command{Use: "upgrade", Short: "Bring the files of a stopped node to the present format", Args: cobra.NoArgs, Example: "  postern mix upgrade",
		Long: `Bring what an older version of this program has left to the present format. It may be
interrupted and run again. The node must not run.`}
	js := asJSON(c)
	src.command(c, func(l *mixLoaded) error {
		if err := daemon.Harden(); err != nil {
			return err
		}
		if _, err := os.Stat(l.Server.BaseDir); err != nil {
			return errs.E("cmd.mix.upgrade", errs.NotFound, "there is no node in "+l.Server.BaseDir, err)
		}
		u, err := mix.Upgrade(c.Context(), l.Config, mixDeps(io, l))
		if err := firstOf(err, giveBack(l.Server.BaseDir)); err != nil {
			return mixStartError(err, l)
		}
		if *js {
			return printJSON(io.out, u)
		}
		switch {
		case u.From == u.To:
			fmt.Fprintf(io.out, "The format is %d already; there is nothing to do.\n", u.To)
		case u.From == 0:
			fmt.Fprintln(io.out, "There is nothing yet that could be old.")
		default:
			for _, what := range u.Did {
				fmt.Fprintf(io.out, "  %s\n", what)
			}
			fmt.Fprintf(io.out, "The format was %d and is %d now.\n", u.From, u.To)
		}
		return nil
	})
	return c
}

func mixConfigCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "config [KEY]", Short: "Print what can be set for a node, or one option", Args: cobra.MaximumNArgs(1),
		Example: "  postern mix config\n  postern mix config mixing.algorithm\n  postern mix config --markdown > docs/mix-config.md"}
	describeOptions(io, c, func() any { return &mix.Config{} }, mixReferenceTitle, mixReferenceIntro)
	return c
}

// mixReferenceTitle and mixReferenceIntro head docs/mix-config.md, which a test compares with
// `postern mix config --markdown`.
const (
	mixReferenceTitle = "Configuration of a node of the mix network"
	mixReferenceIntro = "Generated by `postern mix config --markdown`; do not edit. One TOML file, read by `postern mix start -f FILE`. " +
		"A `mixminiond.conf` is read in its place ([mix.md](mix.md) says what becomes of its options). " +
		"Any option can be given to any command that reads a configuration with `--set section.key=value`. " +
		"Sizes are numbers of bytes or have a unit (`500M`), lengths of time are written `90s`, `15m`, `12h`, `20d`. " +
		"File names are relative to `server.base_dir`. An unknown key is an error."
)
