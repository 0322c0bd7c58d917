package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern.email/agent/aliases"
	"postern.email/kit/errs"
)

func newAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "new", Short: "Make an alias, or a secret for an account's aliases"}
	c.AddCommand(newAliasAccount(io, src), newAliasHandle(io, src))
	return c
}

func newAliasAccount(io streams, src *aliasSource) *cobra.Command {
	var stdin bool
	c := &cobra.Command{Use: "account ADDRESS", Short: "Make a secret for the aliases of an account, or of a mailbox elsewhere", Args: cobra.ExactArgs(1),
		Long: `Make a secret for the aliases of an account, or of a mailbox elsewhere, and print it on
one line. It is kept nowhere: whoever has it can make, see and delete these aliases,
and nothing else. An account of the relay gives its password first.`,
		Example: "  postern alias new account anna@example.org\n  postern alias -c /etc/incognitomail.conf new account anna@elsewhere.example"}
	src.flags(c)
	c.Flags().BoolVar(&stdin, "stdin", false, "read the password of the account from standard input")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a := aliases.Args{Address: args[0]}
		var got aliases.Fresh
		err := src.call(c.Context(), "alias.owner.new", a, &got, nil)
		if errs.KindOf(err) == errs.Auth && (stdin || isTerminal(io.in)) { // it is an account here
			b, rerr := readSecret(io, "Password of "+args[0]+": ")
			if rerr != nil {
				return rerr
			}
			a.Password = string(b)
			err = src.call(c.Context(), "alias.owner.new", a, &got, nil)
		} else if errs.KindOf(err) == errs.Auth {
			return hint(err, "Give it with --stdin, or run this at a terminal.")
		}
		if err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, got)
		}
		fmt.Fprintln(io.out, got.Token)
		if got.Link != "" {
			fmt.Fprintf(io.err, "To set up the browser add-on, open this link with it: %s\n", got.Link)
		}
		return nil
	}
	return c
}

func newAliasHandle(io streams, src *aliasSource) *cobra.Command {
	var r aliases.CreateRequest
	var idle, most uint
	c := &cobra.Command{Use: "handle [SECRET]", Short: "Make an alias and print its address", Args: cobra.MaximumNArgs(1),
		Example: "  postern alias new handle --secret-file ~/.alias\n  postern alias new handle --account anna@example.org --site shop.example --expires 2026-12-31\n  postern alias new handle --account anna@example.org --custom anna.k --json"}
	src.who(c)
	f := c.Flags()
	f.StringVar(&r.Style, "style", "", "how the name is made: words, random or site (default: the server's)")
	f.StringVar(&r.Custom, "custom", "", "the name itself")
	f.StringVar(&r.Domain, "domain", "", "one of the server's alias domains (default: the first)")
	f.StringVar(&r.Site, "site", "", "the site that it is for")
	f.StringVar(&r.Label, "label", "", "a label; only you can read it")
	f.StringVar(&r.Note, "note", "", "a note; only you can read it")
	f.StringVar(&r.Mode, "mode", "", "whose mail it takes: open, pinned, allow-list or ask (default open)")
	f.StringVar(&r.Class, "class", "", "strict (end-to-end encrypted mail only) or open-mail (default: the server's)")
	f.StringVar(&r.Expires, "expires", "", "last `day`, 2026-12-31, or time")
	f.UintVar(&most, "max-mails", 0, "it ends with so many mails; 0: never")
	f.UintVar(&idle, "idle-days", 0, "it ends when nothing came for so many days; 0: never")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if most > 1<<32-1 || idle > 1<<16-1 {
			return usageError{c.CommandPath(), fmt.Errorf("--max-mails and --idle-days are at most 4294967295 and 65535")}
		}
		a, err := src.credential(io, c, first(args))
		if err != nil {
			return err
		}
		r.MaxMails, r.IdleDays = uint32(most), uint16(idle)
		a.Create = &r
		var v aliases.View
		if err := src.call(c.Context(), "alias.new", a, &v, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, v)
		}
		fmt.Fprintln(io.out, v.Address)
		return nil
	}
	return c
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func deleteAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "delete", Short: "Delete an alias, or all of them with the secret"}
	c.AddCommand(deleteAliasAccount(io, src), deleteAliasHandle(io, src))
	return c
}

func deleteAliasAccount(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "account [SECRET]", Short: "Delete all aliases of an account, and its secrets", Args: cobra.MaximumNArgs(1),
		Long: `Delete all aliases of an account, and its secrets. This cannot be undone, and their
addresses are not given to anybody else. The account's mailbox and its mail stay.`,
		Example: "  postern alias delete account --secret-file ~/.alias"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := src.credential(io, c, first(args))
		if err != nil {
			return err
		}
		return success(io, *js, src.call(c.Context(), "alias.owner.delete", a, nil, nil))
	}
	return c
}

