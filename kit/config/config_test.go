package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.email/kit/errs"
)

type sample struct {
	Domain string `toml:"domain" default:"example.org" doc:"The domain."`
	Limits struct {
		Mail  Bytes    `toml:"mail" default:"30M" min:"1K" max:"1G" doc:"Largest mail."`
		Age   Duration `toml:"age" default:"20d" min:"1h" doc:"Age."`
		Load  float64  `toml:"load" default:"5" min:"0" doc:"Load."`
		Count int      `toml:"count" default:"10" unit:"a minute" min:"0" max:"1000" doc:"Count."`
		On    bool     `toml:"on" default:"true" doc:"Whether."`
	} `toml:"limits"`
	Net struct {
		Trusted []string `toml:"trusted" default:"" check:"network" max:"3" doc:"Networks."`
		Listen  string   `toml:"listen" default:"127.0.0.1:25" check:"listen" doc:"Where."`
		TLS     string   `toml:"tls" default:"1.3" oneof:"1.2 1.3" doc:"Least version."`
	} `toml:"net"`
}

func write(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "p.toml")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoad(t *testing.T) {
	p := write(t, "domain = \"a.example\"\n[limits]\nmail = \"2M\"\nage = \"36h\"\n[net]\ntrusted = [\"10.0.0.0/8\", \"::1\"]\n")
	var got sample
	if err := Load(&got, p, []string{"limits.count=7", "limits.on=no", "net.listen=[::1]:0", "limits.load=0.5"}); err != nil {
		t.Fatal(err)
	}
	var want sample
	Defaults(&want)
	want.Domain, want.Limits.Mail, want.Limits.Age = "a.example", 2<<20, Duration(36*time.Hour)
	want.Limits.Count, want.Limits.On, want.Limits.Load = 7, false, 0.5
	want.Net.Trusted, want.Net.Listen = []string{"10.0.0.0/8", "::1"}, "[::1]:0"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if v := Values(&got); v["limits.age"] != "36h" || v["limits.mail"] != "2M" || v["net.trusted"] != "10.0.0.0/8,::1" {
		t.Errorf("Values = %v", v)
	}
}

func TestSizeAsNumber(t *testing.T) {
	var got sample
	if err := Load(&got, write(t, "[limits]\nmail = 4096\n"), nil); err != nil || got.Limits.Mail != 4096 {
		t.Errorf("mail = %v, %v", got.Limits.Mail, err)
	}
}

// TestFaults: every fault is errs.Invalid and its public text says where and what.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ text, set, want string }{
		{"\n\n[limits]\nmial = 3\n", "", `p.toml:4: unknown key "limits.mial"; the nearest known key is "limits.mail"`},
		{"count = 3\n", "", `p.toml:1: unknown key "count"; the nearest known key is "limits.count"`},
		{"[limit]\nmail = 3\n", "", `p.toml:1: unknown key "limit"; the nearest known key is "limits"`},
		{"[limits]\n\ncount = 2000\n", "", "p.toml:3: limits.count: 2000 is outside its limits: 0 to 1000"},
		{"[limits]\nage = \"3 weeks\"\n", "", `p.toml:2: limits.age: "3 weeks" is not a length of time`},
		{"[limits]\nmail = \"3Q\"\n", "", `p.toml:2: limits.mail: "3Q" is not a size`},
		{"domain = 3\n", "", "p.toml:1: domain: "},
		{"domain = \"x\n", "", "p.toml:1: "},
		{"domain = \"x\"\ndomain = \"y\"\n", "", "p.toml:2: "},
		{"[net]\ntls = \"1.1\"\n", "", `p.toml:2: net.tls: "1.1" is not one of: 1.2, 1.3`},
		{"[net]\nlisten = \"mail.example.org:25\"\n", "", "must be an IP address"},
		{"[net]\nlisten = \"25\"\n", "", "write host:port"},
		{"[net]\nlisten = \":99999\"\n", "", "write host:port"},
		{"[net]\ntrusted = [\"ten\"]\n", "", "write a network"},
		{"[net]\ntrusted = [\"::1\",\"::1\",\"::1\",\"::1\"]\n", "", "4 entries are outside its limits: at most 3 entries"},
		{"", "limits.count", "write --set section.key=value"},
		{"", "limits.cuont=3", `--set: unknown key "limits.cuont"; the nearest known key is "limits.count"`},
		{"", "limits.count=three", `--set limits.count: "three" is not a whole number`},
		{"", "limits.count=-1", "--set limits.count: -1 is outside its limits"},
		{"", "limits.on=maybe", "neither true nor false"},
		{"", "limits.age=30m", "30m is outside its limits: at least 1h"},
	} {
		var v sample
		var set []string
		if c.set != "" {
			set = []string{c.set}
		}
		err := Load(&v, write(t, c.text), set)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), c.want) {
			t.Errorf("%q --set %q:\n got %v\nwant %s", c.text, c.set, err, c.want)
		}
	}
	var v sample
	if err := Load(&v, filepath.Join(t.TempDir(), "none.toml"), nil); errs.KindOf(err) != errs.NotFound {
		t.Errorf("missing file: %v", err)
	}
	big := write(t, strings.Repeat("#", MaxFile+1))
	if err := Load(&v, big, nil); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("big file: %v", err)
	}
}

