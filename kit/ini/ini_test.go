package ini

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

func flat(all []Entry) (out []string) {
	for _, e := range all {
		s := fmt.Sprintf("%d %s", e.Line, e.Section)
		if e.Sub != "" {
			s += "/" + e.Sub
		}
		if e.Key != "" {
			s += " " + e.Key
			if !e.Blank {
				s += "=" + e.Value
			}
		}
		out = append(out, s)
	}
	return out
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", nil},
		{"only comments", "; one\n# two\n\n \t; three", nil},
		{"comments behind everything", "[General] ; heading\nA = \"x\" ; one\nB = y # two\nC=z;three", []string{"1 General", "2 General A=x", "3 General B=y", "4 General C=z"}},
		{"quotes keep comment signs and blanks", "[a]\nk = \" ; # \" ; c", []string{"1 a", "2 a k= ; # "}},
		{"quotes in the middle", "[a]\nk = x\" y \"z  w\t ", []string{"1 a", "2 a k=x y z  w"}},
		{"escapes", "[a]\nk = \"q\\\"b\\\\n\\nt\\t.\"", []string{"1 a", "2 a k=q\"b\\n\nt\t."}},
		{"a value over two lines", "[a]\nk = one\\\n two\nl = x", []string{"1 a", "2 a k=one two", "4 a l=x"}},
		{"line ends of two kinds", "[a]\r\nk = v\r\nl = one\\\r\ntwo\r\n", []string{"1 a", "2 a k=v", "3 a l=onetwo"}},
		{"byte order mark", "\ufeff[a]\nk=v", []string{"1 a", "2 a k=v"}},
		{"no equals sign", "[a]\nk\nl ; c", []string{"1 a", "2 a k", "3 a l"}},
		{"empty value", "[a]\nk =\nl = \"\"\nm = ; c", []string{"1 a", "2 a k=", "3 a l=", "4 a m="}},
		{"subsection", "[ a \"B c\" ]\nk=v", []string{"1 a/B c", "2 a/B c k=v"}},
		{"section again", "[a]\nk=1\n[b]\n[a]\nk=2", []string{"1 a", "2 a k=1", "3 b", "4 a", "5 a k=2"}},
		{"equals signs in a value", "[a]\nk = a=b", []string{"1 a", "2 a k=a=b"}},
		{"letters of others", "[größe]\nname-2 = é", []string{"1 größe", "2 größe name-2=é"}},
		{"one line", "[a] ", []string{"1 a"}},
	} {
		got, err := Parse("f", []byte(c.text))
		if err != nil || !slices.Equal(flat(got), c.want) {
			t.Errorf("%s: %q, %v", c.name, flat(got), err)
		}
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]string{
		"k = v":             "f:1: the key k stands before the first section",
		"[a]\n= v":          "f:2: this is neither a section nor a key; write Name = value",
		"\n[1a]":            "f:2: a section is written [Name]",
		"[a b]":             "f:1: a section is written [Name]",
		"[a":                "f:1: a section is written [Name]",
		"[]":                "f:1: a section is written [Name]",
		"[a] k = v":         "f:1: only a comment may stand behind the name of a section",
		"[a \"\"]":          "f:1: the name of a subsection is empty",
		"[a.b]":             "f:1: a section is written [Name]",
		"[a]\nk v":          "f:2: only a comment may stand behind a key without a value; write k = value",
		"[a]\nk_2 = v":      "f:2: only a comment may stand behind a key without a value; write k = value",
		"[a]\nk = \"v":      "f:2: the quotes are not closed on this line",
		"[a]\nk = \"v\nw\"": "f:2: the quotes are not closed on this line",
		"[a]\nk = C:\\x":    `f:2: outside of quotes a backslash stands at the end of a line only; put the value in quotes and write \\`,
		"[a]\nk = \"\\x\"":  `f:2: in quotes there are \" \\ \n and \t; a backslash is written \\`,
		"[a]\nk = \"\\":     `f:2: in quotes there are \" \\ \n and \t; a backslash is written \\`,
		"[a]\n\nk = \x00":   "f:3: a zero byte",
		"[a]\nk = \xff":     "f: the file is not in UTF-8",
		"]":                 "f:1: this is neither a section nor a key; write Name = value",
	} {
		if got, err := Parse("f", []byte(text)); errs.KindOf(err) != errs.Invalid || errs.Public(err) != want {
			t.Errorf("%q: %v, %v; want %q", text, got, err, want)
		}
	}
}

// FuzzParse: no text makes the reader fall, and what it gives, written with everything in quotes,
// is read as the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "[General] ; c\nA = \"x\"\n", "[a \"b\"]\nk=\\\nv\nl", "[a]\nk = \"\\\"\\\\\\n\\t\" # c", "\ufeff[é]\r\nk = v\r\n", "[a]\nk = x\" ;\"y ; z"} {
		f.Add([]byte(s))
	}
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := Parse("f", text)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid || !strings.HasPrefix(errs.Public(err), "f:") {
				t.Fatal(err)
			}
			return
		}
		var b strings.Builder
		for _, e := range all {
			switch {
			case e.Key == "" && e.Sub == "":
				fmt.Fprintf(&b, "[%s]\n", e.Section)
			case e.Key == "":
				fmt.Fprintf(&b, "[%s \"%s\"]\n", e.Section, quote.Replace(e.Sub))
			case e.Blank:
				fmt.Fprintf(&b, "%s\n", e.Key)
			default:
				fmt.Fprintf(&b, "%s = \"%s\"\n", e.Key, quote.Replace(e.Value))
			}
		}
		again, err := Parse("f", []byte(b.String()))
		if err != nil {
			t.Fatalf("%q: %v", b.String(), err)
		}
		if len(again) != len(all) {
			t.Fatalf("%d entries, then %d", len(all), len(again))
		}
		for i := range all {
			all[i].Line = again[i].Line
			if all[i] != again[i] {
				t.Fatalf("%+v became %+v", all[i], again[i])
			}
		}
	})
}
