package main

import (
	"bufio"
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
	"postern.email/agent/migrate"
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

// maxImport bounds a file that is read, in bytes.
const maxImport = migrate.MaxFile

func importAliases(io streams, src *aliasSource) *cobra.Command {
	var domain, passphraseFile string
	c := &cobra.Command{Use: "import FILE", Short: "Take over aliases from a file of this program, SimpleLogin or addy.io", Args: cobra.ExactArgs(1),
		Long: `Take over aliases from a file: one that postern alias export wrote, or the CSV file of
SimpleLogin or addy.io; - is standard input. What kind it is shows in its first line.

An alias keeps its name. Its domain must be an alias domain of this server, unless
--domain puts all into one. What cannot be taken over is told, and keeps nothing else back.`,
		Example: "  postern alias import aliases.json --account anna@example.org\n  postern alias import simplelogin.csv --domain example.org --secret-file ~/.alias"}
	src.who(c)
	c.Flags().StringVar(&domain, "domain", "", "make all in this alias domain of the server")
	c.Flags().StringVar(&passphraseFile, "passphrase-file", "", "`file` with the passphrase of an encrypted export (default: it is asked for)")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		a, err := src.credential(io, c, "")
		if err != nil {
			return err
		}
		text, err := readImport(io, args[0])
		if err != nil {
			return err
		}
		if openpgp.IsArmored(text) {
			pass, err := secretOf(io, "Passphrase of the file: ", passphraseFile, false)
			if err != nil {
				return err
			}
			if text, err = openpgp.OpenPassphrase(text, pass, maxImport); err != nil {
				return err
			}
		}
		views, problems, err := parseImport(text)
		if err != nil {
			return err
		}
		a.Domain = domain
		sum := imported{Problems: append([]migrate.Problem{}, problems...), Failed: []aliases.ImportFailed{}}
		for len(views) > 0 {
			n := min(len(views), aliases.MaxImport)
			a.Import, views = views[:n], views[n:]
			var r aliases.ImportResult
			if err := src.call(c.Context(), "alias.import", a, &r, nil); err != nil {
				return err
			}
			sum.Made += r.Made
			sum.Failed = append(sum.Failed, r.Failed...)
		}
		return printImported(io, *js, sum)
	}
	return c
}

// imported tells what became of a file.
type imported struct {
	Made     int                    `json:"made"`
	Failed   []aliases.ImportFailed `json:"failed"`
	Problems []migrate.Problem      `json:"problems"`
}

func printImported(io streams, js bool, sum imported) error {
	if js {
		return printJSON(io.out, sum)
	}
	for _, p := range sum.Problems {
		fmt.Fprintln(io.err, p)
	}
	for _, f := range sum.Failed {
		fmt.Fprintf(io.err, "%s: %s\n", f.Address, f.Text)
	}
	fmt.Fprintf(io.out, "%d aliases were taken over, %d were not.\n", sum.Made, len(sum.Failed))
	return nil
}

func readImport(io streams, name string) ([]byte, error) {
	text, err := readBounded(io, name, maxImport)
	if err == nil && len(text) > maxImport {
		err = errs.E("cmd.readImport", errs.TooLarge, "the file is too large", nil)
	}
	return text, err
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

// parseImport reads a file of aliases: our JSON, our CSV, or another service's.
func parseImport(text []byte) ([]aliases.View, []migrate.Problem, error) {
	trimmed := bytes.TrimLeft(text, " \r\n\t\ufeff")
	switch {
	case bytes.HasPrefix(trimmed, []byte("{")):
		return parseJSON(trimmed)
	case bytes.HasPrefix(trimmed, []byte(csvColumns[0]+","+csvColumns[1]+",")):
		return parseCSV(trimmed)
	}
	_, entries, problems, err := migrate.CSV(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	var views []aliases.View
	for _, e := range entries {
		v := aliases.View{Address: e.Address.String(), Note: e.Note}
		if e.Paused {
			v.State = "paused"
		}
		views = append(views, v)
	}
	return views, problems, nil
}

// parseJSON reads one alias a line.
func parseJSON(text []byte) (views []aliases.View, problems []migrate.Problem, err error) {
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(nil, 1<<20)
	for line := 1; in.Scan(); line++ {
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		var v aliases.View
		if err := json.Unmarshal(in.Bytes(), &v); err != nil || v.Address == "" {
			problems = append(problems, migrate.Problem{Line: line, Text: "this is no alias of an export; it was left out"})
			continue
		}
		if views = append(views, v); len(views) > migrate.MaxEntries {
			return nil, nil, errs.E("cmd.parseJSON", errs.TooLarge, "too many aliases in one file", nil)
		}
	}
	if in.Err() != nil {
		return nil, nil, errs.E("cmd.parseJSON", errs.Invalid, "a line of the file is too long", in.Err())
	}
	return views, problems, nil
}

// parseCSV reads our own CSV file; columns may stand in any order, and be missing.
func parseCSV(text []byte) (views []aliases.View, problems []migrate.Problem, err error) {
	const op = "cmd.parseCSV"
	in := csv.NewReader(bytes.NewReader(text))
	in.FieldsPerRecord = -1
	head, err := in.Read()
	if err != nil {
		return nil, nil, errs.E(op, errs.Invalid, "the file is no CSV", err)
	}
	at := make(map[string]int)
	for i, name := range head {
		at[name] = i
	}
	for {
		row, err := in.Read()
		if err == stdio.EOF {
			return views, problems, nil
		}
		if err != nil {
			return nil, nil, errs.E(op, errs.Invalid, "the file is no CSV: "+err.Error(), err)
		}
		line, _ := in.FieldPos(0)
		get := func(name string) string {
			if i, ok := at[name]; ok && i < len(row) {
				return row[i]
			}
			return ""
		}
		v := aliases.View{Address: get("address"), Site: get("site"), Label: get("label"), Note: get("note"), Mode: get("mode"), Class: get("class"), State: get("state"), Expires: get("expires")}
		most, err1 := strconv.ParseUint("0"+get("max_mails"), 10, 32)
		idle, err2 := strconv.ParseUint("0"+get("idle_days"), 10, 16)
		if err1 != nil || err2 != nil || v.Address == "" {
			problems = append(problems, migrate.Problem{Line: line, Text: "this is no alias of an export; it was left out"})
			continue
		}
		v.MaxMails, v.IdleDays = uint32(most), uint16(idle)
		if views = append(views, v); len(views) > migrate.MaxEntries {
			return nil, nil, errs.E(op, errs.TooLarge, "too many aliases in one file", nil)
		}
	}
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
		if out == "" {
			fmt.Fprintln(io.out, string(got))
			return nil
		}
		if err := vfs.WriteFileAtomic(vfs.OS(), out, append(got, '\n'), 0o600); err != nil {
			return errs.E("cmd.evidence", errs.Unavailable, "cannot write "+out, err)
		}
		fmt.Fprintf(io.err, "Written: %s\n", out)
		return nil
	}
	return c
}
