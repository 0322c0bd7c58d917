package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern.email/agent/mixclient"
	"postern.email/kit/dial"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	mixnet "postern.email/mixnet/client"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
)

// mixClientCommands are those of people who send and receive through the mix network by hand.
func mixClientCommands(io streams) []*cobra.Command {
	return []*cobra.Command{mixRegisterCommand(io), mixAddressCommand(io), mixRunCommand(io), mixSendCommand(io), mixFetchCommand(io), mixSentCommand(io),
		mixPingCommand(io), mixReplyBlockCommand(io)}
}

// mixUser is the directory of a client.
type mixUser struct{ dir string }

func (u *mixUser) flags(c *cobra.Command) {
	c.Flags().StringVar(&u.dir, "dir", mixUserDir(), "the client's `directory`: keys, what waits, what has come")
}

// mixUserDir is where a client lies, by the XDG base directories.
func mixUserDir() string {
	base, err := os.UserConfigDir()
	if err != nil {
		base = "."
	}
	return filepath.Join(base, "postern-mix")
}

func (u *mixUser) options(io streams) mixclient.Options {
	return mixclient.Options{Dir: u.dir, Careless: careless(), Warn: func(text string) { fmt.Fprintln(io.err, "Warning: "+text) }}
}

// open opens the client; its absence is an error that says what to type.
func (u *mixUser) open(io streams) (*mixclient.Client, error) {
	c, err := mixclient.Open(u.options(io))
	if errs.KindOf(err) == errs.NotFound && err != nil {
		return nil, hint(err, "To register: postern mix register https://RELAY --user ADDRESS\n  or, with a bare node: postern mix register --network FILE --relay NICKNAME")
	}
	return c, err
}

// interrupted is a context that ends with SIGINT or SIGTERM.
func interrupted(c *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
}

// isBusy adds what to do when another process runs the client.
func isBusy(err error) bool { return err != nil && errs.KindOf(err) == errs.Exists }

func mixRegisterCommand(io streams) *cobra.Command {
	var u mixUser
	var user, passwordFile, network, relay string
	var ca []string
	c := &cobra.Command{Use: "register [URL]", Short: "Make a client of the mix network, and register it with a relay", Args: cobra.MaximumNArgs(1),
		Long: `Make the keys of a client, if there are none, and register it with the relay through which
it will send and receive.

With the URL of a relay where you have an account: the password is asked for, or read from
standard input or a file. An account has up to four clients.

With --network and --relay the relay is a bare node, whose operator adds your link key,
which is printed, to the node's list of clients.`,
		Example: "  postern mix register https://relay.example --user anna@relay.example\n  postern mix register --network network --relay myrelay"}
	u.flags(c)
	c.Flags().StringVar(&user, "user", "", "your `address` at the relay")
	c.Flags().StringVar(&passwordFile, "password-file", "", "`file` with the password")
	c.Flags().StringArrayVar(&ca, "ca", nil, "`file` of certificates in PEM form that are trusted beside the system's; may be repeated")
	c.Flags().StringVar(&network, "network", "", "network `file`, for a bare node")
	c.Flags().StringVar(&relay, "relay", "", "`nickname` or ID of the bare node")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var p *mixclient.Profile
		var err error
		switch {
		case len(args) == 1 && user != "" && network == "" && relay == "":
			p, err = register(c, io, &u, args[0], user, passwordFile, ca)
		case len(args) == 0 && user == "" && network != "" && relay != "":
			var text []byte
			if text, err = vfs.ReadFile(vfs.OS(), network); err != nil {
				return errs.E("cmd.register", errs.KindOf(err), "cannot read the network file "+network, err)
			}
			p, err = mixclient.RegisterBare(c.Context(), u.options(io), text, relay)
		default:
			return usageError{c.CommandPath(), fmt.Errorf("give a URL and --user, or --network and --relay")}
		}
		if err != nil {
			return registerHint(err)
		}
		key, err := mixclient.LinkKey(u.options(io))
		if err != nil {
			return err
		}
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		address := opened.Address().String()
		if *js {
			return printJSON(io.out, map[string]string{"dir": u.dir, "relay": p.Node, "mailbox": p.Mailbox, "link_key": key.String(), "address": address})
		}
		fmt.Fprintf(io.out, "Registered with relay %s.\n", p.Node[:16])
		if relay != "" {
			fmt.Fprintf(io.out, "Its operator adds this link key to the node's list of clients:\n  %s\n", key)
		}
		fmt.Fprintln(io.out, "Your address, for those who shall write to you: postern mix address\nTo send and receive: postern mix run")
		return nil
	}
	return c
}

