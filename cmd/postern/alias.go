package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"postern.email/agent/aliases"
	"postern.email/kit/errs"
	"postern.email/mail/aliasname"
	aliasrole "postern.email/role/alias"
	"postern.email/wire/control"
)

// secretEnv is the variable of the environment that may hold a secret.
const secretEnv = "POSTERN_ALIAS_SECRET"

// secretHelp says where a secret comes from; the commands that need one end their help with it.
const secretHelp = `

Who asks is told by a secret: --secret-file FILE (- is standard input), the variable ` + secretEnv + `, or
--account ADDRESS, which asks for the account's password.`

func aliasCommand(io streams) *cobra.Command {
	src := &aliasSource{}
	c := &cobra.Command{Use: "alias", Short: "Make and look after aliases: an address for each site", GroupID: groupOperate,
		Long: `Make and look after aliases: an address for each site, that can be paused, blocked
and deleted, and that is never given to anybody else.

An account's aliases are reached with its password (--account ADDRESS), or with a
secret token, which can be given to a browser add-on or a password manager:

  postern alias new account anna@example.org     # prints a secret
  postern alias new handle --secret-file FILE    # prints an address

The commands speak to the running relay, or, with -c FILE, to the server beside a
Postfix that FILE is the configuration of.`,
		Example: "  postern alias new handle --account anna@example.org --site shop.example\n  postern alias list --account anna@example.org --long"}
	src.persistent(c)
	for _, sub := range []*cobra.Command{newAlias(io, src), deleteAlias(io, src), listAliases(io, src), stopAliases(io, src),
		showAlias(io, src), statsAlias(io, src), restoreAlias(io, src), labelAlias(io, src), expireAlias(io, src),
		exportAliases(io, src), importAliases(io, src), evidenceAlias(io, src), verifyEvidence(io), tokenAlias(io, src), elsewhereAlias(io, src)} {
		c.AddCommand(sub)
	}
	c.AddCommand(switchesAlias(io, src)...)
	c.AddCommand(sendersAlias(io, src)...)
	c.AddCommand(besidePostfix(io, src)...)
	return c
}

// aliasSource is where a command finds the server, and who asks.
type aliasSource struct {
	source
	ini        string // configuration of the server beside a Postfix
	secretFile string
	account    string
}

// persistent adds -c, which may stand before the name of a command, as IncognitoMail has it.
func (s *aliasSource) persistent(c *cobra.Command) {
	c.PersistentFlags().StringVarP(&s.ini, "ini", "c", "", "speak to the server beside a Postfix that this configuration `file` is of")
}

// who adds the flags that tell the secret.
func (s *aliasSource) who(c *cobra.Command) {
	s.flags(c)
	c.Flags().StringVar(&s.secretFile, "secret-file", "", "`file` with the secret in its first line; - is standard input")
	c.Flags().StringVar(&s.account, "account", "", "`address` of an account of the relay, whose password is asked for")
	if c.Long == "" {
		c.Long = c.Short + "."
	}
	c.Long += secretHelp
}

// call asks the running server.
func (s *aliasSource) call(ctx context.Context, command string, args, result any, progress func(json.RawMessage)) error {
	if s.ini == "" {
		return s.source.call(ctx, command, args, result, progress)
	}
	c, err := aliasrole.Load(s.ini, nil)
	if err != nil {
		return err
	}
	err = control.CallAt(ctx, c.General.UnixSockPath, command, args, result, progress)
	if errs.KindOf(err) == errs.NotFound && errs.KindOf(control.CallAt(ctx, c.General.UnixSockPath, "status", nil, nil, nil)) == errs.NotFound {
		return hint(err, "To start one: postern alias serve -c "+s.ini)
	}
	return err
}

