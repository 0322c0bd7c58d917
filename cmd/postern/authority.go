package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/role/authority"
	"postern.email/role/relay"
	"postern.email/wire/control"
)

func authorityCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "authority", Short: "Run a directory authority of a mix network", GroupID: groupMix,
		Long: `Run a directory authority of a mix network: 1 to 9 of them agree once an epoch on the
list of nodes that all members use, and sign it. More than half must sign. New nodes wait
until the operator approves them.

One authority alone:

  postern authority init NETWORK --address HOST:48100
  postern authority serve
  postern authority list       # which nodes wait
  postern authority approve FINGERPRINT

Several: each operator runs init with the same name and period, they give each other the
network files that it makes, and join them:

  postern authority network a.network b.network c.network --output /etc/postern/network`}
	c.AddCommand(authorityInit(io), authorityNetwork(io), authorityServe(io), authorityStatus(io), authorityList(io), authorityShow(io),
		authorityApprove(io), authorityReject(io), authorityForget(io), authorityProofs(io), authorityConfig(io))
	return c
}

// Where things of an authority lie on a machine of its own.
const (
	authoritySystemConfig  = "/etc/postern/authority.toml"
	authoritySystemDir     = "/var/lib/postern-authority"
	authoritySystemNetwork = "/etc/postern/network"
	authoritySystemUnit    = "/etc/systemd/system/postern-authority.service"
	authorityConfigEnv     = "POSTERN_AUTHORITY_CONFIG"
	authorityCredential    = "postern-authority-passphrase"
)

// authoritySource is where the configuration of an authority comes from.
type authoritySource struct {
	file string
	dir  string
	set  []string
}

func (s *authoritySource) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.file, "config", "", "configuration file (default $"+authorityConfigEnv+", or "+authoritySystemConfig+", if it exists)")
	c.Flags().StringVar(&s.dir, "dir", "", "data directory (default: that of the configuration)")
	c.Flags().StringArrayVar(&s.set, "set", nil, "override an option, section.key=`value`; may be repeated")
}

// find names the file to read where --config does not say it.
func (s *authoritySource) find() {
	if s.file != "" {
		return
	}
	if s.file = os.Getenv(authorityConfigEnv); s.file != "" {
		return
	}
	if exists(authoritySystemConfig) {
		s.file = authoritySystemConfig
	}
}

// load reads the configuration that was named or found.
func (s *authoritySource) load() (authority.Config, error) {
	var c authority.Config
	if s.find(); s.file == "" && s.dir == "" {
		return c, hint(errs.E("cmd.authority", errs.Invalid, "no configuration of an authority was named or found", nil),
			"To name one: --config FILE. To make one: postern authority init NETWORK --address HOST:48100")
	}
	if err := config.Load(&c, s.file, nil); err != nil {
		return c, hint(err, "To see what can be set: postern authority config")
	}
	if s.dir != "" {
		c.Dir = s.dir
	}
	if err := config.Apply(&c, s.set); err != nil {
		return c, usageError{"postern authority config", err}
	}
	if err := c.Check(); err != nil {
		return c, hint(err, "To see what can be set: postern authority config")
	}
	return c, absolute(&c.Dir, &c.Network)
}

// absolute makes paths absolute; those of a configuration file begin where the command runs.
func absolute(paths ...*string) error {
	for _, p := range paths {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return errs.E("cmd.authority", errs.Invalid, "a directory has no path", err)
		}
		*p = abs
	}
	return nil
}

// call asks the running authority; its absence is an error that says what to type.
func (s *authoritySource) call(ctx context.Context, command string, args, result any, progress func(json.RawMessage)) error {
	c, err := s.load()
	if err != nil {
		return err
	}
	err = control.Call(ctx, c.Dir, command, args, result, progress)
	if errs.KindOf(err) == errs.NotFound && isNoServer(ctx, c.Dir) {
		return hint(errs.E("cmd.authority", errs.NotFound, "no authority is running in "+c.Dir, err), "To start it: postern authority serve"+s.again())
	}
	return err
}

