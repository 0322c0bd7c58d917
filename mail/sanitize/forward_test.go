package sanitize

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/mime"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// TestForward: of a mail for an alias only what is in the list stays, in one order, and the sender's
// address is in no field but the display name that was given.
func TestForward(t *testing.T) {
	raw := crlf("Return-Path: <x@canary>\nReceived: from canary\nDKIM-Signature: canary\nAuthentication-Results: canary\nX-Spam-Flag: canary\nSender: canary\nReply-To: canary\n" +
		"Disposition-Notification-To: canary\nErrors-To: canary\nBcc: canary\nAutocrypt: canary\nX-Postern-Alias: canary\n" +
		"content-type: text/plain\nsubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nSubject: canary\nDate: then\nFrom: News <news@shop.example>\nTo: \"x\"\n <alias@alias.example>\nMESSAGE-ID: <1@shop.example>\n" +
		"List-Unsubscribe: <https://shop.example/u>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\nAuto-Submitted: auto-generated\nX-Mailer: canary\nContent-Transfer-Encoding: 8bit\n\nbody\n")
	f := ForwardFields{Received: "by mail.example; date", From: `"News (news at shop.example)" <re.x@alias.example>`, Hops: 3, More: [][2]string{{"X-Postern-Alias", "a; b\r\nX: c"}}}
	header, off, err := Forward([]byte(raw), f)
	want := crlf("Received: by mail.example; date\nX-Postern-Hops: 3\nFrom: \"News (news at shop.example)\" <re.x@alias.example>\nReply-To: \"News (news at shop.example)\" <re.x@alias.example>\n" +
		"X-Postern-Alias: a; b  X: c\nTo: \"x\"\n <alias@alias.example>\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nDate: then\nMessage-ID: <1@shop.example>\nAuto-Submitted: auto-generated\n" +
		"MIME-Version: 1.0\ncontent-type: text/plain\nContent-Transfer-Encoding: 8bit\n\n")
	if err != nil || string(header) != want || raw[off:] != "body\r\n" {
		t.Errorf("%v\n%s\nwant\n%s", err, header, want)
	}
	f.Unsubscribe = true
	header, _, err = Forward([]byte(raw), f)
	if err != nil || !strings.Contains(string(header), crlf("List-Unsubscribe: <https://shop.example/u>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\n")) {
		t.Errorf("%v\n%s", err, header)
	}
	for raw, kind := range map[string]errs.Kind{
		"no header\r\n\r\n": errs.Invalid,
		strings.Repeat("X: y\r\n", mail.MaxFields-roomFields+1) + "\r\n":                   errs.TooLarge,
		"Subject: " + strings.Repeat("y", mail.MaxHeaderBytes-roomBytes) + "\r\n" + "\r\n": errs.TooLarge,
	} {
		if _, _, err := Forward([]byte(raw), f); errs.KindOf(err) != kind {
			t.Errorf("%.20q: %v", raw, err)
		}
	}
}