func register(c *cobra.Command, io streams, u *mixUser, url, user, passwordFile string, ca []string) (*mixclient.Profile, error) {
	password, err := relayPassword(io, user, passwordFile)
	if err != nil {
		return nil, err
	}
	d, err := dial.New(dial.Options{CAFiles: ca})
	if err != nil {
		return nil, err
	}
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: d.Config(), Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // no password goes elsewhere
	return mixclient.Register(c.Context(), u.options(io), mixclient.Account{URL: url, Name: user, Password: string(password), LinkOnly: true}, hc)
}

func registerHint(err error) error {
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return hint(err, "Nothing was registered. Where the authority that signed it is one of your own: --ca FILE")
	}
	switch errs.KindOf(err) {
	case errs.Full:
		return hint(err, "Take a client away that is not used any more: postern account mix ADDRESS --remove KEY, or ask the operator")
	case errs.Auth:
		return hint(err, "Nothing was registered. The keys that were made stay for the next try.")
	case errs.Unavailable, errs.Busy:
		return hint(err, "Nothing was registered; try again later.")
	}
	return err
}

func mixAddressCommand(io streams) *cobra.Command {
	var u mixUser
	var file string
	c := &cobra.Command{Use: "address", Short: "Print the address at which others reach you through the mix network", Args: cobra.NoArgs,
		Long: `Print the address of your packet box: its name, your relay, and the key that letters to
you are sealed to. Whoever has it can write to you, and knows your relay. The fingerprint
is for comparing by voice.`,
		Example: "  postern mix address\n  postern mix address -o anna.pb"}
	u.flags(c)
	c.Flags().StringVarP(&file, "output", "o", "", "write it to this `file`, which must not exist")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		a := opened.Address()
		key, err := opened.LinkKey()
		if err != nil {
			return err
		}
		if file != "" {
			if err := writeNew(file, []byte(a.String()+"\n")); err != nil {
				return err
			}
		}
		if *js {
			return printJSON(io.out, map[string]string{"address": a.String(), "fingerprint": a.Key.Fingerprint(), "relay": fmt.Sprintf("%x", a.Relay), "mailbox": fmt.Sprintf("%x", a.Mailbox), "link_key": key.String()})
		}
		if file == "" {
			fmt.Fprintln(io.out, a)
		}
		fmt.Fprintf(io.err, "Fingerprint: %s\nLink key, for the operator of a bare relay: %s\n", a.Key.Fingerprint(), key)
		return nil
	}
	return c
}

// writeNew writes a file that only its owner can read, and that must not exist.
func writeNew(name string, b []byte) error {
	const op = "cmd.writeNew"
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errs.E(op, errs.Unavailable, "cannot make the file "+name, err)
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(name)
		return errs.E(op, errs.Unavailable, "cannot write the file "+name, err)
	}
	return nil
}

// mixLive is what mix run prints with --json: first that it runs, then how it stands.
type mixLive struct {
	Ready     bool   `json:"ready,omitempty"`
	Connected bool   `json:"connected"`
	Problem   string `json:"problem,omitempty"`
	Waiting   int    `json:"waiting"`
	Sent      int    `json:"sent"`
	Received  int    `json:"received"`
	Drops     int    `json:"drops"`
	Loops     int    `json:"loops"`
	Back      int    `json:"loops_back"`
	Lost      int    `json:"loops_lost"`
	Strange   int    `json:"strange"`
}

func liveOf(s mixnet.Status) mixLive {
	l := mixLive{Connected: s.Link.Connected, Waiting: s.Waiting, Sent: s.Sent, Received: s.Received, Drops: s.Drops, Loops: s.Loops, Back: s.Back, Lost: s.Lost, Strange: s.Strange}
	switch {
	case !s.Link.Connected && s.Link.Err != nil:
		l.Problem = errs.Public(s.Link.Err)
	case s.Problem != nil:
		l.Problem = errs.Public(s.Problem)
	}
	return l
}

