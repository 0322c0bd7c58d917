package docs_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

type row struct{ id, text, state, how string }

// readRows reads the tables of features.md.
func readRows(text string) ([]row, error) {
	var out []row
	for i, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| id ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 4 {
			return nil, fmt.Errorf("line %d: %d columns", i+1, len(cells))
		}
		for k := range cells {
			cells[k] = strings.TrimSpace(cells[k])
		}
		out = append(out, row{cells[0], cells[1], cells[2], cells[3]})
	}
	return out, nil
}

var (
	idForm    = regexp.MustCompile(`^(KP|MM|PI|IM|CM)-\d{2,3}$`)
	stateForm = regexp.MustCompile(`^(works|better|replaced|not yet \(([2-9]|planned)\))$`)
	testName  = regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w*`)
)

// faults gives what is wrong with the rows; exists tells whether a test is in the tree.
func faults(rows []row, exists func(string) bool) (out []string) {
	seen := map[string]bool{}
	for _, r := range rows {
		say := func(format string, a ...any) { out = append(out, r.id+": "+fmt.Sprintf(format, a...)) }
		if !idForm.MatchString(r.id) {
			say("malformed id")
		}
		if seen[r.id] {
			say("id given twice")
		}
		seen[r.id] = true
		if r.text == "" {
			say("no text")
		}
		if !stateForm.MatchString(r.state) {
			say("unknown state %q", r.state)
		}
		names := testName.FindAllString(r.how, -1)
		switch r.state {
		case "works", "better":
			if len(names) == 0 {
				say("names no test")
			}
			for _, n := range names {
				if !exists(n) {
					say("there is no %s", n)
				}
			}
		case "replaced":
			if r.how == "" {
				say("does not say why")
			}
		}
	}
	return out
}

func TestFeatures(t *testing.T) {
	text, err := os.ReadFile("features.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readRows(string(text))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, r := range rows {
		count[r.id[:2]]++
	}
	for seed, least := range map[string]int{"KP": 30, "MM": 60, "PI": 55, "IM": 35, "CM": 70} {
		if count[seed] < least {
			t.Errorf("%s has %d rows; rows are never taken out (%d)", seed, count[seed], least)
		}
	}
	tests := allTests(t)
	for _, f := range faults(rows, func(n string) bool { return tests[n] }) {
		t.Error(f)
	}
}

// TestFeaturesCheckFails shows that the check sees each kind of fault.
func TestFeaturesCheckFails(t *testing.T) {
	good := row{"CM-01", "x", "works", "`TestA`"}
	exists := func(n string) bool { return n == "TestA" }
	if f := faults([]row{good, {"CM-02", "x", "replaced", "why"}, {"CM-03", "x", "not yet (planned)", ""}, {"CM-04", "x", "better", "FuzzB and TestA"}}, exists); len(f) != 1 {
		t.Errorf("%q", f) // FuzzB is not there
	}
	for _, r := range []row{
		{"XX-01", "x", "works", "TestA"}, {"CM-1", "x", "works", "TestA"}, {"CM-02", "", "works", "TestA"},
		{"CM-02", "x", "done", "TestA"}, {"CM-02", "x", "not yet", ""}, {"CM-02", "x", "not yet (1)", ""},
		{"CM-02", "x", "works", ""}, {"CM-02", "x", "works", "TestB"}, {"CM-02", "x", "replaced", ""}, good,
	} {
		if f := faults([]row{good, r}, exists); len(f) != 1 {
			t.Errorf("%+v: %q", r, f)
		}
	}
	if _, err := readRows("| a | b | c |"); err == nil {
		t.Error("three columns pass")
	}
	if rows, err := readRows("text\n| id | x |\n|---|\n| CM-01 | a | works | TestA |\n"); err != nil || len(rows) != 1 || rows[0] != (row{"CM-01", "a", "works", "TestA"}) {
		t.Errorf("%+v, %v", rows, err)
	}
}

// allTests finds the names of all test functions of the module.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	decl := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	names := map[string]bool{}
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (e.Name() == ".git" || e.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range decl.FindAllStringSubmatch(string(src), -1) {
			names[m[1]] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
