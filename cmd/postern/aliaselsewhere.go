package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"postern.email/agent/aliases"
	"postern.email/agent/forward"
	"postern.email/kit/errs"
)

func elsewhereAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "elsewhere", Short: "Look after the mailbox elsewhere that mail for aliases is sent on to",
		Long: `Look after the mailbox elsewhere that mail for an owner's aliases is sent on to. Nothing is
sent before whoever reads that mailbox has agreed, on a page that a mail leads to.`}
	c.AddCommand(stateOfTarget(io, src, "show", "Show the mailbox, whether it agreed, and how much came back from it"),
		stateOfTarget(io, src, "ask", "Ask the mailbox whether it agrees, by mail"),
		stateOfTarget(io, src, "resume", "Send mail on again after too much of it came back"), keyOfTarget(io, src), reverseOfTarget(io, src))
	return c
}

// The words for the states of forward.State.
var targetStates = map[string]string{
	"agreed": "mail is sent on", "asked": "a mail asks there whether it agrees; nothing is sent on before", "not-asked": "it was not asked yet",
	"refused": "it wants no mail", "paused": "too much came back: nothing is sent on",
}

func stateOfTarget(io streams, src *aliasSource, word, short string) *cobra.Command {
	c := &cobra.Command{Use: word, Short: short, Args: cobra.NoArgs, Example: "  postern alias elsewhere " + word + " --secret-file FILE"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var s forward.State
		if err := src.ask(io, c, "alias.target."+word, nil, &s); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, s)
		}
		if s.Target == "" {
			fmt.Fprintln(io.out, "Mail for these aliases goes to a mailbox here.")
			return nil
		}
		fmt.Fprintf(io.out, "%s: %s", s.Target, targetStates[s.State])
		if t, err := time.Parse(time.RFC3339, s.Until); err == nil {
			fmt.Fprintf(io.out, " until %s", t.Format(time.DateTime+" UTC"))
		}
		if s.Failed > 0 {
			fmt.Fprintf(io.out, " (%d mails came back in the last ten days)", s.Failed)
		}
		fmt.Fprintln(io.out)
		return nil
	}
	return c
}

// maxKeyFile bounds a file with an OpenPGP key, in bytes.
const maxKeyFile = 64 << 10

func keyOfTarget(io streams, src *aliasSource) *cobra.Command {
	var none bool
	c := &cobra.Command{Use: "key ALIAS [FILE]", Short: "Encrypt the mail of an alias that is sent on, with an OpenPGP key", Args: cobra.RangeArgs(1, 2),
		Long:    "Encrypt the mail of an alias that is sent on, with the OpenPGP key in FILE (- is standard input), in ASCII armor.\nThe subject is inside too. What its sender has encrypted stays as it is.",
		Example: "  gpg --armor --export anna@elsewhere.example > key.asc\n  postern alias elsewhere key shop-4821@example.org key.asc --secret-file FILE\n  postern alias elsewhere key shop-4821@example.org --none --secret-file FILE"}
	src.who(c)
	c.Flags().BoolVar(&none, "none", false, "do not encrypt any more")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		key := ""
		switch {
		case none == (len(args) == 2):
			return usageError{c.CommandPath(), errs.E("cmd.keyOfTarget", errs.Invalid, "a file with a key, or --none", nil)}
		case !none:
			b, err := readBounded(io, args[1], maxKeyFile)
			if err != nil {
				return err
			}
			if len(b) > maxKeyFile {
				return errs.E("cmd.keyOfTarget", errs.Invalid, args[1]+" is no file with an OpenPGP key", nil)
			}
			key = string(b)
		}
		return success(io, *js, src.ask(io, c, "alias.target.key", func(a *aliases.Args) { a.Address, a.Key = args[0], key }, nil))
	}
	return c
}

func reverseOfTarget(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "reverse ALIAS TO", Short: "Print the address by which the mailbox elsewhere writes to somebody as an alias", Args: cobra.ExactArgs(2),
		Long:    "Print the address by which the mailbox elsewhere writes to somebody as an alias: to write first.\nWho wrote to the alias has one already: the address that its mail comes from.",
		Example: "  postern alias elsewhere reverse shop-4821@example.org help@shop.example --secret-file FILE"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var r aliases.Reversed
		if err := src.ask(io, c, "alias.target.reverse", func(a *aliases.Args) { a.Address, a.To = args[0], args[1] }, &r); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, r)
		}
		fmt.Fprintln(io.out, r.Address)
		return nil
	}
	return c
}