func mixRunCommand(io streams) *cobra.Command {
	var u mixUser
	var every time.Duration
	c := &cobra.Command{Use: "run", Short: "Send what waits and receive, under cover traffic, until it is stopped", Args: cobra.NoArgs,
		Long: `Keep a connection to your relay on which packets leave at random moments, whether there
is mail or not, so that nobody who watches it learns when you write or how much. It sends
what postern mix send left, and puts what comes into the inbox (postern mix fetch). The
more of the time it runs, the less your times of use tell.`,
		Example: "  postern mix run\n  postern mix run --json"}
	u.flags(c)
	c.Flags().DurationVar(&every, "report", time.Minute, "print how it stands each so often, when something has changed; 0: never")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		opened, err := u.open(io)
		if err != nil {
			return err
		}
		ctx, stop := interrupted(c)
		defer stop()
		err = opened.Run(ctx, mixclient.Mode{}, func(ctx context.Context, live *mixnet.Client) error {
			if *js {
				if err := printJSON(io.out, mixLive{Ready: true}); err != nil {
					return err
				}
			} else {
				fmt.Fprintln(io.out, "Running; to stop: Ctrl-C")
			}
			if every <= 0 {
				<-ctx.Done()
				return nil
			}
			return report(ctx, live, io, every, *js)
		})
		if isBusy(err) {
			return hint(err, "One client at a time runs in a directory.")
		}
		return err
	}
	return c
}

// report prints how the client stands, whenever that has changed.
func report(ctx context.Context, live *mixnet.Client, io streams, every time.Duration, js bool) error {
	t := time.NewTicker(every)
	defer t.Stop()
	var last mixLive
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := liveOf(live.Status())
		if now == last {
			continue
		}
		last = now
		if js {
			if err := printJSON(io.out, now); err != nil {
				return err
			}
			continue
		}
		state := "connected"
		if !now.Connected {
			state = "not connected"
		}
		if now.Problem != "" {
			state += " (" + now.Problem + ")"
		}
		fmt.Fprintf(io.out, "%s: %d messages wait; sent %d packets of mail, %d of cover; received %d; loops back %d of %d\n",
			state, now.Waiting, now.Sent, now.Drops+now.Loops, now.Received, now.Back, now.Loops)
	}
}

// descriptors reads the files that a path names, for later.
type descriptors struct{ files map[string][]byte }

func (d *descriptors) read(name string) (*directory.Descriptor, error) {
	desc, b, err := dircache.ReadDescriptor(vfs.OS(), name)
	if err == nil {
		d.files[name] = b
	}
	return desc, err
}

// wayText shows a way: nicknames, with what was asked of each.
func wayText(w mixnet.Way) string {
	var names []string
	for _, h := range w.Hops {
		names = append(names, h.Entry.Nickname)
	}
	return strings.Join(names, " > ")
}

// recipient is what -t names.
type recipient struct {
	address letter.Address
	name    string // of an exit's address file
	exit    string // nickname
}

// parseRecipient reads -t: the text of an address, a file that holds one, or NAME@NICKNAME.
func parseRecipient(to string) (recipient, error) {
	const op = "cmd.recipient"
	if !strings.HasPrefix(to, letter.AddressPrefix) {
		if b, err := vfs.ReadFile(vfs.OS(), to); err == nil {
			if i := strings.Index(string(b), letter.AddressPrefix); i >= 0 {
				to = string(b[i:])
			} else {
				return recipient{}, errs.E(op, errs.Invalid, "there is no address in the file "+to, nil)
			}
		} else if name, exit, ok := cutLast(to, "@"); ok && name != "" && exit != "" {
			return recipient{name: name, exit: exit}, nil
		} else {
			return recipient{}, errs.E(op, errs.Invalid, "this is no address: it begins with pb:, is a file that holds such a one, or is NAME@NICKNAME for a mailbox of an exit", nil)
		}
	}
	a, err := letter.ParseAddress(to)
	return recipient{address: a}, err
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
