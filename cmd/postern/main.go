// Command postern is a private mail host in one program. See `postern --help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"postern.email/kit/errs"
	"postern.email/role/relay"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// streams are what a command talks through; tests put in their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	os.Exit(run(context.Background(), namedArgs(os.Args), streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run executes one command line and gives its exit code.
func run(ctx context.Context, args []string, io streams) int {
	if len(args) > 0 && args[0] == incognitoName {
		return runIncognito(ctx, args[1:], io)
	}
	root := newRoot(io)
	args, obsolete := mixArgs(args)
	if obsolete != "" {
		fmt.Fprintf(io.err, "postern: %s is an old name; use %s\n", obsolete, args[1])
	}
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if code, ok := err.(exitError); ok {
		return int(code)
	}
	fmt.Fprintln(io.err, "postern: "+say(err))
	var u usageError
	if errors.As(err, &u) {
		fmt.Fprintf(io.err, "\nSee: %s --help\n", u.path)
		return exitUsage
	}
	return exitFailed
}

// exitError is the exit code of another process, which has said why.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a command used wrongly: exit code 2.
type usageError struct {
	path string
	err  error
}

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

// hinted is an error with what to type next.
type hinted struct {
	err  error
	hint string
}

func (h hinted) Error() string { return h.err.Error() }
func (h hinted) Unwrap() error { return h.err }

// hint adds what to do next to an error; nil stays nil.
func hint(err error, text string) error {
	if err == nil {
		return nil
	}
	return hinted{err, text}
}

// say puts an error into words for the operator: what happened, then what to do.
func say(err error) string {
	text := errs.Public(err)
	if errs.KindOf(err) == errs.Internal {
		text = err.Error() // a fault of the program or its use: all we know
	}
	var h hinted
	if asHint(err, &h) {
		text += "\n  " + h.hint
	}
	return text
}

func asHint(err error, h *hinted) bool {
	for err != nil {
		if x, ok := err.(hinted); ok {
			*h = x
			return true
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = u.Unwrap()
	}
	return false
}

// The groups of --help: who needs a command.
const (
	groupRun     = "run"
	groupOperate = "operate"
	groupMix     = "mix"
	groupProxy   = "proxy"
	groupConfig  = "config"
)

func newRoot(io streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "postern",
		Short: "Private mail for ordinary mail programs",
		Long: `Postern is a private mail host: addresses that nobody has to identify themselves
for, and stored mail that only its owner can read.

Try it on this machine, without root and without DNS:

  postern up

Run a real one:

  postern init example.org     # configuration, keys, DNS records
  postern serve
  postern doctor               # what is not as it should be

Send and read mail over a mix network, with any mail program:

  postern proxy init you@relay.example
  postern proxy`,
		SilenceErrors: true, SilenceUsage: true,
		Version:                    relay.Version,
		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usageError{c.CommandPath(), err} })
	root.AddGroup(&cobra.Group{ID: groupRun, Title: "Run a relay:"}, &cobra.Group{ID: groupOperate, Title: "Operate a running relay:"},
		&cobra.Group{ID: groupProxy, Title: "Run a mail proxy:"}, &cobra.Group{ID: groupMix, Title: "Run a mix network:"}, &cobra.Group{ID: groupConfig, Title: "Configuration and help:"})
	root.SetHelpCommandGroupID(groupConfig)
	root.SetCompletionCommandGroupID(groupConfig)
	for _, c := range []*cobra.Command{upCommand(io), initCommand(io), serveCommand(io), accountCommand(io), aliasCommand(io), queueCommand(io), labCommand(io), dnsCommand(io), dkimCommand(io), statusCommand(io), restartCommand(io),
		stopCommand(io), storeCommand(io), doctorCommand(io), proxyCommand(io), mixCommand(io), authorityCommand(io), configCommand(io), importCommand(io), versionCommand(io)} {
		root.AddCommand(c)
	}
	usage(root)
	return root
}

// usage makes every fault in the arguments of a command a usageError.
func usage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{c.CommandPath(), err}
			}
			return nil
		}
	}
	if c.HasSubCommands() && c.RunE == nil && c.Run == nil && c.HasParent() {
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{c.CommandPath(), fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())}
			}
			return c.Help()
		}
		c.Args = cobra.ArbitraryArgs
	}
	if !c.HasParent() {
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{"postern", fmt.Errorf("unknown command %q%s", args[0], suggest(c, args[0]))}
			}
			return c.Help()
		}
	}
	for _, sub := range c.Commands() {
		usage(sub)
	}
}

func suggest(c *cobra.Command, word string) string {
	if s := c.SuggestionsFor(word); len(s) > 0 {
		return fmt.Sprintf("; did you mean %q?", s[0])
	}
	return ""
}
