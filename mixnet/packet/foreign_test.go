package packet

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"postern.email/kit/tooltest"
)

// An implementation in another language, written from docs/packet.md, reads the vectors,
// and notices when one says something else.
func TestIndependentDecoder(t *testing.T) {
	name := tooltest.Python(t)
	decode := func(dir string) ([]byte, error) {
		return exec.CommandContext(t.Context(), name, "-B", "decoder/check.py", dir).CombinedOutput()
	}
	out, err := decode(vectorDir)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)

	dir := t.TempDir()
	files, err := filepath.Glob(vectorDir + "/*.json")
	must(t, err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		if filepath.Base(f) == "drop.json" {
			changed := bytes.Replace(b, []byte(`"delay_ms": 3000`), []byte(`"delay_ms": 3001`), 1)
			if bytes.Equal(changed, b) {
				t.Fatal("nothing was changed")
			}
			b = changed
		}
		must(t, os.WriteFile(filepath.Join(dir, filepath.Base(f)), b, 0o600))
	}
	if out, err := decode(dir); err == nil || !bytes.Contains(out, []byte("drop.json, hop 0: delay_ms")) {
		t.Errorf("a wrong vector passes: %v\n%s", err, out)
	}
}
