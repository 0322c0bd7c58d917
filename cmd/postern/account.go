package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/role/relay"
	"postern.email/wire/web"
)

func accountCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "account", Short: "Create, list and change accounts", GroupID: groupOperate,
		Long: `Create, list and change the accounts of the running relay. An address can be given
whole or without its domain. Users need none of this: an address exists from its
first login on.`}
	c.AddCommand(createAccount(io), listAccounts(io), passwdAccount(io), setAccount(io), deleteAccount(io), mixAccount(io), inviteAccount(io),
		oneAccount(io, "show", "Show an account", ""),
		oneAccount(io, "block", "Refuse logins to an account and mail to it; nothing is deleted", "Blocked: %s. To undo: postern account unblock %[1]s\n"),
		oneAccount(io, "unblock", "Undo block", "Open again: %s\n"))
	return c
}

// printAccount shows one account in full.
func printAccount(io streams, a relay.AccountInfo) {
	yes := map[bool]string{true: "yes", false: "no"}
	quota, last := "the server's", a.LastLogin
	if a.Quota != 0 {
		quota = config.Bytes(a.Quota).String()
	}
	if last == "" {
		last = "never"
	}
	fmt.Fprintf(io.out, "%s\n  number            %s\n  class             %s\n  blocked           %s\n  accept-cleartext  %s\n  quota             %s\n  created           %s\n  last login        %s\n",
		a.Address, a.ID, a.Class, yes[a.Blocked], yes[a.AcceptCleartext], quota, a.Created, last)
}

// oneAccount makes a command that takes an address and shows the account; format
// (may be empty: in full) gets its address.
func oneAccount(io streams, name, short, format string) *cobra.Command {
	var src source
	c := &cobra.Command{Use: name + " ADDRESS", Short: short, Args: cobra.ExactArgs(1), Example: "  postern account " + name + " anna"}
	src.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var a relay.AccountInfo
		if err := src.call(c.Context(), "account."+name, relay.AccountArgs{Address: args[0]}, &a, nil); err != nil {
			return err
		}
		switch {
		case *js:
			return printJSON(io.out, a)
		case format == "":
			printAccount(io, a)
		default:
			fmt.Fprintf(io.out, format, a.Address)
		}
		return nil
	}
	return c
}

// settings are the flags that create and set share.
type settings struct {
	class     string
	cleartext bool
	quota     string
}

func (s *settings) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.class, "class", "", "strict (end-to-end encrypted mail only) or open-mail")
	c.Flags().BoolVar(&s.cleartext, "accept-cleartext", false, "the owner wants unencrypted mail too")
	c.Flags().StringVar(&s.quota, "quota", "", "what the account may hold, such as 2G; 0 = the server's default")
}

// settingNames are the settings that can also be given as words.
var settingNames = []string{"class", "accept-cleartext", "quota"}

// words reads settings that are given as pairs of name and value, as the flags of the same
// names would be.
func (s *settings) words(c *cobra.Command, args []string) error {
	for ; len(args) > 0; args = args[2:] {
		name := args[0]
		if !slices.Contains(settingNames, name) {
			return fmt.Errorf("there is no setting %q; there are %s", name, strings.Join(settingNames, ", "))
		}
		if len(args) == 1 {
			return fmt.Errorf("%s needs a value", name)
		}
		if c.Flags().Changed(name) {
			return fmt.Errorf("%s is given twice", name)
		}
		value := args[1]
		if name == "accept-cleartext" {
			on, known := map[string]string{"on": "true", "off": "false"}[value]
			if !known {
				return fmt.Errorf("accept-cleartext is on or off, not %q", value)
			}
			value = on
		}
		if err := c.Flags().Set(name, value); err != nil {
			return err
		}
	}
	return nil
}

func (s *settings) args(c *cobra.Command, a *relay.AccountArgs) error {
	if c.Flags().Changed("class") {
		a.Class = &s.class
	}
	if c.Flags().Changed("accept-cleartext") {
		a.AcceptCleartext = &s.cleartext
	}
	if c.Flags().Changed("quota") {
		var b config.Bytes
		if err := b.UnmarshalText([]byte(s.quota)); err != nil {
			return usageError{c.CommandPath(), fmt.Errorf("--quota: %w", err)}
		}
		n := int64(b)
		a.Quota = &n
	}
	return nil
}

