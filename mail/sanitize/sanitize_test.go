package sanitize

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
)

func TestSubmission(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"all": {
			"Received: from a\r\n by b\r\nFrom: a@b\r\nX-Originating-IP: [192.0.2.1]\r\nSubject: secret\r\n folded\r\n" +
				"x-mailer: m\r\nUSER-AGENT: u\r\nReceived: again\r\nReturn-Path: <x@y>\r\nBcc: hidden@x\r\nTo: c@d\r\n",
			"From: a@b\r\nSubject: [...]\r\nTo: c@d\r\n"},
		"two subjects":       {"Subject: a\r\nFrom: a@b\r\nSUBJECT: b\r\n", "Subject: [...]\r\nFrom: a@b\r\n"},
		"no subject":         {"From: a@b\r\n", "From: a@b\r\nSubject: [...]\r\n"},
		"nothing":            {"", "Subject: [...]\r\n"},
		"near names stay":    {"X-Received: a\r\nSubject-X: b\r\nX-Mailer-Y: c\r\nX-Spam: d\r\n", "X-Received: a\r\nSubject-X: b\r\nX-Mailer-Y: c\r\nX-Spam: d\r\nSubject: [...]\r\n"},
		"name with a space":  {"Subject : a\r\nReceived\t: b\r\nFrom: a@b\r\n", "Subject: [...]\r\nFrom: a@b\r\n"},
		"bare LF":            {"From: a@b\nX: a\n b\nBcc: x\n y\n", "From: a@b\r\nX: a\r\n b\r\nSubject: [...]\r\n"},
		"8-bit and folding":  {"X-Ä: 1\r\n", ""},
		"folding stays":      {"X: a\r\n\tb\r\n  c\r\n", "X: a\r\n\tb\r\n  c\r\nSubject: [...]\r\n"},
		"8-bit value stays":  {"X: \xff é\r\n", "X: \xff é\r\nSubject: [...]\r\n"},
		"nothing is added":   {"From: a@b\r\nTo: \"hidden-recipients\": ;\r\n", "From: a@b\r\nTo: \"hidden-recipients\": ;\r\nSubject: [...]\r\n"},
		"signatures remain":  {"DKIM-Signature: v=1\r\n", "DKIM-Signature: v=1\r\nSubject: [...]\r\n"},
		"trailing CR stays":  {"X: a\r\r\n", "X: a\r\r\nSubject: [...]\r\n"},
		"field without text": {"Subject:\r\n", "Subject: [...]\r\n"},
	} {
		const body = "Received: body\r\nSubject: body\r\n\r\n.\xff\x00bare\nend"
		raw := []byte(c.in + "\r\n" + body)
		before := bytes.Clone(raw)
		h, off, err := Submission(raw)
		if c.want == "" {
			if !errors.Is(err, errs.Invalid) || h != nil {
				t.Errorf("%s: %q, %v", name, h, err)
			}
			continue
		}
		if err != nil || string(h) != c.want+"\r\n" || string(raw[off:]) != body {
			t.Errorf("%s: %q, %d, %v", name, h, off, err)
		}
		if !bytes.Equal(raw, before) {
			t.Errorf("%s: the message was changed in place", name)
		}
	}
}

