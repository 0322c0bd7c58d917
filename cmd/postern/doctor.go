package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern.email/kit/checkup"
	"postern.email/kit/errs"
	"postern.email/kit/sysinfo"
	"postern.email/role/relay"
)

func doctorCommand(io streams) *cobra.Command {
	var src source
	var a relay.DoctorArgs
	c := &cobra.Command{Use: "doctor", Short: "Say what is wrong with the running relay, and what to do about it", GroupID: groupOperate, Args: cobra.NoArgs,
		Long: `Say what is wrong with the running relay, and what to do about it: clock, disk, memory
and open files of the machine; DNSSEC of the resolver and all DNS records; the
certificates, and whether every port answers under the domain as strangers see it, with
a certificate and chain that they trust. The exit code is 1 when there is a FAULT; advice
alone is none.

--try connects to a mail host of a domain on port 25, as a mail to it would, and hands
over none: it shows whether port 25 is open to the outside.`,
		Example: "  postern doctor\n  postern doctor --try example.net\n  postern doctor --json | jq -r '.[] | select(.ok | not) | .text'"}
	src.flags(c)
	c.Flags().StringVar(&a.Try, "try", "", "connect to a mail host of this `domain` on port 25")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		var all []relay.Diagnosis
		if err := src.call(c.Context(), "doctor", a, &all, nil); err != nil {
			return err
		}
		all = append(clockDiagnosis(sysinfo.ClockSynced()), all...)
		bad := checkup.List(all).Faults()
		if *js {
			if err := printJSON(io.out, all); err != nil {
				return err
			}
		} else {
			printDiagnoses(io, all)
		}
		if bad > 0 {
			return errs.E("cmd.doctor", errs.Unavailable, fmt.Sprintf("%d of %d things are not in order; mail that is stored is not concerned", bad, len(all)), nil)
		}
		return nil
	}
	return c
}

// printDiagnoses prints one or two lines for each.
func printDiagnoses(io streams, all []checkup.Diagnosis) {
	for _, d := range all {
		mark := "ok    "
		switch {
		case d.Advice:
			mark = "advice"
		case !d.OK:
			mark = "FAULT "
		}
		fmt.Fprintf(io.out, "%s  %-16s %s\n", mark, d.What, d.Text)
		if d.Next != "" {
			fmt.Fprintf(io.out, "        %-16s %s\n", "", d.Next)
		}
	}
}

// clockDiagnosis says whether something keeps the clock of this machine right. It is asked
// here and not in the server, which the unit forbids to look at the clock's state.
func clockDiagnosis(synced bool, err error) []relay.Diagnosis {
	switch {
	case err != nil:
		return nil // this system cannot tell
	case synced:
		return []relay.Diagnosis{{What: "clock", OK: true, Text: "the system keeps it right"}}
	}
	return []relay.Diagnosis{{What: "clock", Advice: true, Text: "nothing is seen to keep it right: signatures, certificates and the ends of mails depend on it",
		Next: "Turn on time synchronisation: timedatectl set-ntp true, or install chrony. Some virtual machines get their time from the host: then all is well."}}
}
