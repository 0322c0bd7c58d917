package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// aliasJSON is docs/aliases-json.md: what each command prints, and the fields of these objects.
type aliasJSON struct {
	prints map[string]string            // by command: the name of an object
	fields map[string]map[string]string // by object and field: what it holds, with ", maybe" where it may be missing
}

// readAliasJSON reads the page's two tables.
func readAliasJSON() (doc aliasJSON, err error) {
	page, err := os.ReadFile("../../docs/aliases-json.md")
	doc = aliasJSON{map[string]string{}, map[string]map[string]string{"nothing": {}}}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch command, ok := strings.CutPrefix(cells[0], "`"); {
		case ok && len(cells) == 2:
			doc.prints[strings.TrimSuffix(command, "`")], _, _ = strings.Cut(cells[1], ",")
		case len(cells) == 4 && strings.HasPrefix(cells[1], "`"):
			if doc.fields[cells[0]] == nil {
				doc.fields[cells[0]] = map[string]string{}
			}
			doc.fields[cells[0]][strings.Trim(cells[1], "`")] = cells[2]
		}
	}
	return doc, err
}

// holds names what a value is, as the page does.
func holds(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case float64:
		return "number"
	case bool:
		return "truth"
	case []any:
		return "list"
	case map[string]any:
		return "object"
	}
	return "null"
}

// check tells what of an object is not as the page says.
func (d aliasJSON) check(name string, got map[string]any) (wrong []string) {
	want := d.fields[name]
	if want == nil {
		return []string{"the page has no " + name}
	}
	for field, v := range got {
		if must, ok := want[field]; !ok || holds(v) != strings.TrimSuffix(must, ", maybe") {
			wrong = append(wrong, field+" holds "+holds(v)+", on the page "+must)
		}
	}
	for field, must := range want {
		if _, ok := got[field]; !ok && !strings.HasSuffix(must, ", maybe") {
			wrong = append(wrong, field+" is missing")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// aliasFields COMMAND [FILE] compares what the last command wrote, or a file, with what docs/aliases-json.md says of
// postern alias COMMAND, each object of it. $ID is then that of a secret.
func aliasFields(ts *testscript.TestScript, neg bool, args []string) {
	doc, err := readAliasJSON()
	ts.Check(err)
	file := "stdout"
	if len(args) > 1 && doc.prints[strings.Join(args, " ")] == "" {
		file, args = args[len(args)-1], args[:len(args)-1]
	}
	name := doc.prints[strings.Join(args, " ")]
	if neg || name == "" {
		ts.Fatalf("the page has no command %q", args)
	}
	text := ts.ReadFile(file)
	var all []map[string]any
	if strings.HasPrefix(text, "[") {
		ts.Check(json.Unmarshal([]byte(text), &all))
	} else {
		in := json.NewDecoder(strings.NewReader(text))
		for in.More() {
			var got map[string]any
			ts.Check(in.Decode(&got))
			all = append(all, got)
		}
		if file == "stdout" && strings.Count(text, "\n") != len(all) {
			ts.Fatalf("not one object a line: %s", text)
		}
	}
	if len(all) == 0 {
		ts.Fatalf("nothing was printed")
	}
	for _, got := range all {
		if wrong := doc.check(name, got); len(wrong) > 0 {
			ts.Fatalf("%s: %s", strings.Join(args, " "), strings.Join(wrong, "; "))
		}
		if id, ok := got["id"].(string); ok && name == "secret" {
			ts.Setenv("ID", id)
		}
	}
}

// TestAliasJSON: docs/aliases-json.md has each command of postern alias, and no other; each is tried in
// testdata/scripts/aliasjson.txtar.
func TestAliasJSON(t *testing.T) {
	doc, err := readAliasJSON()
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/scripts/aliasjson.txtar")
	if err != nil {
		t.Fatal(err)
	}
	rest := maps.Clone(doc.prints)
	for name := range aliasCommands(streams{strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}}) {
		if doc.prints[name] == "" {
			t.Errorf("the page does not have %s", name)
		}
		delete(rest, name)
		if name == "elsewhere ask" { // it prints what elsewhere show does, and cannot come right after the first question
			continue
		}
		if !strings.Contains(string(script), "\nfields "+name+"\n") && !strings.Contains(string(script), "\nfields "+name+" $") {
			t.Errorf("%s is not tried", name)
		}
	}
	if len(rest) > 0 {
		t.Errorf("the page has commands that are none: %v", rest)
	}
	if wrong := doc.check("unit", map[string]any{"unit": 1.0, "more": true}); len(wrong) != 2 {
		t.Errorf("a wrong object passes: %q", wrong)
	}
	if wrong := doc.check("unit", map[string]any{}); len(wrong) != 1 {
		t.Errorf("an empty object passes: %q", wrong)
	}
}

// aliasCommands gives the commands below postern alias that do something, by what is typed behind alias.
func aliasCommands(io streams) map[string]*cobra.Command {
	all := map[string]*cobra.Command{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if !c.HasSubCommands() {
			all[strings.TrimPrefix(c.CommandPath(), "postern alias ")] = c
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	for _, c := range newRoot(io).Commands() {
		if c.Name() == "alias" {
			walk(c)
		}
	}
	return all
}

// TestAliasJSONErrors: with --json, too, what fails leaves standard output empty, says on standard error why, and gives
// exit code 1; what is used wrongly gives 2 and names the help.
func TestAliasJSONErrors(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("a", 64)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	none := streams{strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}}
	for name, c := range aliasCommands(none) {
		try := func(args ...string) (code int, out, said string) {
			var o, e bytes.Buffer
			code = run(t.Context(), append(append([]string{"alias"}, strings.Fields(name)...), args...), streams{strings.NewReader(""), &o, &e})
			return code, o.String(), e.String()
		}
		if code, out, said := try("--json", "--no-such-flag"); code != exitUsage || out != "" || !strings.Contains(said, "\nSee: postern alias "+name+" --help\n") {
			t.Errorf("%s with a wrong flag: exit code %d, %q, %q", name, code, out, said)
		}
		if name == "config" || name == "unit" { // nothing can fail there
			continue
		}
		args := []string{"--json"}
		for c.ValidateArgs(args[1:]) != nil && len(args) < 4 {
			args = append(args, filepath.Join(dir, "x@x.example"))
		}
		switch {
		case name == "expire":
			args = append(args, "never")
		case name == "label":
			args = append(args, "l")
		case name == "elsewhere key":
			args = append(args, "--none")
		}
		if c.Flags().Lookup("secret-file") != nil {
			args = append(args, "--secret-file", secret)
		}
		if c.Flags().Lookup("dir") != nil {
			args = append(args, "--dir", dir)
		} else if name != "verify-evidence" {
			args = append(args, "-c", filepath.Join(dir, "none.conf"))
		}
		code, out, said := try(args...)
		if code != exitFailed && code != exitUsage || out != "" || !strings.HasPrefix(said, "postern: ") || strings.Count(said, "\n") < 2 && !strings.HasPrefix(said, "postern: cannot read ") {
			t.Errorf("%s: exit code %d, %q, %q", name, code, out, said)
		}
	}
}
