package sim

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// own lists what makes files a simulation of rules of its own instead of the node's and the client's: a
// pool, or numbers from which delays, moments or ways could be drawn.
func own(fset *token.FileSet, files []*ast.File) (faults []string, used map[string]bool) {
	used = map[string]bool{}
	methods := map[string][]string{}
	fault := func(at ast.Node, format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%s: %s", fset.Position(at.Pos()), fmt.Sprintf(format, args...)))
	}
	// The only things that may be drawn here are whole numbers, each equally likely.
	drawn := []string{"ChaCha8", "IntN", "New", "NewChaCha8", "Perm", "Rand", "Shuffle", "Source"}
	names := []string{"ExpFloat64", "NormFloat64", "Float64", "Float32", "Int64", "Int32", "Uint64", "Uint32", "Int64N", "Int32N", "Uint64N", "Uint32N"}
	for _, f := range files {
		for _, i := range f.Imports {
			switch path := strings.Trim(i.Path.Value, `"`); {
			case path == "math/rand", path == "crypto/rand", strings.HasSuffix(path, "/exp/rand"):
				fault(i, "imports %s", path)
			case i.Name != nil && path == "math/rand/v2":
				fault(i, "imports %s under another name", path)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv != nil && len(n.Recv.List) == 1 {
					t := receiver(n.Recv.List[0].Type)
					methods[t] = append(methods[t], n.Name.Name)
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				switch {
				case ok && x.Name == "rand" && !slices.Contains(drawn, n.Sel.Name):
					fault(n, "uses rand.%s", n.Sel.Name)
				case slices.Contains(names, n.Sel.Name) && !(ok && (x.Name == "binary" || x.Name == "atomic")):
					fault(n, "draws with %s", n.Sel.Name)
				}
				if ok {
					used[x.Name+"."+n.Sel.Name] = true
				}
			}
			return true
		})
	}
	for t, m := range methods {
		if slices.Contains(m, "Due") || slices.Contains(m, "Add") && slices.Contains(m, "Next") {
			faults = append(faults, t+" is a pool")
		}
	}
	return faults, used
}

func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}

// TestNoRulesOfItsOwn: the simulation defines no pool and draws no delay, moment or way: it has them from the
// node's pool and the client.
func TestNoRulesOfItsOwn(t *testing.T) {
	fset := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, n := range names {
		if strings.HasSuffix(n, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, n, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	faults, used := own(fset, files)
	for _, f := range faults {
		t.Error(f)
	}
	for _, must := range []string{"pool.New", "client.Pick", "client.NewClocks", "client.Delay", "client.Rate", "letter.Packets"} {
		if !used[must] {
			t.Errorf("%s is not used", must)
		}
	}
}

// TestOwnRulesAreFound: the test above sees what it is there for.
func TestOwnRulesAreFound(t *testing.T) {
	for what, src := range map[string]string{
		"a pool":              "type p struct{}\nfunc (p *p) Due() {}",
		"a generic pool":      "type p[T any] struct{}\nfunc (p *p[T]) Add(T) {}\nfunc (p p[T]) Next() {}",
		"an exponential":      "func f(r *rand.Rand) float64 { return r.ExpFloat64() }",
		"an inverse":          "func f(r *rand.Rand) float64 { return -math.Log(1 - r.Float64()) }",
		"a global":            "var x = rand.N(10)",
		"bits of a generator": "func f(r *rand.ChaCha8) uint64 { return r.Uint64() }",
		"another package":     `import "math/rand"`,
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x.go", "package x\n"+src, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if faults, _ := own(fset, []*ast.File{f}); len(faults) == 0 {
			t.Errorf("%s is not found", what)
		}
	}
}
