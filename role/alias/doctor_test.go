package alias

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/postmap"
	"postern.email/kit/tooltest"
)

// postfix is the Postfix of this machine with a main.cf of its own.
func postfix(t testing.TB, main string) postmap.Postfix {
	t.Helper()
	return postmap.Postfix{ConfigDir: tooltest.Postfix(t, main)}
}

// beside is a configuration whose map lies beside main.cf.
func beside(t testing.TB, p postmap.Postfix, more string) Config {
	t.Helper()
	return load(t, "[PostfixConfig]\nDomain = @alias.example\nMapFilePath = "+p.ConfigDir+"/map\n"+more).Config
}

// findings are diagnoses as lines.
func findings(all []Diagnosis) (out []string) {
	for _, d := range all {
		mark := "FAULT"
		switch {
		case d.OK:
			mark = "ok"
		case d.Advice:
			mark = "advice"
		}
		out = append(out, mark+" "+d.What+": "+d.Text)
	}
	return out
}

// TestDoctor: IM-54: each thing that keeps Postfix from using the map is named, with what to type.
func TestDoctor(t *testing.T) {
	for name, c := range map[string]struct {
		main, more string
		prepare    func(dir string) error
		want       []string // that are among the findings
		faults     int
	}{
		"all well": {main: "virtual_alias_domains = alias.example\nvirtual_alias_maps = hash:DIR/map\nsmtpd_sender_login_maps = hash:DIR/map\n",
			want: []string{"ok main.cf: virtual_alias_maps uses the map", "ok answers: smtpd_sender_login_maps names the map", "ok map: DIR/map is not there yet and can be made", "ok domain: Postfix takes mail for alias.example"}},
		"not used": {main: "mydestination = alias.example\nvirtual_alias_maps = hash:DIR/other\n", faults: 1,
			want: []string{"FAULT main.cf: Postfix does not use the map: none of virtual_alias_maps, recipient_canonical_maps, canonical_maps names DIR/map"}},
		"canonical for senders": {main: "mydestination = alias.example\ncanonical_maps = btree:DIR/map\n",
			want: []string{"advice answers: canonical_maps is for senders, too"}},
		"canonical for recipients": {main: "mydestination = alias.example\nrecipient_canonical_maps = btree:DIR/map\nsender_canonical_maps = btree:DIR/map\n",
			want: []string{"ok main.cf: recipient_canonical_maps uses the map", "advice answers: sender_canonical_maps names the map"}},
		"no mail for the domain": {main: "virtual_alias_maps = hash:DIR/map\n", faults: 1, want: []string{"FAULT domain: Postfix takes no mail for alias.example"}},
		"domain in the map": {main: "virtual_alias_maps = hash:DIR/map\n", faults: 1, prepare: func(dir string) error { return os.WriteFile(dir+"/map", []byte("alias.example anything\n"), 0o600) },
			want: []string{"ok domain: Postfix takes mail for alias.example"}},
		"domain in a table":            {main: "virtual_alias_maps = hash:DIR/map\nvirtual_mailbox_domains = hash:/etc/d\n", want: []string{"advice domain: alias.example is in none of the lists"}},
		"another type":                 {main: "mydestination = alias.example\nvirtual_alias_maps = btree:DIR/map\n", more: "[Postern]\nMapType = hash\n", faults: 1, want: []string{"FAULT map type: virtual_alias_maps names the map as btree, and Postern.MapType is hash"}},
		"a type without index":         {main: "mydestination = alias.example\nvirtual_alias_maps = texthash:DIR/map\n", faults: 1, want: []string{"FAULT map type: virtual_alias_maps names the map as texthash, which cannot be replaced while Postfix runs"}},
		"a type that is not installed": {main: "meta_directory = DIR\nmydestination = alias.example\nvirtual_alias_maps = lmdb:DIR/map\n", faults: 1, want: []string{"FAULT map type: this Postfix has no tables of the type lmdb"}},
		"marks": {main: "mydestination = alias.example\nvirtual_alias_maps = hash:DIR/map\n", faults: 1, prepare: func(dir string) error { return os.WriteFile(dir+"/map", []byte("# END postern\n"), 0o600) },
			want: []string{"FAULT map: line 1 of the map: a block of ours ends that does not begin"}},
		"old index": {main: "mydestination = alias.example\nvirtual_alias_maps = hash:DIR/map\n", faults: 1, prepare: func(dir string) error { return os.WriteFile(dir+"/map", []byte("a b\n"), 0o600) },
			want: []string{"FAULT map: the index is older than the map, or missing"}},
		"no ordinary file": {main: "mydestination = alias.example\nvirtual_alias_maps = hash:DIR/map\n", faults: 1, prepare: func(dir string) error { return os.Mkdir(dir+"/map", 0o700) },
			want: []string{"FAULT map: "}},
	} {
		t.Run(name, func(t *testing.T) {
			p := postfix(t, c.main)
			if c.prepare != nil {
				if err := c.prepare(p.ConfigDir); err != nil {
					t.Fatal(err)
				}
			}
			all := Doctor(t.Context(), beside(t, p, c.more), p)
			got := findings(all)
			for _, want := range c.want {
				want = strings.ReplaceAll(want, "DIR", p.ConfigDir)
				if !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, want) }) {
					t.Errorf("no %q in %q", want, got)
				}
			}
			faults := 0
			for _, d := range all {
				if !d.OK && !d.Advice {
					faults++
				}
				if !d.OK && d.What != "map" && d.Next == "" {
					t.Errorf("nothing says what to do: %+v", d)
				}
			}
			if faults != c.faults || (AsError(all) != nil) != (faults > 0) {
				t.Errorf("%d faults, want %d: %q", faults, c.faults, got)
			}
		})
	}
}

// TestDoctorWithoutPostfix: that there is none is said, too, and a start is refused.
func TestDoctorWithoutPostfix(t *testing.T) {
	dir := t.TempDir()
	p := postmap.Postfix{Dir: dir}
	c := beside(t, postmap.Postfix{ConfigDir: dir}, "[General]\nLockFilePath = "+dir+"/lock\nUnixSockPath = "+dir+"/sock\n[Persistence]\nDatabasePath = "+dir+"/db\n")
	got := findings(Doctor(t.Context(), c, p))
	if len(got) != 3 || got[0] != "FAULT postmap: there is no program "+filepath.Join(dir, "postmap") || !strings.HasPrefix(got[2], "FAULT main.cf: Postfix's configuration cannot be read") {
		t.Errorf("%q", got)
	}
	if _, err := Start(t.Context(), Deps{Postfix: &p}, c); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "there is no program") {
		t.Error(err)
	}
	if _, err := os.Stat(dir + "/lock"); !os.IsNotExist(err) {
		t.Errorf("the lock stays: %v", err)
	}
}

// TestMapType: what the configuration says, else main.cf, else Postfix's default.
func TestMapType(t *testing.T) {
	p := postfix(t, "default_database_type = btree\nvirtual_alias_maps = hash:DIR/map\n")
	for more, want := range map[string]string{"": "hash", "[Postern]\nMapType=cdb\n": "cdb", "[PostfixConfig]\nMapFilePath=/another/map\n": "btree"} {
		c := beside(t, p, more)
		if got, err := mapType(t.Context(), &c, p); err != nil || got != want {
			t.Errorf("%q: %s, %v", more, got, err)
		}
	}
}