func header(t testing.TB, s string) mail.Header {
	t.Helper()
	h, _, err := mail.ParseHeader([]byte(crlf(s)))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestFolded: a long value is on lines that every host takes, and reads as it was written.
func TestFolded(t *testing.T) {
	for _, v := range []string{"", "x", strings.Repeat("word ", 100) + "end", strings.Repeat("y", 200), strings.Repeat("y", 200) + " " + strings.Repeat("z", 300), strings.Repeat("a b", 5000),
		"x" + strings.Repeat(" ", 300), strings.Repeat("x ", 39) + strings.Repeat(" ", 80) + "y"} {
		out := appendFolded(nil, "Autocrypt", v)
		h, off, err := mail.ParseHeader(append(out, "\r\n"...))
		if err != nil || off != len(out)+2 || h.Count("Autocrypt") != 1 || h.Get("Autocrypt") != strings.TrimSpace(v) {
			t.Errorf("%.30q: %v\n%.300q", v, err, out)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\r\n"), "\r\n") {
			if strings.TrimSpace(line) == "" || len(line) > maxColumns && strings.Contains(strings.TrimSpace(strings.TrimPrefix(line, "Autocrypt: ")), " ") {
				t.Errorf("%.30q: the line %.200q", v, line)
			}
		}
	}
}

// TestHops: lines that were taken out count on.
func TestHops(t *testing.T) {
	for s, want := range map[string]int{
		"": 0, "Received: a\nreceived: b\n": 2, "Received: a\nX-Postern-Hops: 7\n": 8, "X-Postern-Hops: 2\nX-Postern-Hops: 3\n": 5,
		"X-Postern-Hops: -5\n": 0, "X-Postern-Hops: x\n": 0, "X-Postern-Hops: 99999999\n": maxHops,
	} {
		if got := Hops(header(t, s+"X: y\n")); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

// TestAutomatic: what nobody wrote is known.
func TestAutomatic(t *testing.T) {
	for s, want := range map[string]bool{
		"X: y\n": false, "Auto-Submitted: no\n": false, "Auto-Submitted: No; x=y\n": false, "Auto-Submitted: auto-replied\n": true, "Auto-Submitted: auto-replied (vacation)\n": true,
		"Auto-Submitted:\n": true, "Precedence: Bulk\n": true, "Precedence: first-class\n": false, "X-Autoreply: yes\n": true,
	} {
		if got := Automatic(header(t, s)); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// TestAnswer: nothing of the mail's own header is in an answer but its subject.
func TestAnswer(t *testing.T) {
	h := header(t, "From: Anna <anna@home.example>\nSender: canary\nMessage-ID: <canary>\nUser-Agent: canary\nSubject: Re: for\n ANNA@home.example: =?utf-8?b?w6Q=?=\nX-Mailer: canary\nDate: canary\n")
	f := AnswerFields{From: "<a@alias.example>", To: "<news@shop.example>", MessageID: "<1@alias.example>", InReplyTo: "<2@shop.example>", References: []string{"<1@shop.example>", "<2@shop.example>"},
		Date: time.Date(2026, 11, 5, 10, 20, 30, 0, time.FixedZone("", 3600)), More: [][2]string{{"Autocrypt", "addr=a"}}}
	got := string(Answer(h, []byte("Content-Type: text/plain\r\n"), f, Replacing(map[string]string{"anna@home.example": "a@alias.example"})))
	want := crlf("From: <a@alias.example>\nTo: <news@shop.example>\nSubject:\n =?utf-8?q?Re:_for_a@alias.example:_=C3=A4?=\nDate: Thu, 5 Nov 2026 09:20:30 +0000\nMessage-ID: <1@alias.example>\n" +
		"In-Reply-To: <2@shop.example>\nReferences: <1@shop.example>\n <2@shop.example>\nAutocrypt: addr=a\nMIME-Version: 1.0\nContent-Type: text/plain\n\n")
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	long := string(Answer(header(t, "Subject: "+strings.Repeat("ä", 2000)+"\n"), nil, AnswerFields{Date: f.Date}, Replacing(nil)))
	for line := range strings.SplitSeq(long, "\r\n") {
		if len(line) > 76 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
	if s, _, _ := mail.ParseHeader([]byte(long)); mail.DecodeWords(s.Get("Subject")) != strings.Repeat("ä", maxSubject/2) {
		t.Error("the subject is not read back")
	}
	if none := string(Answer(header(t, "X: y\n"), nil, AnswerFields{Date: f.Date}, Replacing(nil))); strings.Contains(none, "Subject") {
		t.Error(none)
	}
}

func parts(t testing.TB, raw string, rules PartRules) (content, body string) {
	t.Helper()
	c, b, err := Parts([]byte(crlf(raw)), rules)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(c), "\r\n", "\n"), strings.ReplaceAll(string(b), "\r\n", "\n")
}

// boundaryB stands in the place of the boundary b.
var boundaryB = func() string { sum := sha256.Sum256([]byte("b")); return "=_" + hex.EncodeToString(sum[:16]) }()

var anna = PartRules{Replace: map[string]string{"anna@home.example": "a@alias.example", "re.x@alias.example": "news@shop.example"}, Domain: "alias.example"}

// TestParts: what programs add and tells who wrote is gone; what a person wrote stays.
func TestParts(t *testing.T) {
	for name, c := range map[string]struct{ raw, content, body string }{
		"plain": {"X: y\nContent-Type: text/plain\n\nhello = there\n", "Content-Type: text/plain\n", "hello = there\n"},
		"an address in text": {"Content-Type: text/plain\n\n> Anna <ANNA@home.example> to <re.x@alias.example>, mailto:anna%40home.example\n",
			"Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n", "> Anna <a@alias.example> to <news@shop.example>, mailto:a%40alias.example\n"},
		"in base64": {"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nYW5uYUBob21lLmV4YW1wbGU=\n", "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n", "a@alias.example"},
		"longer addresses": {"Content-Type: text/plain\n\nmarianna@home.example a.anna@home.example anna@home.example.org anna@home.examples\n", "Content-Type: text/plain\n",
			"marianna@home.example a.anna@home.example anna@home.example.org anna@home.examples\n"},
		"at the end of a sentence": {"Content-Type: text/plain\n\nWrite to anna@home.example.\n", "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n", "Write to a@alias.example.\n"},
		"signed": {"Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=b\n\n--b\nContent-Type: text/plain\n\nhi\n--b\nContent-Type: application/pgp-signature\n\ncanary\n--b--\n",
			"Content-Type: text/plain\n", "hi"},
		"S/MIME, detached": {"Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: text/html\n\nhi\n--b\nContent-Type: application/pkcs7-signature\n\ncanary\n--b--\n", "Content-Type: text/html\n", "hi"},
		"a key": {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\nX-Canary: y\n\nhi\n--b\nContent-Type: application/pgp-keys; name=\"0xCANARY.asc\"\n\ncanary\n--b--\n",
			"Content-Type: multipart/mixed; boundary=\"b\"\n", "--b\nContent-Type: text/plain\n\nhi\n--b--\n"},
		"a key alone": {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/pgp-keys\n\ncanary\n--b--\n", "Content-Type: multipart/mixed; boundary=\"b\"\n", "--b\nContent-Type: text/plain\n\n\n--b--\n"},
		"inline": {"Content-Type: text/plain\n\nbefore\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nhi\n-----BEGIN PGP SIGNATURE-----\n\ncanary\n-----END PGP SIGNATURE-----\nafter\n",
			"Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n", "before\nhi\n\nafter\n"},
		"inline, cut off": {"Content-Type: text/plain\n\nhi\n-----BEGIN PGP PUBLIC KEY BLOCK-----\ncanary\n", "Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n", "hi\n"},
		"identifiers": {"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src=\"cid:1.canary@home.example\">\n--b\nContent-Type: image/png\nContent-ID: <1.canary@home.example>\nContent-Location: canary\n\nP\n--b--\n",
			"Content-Type: multipart/related; boundary=\"b\"\n", "--b\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<img src=3D\"cid:part1@alias.example\">\n--b\nContent-Type: image/png\nContent-ID: <part1@alias.example>\n\nP\n--b--\n"},
		"a mail within": {"Content-Type: message/rfc822\n\nTo: Anna <anna@home.example>\nSubject: x\nContent-Type: text/plain\n\nfor anna@home.example\n", "Content-Type: message/rfc822\n",
			"To: Anna <a@alias.example>\nSubject: x\nMIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\nfor a@alias.example\n"},
		"encrypted":     {"Content-Type: multipart/encrypted; boundary=b\nContent-Description: anna@home.example\n\n--b\nX: anna@home.example\n\n--b--\n", "Content-Type: multipart/encrypted; boundary=b\nContent-Description: a@alias.example\n", "--b\nX: anna@home.example\n\n--b--\n"},
		"attached text": {"Content-Type: text/x-vcard; name=\"anna@home.example.vcf\"\n\nEMAIL:anna@home.example\n", "Content-Type: text/x-vcard; name=\"anna@home.example.vcf\"\nContent-Transfer-Encoding: quoted-printable\n", "EMAIL:a@alias.example\n"},
	} {
		content, body := parts(t, c.raw, anna)
		content, body = strings.ReplaceAll(content, boundaryB, "b"), strings.ReplaceAll(body, boundaryB, "b")
		if content != c.content || body != c.body && body != c.body+"\n" && body+"\n" != c.body {
			t.Errorf("%s:\n%q\n%q, want\n%q\n%q", name, content, body, c.content, c.body)
		}
		if strings.Contains(strings.ToLower(content+body), "canary") {
			t.Errorf("%s: the canary is left:\n%s\n%s", name, content, body)
		}
	}
	keep := anna
	keep.KeepKeys = true
	raw := "Content-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: text/plain\n\nhi\n--b\nContent-Type: application/pgp-signature\n\nsignature\n--b--\n"
	if content, body := parts(t, raw, keep); !strings.Contains(content, "multipart/signed") || !strings.Contains(body, "signature") {
		t.Errorf("%s\n%s", content, body)
	}
	for kind, refused := range map[string]bool{"application/pkcs7-mime; smime-type=signed-data": true, "application/x-pkcs7-mime": true, "application/pkcs7-mime; smime-type=enveloped-data": false} {
		_, _, err := Parts([]byte("Content-Type: "+kind+"\r\n\r\nx"), anna)
		if (err == ErrSigned) != refused || !refused && err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestBoundaries: one that names a host is not passed on, however it is written; what is written in an
// unusual way stays a mail.
func TestBoundaries(t *testing.T) {
	for param, changed := range map[string]bool{"boundary=\"x/home.example\"": true, "charset=x;\r\n BOUNDARY=\"x/home.example\"; format=y": true, "boundary=x-home.example": true, "boundary =\"x/home.example\"": false,
		"boundary=\"x/home\\.example\"": false} {
		root, err := mime.Parse([]byte("Content-Type: multipart/mixed; " + param + "\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		raw := "Content-Type: multipart/mixed; " + param + "\r\n\r\n--" + root.Param("boundary") + "\r\n\r\nhi\r\n--" + root.Param("boundary") + "--\r\n"
		content, body, err := Parts([]byte(raw), anna)
		if err != nil {
			t.Fatal(err)
		}
		got, err := mime.Parse(append(append(content, "\r\n"...), body...))
		if err != nil || len(got.Parts) != 1 || strings.Contains(string(content)+string(body), "home") == changed || got.Param("format") != root.Param("format") {
			t.Errorf("%s: %v\n%s\n%s", param, err, content, body)
		}
	}
}

// FuzzParts: whatever a mail holds, what comes out is a mail again, and the address is in none of its
// readable texts.
func FuzzParts(f *testing.F) {
	for _, s := range []string{"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nanna@home.example\n--b--\n", "Content-Type: message/rfc822\n\nTo: anna@home.example\n\nx",
		"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\nYW5uYUBob21lLmV4YW1wbGU=", "Content-Type: multipart/signed; boundary=\"\"\n\n--\n\n", "-----BEGIN PGP SIGNATURE-----"} {
		f.Add([]byte(crlf(s)))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		content, body, err := Parts(raw, anna)
		if err != nil {
			if k := errs.KindOf(err); k != errs.Invalid && k != errs.TooLarge && k != errs.Denied {
				t.Fatal(err)
			}
			return
		}
		out := append(append(append([]byte("MIME-Version: 1.0\r\n"), content...), "\r\n"...), body...)
		if _, err := mime.Parse(out); err != nil {
			t.Fatalf("%v\n%q", err, out)
		}
		if h, off, err := mail.ParseHeader(out); err != nil || !bytes.Equal(out[off:], body) {
			t.Fatalf("the header is not whole: %v\n%q\n%q", err, h.Bytes(), out)
		}
	})
}