func TestReferenceNamesEveryOption(t *testing.T) {
	page := string(Reference(&sample{}, "Title", "Intro."))
	for _, o := range Options(&sample{}) {
		if !strings.Contains(page, "| `"+o.Key+"` |") || !strings.Contains(page, o.Doc) {
			t.Errorf("%s is not on the page", o.Key)
		}
	}
	o, err := Find(&sample{}, "limits.count")
	if err != nil || !strings.Contains(o.Describe(), "number (a minute); default: 10; limits: 0 to 1000") {
		t.Errorf("Describe = %q, %v", o.Describe(), err)
	}
	if _, err := Find(&sample{}, "limits.cont"); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "limits.count") {
		t.Errorf("Find = %v", err)
	}
}

func TestUndocumentedFieldIsRefused(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an option without a doc was accepted")
		}
	}()
	Options(&struct {
		A string `toml:"a"`
	}{})
}

func TestTextForms(t *testing.T) {
	for in, want := range map[string]string{"0": "0", "1024": "1K", "500m": "500M", "1500": "1500", "2T": "2T"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(in)); err != nil || b.String() != want {
			t.Errorf("size %q = %q, %v", in, b, err)
		}
	}
	for _, in := range []string{"", "K", "-1", "1.5G", "9999999999G"} {
		var b Bytes
		if b.UnmarshalText([]byte(in)) == nil {
			t.Errorf("size %q accepted as %v", in, b)
		}
	}
	for in, want := range map[string]string{"0": "0s", "90s": "1m30s", "48h": "2d", "15m": "15m", "1h": "1h", "90m": "1h30m"} {
		var d Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || d.String() != want {
			t.Errorf("duration %q = %q, %v", in, d, err)
		}
	}
	for _, in := range []string{"", "d", "-1h", "5", "99999999d"} {
		var d Duration
		if d.UnmarshalText([]byte(in)) == nil {
			t.Errorf("duration %q accepted as %v", in, d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("domain = \"a\"\n[limits]\nmail = \"3M\"\n", "limits.count=3")
	f.Add("[net]\ntrusted = [\"10.0.0.0/8\"]\nlisten='off'", "x")
	f.Add("a.b.c = { d = 1 }\n[[net]]\n", "limits.age=1d")
	f.Fuzz(func(t *testing.T, text, set string) {
		var v sample
		Defaults(&v)
		if parse(&v, "f", []byte(text)) != nil || Apply(&v, []string{set}) != nil {
			return
		}
		// What was accepted can be written back and read again.
		var again sample
		Defaults(&again)
		for k, val := range Values(&v) {
			if o, _ := Find(&v, k); o.Type != "text" && o.Type != "list" {
				if err := Apply(&again, []string{k + "=" + val}); err != nil {
					t.Fatalf("%s=%s: %v", k, val, err)
				}
			}
		}
	})
}

// TestNamedChecks: what domains, URLs and mail addresses may look like.
func TestNamedChecks(t *testing.T) {
	for name, values := range map[string][2][]string{
		"domain": {{"example.org", "_x.example.org", "xn--bcher-kva.example", "localhost", "192.0.2.1", "2001:db8::1"},
			{"", "Example.org", "example.org.", "-x.example", "[192.0.2.1]", "a b", "x@example.org", strings.Repeat("a.", 130) + "org"}},
		"url": {{"", "https://ca.example/dir", "https://127.0.0.1:14000/dir"},
			{"ca.example/dir", "http://ca.example/dir", "https://", "https://u:p@ca.example/", "https://[::1"}},
		"email": {{"", "ops@example.org", "a.b+c@sub.example.org"},
			{"ops", "@example.org", "ops@", "a b@example.org", "ops@example.org,x@example.org", "<ops@example.org>", "ops@[192.0.2.1]"}},
	} {
		for i, list := range values {
			for _, s := range list {
				if why := checks[name](s); (why == "") != (i == 0) || i == 1 && !strings.HasPrefix(why, "write ") {
					t.Errorf("%s %q: %q", name, s, why)
				}
			}
		}
	}
}
