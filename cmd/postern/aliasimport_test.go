package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode"

	"postern.email/agent/aliases"
	"postern.email/agent/migrate"
	"postern.email/kit/errs"
	"postern.email/wire/control"
)

// TestParseImport: files as programs, spreadsheets and strangers make them: what is an alias is read, what is none is
// told with its line, and what is no such file is told as a whole.
func TestParseImport(t *testing.T) {
	const ours = "address,label,max_mails,idle_days,state\n"
	for name, c := range map[string]struct {
		text, want string // addresses, then what is told
		err        string
	}{
		"ours":                      {text: ours + "a@x.example,l,1,2,paused\nb@x.example,,,,\n", want: "a@x.example b@x.example"},
		"columns in another order":  {text: "label,address\nl,a@x.example\n", want: "a@x.example"},
		"addresses alone":           {text: "address\na@x.example\n", want: "a@x.example"},
		"a byte order mark":         {text: "\ufeff" + ours + "a@x.example,,,,\n", want: "a@x.example"},
		"a byte order mark, JSON":   {text: "\ufeff{\"address\":\"a@x.example\"}\r\n", want: "a@x.example"},
		"CRLF":                      {text: strings.ReplaceAll(ours+"a@x.example,,,,\nb@x.example,,,,\n", "\n", "\r\n"), want: "a@x.example b@x.example"},
		"CR alone":                  {text: strings.ReplaceAll(ours+"a@x.example,,,,\nb@x.example,,,,\n", "\n", "\r"), want: "a@x.example b@x.example"},
		"CR alone, JSON":            {text: "{\"address\":\"a@x.example\"}\r{\"address\":\"b@x.example\"}\r", want: "a@x.example b@x.example"},
		"CR alone, SimpleLogin":     {text: "alias,note\ra@x.example,n\r", want: "a@x.example"},
		"semicolons":                {text: strings.ReplaceAll(ours+"a@x.example,\"l,m\",,,\n", ",", ";"), want: "a@x.example"},
		"tabs":                      {text: strings.ReplaceAll(ours+"a@x.example,,,,\n", ",", "\t"), want: "a@x.example"},
		"lines that are none":       {text: "\n{\"address\":\"a@x.example\"}\n\n[]\n{\"address\":\n{\"address\":\"\"}\n{\"address\":7}\n", want: "a@x.example", err: ""},
		"rows that are none":        {text: ours + ",l,1,2,\nb@x.example,l,-1,2,\nc@x.example,l,1,70000,\nd@x.example\n", want: "d@x.example"},
		"NULs":                      {text: ours + "a@x.example,l\x00l,,,\n\x00,,,,\n", want: "a@x.example \x00"},
		"the heading alone":         {text: ours},
		"nothing":                   {err: "the file is empty"},
		"a column twice":            {text: "address,label,Address \na@x.example,,b@x.example\n", err: `the column "address" is there twice`},
		"a column twice, elsewhere": {text: "alias,note,note\n", err: `the column "note" is there twice`},
		"too many columns":          {text: "address" + strings.Repeat(",", 300) + "\n", err: "the file has more than 256 columns"},
		"UTF-16":                    {text: "\xff\xfea\x00d\x00", err: "the file is UTF-16; save it as UTF-8"},
		"UTF-16, the other way":     {text: "\xfe\xff\x00a\x00d", err: "the file is UTF-16; save it as UTF-8"},
		"a picture":                 {text: "\x89PNG\r\n\x1a\n\x00\x00", err: "this is neither a file of SimpleLogin"},
		"a quote without an end":    {text: ours + "a@x.example,\"l", want: "a@x.example"},
	} {
		t.Run(name, func(t *testing.T) {
			views, problems, err := parseImport([]byte(c.text))
			if c.err != "" {
				if errs.KindOf(err) != errs.Invalid || !strings.HasPrefix(errs.Public(err), c.err) {
					t.Errorf("%v", err)
				}
				return
			}
			var got []string
			for _, v := range views {
				got = append(got, v.Address)
			}
			if err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%q, %v, %v", got, problems, err)
			}
		})
	}
	_, problems, err := parseImport([]byte("\n{\"address\":\"a@x.example\"}\n\nnothing\n"))
	if want := []migrate.Problem{{Line: 4, Text: "this is no alias of an export; it was left out"}}; err != nil || !slices.Equal(problems, want) {
		t.Errorf("%v, %v", problems, err)
	}
	if _, problems, err = parseImport([]byte(ours + "\n,,1,2,\n")); err != nil || len(problems) != 1 || problems[0].Line != 3 {
		t.Errorf("%v, %v", problems, err)
	}
}

