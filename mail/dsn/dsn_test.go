package dsn

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

var update = flag.Bool("update", false, "write the golden files anew")

// zeros is a source of randomness for golden files.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var now = time.Date(2026, 11, 5, 10, 20, 30, 0, time.FixedZone("", 3600))

const header = "From: <anna@example.org>\r\nTo: \"hidden-recipients\": ;\r\nSubject: [...]\r\nMessage-ID: <m1@example.org>\r\nContent-Type: multipart/encrypted;\r\n\tboundary=\"b\"\r\n\r\n"

// report is a plain failure; change may make something else of it.
func report(t testing.TB, change func(*Report)) Report {
	r := Report{Domain: "example.org", To: addr(t, "anna@example.org"), Now: now, Rand: zeros{}, Header: []byte(header),
		Recipients: []Recipient{{Final: addr(t, "bob@remote.example"), Action: Failed, Status: "5.1.1", Remote: "mx.remote.example", Diagnostic: "550 5.1.1 No such user"}}}
	if change != nil {
		change(&r)
	}
	return r
}

func build(t testing.TB, r Report) []byte {
	t.Helper()
	raw, err := r.Build()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// parsed is a report as a stranger reads it.
type parsed struct {
	top     mail.Header
	words   string // decoded
	message mail.Header
	rcpts   []mail.Header
	header  []byte // decoded
}

// parse reads a report strictly: three parts, and nothing but fields in the second.
func parse(raw []byte) (p parsed, err error) {
	top, off, err := mail.ParseHeader(raw)
	if err != nil {
		return p, err
	}
	p.top = top
	kind, params, err := mime.ParseMediaType(top.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		return p, fmt.Errorf("%s %v: %v", kind, params, err)
	}
	m := multipart.NewReader(bytes.NewReader(raw[off:]), params["boundary"])
	var bodies [][]byte
	for i := 0; ; i++ {
		part, err := m.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return p, err
		}
		kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
		if want := []string{"text/plain", "message/delivery-status", "text/rfc822-headers"}; err != nil || i >= len(want) || kind != want[i] {
			return p, fmt.Errorf("part %d: %s, %v", i, kind, err)
		}
		var r io.Reader = part
		if part.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			r = quotedprintable.NewReader(part)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return p, err
		}
		bodies = append(bodies, b)
	}
	if len(bodies) != 3 {
		return p, fmt.Errorf("%d parts", len(bodies))
	}
	p.words, p.header = string(bodies[0]), bodies[2]
	for i, group := range bytes.Split(bodies[1], []byte("\r\n\r\n")) {
		h, n, err := mail.ParseHeader(group)
		if err != nil || n != len(group) {
			return p, fmt.Errorf("fields %q: %v", group, err)
		}
		if i == 0 {
			p.message = h
		} else {
			p.rcpts = append(p.rcpts, h)
		}
	}
	return p, nil
}