func createAccount(io streams) *cobra.Command {
	var src source
	var set settings
	var stdin bool
	c := &cobra.Command{Use: "create ADDRESS", Short: "Create an account with a fresh password, which is printed once", Args: cobra.ExactArgs(1),
		Example: "  postern account create anna\n  postern account create anna --quota 2G --json\n  echo 'a long password' | postern account create anna --stdin"}
	src.flags(c)
	set.flags(c)
	c.Flags().BoolVar(&stdin, "stdin", false, "read the password from standard input")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a := relay.AccountArgs{Address: args[0]}
		if err := set.args(c, &a); err != nil {
			return err
		}
		if stdin {
			// A server that does not run, or a wrong option, is told before anything is typed.
			if err := src.call(c.Context(), "status", nil, nil, nil); err != nil {
				return err
			}
			b, err := readSecret(io, "Password: ")
			if err != nil {
				return err
			}
			a.Password = string(b)
		} else {
			fresh, err := web.Generate(web.Options{Domain: "x"})
			if err != nil {
				return err
			}
			a.Password = fresh.Password
		}
		var got relay.AccountInfo
		if err := src.call(c.Context(), "account.create", a, &got, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, struct {
				relay.AccountInfo
				Password string `json:"password"`
			}{got, a.Password})
		}
		fmt.Fprintf(io.out, "Created: %s\n", got.Address)
		if !stdin {
			fmt.Fprintf(io.out, "Password: %s\nIt is kept nowhere: give it to the user now.\n", a.Password)
		}
		return nil
	}
	return c
}

func listAccounts(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{Use: "list", Short: "List all accounts", Args: cobra.NoArgs, Example: "  postern account list\n  postern account list --json | jq -r .address"}
	src.flags(c)
	js := c.Flags().Bool("json", false, "print one JSON object a line")
	c.RunE = func(c *cobra.Command, _ []string) error {
		w := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
		if !*js {
			fmt.Fprintln(w, "ADDRESS\tCLASS\tBLOCKED\tCREATED\tLAST LOGIN")
		}
		for cursor := ""; ; {
			var page relay.AccountPage
			if err := src.call(c.Context(), "account.list", relay.AccountArgs{Cursor: cursor}, &page, nil); err != nil {
				return err
			}
			for _, a := range page.Accounts {
				if *js {
					if err := printJSON(io.out, a); err != nil {
						return err
					}
					continue
				}
				last := a.LastLogin
				if last == "" {
					last = "never"
				}
				fmt.Fprintf(w, "%s\t%s\t%v\t%s\t%s\n", a.Address, a.Class, a.Blocked, a.Created, last)
			}
			if cursor = page.Next; cursor == "" {
				return w.Flush()
			}
		}
	}
	return c
}

func setAccount(io streams) *cobra.Command {
	var src source
	var set settings
	c := &cobra.Command{Use: "set ADDRESS SETTING VALUE [SETTING VALUE …]", Short: "Change an account's settings", Args: cobra.MinimumNArgs(1),
		Long: `Change an account's settings:

  class             strict (end-to-end encrypted mail only) or open-mail
  accept-cleartext  on or off: the owner wants unencrypted mail too
  quota             what the account may hold, such as 2G; 0 = the server's default

The flags of the same names do the same.`,
		Example: "  postern account set anna accept-cleartext on\n  postern account set anna quota 2G class strict"}
	src.flags(c)
	set.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a := relay.AccountArgs{Address: args[0]}
		if err := set.words(c, args[1:]); err != nil {
			return usageError{c.CommandPath(), err}
		}
		if err := set.args(c, &a); err != nil {
			return err
		}
		if a.Class == nil && a.AcceptCleartext == nil && a.Quota == nil {
			return usageError{c.CommandPath(), fmt.Errorf("nothing to set: give one of %s with its value", strings.Join(settingNames, ", "))}
		}
		var got relay.AccountInfo
		if err := src.call(c.Context(), "account.set", a, &got, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, got)
		}
		printAccount(io, got)
		return nil
	}
	return c
}

