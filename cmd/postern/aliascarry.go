package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	stdio "io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"postern.email/agent/aliases"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail/openpgp"
)

// csvColumns are those of our own CSV file, in order.
var csvColumns = []string{"address", "site", "label", "note", "mode", "class", "state", "created", "last", "expires", "max_mails", "idle_days", "received", "refused", "sent", "leaked"}

// csvRow gives the cells of an alias.
func csvRow(v *aliases.View) []string {
	u := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	return []string{v.Address, v.Site, v.Label, v.Note, v.Mode, v.Class, v.State, v.Created, v.Last, v.Expires, u(v.MaxMails), u(uint32(v.IdleDays)),
		u(v.Received), u(v.Refused), u(v.Sent), strconv.FormatBool(v.Leaked)}
}

func exportAliases(io streams, src *aliasSource) *cobra.Command {
	var format, out, passphraseFile string
	var encrypt bool
	c := &cobra.Command{Use: "export", Short: "Write all aliases into a file", Args: cobra.NoArgs,
		Long: `Write all aliases into a file: as JSON, one alias a line with all who wrote to it, or as
CSV for a spreadsheet, without them. postern alias import reads both.

With --encrypt the file is sealed with a passphrase, in OpenPGP's form: gpg -d opens it, too.`,
		Example: "  postern alias export --account anna@example.org > aliases.json\n  postern alias export --format csv --out aliases.csv --secret-file ~/.alias\n  postern alias export --encrypt --out aliases.pgp --account anna@example.org"}
	src.who(c)
	c.Flags().StringVar(&format, "format", "json", "json or csv")
	c.Flags().StringVar(&out, "out", "", "`file` to write, for your eyes only (default: standard output)")
	c.Flags().BoolVar(&encrypt, "encrypt", false, "seal it with a passphrase, which is asked for")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "with --encrypt: `file` with the passphrase in its first line")
	js := c.Flags().Bool("json", false, "the same as --format json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *js {
			format = "json"
		}
		if format != "json" && format != "csv" {
			return usageError{c.CommandPath(), fmt.Errorf("--format is json or csv, not %q", format)}
		}
		a, err := src.credential(io, c, "")
		if err != nil {
			return err
		}
		text, n, err := src.export(c.Context(), a, format)
		if err != nil {
			return err
		}
		if encrypt {
			pass, err := secretOf(io, "Passphrase for the file: ", passphraseFile, true)
			if err != nil {
				return err
			}
			if text, err = openpgp.SealPassphrase(nil, text, pass); err != nil {
				return err
			}
		}
		if out == "" {
			if _, err := io.out.Write(text); err != nil {
				return errs.E("cmd.export", errs.Unavailable, "cannot write the output", err)
			}
			return nil
		}
		if err := vfs.WriteFileAtomic(vfs.OS(), out, text, 0o600); err != nil {
			return errs.E("cmd.export", errs.Unavailable, "cannot write "+out, err)
		}
		fmt.Fprintf(io.err, "%d aliases in %s\n", n, out)
		return nil
	}
	return c
}

// export gives the file, and how many aliases are in it.
func (s *aliasSource) export(ctx context.Context, a aliases.Args, format string) ([]byte, int, error) {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	if format == "csv" {
		w.Write(csvColumns)
	}
	var bad error
	n := 0
	err := s.call(ctx, "alias.export", a, nil, func(raw json.RawMessage) {
		var v aliases.View
		n++
		switch err := json.Unmarshal(raw, &v); {
		case err != nil:
			bad = errs.E("cmd.export", errs.Invalid, "the server's answer cannot be read", err)
		case format == "csv":
			w.Write(csvRow(&v))
		default:
			text.Write(append(bytes.TrimSpace(raw), '\n'))
		}
	})
	w.Flush()
	if err == nil {
		err = bad
	}
	return text.Bytes(), n, err
}

// readBounded reads a file, or standard input for "-": up to most bytes, and one more of a larger one.
func readBounded(io streams, name string, most int64) ([]byte, error) {
	const op = "cmd.readBounded"
	in := io.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, errs.E(op, errs.NotFound, "cannot read "+name, err)
		}
		defer f.Close()
		in = f
	}
	text, err := stdio.ReadAll(stdio.LimitReader(in, most+1))
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "cannot read "+name, err)
	}
	return text, nil
}

func evidenceAlias(io streams, src *aliasSource) *cobra.Command {
	var out string
	c := &cobra.Command{Use: "evidence ALIAS", Short: "Write a file that shows who passed an alias on", Args: cobra.ExactArgs(1),
		Long: `Write a file that shows who passed an alias on: the first signed mail of the sender that
it was for, and the mail of the stranger who should not have known it. Anybody can check it with
postern alias verify-evidence. The mails are opened with the account's password: --account.`,
		Example: "  postern alias evidence amber-falcon-48217 --account anna@example.org --out evidence.json"}
	src.who(c)
	c.Flags().StringVar(&out, "out", "", "`file` to write (default: standard output)")
	c.Flags().Bool("json", false, "the file is JSON in any case")
	c.RunE = func(c *cobra.Command, args []string) error {
		var got json.RawMessage
		if err := src.ask(io, c, "alias.evidence", func(a *aliases.Args) { a.Address = args[0] }, &got); err != nil {
			return err
		}
		return writeEvidence(io, out, got)
	}
	return c
}

// writeEvidence writes an evidence file; out "": to standard output.
func writeEvidence(io streams, out string, file []byte) error {
	if out == "" {
		fmt.Fprintln(io.out, string(file))
		return nil
	}
	if err := vfs.WriteFileAtomic(vfs.OS(), out, append(file, '\n'), 0o600); err != nil {
		return errs.E("cmd.evidence", errs.Unavailable, "cannot write "+out, err)
	}
	fmt.Fprintf(io.err, "Written: %s\n", out)
	return nil
}
