package interop

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// addonTool runs node in the add-on's folder, whose tools npm ci has brought.
func addonTool(t *testing.T, args ...string) {
	t.Helper()
	node := needTool(t, "node")
	if _, err := os.Stat(filepath.Join("..", "addon", "node_modules")); err != nil {
		missing(t, "the add-on's tools (npm ci in addon)")
	}
	cmd := exec.Command(node, args...)
	cmd.Dir = filepath.Join("..", "addon")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// files gives the content of all files of a folder.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestAddonBuilt: addon/dist, which people install, is what its source builds.
func TestAddonBuilt(t *testing.T) {
	dir := t.TempDir()
	addonTool(t, "build.mjs", dir)
	want, got := files(t, dir), files(t, filepath.Join("..", "addon", "dist"))
	for path := range want {
		if got[path] != want[path] {
			t.Errorf("addon/dist/%s is not what the source builds: npm run build in addon", path)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("addon/dist/%s comes of no source", path)
		}
	}
	if len(want) < 20 {
		t.Errorf("%d files were built", len(want))
	}
}

// TestAddonNode: the vectors of derived aliases, the texts of all languages, secrets at rest, links.
func TestAddonNode(t *testing.T) {
	tests, err := filepath.Glob(filepath.Join("..", "addon", "test", "*.test.mjs"))
	if err != nil || len(tests) < 3 {
		t.Fatal(tests, err)
	}
	args := []string{"--test"}
	for _, path := range tests {
		args = append(args, filepath.Join("test", filepath.Base(path)))
	}
	addonTool(t, args...)
}

// TestAddonLint: what is given to Firefox's add-on site passes its checks without a remark.
func TestAddonLint(t *testing.T) {
	dir := t.TempDir()
	addonTool(t, "build.mjs", "--firefox", dir)
	addonTool(t, filepath.Join("node_modules", "addons-linter", "bin", "addons-linter"), "--warnings-as-errors", dir)
}
