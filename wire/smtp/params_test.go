package smtp

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.email/mail"
)

func TestMailParams(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want MailOptions
		code int
	}{
		{"", MailOptions{}, 0},
		{" SIZE=0", MailOptions{}, 0},
		{" size=12 body=8bitmime smtputf8", MailOptions{Size: 12, Body: Body8Bit, UTF8: true}, 0},
		{" BODY=7BIT RET=FULL ENVID=a+2Bb+3D", MailOptions{Body: Body7Bit, Return: ReturnFull, EnvID: "a+b="}, 0},
		{" RET=HDRS AUTH=a+40b", MailOptions{Return: ReturnHeaders}, 0},
		{" SIZE", MailOptions{}, 501},
		{" SIZE=", MailOptions{}, 501},
		{" SIZE=1x", MailOptions{}, 501},
		{" SIZE=99999999999999999999", MailOptions{}, 552},
		{" SMTPUTF8=yes", MailOptions{}, 501},
		{" RET=SOME", MailOptions{}, 501},
		{" RET", MailOptions{}, 501},
		{" ENVID=" + strings.Repeat("x", maxEnvID), MailOptions{EnvID: strings.Repeat("x", maxEnvID)}, 0},
		{" ENVID=" + strings.Repeat("x", maxEnvID+1), MailOptions{}, 501},
		{" ENVID=a+0D", MailOptions{}, 501},
		{" ENVID=a+2b", MailOptions{}, 501},
		{" ENVID=a+2", MailOptions{}, 501},
		{" ENVID=ü", MailOptions{}, 501},
		{" ENVID=+C3+BC", MailOptions{EnvID: "ü"}, 0},
		{" ENVID=+C3", MailOptions{}, 501},
		{" ENVID=a+7F", MailOptions{}, 501},
		{" ENVID=+C2+85", MailOptions{}, 501},
		{" REQUIRETLS", MailOptions{RequireTLS: true}, 0},
		{" REQUIRETLS=1", MailOptions{}, 501},
		{" AUTH", MailOptions{}, 501},
		{" BODY", MailOptions{}, 555},
		{" RET=FULL ret=full", MailOptions{}, 501},
		{" =x", MailOptions{}, 501},
		{" A=b=c", MailOptions{}, 501},
		{" X-OTHER", MailOptions{}, 555},
		{strings.Repeat(" A", 3), MailOptions{}, 555},
	} {
		o, r := parseMailParams(tc.in)
		code := 0
		if r != nil {
			code = r.Code
		}
		if code != tc.code {
			t.Errorf("%q: %d, want %d", tc.in, code, tc.code)
		} else if d := cmp.Diff(tc.want, o); code == 0 && d != "" {
			t.Errorf("%q: %s", tc.in, d)
		}
	}
}

func TestRcptParams(t *testing.T) {
	for _, tc := range []struct {
		in   string
		utf8 bool
		want RcptOptions
		ok   bool
	}{
		{"", false, RcptOptions{}, true},
		{" NOTIFY=NEVER", false, RcptOptions{Notify: NotifyNever}, true},
		{" notify=success,Delay", false, RcptOptions{Notify: NotifySuccess | NotifyDelay}, true},
		{" NOTIFY=FAILURE ORCPT=RFC822;a+2Bb@c", false, RcptOptions{Notify: NotifyFailure, OriginalType: "rfc822", OriginalAddress: "a+b@c"}, true},
		{" ORCPT=utf-8;ü@c", true, RcptOptions{OriginalType: "utf-8", OriginalAddress: "ü@c"}, true},
		{" ORCPT=utf-8;ü@c", false, RcptOptions{}, false},
		{" NOTIFY=NEVER,SUCCESS", false, RcptOptions{}, false},
		{" NOTIFY=,", false, RcptOptions{}, false},
		{" NOTIFY=SUCCESS,success", false, RcptOptions{}, false},
		{" ORCPT=rfc822;+C3+BC@c", true, RcptOptions{OriginalType: "rfc822", OriginalAddress: "ü@c"}, true},
		{" ORCPT=rfc822", false, RcptOptions{}, false},
		{" ORCPT=;a", false, RcptOptions{}, false},
		{" ORCPT=rfc822;", false, RcptOptions{}, false},
		{" ORCPT=rfc822;" + strings.Repeat("a", maxORCPT), false, RcptOptions{}, false},
		{" SIZE=1", false, RcptOptions{}, false},
	} {
		o, r := parseRcptParams(tc.in, tc.utf8)
		if (r == nil) != tc.ok {
			t.Errorf("%q: %v", tc.in, r)
		} else if d := cmp.Diff(tc.want, o); tc.ok && d != "" {
			t.Errorf("%q: %s", tc.in, d)
		}
	}
}

func TestParamsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range maxParams + 1 {
		b.WriteString(" X" + strings.Repeat("Y", i))
	}
	n := 0
	if r := eachParam(b.String(), func(string, string, bool) *Reply { n++; return nil }); r != replySyntax || n != maxParams {
		t.Errorf("%v after %d", r, n)
	}
}

func TestCutPath(t *testing.T) {
	for _, tc := range []struct {
		in, params string
		want       mail.Address
		ok         bool
	}{
		{"FROM:<a@b.c>", "", mail.Address{Local: "a", Domain: "b.c"}, true},
		{"from: <a@b.c> X=1", " X=1", mail.Address{Local: "a", Domain: "b.c"}, true},
		{"FROM:<>", "", mail.Address{}, true},
		{`FROM:<"a > b"@b.c>`, "", mail.Address{Local: "a > b", Domain: "b.c"}, true},
		{"FROM:<@x,@y:a@b.c>", "", mail.Address{Local: "a", Domain: "b.c"}, true},
		{"FROM:a@b.c", "", mail.Address{}, false},
		{"FROM:<a@b.c", "", mail.Address{}, false},
		{"FROM:<a@b.c>x", "", mail.Address{}, false},
		{"FROM <a@b.c>", "", mail.Address{}, false},
		{"TO:<a@b.c>", "", mail.Address{}, false},
		{"", "", mail.Address{}, false},
	} {
		a, params, r := cutPath(tc.in, "FROM:")
		if (r == nil) != tc.ok || tc.ok && (a != tc.want || params != tc.params) {
			t.Errorf("%q: %v %q %v", tc.in, a, params, r)
		}
	}
}

// scanPlain is scanData byte by byte: slow, and simple enough to be believed.
func scanPlain(p []byte) (text []byte, taken int, done bool, f fault) {
	for taken < len(p) {
		end := -1
		for i := taken; i < len(p); i++ {
			if p[i] == 0 || p[i] == '\n' && (i == taken || p[i-1] != '\r') || p[i] == '\r' && i+1 < len(p) && p[i+1] != '\n' {
				return nil, 0, false, faultContent
			}
			if p[i] == '\n' {
				end = i + 1
				break
			}
		}
		if end < 0 {
			if len(p)-taken > MaxTextLine+1 {
				return nil, 0, false, faultLine
			}
			return text, taken, false, faultNone
		}
		line := p[taken:end]
		if len(line)-2 > MaxTextLine {
			return nil, 0, false, faultLine
		}
		taken = end
		if string(line) == ".\r\n" {
			return text, taken, true, faultNone
		}
		text = append(text, bytes.TrimPrefix(line, []byte("."))...)
	}
	return text, taken, false, faultNone
}

func scan(p []byte) (text []byte, taken int, done bool, f fault) {
	taken, done, f = scanData(p, func(b []byte) { text = append(text, b...) })
	return text, taken, done, f
}

func checkScan(t *testing.T, p []byte) {
	t.Helper()
	wt, wn, wd, wf := scanPlain(p)
	gt, gn, gd, gf := scan(p)
	if (wf != faultNone) != (gf != faultNone) {
		t.Fatalf("%q: fault %d, want %d", p, gf, wf)
	}
	if wf == faultNone && (wn != gn || wd != gd || !bytes.Equal(wt, gt)) {
		t.Fatalf("%q: %q %d %v, want %q %d %v", p, gt, gn, gd, wt, wn, wd)
	}
}