// success says what IncognitoMail says.
func success(io streams, js bool, err error) error {
	if err != nil {
		return err
	}
	if js {
		return printJSON(io.out, struct{}{})
	}
	fmt.Fprintln(io.out, "success")
	return nil
}

func deleteAliasHandle(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "handle HANDLE [SECRET]", Short: "Delete an alias", Args: cobra.RangeArgs(1, 2),
		Long: `Delete an alias. HANDLE is its name or its whole address, exactly. For a while it can
be restored (postern alias restore); nobody else ever gets it.`,
		Example: "  postern alias delete handle amber-falcon-48217 --secret-file ~/.alias"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := src.credential(io, c, first(args[1:]))
		if err != nil {
			return err
		}
		a.Address = args[0]
		return success(io, *js, src.call(c.Context(), "alias.delete", a, nil, nil))
	}
	return c
}

func listAliases(io streams, src *aliasSource) *cobra.Command {
	var long, deleted bool
	var search, site string
	c := &cobra.Command{Use: "list [SECRET]", Short: "List aliases", Args: cobra.MaximumNArgs(1),
		Long: `List aliases, one a line: the name before the @ in the server's first alias domain, the
whole address in another.`,
		Example: "  postern alias list --secret-file ~/.alias\n  postern alias list --account anna@example.org --long --search shop\n  postern alias list --account anna@example.org --json | jq -r .address"}
	src.who(c)
	c.Flags().BoolVarP(&long, "long", "l", false, "show state, mode, site and label")
	c.Flags().StringVar(&search, "search", "", "only those with this `text` in address, site, label, note or a correspondent")
	c.Flags().StringVar(&site, "site", "", "only those for this site")
	c.Flags().BoolVar(&deleted, "deleted", false, "those that were deleted and can be restored")
	js := c.Flags().Bool("json", false, "print one JSON object a line")
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := src.credential(io, c, first(args))
		if err != nil {
			return err
		}
		a.Search, a.Site, a.Deleted = search, site, deleted
		all, domains, err := listAll(a, func(command string, a aliases.Args, result any) error {
			return src.call(c.Context(), command, a, result, nil)
		})
		if err != nil {
			return err
		}
		return printList(io, all, domains, *js, long)
	}
	return c
}

// listAll gives all pages of a list, and the server's alias domains; call asks the server.
func listAll(a aliases.Args, call func(command string, a aliases.Args, result any) error) (all []aliases.View, domains []string, err error) {
	var acc aliases.Account
	if err := call("alias.account", a, &acc); err != nil {
		return nil, nil, err
	}
	for {
		var page aliases.Page
		if err := call("alias.list", a, &page); err != nil {
			return nil, nil, err
		}
		all = append(all, page.Aliases...)
		if a.Cursor = page.Next; a.Cursor == "" {
			return all, acc.Domains, nil
		}
	}
}

// printList prints aliases in the order of their names.
func printList(io streams, all []aliases.View, domains []string, js, long bool) error {
	slices.SortFunc(all, func(a, b aliases.View) int { return strings.Compare(a.Address, b.Address) })
	w := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
	if long && !js {
		fmt.Fprintln(w, "ADDRESS\tSTATE\tMODE\tMAILS\tSITE\tLABEL")
	}
	for _, v := range all {
		switch {
		case js:
			if err := printJSON(io.out, v); err != nil {
				return err
			}
		case long:
			state := v.State
			if v.Leaked {
				state += ", leaked"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", v.Address, state, v.Mode, v.Received, oneLine(v.Site), oneLine(v.Label))
		default:
			name := v.Address
			if len(domains) > 0 {
				name = strings.TrimSuffix(name, "@"+domains[0])
			}
			fmt.Fprintln(w, name)
		}
	}
	return w.Flush()
}

func stopAliases(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "stop", Short: "Stop the alias service; mail to aliases goes on", Args: cobra.NoArgs,
		Long: `Stop the alias service until the next start: no aliases are made, listed or changed over
the network any more. Mail to aliases goes on. With -c the server beside the Postfix
ends; the Postfix goes on with the aliases that it knows. postern stop stops a relay as a whole.`,
		Example: "  postern alias stop\n  postern alias -c /etc/incognitomail.conf stop"}
	src.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := src.call(c.Context(), "alias.stop", struct{}{}, nil, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, struct{}{})
		}
		fmt.Fprintln(io.out, "Stopped server")
		return nil
	}
	return c
}
