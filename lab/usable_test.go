package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// TestUsable: a lab is made in a directory with nothing in it and continued in its own; between
// the files of others it writes nothing, and what it cannot become it says.
func TestUsable(t *testing.T) {
	dir := t.TempDir()
	write := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []string{dir, filepath.Join(dir, "none")} {
		if err := usable(at, Config{}); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
	write("lock") // a start that came no further
	if err := usable(dir, Config{}); err != nil {
		t.Error(err)
	}
	write("network") // a file of the same name as one of the lab
	_, err := Start(t.Context(), Config{Dir: dir, Program: "/bin/false", FreePorts: true}, nil)
	if errs.KindOf(err) != errs.Denied || !strings.Contains(errs.Public(err), "not empty") {
		t.Errorf("between other files: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("it left %v, %v", entries, err)
	}
	c, err := Config{FreePorts: true}.complete()
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.save(dir); err != nil {
		t.Fatal(err)
	}
	for want, asked := range map[string]Config{"": {Period: DefaultPeriod, Proxies: DefaultProxies}, "a period of 20s": {Period: time.Minute}, "has 2 proxies": {Proxies: 3}} {
		if err := usable(dir, asked); (want == "") != (err == nil) || !strings.Contains(errs.Public(err), want) {
			t.Errorf("%+v: %v", asked, err)
		}
	}
}