func passwdAccount(io streams) *cobra.Command {
	var src source
	var stdin, reset, yes bool
	c := &cobra.Command{Use: "passwd ADDRESS", Short: "Change an account's password; needs the old one", Args: cobra.ExactArgs(1),
		Long: `Change an account's password. The old password is needed, because it opens the key
that the stored mail is sealed to.

Without the old password there is only --reset: the account gets a new key, and
all mail that is stored in it becomes unreadable for ever.`,
		Example: "  postern account passwd anna\n  printf '%s\\n%s\\n' OLD NEW | postern account passwd anna --stdin\n  postern account passwd anna --reset"}
	src.flags(c)
	c.Flags().BoolVar(&stdin, "stdin", false, "read the passwords from standard input, one a line: the old one (not with --reset), the new one")
	c.Flags().BoolVar(&reset, "reset", false, "forget the old password and with it all stored mail")
	c.Flags().BoolVar(&yes, "yes", false, "with --reset: do not ask")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a := relay.AccountArgs{Address: args[0]}
		command := "account.passwd"
		if reset {
			command = "account.reset"
			if err := confirm(c.Context(), io, src, args[0], yes, "All mail that is stored in %s becomes unreadable for ever."); err != nil {
				return err
			}
		} else {
			// An address that does not exist is told before anything is typed.
			if err := src.call(c.Context(), "account.show", a, nil, nil); err != nil {
				return err
			}
			old, err := readSecret(io, "Old password: ")
			if err != nil {
				return err
			}
			a.Old = string(old)
		}
		fresh, err := secretOf(io, "New password: ", "", !stdin)
		if err != nil {
			return err
		}
		a.Password = string(fresh)
		var got relay.AccountInfo
		if err := src.call(c.Context(), command, a, &got, nil); err != nil {
			if errs.KindOf(err) == errs.Auth {
				return hint(err, "Nothing was changed. If the old password is lost, only --reset is left, and the stored mail with it.")
			}
			return err
		}
		if *js {
			return printJSON(io.out, got)
		}
		if reset {
			fmt.Fprintf(io.out, "New key and password for %s. What was stored before cannot be read any more.\n", got.Address)
		} else {
			fmt.Fprintf(io.out, "New password for %s. Stored mail stays readable.\n", got.Address)
		}
		return nil
	}
	return c
}

func deleteAccount(io streams) *cobra.Command {
	var src source
	var yes bool
	c := &cobra.Command{Use: "delete ADDRESS", Short: "Delete an account and all its mail", Args: cobra.ExactArgs(1),
		Long: `Delete an account and all its mail. The name is not given to anybody else, unless
accounts.reuse says otherwise.`,
		Example: "  postern account delete anna"}
	src.flags(c)
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := confirm(c.Context(), io, src, args[0], yes, "%s and all its mail will be deleted; this cannot be undone."); err != nil {
			return err
		}
		var got relay.AccountInfo
		if err := src.call(c.Context(), "account.delete", relay.AccountArgs{Address: args[0]}, &got, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, got)
		}
		fmt.Fprintf(io.out, "Deleted: %s\n", got.Address)
		return nil
	}
	return c
}

// confirm shows what will happen to an existing account and asks for its address
// to be typed.
func confirm(ctx context.Context, io streams, src source, name string, yes bool, what string) error {
	const op = "cmd.confirm"
	var a relay.AccountInfo
	if err := src.call(ctx, "account.show", relay.AccountArgs{Address: name}, &a, nil); err != nil {
		return err
	}
	if yes {
		return nil
	}
	fmt.Fprintf(io.err, what+"\nType the address to go on: ", a.Address)
	line, err := readLine(io.in)
	if err != nil || string(line) != a.Address {
		return errs.E(op, errs.Canceled, "that is not the address; nothing was changed", err)
	}
	return nil
}
