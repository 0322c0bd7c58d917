package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"postern.email/kit/errs"
	"postern.email/role/proxy"
)

func proxyNymsCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "nyms", Short: "List, make and give up reply addresses, for mail that does not name you",
		Long: `Whoever is to be answered without saying who they are has a reply address: an address at their
own relay, which does not know whose it is. The proxy gives the relay reply blocks for it in
advance, each good for one packet of an answer; the relay sends back with them what comes.

A mail goes so if it has the field

  X-Postern-Anonymous: NAME

From is "[Anon] NAME" with the reply address of that name then; one name has one address, which
is made when it is needed. So write under one name to those who may know that it is always the
same person, and under others to others. With the further field "X-Postern-Reply: no" there is no
address, and no answer. In a mail program that can have several identities, one with the reply
address as its mail address does the same without any field.

What nobody learns: your account, your machine, its clock, your mail program's other fields.
What is still told: that somebody at this relay wrote, and whatever the text, its attachments
and signature say.

An address lives for 48 hours after it was fed last. The proxy feeds it once a day; if it is off
line for longer, the address is dead until it is fed again, and answers are refused meanwhile.`}
	c.AddCommand(proxyNymsListCommand(io), proxyNymsMakeCommand(io), proxyNymsForgetCommand(io))
	return c
}

func proxyNymsListCommand(io streams) *cobra.Command {
	var src proxySource
	var account string
	c := &cobra.Command{Use: "list", Short: "List reply addresses, and until when answers reach them", Args: cobra.NoArgs, Example: "  postern proxy nyms list\n  postern proxy nyms list --json"}
	src.flags(c)
	accountFlag(c, &account)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var list []proxy.ReplyAddress
		if err := src.call(c.Context(), "nyms", proxy.NymArgs{Account: account}, &list); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, map[string]any{"reply_addresses": list})
		}
		if len(list) == 0 {
			fmt.Fprintln(io.out, "There are no reply addresses. To make one: postern proxy nyms make NAME")
		}
		for i := range list {
			fmt.Fprintf(io.out, "%s\n", list[i].Words())
		}
		return nil
	}
	return c
}

func proxyNymsMakeCommand(io streams) *cobra.Command {
	var src proxySource
	var account string
	var wait time.Duration
	c := &cobra.Command{Use: "make NAME", Short: "Make a reply address, or show the one of that name", Args: cobra.ExactArgs(1),
		Long: `Make a reply address under a name, before any mail needs it. Mail with "X-Postern-Anonymous: NAME"
makes it by itself.`,
		Example: "  postern proxy nyms make Fox\n  postern proxy nyms make Fox --wait 10m"}
	src.flags(c)
	accountFlag(c, &account)
	c.Flags().DurationVar(&wait, "wait", 0, "wait for so long until answers reach it")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if wait < 0 {
			return usageError{"postern proxy nyms make", fmt.Errorf("--wait is a time, such as 10m")}
		}
		var r proxy.ReplyAddress
		if err := src.call(c.Context(), "nym-make", proxy.NymArgs{Account: account, Name: args[0]}, &r); err != nil {
			return err
		}
		if wait > 0 {
			if err := awaitNym(c, &src, wait, &r); err != nil {
				return err
			}
		}
		if *js {
			return printJSON(io.out, r)
		}
		fmt.Fprintf(io.out, "%s\n%s\n", r.Address, r.Words())
		if r.Blocks == 0 {
			fmt.Fprintln(io.out, "To see when it is ready: postern proxy nyms list")
		}
		return nil
	}
	return c
}

// awaitNym asks until an address has reply blocks, or its relay refuses them.
func awaitNym(c *cobra.Command, src *proxySource, most time.Duration, r *proxy.ReplyAddress) error {
	err := pollFor(c, most, func() (bool, error) {
		var list []proxy.ReplyAddress
		if err := src.call(c.Context(), "nyms", proxy.NymArgs{Account: r.Account}, &list); err != nil {
			return false, err
		}
		for i := range list {
			if list[i].Address == r.Address {
				*r = list[i]
			}
		}
		return r.Blocks > 0 && !r.Until.IsZero() || r.Problem != "", nil
	})
	if errs.KindOf(err) == errs.Unavailable && err != nil {
		return hint(errs.E("cmd.proxy.nyms", errs.Unavailable, "the address is made, and its relay has no reply blocks for it yet", err), "To see when it is ready: postern proxy nyms list")
	}
	if err == nil && r.Blocks == 0 {
		return errs.E("cmd.proxy.nyms", errs.Unavailable, "the address is made, and cannot be fed: "+r.Problem, nil)
	}
	return err
}

func proxyNymsForgetCommand(io streams) *cobra.Command {
	var src proxySource
	var account string
	c := &cobra.Command{Use: "forget NAME", Short: "Give a reply address up", Args: cobra.ExactArgs(1),
		Long: `Give a reply address up, by its name or the address itself. It is fed no more, and dies within
48 hours; answers that come until then are still delivered. It cannot be had back: the same name
gets another address.`,
		Example: "  postern proxy nyms forget Fox"}
	src.flags(c)
	accountFlag(c, &account)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var r proxy.ReplyAddress
		if err := src.call(c.Context(), "nym-forget", proxy.NymArgs{Account: account, Name: args[0]}, &r); err != nil {
			return err
		}
		return said(io, *js, "forgotten", r.Address)
	}
	return c
}

func accountFlag(c *cobra.Command, account *string) {
	c.Flags().StringVar(account, "account", "", "`address` of the account, where the proxy has several")
}
