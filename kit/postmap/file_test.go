package postmap

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

const block = beginMark + "\na@x.example t@y.example\nb@x.example t@y.example\n" + endMark + "\n"

var two = []Line{{"a@x.example", "t@y.example"}, {"b@x.example", "t@y.example"}}

func TestWith(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
		lines            []Line
		conflicts        []Conflict
	}{
		{"empty", "", block, two, nil},
		{"nothing of ours", "x@x.example y\n", "x@x.example y\n", nil, nil},
		{"behind foreign lines", "# mine\n\nx@x.example\ty, z\n  w\n", "# mine\n\nx@x.example\ty, z\n  w\n" + block, two, nil},
		{"no line end", "x@x.example y", "x@x.example y\n" + block, two, nil},
		{"other line ends", "x y\r\n", "x y\r\n" + block, two, nil},
		{"block stays where it is", "x y\n" + beginMark + "\nold z\n" + endMark + "\n# end\nw v\n", "x y\n" + block + "# end\nw v\n", two, nil},
		{"block goes", "x y\n" + block + "w v\n", "x y\nw v\n", nil, nil},
		{"mark of another version", "# BEGIN postern, by hand\na b\n" + endMark + "\nw v\n", block + "w v\n", two, nil},
		// IM-61: a key is the whole key.
		{"a key that begins alike", "a@x.example.org q\naa@x.example q\na q\n", "a@x.example.org q\naa@x.example q\na q\n" + block, two, nil},
		{"lines that say the same are taken over", "A@x.example t@y.example\nx y\nb@X.example   t@y.example\n# c\n", "x y\n# c\n" + block, two, nil},
		{"taken over from behind the block", block + "x y\na@x.example t@y.example\n", block + "x y\n", two, nil},
		{"taken over with the line that goes on", "a@x.example\n# c\n\tt@y.example\nx y\n", "# c\nx y\n" + block, two, nil},
		{"somebody else's stays", "a@x.example other@y.example\n", "a@x.example other@y.example\n" + beginMark + "\nb@x.example t@y.example\n" + endMark + "\n", two, []Conflict{{"a@x.example", 1}}},
		{"two that say the same", "a@x.example t@y.example\nA@X.example T@y.example\n", block, two, nil},
		{"of two foreign ones the second would count", "a@x.example t@y.example\na@x.example other\n", "a@x.example t@y.example\na@x.example other\n" + beginMark + "\nb@x.example t@y.example\n" + endMark + "\n", two, []Conflict{{"a@x.example", 2}}},
		{"a comment is no key", "#a@x.example other\n # b@x.example other\n", "#a@x.example other\n # b@x.example other\n" + block, two, nil},
		{"a quoted key", "\"a b\"@x.example q\n", "\"a b\"@x.example q\n" + block, two, nil},
	} {
		f, err := parse([]byte(c.text))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		text, conflicts := f.with(c.lines)
		if string(text) != c.want || !slices.Equal(conflicts, c.conflicts) {
			t.Errorf("%s: %v\n%s\nwant\n%s", c.name, conflicts, text, c.want)
		}
	}
}