// credential gives the arguments of a command with the secret in them. arg is one that stands in
// the command line: "" if there is none, "-" for standard input.
func (s *aliasSource) credential(io streams, c *cobra.Command, arg string) (a aliases.Args, err error) {
	token := func(b []byte, err error) (aliases.Args, error) {
		if err != nil {
			return a, err
		}
		a.Token = strings.TrimSpace(string(b))
		if !aliasname.TokenForm(a.Token) {
			return a, hint(errs.E("cmd.credential", errs.Auth, "this is no secret", nil), "A secret is 64 letters and digits. postern alias new account ADDRESS makes one.")
		}
		return a, nil
	}
	if c != nil && s.ini == "" { // what cannot be read is told before any secret is
		if _, err := s.load(); err != nil {
			return a, err
		}
	}
	switch {
	case arg == "-" || arg == "" && s.secretFile == "-":
		return token(readSecret(io, "Secret: "))
	case arg != "":
		kept := strings.Clone(arg)
		note := "it stands in the history of the shell"
		if !wipeArg(arg) {
			note = "others on this machine can see it, and " + note
		}
		fmt.Fprintf(io.err, "postern: a secret in the command line: %s. Better: --secret-file FILE, - or %s\n", note, secretEnv)
		return token([]byte(kept), nil)
	case s.secretFile != "":
		return token(firstLine(s.secretFile))
	case s.account != "" && c != nil:
		// A server that does not run is told before anything is typed.
		if err := s.call(c.Context(), "status", nil, nil, nil); err != nil {
			return a, err
		}
		b, err := readSecret(io, "Password of "+s.account+": ")
		if err != nil {
			return a, err
		}
		a.Login, a.Password = s.account, string(b)
		return a, nil
	case os.Getenv(secretEnv) != "":
		return token([]byte(os.Getenv(secretEnv)), nil)
	}
	err = hint(errs.E("cmd.credential", errs.Invalid, "whose aliases?", nil), "Give --secret-file FILE, --account ADDRESS or "+secretEnv+".")
	if c == nil {
		return a, err
	}
	return a, usageError{c.CommandPath(), err}
}

// ask is call with the secret of the flags.
func (s *aliasSource) ask(io streams, c *cobra.Command, command string, fill func(*aliases.Args), result any) error {
	a, err := s.credential(io, c, "")
	if err != nil {
		return err
	}
	if fill != nil {
		fill(&a)
	}
	return s.call(c.Context(), command, a, result, nil)
}

// printAlias shows one alias in full.
func printAlias(io streams, v aliases.View) {
	fmt.Fprintln(io.out, v.Address)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(io.out, "  %-14s %s\n", name, value)
		}
	}
	row("state", v.State)
	if v.Leaked {
		row("", "somebody wrote who had no reason to know it")
	}
	row("mode", v.Mode)
	row("class", v.Class)
	row("site", oneLine(v.Site))
	row("label", oneLine(v.Label))
	row("note", strings.ReplaceAll(visible(v.Note), "\n", "\n"+strings.Repeat(" ", 17)))
	row("created", v.Created)
	row("last mail", v.Last)
	row("ends", v.Expires)
	if v.MaxMails > 0 {
		row("ends after", fmt.Sprintf("%d mails", v.MaxMails))
	}
	if v.IdleDays > 0 {
		row("ends when idle", fmt.Sprintf("for %d days", v.IdleDays))
	}
	row("restorable", until(v.RestorableTill))
	row("mails", fmt.Sprintf("%d received, %d refused, %d sent", v.Received, v.Refused, v.Sent))
	for i, p := range v.Correspondents {
		name := ""
		if i == 0 {
			name = "correspondents"
		}
		row(name, fmt.Sprintf("%-11s %s, %d mails", p.State, oneLine(p.Address), p.Mails))
	}
}

// visible is a text of somebody else's for a terminal: what could move its cursor or turn its letters round shows as
// a mark.
func visible(text string) string {
	const joiner = '\u200d' // within a letter that is made of several
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == joiner || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// oneLine is visible for a place where there is one line.
func oneLine(text string) string { return strings.ReplaceAll(visible(text), "\n", " ") }

func until(day string) string {
	if day == "" {
		return ""
	}
	return "until " + day
}

// printChanged shows what a change gave, as JSON or in full.
func printChanged(io streams, js bool, v aliases.View) error {
	if js {
		return printJSON(io.out, v)
	}
	printAlias(io, v)
	return nil
}
