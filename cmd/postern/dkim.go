package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"postern.email/role/relay"
)

func dkimCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "dkim", Short: "Show and change the keys that sign mail (DKIM)", GroupID: groupOperate,
		Long: `Show and change the keys that sign the mail of the domain, so that other hosts
believe it. Keys come in pairs, one RSA and one Ed25519; each has a record in the DNS.`}
	c.AddCommand(showDKIM(io), rotateDKIM(io), listDKIM(io))
	return c
}

// dkimVerb makes a dkim command without arguments.
func dkimVerb(io streams, name, short, long, example string, print func(relay.DKIMKeys) error) *cobra.Command {
	var src source
	c := &cobra.Command{Use: name, Short: short, Long: long, Example: example, Args: cobra.NoArgs}
	src.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var got relay.DKIMKeys
		if err := src.call(c.Context(), "dkim."+name, nil, &got, nil); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, got)
		}
		return print(got)
	}
	return c
}

func showDKIM(io streams) *cobra.Command {
	return dkimVerb(io, "show", "Print the records that belong in the DNS, and whether they are seen there",
		`Print the records that belong in the DNS as lines for a zone file, and whether the
resolver sees them. Where a DNS hoster has a form with one field for the text of a
record, the strings of a line belong together: --json has them joined.`,
		"  postern dkim show\n  postern dkim show --json | jq -r '.pairs[].records[] | .name, .text'",
		func(k relay.DKIMKeys) error {
			for i, p := range k.Pairs {
				if i > 0 {
					fmt.Fprintln(io.out)
				}
				fmt.Fprintf(io.out, "; %s: %s\n", p.Name, dkimState(p))
				for _, r := range p.Records {
					fmt.Fprintf(io.out, "%s\n; %s\n", r.Line, dkimSeen(p, r))
				}
			}
			return nil
		})
}

// dkimState says in words what a pair does.
func dkimState(p relay.DKIMPair) string {
	switch p.State {
	case "new":
		return "waits until both records are seen, then signs"
	case "active":
		return "signs"
	case "retiring":
		return "signs no more; its records must stay until " + day(p.MayGo)
	}
	return p.State
}

// dkimSeen says in words what the resolver shows.
func dkimSeen(p relay.DKIMPair, r relay.DKIMRecord) string {
	retiring := p.State == "retiring"
	over := false
	if t, err := time.Parse(time.RFC3339, p.MayGo); err == nil {
		over = !time.Now().Before(t)
	}
	switch {
	case r.Seen == "found" && retiring && over:
		return "seen in the DNS: take it out"
	case r.Seen == "found":
		return "seen in the DNS"
	case r.Seen == "absent" && retiring && over:
		return "not in the DNS any more"
	case r.Seen == "absent":
		return "NOT in the DNS: add the line above"
	case r.Seen == "other":
		return "the DNS has ANOTHER record there: put the line above in its place"
	}
	return "the resolver does not answer: look at network.resolver, or try later"
}

func rotateDKIM(io streams) *cobra.Command {
	return dkimVerb(io, "rotate", "Make a new pair of keys and print its records",
		`Make a new pair of keys. The old one signs on until both records of the new one are
seen in the DNS; then they change places by themselves. The old records must stay for
dkim.rotate_overlap more, because mail that the old keys signed is still under way.`,
		"  postern dkim rotate\n  postern dkim rotate --json",
		func(k relay.DKIMKeys) error {
			for _, p := range k.Pairs {
				fmt.Fprintf(io.out, "New pair: %s. Put these records into the DNS of %s:\n\n", p.Name, strings.Join(append([]string{k.Domain}, k.Further...), ", "))
				for _, r := range p.Records {
					fmt.Fprintln(io.out, r.Line)
				}
				if p.State == "active" {
					fmt.Fprint(io.out, "\nIt is the first pair and signs at once.\n")
					continue
				}
				fmt.Fprintf(io.out, `
What happens next: the running relay looks for both records every few minutes. When it
sees them, the new pair signs and the old one retires; nothing has to be restarted.
Leave the old records where they are for %s after that: postern dkim show says until when.
`, k.Overlap)
			}
			return nil
		})
}

func listDKIM(io streams) *cobra.Command {
	return dkimVerb(io, "list", "List all pairs of keys that were ever made", "", "  postern dkim list\n  postern dkim list --json | jq -r '.pairs[] | .name, .state'",
		func(k relay.DKIMKeys) error {
			w := tabwriter.NewWriter(io.out, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "PAIR\tSTATE\tMADE\tSIGNED FROM\tTO\tPRIVATE KEYS")
			for _, p := range k.Pairs {
				private := "sealed"
				if p.State == "removed" {
					private = map[bool]string{true: "published", false: "destroyed"}[p.Published]
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.State, day(p.Made), day(p.Activated), day(p.Retired), private)
			}
			return w.Flush()
		})
}

// day gives the day of a time stamp, "-" for none.
func day(stamp string) string {
	d, _, _ := strings.Cut(stamp, "T")
	if d == "" {
		return "-"
	}
	return d
}
