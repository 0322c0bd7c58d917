package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern.email/kit/errs"
	"postern.email/role/relay"
)

func queueCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "queue", Short: "Look after mail that waits for other hosts", GroupID: groupOperate,
		Long: `Look after mail that waits for other hosts. A mail is named by its number, of which
the first digits are enough. Mail that is end-to-end encrypted is ciphertext here too.`}
	c.AddCommand(listQueue(io), showQueued(io),
		changeQueue(io, "retry", "Try mail again now, whatever it waits for", "To be tried now: %d recipients.\n"),
		changeQueue(io, "hold", "Keep mail from being sent until release; it does not expire meanwhile", "Held: %d recipients. To let them go: postern queue release\n"),
		changeQueue(io, "release", "Undo hold", "Released: %d recipients.\n"),
		dropQueued(io), exportQueued(io))
	return c
}

// pick are the flags that say which mails are meant.
type pick struct{ relay.QueueArgs }

func (p *pick) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.To, "to", "", "only recipients at this `domain`")
	c.Flags().StringVar(&p.From, "from", "", "only mail of this `address`")
}

// shortID is how much of a number the table shows: enough to name the mail.
const shortID = 12

func listQueue(io streams) *cobra.Command {
	var src source
	var p pick
	c := &cobra.Command{Use: "list", Short: "List what waits, and why", Args: cobra.NoArgs,
		Example: "  postern queue list\n  postern queue list --to example.org\n  postern queue list --held --json"}
	src.flags(c)
	p.flags(c)
	c.Flags().BoolVar(&p.Held, "held", false, "only what is held")
	c.Flags().BoolVar(&p.Damaged, "damaged", false, "only what cannot be read")
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each mail")
	c.RunE = func(c *cobra.Command, _ []string) error {
		n := 0
		for {
			var page relay.QueuePage
			if err := src.call(c.Context(), "queue.list", p.QueueArgs, &page, nil); err != nil {
				return err
			}
			for _, m := range page.Mails {
				if *js {
					if err := printJSON(io.out, m); err != nil {
						return err
					}
					continue
				}
				if n > 0 {
					fmt.Fprintln(io.out)
				}
				printQueued(io, m, shortID)
				n++
			}
			if p.Cursor = page.Next; page.Next == "" {
				break
			}
		}
		if n == 0 && !*js {
			fmt.Fprintln(io.out, "Nothing waits.")
		}
		return nil
	}
	return c
}

// printQueued shows one mail with all that its recipients wait for.
func printQueued(io streams, m relay.QueuedMail, digits int) {
	from := m.From
	if from == "" {
		from = "(a report)"
	}
	fmt.Fprintf(io.out, "%s  %s  %s  %s old, until %s\n", m.ID[:digits], from, size(m.Size), since(m.Created), m.Expires)
	if m.Damaged != "" {
		fmt.Fprintf(io.out, "  DAMAGED: %s. It is not sent. To remove it: postern queue drop %s\n", m.Damaged, m.ID[:digits])
	}
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	for _, r := range m.Recipients {
		state := "next try " + r.NextTry
		switch {
		case r.Held:
			state = "held"
		case r.Sending:
			state = "being sent"
		case r.Ready:
			state = "waits for a connection"
		}
		tries := fmt.Sprintf("%d tries", r.Tries)
		if r.Tries == 1 {
			tries = "1 try"
		}
		why := r.Why
		if why == "" {
			why = "not tried yet"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", r.To, state, tries, why)
	}
	w.Flush()
}

// since says how long ago a time was, roughly.
func since(at string) string {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		return "some time"
	}
	switch d := time.Since(t); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours())/24)
	}
}

// size says a number of bytes, roughly.
func size(n int64) string {
	unit := "B"
	x := float64(n)
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if x < 1024 {
			break
		}
		x, unit = x/1024, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", x, unit)
}

func showQueued(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{Use: "show NUMBER", Short: "Show one mail that waits", Args: cobra.ExactArgs(1), Example: "  postern queue show 3f9c"}
	src.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var m relay.QueuedMail
		if err := queueCall(c, &src, "show", relay.QueueArgs{ID: args[0]}, &m, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, m)
		}
		printQueued(io, m, len(m.ID))
		return nil
	}
	return c
}

// queueCall calls a command of the queue; an unknown number is an error that says what to type.
func queueCall(c *cobra.Command, src *source, name string, args relay.QueueArgs, result any, progress func(json.RawMessage)) error {
	err := src.call(c.Context(), "queue."+name, args, result, progress)
	switch err.(type) {
	case usageError, hinted: // they say themselves what to do
		return err
	}
	if k := errs.KindOf(err); args.ID != "" && (k == errs.NotFound || k == errs.Invalid) {
		return hint(err, "To see what waits: postern queue list")
	}
	return err
}

