package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/role/proxy"
)

func importMailproxyCommand(io streams) *cobra.Command {
	var out, from string
	c := &cobra.Command{Use: "mailproxy FILE DATADIR", Short: "Take over the configuration of Katzenpost's mailproxy, and the keys of recipients", Args: cobra.ExactArgs(2),
		Long: `Rewrite the configuration of Katzenpost's mailproxy, for a mail proxy whose data lies in
DATADIR, and copy the keys of recipients there. Every option of the file is named in a
report: mapped to one of ours, replaced by something that has another form, or refused
because it cannot be done. With something refused nothing is written.

Mail that mailproxy has stored stays where it is: fetch it with mailproxy. The keys of
accounts, authorities and providers belong to another network; register the accounts anew.

The keys of recipients are looked for where the file says, or in --recipients DIR. Without
--out the new configuration goes to standard output, and the report to standard error.`,
		Example: "  postern import mailproxy ~/.mailproxy/mailproxy.toml ~/.local/share/postern/mailproxy --out ~/.config/postern/mailproxy.toml"}
	c.Flags().StringVar(&out, "out", "", "write the configuration to this `file`, which must not be there yet")
	c.Flags().StringVar(&from, "recipients", "", "the `directory` with the keys of recipients, ADDRESS.pem, if it is not where FILE says")
	js := asJSON(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		const op = "cmd.import"
		if err := absolute(&args[1]); err != nil {
			return err
		}
		text, err := config.ReadFile(args[0])
		if err != nil {
			return err
		}
		i, err := proxy.ImportFile(args[0], text, args[1])
		if err != nil {
			return err
		}
		if from == "" {
			from = i.Recipients
		}
		refused := i.Refused()
		var m making
		var keys []string
		if len(refused) == 0 {
			if out != "" && exists(out) {
				return hint(errs.E(op, errs.Exists, out+" is there already; nothing was written", nil), "Name another file: --out FILE")
			}
			if keys, err = takeRecipients(&m, from, i.Config.Proxy.RecipientDir); err == nil && out != "" {
				err = m.write(out, i.Text)
			}
			if err != nil {
				m.takeBack()
				return err
			}
		}
		switch {
		case *js:
			err = printJSON(io.out, struct {
				Options    []config.ImportedOption `json:"options"`
				Recipients []string                `json:"recipients"`
				Config     string                  `json:"config,omitempty"`
			}{i.Options, append([]string{}, keys...), i.Text})
		case out == "":
			fmt.Fprint(io.err, importReport(i.Options)+recipientsReport(keys))
			fmt.Fprint(io.out, i.Text)
		default:
			fmt.Fprint(io.out, importReport(i.Options)+recipientsReport(keys))
		}
		if err != nil {
			return err
		}
		if len(refused) > 0 {
			return hint(errs.E(op, errs.Unsupported, fmt.Sprintf("%d of the options of %s cannot be taken over; nothing was written", len(refused), args[0]), nil),
				"Change them as the report says, and try again.")
		}
		if out != "" && !*js {
			fmt.Fprintf(io.out, "\nMade  %s\n\nNext:\n  postern proxy -r -f %[1]s\n      # registers its accounts with their relays\n  postern proxy -f %[1]s\n", out)
		}
		return nil
	}
	return c
}

// maxRecipientFile bounds a file with a key.
const maxRecipientFile = 64 << 10

// takeRecipients copies the files of recipients' keys that are not there yet, and gives their names. A directory
// that is not there has none.
func takeRecipients(m *making, from, to string) (names []string, err error) {
	const op = "cmd.import"
	all, err := os.ReadDir(from)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot read the keys of recipients in "+from, err)
	}
	for _, e := range all {
		at := filepath.Join(to, e.Name())
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(e.Name(), ".pem") || exists(at) {
			continue
		}
		if info.Size() > maxRecipientFile {
			return nil, errs.E(op, errs.TooLarge, "this is no key of a recipient: "+filepath.Join(from, e.Name()), nil)
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return nil, errs.E(op, errs.Unavailable, "cannot read "+filepath.Join(from, e.Name()), err)
		}
		if err := vfs.MkdirAll(vfs.OS(), to, 0o700); err != nil {
			return nil, errs.E(op, errs.KindOf(err), "cannot make the directory "+to, err)
		}
		if err := vfs.WriteFileAtomic(vfs.OS(), at, b, 0o600); err != nil {
			return nil, errs.E(op, errs.KindOf(err), "cannot write "+at, err)
		}
		m.undo = append(m.undo, func() { os.Remove(at) })
		names = append(names, e.Name())
	}
	return names, nil
}

// recipientsReport says which keys were taken over, and what they are good for.
func recipientsReport(names []string) string {
	if len(names) == 0 {
		return "No keys of recipients were found.\n"
	}
	return fmt.Sprintf("Keys of recipients taken over: %s\nThey are bare X25519 keys: mail is sealed to them with Proxy.AllowClassicalRecipients = true only. Better ask each recipient for the new one.\n", strings.Join(names, ", "))
}