func mustParse(t testing.TB, raw []byte) parsed {
	t.Helper()
	p, err := parse(raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	return p
}

// TestGolden: reports of each kind, byte for byte.
func TestGolden(t *testing.T) {
	until := now.Add(48*time.Hour + 29*time.Second)
	for name, change := range map[string]func(*Report){
		"failed": nil,
		"delayed": func(r *Report) {
			r.Recipients = []Recipient{{Final: addr(t, "bob@remote.example"), Action: Delayed, Status: "4.4.1", LastAttempt: now, RetryUntil: until, Diagnostic: "no connection"}}
			r.Arrival = now
		},
		"delivered": func(r *Report) {
			r.Recipients = []Recipient{{Final: addr(t, "bob@example.org"), Original: "rfc822;Bob@example.org", Action: Delivered}}
			r.EnvelopeID, r.Full = "QQ314159", true
		},
		"mixed": func(r *Report) {
			r.Recipients = append([]Recipient{{Final: addr(t, "list@remote.example"), Action: Expanded}, {Final: addr(t, "carl@remote.example"), Action: Relayed, Remote: "[192.0.2.7]"},
				{Final: addr(t, "dora@remote.example"), Action: Delayed, Status: "4.2.2", Remote: "mx.remote.example", Diagnostic: "452 4.2.2 Over quota"}}, r.Recipients...)
			r.Recipients = append(r.Recipients, Recipient{Final: addr(t, "eve@other.example"), Action: Failed, Status: "4.4.7"})
		},
		"utf8": func(r *Report) {
			r.Recipients[0].Final = addr(t, "jürgen@bücher.example")
			r.Recipients[0].Original = "utf-8;jürgen@bücher.example"
			r.Header = []byte("From: <anna@example.org>\r\nSubject: Grüße\r\nX: a\rb\x00c\r\n\r\n")
		},
	} {
		got := build(t, report(t, change))
		path := filepath.Join("testdata", name+".eml")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		mustParse(t, got)
	}
}

// TestFields: what a program reads.
func TestFields(t *testing.T) {
	until := now.Add(48 * time.Hour)
	p := mustParse(t, build(t, report(t, func(r *Report) {
		r.Domain, r.EnvelopeID, r.Arrival = "Bücher.example", "id 1", now
		r.Recipients[0].Original = "rfc822;Bob@old.example"
		r.Recipients = append(r.Recipients, Recipient{Final: addr(t, "carl@remote.example"), Action: Delayed, LastAttempt: now, RetryUntil: until, Diagnostic: "no answer"})
	})))
	for name, want := range map[string]string{
		"From": "Mail delivery <mailer-daemon@xn--bcher-kva.example>", "To": "<anna@example.org>", "Auto-Submitted": "auto-replied", "Date": "Thu, 5 Nov 2026 09:20:30 +0000",
		"MIME-Version": "1.0", "Message-ID": "<aaaaaaaaaaaaaaaaaaaaaaaaaa@xn--bcher-kva.example>", "X-Failed-Recipients": "bob@remote.example", "Subject": "Mail could not be delivered",
	} {
		if got := p.top.All(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"Original-Envelope-Id": "id 1", "Reporting-MTA": "dns; xn--bcher-kva.example", "Arrival-Date": "Thu, 5 Nov 2026 00:00:00 +0000"} {
		if got := p.message.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	want := []map[string]string{
		{"Original-Recipient": "rfc822; Bob@old.example", "Final-Recipient": "rfc822; bob@remote.example", "Action": "failed", "Status": "5.1.1", "Remote-MTA": "dns; mx.remote.example",
			"Diagnostic-Code": "smtp; 550 5.1.1 No such user", "Last-Attempt-Date": "", "Will-Retry-Until": ""},
		{"Original-Recipient": "", "Final-Recipient": "rfc822; carl@remote.example", "Action": "delayed", "Status": "4.0.0", "Remote-MTA": "", "Diagnostic-Code": "x-postern; no answer",
			"Last-Attempt-Date": "Thu, 5 Nov 2026 09:20:00 +0000", "Will-Retry-Until": "Sat, 7 Nov 2026 09:20:00 +0000"},
	}
	if len(p.rcpts) != 2 {
		t.Fatalf("%d recipients", len(p.rcpts))
	}
	for i, fields := range want {
		for name, want := range fields {
			if got := p.rcpts[i].Get(name); got != want {
				t.Errorf("recipient %d, %s: %q, want %q", i, name, got, want)
			}
		}
	}
	if string(p.header) != strings.TrimSuffix(header, "\r\n") {
		t.Errorf("header: %q", p.header)
	}
}

// TestHeaderOnly: of the mail only its header goes back, also where all was asked for.
func TestHeaderOnly(t *testing.T) {
	for _, full := range []bool{false, true} {
		raw := build(t, report(t, func(r *Report) { r.Header, r.Full = append(r.Header, "the secret text\r\n"...), full }))
		if bytes.Contains(raw, []byte("secret")) {
			t.Errorf("full %v: the text is in the report", full)
		}
		words := strings.Join(strings.Fields(mustParse(t, raw).words), " ")
		if got := strings.Contains(words, "sends back the header only"); got != full {
			t.Errorf("full %v: said so: %v", full, got)
		}
	}
}

// TestWords: people are told what happened to whom, whether the mail is safe and what to do.
func TestWords(t *testing.T) {
	for action, want := range map[Action][]string{
		Failed:    {"could not be delivered to:", "bob@remote.example", "mx.remote.example said: 550 5.1.1 No such user", "Look for a slip in it", "is not lost", "Send it again"},
		Delayed:   {"not yet delivered to:", "bob@remote.example", "The mail is safe", "nothing for you to do", "tried again until"},
		Delivered: {"delivered to the mailbox of:", "bob@remote.example"},
		Relayed:   {"sends no such reports", "bob@remote.example"},
		Expanded:  {"list of addresses", "bob@remote.example"},
	} {
		p := mustParse(t, build(t, report(t, func(r *Report) {
			x := &r.Recipients[0]
			x.Action, x.RetryUntil = action, now
			if action != Failed {
				x.Status = ""
			}
		})))
		words := strings.Join(strings.Fields(p.words), " ")
		for _, w := range want {
			if !strings.Contains(words, w) {
				t.Errorf("%v: %q is not in\n%s", action, w, p.words)
			}
		}
		if p.rcpts[0].Get("Action") != action.String() {
			t.Errorf("%v: %s", action, p.rcpts[0].Get("Action"))
		}
	}
	p := mustParse(t, build(t, report(t, func(r *Report) {
		r.Recipients = append([]Recipient{{Final: addr(t, "z@remote.example"), Action: Delivered}}, r.Recipients...)
	})))
	if p.rcpts[0].Get("Action") != "failed" {
		t.Error("the failure does not come first")
	}
}

// TestReportErrors: what is no report.
func TestReportErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Report)
		kind   errs.Kind
		text   string
	}{
		{"no recipients", func(r *Report) { r.Recipients = nil }, errs.Invalid, "a report needs a recipient"},
		{"many recipients", func(r *Report) { r.Recipients = make([]Recipient, MaxRecipients+1) }, errs.TooLarge, "too many recipients for one report"},
		{"to nobody", func(r *Report) { r.To = mail.Address{} }, errs.Invalid, "nobody asked for a report: the sender is empty"},
		{"to a malformed address", func(r *Report) { r.To = mail.Address{Local: "a\r\nBcc: b", Domain: "x.example"} }, errs.Invalid, "malformed address"},
		{"malformed domain", func(r *Report) { r.Domain = "a b" }, errs.Invalid, "malformed address"},
		{"malformed recipient", func(r *Report) { r.Recipients[0].Final = mail.Address{Local: "a", Domain: "b\r\nX: y"} }, errs.Invalid, "malformed address"},
		{"no action", func(r *Report) { r.Recipients[0].Action = 0 }, errs.Invalid, "unknown action"},
		{"unknown action", func(r *Report) { r.Recipients[0].Action = Expanded + 1 }, errs.Invalid, "unknown action"},
		{"no time", func(r *Report) { r.Now = time.Time{} }, errs.Internal, "internal error"},
		{"no randomness", func(r *Report) { r.Rand = bytes.NewReader(nil) }, errs.Internal, "no randomness"},
		{"little randomness", func(r *Report) { r.Rand = bytes.NewReader(make([]byte, 20)) }, errs.Internal, "no randomness"},
	} {
		raw, err := report(t, c.change).Build()
		if raw != nil || errs.KindOf(err) != c.kind || errs.Public(err) != c.text {
			t.Errorf("%s: %q, %v", c.name, raw, err)
		}
	}
	for _, c := range []struct {
		action Action
		status string
		ok     bool
	}{
		{Failed, "5.1.1", true}, {Failed, "4.4.7", true}, {Failed, "5.123.456", true}, {Failed, "2.0.0", false}, {Delayed, "4.2.2", true}, {Delayed, "5.1.1", false},
		{Delivered, "2.1.5", true}, {Relayed, "5.0.0", false}, {Expanded, "2.0.0", true}, {Failed, "5", false}, {Failed, "5.1", false}, {Failed, "5.1.", false}, {Failed, "5..1", false},
		{Failed, "5.1.1 ", false}, {Failed, "5.1.1234", false}, {Failed, "5.1234.1", false}, {Failed, "51.1.1", false}, {Failed, "5.1.1\r\nX: y", false}, {Failed, "5.1.1.1", false},
	} {
		_, err := report(t, func(r *Report) { r.Recipients[0].Action, r.Recipients[0].Status = c.action, c.status }).Build()
		if (err == nil) != c.ok || err != nil && errs.Public(err) != "the status does not fit the action" {
			t.Errorf("%v %q: %v", c.action, c.status, err)
		}
	}
}

