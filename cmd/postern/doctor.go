package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern.email/kit/errs"
	"postern.email/role/relay"
)

func doctorCommand(io streams) *cobra.Command {
	var src source
	c := &cobra.Command{Use: "doctor", Short: "Look at the running relay as strangers do: names, ports, certificate", GroupID: groupOperate, Args: cobra.NoArgs,
		Long: `Look at the running relay as strangers do: whether its domain leads to it, and
whether the ports answer there with a certificate that is trusted. It asks the
resolver and trusts the certificates that the configuration names.`,
		Example: "  postern doctor --config /etc/postern.toml\n  postern doctor --json"}
	src.flags(c)
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []relay.Diagnosis
		if err := src.call(c.Context(), "doctor", nil, &all, nil); err != nil {
			return err
		}
		bad := 0
		for _, d := range all {
			if !d.OK {
				bad++
			}
		}
		if *js {
			if err := printJSON(io.out, all); err != nil {
				return err
			}
		} else {
			for _, d := range all {
				mark := "ok   "
				if !d.OK {
					mark = "FAULT"
				}
				fmt.Fprintf(io.out, "%s  %-12s %s\n", mark, d.What, d.Text)
				if d.Next != "" {
					fmt.Fprintf(io.out, "       %-12s %s\n", "", d.Next)
				}
			}
		}
		if bad > 0 {
			return errs.E("cmd.doctor", errs.Unavailable, fmt.Sprintf("%d of %d things are not in order; mail that is stored is not concerned", bad, len(all)), nil)
		}
		return nil
	}
	return c
}
