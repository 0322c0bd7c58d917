package sanitize

import (
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

var nobody = AnonymousFields{From: `"[Anon] Fox" <anonymous@anonymous.invalid>`, MessageID: "<new@id>", Date: time.Date(2026, 11, 5, 10, 20, 0, 0, time.UTC)}

// TestAnonymous: of a mail that goes anonymously only what it says to its reader stays.
func TestAnonymous(t *testing.T) {
	raw := "Received: canary\r\nFrom: Canary <canary@b.example>\r\nSender: canary@b.example\r\nReply-To: canary@b.example\r\nTo: bob@c.example,\r\n carl@c.example\r\nCc: d@c.example\r\n" +
		"Bcc: canary\r\nSubject: plans\r\nDate: Thu, 5 Nov 2026 12:20:31 +0200\r\nMessage-ID: <canary@laptop>\r\nIn-Reply-To: <a@c>\r\nReferences: <a@c>\r\nUser-Agent: canary\r\n" +
		"X-Postern-Anonymous: Fox\r\nAutocrypt: canary\r\nDKIM-Signature: canary\r\nOrganization: canary\r\nX-Anything: canary\r\nList-Id: canary\r\nDisposition-Notification-To: canary\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nContent-ID: <canary>\r\n\r\nbody\r\n"
	answers := nobody
	answers.Answers = true
	header, off, err := Anonymous([]byte(raw), answers)
	if err != nil {
		t.Fatal(err)
	}
	want := "From: \"[Anon] Fox\" <anonymous@anonymous.invalid>\r\nMessage-ID: <new@id>\r\nDate: Thu, 5 Nov 2026 10:20:00 +0000\r\nTo: bob@c.example,\r\n carl@c.example\r\nCc: d@c.example\r\n" +
		"Subject: plans\r\nIn-Reply-To: <a@c>\r\nReferences: <a@c>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nbody\r\n"
	if got := string(header) + raw[off:]; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	header, off, err = Anonymous([]byte(raw), nobody)
	if got, want := string(header)+raw[off:], strings.Replace(want, "In-Reply-To: <a@c>\r\nReferences: <a@c>\r\n", "", 1); err != nil || got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, _, err := Anonymous([]byte("no header\r\n\r\n"), nobody); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if _, _, err := Anonymous([]byte(strings.Repeat("To: y\r\n", mail.MaxFields-roomFields+1)+"\r\n"), nobody); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
}

// TestReadAsked: each field between mail program and proxy means one thing, and what contradicts itself is
// refused.
func TestReadAsked(t *testing.T) {
	for text, want := range map[string]Asked{
		"From: a@b.example":                                              {},
		"X-Postern-Unreliable: 1":                                        {Unreliable: true},
		"x-katzenpost-unreliable:":                                       {Unreliable: true},
		"X-Postern-Anonymous:  Fox of the hill ":                         {Anonymous: true, Name: "Fox of the hill"},
		"x-postern-anonymous:":                                           {Anonymous: true},
		"X-Postern-Anonymous: =?utf-8?q?F=C3=BCchsin?=":                  {Anonymous: true, Name: "Füchsin"},
		"X-Postern-Anonymous: Fox\r\nX-Postern-Reply: NO":                {Anonymous: true, Name: "Fox", NoReply: true},
		"X-Postern-Anonymous: Fox\r\nX-Postern-Anonymous: Owl\r\nX-A: b": {},
		"X-Postern-Reply: yes":                                           {},
	} {
		h, _, err := mail.ParseHeader([]byte(text + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadAsked(h)
		bad := strings.Contains(text, "Owl") || strings.Contains(text, "yes")
		switch {
		case bad && (errs.KindOf(err) != errs.Invalid || errs.Public(err) == ""), !bad && (err != nil || got != want):
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
}

// FuzzAnonymous: whatever a mail holds, what comes out is a header with nothing but what was asked for, and
// what is behind it stays.
func FuzzAnonymous(f *testing.F) {
	f.Add([]byte("From: a@b.example\r\nX-Postern-Anonymous: x\r\n folded\r\nTo: c\r\n\r\nbody"))
	f.Add([]byte("Reply-To\t: 1\nSubject: x\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		header, off, err := Anonymous(raw, nobody)
		if err != nil {
			return
		}
		h, end, err := mail.ParseHeader(header)
		if err != nil || end != len(header) || off > len(raw) || h.Count("From") != 1 || h.Count("Date") != 1 || h.Count("Message-ID") != 1 {
			t.Fatalf("%q: %v", header, err)
		}
		for _, f := range h.Fields()[3:] {
			if !named(f, anonymousKeeps[:]) {
				t.Fatalf("%q", header)
			}
		}
		if h, _, err := mail.ParseHeader(raw); err == nil {
			_, _ = ReadAsked(h)
		}
	})
}