// again is what names the same configuration in another command.
func (s *authoritySource) again() (text string) {
	if s.file != "" && s.file != authoritySystemConfig {
		text += " --config " + s.file
	}
	if s.dir != "" {
		text += " --dir " + s.dir
	}
	return text
}

// authorityDeps are the surroundings that the configuration asks for.
func authorityDeps(io streams, c authority.Config) authority.Deps {
	d := authority.Deps{Version: nodeVersion(), Paranoia: !careless()}
	switch c.Identity.Passphrase {
	case "ask":
		d.Passphrase = passphraseOf(io, "identity")
	case "credential":
		d.Passphrase = func(bool) ([]byte, error) { return credential(authorityCredential) }
	}
	return d
}

// nodeVersion is the program as the documents of the mix network name it.
func nodeVersion() string { return "postern-" + relay.Version }

// credential reads a systemd credential, without the end of its last line.
func credential(name string) ([]byte, error) {
	const op = "cmd.credential"
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	b, err := os.ReadFile(filepath.Join(dir, name))
	if dir == "" || err != nil {
		return nil, hint(errs.E(op, errs.Unavailable, "systemd passes no credential "+name+" here", err), "In the unit: LoadCredentialEncrypted="+name+":FILE")
	}
	return []byte(strings.TrimRight(string(b), "\r\n")), nil
}

// listNodes asks for all nodes.
func (s *authoritySource) listNodes(ctx context.Context) (out []authority.Node, err error) {
	var bad error
	err = s.call(ctx, "authority.list", nil, nil, func(line json.RawMessage) {
		var n authority.Node
		if err := json.Unmarshal(line, &n); err != nil {
			bad = errs.E("cmd.authority", errs.Invalid, "the authority's answer cannot be read", err)
			return
		}
		out = append(out, n)
	})
	return out, firstOf(err, bad)
}

func authorityList(io streams) *cobra.Command {
	var src authoritySource
	var waiting bool
	c := &cobra.Command{Use: "list", Short: "List the nodes that this authority knows, those that wait first", Args: cobra.NoArgs,
		Long: `List the nodes that this authority knows: those that wait for a decision, those that
are approved, and identities that were rejected. A node is named by the first 16 digits of
its fingerprint, which its operator can tell you on another way. A nickname is only what
the node calls itself: until it is approved, anybody can.`,
		Example: "  postern authority list\n  postern authority list --waiting\n  postern authority list --json | jq -r 'select(.state == \"waits\") | .id'"}
	src.flags(c)
	c.Flags().BoolVar(&waiting, "waiting", false, "only those that wait for a decision")
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each node")
	c.RunE = func(c *cobra.Command, _ []string) error {
		all, err := src.listNodes(c.Context())
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		n := 0
		for _, x := range all {
			open := x.State == authority.StateWaits || x.State == authority.StateChanged
			if waiting && !open {
				continue
			}
			if *js {
				if err := printJSON(io.out, x); err != nil {
					return err
				}
				continue
			}
			if n++; n == 1 {
				fmt.Fprintln(w, "FINGERPRINT\tNICKNAME\tMODE\tSTATE\tSINCE\tSCORE\tADDRESSES")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.ID[:fingerprintDigits], dash(x.Nickname), dash(x.Mode), nodeState(x), dash(x.Since), nodeScore(x), dash(strings.Join(x.Addresses, " ")))
		}
		if err := w.Flush(); err != nil || *js {
			return err
		}
		switch {
		case n == 0 && waiting:
			fmt.Fprintln(io.out, "No node waits for a decision.")
		case n == 0:
			fmt.Fprintln(io.out, "No node is known yet. A node publishes by itself when it has the network file and Publish is on.")
		}
		return nil
	}
	return c
}

// fingerprintDigits of a fingerprint are shown where lines are short; as many name a node.
const fingerprintDigits = 16

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func nodeState(n authority.Node) string {
	switch {
	case n.Reason != "":
		return n.State + ": " + n.Reason
	case n.State == authority.StateApproved && !n.Fresh:
		return "approved, but away"
	}
	return n.State
}

