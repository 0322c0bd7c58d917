package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern.email/agent/aliases"
	"postern.email/kit/errs"
)

func tokenAlias(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Make, list, replace and revoke secrets",
		Long: `Make, list, replace and revoke secrets. Each has scopes: create (make aliases), list (see
them), manage (change and delete them, and secrets).`}
	c.AddCommand(newToken(io, src), listTokens(io, src), revokeToken(io, src), rotateToken(io, src))
	return c
}

func newToken(io streams, src *aliasSource) *cobra.Command {
	var scopes []string
	var name string
	c := &cobra.Command{Use: "new", Short: "Make a further secret, for a program", Args: cobra.NoArgs, Example: "  postern alias token new --scopes create --name 'password manager' --account anna@example.org"}
	src.who(c)
	c.Flags().StringSliceVar(&scopes, "scopes", nil, "what it may do: create, list, manage (default: all)")
	c.Flags().StringVar(&name, "name", "", "what it is for; only you can read it")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if c.Flags().Changed("scopes") && len(scopes) == 0 { // such as an empty variable of a script
			return usageError{c.CommandPath(), errs.E("cmd.newToken", errs.Invalid, "--scopes names at least one, or is left out", nil)}
		}
		var got aliases.Fresh
		if err := src.ask(io, c, "alias.token.new", func(a *aliases.Args) { a.Scopes, a.Name = scopes, name }, &got); err != nil {
			return err
		}
		return printFresh(io, *js, got)
	}
	return c
}

func printFresh(io streams, js bool, got aliases.Fresh) error {
	if js {
		return printJSON(io.out, got)
	}
	fmt.Fprintln(io.out, got.Token)
	return nil
}

func rotateToken(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "rotate", Short: "Replace the secret by a new one; the old one ends", Args: cobra.NoArgs, Example: "  postern alias token rotate --secret-file old > new"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var got aliases.Fresh
		if err := src.ask(io, c, "alias.token.rotate", nil, &got); err != nil {
			return err
		}
		return printFresh(io, *js, got)
	}
	return c
}

func listTokens(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List secrets by name; none of them is shown", Args: cobra.NoArgs, Example: "  postern alias token list --account anna@example.org"}
	src.who(c)
	js := c.Flags().Bool("json", false, "print one JSON object a line")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []aliases.Token
		if err := src.ask(io, c, "alias.token.list", nil, &all); err != nil {
			return err
		}
		w := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
		if !*js {
			fmt.Fprintln(w, "ID\tSCOPES\tCREATED\tLAST USED\tNAME")
		}
		for _, t := range all {
			if *js {
				if err := printJSON(io.out, t); err != nil {
					return err
				}
				continue
			}
			last := t.LastUsed
			if last == "" {
				last = "never"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", t.ID, strings.Join(t.Scopes, ","), t.Created, last, oneLine(t.Name))
		}
		return w.Flush()
	}
	return c
}

func revokeToken(io streams, src *aliasSource) *cobra.Command {
	c := &cobra.Command{Use: "revoke ID", Short: "End a secret", Args: cobra.ExactArgs(1), Example: "  postern alias token revoke 6f1c09a2b3d4e5f6 --account anna@example.org"}
	src.who(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		return success(io, *js, src.ask(io, c, "alias.token.revoke", func(a *aliases.Args) { a.ID = args[0] }, nil))
	}
	return c
}
