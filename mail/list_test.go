package mail

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

func box(name, local, domain string) Mailbox {
	return Mailbox{Name: name, RawName: name, Address: Address{local, domain}}
}

func TestParseAddressList(t *testing.T) {
	end := Mailbox{Group: GroupEnd}
	start := func(name string) Mailbox { return Mailbox{Name: name, RawName: name, Group: GroupStart} }
	for in, want := range map[string][]Mailbox{
		"":                              nil,
		" , ,":                          nil,
		"a@b.c":                         {box("", "a", "b.c")},
		"<a@b.c>":                       {box("", "a", "b.c")},
		"A B <a@b.c>":                   {box("A B", "a", "b.c")},
		`"A, B" <a@b.c>, c@d`:           {box("A, B", "a", "b.c"), box("", "c", "d")},
		`"A \"q\" \\B" <a@b.c>`:         {box(`A "q" \B`, "a", "b.c")},
		`"a b"@c`:                       {box("", "a b", "c")},
		"a@b.c (A B)":                   {box("A B", "a", "b.c")},
		"a@b.c (A (nested \\) x) B)":    {box("A (nested ) x) B", "a", "b.c")},
		"(c) A (c) B <(c)a@b.c(c)> (c)": {box("A B", "a", "b.c")},
		"J. R. Doe <a@b.c>":             {box("J. R. Doe", "a", "b.c")},
		"Joe's [work] <a@b.c>":          nil, // brackets; see the errors below
		"<@x,@y:a@b.c>":                 {box("", "a", "b.c")},
		"a . b @ c . d":                 {box("", "a.b", "c.d")},
		"a@[192.0.2.1]":                 {box("", "a", "[192.0.2.1]")},
		"é <ü@ö.example>":               {box("é", "ü", "ö.example")},
		"@b, c@d":                       {box("", "", "b"), box("", "c", "d")},
		"root":                          {box("", "root", "")},
		"a@b; c@d":                      {box("", "a", "b"), box("", "c", "d")},
		`"hidden-recipients": ;`:        {start("hidden-recipients"), end},
		"undisclosed recipients:;":      {start("undisclosed recipients"), end},
		"G: a@b, C <c@d>; e@f":          {start("G"), box("", "a", "b"), box("C", "c", "d"), end, box("", "e", "f")},
		"G: a@b":                        {start("G"), box("", "a", "b"), end},
		"G:;, H:;":                      {start("G"), end, start("H"), end},
		"=?utf-8?q?J=C3=B6rg?= <a@b>":   {{Name: "Jörg", RawName: "=?utf-8?q?J=C3=B6rg?=", Address: Address{"a", "b"}}},
		"=?iso-8859-1?b?SvZyZw==?= =?iso-8859-1?q?_X?= <a@b>": {{Name: "Jörg X", RawName: "=?iso-8859-1?b?SvZyZw==?= =?iso-8859-1?q?_X?=", Address: Address{"a", "b"}}},
		"=?utf-8?q?a=0D=0ABcc=3A_x?= <a@b>":                   {{Name: "a  Bcc: x", RawName: "=?utf-8?q?a=0D=0ABcc=3A_x?=", Address: Address{"a", "b"}}},
		"=?x-none?q?abc?= <a@b>":                              {box("=?x-none?q?abc?=", "a", "b")},
		"<>":                                                  {box("", "", "")},
	} {
		got, err := ParseAddressList(in)
		if want == nil && strings.Contains(in, "[") {
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("%q: %v", in, err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	// With an error the rest is still read.
	for in, want := range map[string][]Mailbox{
		"a@b c@d, e@f":          {box("", "a", "b"), box("", "e", "f")},
		"<a@b, c@d":             {box("", "c", "d")},
		"<a@b> <c@d>, e@f":      {box("", "a", "b"), box("", "e", "f")},
		"a@, c@d":               {box("", "c", "d")},
		"] , c@d":               {box("", "c", "d")},
		`"open`:                 {box("", "open", "")},
		"(open":                 nil,
		"a@[1.2.3, c@d":         {box("", "c", "d")},
		"G: H: a@b;":            {{Name: "G", RawName: "G", Group: GroupStart}, {Group: GroupEnd}, {Name: "H", RawName: "H", Group: GroupStart}, box("", "a", "b"), {Group: GroupEnd}},
		strings.Repeat("(", 99): nil,
	} {
		got, err := ParseAddressList(in)
		if !errors.Is(err, errs.Invalid) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	got, err := ParseAddressList(strings.Repeat("a@b,", MaxMailboxes+1))
	if !errors.Is(err, errs.TooLarge) || len(got) != MaxMailboxes {
		t.Errorf("%d, %v", len(got), err)
	}
	if got, err := ParseAddressList(strings.Repeat("a@b,", MaxMailboxes)); err != nil || len(got) != MaxMailboxes {
		t.Errorf("%d, %v", len(got), err)
	}
}

func TestFromAddress(t *testing.T) {
	for in, want := range map[string]string{
		"From: a@b.c\r\n":                       "a@b.c",
		"From: A <a@b.c>\r\n":                   "a@b.c",
		"From: \"x@y.z\" <a@b.c> (comment)\r\n": "a@b.c",
		"From: \"a b\"@b.c\r\n":                 `"a b"@b.c`,
		"from:\r\n A\r\n <a@b.c>\r\n":           "a@b.c",
		"From: < a@b.c >\r\n":                   "a@b.c",
		"From: é@ö.example\r\n":                 "é@ö.example",

		"":                           "no From header",
		"Sender: a@b\r\n":            "no From header",
		"From:\r\n":                  "From header has not exactly one address",
		"From: a@b\r\nFROM: a@b\r\n": "more than one From header",
		"From: a@b, c@d\r\n":         "From header has not exactly one address",
		"From: G: a@b;\r\n":          "From header has not exactly one address",
		"From: G:;\r\n":              "From header has not exactly one address",
		"From: a@b c@d\r\n":          "malformed From header",
		"From: <a@b> <c@d>\r\n":      "malformed From header",
		"From: \"a <a@b>\r\n":        "malformed From header",
		"From: <@x:a@b>\r\n":         "From header has an ambiguous address",
		"From: a @ b\r\n":            "From header has an ambiguous address",
		"From: a(x)@b\r\n":           "From header has an ambiguous address",
		"From: a@(x)b\r\n":           "From header has an ambiguous address",
		"From: a@b . c\r\n":          "From header has an ambiguous address",
		"From: a@b(x).c\r\n":         "From header has an ambiguous address",
		"From: x.\"y\"@b\r\n":        "From header has an ambiguous address",
		"From: @b\r\n":               "malformed address in From header",
		"From: root\r\n":             "From header has an ambiguous address",
		"From: <root>\r\n":           "malformed address in From header",
		"From: <>\r\n":               "malformed address in From header",
		"From: a..b@c\r\n":           "From header has an ambiguous address",
		"From: a@b..c\r\n":           "malformed address in From header",
		"From: =?utf-8?q?a?=@b\r\n":  "=?utf-8?q?a?=@b",
		"From: \xff@b\r\n":           "malformed address in From header",
	} {
		h := parse(t, in)
		a, err := FromAddress(h)
		got := a.String()
		if err != nil {
			got = errs.Public(err)
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("%q: %v", in, err)
			}
		}
		if got != want {
			t.Errorf("%q: %q (%v), want %q", in, got, err, want)
		}
	}
}

func FuzzAddressList(f *testing.F) {
	for _, s := range []string{"a@b, C <d@e>", "G: a@b;", `"q\"" <@x,@y:a . b@c (d(e))>`, "=?utf-8?b?w6k=?= <a@b>", "a@[1", "(((", "a;b,c:d<e>f@g[h]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseAddressList(s)
		depth := 0
		for _, m := range list {
			switch m.Group {
			case GroupStart:
				depth++
			case GroupEnd:
				depth--
			}
			if depth < 0 || depth > 1 || strings.ContainsAny(m.Name, "\r\n") {
				t.Fatalf("%q: %+v", s, list)
			}
		}
		if depth != 0 || len(list) > 2*MaxMailboxes+1 {
			t.Fatalf("%q: group left open, or %d entries", s, len(list))
		}
		// A plain strict address reads the same in a list.
		if a, e := ParseAddress(s); e == nil && !strings.Contains(s, "[") && (err != nil || len(list) != 1 || list[0].Address != a) {
			t.Fatalf("%q: %+v, %v", s, list, err)
		}
	})
}