func TestDelivery(t *testing.T) {
	from := mail.Address{Local: "a b", Domain: "x.example"}
	for name, c := range map[string]struct {
		in, want string
		path     mail.Address
	}{
		"all": {
			"Received: from a\r\n by b\r\nDKIM-Signature: v=1;\r\n b=abc\r\nFrom: a@b\r\nreturn-path: <one@x>\r\nAuthentication-Results: x; dkim=pass\r\nReturn-Path: <two@x>\r\nSubject: s\r\n",
			"Return-Path: <\"a b\"@x.example>\r\nFrom: a@b\r\nSubject: s\r\n", from},
		"null path":      {"From: a@b\r\n", "Return-Path: <>\r\nFrom: a@b\r\n", mail.Address{}},
		"others stay":    {"User-Agent: u\r\nARC-Seal: x\r\nX-DKIM-Signature: y\r\nBcc: me@x\r\n", "Return-Path: <>\r\nUser-Agent: u\r\nARC-Seal: x\r\nX-DKIM-Signature: y\r\nBcc: me@x\r\n", mail.Address{}},
		"nothing":        {"", "Return-Path: <>\r\n", mail.Address{}},
		"UTF-8 path":     {"", "Return-Path: <é@bücher.example>\r\n", mail.Address{Local: "é", Domain: "bücher.example"}},
		"many signature": {strings.Repeat("DKIM-Signature: v=1\r\n", 50), "Return-Path: <>\r\n", mail.Address{}},
	} {
		const body = "\r\nReturn-Path: <body@x>\r\n\r\nx"
		raw := []byte(c.in + "\r\n" + body)
		h, off, err := Delivery(raw, c.path)
		if err != nil || string(h) != c.want+"\r\n" || string(raw[off:]) != body {
			t.Errorf("%s: %q, %d, %v", name, h, off, err)
		}
	}
	if _, _, err := Delivery([]byte("From: a@b\r\n\r\n"), mail.Address{Local: "a\r\nX: y", Domain: "b"}); !errors.Is(err, errs.Invalid) {
		t.Errorf("line end in the path: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	for _, c := range []struct {
		raw  string
		kind errs.Kind
	}{
		{"hello\r\n\r\n", errs.Invalid},
		{" folded first\r\n\r\n", errs.Invalid},
		{strings.Repeat("A: b\r\n", mail.MaxFields+1) + "\r\n", errs.TooLarge},
	} {
		if _, _, err := Submission([]byte(c.raw)); !errors.Is(err, c.kind) {
			t.Errorf("%.20q: %v", c.raw, err)
		}
		if _, _, err := Delivery([]byte(c.raw), mail.Address{}); !errors.Is(err, c.kind) {
			t.Errorf("%.20q: %v", c.raw, err)
		}
	}
	// A submission leaves room for what is added on the way.
	for _, raw := range []string{
		strings.Repeat("A: b\r\n", mail.MaxFields-roomFields+1) + "\r\n",
		"A: " + strings.Repeat("x", mail.MaxHeaderBytes-roomBytes) + "\r\n\r\n",
	} {
		if _, _, err := Submission([]byte(raw)); !errors.Is(err, errs.TooLarge) {
			t.Errorf("%.20q: %v", raw, err)
		}
		if _, _, err := Delivery([]byte(raw), mail.Address{}); err != nil {
			t.Errorf("%.20q: %v", raw, err)
		}
	}
	if _, _, err := Submission([]byte(strings.Repeat("A: b\r\n", mail.MaxFields-roomFields) + "\r\n")); err != nil {
		t.Error(err)
	}
	// A header without body and without empty line gets one.
	h, off, err := Submission([]byte("Subject: x"))
	if err != nil || string(h) != "Subject: [...]\r\n\r\n" || off != len("Subject: x") {
		t.Errorf("%q, %d, %v", h, off, err)
	}
}

func FuzzSanitize(f *testing.F) {
	f.Add([]byte("Received: a\r\n b\r\nSubject: x\r\n\r\nbody"))
	f.Add([]byte("Return-Path: <>\nDKIM-Signature : a\n\tb\n\nbody"))
	f.Add([]byte("From: a\r\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if h, off, err := Submission(raw); err == nil {
			got, n, err := mail.ParseHeader(append(bytes.Clone(h), raw[off:]...))
			if err != nil || n != len(h) || got.Count("Subject") != 1 || got.Get("Subject") != "[...]" {
				t.Fatalf("%q: %v", h, err)
			}
			for _, name := range submissionDrops {
				if got.Count(name) != 0 {
					t.Fatalf("%s is left in %q", name, h)
				}
			}
		}
		if h, off, err := Delivery(raw, mail.Address{Local: "a", Domain: "b"}); err == nil {
			got, n, err := mail.ParseHeader(append(bytes.Clone(h), raw[off:]...))
			if err != nil || n != len(h) || got.Count("Return-Path") != 1 || !bytes.HasPrefix(h, []byte("Return-Path: <a@b>\r\n")) {
				t.Fatalf("%q: %v", h, err)
			}
			for _, name := range deliveryDrops[:3] {
				if got.Count(name) != 0 {
					t.Fatalf("%s is left in %q", name, h)
				}
			}
		}
	})
}
