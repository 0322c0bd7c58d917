package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/role/authority"
)

func authorityShow(io streams) *cobra.Command {
	var src authoritySource
	var epoch uint64
	var raw bool
	c := &cobra.Command{Use: "show [NODE]", Short: "Show a node, or the newest list of nodes", Args: cobra.MaximumNArgs(1),
		Long: `Show a node that the running authority knows, or, without an argument, the newest
consensus that it has: who signed it, and the nodes with their layers and scores. The
latter works on a stopped authority too.`,
		Example: "  postern authority show 4f1d2c3b5a697887\n  postern authority show\n  postern authority show --epoch 500000 --raw > consensus"}
	src.flags(c)
	c.Flags().Uint64Var(&epoch, "epoch", 0, "the consensus of this epoch in place of the newest")
	c.Flags().BoolVar(&raw, "raw", false, "print the consensus as it is signed")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 {
			if raw || epoch != 0 {
				return usageError{c.CommandPath(), fmt.Errorf("--epoch and --raw are about the consensus: leave the node out")}
			}
			var n authority.Node
			if err := src.call(c.Context(), "authority.node", authority.NodeArgs{Node: args[0]}, &n, nil); err != nil {
				return hint(err, "To see the nodes: postern authority list"+src.again())
			}
			if *js {
				return printJSON(io.out, n)
			}
			printNode(io, n)
			return nil
		}
		cfg, err := src.load()
		if err != nil {
			return err
		}
		p, err := authority.Consensus(cfg, authority.Deps{}, epoch)
		switch {
		case errs.KindOf(err) == errs.NotFound:
			return hint(err, "To see what the agreement waits for: postern authority status"+src.again())
		case err != nil:
			return err
		case raw:
			_, err := io.out.Write(p.Bytes())
			return err
		}
		v := consensusView(p)
		if *js {
			return printJSON(io.out, v)
		}
		fmt.Fprintf(io.out, "Consensus of %s, epoch %d, valid %s to %s\n  hash       %s\n  signed by  %s\n\n", v.Network, v.Epoch, v.ValidAfter, v.ValidUntil, v.Hash, dash(strings.Join(v.SignedBy, "\n             ")))
		w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "FINGERPRINT\tNICKNAME\tMODE\tLAYER\tSCORE\tADDRESSES")
		for _, n := range v.Nodes {
			layer := "-"
			if n.Layer > 0 {
				layer = fmt.Sprint(n.Layer)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", n.ID[:fingerprintDigits], n.Nickname, n.Mode, layer, n.Score, strings.Join(n.Addresses, " "))
		}
		return w.Flush()
	}
	return c
}

// consensusText is a consensus as the command shows it.
type consensusText struct {
	Network    string            `json:"network"`
	Epoch      uint64            `json:"epoch"`
	Hash       string            `json:"hash"`
	ValidAfter string            `json:"valid_after"`
	ValidUntil string            `json:"valid_until"`
	SignedBy   []string          `json:"signed_by"`
	Parameters map[string]uint64 `json:"parameters"`
	Nodes      []nodeText        `json:"nodes"`
}

type nodeText struct {
	ID        string   `json:"id"`
	Nickname  string   `json:"nickname"`
	Mode      string   `json:"mode"`
	Layer     int      `json:"layer,omitempty"`
	Score     uint64   `json:"score"`
	Family    string   `json:"family,omitempty"`
	Addresses []string `json:"addresses"`
}

func consensusView(p *directory.Consensus) consensusText {
	const form = "2006-01-02T15:04:05Z"
	v := consensusText{Network: p.Network, Epoch: p.Epoch, Hash: p.Hash().String(), ValidAfter: p.ValidAfter().Format(form), ValidUntil: p.ValidUntil().Format(form),
		SignedBy: []string{}, Parameters: map[string]uint64{}, Nodes: []nodeText{}}
	for i := range p.Signatures {
		v.SignedBy = append(v.SignedBy, fmt.Sprintf("%x", p.Signatures[i].Signer[:]))
	}
	for _, x := range p.Parameters {
		v.Parameters[x.Name] = x.Value
	}
	for i := range p.Nodes {
		n := &p.Nodes[i]
		v.Nodes = append(v.Nodes, nodeText{ID: fmt.Sprintf("%x", n.ID[:]), Nickname: n.Nickname, Mode: n.Mode.String(), Layer: n.Layer, Score: n.Score, Family: n.Family, Addresses: n.Addresses})
	}
	return v
}

