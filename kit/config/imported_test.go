package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"postern.email/kit/errs"
)

// TestEntries: keys in their order, with lines, tables and values on one line.
func TestEntries(t *testing.T) {
	text := "top = 1\n[a]\nx = [ # first\n  \"b\",\n  2,\n]\n[[l]]\nk = \"v\"\n[[l]]\n# between\nk.n = true\n[m.\"a.b\"]\nq = 'x' # end"
	got := Entries([]byte(text))
	want := []Entry{
		{1, nil, 0, "top", "1"}, {3, []string{"a"}, 0, "x", `['b', 2]`}, {8, []string{"l"}, 1, "k", "'v'"},
		{11, []string{"l"}, 2, "k.n", "true"}, {13, []string{"m", "a.b"}, 0, "q", "'x'"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if Entries(nil) != nil {
		t.Error("something of nothing")
	}
	o := ImportedOption{Section: "a", Key: "x", Verdict: Mapped, To: "b.x", Value: "1", Note: "n"}
	if s := fmt.Sprint(o); s != "[a] x: mapped to b.x = 1: n" {
		t.Error(s)
	}
	if r := RefusedOf([]ImportedOption{o, {Key: "y", Verdict: Refused}}); len(r) != 1 || r[0].Key != "y" {
		t.Errorf("%v", r)
	}
}

// repeated is a configuration with tables that a file may repeat.
type repeated struct {
	Main struct {
		Age Duration `toml:"Age" default:"1h" max:"1d" doc:"Age."`
	} `toml:"Main"`
	Place map[string]struct {
		Host string `toml:"Host" check:"domain" doc:"Host."`
		Door []struct {
			Number int `toml:"Number" min:"1" max:"9" doc:"Number."`
		} `toml:"Door"`
	} `toml:"Place" name:"LABEL"`
	User []struct {
		Name string   `toml:"Name" doc:"Name."`
		Keys []string `toml:"Keys" max:"2" doc:"Keys."`
	} `toml:"User"`
	Alias map[string]string `toml:"Alias" name:"FROM" doc:"Where to."`
}

// TestRepeated: tables that a file may repeat are read, checked and described; their keys may be
// written in any case, as all.
func TestRepeated(t *testing.T) {
	var keys []string
	for _, o := range Options(&repeated{}) {
		keys = append(keys, o.Table+" "+o.Key)
	}
	if d := cmp.Diff([]string{" Main.Age", "[Place.LABEL] Place.LABEL.Host", "[[Place.LABEL.Door]] Place.LABEL.Door.Number", "[[User]] User.Name", "[[User]] User.Keys", "[Alias] Alias.FROM"}, keys); d != "" {
		t.Error(d)
	}
	var c repeated
	err := LoadText(&c, "t", []byte("[main]\nAGE = \"2h\"\n[Place.x]\nHost = \"a.example\"\n[[Place.x.Door]]\nNumber = 3\n[[User]]\nName = \"a\"\n[[User]]\nName = \"b\"\nKeys = [\"k\"]\n[Alias]\n\"a@b\" = \"c\"\n"), nil)
	if err != nil || c.Main.Age.Std() != 2*time.Hour || c.Place["x"].Door[0].Number != 3 || len(c.User) != 2 || c.User[1].Keys[0] != "k" || c.Alias["a@b"] != "c" {
		t.Errorf("%+v, %v", c, err)
	}
	if v := Values(&c); len(v) != 1 || v["Main.Age"] != "2h" {
		t.Errorf("%v", v)
	}
	for text, want := range map[string]string{
		"[Main]\nage = \"2d\"":                                                                `t:2: Main.Age: 2d is outside its limits: at most 1d`,
		"[Place.x]\nHost = \"no host\"":                                                       `t: Place.LABEL.Host: "no host": write a domain such as example.org, in lower case (xn-- for other scripts), or an IP address`,
		"[[Place.x.Door]]\nNumber = 10":                                                       `t: Place.LABEL.Door.Number: 10 is outside its limits: 1 to 9`,
		"[[User]]\nKeys = [\"1\", \"2\", \"3\"]":                                              `t:2: User.Keys: 3 entries are outside its limits: at most 2 entries`,
		"[[User]]\nKeys = [\"1\", \"2\", \"3\"]\n[[User]]\nKeys = []":                         `t:2: User.Keys: 3 entries are outside its limits: at most 2 entries`,
		"[[User]]\nName = \"a\"\n[[User]]\nKeys = [\"1\", \"2\", \"3\"]\n[[User]]\nKeys = []": `t:4: User.Keys: 3 entries are outside its limits: at most 2 entries`,
		"[Place.x]\nHots = \"a\"":                                                             `t:2: unknown key "Place.x.Hots"; the nearest known key is "Place.LABEL.Host"`,
		"[[Place.some-where.Door]]\nNummer = 1":                                               `t:2: unknown key "Place.some-where.Door.Nummer"; the nearest known key is "Place.LABEL.Door.Number"`,
		"[[User]]\nNam = \"a\"":                                                               `t:2: unknown key "User.Nam"; the nearest known key is "User.Name"`,
		"[Plaice.x]\nHost = \"a.example\"":                                                    `t:1: unknown key "Plaice.x"; the nearest known key is "Place"`,
	} {
		err := LoadText(new(repeated), "t", []byte(text), nil)
		if errs.KindOf(err) != errs.Invalid || errs.Public(err) != want {
			t.Errorf("%q: %q, want %q", text, errs.Public(err), want)
		}
	}
	for _, word := range []string{"User.Name=x", "Place.LABEL.Host=a.example", "Alias.FROM=x"} {
		if err := Apply(&c, []string{word}); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", word, err)
		}
	}
	if _, err := Assignment(&c, "User.Name"); errs.KindOf(err) != errs.Invalid {
		t.Errorf("%v", err)
	}
	page := string(Reference(&c, "T", "I"))
	for _, want := range []string{"## [Main]", "## [Place.LABEL]", "## [[Place.LABEL.Door]]", "## [[User]]", "## [Alias]", "| `User.Name` | text |"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}
