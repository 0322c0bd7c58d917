package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/role/mix"
)

func importCommand(io streams) *cobra.Command {
	c := &cobra.Command{Use: "import", Short: "Take over the configuration of another program", GroupID: groupConfig}
	c.AddCommand(importMixminiondCommand(io), importMailproxyCommand(io))
	return c
}

func importMixminiondCommand(io streams) *cobra.Command {
	var out string
	c := &cobra.Command{Use: "mixminiond FILE", Short: "Rewrite a mixminiond.conf, and say what becomes of each option", Args: cobra.ExactArgs(1),
		Long: `Rewrite the configuration of mixminiond as one of postern mix. Every option of the file is
named in a report: mapped to an option of ours, replaced by something that has another
form, or refused because it cannot be done. With something refused nothing is written.

Without --out the new configuration goes to standard output, and the report to standard
error. The file also works as it is: postern mix start -f FILE.`,
		Example: "  postern import mixminiond /etc/mixminiond.conf --out mix.toml\n  postern import mixminiond /etc/mixminiond.conf --json"}
	c.Flags().StringVar(&out, "out", "", "write the configuration to this `file`, which must not be there yet")
	js := asJSON(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		const op = "cmd.import"
		text, err := config.ReadFile(args[0])
		if err != nil {
			return err
		}
		i, err := mix.ImportConf(args[0], text)
		if err != nil {
			return err
		}
		refused := i.Refused()
		fresh := ""
		if len(refused) == 0 {
			fresh = importedText(i, filepath.Base(args[0]))
		}
		if *js {
			err = printJSON(io.out, struct {
				Options []mix.ImportedOption `json:"options"`
				Config  string               `json:"config,omitempty"`
			}{i.Options, fresh})
		} else if out == "" {
			fmt.Fprint(io.err, importReport(i.Options))
			fmt.Fprint(io.out, fresh)
		} else {
			fmt.Fprint(io.out, importReport(i.Options))
		}
		if err != nil {
			return err
		}
		if len(refused) > 0 {
			return hint(errs.E(op, errs.Unsupported, fmt.Sprintf("%d of the options of %s cannot be taken over; nothing was written", len(refused), args[0]), nil),
				"Take them out of the file, or change them as the report says, and try again.")
		}
		if out == "" {
			return nil
		}
		if exists(out) {
			return hint(errs.E(op, errs.Exists, out+" is there already; nothing was written", nil), "Name another file: --out FILE")
		}
		var m making
		if err := m.write(out, fresh); err != nil {
			m.takeBack()
			return err
		}
		if !*js {
			fmt.Fprintf(io.out, "\nMade  %s\n\nNext:\n  postern mix init %s --network FILE -f %s\n      # makes its keys; whoever runs an authority of the network gives out the network file\n", out, i.Config.Nickname, out)
		}
		return nil
	}
	return c
}

// importReport is the report as a table.
func importReport(all []config.ImportedOption) string {
	var b strings.Builder
	count := map[config.Verdict]int{}
	for _, o := range all {
		count[o.Verdict]++
		line := "    -"
		if o.Line > 0 {
			line = fmt.Sprintf("%5d", o.Line)
		}
		fmt.Fprintf(&b, "%s  %s\n", line, o)
	}
	fmt.Fprintf(&b, "\n%d mapped, %d replaced, %d refused; %d defaults are others here.\n", count[config.Mapped], count[config.Replaced], count[config.Refused], count[config.Default])
	return b.String()
}

// importedText is the configuration as a file: what the other one says, and nothing else.
func importedText(i *mix.Import, from string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# A node of a mix network, from %s by postern import mixminiond.\n# All options with their defaults: postern mix config\n", from)
	keys := slices.Sorted(maps.Keys(i.Given))
	for _, k := range keys {
		if !strings.Contains(k, ".") {
			b.WriteString("\n" + assignment(&i.Config, k))
		}
	}
	b.WriteString("\n" + sections(&i.Config, nil, keys))
	return b.String()
}
