package mtasts

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// example is the policy of RFC 8461 §3.2 and appendix A.
const example = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n"

var exampleMX = []string{"mail.example.com", "*.example.net", "backupmx.example.com"}

func TestParsePolicy(t *testing.T) {
	week := 604800 * time.Second
	const head = "version: STSv1\n"
	for text, want := range map[string]Policy{
		example: {Enforce, exampleMX, week},
		strings.ReplaceAll(example, "\n", "\r\n"):                                {Enforce, exampleMX, week},
		strings.TrimSuffix(example, "\n"):                                        {Enforce, exampleMX, week},
		example + "\r\n\n":                                                       {Enforce, exampleMX, week},
		"max_age:604800 \t\nmx:\t MX.Example.com \nmode: Testing\nversion:STSv1": {Testing, []string{"mx.example.com"}, week},
		head + "mode: none\nmax_age: 0":                                          {None, nil, 0},
		head + "mode: enforce\nmode: none\nmax_age: 1\nmax_age: 2\nversion: STSv2\nmx: a.example": {Enforce, []string{"a.example"}, time.Second},
		head + "mode: none\nmax_age: 1\nfuture_Field.1-x: whatever: it says\nMode: testing":       {None, nil, time.Second},
		head + "mode: none\nmax_age: 31557600":                                                    {None, nil, MaxAge},
		head + "mode: none\nmax_age: 9999999999":                                                  {None, nil, MaxAge},
		head + "mode: none\nmax_age: 1\nmx: xn--bcher-kva.example\nmx: under_score.example":       {None, []string{"xn--bcher-kva.example", "under_score.example"}, time.Second},
	} {
		if p, err := ParsePolicy(text); err != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
	const rest = "mode: enforce\nmx: a.example\nmax_age: 1\n"
	for text, says := range map[string]string{
		"":                                 "the policy is not of version STSv1",
		rest:                               "the policy is not of version STSv1",
		"version: STSv2\n" + rest:          "the policy is not of version STSv1",
		"version: stsv1\n" + rest:          "the policy is not of version STSv1",
		head + "mx: a.example\nmax_age: 1": "the policy has no mode",
		head + "mode: enforced\nmx: a.example\nmax_age: 1": "the policy has no mode",
		head + "mode: enforce\nmx: a.example":              "the policy has no max_age",
		head + "mode: none\nmax_age: -1":                   "the policy has no max_age",
		head + "mode: none\nmax_age: 1d":                   "the policy has no max_age",
		head + "mode: none\nmax_age: 00000000001":          "the policy has no max_age",
		head + "mode: enforce\nmax_age: 1":                 "the policy names no mx",
		head + "mode: testing\nmax_age: 1":                 "the policy names no mx",
		head + rest + "mx":                                 "a line of the policy is no field",
		head + rest + ": x":                                "a line of the policy is no field",
		head + rest + "a b: x":                             "a line of the policy is no field",
		head + rest + "_a: x":                              "a line of the policy is no field",
		head + rest + strings.Repeat("a", 33) + ": x":      "a line of the policy is no field",
		"<html>":                                               "a line of the policy is no field",
		head + rest + "mx: ":                                   "the policy names an mx that is no host name",
		head + rest + "mx: *":                                  "the policy names an mx that is no host name",
		head + rest + "mx: *.*.example":                        "the policy names an mx that is no host name",
		head + rest + "mx: a.*.example":                        "the policy names an mx that is no host name",
		head + rest + "mx: mx*.example":                        "the policy names an mx that is no host name",
		head + rest + "mx: [192.0.2.1]":                        "the policy names an mx that is no host name",
		head + rest + "mx: a b.example":                        "the policy names an mx that is no host name",
		head + rest + "mx: bücher.example":                     "the policy names an mx that is no host name",
		head + rest + strings.Repeat("mx: b.example\n", MaxMX): "the policy names too many mx",
		head + rest + "x: " + strings.Repeat("y", MaxPolicy):   "the policy is too large",
	} {
		kind := errs.Invalid
		if strings.HasPrefix(says, "the policy names too") || strings.HasSuffix(says, "too large") {
			kind = errs.TooLarge
		}
		if p, err := ParsePolicy(text); errs.KindOf(err) != kind || errs.Public(err) != says || !reflect.DeepEqual(p, Policy{}) {
			t.Errorf("%.100q: %+v, %v, want %q", text, p, err, says)
		}
	}
	wide := head + "mode: none\nmax_age: 1\n"
	for range 400 { // our form, with a space and CRLF, is longer than this
		wide += "mx:" + strings.Repeat("a.", 74) + "example.org\n"
	}
	if _, err := ParsePolicy(wide + "mx:a\n"); len(wide) > MaxPolicy-10 || errs.KindOf(err) != errs.TooLarge {
		t.Errorf("%d bytes, %v", len(wide), err)
	}
	if _, err := ParsePolicy(head + rest + strings.Repeat("mx: b.example\n", MaxMX-1)); err != nil {
		t.Error(err)
	}
}

// TestMatch is §4.1: a wildcard stands for one whole label.
func TestMatch(t *testing.T) {
	p := Policy{Mode: Enforce, MX: exampleMX}
	for host, want := range map[string]bool{
		"mail.example.com": true, "Mail.Example.COM.": true, "backupmx.example.com": true, "a.example.net": true, "A.EXAMPLE.NET": true,
		"example.net": false, "a.b.example.net": false, ".example.net": false, "": false, "example.com": false, "x.mail.example.com": false,
		"mail.example.com.evil.example": false, "*.example.net": true, "net": false, "aexample.net": false,
	} {
		if got := p.Match(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	if !(Policy{MX: []string{"xn--bcher-kva.example"}}).Match("bücher.example") {
		t.Error("U-labels do not match A-labels")
	}
}

// TestOurs: what a relay publishes, to the byte, and the announcement changes with it.
func TestOurs(t *testing.T) {
	p := Ours("example.org")
	if got, want := p.Text(), "version: STSv1\r\nmode: enforce\r\nmx: example.org\r\nmax_age: 2419200\r\n"; got != want {
		t.Errorf("%q", got)
	}
	if got, want := p.Record(), "v=STSv1; id=0cee8f5a0a5e1c76ca210dfb133b25a7;"; got != want {
		t.Errorf("%q", got)
	}
	id, err := ParseRecord([]string{p.Record()})
	if other, _ := ParseRecord([]string{Ours("mx.example.org").Record()}); err != nil || id == other || len(id) != maxID {
		t.Errorf("%q, %q, %v", id, other, err)
	}
	if again, err := ParsePolicy(p.Text()); err != nil || !reflect.DeepEqual(again, p) {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestParseRecord is §3.1, its example first.
func TestParseRecord(t *testing.T) {
	for _, c := range []struct {
		txts []string
		want string
		kind errs.Kind
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z", 0},
		{[]string{"v=spf1 -all", "v=STSv1;id=a", ""}, "a", 0},
		{[]string{"v=STSv1 ;\tx=y ; id=1 ; id=2"}, "1", 0},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 32)}, strings.Repeat("a", 32), 0},
		{nil, "", errs.NotFound},
		{[]string{"v=spf1"}, "", errs.NotFound},
		{[]string{"v=STSv1; id=1", "v=STSv1; id=1"}, "", errs.NotFound},
		{[]string{"v=STSv1 id=1"}, "", errs.NotFound},
		{[]string{"v=STSv10; id=1"}, "", errs.NotFound},
		{[]string{" v=STSv1; id=1"}, "", errs.NotFound},
		{[]string{"v=STSv1;"}, "", errs.Invalid},
		{[]string{"v=STSv1; id="}, "", errs.Invalid},
		{[]string{"v=STSv1; id=a-b"}, "", errs.Invalid},
		{[]string{"v=STSv1; ID=a"}, "", errs.Invalid},
		{[]string{"v=STSv1; id=" + strings.Repeat("a", 33)}, "", errs.Invalid},
	} {
		says := map[errs.Kind]string{errs.NotFound: "the domain announces no MTA-STS policy", errs.Invalid: "the record of the MTA-STS policy has no id"}
		id, err := ParseRecord(c.txts)
		if id != c.want || c.kind == 0 && err != nil || c.kind != 0 && (errs.KindOf(err) != c.kind || errs.Public(err) != says[c.kind]) {
			t.Errorf("%q: %q, %v", c.txts, id, err)
		}
	}
}

// TestRecordVector: the form of a kept record, which a later version must still read.
func TestRecordVector(t *testing.T) {
	k := known{id: "20160831085700Z", policy: Policy{Enforce, exampleMX, 604800 * time.Second}, fetched: time.Unix(1_800_000_000, 0)}
	want := "\x01\x80\xa4\xa7\xda\x06\x0f20160831085700Z" + strings.ReplaceAll(example, "\n", "\r\n")
	if got := string(k.encode()); got != want {
		t.Errorf("%q", got)
	}
	got, err := decode([]byte(want))
	if err != nil || !reflect.DeepEqual(got, k) {
		t.Errorf("%+v, %v", got, err)
	}
	ends, err := RecordEnds([]byte(want))
	if err != nil || !ends.Equal(time.Unix(1_800_604_800, 0)) {
		t.Errorf("%v, %v", ends, err)
	}
	for _, bad := range []string{"", "\x02" + want[1:], want[:len(want)-1], want + " ", want[:6] + "\x00" + want[22:], strings.Replace(want, "STSv1", "STSv2", 1),
		"\x01\xff\xff\xff\xff\xff\xff\x01" + want[6:], strings.Replace(want, "\r\n", "\n", 1)} {
		if _, err := decode([]byte(bad)); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := RecordEnds([]byte(bad)); errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(example)
	f.Add(Ours("example.org").Text())
	f.Add("version: STSv1\nmode: none\nmax_age: 0\nx_y: z\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy(text)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.TooLarge {
				t.Error(err)
			}
			return
		}
		again, err := ParsePolicy(p.Text())
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%q: %+v, then %+v, %v", text, p, again, err)
		}
		for _, mx := range p.MX {
			if host := strings.Replace(mx, "*", "label", 1); !p.Match(host) {
				t.Errorf("%q does not match %q", mx, host)
			}
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Add("v=STSv1 ; x=1; id=a")
	f.Fuzz(func(t *testing.T, txt string) {
		id, err := ParseRecord([]string{txt})
		if (err == nil) != validID(id) || !strings.Contains(txt, id) {
			t.Errorf("%q, %v", id, err)
		}
		if again, err := ParseRecord([]string{fmt.Sprintf("v=STSv1; id=%s;", id)}); id != "" && (err != nil || again != id) {
			t.Errorf("%q, %v", again, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	p, err := ParsePolicy(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(known{id: "1", policy: p, fetched: time.Unix(1, 0)}.encode())
	f.Add(known{id: "a", policy: Policy{Mode: None}, fetched: time.Unix(0, 0)}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decode(b)
		if err == nil && string(k.encode()) != string(b) {
			t.Errorf("%q becomes %q", b, k.encode())
		}
		if err != nil && errs.KindOf(err) != errs.Corrupt {
			t.Error(err)
		}
	})
}
