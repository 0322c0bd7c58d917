package mbox

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/mime"
)

var write = flag.Bool("write-golden", false, "write the golden mails again")

var began = time.Date(2026, 11, 26, 17, 0, 0, 0, time.UTC)

func form() Form {
	return Form{ReturnAddress: mail.Address{Local: "anon", Domain: "mix.example"}, AllowFrom: true, Abuse: "Mail abuse@mix.example",
		Comments: strings.Repeat("This comment is longer than a line. ", 4), Message: Disclaimer("mixo", "remove@mix.example")}
}

var fred = mail.Address{Local: "fred", Domain: "fred.com"}

// contents are what senders send.
func contents() map[string]string {
	return map[string]string{
		"text":      "Subject: A subject\nFrom: Mystery\nReferences: <a@b> <c@d>\nIn-Reply-To: <c@d>\nBcc: secret@example.org\nX-Secret: canary\n\nHello,\nFred.\n",
		"bare":      "No header, only text.\nMore of it",
		"no-fields": "\nSubject: is text here\n",
		"umlaut":    "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nFrom: =?utf-8?q?J=C3=BCrgen?= <real@example.org>\n\nSchöne Grüße\n",
		"binary":    "Subject: bytes\n\n\x00\x01\xff",
		"mime":      "Subject: enc\nMIME-Version: 1.0\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\n boundary=xyz\n\n--xyz\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--xyz\nContent-Type: application/octet-stream\n\n-----BEGIN PGP MESSAGE-----\n--xyz--\n",
		"attached":  "Content-Type: text/html\nContent-Transfer-Encoding: base64\n\nPGI+SGVsbG88L2I+\n",
		"long-line": "Subject: long\n\n" + strings.Repeat("x", 2000) + "\n",
		"empty":     "",
	}
}