func TestDisown(t *testing.T) {
	f, err := parse([]byte("a@x.example other\nA@X.example T@y.example\n# c\nz y\n" + block + "a@x.example t@y.example\n w\nb@x.example\n t@y.example\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(f.disown(two)), "a@x.example other\n# c\nz y\n"+block+"a@x.example t@y.example\n w\n"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

func TestMarks(t *testing.T) {
	for text, want := range map[string]string{
		"x y\n" + beginMark + "\na b\n":                             "line 2 of the map: the block of ours that begins here has no end; put the marks right, or remove them and what is between them",
		"x y\n" + endMark + "\n":                                    "line 2 of the map: a block of ours ends that does not begin",
		block + block:                                               "line 5 of the map: a second block of ours begins",
		beginMark + "\n" + beginMark + "\n" + endMark + "\n":        "line 2 of the map: a second block of ours begins",
		beginMark + "\n" + endMark + "\n" + endMark + "\n# further": "line 3 of the map: a block of ours ends that does not begin",
	} {
		if _, err := parse([]byte(text)); errs.KindOf(err) != errs.Corrupt || !strings.HasPrefix(errs.Public(err), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestForeignEntries(t *testing.T) {
	f, err := parse([]byte("# c\nx y\n z\n\n\t# no\n  v\n" + block + "  lost\nw  v  \n\"a \\\" b\"@c d\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range f.foreign {
		got = append(got, e.Key+"="+e.Value)
	}
	if want := []string{"x=y z v", "w=v", `"a \" b"@c=d`}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if f.foreign[1].number != 12 {
		t.Errorf("the line after the block is number %d", f.foreign[1].number)
	}
}

func TestWord(t *testing.T) {
	for s, want := range map[string]bool{"a@b.example": true, "größe@b.example": true, "": false, "a b": false, "a\tb": false, "a\nb": false, "#a": false, `"a"@b`: false, `a\b`: false, "a,b": false,
		"a\u00a0b": false, "a\x00": false, "a\xff": false, strings.Repeat("a", 1024): true, strings.Repeat("a", 1025): false} {
		if Word(s) != want {
			t.Errorf("%q: %v", s, !want)
		}
	}
}

func TestUses(t *testing.T) {
	s := map[string]string{"virtual_alias_maps": "hash:/etc/a, proxy:btree:/etc/postfix/b hash:/etc/./a", "canonical_maps": "inline:{ {a = b} } cdb:/etc/postfix/b"}
	order := []string{"canonical_maps", "virtual_alias_maps", "relay_recipient_maps"}
	if got := Uses(s, order, "/etc/postfix/b"); !slices.Equal(got, []Use{{"canonical_maps", "cdb"}, {"virtual_alias_maps", "btree"}}) {
		t.Error(got)
	}
	if got := Uses(s, order, "/etc/a"); !slices.Equal(got, []Use{{"virtual_alias_maps", "hash"}}) {
		t.Error(got)
	}
	if got := Uses(s, order, "/etc/c"); got != nil {
		t.Error(got)
	}
}

// FuzzParse: whatever stands in a map, every byte of others is there after our lines came and went,
// and a second time nothing changes.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "x y\n", "x y", block, "# c\nx\n y\n" + block + "w v", "a@x.example other\n", "\"q b\"@c d\r\n", beginMark, endMark + "\n", "\x00\xff \n"} {
		f.Add([]byte(s))
	}
	lines := []Line{{"ours1@x.example", "t@y.example"}, {"ours2@x.example", "t@y.example"}}
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := parse(text)
		if err != nil {
			if errs.KindOf(err) != errs.Corrupt {
				t.Fatal(err)
			}
			return
		}
		for _, e := range first.foreign {
			if strings.HasPrefix(fold(e.Key), "ours") {
				return
			}
		}
		bare, _ := first.with(nil)
		if !bytes.Equal(bare, slices.Concat(first.before, first.after)) {
			t.Fatalf("%q became %q", text, bare)
		}
		full, conflicts := first.with(lines)
		second, err := parse(full)
		if err != nil || len(conflicts) > 0 || !slices.Equal(second.ours, lines) {
			t.Fatalf("%q: %v, %v", full, err, conflicts)
		}
		if again, _ := second.with(lines); !bytes.Equal(again, full) {
			t.Fatalf("%q, then %q", full, again)
		}
		want := bare
		if n := len(first.before); n > 0 && first.before[n-1] != '\n' {
			want = slices.Concat(first.before, []byte("\n"), first.after)
		}
		if gone, _ := second.with(nil); !bytes.Equal(gone, want) {
			t.Fatalf("%q became %q", text, gone)
		}
	})
}
