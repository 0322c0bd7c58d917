package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"postern.email/agent/evidence"
	"postern.email/kit/errs"
	"postern.email/mail/dkim"
	"postern.email/wire/dns"
)

// verifyTime bounds all look-ups of one file.
const verifyTime = time.Minute

func verifyEvidence(io streams) *cobra.Command {
	var offline bool
	var resolver string
	c := &cobra.Command{Use: "verify-evidence FILE", Short: "Check a file that shows who passed an alias on", Args: cobra.ExactArgs(1),
		Long: `Check a file that postern alias evidence wrote, without any server of ours: whether the
signatures of both mails are valid, whether their keys are still in the DNS, and what that proves
and what not. - is standard input. The exit code is 1 if it does not hold.`,
		Example: "  postern alias verify-evidence evidence.json\n  postern alias verify-evidence evidence.json --offline --json"}
	c.Flags().BoolVar(&offline, "offline", false, "do not look the keys up in the DNS")
	c.Flags().StringVar(&resolver, "resolver", "", "DNS server to ask, `host:port` (default: the system's)")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		text, err := readBounded(io, args[0], evidence.MaxFile)
		if err != nil {
			return err
		}
		f, err := evidence.Parse(text)
		if err != nil {
			return err
		}
		var lookup dkim.Lookup
		if !offline {
			r, err := dns.New(dns.Options{Server: resolver})
			if err != nil {
				return err
			}
			lookup = r.TXT
		}
		ctx, cancel := context.WithTimeout(c.Context(), verifyTime)
		defer cancel()
		r := evidence.Verify(ctx, f, lookup)
		if *js {
			err = printJSON(io.out, r)
		} else {
			printEvidence(io, r)
		}
		if err == nil && !r.Holds {
			err = errs.E("cmd.verifyEvidence", errs.Denied, "the evidence does not hold", nil)
		}
		return err
	}
	return c
}

func printEvidence(io streams, r *evidence.Report) {
	fmt.Fprintf(io.out, "Alias: %s\n", r.Alias)
	for _, m := range []struct {
		name string
		c    evidence.Checked
	}{{"Expected", r.Expected}, {"Stranger", r.Stranger}} {
		fmt.Fprintf(io.out, "%s: from %s, received %s\n  signature: %s", m.name, m.c.From, m.c.Received.UTC().Format(time.DateTime), m.c.Signature)
		if m.c.Domain != "" {
			fmt.Fprintf(io.out, " (%s; the key in the DNS: %s)", m.c.Domain, m.c.Key)
		}
		fmt.Fprintln(io.out)
	}
	for _, list := range []struct {
		name  string
		lines []string
	}{{"Proved:", r.Proved}, {"Not proved:", r.Unproved}} {
		if len(list.lines) > 0 {
			fmt.Fprintln(io.out, list.name)
		}
		for _, l := range list.lines {
			fmt.Fprintln(io.out, "  "+l)
		}
	}
}