func nodeScore(n authority.Node) string {
	if n.Score == nil {
		return "-"
	}
	return fmt.Sprint(*n.Score)
}

// printNode shows all of one node.
func printNode(io streams, n authority.Node) {
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	line := func(what, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", what, value)
		}
	}
	line("fingerprint", n.ID)
	line("state", nodeState(n))
	line("since", n.Since)
	line("nickname", n.Nickname)
	line("mode", n.Mode)
	line("mixing", n.Mixing)
	line("family", n.Family)
	line("domains", strings.Join(n.Domains, " "))
	line("addresses", strings.Join(n.Addresses, " "))
	line("link key", n.LinkKey)
	line("version", n.Version)
	line("published", n.Published)
	line("contact", n.Contact)
	line("OpenPGP key", n.OpenPGP)
	line("comments", n.Comments)
	line("descriptor", n.Descriptor)
	if n.Score != nil {
		line("score", nodeScore(n)+" of 1000")
	}
	if w := n.Was; w != nil {
		line("approved is", fmt.Sprintf("%s, %s, family %s, domains %s; it stays until you decide", w.Nickname, w.Mode, dash(w.Family), dash(strings.Join(w.Domains, " "))))
	}
	w.Flush()
}

// decide makes a command that decides about nodes.
func decide(io streams, c *cobra.Command, verb, done string) *cobra.Command {
	var src authoritySource
	var descriptor string
	c.Args = cobra.MinimumNArgs(1)
	src.flags(c)
	if verb == "approve" {
		c.Flags().StringVar(&descriptor, "descriptor", "", "approve only the descriptor with this `hash` (authority show NODE)")
	}
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each node")
	c.RunE = func(c *cobra.Command, args []string) error {
		if descriptor != "" && len(args) > 1 {
			return usageError{c.CommandPath(), fmt.Errorf("--descriptor is of one node, and several are named")}
		}
		for _, name := range args {
			var n authority.Node
			if err := src.call(c.Context(), "authority."+verb, authority.NodeArgs{Node: name, Descriptor: descriptor}, &n, nil); err != nil {
				return hint(err, "To see the nodes: postern authority list"+src.again())
			}
			if *js {
				if err := printJSON(io.out, n); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(io.out, "%s: %s", done, n.ID)
			if n.Nickname != "" {
				fmt.Fprintf(io.out, " (%s, %s)", n.Nickname, n.Mode)
			}
			fmt.Fprintln(io.out)
		}
		return nil
	}
	return c
}

func authorityApprove(io streams) *cobra.Command {
	return decide(io, &cobra.Command{Use: "approve FINGERPRINT...", Short: "Let nodes that wait into the network",
		Long: `Let nodes that wait into the network. Compare the fingerprint with what the node's
operator tells you on another way; 16 digits of it are enough here, a nickname is not.

From then on this authority votes for the node: it is in the list when more than half of
the authorities do. Later descriptors of the node are taken by themselves, unless they
claim another nickname, mode, family or domain: then they wait, and the approved one stays.`,
		Example: "  postern authority approve 4f1d2c3b5a697887\n  postern authority approve 4f1d2c3b5a697887 --descriptor HASH   # what you looked at, and nothing newer"}, "approve", "Approved")
}

func authorityReject(io streams) *cobra.Command {
	return decide(io, &cobra.Command{Use: "reject NODE...", Short: "Drop nodes, approved or not, and refuse their identities from now on",
		Example: "  postern authority reject 4f1d2c3b5a697887\n  postern authority reject badmix"}, "reject", "Rejected")
}

func authorityForget(io streams) *cobra.Command {
	return decide(io, &cobra.Command{Use: "forget NODE...", Short: "Make nodes strangers again: they may come back, and wait",
		Long:    "Make nodes strangers again, whether they wait, are approved or rejected. What they called\nthemselves is free for others.",
		Example: "  postern authority forget 4f1d2c3b5a697887"}, "forget", "Forgotten")
}
