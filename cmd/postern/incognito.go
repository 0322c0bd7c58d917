package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"postern.email/agent/aliases"
	"postern.email/kit/errs"
	aliasrole "postern.email/role/alias"
	"postern.email/wire/control"
)

// incognitoName is the name by which this program is IncognitoMail.
const incognitoName = "incognitomail"

// incognitoConfig is the configuration that the server takes without -c: that of IncognitoMail's own sample for a
// service manager.
const incognitoConfig = "/etc/incognitomail.conf"

// unsuccessful is what IncognitoMail says on standard output of every failure. Scripts may look for it; why is told
// before it, on standard error.
const unsuccessful = "The program was unsuccessful due to an error."

// IncognitoMail's words for commands that it does not understand.
const (
	saidUnknown = "unknown command received"
	saidUsage   = "wrong command usage"
)

const incognitoUsage = `Usage: %s [-c|--config <path>] [command [arguments]]

if command is omitted, will act as a server listening for connections

commands:
  new account <address>            	creates a new account with the given address
  new handle <secret>              	creates a new handle for the account with the given secret
  delete account <secret>          	deletes the account registered with the given secret
  delete handle <handle> <secret>  	deletes the given handle. Uses the given secret to confirm account ownership
  list <secret>                    	lists all handles registered for the account with the given secret
  stop                             	stops the current server process

a secret can be left out and come from the file of -secret-file or the variable %s; - reads it from standard input

options:
`

// incognito is one run under IncognitoMail's name.
type incognito struct {
	io  streams
	src aliasSource
}

// runIncognito executes a command line of IncognitoMail and gives its exit code.
func runIncognito(ctx context.Context, args []string, io streams) int {
	in := incognito{io: io}
	f := flag.NewFlagSet(incognitoName, flag.ContinueOnError)
	f.SetOutput(io.err)
	usage := func() {
		fmt.Fprintf(io.out, incognitoUsage, incognitoName, secretEnv)
		f.SetOutput(io.out)
		f.PrintDefaults()
	}
	f.Usage = usage
	f.StringVar(&in.src.ini, "config", "", "path to a configuration file")
	f.StringVar(&in.src.ini, "c", "", "path to a configuration file (shorthand)")
	f.StringVar(&in.src.secretFile, "secret-file", "", "path to a file with the secret in its first line")
	if err := f.Parse(args); err != nil {
		if err == flag.ErrHelp {
			return exitDone
		}
		return exitUsage
	}
	words := f.Args()
	if in.src.ini != "" { // what cannot be read is told first, whatever the command
		if _, err := aliasrole.Load(in.src.ini, nil); err != nil {
			return in.failed(err)
		}
	}
	if len(words) == 0 {
		return in.failed(in.serve(ctx))
	}
	if words[0] == "list" && !in.has(words, 2) {
		usage()
		return exitUsage
	}
	return in.failed(in.command(ctx, words))
}

// failed says why, then IncognitoMail's sentence; nil is no failure.
func (in *incognito) failed(err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(in.io.err, incognitoName+": "+say(err))
	fmt.Fprintln(in.io.out, unsuccessful)
	return exitFailed
}

func (in *incognito) serve(ctx context.Context) error {
	file := in.src.ini
	if file == "" {
		file = incognitoConfig
	}
	l, err := aliasrole.Load(file, nil)
	if err != nil {
		return hint(err, "To name another configuration: incognitomail -c FILE")
	}
	return serveAliases(ctx, in.io, l, nil)
}

// has tells whether there are n words, or one less and the secret comes from elsewhere.
func (in *incognito) has(words []string, n int) bool {
	return len(words) == n || len(words) == n-1 && (in.src.secretFile != "" || os.Getenv(secretEnv) != "")
}

// command does what the words say.
func (in *incognito) command(ctx context.Context, words []string) error {
	word := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	bad := func(text string) error {
		return hint(errs.E("cmd.incognito", errs.Invalid, text, nil), "To see the commands: incognitomail -h")
	}
	switch {
	case word(0) == "stop" && len(words) == 1:
		if err := in.call(ctx, "alias.stop", struct{}{}, nil); err != nil {
			return err
		}
		fmt.Fprintln(in.io.out, "Stopped server")
		return nil
	case word(0) == "list":
		return in.list(ctx, word(1))
	case word(0) == "new" && word(1) == "account" && len(words) == 3:
		var got aliases.Fresh
		if err := in.call(ctx, "alias.owner.new", aliases.Args{Address: words[2]}, &got); err != nil {
			return err
		}
		fmt.Fprintln(in.io.out, got.Token)
		return nil
	case word(0) == "new" && word(1) == "handle" && in.has(words, 3):
		var v aliases.View
		if err := in.ask(ctx, "alias.new", word(2), aliases.Args{}, &v); err != nil {
			return err
		}
		fmt.Fprintln(in.io.out, v.Address)
		return nil
	case word(0) == "delete" && word(1) == "account" && in.has(words, 3):
		return in.success(in.ask(ctx, "alias.owner.delete", word(2), aliases.Args{}, nil))
	case word(0) == "delete" && word(1) == "handle" && in.has(words, 4):
		return in.success(in.ask(ctx, "alias.delete", word(3), aliases.Args{Address: words[2]}, nil))
	case slices.Contains([]string{"new", "delete", "stop"}, word(0)): // IM-60: whatever follows is answered
		return bad(saidUsage)
	}
	return bad(saidUnknown)
}

func (in *incognito) success(err error) error {
	return success(in.io, false, err)
}

// list prints the handles, one a line.
func (in *incognito) list(ctx context.Context, secret string) error {
	a, err := in.secret(secret)
	if err != nil {
		return err
	}
	all, domains, err := listAll(a, func(command string, a aliases.Args, result any) error { return in.call(ctx, command, a, result) })
	if err != nil {
		return in.answered(err)
	}
	return printList(in.io, all, domains, false, false)
}

// secret reads a secret and puts it into arguments.
func (in *incognito) secret(arg string) (aliases.Args, error) {
	a, err := in.src.credential(in.io, nil, arg)
	return a, in.answered(err)
}

// ask is call with the secret in the arguments.
func (in *incognito) ask(ctx context.Context, command, secret string, a aliases.Args, result any) error {
	who, err := in.secret(secret)
	if err != nil {
		return err
	}
	a.Token = who.Token
	return in.answered(in.call(ctx, command, a, result))
}

// answered puts IncognitoMail's words in front of what says that a secret is none.
func (in *incognito) answered(err error) error {
	if err == nil || errs.KindOf(err) != errs.Auth {
		return err
	}
	return hint(errs.E("cmd.incognito", errs.Auth, "account not found: "+errs.Public(err), err), "A secret has 64 letters and digits; incognitomail new account ADDRESS makes one.")
}

// call asks the server whose configuration was named, or the one with the default socket.
func (in *incognito) call(ctx context.Context, command string, args, result any) error {
	if in.src.ini != "" {
		return in.src.call(ctx, command, args, result, nil)
	}
	l, err := aliasrole.Bare(nil)
	if err != nil {
		return err
	}
	err = control.CallAt(ctx, l.General.UnixSockPath, command, args, result, nil)
	if errs.KindOf(err) == errs.NotFound && strings.HasPrefix(errs.Public(err), "no server is running") {
		return hint(err, "If it has another socket, name its configuration: -c FILE. To start it: "+incognitoName+" -c FILE")
	}
	return err
}
