package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.email/kit/errs"
	"postern.email/role/relay"
	"postern.email/wire/control"
)

func statusCommand(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{Use: "status", Short: "Show how the running relay does", GroupID: groupOperate, Args: cobra.NoArgs,
		Example: "  postern status\n  postern status --config postern.toml --json"}
	src.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var st relay.Status
		if err := src.call(c.Context(), "status", nil, &st, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, st)
		}
		fmt.Fprintf(io.out, "Postern %s for %s, process %d, since %s\n", st.Version, st.Domain, st.PID, st.Since)
		fmt.Fprintf(io.out, "  health        %s\n", st.Health)
		for _, x := range st.TLS.Certs {
			text := "none yet"
			if x.Issuer != "" {
				text = "by " + x.Issuer + ", valid until " + x.NotAfter
			}
			fmt.Fprintf(io.out, "  certificate   %s (%s): %s\n", strings.Join(x.Names, ", "), st.TLS.Mode, text)
			if x.Error != "" {
				fmt.Fprintf(io.out, "                %s\n", x.Error)
			}
			if x.NextTry != "" {
				fmt.Fprintf(io.out, "                next try %s\n", x.NextTry)
			}
		}
		fmt.Fprintf(io.out, "  connections   %d IMAP, %d SMTP, %d POP3, %d web\n", st.Connections.IMAP, st.Connections.SMTP, st.Connections.POP3, st.Connections.Web)
		fmt.Fprintf(io.out, "  passwords     %d checked, %d now, %d waiting\n", st.Passwords.Hashed, st.Passwords.Running, st.Passwords.Waiting)
		fmt.Fprintf(io.out, "  opened keys   %d in use, %d idle, %d taken over at the restart\n", st.Keys.InUse, st.Keys.Idle, st.Keys.TakenOver)
		fmt.Fprintf(io.out, "  queue         %d mails for %d recipients elsewhere (%d held, %d being sent, %d damaged), %s\n", st.Queue.Mails, st.Queue.Recipients,
			st.Queue.Held, st.Queue.Sending, st.Queue.Damaged, size(st.Queue.Bytes))
		fmt.Fprintf(io.out, "  store         %d transactions in %d groups, %d syncs\n", st.Store.Transactions, st.Store.Groups, st.Store.Syncs)
		if a := st.Aliases; a != nil {
			text := strings.Join(a.Domains, ", ")
			if a.Stopped {
				text += " (stopped: postern alias stop)"
			}
			fmt.Fprintf(io.out, "  aliases       %s\n", text)
		}
		if st.Mixnet != nil {
			printMix(io, st.Mixnet)
		}
		return nil
	}
	return c
}

// waitTime is how long stop and restart wait for what they asked for.
const waitTime = 30 * time.Second

func stopCommand(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{Use: "stop", Short: "Stop the running relay cleanly", GroupID: groupOperate, Args: cobra.NoArgs, Example: "  postern stop"}
	src.flags(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := src.load()
		if err != nil {
			return err
		}
		if err := src.call(c.Context(), "stop", nil, nil, nil); err != nil {
			return err
		}
		err = poll(c, func() (bool, error) {
			err := control.Call(c.Context(), cfg.Dir, "status", nil, nil, nil)
			return errs.KindOf(err) == errs.NotFound, nil
		})
		if err != nil {
			return hint(err, "It was asked to stop and is still ending its sessions. To look again: postern status")
		}
		fmt.Fprintln(io.out, "Stopped.")
		return nil
	}
	return c
}

func restartCommand(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{Use: "restart", Short: "Restart the running relay, keeping ports and opened keys", GroupID: groupOperate, Args: cobra.NoArgs,
		Long: `Restart the running relay with the program that is on the disk now. Clients that
connect meanwhile wait in the queue of the old sockets, and accounts that were
logged in need no password check again: their keys go to the next process in
memory, never in a file.`,
		Example: "  postern restart"}
	src.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := src.load()
		if err != nil {
			return err
		}
		var before, after relay.Status
		if err := src.call(c.Context(), "status", nil, &before, nil); err != nil {
			return err
		}
		if err := src.call(c.Context(), "restart", nil, nil, nil); err != nil {
			return err
		}
		err = poll(c, func() (bool, error) {
			after = relay.Status{}
			err := control.Call(c.Context(), cfg.Dir, "status", nil, &after, nil)
			return err == nil && after.Generation != before.Generation, nil
		})
		if err != nil {
			return hint(err, "Look at the server's log; nothing acknowledged is lost. To start it: postern up, or postern serve")
		}
		if *js {
			return printJSON(io.out, after)
		}
		fmt.Fprintf(io.out, "Restarted: process %d, %d opened keys taken over.\n", after.PID, after.Keys.TakenOver)
		return nil
	}
	return c
}

// poll asks ten times a second until done says so.
func poll(c *cobra.Command, done func() (bool, error)) error { return pollFor(c, waitTime, done) }

// pollFor is poll with a time of its own.
func pollFor(c *cobra.Command, most time.Duration, done func() (bool, error)) error {
	tick, end := time.NewTicker(100*time.Millisecond), time.NewTimer(most)
	defer tick.Stop()
	defer end.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-c.Context().Done():
			return errs.E("cmd.poll", errs.Canceled, "", c.Context().Err())
		case <-end.C:
			return errs.E("cmd.poll", errs.Unavailable, "the server did not do it in time", nil)
		case <-tick.C:
		}
	}
}