// TestLimits: long and many things are cut, and the report stays one that is taken.
func TestLimits(t *testing.T) {
	raw := build(t, report(t, func(r *Report) {
		r.Recipients = nil
		for i := range MaxRecipients {
			r.Recipients = append(r.Recipients, Recipient{Final: addr(t, fmt.Sprintf("%s%d@%s.example", strings.Repeat("x", 50), i, strings.Repeat("d.", 80)+"y")), Action: Failed,
				Diagnostic: strings.Repeat("word ", 1000), Original: "rfc822;" + strings.Repeat("x", MaxOriginal)})
		}
		r.EnvelopeID = strings.Repeat("e", MaxEnvelopeID+1)
		r.Header = []byte(strings.Repeat("X: "+strings.Repeat("y", 900)+"\r\n", 200))
	}))
	p := mustParse(t, raw)
	if len(p.rcpts) != MaxRecipients || len(p.header) > MaxHeader || len(p.header) < MaxHeader-1000 {
		t.Errorf("%d recipients, %d bytes of header", len(p.rcpts), len(p.header))
	}
	x := p.rcpts[0]
	if n := len(x.Get("Diagnostic-Code")); n > MaxDiagnostic+len("x-postern; ") {
		t.Errorf("%d bytes of a diagnostic", n)
	}
	if x.Get("Original-Recipient") != "" || p.message.Get("Original-Envelope-Id") != "" {
		t.Error("what is too long for its field is not left out")
	}
	if n := strings.Count(p.top.Get("X-Failed-Recipients"), "@"); n != maxNamed {
		t.Errorf("%d recipients in the header", n)
	}
	checkWire(t, raw)
	id := strings.Repeat("e", MaxEnvelopeID)
	if got := mustParse(t, build(t, report(t, func(r *Report) { r.EnvelopeID = id }))).message.Get("Original-Envelope-Id"); got != id {
		t.Errorf("an id that fits: %q", got)
	}
}

