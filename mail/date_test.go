package mail

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"postern.email/kit/errs"
)

func TestParseDate(t *testing.T) {
	for in, want := range map[string]string{
		"Mon, 2 Jan 2006 15:04:05 -0700":          "2006-01-02T15:04:05-07:00",
		"2 Jan 2006 15:04:05 +0000":               "2006-01-02T15:04:05Z",
		"2 Jan 2006 15:04 +0530":                  "2006-01-02T15:04:00+05:30",
		"Mon,2 Jan 2006 15:04:05 -0700 (MST (x))": "2006-01-02T15:04:05-07:00",
		"Mon (a), 2(b) Jan 2006 15:04:05 GMT":     "2006-01-02T15:04:05Z",
		"2 January 2006 15:04:05 EST":             "2006-01-02T15:04:05-05:00",
		"2 Jan 06 15:04:05 PDT":                   "2006-01-02T15:04:05-07:00",
		"2 Jan 76 15:04:05 Z":                     "1976-01-02T15:04:05Z",
		"2 Jan 106 15:04:05 UT":                   "2006-01-02T15:04:05Z",
		"Monday, 02-Jan-06 15:04:05 UTC":          "2006-01-02T15:04:05Z",
		"Mon Jan  2 15:04:05 2006":                "2006-01-02T15:04:05Z",
		"Mon Jan  2 15:04:05 PST 2006":            "2006-01-02T15:04:05-08:00",
		"2 Jan 2006 15:04:05":                     "2006-01-02T15:04:05Z",
		"2 Jan 2006 15:04:05 XYZ":                 "2006-01-02T15:04:05Z",
		"2 Jan 2006 15:04:05 +99999":              "2006-01-02T15:04:05Z",
		"2 Jan 2006 15:04:05 +01:00":              "2006-01-02T15:04:05+01:00",
		"31 Dec 2016 23:59:60 +0000":              "2017-01-01T00:00:00Z",
		"29 Feb 2024 00:00:00 +0000":              "2024-02-29T00:00:00Z",
		"Mon,\t2\tJan\t2006\t15:04:05\t-0700":     "2006-01-02T15:04:05-07:00",
		"":                                        "",
		"now":                                     "",
		"2 Jan 2006":                              "",
		"2 Foo 2006 15:04:05 +0000":               "",
		"32 Jan 2006 15:04:05 +0000":              "",
		"0 Jan 2006 15:04:05 +0000":               "",
		"30 Feb 2006 15:04:05 +0000":              "",
		"2 Jan 20066 15:04:05 +0000":              "",
		"2 Jan 2006 24:04:05 +0000":               "",
		"2 Jan 2006 15:60:05 +0000":               "",
		"2 Jan 2006 15:04:61 +0000":               "",
		"2 Jan 2006 15 +0000":                     "",
		"2 Jan 2006 -1:04:05 +0000":               "",
		"x" + strings.Repeat(" ", 300):            "",
	} {
		got, err := ParseDate(in)
		if want == "" {
			if !errors.Is(err, errs.Invalid) {
				t.Errorf("%q: %v, %v", in, got, err)
			}
			continue
		}
		if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v", in, got.Format(time.RFC3339), err)
		}
	}
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{"Mon, 2 Jan 2006 15:04:05 -0700 (MST)", "Mon Jan 2 15:04:05 2006", "2-Jan-06 15:04 EST", "-", "(("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDate(s)
		if err != nil {
			return
		}
		if y := d.Year(); y < 0 || y > 10000 {
			t.Fatal(d)
		}
		if d.Year() >= 1900 && d.Year() < 10000 { // below, FormatDate has fewer digits
			back, err := ParseDate(FormatDate(d))
			if err != nil || !back.Equal(d) {
				t.Fatalf("%q: %v, then %v, %v", s, d, back, err)
			}
		}
	})
}

func TestNewMessageID(t *testing.T) {
	id, err := NewMessageID(bytes.NewReader(make([]byte, 16)), "Example.ORG")
	if err != nil || id != "<aaaaaaaaaaaaaaaaaaaaaaaaaa@example.org>" {
		t.Errorf("%q, %v", id, err)
	}
	a, err := NewMessageID(nil, "")
	b, err2 := NewMessageID(nil, "a\r\nb")
	if err != nil || err2 != nil || a == b || !strings.HasSuffix(a, "@localhost>") || !strings.HasSuffix(b, "@localhost>") {
		t.Errorf("%q, %q", a, b)
	}
	if _, err := NewMessageID(iotest.ErrReader(errs.Internal), "a"); err == nil {
		t.Error("no randomness, no error")
	}
}

func TestDecodeWords(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                               "plain",
		"=?utf-8?q?=C3=A9?= x":                "é x",
		"=?UTF-8?B?w6k=?= =?utf-8?q?=C3=A9?=": "éé",
		"=?shift_jis?b?k/qWew==?=":            "日本",
		"=?none?q?x?=":                        "=?none?q?x?=",
		"\xff":                                "\uFFFD",
		"=?us-ascii?q?a=00b=1B?=":             "a b ",
	} {
		if got := DecodeWords(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if _, err := CharsetReader("none", nil); !errors.Is(err, errs.Unsupported) {
		t.Error(err)
	}
}