// TestCompose: mails of every kind are as they were, byte for byte, and well-formed: fields of
// ASCII, lines that SMTP carries, the fixed set of fields and no other of the sender's.
func TestCompose(t *testing.T) {
	for name, content := range contents() {
		got := form().Compose(fred, []byte(content), []byte("id of this mail"), began)
		path := filepath.Join("testdata", "mail", name+".eml")
		if *write {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
		wellFormed(t, name, got)
	}
}

func wellFormed(t testing.TB, name string, text []byte) {
	t.Helper()
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\r\n")) || len(line) > 1000 || bytes.ContainsAny(line[:len(line)-2], "\x00\r\n") {
			t.Errorf("%s: a line that SMTP does not carry: %.80q", name, line)
		}
	}
	h, at, err := mail.ParseHeader(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if bytes.ContainsFunc(text[:at], func(r rune) bool { return r > '~' }) {
		t.Errorf("%s: the header is not ASCII: %q", name, text[:at])
	}
	for _, one := range []string{"Date", "Message-ID", "From", "To", "Subject", "X-Anonymous", "MIME-Version", "Content-Type"} {
		if n := h.Count(one); n != 1 && (one != "Content-Type" || n > 1) {
			t.Errorf("%s: %d fields %s", name, n, one)
		}
	}
	allowed := "date message-id from to subject in-reply-to references x-anonymous x-abuse comments mime-version content-type content-transfer-encoding content-disposition "
	for _, f := range h.Fields() {
		if !strings.Contains(allowed, strings.ToLower(f.Name)+" ") {
			t.Errorf("%s: a field %s", name, f.Name)
		}
	}
	if from, err := mail.FromAddress(h); err != nil || from != form().ReturnAddress {
		t.Errorf("%s: From %v, %v", name, from, err)
	}
	if _, err := mime.Parse(text); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// TestFrom: a sender may say a name, and never an address or another tag.
func TestFrom(t *testing.T) {
	for said, want := range map[string]string{
		"":                                  `<anon@mix.example>`,
		"Mystery":                           `"[Anon] Mystery" <anon@mix.example>`,
		"Mystery Fred <fred@evil.example>":  `"[Anon] Mystery Fred" <anon@mix.example>`,
		"<fred@evil.example>":               `"[Anon] fred" <anon@mix.example>`,
		"fred@evil.example":                 `"[Anon] fred" <anon@mix.example>`,
		`"boss@bank.example" <x@y>`:         `"[Anon] boss" <anon@mix.example>`,
		`"Boss] <boss" <x@y>`:               `"[Anon] Boss boss" <anon@mix.example>`,
		"=?utf-8?q?a=0d=0aBcc:_x?= <x@y>":   `"[Anon] a Bcc x x" <anon@mix.example>`,
		"=?utf-8?q?=E2=80=AEevil?= <x@y>":   `"[Anon] evil" <anon@mix.example>`,
		"a@b, c@d":                          `"[Anon] a" <anon@mix.example>`,
		strings.Repeat("x", 500) + " <x@y>": `"[Anon] ` + strings.Repeat("x", 64) + `" <anon@mix.example>`,
		"@[]":                               `<anon@mix.example>`,
		"=?utf-8?q?J=C3=BCrgen?= <x@y>":     `=?utf-8?b?W0Fub25dIErDvHJnZW4=?= <anon@mix.example>`,
	} {
		if got := form().from(said); got != want {
			t.Errorf("%q: %s, want %s", said, got, want)
		}
	}
	f := form()
	f.AllowFrom = false
	if got := f.from("Mystery"); got != "<anon@mix.example>" {
		t.Errorf("not allowed: %s", got)
	}
	f.AllowFrom, f.FromTag = true, "[Type III]"
	if got := f.from("Mystery"); got != `"[Type III] Mystery" <anon@mix.example>` {
		t.Errorf("another tag: %s", got)
	}
}

// TestOptionsOfForm: the options change what they say, and what is wrong is refused.
func TestOptionsOfForm(t *testing.T) {
	f := Form{ReturnAddress: form().ReturnAddress}
	h, at, err := mail.ParseHeader(f.Compose(fred, []byte("Text\n"), nil, began))
	if err != nil || h.Get("Subject") != DefaultSubject || h.Count("X-Abuse") != 0 || h.Count("Comments") != 0 || h.Get("From") != "<anon@mix.example>" || at == 0 {
		t.Errorf("defaults: %s, %v", h.Bytes(), err)
	}
	f.SubjectLine, f.Abuse, f.Comments, f.Message = "Post", "abuse", "Nothing to say", "Anonymous."
	text := string(f.Compose(fred, []byte("From: x\n\nText\n"), nil, began))
	for _, want := range []string{"Subject: Post\r\n", "X-Abuse: abuse\r\n", "Comments: Nothing to say\r\n", "\r\n\r\nAnonymous.\r\n\r\nText\r\n", "From: <anon@mix.example>\r\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	for want, f := range map[string]Form{
		"ReturnAddress is missing":                        {},
		"SubjectLine is not one line of up to 1024 bytes": {SubjectLine: "a\nb"},
		"FromTag is not one line of up to 1024 bytes":     {FromTag: "a\x00"},
		"X-Abuse is not one line of up to 1024 bytes":     {Abuse: strings.Repeat("x", 1025)},
		"Comments is not one line of up to 1024 bytes":    {Comments: "\xff"},
		"Message is not a text of up to 8192 bytes":       {Message: "a\x00b"},
	} {
		if want != "ReturnAddress is missing" {
			f.ReturnAddress = form().ReturnAddress
		}
		if err := f.Check(); errs.KindOf(err) != errs.Invalid || errs.Public(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// FuzzCompose: whatever a sender sends becomes a well-formed mail from the return address.
func FuzzCompose(f *testing.F) {
	for _, c := range contents() {
		f.Add([]byte(c), true)
	}
	f.Add([]byte("Content-Type: text/plain\r\n\r\n\r\r\n"), false)
	f.Add([]byte("From: \"a\r\n b\" <x@y>\r\nSubject:"+strings.Repeat(" =?utf-8?q?=FF?=", 200)+"\r\n\r\n"), true)
	f.Fuzz(func(t *testing.T, content []byte, disclaimer bool) {
		if len(content) > 100_000 {
			return
		}
		fm := form()
		if !disclaimer {
			fm.Message = ""
		}
		text := fm.Compose(fred, content, []byte("id"), began)
		wellFormed(t, "fuzz", text)
		if len(text) > 4*len(content)+4096 {
			t.Errorf("%d bytes from %d", len(text), len(content))
		}
	})
}
