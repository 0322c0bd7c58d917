package dsn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// TestRead: what Build writes is read, and so are reports of other hosts, with their liberties.
func TestRead(t *testing.T) {
	for name, want := range map[string]Returned{
		"failed":  {"bob@remote.example", Failed, "5.1.1", "550 5.1.1 No such user"},
		"delayed": {"bob@remote.example", Delayed, "4.4.1", "no connection"},
		"utf8":    {"jürgen@bücher.example", Failed, "5.1.1", "550 5.1.1 No such user"},
	} {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".eml"))
		if err != nil {
			t.Fatal(err)
		}
		got, header, err := Read(raw)
		if err != nil || len(got) != 1 || name != "utf8" && got[0] != want || got[0].Action != want.Action || !strings.Contains(string(header), "From: <anna@example.org>") {
			t.Errorf("%s: %+v %v %q", name, got, err, header)
		}
	}
	raw, err := os.ReadFile(filepath.Join("testdata", "mixed.eml"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := Read(raw); err != nil || len(got) != 5 || got[0].Action != Failed || got[4].Action != Expanded {
		t.Errorf("%+v %v", got, err)
	}
	foreign := "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nwords\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\n" +
		"Original-Recipient: rfc822;a@b.example\r\nACTION: Failed\r\nStatus: 5.2.2 (full)\r\nDiagnostic-Code: smtp; 552 a\r\n\tb\r\n\r\n\r\nFinal-Recipient: rfc822; c@d.example\r\nAction: failed\r\nStatus: 9.9\r\n\r\n" +
		"Final-Recipient: rfc822; e@f.example\r\nAction: exploded\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: whole\r\n\r\nbody\r\n--b--\r\n"
	got, header, err := Read([]byte(foreign))
	if err != nil || len(got) != 2 || got[0] != (Returned{"a@b.example", Failed, "5.2.2", "552 a b"}) && got[0].Status != "5.2.2" || got[1] != (Returned{"c@d.example", Failed, "", ""}) || string(header) != "Subject: whole\r\n\r\n" {
		t.Errorf("%+v %v %q", got, err, header)
	}
	for _, s := range []string{"", "Subject: out of office\r\n\r\nbye\r\n", "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nwords\r\n--b--\r\n"} {
		if _, _, err := Read([]byte(s)); errs.KindOf(err) != errs.NotFound {
			t.Errorf("%q: %v", s, err)
		}
	}
	if _, _, err := Read([]byte(foreign + strings.Repeat("x", MaxRead))); err != nil {
		t.Errorf("a long one: %v", err)
	}
}

// FuzzRead: whatever comes back is read within its bounds or refused.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"failed", "mixed", "utf8"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".eml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, _, err := Read(raw)
		if (err == nil) != (len(got) > 0) || len(got) > MaxRecipients {
			t.Fatalf("%d recipients, %v", len(got), err)
		}
		for _, r := range got {
			if len(r.Diagnostic) > MaxDiagnostic || strings.ContainsAny(r.Diagnostic, "\r\n") || r.Action < Failed || r.Action > Expanded {
				t.Fatalf("%+v", r)
			}
		}
	})
}