// TestScanDataAll compares with the plain reader on every string of up to seven of the bytes
// that matter.
func TestScanDataAll(t *testing.T) {
	const alphabet = "\r\n.a\x00"
	var rec func(prefix []byte, left int)
	rec = func(prefix []byte, left int) {
		checkScan(t, prefix)
		if left == 0 {
			return
		}
		for _, c := range []byte(alphabet) {
			rec(append(prefix[:len(prefix):len(prefix)], c), left-1)
		}
	}
	rec(nil, 7)
}

func TestScanDataLongLines(t *testing.T) {
	for _, n := range []int{MaxTextLine - 1, MaxTextLine, MaxTextLine + 1, MaxTextLine + 2} {
		line := bytes.Repeat([]byte("x"), n)
		checkScan(t, line)
		checkScan(t, append(line, '\r'))
		checkScan(t, append(line, "\r\n.\r\n"...))
		want := faultNone
		if n > MaxTextLine {
			want = faultLine
		}
		if f := checkText(append(line, "\r\n"...)); f != want {
			t.Errorf("checkText of a line of %d: %d", n, f)
		}
		if f := checkText(line); f != want {
			t.Errorf("checkText of an open line of %d: %d", n, f)
		}
	}
}

// TestCheckTextAll: what DATA could not carry, BDAT may not either.
func TestCheckTextAll(t *testing.T) {
	const alphabet = "\r\na\x00"
	var rec func(prefix []byte, left int)
	rec = func(prefix []byte, left int) {
		_, _, _, want := scanPlain(append(prefix[:len(prefix):len(prefix)], "\r\n"...))
		if len(prefix) > 0 && prefix[len(prefix)-1] == '\r' {
			want = faultContent
		}
		if f := checkText(prefix); f != want {
			t.Fatalf("%q: %d, want %d", prefix, f, want)
		}
		if left == 0 {
			return
		}
		for _, c := range []byte(alphabet) {
			rec(append(prefix[:len(prefix):len(prefix)], c), left-1)
		}
	}
	rec(nil, 7)
}

func FuzzScanData(f *testing.F) {
	f.Add([]byte("a\r\n..b\r\n.\r\nQUIT\r\n"))
	f.Add([]byte("a\r\n.\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		checkScan(t, p)
		// Cut anywhere and read in two pieces, the text is the same.
		text, taken, done, fl := scan(p)
		if fl != faultNone || done {
			return
		}
		half := len(p) / 2
		t1, n1, d1, f1 := scan(p[:half])
		if f1 != faultNone || d1 {
			t.Fatalf("%q: half of it is worse than all", p)
		}
		t2, n2, _, _ := scan(p[n1:])
		if n1+n2 != taken || !bytes.Equal(append(t1, t2...), text) {
			t.Fatalf("%q: pieces differ", p)
		}
	})
}

func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"MAIL FROM:<a@b> SIZE=1", "RCPT TO:<\"a b\"@c> NOTIFY=NEVER ORCPT=rfc822;a+2Bb", "BDAT 12 LAST", "mail from:<@a:b@c>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		verb, arg := splitVerb(line)
		if verb != strings.ToUpper(verb) {
			t.Fatal("a verb not in capitals")
		}
		if _, params, r := cutPath(arg, "FROM:"); r == nil {
			if o, r := parseMailParams(params); r == nil && (o.Size < 0 || len(o.EnvID) > maxEnvID) {
				t.Fatalf("%+v", o)
			}
		}
		if a, params, r := cutPath(arg, "TO:"); r == nil {
			if o, r := parseRcptParams(params, true); r == nil && o.Notify&NotifyNever != 0 && o.Notify != NotifyNever {
				t.Fatalf("%v %+v", a, o)
			}
		}
		if size, _, ok := parseBDAT(arg); ok && size < 0 {
			t.Fatal(size)
		}
	})
}
