package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testCell   = regexp.MustCompile("`([a-z0-9/]*)\\.((?:Test|Fuzz)\\w+)(?:/([\\w./-]+))?`")
	otherCell  = regexp.MustCompile("`(\\.ci/[a-z]+|bench/[a-z]+|docs/[a-z-]+\\.md)`")
	codeCell   = regexp.MustCompile("`[^`]*`")
	stageTable = "stage-*.md"
)

// stageFaults gives what is wrong with the table of a stage: each row has a sentence, and
// the name of a test that is there, with the part of it that is meant, or of a program that
// measures, or says "none".
func stageFaults(text string, has func(pkg, test, part string) bool) (out []string) {
	rows := 0
	for i, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| sentence ") {
			continue
		}
		rows++
		say := func(format string, a ...any) {
			out = append(out, fmt.Sprintf("line %d: ", i+1)+fmt.Sprintf(format, a...))
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 3 || strings.TrimSpace(cells[0]) == "" {
			say("%d columns", len(cells))
			continue
		}
		tests := testCell.FindAllStringSubmatch(cells[1], -1)
		others := otherCell.FindAllString(cells[1], -1)
		if n := len(codeCell.FindAllString(cells[1], -1)); n != len(tests)+len(others) {
			say("a name is neither a test nor a program that measures: %s", cells[1])
		}
		for _, m := range tests {
			if !has(m[1], m[2], m[3]) {
				say("there is no %s %s in %s", m[2], m[3], m[1])
			}
		}
		if !strings.Contains(cells[1], "`") && (strings.TrimSpace(cells[1]) != "none" || strings.TrimSpace(cells[2]) == "") {
			say("no test, and no word about it")
		}
	}
	if rows < 15 {
		out = append(out, fmt.Sprintf("only %d rows", rows))
	}
	return out
}

// TestStages: the tests that the tables of the stages name are there.
func TestStages(t *testing.T) {
	files, err := filepath.Glob(stageTable)
	if err != nil || len(files) < 3 {
		t.Fatalf("%q, %v", files, err)
	}
	for _, name := range files {
		t.Run(name, func(t *testing.T) { testStage(t, name) })
	}
}

func testStage(t *testing.T, name string) {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range stageFaults(string(text), func(pkg, test, part string) bool {
		files, _ := filepath.Glob("../" + pkg + "/*_test.go")
		found := false
		scripts, _ := filepath.Glob("../" + pkg + "/testdata/scripts/" + part + ".txtar")
		texts, _ := filepath.Glob("../" + pkg + "/testdata/" + part + ".txt")
		named := part == "" || len(scripts)+len(texts) > 0 // else its name is written somewhere
		for _, file := range files {
			src, err := os.ReadFile(file)
			found = found || err == nil && strings.Contains(string(src), "\nfunc "+test+"(")
			named = named || strings.Contains(string(src), `"`+part+`"`)
		}
		return found && named
	}) {
		t.Error(f)
	}
}

// TestStageCheckFails shows that each kind of fault is seen.
func TestStageCheckFails(t *testing.T) {
	has := func(pkg, test, part string) bool {
		return pkg == "store/pebble" && test == "TestSuite" && (part == "" || part == "reads")
	}
	good := strings.Repeat("| x | `store/pebble.TestSuite`, `bench/relaybench` | |\n", 49)
	if f := stageFaults("| sentence | test | remark |\n|---|---|---|\n"+good+"| x | none | why |\n| x | `store/pebble.TestSuite/reads` | |\n", has); len(f) != 0 {
		t.Errorf("%q", f)
	}
	for _, row := range []string{"| x | `store/pebble.TestNot` | |", "| x | `wire/smtp.TestSuite` | |", "| x | `store/pebble.TestSuite/writes` | |", "| x | y |", "| x | none | |", "| x | | why |",
		"| | `store/pebble.TestSuite` | |", "| x | `TestSuite` | |"} {
		if f := stageFaults(good+row+"\n", has); len(f) != 1 {
			t.Errorf("%s: %q", row, f)
		}
	}
	if f := stageFaults("| x | none | why |\n", has); len(f) != 1 {
		t.Errorf("a table that lost its rows: %q", f)
	}
}
