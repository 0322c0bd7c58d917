package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/role/relay"
	"postern.email/wire/control"
)

func dnsCommand(io streams) *cobra.Command {
	var src source
	var file string
	c := &cobra.Command{Use: "dns", Short: "Print the records that belong in the DNS, and look whether they are there", GroupID: groupOperate, Args: cobra.NoArgs,
		Long: `Print the records that belong in the DNS as a zone file (BIND), and below each
what the resolver says of it: ok, MISSING, WRONG. What is missing is to be pasted
as it stands. It works on a running relay as well as on a stopped one. The exit code
is 1 when a record is missing or wrong without which mail does not come or go.

Where a DNS hoster has a form with one field for the text of a record, the strings of
a line belong together: --json has them joined.`,
		Example: "  postern dns\n  postern dns --zonefile example.org.zone\n  postern dns --json | jq -r '.records[] | select(.verdict != \"ok\") | .line'"}
	src.flags(c)
	c.Flags().StringVar(&file, "zonefile", "", "only write the records to this `file`, - for standard output; nothing is asked")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := src.load()
		if err != nil {
			return err
		}
		z, err := zoneOf(c.Context(), io, cfg, file == "")
		if errs.KindOf(err) == errs.NotFound {
			return hint(err, "To make one: postern init DOMAIN")
		}
		switch {
		case err != nil:
			return err
		case *js:
			err = printJSON(io.out, z)
		case file != "" && file != "-":
			if err := vfs.WriteFileAtomic(vfs.OS(), file, []byte(z.File()), 0o644); err != nil {
				return errs.E("cmd.dns", errs.KindOf(err), "cannot write "+file, err)
			}
			fmt.Fprintf(io.out, "Wrote %s: %d records.\n", file, len(z.Records))
			return nil
		default:
			_, err = fmt.Fprint(io.out, z.File())
		}
		if err != nil || !z.Checked {
			return err
		}
		required, recommended, silent := 0, 0, 0
		for _, r := range z.Records {
			switch {
			case r.Verdict == relay.RecordUnknown:
				silent++
			case r.Bad() && r.Required:
				required++
			case r.Bad():
				recommended++
			}
		}
		if silent > 0 {
			return hint(errs.E("cmd.dns", errs.Unavailable, fmt.Sprintf("the resolver does not answer for %d of %d records", silent, len(z.Records)), nil), "Look at network.resolver, or try later.")
		}
		if required > 0 {
			return errs.E("cmd.dns", errs.Unavailable, fmt.Sprintf("of %d records %d that are required and %d that are recommended are not in order", len(z.Records), required, recommended), nil)
		}
		if !*js {
			fmt.Fprintf(io.out, "\n; %s\n", map[bool]string{true: "All records are in order.", false: fmt.Sprintf("All that is required is in order; %d recommended records are not.", recommended)}[recommended == 0])
		}
		return nil
	}
	return c
}

// zoneOf asks the running relay for its records, or makes them from the data of one that is
// stopped.
func zoneOf(ctx context.Context, io streams, cfg relay.Config, check bool) (z relay.Zone, err error) {
	err = control.Call(ctx, cfg.Dir, "dns", relay.ZoneArgs{Check: check}, &z, nil)
	if errs.KindOf(err) != errs.NotFound {
		return z, err
	}
	err = overStopped(ctx, io, cfg, func(s *relay.State) (err error) {
		z, err = s.Zone(ctx, check)
		return err
	})
	return z, err
}

// exists tells whether there is something with this name; what cannot be looked at is there.
func exists(name string) bool {
	_, err := os.Lstat(name)
	return !os.IsNotExist(err)
}