// checkWire: 7-bit text in lines that every host takes.
func checkWire(t testing.TB, raw []byte) {
	t.Helper()
	for line := range bytes.SplitSeq(raw, []byte("\r\n")) {
		if len(line) > maxLine || bytes.ContainsFunc(line, func(r rune) bool { return r >= 0x7f || r < ' ' && r != '\t' }) {
			t.Errorf("line %q", line)
		}
	}
}

// TestAddresses: every form of address stands in 7-bit text, and is shown as it is written.
func TestAddresses(t *testing.T) {
	for addrText, want := range map[string]string{
		"bob@remote.example":    "rfc822; bob@remote.example",
		`"a b"@remote.example`:  `rfc822; "a b"@remote.example`,
		"bob@bücher.example":    "rfc822; bob@xn--bcher-kva.example",
		"bob@[192.0.2.1]":       "rfc822; bob@[192.0.2.1]",
		"jürgen@bücher.example": `utf-8; j\x{FC}rgen@xn--bcher-kva.example`,
		"x+=ü@remote.example":   `utf-8; x\x{2B}\x{3D}\x{FC}@remote.example`,
		"用户@remote.example":     `utf-8; \x{7528}\x{6237}@remote.example`,
	} {
		raw := build(t, report(t, func(r *Report) { r.Recipients[0].Final = addr(t, addrText) }))
		checkWire(t, raw)
		p := mustParse(t, raw)
		if got := p.rcpts[0].Get("Final-Recipient"); got != want {
			t.Errorf("%s: %s, want %s", addrText, got, want)
		}
		if !strings.Contains(p.words, "  "+addrText+"\r\n") {
			t.Errorf("%s is not in\n%s", addrText, p.words)
		}
	}
	for text, want := range map[string]string{
		"rfc822;bob@x.example": "rfc822; bob@x.example", "x400; a b ": "x400; a b", "utf-8;j\\x{FC}@x": "utf-8; j\\x{FC}@x", "utf-8;jü@x": `utf-8; j\x{FC}@x`,
		"bob": "", ";bob": "", "rfc822;": "", "rfc822;a\r\nX: y": "", "rf c;b": "", "rfc822;\xff": "", "a\r\nb;c": "", "rfc822;" + strings.Repeat("x", MaxOriginal): "",
	} {
		if got := mustParse(t, build(t, report(t, func(r *Report) { r.Recipients[0].Original = text }))).rcpts[0].Get("Original-Recipient"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	// The sender's own address beyond ASCII is the one thing that 7 bits cannot carry.
	if got := mustParse(t, build(t, report(t, func(r *Report) { r.To = addr(t, "änne@bücher.example") }))).top.Get("To"); got != "<änne@xn--bcher-kva.example>" {
		t.Errorf("To: %s", got)
	}
	if got := shown(mail.Address{Local: "a\u202eb", Domain: "x.example"}); got != "a\uFFFDb@x.example" {
		t.Errorf("%q", got)
	}
}

// TestHeaderForms: the mail's header goes back as it was, whatever is in it.
func TestHeaderForms(t *testing.T) {
	for raw, want := range map[string]string{
		"":                         "",
		"A: b\r\n":                 "A: b\r\n",
		"A: b\r\n\r\nbody":         "A: b\r\n",
		"A: b\n c\n":               "A: b\r\n c\r\n",
		"A: é\r\n\r\n":             "A: é\r\n",
		"A: a\rb\x00\r\n":          "A: a b \r\n",
		"A: b\r\nno field\r\nC: d": "A: b\r\n",
		"A: " + strings.Repeat("x", 2000) + "\r\n": "A: " + strings.Repeat("x", 2000) + "\r\n",
		"A: =?\r\n --boundary\r\n":                 "A: =?\r\n --boundary\r\n",
	} {
		out := build(t, report(t, func(r *Report) { r.Header = []byte(raw) }))
		checkWire(t, out)
		if got := mustParse(t, out).header; string(got) != want {
			t.Errorf("%.40q: %.60q, want %.60q", raw, got, want)
		}
	}
}

// TestCalendar: a report tells the day of arrival and no more; two reports differ in
// nothing but what is random.
func TestCalendar(t *testing.T) {
	a := build(t, report(t, func(r *Report) { r.Arrival = now }))
	b := build(t, report(t, func(r *Report) { r.Arrival = now.Add(7 * time.Hour) }))
	if !bytes.Equal(a, b) {
		t.Error("the hour of arrival can be seen")
	}
	one, two := build(t, report(t, func(r *Report) { r.Rand = nil })), build(t, report(t, func(r *Report) { r.Rand = nil }))
	p, q := mustParse(t, one), mustParse(t, two)
	if p.top.Get("Message-ID") == q.top.Get("Message-ID") || p.top.Get("Content-Type") == q.top.Get("Content-Type") {
		t.Error("the same id or boundary twice")
	}
}

// FuzzBuild: whatever strangers say and write, the report has the same fields.
func FuzzBuild(f *testing.F) {
	f.Add("550 no", "rfc822;x@y", "mx.example", "id", []byte(header), byte(1))
	f.Add("550 a\r\nAction: delivered\r\n\r\nFinal-Recipient: x", "rfc822;x\r\nA: b", "mx\r\nA: b", "i\r\nA: b", []byte("A: b\r\n\r\n--report-00000000000000000000000000000000\r\n"), byte(2))
	f.Add("\x00\xff\u202e\u0085", "utf-8;é", "é", "\x7f", []byte("A: \xff\x00\r\rb\r\n .\r\n"), byte(1))
	f.Add("=\u2028 ", ";", "", " ", []byte("--report-00000000000000000000000000000000--: x\r\n"), byte(2))
	f.Fuzz(func(t *testing.T, diagnostic, original, remote, id string, header []byte, action byte) {
		r := report(t, func(r *Report) {
			x := &r.Recipients[0]
			x.Diagnostic, x.Original, x.Remote, x.Action, x.Status = diagnostic, original, remote, Action(action), ""
			r.EnvelopeID, r.Header, r.Rand = id, header, nil
		})
		raw, err := r.Build()
		if err != nil {
			if action >= byte(Failed) && action <= byte(Expanded) {
				t.Fatal(err)
			}
			return
		}
		checkWire(t, raw)
		p := mustParse(t, raw)
		if len(p.rcpts) != 1 || len(p.message.Fields()) > 2 || len(p.rcpts[0].Fields()) > 6 {
			t.Fatalf("%s", raw)
		}
		for name, most := range map[string]int{"Action": 1, "Status": 1, "Final-Recipient": 1, "Original-Recipient": 1, "Remote-MTA": 1, "Diagnostic-Code": 1} {
			if p.rcpts[0].Count(name) > most {
				t.Fatalf("%s", raw)
			}
		}
		if p.rcpts[0].Get("Final-Recipient") != "rfc822; bob@remote.example" || p.rcpts[0].Get("Action") != Action(action).String() {
			t.Fatalf("%s", raw)
		}
	})
}
