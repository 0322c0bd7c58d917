package postern_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// notByAuthorities are the files in which a certificate of another machine is not left to crypto/tls,
// and why. There is no switch that turns verification off for all.
var notByAuthorities = map[string]string{
	"agent/road/tls.go":       "DANE, which verifies by itself; names that cannot be certified; what the operator wrote into delivery.routes",
	"agent/road/web.go":       "names that cannot be certified, and delivery.routes, over HTTPS",
	"mixnet/link/key.go":      "links of the mix network pin a key",
	"role/relay/doors.go":     "the doctor judges what it is shown, and sends nothing",
	"role/relay/mixstatus.go": "the doctor asks which key its own link shows, and sends nothing",
}

// TestVerification: the program turns the verification of certificates off in the files of that list alone.
func TestVerification(t *testing.T) {
	var found []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || path == "interop" || path == "bench"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && id.Name == "InsecureSkipVerify" && !slices.Contains(found, path) {
				found = append(found, path)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if notByAuthorities[path] == "" {
			t.Errorf("%s turns the verification of certificates off", path)
		}
	}
	for path := range notByAuthorities {
		if !slices.Contains(found, path) {
			t.Errorf("%s does not do so any more: the list is old", path)
		}
	}
}
