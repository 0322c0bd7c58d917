package mime

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// dump shows a tree with the bodies of its leaves: type "body" {children}.
func dump(raw []byte, p *Part) string {
	s := p.MediaType + "/" + p.Subtype
	switch {
	case p.Multipart():
		s += "{"
		for i, c := range p.Parts {
			if i > 0 {
				s += " "
			}
			s += dump(raw, c)
		}
		return s + "}"
	case p.Message != nil:
		return s + "<" + dump(raw, p.Message) + ">"
	}
	return s + fmt.Sprintf("%q", raw[p.BodyStart:p.BodyEnd])
}

func mustParse(t *testing.T, s string) *Part {
	t.Helper()
	p, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func TestParseStructure(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"empty":                           {"", `text/plain""`},
		"body only":                       {"\nhello\n", `text/plain"hello\r\n"`},
		"header only":                     {"A: b\n", `text/plain""`},
		"simple":                          {"A: b\n\nhello\n", `text/plain"hello\r\n"`},
		"no empty line":                   {"A: b\nhello world\nfoo\n", `text/plain"hello world\r\nfoo\r\n"`},
		"mbox line":                       {"From a@b Mon\nContent-Type: text/html\n\nx", `text/html"x"`},
		"two parts":                       {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n\n--b--\n", `multipart/mixed{text/plain"one" text/html"two\r\n"}`},
		"preamble, epilogue":              {"Content-Type: multipart/mixed; boundary=b\n\npre\n--b\n\none\n--b--\npost\n--b\nnot a part\n", `multipart/mixed{text/plain"one"}`},
		"no final boundary":               {"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\n\ntwo\n", `multipart/mixed{text/plain"one" text/plain"two\r\n"}`},
		"no boundary line":                {"Content-Type: multipart/mixed; boundary=b\n\nhello\n", `multipart/mixed{text/plain""}`},
		"no boundary param":               {"Content-Type: multipart/mixed\n\n--b\n\none\n--b--\n", `text/plain"--b\r\n\r\none\r\n--b--\r\n"`},
		"empty part":                      {"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\n--b--\n", `multipart/mixed{text/plain"" text/plain""}`},
		"only final":                      {"Content-Type: multipart/mixed; boundary=b\n\n--b--\n", `multipart/mixed{text/plain""}`},
		"part header without empty line":  {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n--b\n\ntwo\n--b--\n", `multipart/mixed{text/html"" text/plain"two"}`},
		"part text without empty line":    {"Content-Type: multipart/mixed; boundary=b\n\n--b\nhello there\nfoo\n--b--\n", `multipart/mixed{text/plain"hello there\r\nfoo"}`},
		"multipart header cut":            {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n--b--\n", `multipart/mixed{text/plain""}`},
		"message header cut":              {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n--b--\n", `multipart/mixed{text/plain""}`},
		"prefix boundaries":               {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\ninner\n--bb--\n--b\n\nouter\n--b--\n", `multipart/mixed{multipart/mixed{text/plain"inner"} text/plain"outer"}`},
		"prefix boundaries reversed":      {"Content-Type: multipart/mixed; boundary=bb\n\n--bb\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\ninner\n--b--\n--bb\n\nouter\n--bb--\n", `multipart/mixed{multipart/mixed{text/plain"inner"} text/plain"outer"}`},
		"boundary with dashes at the end": {"Content-Type: multipart/mixed; boundary=\"b--\"\n\n--b--\n\none\n--b----\n", `multipart/mixed{text/plain"one"}`},
		"outer boundary ends inner":       {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\ninner\n--b\n\nouter\n--b--\n", `multipart/mixed{multipart/mixed{text/plain"inner"} text/plain"outer"}`},
		"outer boundary in preamble":      {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\npre\n--b\n\nouter\n--b--\n", `multipart/mixed{multipart/mixed{text/plain""} text/plain"outer"}`},
		"white space behind boundary":     {"Content-Type: multipart/mixed; boundary=b\n\n--b \t\n\none\n--b--  \n", `multipart/mixed{text/plain"one"}`},
		"boundary folded":                 {"Content-Type: multipart/mixed;\n\tboundary=\n \"b\"\n\n--b\n\none\n--b--\n", `multipart/mixed{text/plain"one"}`},
		"boundary broken by a fold":       {"Content-Type: multipart/mixed; boundary=\"foo\n bar\"\n\n--foobar\n\none\n--foobar--\n", `multipart/mixed{text/plain"one"}`},
		"boundary with a space":           {"Content-Type: multipart/mixed; boundary=\"foo bar\"\n\n--foo bar\n\none\n--foo bar--\n", `multipart/mixed{text/plain"one"}`},
		"boundary with space at its end":  {"Content-Type: multipart/mixed; boundary=\"foo \"\n\n--foo \n\none\n--foo --\n", `multipart/mixed{text/plain"one\r\n--foo --\r\n"}`},
		"boundary in pieces":              {"Content-Type: multipart/mixed; boundary*0=fo; boundary*1=o\n\n--foo\n\none\n--foo--\n", `multipart/mixed{text/plain"one"}`},
		"spaces around =":                 {"Content-Type: multipart/mixed ; boundary = \"b\"\n\n--b\n\none\n--b--\n", `multipart/mixed{text/plain"one"}`},
		"upper case":                      {"CONTENT-TYPE: MULTIPART/MIXED; BOUNDARY=B\n\n--B\n\none\n--b\n--B--\n", `multipart/mixed{text/plain"one\r\n--b"}`},
		"long boundary":                   {"Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", maxBoundary) + "\n\n--" + strings.Repeat("b", maxBoundary) + "\n\none\n", `multipart/mixed{text/plain"one\r\n"}`},
		"too long boundary":               {"Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", maxBoundary+1) + "\n\nx", `text/plain"x"`},
		"digest":                          {"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\none\n--b\nContent-Type: text/plain\n\ntwo\n--b--\n", `multipart/digest{message/rfc822<text/plain"one"> text/plain"two"}`},
		"message":                         {"Content-Type: message/rfc822\n\nSubject: x\nContent-Type: text/html\n\none\n", `message/rfc822<text/html"one\r\n">`},
		"message global":                  {"Content-Type: message/global\n\nSubject: x\n\none\n", `message/global<text/plain"one\r\n">`},
		"message in base64":               {"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDog\n", `application/octet-stream"U3ViamVjdDog\r\n"`},
		"multipart in base64":             {"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n", `text/plain"--b\r\n"`},
		"multipart, odd encoding":         {"Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: none\n\n--b\n\none\n--b--\n", `multipart/mixed{text/plain"one"}`},
		"multipart in message":            {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--c--\n--b--\n", `multipart/mixed{message/rfc822<multipart/mixed{text/plain"one"}>}`},
		"message without header":          {"Content-Type: message/rfc822\n\nhello world\n", `message/rfc822<text/plain"hello world\r\n">`},
		"partial and external":            {"Content-Type: message/partial; id=x\n\nx", `message/partial"x"`},
		"broken type":                     {"Content-Type: text\n\nx", `text/plain"x"`},
		"empty type":                      {"Content-Type:\n\nx", `text/plain"x"`},
		"type with comment":               {"Content-Type: (a) text/html (b(c)) ; charset=x\n\nx", `text/html"x"`},
		"two types":                       {"Content-Type: text/html\nContent-Type: image/png\n\nx", `text/html"x"`},
		"header too large":                {"A: " + strings.Repeat("x", mail.MaxHeaderBytes) + "\nContent-Type: text/html\n\nx", `text/plain"x"`},
		"too many fields":                 {"Content-Type: text/html\n" + strings.Repeat("A:\n", mail.MaxFields) + "\nx", `text/html"x"`},
	} {
		raw := crlf(c.in)
		if got := dump([]byte(raw), mustParse(t, raw)); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
		// With LF alone the same tree comes out.
		want := strings.ReplaceAll(c.want, `\r\n`, `\n`)
		if got := dump([]byte(c.in), mustParse(t, c.in)); got != want {
			t.Errorf("%s, LF: %s", name, got)
		}
	}
}

func TestPartFields(t *testing.T) {
	p := mustParse(t, crlf(`Content-Type: Text/HTML; Charset="utf-8"; name=a b.txt; x="q\"q"; empty=; y=1 (c)
Content-Transfer-Encoding: BASE64 (x)
Content-ID: <id@x>
Content-Description: a
 b
Content-Disposition: Attachment; filename*0*=utf-8''a%20; filename*1=b;
 filename*2*=%C3%A9; size=12
Content-Language: en, de (x)
Content-Location: http://x/
 y
Content-MD5: abc

SGVsbG8=
x`))
	want := &Part{
		MediaType: "text", Subtype: "html",
		Params: []Param{{"charset", "utf-8"}, {"name", "a b.txt"}, {"x", `q"q`}, {"empty", ""}, {"y", "1"}},
		ID:     "<id@x>", Description: "a b", Encoding: "base64",
		Disposition:       "attachment",
		DispositionParams: []Param{{"filename*0*", "utf-8''a%20"}, {"filename*1", "b"}, {"filename*2*", "%C3%A9"}, {"size", "12"}},
		Language:          []string{"en", "de (x)"}, Location: "http://x/y", MD5: "abc",
		BodyStart: p.BodyStart, BodyEnd: p.BodyStart + 11, Lines: 2,
		Envelope: &Envelope{},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("%+v", p)
	}
	if p.FileName() != "a bé" || p.Param("CHARSET") != "utf-8" || p.Param("none") != "" || p.Size() != 11 || !p.Is("text/html") || p.Is("text/plain") {
		t.Errorf("%q", p.FileName())
	}
	d := DecodeParams(p.DispositionParams)
	if !reflect.DeepEqual(d, []Param{{"filename", "a bé"}, {"size", "12"}}) {
		t.Errorf("%+v", d)
	}
	if q := mustParse(t, "Content-Transfer-Encoding:\r\n\r\n"); q.Encoding != "7bit" || q.Disposition != "" {
		t.Errorf("%+v", q)
	}
}

func TestDecodeParams(t *testing.T) {
	for in, want := range map[string]string{
		"x; n=plain":                                "plain",
		"x; n=\"qu\\\"oted\"":                       `qu"oted`,
		"x; n*=utf-8'en'%C3%A9%2":                   "é%2",
		"x; n*=iso-8859-1''%E9":                     "é",
		"x; n*=nonsense''%E9":                       "\uFFFD",
		"x; n*=%41":                                 "A",
		"x; n=old; n*=utf-8''new":                   "new",
		"x; n*0=a; n*1=b; n*3=d":                    "ab",
		"x; n*1=b; n*0=a":                           "ab",
		"x; n*0*=iso-8859-1''%E9; n*1*=%E9;n*2=%E9": "éé%E9",
		"x; n*99999999999=a; n=b":                   "b",
		"x; n=first; n=second":                      "first",
		"x; nn=other":                               "",
		"x; n":                                      "",
		"x; n=\"open":                               "open",
		"x;; ;n=v;":                                 "v",
		"x; n=a (comment)":                          "a",
		"x; n=a(1).txt":                             "a(1).txt",
		"x (; n=no) ; n=yes":                        "yes",
		"x (open; n=no":                             "",
		"x; n=" + strings.Repeat("a", 2*maxValue):   strings.Repeat("a", maxValue),
	} {
		_, ps := parseField(in)
		if got := param(ps, "n"); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	_, ps := parseField("x" + strings.Repeat("; a=b", 2*maxParams))
	if len(ps) != maxParams {
		t.Errorf("%d parameters", len(ps))
	}
}

func TestEnvelope(t *testing.T) {
	p := mustParse(t, crlf(`Date: Mon, 2 Jan 2006
 15:04:05 -0700
Subject: =?utf-8?q?x?= y
From: A <a@b>, c@d
To: G: e@f;
To: g@h
Cc: "i" <i@j>, broken@
Bcc: k@l
In-Reply-To: <1@x> <2@x>
Message-ID: <3@x>

body`))
	box := func(name, local, domain string) mail.Mailbox {
		return mail.Mailbox{Name: name, RawName: name, Address: mail.Address{Local: local, Domain: domain}}
	}
	from := []mail.Mailbox{box("A", "a", "b"), box("", "c", "d")}
	want := &Envelope{
		Date: "Mon, 2 Jan 2006 15:04:05 -0700", Subject: "=?utf-8?q?x?= y",
		From: from, Sender: from, ReplyTo: from,
		To:        []mail.Mailbox{{Name: "G", RawName: "G", Group: mail.GroupStart}, box("", "e", "f"), {Group: mail.GroupEnd}, box("", "g", "h")},
		Cc:        []mail.Mailbox{box("i", "i", "j")},
		Bcc:       []mail.Mailbox{box("", "k", "l")},
		InReplyTo: "<1@x> <2@x>", MessageID: "<3@x>",
	}
	if !reflect.DeepEqual(p.Envelope, want) {
		t.Errorf("%+v", p.Envelope)
	}
	p = mustParse(t, "From: a@b\r\nSender: s@x\r\nReply-To: r@x\r\n\r\n")
	if p.Envelope.Sender[0].Address.Local != "s" || p.Envelope.ReplyTo[0].Address.Local != "r" {
		t.Errorf("%+v", p.Envelope)
	}
	p = mustParse(t, "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\n")
	if p.Message.Envelope.Subject != "inner" || p.Envelope.Subject != "" {
		t.Errorf("%+v", p.Message.Envelope)
	}
	p = mustParse(t, "To: "+strings.Repeat("a@b,", mail.MaxMailboxes)+"\r\nTo: c@d\r\n\r\n")
	if len(p.Envelope.To) != mail.MaxMailboxes {
		t.Error(len(p.Envelope.To))
	}
}

func TestLines(t *testing.T) {
	for in, want := range map[string]int64{"": 0, "a": 1, "a\n": 1, "a\nb": 2, "\n": 1, "\n\n": 2} {
		if p := mustParse(t, "A: b\r\n\r\n"+crlf(in)); p.Lines != want {
			t.Errorf("%q: %d", in, p.Lines)
		}
		m := "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + crlf(in) + "\r\n--b--\r\nepilogue\r\n"
		if p := mustParse(t, m); p.Parts[0].Lines != want {
			t.Errorf("%q in a part: %d", in, p.Parts[0].Lines)
		}
		m = "Content-Type: message/rfc822\r\n\r\nA: b\r\n\r\n" + crlf(in)
		if p := mustParse(t, m); p.Lines != want+2 || p.Message.Lines != want {
			t.Errorf("%q in a message: %d, %d", in, p.Lines, p.Message.Lines)
		}
	}
}

func TestBounds(t *testing.T) {
	// Depth.
	var b strings.Builder
	for i := range 3 * MaxDepth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	deep := 0
	p := mustParse(t, b.String())
	for ; len(p.Parts) > 0; p = p.Parts[0] {
		deep++
	}
	if deep != MaxDepth || !p.Is("application/octet-stream") {
		t.Errorf("%d deep, %s/%s", deep, p.MediaType, p.Subtype)
	}
	// Messages in messages.
	deep = 0
	for p = mustParse(t, strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 3*MaxDepth)); p.Message != nil; p = p.Message {
		deep++
	}
	if deep != MaxDepth || !p.Is("application/octet-stream") {
		t.Errorf("%d deep, %s/%s", deep, p.MediaType, p.Subtype)
	}
	// Parts.
	p = mustParse(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n"+strings.Repeat("--b\r\n\r\nx\r\n", 2*MaxParts))
	if len(p.Parts) != MaxParts-1 || p.BodyEnd == p.Parts[MaxParts-2].BodyEnd {
		t.Errorf("%d parts", len(p.Parts))
	}
	// Strings.
	p = mustParse(t, "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"+
		strings.Repeat("--b\r\nContent-Description: "+strings.Repeat("x", 2000)+"\r\nContent-Type: a/b; c=d\r\n\r\n", 3000)+
		"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nx\r\n--b--\r\n")
	if n := len(Encode(p)); n > MaxEncoded || n < MaxText {
		t.Errorf("%d bytes stored", n)
	}
	if len(p.Parts[0].Description) != maxValue || p.Parts[2999].Description != "" || p.Parts[2999].MediaType != "text" {
		t.Errorf("%+v", p.Parts[2999])
	}
	if _, err := Decode(Encode(p)); err != nil {
		t.Error(err)
	}
	// Every small thing costs, so that what Parse makes can always be stored and read.
	for name, field := range map[string]string{
		"languages":  "Content-Language: " + strings.Repeat("a,", maxParams),
		"parameters": "Content-Type: a/b" + strings.Repeat(";a=", maxParams),
		"messages":   "Content-Type: message/rfc822\r\n\r\nTo: " + strings.Repeat("a,", 50),
		"groups":     "Content-Type: message/rfc822\r\n\r\nTo: " + strings.Repeat("a:,", 50),
	} {
		q := mustParse(t, "Content-Type: multipart/mixed; boundary=b\r\n\r\n"+strings.Repeat("--b\r\n"+field+"\r\n\r\n", MaxParts))
		b := Encode(q)
		if back, err := Decode(b); err != nil || !reflect.DeepEqual(back, q) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	big := strings.Repeat("G:a@b,;", mail.MaxMailboxes)
	for _, name := range []string{"From", "To", "Sender"} {
		q := mustParse(t, name+": a@b\r\n"+name+": "+big+"\r\n"+name+": "+big+"\r\n\r\n")
		if back, err := Decode(Encode(q)); err != nil || !reflect.DeepEqual(back, q) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(p.Parts) != 3001 {
		t.Errorf("%d parts", len(p.Parts))
	}
	// Size.
	if _, err := Decode(make([]byte, MaxEncoded+1)); !errors.Is(err, errs.Corrupt) {
		t.Error(err)
	}
}

// Hostile mail does not take long, counted in what it uses of the processors.
func TestSpeedOfHostileMail(t *testing.T) {
	var b strings.Builder
	for i := range MaxDepth {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"%d %02d\"\r\n\r\n--%d%02d\r\n", i%10, i, i%10, i)
	}
	head := b.String()
	for name, m := range map[string]string{
		"boundary-like lines": head + "\r\n" + strings.Repeat("--9 1\n", 1<<20),
		"no empty line":       strings.Repeat("A: b\r\n", 1<<20),
		"folded":              "A: b\r\n" + strings.Repeat(" \n", 1<<21),
		"no line ends":        strings.Repeat("-", 1<<23),
		"parts without end":   "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\n", 1<<20),
		"addresses":           "To: " + strings.Repeat("a ", 1<<17) + "\r\n\r\n",
		"domains":             "To: a@b" + strings.Repeat(" .", 1<<16) + "\r\n\r\n",
		"comments":            "To: " + strings.Repeat("(", 1<<17) + "\r\n\r\n",
		"words":               "Subject: " + strings.Repeat("=?utf-8?q?=41?= ", 1<<13) + "\r\n\r\n",
		"parameters":          "Content-Type: text/plain" + strings.Repeat("; a*0*=b", 1<<14) + "\r\n\r\n",
	} {
		start := cpuTime(t)
		p, err := Parse([]byte(m))
		if err != nil {
			t.Fatal(err)
		}
		d := cpuTime(t) - start
		t.Logf("%s: %v", name, d)
		if d > 5*time.Second {
			t.Errorf("%s: %v", name, d)
		}
		if _, err := Decode(Encode(p)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
