package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"postern.email/agent/aliases"
	"postern.email/agent/migrate"
	"postern.email/kit/errs"
	"postern.email/mail/openpgp"
)

// maxImport bounds a file that is read, in bytes.
const maxImport = migrate.MaxFile

func importAliases(io streams, src *aliasSource) *cobra.Command {
	var domain, passphraseFile string
	c := &cobra.Command{Use: "import FILE", Short: "Take over aliases from a file of this program, SimpleLogin or addy.io", Args: cobra.ExactArgs(1),
		Long: `Take over aliases from a file: one that postern alias export wrote, or the CSV file of
SimpleLogin or addy.io; - is standard input. What kind it is shows in its first line.

An alias keeps its name. Its domain must be an alias domain of this server, unless
--domain puts all into one. What cannot be taken over is told, and keeps nothing else back.
Aliases that are yours already stay as they are, so an import that was cut off can be run again.`,
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
			a.Import, views = oneCall(views)
			var r aliases.ImportResult
			if err := src.call(c.Context(), "alias.import", a, &r, nil); err != nil {
				if sum.Made > 0 {
					return hint(err, fmt.Sprintf("%d aliases were taken over before that. The same import again leaves them as they are.", sum.Made))
				}
				return err
			}
			sum.Made += r.Made
			sum.Yours += r.Yours
			sum.Failed = append(sum.Failed, r.Failed...)
		}
		return printImported(io, *js, sum)
	}
	return c
}

// imported tells what became of a file.
type imported struct {
	Made     int                    `json:"made"`
	Yours    int                    `json:"yours"` // that were there already
	Failed   []aliases.ImportFailed `json:"failed"`
	Problems []migrate.Problem      `json:"problems"`
}

func printImported(io streams, js bool, sum imported) error {
	if js {
		return printJSON(io.out, sum)
	}
	for _, p := range sum.Problems {
		fmt.Fprintln(io.err, oneLine(p.String()))
	}
	for _, f := range sum.Failed {
		fmt.Fprintf(io.err, "%s: %s\n", oneLine(f.Address), f.Text)
	}
	yours := ""
	if sum.Yours > 0 {
		yours = fmt.Sprintf("%d were there already, ", sum.Yours)
	}
	fmt.Fprintf(io.out, "%d aliases were taken over, %s%d were not.\n", sum.Made, yours, len(sum.Failed))
	return nil
}

func readImport(io streams, name string) ([]byte, error) {
	text, err := readBounded(io, name, maxImport)
	if err == nil && len(text) > maxImport {
		err = errs.E("cmd.readImport", errs.TooLarge, fmt.Sprintf("the file is larger than %d MiB", maxImport>>20), nil)
	}
	return text, err
}

// importCall bounds what one call to the server says of aliases, in bytes: well within control.MaxLine, whatever stands
// around it.
const importCall = 1 << 20

// oneCall cuts off the aliases that go to the server in one call: at least one.
func oneCall(views []aliases.View) (call, rest []aliases.View) {
	n := 0
	for i := range views {
		text, _ := json.Marshal(&views[i]) // it has nothing in it that could fail
		if n += len(text); i > 0 && (n > importCall || i == aliases.MaxImport) {
			return views[:i], views[i:]
		}
	}
	return views, nil
}

// textNoAlias is said of a line that an export has none like.
const textNoAlias = "this is no alias of an export; it was left out"

// parseImport reads a file of aliases: our JSON, our CSV, or another service's. errs.Invalid, errs.TooLarge.
func parseImport(text []byte) ([]aliases.View, []migrate.Problem, error) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if bytes.HasPrefix(bytes.TrimLeft(text, " \r\n\t"), []byte("{")) {
		return parseJSON(text, migrate.MaxEntries)
	}
	t, err := migrate.OpenTable(bytes.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	if t.Has(csvColumns[0]) { // no other service's file has that column
		return parseCSV(t)
	}
	_, entries, problems, err := t.Entries()
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

// parseJSON reads one alias a line, of at most so many lines with anything on them.
func parseJSON(text []byte, most int) (views []aliases.View, problems []migrate.Problem, err error) {
	if bytes.IndexByte(text, '\n') < 0 { // lines that end in CR alone; within JSON it stands for nothing else
		text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	}
	in := bufio.NewScanner(bytes.NewReader(text))
	in.Buffer(nil, migrate.MaxRow)
	for line := 1; in.Scan(); line++ {
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		if len(views)+len(problems) == most {
			return nil, nil, errs.E("cmd.parseJSON", errs.TooLarge, fmt.Sprintf("the file has more than %d aliases", most), nil)
		}
		var v aliases.View
		if err := json.Unmarshal(in.Bytes(), &v); err != nil || v.Address == "" {
			problems = append(problems, migrate.Problem{Line: line, Text: textNoAlias})
			continue
		}
		views = append(views, v)
	}
	if in.Err() != nil {
		return nil, nil, errs.E("cmd.parseJSON", errs.TooLarge, fmt.Sprintf("an entry of the file is longer than %d bytes", migrate.MaxRow), in.Err())
	}
	return views, problems, nil
}

// parseCSV reads our own CSV file; columns may stand in any order, and be missing.
func parseCSV(t *migrate.Table) (views []aliases.View, problems []migrate.Problem, err error) {
	err = t.Rows(func(line int, get func(string) string) {
		v := aliases.View{Address: get("address"), Site: get("site"), Label: get("label"), Note: get("note"), Mode: get("mode"), Class: get("class"), State: get("state"), Expires: get("expires")}
		most, err1 := strconv.ParseUint("0"+get("max_mails"), 10, 32)
		idle, err2 := strconv.ParseUint("0"+get("idle_days"), 10, 16)
		if err1 != nil || err2 != nil || v.Address == "" {
			problems = append(problems, migrate.Problem{Line: line, Text: textNoAlias})
			return
		}
		v.MaxMails, v.IdleDays = uint32(most), uint16(idle)
		views = append(views, v)
	})
	if err != nil {
		return nil, nil, err
	}
	return views, problems, nil
}