// changeQueue makes a command over one mail, those of a filter, or all.
func changeQueue(io streams, name, short, done string) *cobra.Command {
	var src source
	var p pick
	c := &cobra.Command{Use: name + " [NUMBER]", Short: short, Args: cobra.MaximumNArgs(1),
		Example: "  postern queue " + name + " 3f9c\n  postern queue " + name + " --to example.org\n  postern queue " + name + " --all"}
	src.flags(c)
	p.flags(c)
	c.Flags().BoolVar(&p.All, "all", false, "all that waits")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			p.ID = args[0]
		}
		if p.ID == "" && p.To == "" && p.From == "" && !p.All {
			return usageError{c.CommandPath(), fmt.Errorf("give the number of a mail, --to, --from, or --all")}
		}
		if p.All && (p.ID != "" || p.To != "" || p.From != "") {
			return usageError{c.CommandPath(), fmt.Errorf("--all stands alone")}
		}
		var n int
		if err := queueCall(c, &src, name, p.QueueArgs, &n, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, map[string]int{"recipients": n})
		}
		fmt.Fprintf(io.out, done, n)
		return nil
	}
	return c
}

func dropQueued(io streams) *cobra.Command {
	var src source
	var yes, report bool
	c := &cobra.Command{Use: "drop NUMBER", Short: "Remove one mail for ever; its sender is not told without --report", Args: cobra.ExactArgs(1),
		Long: `Remove one mail for ever. With --report its sender gets a delivery report that the mail was
removed (RFC 3464), in one step: without the report nothing is removed. A mail that is being sent
at this moment stays then. Who wants no reports gets none, and a report has no sender.`,
		Example: "  postern queue drop 3f9c\n  postern queue drop 3f9c --report\n  postern queue drop 3f9c --yes"}
	src.flags(c)
	c.Flags().BoolVar(&report, "report", false, "tell its sender that it was removed")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var m relay.QueuedMail
		if err := queueCall(c, &src, "show", relay.QueueArgs{ID: args[0]}, &m, nil); err != nil {
			return err
		}
		if !yes {
			warning := "This mail will be gone, and its sender is not told (--report does that):"
			if report {
				warning = "This mail will be gone, and its sender is told so:"
			}
			fmt.Fprintln(io.err, warning)
			printQueued(streams{io.in, io.err, io.err}, m, shortID)
			fmt.Fprintf(io.err, "To go on, type the first four digits of its number (%s): ", m.ID[:4])
			line, _ := bufio.NewReader(io.in).ReadString('\n')
			if strings.TrimSpace(line) != m.ID[:4] {
				return errs.E("cmd.drop", errs.Canceled, "nothing was removed", nil)
			}
		}
		var d relay.QueueDropped
		err := queueCall(c, &src, "drop", relay.QueueArgs{ID: m.ID, Report: report}, &d, nil)
		switch k := errs.KindOf(err); {
		case err != nil && report && k == errs.Busy:
			return hint(err, "Nothing was removed. To keep it from being tried again: postern queue hold "+m.ID[:shortID])
		case err != nil && report && k == errs.Corrupt:
			return hint(err, "To remove it without a report: postern queue drop "+m.ID[:shortID])
		case err != nil:
			return err
		}
		if *js {
			return printJSON(io.out, d)
		}
		told := ""
		switch {
		case d.Told:
			told = "; its sender is told"
		case report:
			told = "; nobody is told: it has no sender, or one who wants no report"
		}
		fmt.Fprintf(io.out, "Removed: %s%s\n", d.ID, told)
		return nil
	}
	return c
}

func exportQueued(io streams) *cobra.Command {
	var src source
	var file string
	c := &cobra.Command{Use: "export NUMBER", Short: "Write out one mail as it would be sent; it stays in the queue", Args: cobra.ExactArgs(1),
		Example: "  postern queue export 3f9c > mail.eml\n  postern queue export 3f9c -o mail.eml"}
	src.flags(c)
	c.Flags().StringVarP(&file, "output", "o", "", "write to this `file`, which only you can read; it must not exist")
	js := c.Flags().Bool("json", false, "print JSON with the mail in base64")
	c.RunE = func(c *cobra.Command, args []string) error {
		out := io.out
		var whole bytes.Buffer
		if *js {
			out = &whole
		}
		var f *os.File
		if file != "" {
			var err error
			if f, err = os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
				return errs.E("cmd.export", errs.Unavailable, "cannot make the file "+file, err)
			}
			out = f
		}
		var failed error
		err := queueCall(c, &src, "export", relay.QueueArgs{ID: args[0]}, nil, func(raw json.RawMessage) {
			var p relay.QueuePiece
			if err := json.Unmarshal(raw, &p); err != nil {
				failed = err
			} else if _, err := out.Write(p.Data); err != nil {
				failed = err
			}
		})
		if f != nil {
			if cerr := f.Close(); failed == nil {
				failed = cerr
			}
			if err != nil || failed != nil {
				os.Remove(file)
			}
		}
		if err == nil && failed == nil && *js && f == nil {
			return printJSON(io.out, map[string][]byte{"mail": whole.Bytes()})
		}
		if err == nil && failed != nil {
			err = errs.E("cmd.export", errs.Unavailable, "cannot write the mail", failed)
		}
		return err
	}
	return c
}
