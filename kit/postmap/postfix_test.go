package postmap

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/tooltest"
)

// postfix is the Postfix of this machine with a main.cf of its own.
func postfix(t testing.TB, main string) Postfix {
	t.Helper()
	return Postfix{ConfigDir: tooltest.Postfix(t, main)}
}

// TestPostmap: with Postfix's own programs, of each type of table that this one knows.
func TestPostmap(t *testing.T) {
	p := postfix(t, "virtual_alias_maps = $default_database_type:/etc/v, proxy:btree:${config_directory}/m\n")
	for _, typ := range Types() {
		if known, err := p.Knows(t.Context(), typ); err != nil {
			t.Fatal(err)
		} else if !known { // cdb and lmdb are packages of their own in Debian
			tooltest.Missing(t, "Postfix's type of table "+typ)
		}
		path := filepath.Join(t.TempDir(), "canonical")
		if err := os.WriteFile(path, []byte("Foreign@x.example f@y.example\n"), 0o640); err != nil {
			t.Fatal(err)
		}
		m, err := New(Options{Path: path, Type: typ, Compile: p.Compile})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(key string) string {
			t.Helper()
			v, err := p.Query(t.Context(), typ, path, key)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if r, err := m.Sync(t.Context(), two); err != nil || !r.Changed {
			t.Fatalf("%s: %v", typ, err)
		}
		if got := ask("A@X.example") + ask("b@x.example") + ask("foreign@x.example") + ask("c@x.example"); got != "t@y.examplet@y.examplef@y.example" {
			t.Errorf("%s: %q", typ, got)
		}
		if r, err := m.Sync(t.Context(), two); err != nil || r.Changed {
			t.Errorf("%s again: %+v, %v", typ, r, err)
		}
		if _, err := m.Sync(t.Context(), two[1:]); err != nil {
			t.Fatal(err)
		}
		if got := ask("a@x.example") + ask("b@x.example") + ask("foreign@x.example"); got != "t@y.examplef@y.example" {
			t.Errorf("%s: %q", typ, got)
		}
	}
	s, err := p.Settings(t.Context(), "virtual_alias_maps", "default_database_type")
	if err != nil || s["virtual_alias_maps"] != s["default_database_type"]+":/etc/v, proxy:btree:"+p.ConfigDir+"/m" {
		t.Errorf("%v, %v", s, err)
	}
	if got := Uses(s, []string{"virtual_alias_maps"}, p.ConfigDir+"/m"); !slices.Equal(got, []Use{{"virtual_alias_maps", "btree"}}) {
		t.Error(got)
	}
}

func TestPostfixFaults(t *testing.T) {
	p := Postfix{Dir: t.TempDir()}
	if err := p.Compile(t.Context(), "hash", "/x"); errs.KindOf(err) != errs.NotFound || errs.Public(err) != "there is no program "+p.Dir+"/postmap" {
		t.Error(err)
	}
	bad := filepath.Join(p.Dir, "postmap")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\necho first >&2\necho why it failed >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := p.Compile(t.Context(), "hash", "/x")
	var exit *exec.ExitError
	if errs.KindOf(err) != errs.Unavailable || errs.Public(err) != "postmap of Postfix failed" || !strings.Contains(err.Error(), "why it failed") || !errors.As(err, &exit) {
		t.Error(err)
	}
	if err := os.Chmod(bad, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.Compile(t.Context(), "hash", "/x"); errs.KindOf(err) != errs.Denied || errs.Public(err) != "the program "+bad+" may not be run" {
		t.Error(err)
	}
	if _, err := (Postfix{}).Program("no-such-program-of-postfix"); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "is Postfix installed?") {
		t.Error(err)
	}
}

// BenchmarkChange is one alias more in a table of 10,000, with Postfix's own postmap.
func BenchmarkChange(b *testing.B) {
	p := postfix(b, "")
	m, err := New(Options{Path: filepath.Join(b.TempDir(), "map"), Type: "hash", Compile: p.Compile})
	if err != nil {
		b.Fatal(err)
	}
	var lines []Line
	for i := range 10_000 {
		lines = append(lines, Line{"amber-falcon-" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("7", i/100%9) + strconv.Itoa(i) + "@alias.example", "somebody@mailbox.example"})
	}
	if _, err := m.Sync(b.Context(), lines); err != nil {
		b.Fatal(err)
	}
	for n := 0; b.Loop(); n++ {
		if r, err := m.Sync(b.Context(), append(lines, Line{"new" + strconv.Itoa(n) + "@alias.example", "somebody@mailbox.example"})); err != nil || !r.Changed {
			b.Fatal(err)
		}
	}
}
