package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/agent/evidence"
)

// TestVerifyEvidence: the exit code says whether evidence holds, and the output what it proves; a file that
// was changed does not hold.
func TestVerifyEvidence(t *testing.T) {
	const golden = "../../agent/evidence/testdata/golden.json"
	raw, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	f, err := evidence.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	report := evidence.Verify(t.Context(), f, nil)
	try := func(name string, in string, more ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		code = run(t.Context(), append([]string{"alias", "verify-evidence", name, "--offline"}, more...), streams{strings.NewReader(in), &o, &e})
		return code, o.String(), e.String()
	}
	want := exitDone
	if !report.Holds {
		want = exitFailed
	}
	code, out, said := try(golden, "")
	if code != want || !strings.Contains(out, "Alias: "+report.Alias) || !strings.Contains(out, report.Stranger.From) || !strings.Contains(out, "Proved:") && report.Holds {
		t.Errorf("%d, %s, %s", code, out, said)
	}
	if code, out, said := try("-", string(raw), "--json"); code != want || !strings.Contains(out, `"alias":"`+report.Alias+`"`) {
		t.Errorf("as JSON: %d, %s, %s", code, out, said)
	}
	changed := filepath.Join(t.TempDir(), "changed.json")
	f.Alias = "another@mail.example"
	other, err := f.Encode()
	if err != nil || os.WriteFile(changed, other, 0o600) != nil {
		t.Fatal(err)
	}
	if code, _, said := try(changed, ""); code != exitFailed || !strings.Contains(said, "does not hold") {
		t.Errorf("changed: %d, %s", code, said)
	}
	if code, _, said := try(filepath.Join(t.TempDir(), "none"), ""); code != exitFailed || !strings.Contains(said, "cannot read") {
		t.Errorf("no file: %d, %s", code, said)
	}
}
