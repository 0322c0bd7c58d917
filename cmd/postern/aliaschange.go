package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern.email/agent/aliases"
)

func showAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "show ALIAS", Short: "Show an alias with all who wrote to it", Args: cobra.ExactArgs(1), Example: "  postern alias show amber-falcon-48217 --account anna@example.org"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var v aliases.View
		if err := src.ask(io, c, "alias.show", func(a *aliases.Args) { a.Address = args[0] }, &v); err != nil {
			return err
		}
		return printChanged(io, *js, v)
	}
	return c
}

func restoreAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "restore ALIAS", Short: "Undo the deletion of an alias", Args: cobra.ExactArgs(1), Example: "  postern alias list --deleted --account anna@example.org\n  postern alias restore amber-falcon-48217 --account anna@example.org"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var v aliases.View
		if err := src.ask(io, c, "alias.restore", func(a *aliases.Args) { a.Address = args[0] }, &v); err != nil {
			return err
		}
		return printChanged(io, *js, v)
	}
	return c
}

func statsAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "stats", Short: "Count aliases and their mail", Args: cobra.NoArgs, Example: "  postern alias stats --account anna@example.org --json"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var s aliases.Stats
		if err := src.ask(io, c, "alias.stats", nil, &s); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, s)
		}
		fmt.Fprintf(io.out, "%d aliases: %d paused, %d ended, %d never used, %d known to others than they were for\n%d mails received, %d refused, %d sent\n",
			s.Aliases, s.Paused, s.Expired, s.Unused, s.Leaked, s.Received, s.Refused, s.Sent)
		return nil
	}
	return c
}

// change makes a command that changes an alias: fill says what of the arguments behind it.
func (s *aliasSource) change(io streams, use, short, example string, args cobra.PositionalArgs, fill func(r *aliases.ChangeRequest, rest []string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: args, Example: example}
	s.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var r aliases.ChangeRequest
		if err := fill(&r, args[1:]); err != nil {
			return usageError{c.CommandPath(), err}
		}
		var v aliases.View
		if err := s.ask(io, c, "alias.change", func(a *aliases.Args) { a.Address, a.Change = args[0], &r }, &v); err != nil {
			return err
		}
		return printChanged(io, *js, v)
	}
	return c
}

// switchesAlias are pause, resume and mode.
func switchesAlias(io streams, src *aliasSource) []*cobra.Command {
	pause := func(on bool) func(*aliases.ChangeRequest, []string) error {
		return func(r *aliases.ChangeRequest, _ []string) error { r.Paused = &on; return nil }
	}
	return []*cobra.Command{
		src.change(io, "pause ALIAS", "Refuse all mail to an alias until it is resumed", "  postern alias pause amber-falcon-48217 --account anna@example.org", cobra.ExactArgs(1), pause(true)),
		src.change(io, "resume ALIAS", "Undo pause", "  postern alias resume amber-falcon-48217 --account anna@example.org", cobra.ExactArgs(1), pause(false)),
		src.change(io, "mode ALIAS MODE", "Say whose mail an alias takes: open, pinned, allow-list or ask", "  postern alias mode amber-falcon-48217 ask --account anna@example.org", cobra.ExactArgs(2),
			func(r *aliases.ChangeRequest, rest []string) error { r.Mode = &rest[0]; return nil }),
		src.change(io, "class ALIAS CLASS", "Say what form mail to an alias has: strict or open-mail", "  postern alias class amber-falcon-48217 strict --account anna@example.org", cobra.ExactArgs(2),
			func(r *aliases.ChangeRequest, rest []string) error { r.Class = &rest[0]; return nil }),
	}
}