// proofText is a proof as the command shows it.
type proofText struct {
	Hash    string `json:"hash"`
	Kind    string `json:"kind"`
	Accused string `json:"accused"`
	Epoch   uint64 `json:"epoch"`
	Bytes   int    `json:"bytes"`
}

func authorityProofs(io streams) *cobra.Command {
	var src authoritySource
	var check string
	c := &cobra.Command{Use: "proofs [HASH]", Short: "List the proofs that an authority broke a rule, or print one", Args: cobra.MaximumNArgs(1),
		Long: `List the proofs that an authority broke a rule of the agreement: two votes, a value that
it did not commit to, a signature under something else than what follows from the votes.
Anybody who has the network file can check a proof (--check); the first digits of its hash
print it. It works on a stopped authority too.`,
		Example: "  postern authority proofs\n  postern authority proofs 3f2a > proof\n  postern authority proofs --check proof"}
	src.flags(c)
	c.Flags().StringVar(&check, "check", "", "check a proof in a `file`, with the network file of the configuration")
	js := c.Flags().Bool("json", false, "print one JSON object a line, one for each proof")
	c.RunE = func(c *cobra.Command, args []string) error {
		cfg, err := src.load()
		if err != nil {
			return err
		}
		if check != "" {
			return checkProof(io, cfg, check, *js)
		}
		all, err := authority.Proofs(cfg, authority.Deps{})
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return printProof(io, all, args[0])
		}
		for _, p := range all {
			x := proofView(p)
			if *js {
				if err := printJSON(io.out, x); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(io.out, "%s  %s  authority %s, epoch %d, %s\n", x.Hash[:fingerprintDigits], x.Kind, x.Accused[:fingerprintDigits], x.Epoch, size(int64(x.Bytes)))
		}
		if len(all) == 0 && !*js {
			fmt.Fprintln(io.out, "None: no authority is known to have broken a rule.")
		}
		return nil
	}
	return c
}

func proofView(p *directory.Proof) proofText {
	return proofText{p.Hash().String(), string(p.Kind), fmt.Sprintf("%x", p.Accused[:]), p.Epoch, len(p.Bytes())}
}

func printProof(io streams, all []*directory.Proof, hash string) error {
	var found *directory.Proof
	for _, p := range all {
		if strings.HasPrefix(p.Hash().String(), strings.ToLower(hash)) {
			if found != nil {
				return errs.E("cmd.proofs", errs.Invalid, "several proofs begin with these digits", nil)
			}
			found = p
		}
	}
	if found == nil {
		return hint(errs.E("cmd.proofs", errs.NotFound, "no proof begins with these digits", nil), "To list them: postern authority proofs")
	}
	_, err := io.out.Write(found.Bytes())
	return err
}

func checkProof(io streams, cfg authority.Config, file string, js bool) error {
	const op = "cmd.proofs"
	n, err := authority.LoadNetwork(vfs.OS(), cfg.Network)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return errs.E(op, errs.Unavailable, "cannot read "+file, err)
	}
	p, err := directory.ParseProof(b)
	if err == nil {
		err = directory.VerifyProof(n, p)
	}
	if err != nil {
		return errs.E(op, errs.KindOf(err), file+" proves nothing: "+errs.Public(err), err)
	}
	x := proofView(p)
	if js {
		return printJSON(io.out, x)
	}
	fmt.Fprintf(io.out, "It is true: authority %s, epoch %d: %s.\n", x.Accused, x.Epoch, x.Kind)
	return nil
}

// Titles of docs/authority-config.md, which a test compares with `postern authority config
// --markdown`.
const (
	authorityReferenceTitle = "Configuration of a directory authority"
	authorityReferenceIntro = "Generated by `postern authority config --markdown`; do not edit. One TOML file, read by `postern authority serve --config FILE`. " +
		"Any option can be given to any command that reads it with `--set section.key=value`. An unknown key is an error."
)

func authorityConfig(io streams) *cobra.Command {
	c := &cobra.Command{Use: "config [KEY]", Short: "Print what can be set, or one option", Args: cobra.MaximumNArgs(1),
		Example: "  postern authority config\n  postern authority config vote.parameters\n  postern authority config --markdown > docs/authority-config.md"}
	describeOptions(io, c, func() any { return &authority.Config{} }, authorityReferenceTitle, authorityReferenceIntro)
	return c
}