// repeated gives a text over and over, up to a size.
func repeated(text string, size int) []byte {
	return bytes.Repeat([]byte(text), size/len(text))[:size/len(text)*len(text)]
}

// TestParseImportIsBounded: a hostile file of the greatest size is refused, and takes little more memory than it has
// itself.
func TestParseImportIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("files of 16 MiB")
	}
	const size = 16 << 20
	for name, c := range map[string]struct{ head, text, err string }{
		"lines that are no JSON":      {"{", "\nx", "the file has more than 100000 aliases"},
		"one long line":               {`{"address":"`, "x", "an entry of the file is longer than 1048576 bytes"},
		"one deep line":               {"{", `"a":{`, "an entry of the file is longer than 1048576 bytes"},
		"rows that are no alias":      {"address\n", ",\n", "the file has more than 100000 aliases"},
		"commas alone":                {"address\n", ",", "an entry of the file is longer than 1048576 bytes"},
		"commas and lines in quotes":  {"address\n", ",\"\n\"", "an entry of the file is longer than 1048576 bytes"},
		"a field without an end":      {"address\n\"", "x", "an entry of the file is longer than 1048576 bytes"},
		"a heading without an end":    {"address", ",", "an entry of the file is longer than 1048576 bytes"},
		"addresses of another server": {"alias,note\n", "x\n", "the file has more than 100000 aliases"},
	} {
		text := append([]byte(c.head), repeated(c.text, size)...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := parseImport(text)
		runtime.ReadMemStats(&after)
		if errs.KindOf(err) != errs.TooLarge || errs.Public(err) != c.err {
			t.Errorf("%s: %v", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 160<<20 {
			t.Errorf("%s: %d MiB were taken in all", name, got>>20)
		}
	}
	_, err := readImport(streams{in: io.LimitReader(zeros{}, 100<<20)}, "-")
	if errs.KindOf(err) != errs.TooLarge || errs.Public(err) != "the file is larger than 64 MiB" {
		t.Error(err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestOneCall: what goes to the server in one call fits into it, whatever the aliases hold, and none is lost.
func TestOneCall(t *testing.T) {
	var all []aliases.View
	for i := range 3000 {
		v := aliases.View{Address: fmt.Sprintf("shop-%d@x.example", i)}
		if i%2 == 0 {
			v.Note = strings.Repeat("<\x00>", 1365) // six bytes each in JSON
		}
		all = append(all, v)
	}
	all[7].Note = strings.Repeat("<", migrate.MaxRow/2)
	n := 0
	for rest := all; len(rest) > 0; {
		var call []aliases.View
		call, rest = oneCall(rest)
		text, err := json.Marshal(aliases.Args{Import: call})
		if err != nil || len(call) == 0 || len(call) > aliases.MaxImport || len(text) > control.MaxLine-4096 {
			t.Fatalf("%d aliases in %d bytes, %v", len(call), len(text), err)
		}
		if call[0].Address != all[n].Address {
			t.Fatalf("%s where %s is next", call[0].Address, all[n].Address)
		}
		n += len(call)
	}
	if n != len(all) {
		t.Errorf("%d of %d", n, len(all))
	}
	if call, rest := oneCall(make([]aliases.View, aliases.MaxImport+1)); len(call) != aliases.MaxImport || len(rest) != 1 {
		t.Errorf("%d and %d", len(call), len(rest))
	}
}

// TestPrintImported: what a stranger wrote into a file does nothing to a terminal.
func TestPrintImported(t *testing.T) {
	var out, told bytes.Buffer
	sum := imported{Made: 1, Yours: 2, Failed: []aliases.ImportFailed{{Address: "a\x1b[2J\n\u202e@x.example", Text: "why"}}, Problems: []migrate.Problem{{Line: 3, Subject: "\x9b\r", Text: "it was left out"}}}
	if err := printImported(streams{nil, &out, &told}, false, sum); err != nil {
		t.Fatal(err)
	}
	if out.String() != "1 aliases were taken over, 2 were there already, 1 were not.\n" || told.String() != "line 3: \ufffd\ufffd: it was left out\na\ufffd[2J \ufffd@x.example: why\n" {
		t.Errorf("%q, %q", &out, &told)
	}
	out.Reset()
	printAlias(streams{nil, &out, &told}, aliases.View{Address: "a@x.example", Label: "\x1b]0;l\a", Note: "one\ntwo\x00", Site: "s\n", Correspondents: []aliases.Correspondent{{Address: "b\x1b@x.example", State: "seen"}}})
	if bad := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); bad >= 0 {
		t.Errorf("%q", &out)
	}
}

// FuzzParseImport: no file makes the readers fall; what they give has an address, fits into calls, and comes back from our
// own CSV file as it was.
func FuzzParseImport(f *testing.F) {
	f.Add([]byte(strings.Join(csvColumns, ",") + "\na@x.example,s.example,l,\"n\n\"\"m\"\"\",open,strict,active,2026-01-01,,,7,9,1,2,3,false\n"))
	f.Add([]byte("{\"address\":\"a@x.example\",\"correspondents\":[{\"address\":\"@y.example\",\"state\":\"blocked\"}]}\n\n{}\n"))
	f.Add([]byte("alias,note,enabled,mailboxes\na@x.example,\"n,\",false,m@y.example\n"))
	f.Add([]byte("id,email,active,description,deleted_at\n1,a@x.example,1,d,\n"))
	f.Add([]byte("\ufeffaddress;note\ra@x.example;\x00\r"))
	f.Add([]byte("\xff\xfe{\x00"))
	f.Add([]byte("address\taddress\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		views, problems, err := parseImport(text)
		if err != nil {
			if kind := errs.KindOf(err); kind != errs.Invalid && kind != errs.TooLarge || views != nil {
				t.Fatal(err)
			}
			return
		}
		var out bytes.Buffer
		w := csv.NewWriter(&out)
		w.Write(csvColumns)
		for i := range views {
			if views[i].Address == "" {
				t.Fatalf("%+v", views[i])
			}
			w.Write(csvRow(&views[i]))
		}
		w.Flush()
		for _, p := range problems {
			if p.Text == "" {
				t.Fatal("a problem without words")
			}
		}
		if printImported(streams{nil, io.Discard, io.Discard}, false, imported{Problems: problems}) != nil {
			t.Fatal("not printed")
		}
		again, problems, err := parseImport(out.Bytes())
		if err != nil || len(problems) > 0 || len(again) != len(views) {
			t.Fatalf("%d of %d come back, %v, %v\n%q", len(again), len(views), problems, err, &out)
		}
		for i := range views {
			line := func(v *aliases.View) string { // RFC 4180 readers take CR LF for LF
				return strings.ReplaceAll(strings.Join([]string{v.Address, v.Site, v.Label, v.Note, v.Mode, v.Class, v.State, v.Expires, fmt.Sprint(v.MaxMails, v.IdleDays)}, "|"), "\r\n", "\n")
			}
			if line(&again[i]) != line(&views[i]) {
				t.Fatalf("%q came back as %q", line(&views[i]), line(&again[i]))
			}
		}
	})
}