// sendersAlias are pin, allow, block and forget.
func sendersAlias(io streams, src *aliasSource) []*cobra.Command {
	const example = "  postern alias %s amber-falcon-48217 news@shop.example --account anna@example.org\n  postern alias %[1]s amber-falcon-48217 @shop.example --account anna@example.org"
	list := func(name, short string, to func(*aliases.ChangeRequest) *[]string) *cobra.Command {
		return src.change(io, name+" ALIAS SENDER…", short, fmt.Sprintf(example, name), cobra.MinimumNArgs(2), func(r *aliases.ChangeRequest, rest []string) error {
			*to(r) = rest
			return nil
		})
	}
	return []*cobra.Command{
		src.change(io, "pin ALIAS [SENDER]", "Take mail of one sender only: this one, or whoever wrote first or will", fmt.Sprintf(example, "pin"), cobra.RangeArgs(1, 2),
			func(r *aliases.ChangeRequest, rest []string) error {
				mode := "pinned"
				r.Mode = &mode
				if len(rest) > 0 {
					r.Pin = &rest[0]
				}
				return nil
			}),
		list("allow", "Take mail of a sender, or of a whole @domain", func(r *aliases.ChangeRequest) *[]string { return &r.Allow }),
		list("block", "Refuse mail of a sender, or of a whole @domain", func(r *aliases.ChangeRequest) *[]string { return &r.Block }),
		list("forget", "Undo allow and block", func(r *aliases.ChangeRequest) *[]string { return &r.Forget }),
	}
}

func labelAlias(io streams, src *aliasSource) *cobra.Command {
	var site, note string
	var c *cobra.Command
	c = src.change(io, "label ALIAS [LABEL]", "Set label, note and site of an alias, which only you can read", "  postern alias label amber-falcon-48217 'The shop' --site shop.example --account anna@example.org", cobra.RangeArgs(1, 2),
		func(r *aliases.ChangeRequest, rest []string) error {
			if len(rest) > 0 {
				r.Label = &rest[0]
			}
			if c.Flags().Changed("site") {
				r.Site = &site
			}
			if c.Flags().Changed("note") {
				r.Note = &note
			}
			if r.Label == nil && r.Site == nil && r.Note == nil {
				return fmt.Errorf("nothing to set: give LABEL, --site or --note")
			}
			return nil
		})
	c.Flags().StringVar(&site, "site", "", "the site that it is for")
	c.Flags().StringVar(&note, "note", "", "a note")
	return c
}

func expireAlias(io streams, src *aliasSource) *cobra.Command {
	var most, idle uint
	var extend string
	var c *cobra.Command
	c = src.change(io, "expire ALIAS [DAY|never]", "Say when an alias ends", "  postern alias expire amber-falcon-48217 2026-12-31 --account anna@example.org\n  postern alias expire amber-falcon-48217 --extend 90d --account anna@example.org\n  postern alias expire amber-falcon-48217 --idle-days 180 --max-mails 20 --account anna@example.org",
		cobra.RangeArgs(1, 2), func(r *aliases.ChangeRequest, rest []string) error {
			if len(rest) > 0 {
				end, err := endOf(rest[0])
				if err != nil {
					return err
				}
				r.Expires = &end
			}
			if c.Flags().Changed("max-mails") {
				n := uint32(min(most, 1<<32-1))
				r.MaxMails = &n
			}
			if c.Flags().Changed("idle-days") {
				n := uint16(min(idle, 1<<16-1))
				r.IdleDays = &n
			}
			if extend != "" {
				n, err := strconv.ParseUint(strings.TrimSuffix(extend, "d"), 10, 16)
				if err != nil || n == 0 {
					return fmt.Errorf("--extend is a number of days, such as 90d")
				}
				days := uint16(n)
				r.Extend = &days
			}
			if r.Expires == nil && r.MaxMails == nil && r.IdleDays == nil && r.Extend == nil {
				return fmt.Errorf("nothing to set: give a day, never, --extend, --max-mails or --idle-days")
			}
			return nil
		})
	c.Flags().UintVar(&most, "max-mails", 0, "it ends with so many mails; 0: never")
	c.Flags().UintVar(&idle, "idle-days", 0, "it ends when nothing came for so many days; 0: never")
	c.Flags().StringVar(&extend, "extend", "", "put all its ends off by so many `days`, from now or from what they are")
	return c
}

// endOf reads a day, a time, or never.
func endOf(text string) (string, error) {
	if text == "never" {
		return "", nil
	}
	if _, err := time.Parse(time.DateOnly, text); err == nil {
		return text, nil
	}
	if _, err := time.Parse(time.RFC3339, text); err == nil {
		return text, nil
	}
	return "", fmt.Errorf("%q is no day such as 2026-12-31, and not \"never\"", text)
}
