package sanitize

import (
	"bytes"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/mime"
)

// TestUnmarked: the marks of a mail program are taken out of a body, and the rest says what it said.
func TestUnmarked(t *testing.T) {
	for name, c := range map[string]struct {
		raw  string
		want []string // is there, in turn
	}{
		"nothing to do": {"From: a@b.example\nContent-Type: text/plain\nSubject: x\n\nhello = there\n", []string{"From: a@b.example\nSubject: x\nContent-Type: text/plain\n\nhello = there\n"}},
		"no MIME":       {"Subject: x\n\n--canary\n", []string{"Subject: x\n\n--canary\n"}},
		"parts": {"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary=\"Canary-Mail=_1\"\n\nThis is a canary message in MIME format.\n--Canary-Mail=_1\nX-Canary: y\nContent-Type: text/html\n\n<img src=\"cid:1@canary\">\n" +
			"--Canary-Mail=_1\nContent-Type: image/png; name=cat.png\nContent-ID: <1@canary>\nContent-Location: canary\n\nPNG\n--Canary-Mail=_1--\ncanary\n",
			[]string{"Content-Type: multipart/related; boundary=\"=_", "Content-Type: text/html\n", "<img src=3D\"cid:part1@nobody.example\">\n", "Content-Type: image/png; name=cat.png\nContent-ID: <part1@nobody.example>\n\nPNG\n"}},
		"signed": {"Content-Type: multipart/mixed; boundary=canary\n\n--canary\nContent-Type: multipart/signed; boundary=kept1\n\n--kept1\nX: y\nContent-ID: <kept@home>\n\nhi  \n--kept1\nContent-Type: application/pgp-signature\n\nsignature\n--kept1--\n--canary--\n",
			[]string{"Content-Type: multipart/signed; boundary=kept1\n\n--kept1\nX: y\nContent-ID: <kept@home>\n\nhi  \n--kept1\nContent-Type: application/pgp-signature\n\nsignature\n--kept1--\n"}},
		"a mail within": {"Content-Type: multipart/mixed; boundary=canary\n\n--canary\nContent-Type: message/rfc822\n\nDKIM-Signature: x\nContent-Type: multipart/mixed; boundary=kept\n\n--kept\nX: y\n\nhi\n--kept--\n\n--canary--\n",
			[]string{"Content-Type: message/rfc822\n\nDKIM-Signature: x\nContent-Type: multipart/mixed; boundary=kept\n\n--kept\nX: y\n\nhi\n--kept--\n\n"}},
		"encrypted": {"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=canary\n\n--canary\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--canary\nContent-Type: application/octet-stream\n\nsecret\n--canary--\n",
			[]string{"multipart/encrypted", "\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n", "Content-Type: application/octet-stream\n\nsecret\n"}},
		"signed, S/MIME": {"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nMII\n", []string{"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nMII\n"}},
	} {
		out, err := Unmarked([]byte(strings.ReplaceAll(c.raw, "\n", "\r\n")), "nobody.example")
		if err != nil {
			t.Fatal(name, err)
		}
		rest := strings.ReplaceAll(string(out), "\r\n", "\n")
		for _, want := range c.want {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("%s: %q is not in\n%s", name, want, out)
			}
			rest = after
		}
		if name != "no MIME" && strings.Contains(strings.ToLower(string(out)), "canary") {
			t.Errorf("%s: the mark is left:\n%s", name, out)
		}
	}
	if _, err := Unmarked([]byte("no header\r\n\r\n"), "nobody.example"); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
}

// FuzzUnmarked: whatever a mail holds, what comes out is a mail, and whoever does it twice gets no more parts.
func FuzzUnmarked(f *testing.F) {
	for _, s := range []string{"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-ID: <x@y>\n\nhi\n--b--\n", "Content-Type: message/rfc822\n\nTo: x\n\nx", "Content-Type: multipart/signed; boundary=\"\"\n\n--\n\n",
		"Content-Type: multipart/encrypted; boundary=b\n\n--b\n\nx\n--b--\n"} {
		f.Add([]byte(crlf(s)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, err := Unmarked(raw, "nobody.example")
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.TooLarge {
				t.Fatal(err)
			}
			return
		}
		if _, _, err := mail.ParseHeader(out); err != nil {
			t.Fatalf("%v\n%q", err, out)
		}
		one, err := mime.Parse(out)
		if err != nil {
			t.Fatalf("%v\n%q", err, out)
		}
		again, err := Unmarked(out, "nobody.example")
		if err != nil {
			if errs.KindOf(err) != errs.TooLarge {
				t.Fatalf("%v\n%q", err, out)
			}
			return
		}
		two, err := mime.Parse(again)
		if err != nil || len(one.Parts) != len(two.Parts) || !bytes.Contains(again, []byte("\r\n")) {
			t.Fatalf("%v: %d and %d parts\n%q\n%q", err, len(one.Parts), len(two.Parts), out, again)
		}
	})
}
