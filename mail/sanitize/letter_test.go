package sanitize

import (
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

var written = LetterFields{Received: "by localhost; date", MessageID: "<new@id>", Date: time.Date(2026, 11, 5, 10, 20, 30, 0, time.UTC)}

// TestLetter: what tells of the sender's machine leaves, and of its part of the world; the subject stays, and
// what a mail lacks is written.
func TestLetter(t *testing.T) {
	raw := "From: a@b.example\r\nBCC: canary\r\nUser-Agent: canary\r\nreceived: canary\r\nReturn-Path: <canary>\r\nX-Originating-IP: canary\r\nX-Mailer: canary\r\n" +
		"Subject: plans\r\nX-Postern-Sender: canary\r\nx-katzenpost-anything: canary\r\n folded canary\r\n\r\nbody\r\n"
	header, off, err := Letter([]byte(raw), written)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(header)+raw[off:], "Received: by localhost; date\r\nFrom: a@b.example\r\nSubject: plans\r\nMessage-ID: <new@id>\r\nDate: Thu, 5 Nov 2026 10:20:30 +0000\r\n\r\nbody\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for date, want := range map[string]string{"Thu, 5 Nov 2026 18:20:07 +0900": "Thu, 5 Nov 2026 09:20:07 +0000", "5 Nov 2026 11:20 +0100 (CET)": "Thu, 5 Nov 2026 10:20:00 +0000",
		"Thu, 5 Nov 2026\r\n 02:20:07 PDT": "Thu, 5 Nov 2026 09:20:07 +0000", "then (+0900)": "Thu, 5 Nov 2026 10:20:30 +0000"} {
		header, _, err = Letter([]byte("From: a@b.example\r\nDate: "+date+"\r\n\r\n"), written)
		if want := "Received: by localhost; date\r\nFrom: a@b.example\r\nDate: " + want + "\r\nMessage-ID: <new@id>\r\n\r\n"; err != nil || string(header) != want {
			t.Errorf("%q: %q, want %q; %v", date, header, want, err)
		}
	}
	raw = "From: a@b.example\r\nDATE: Thu, 1 Jan 2026 00:00:00 +0000\r\nmessage-id: <old@id>\r\nX-Katzenpost-Unreliable:\r\n\r\n"
	header, _, err = Letter([]byte(raw), written)
	if got, want := string(header), "Received: by localhost; date\r\nFrom: a@b.example\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nmessage-id: <old@id>\r\n\r\n"; err != nil || got != want {
		t.Errorf("%q, want %q; %v", got, want, err)
	}
}

// TestLetterLimits: a header that would get stuck later is refused at once.
func TestLetterLimits(t *testing.T) {
	for raw, kind := range map[string]errs.Kind{
		"no header\r\n\r\n": errs.Invalid,
		strings.Repeat("X: y\r\n", mail.MaxFields-roomFields+1) + "\r\n":             errs.TooLarge,
		"X: " + strings.Repeat("y", mail.MaxHeaderBytes-roomBytes) + "\r\n" + "\r\n": errs.TooLarge,
	} {
		if _, _, err := Letter([]byte(raw), LetterFields{}); errs.KindOf(err) != kind {
			t.Errorf("%.20q: %v", raw, err)
		}
	}
	if _, _, _, err := Arrival([]byte("no header\r\n\r\n"), "x"); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
}

// TestArrival: the word about the sender is ours alone.
func TestArrival(t *testing.T) {
	for raw, forged := range map[string]bool{
		"From: a@b.example\r\n\r\nbody\r\n": false,
		"X-Postern-Sender: boss\r\nFrom: a@b.example\r\nx-katzenpost-sender: boss\r\n boss\r\n\r\nbody\r\n": true,
		"From: a@b.example\r\nX-Katzenpost-Unreliable: boss\r\n\r\nbody\r\n":                                true,
	} {
		header, off, got, err := Arrival([]byte(raw), "a@b.example; verified\r\nX: smuggled")
		if err != nil || got != forged {
			t.Error(got, err)
		}
		want := "X-Postern-Sender: a@b.example; verified  X: smuggled\r\nX-Katzenpost-Sender: a@b.example; verified  X: smuggled\r\nFrom: a@b.example\r\n\r\nbody\r\n"
		if text := string(header) + raw[off:]; text != want {
			t.Errorf("%q", text)
		}
	}
}

// FuzzLetter: whatever a mail holds, what comes out is a header again, without what must leave, and
// what is behind it stays.
func FuzzLetter(f *testing.F) {
	f.Add([]byte("From: a@b.example\r\nX-Postern-Sender: x\r\n folded\r\n\r\nbody"))
	f.Add([]byte("X-Katzenpost-Unreliable\t: 1\nBcc: x\n\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		check := func(header []byte, off int, err error, only string) {
			if err != nil {
				return
			}
			h, end, err := mail.ParseHeader(header)
			if err != nil || end != len(header) || off > len(raw) {
				t.Fatalf("%q: %v", header, err)
			}
			for _, f := range h.Fields() {
				if isReserved(f) && f.Name != only && f.Name != OldSenderField || only == "" && strings.EqualFold(f.Name, "Bcc") {
					t.Fatalf("%q", header)
				}
			}
		}
		header, off, err := Letter(raw, written)
		check(header, off, err, "")
		header, off, _, err = Arrival(raw, "x")
		check(header, off, err, SenderField)
	})
}

// TestArrivalForAlias: mail for an alias stays as it came, behind the word of the proxy and the fields of the relay,
// which are read back; what a sender imitates of them is taken out and told.
func TestArrivalForAlias(t *testing.T) {
	f := AliasFields{ReturnPath: addr(t, "b@shop.example"), Alias: addr(t, "fox@mail.example"), Sender: SenderFirst, Vouched: "dkim:shop.example", KeyName: "s._domainkey.shop.example", KeyRecord: "v=DKIM1; p=AAAA"}
	fields, err := Alias(f)
	if err != nil {
		t.Fatal(err)
	}
	const plain = "DKIM-Signature: v=1;\r\n b=x\r\nReceived: from y\r\nFrom: <bob@shop.example>\r\n\r\nX-Postern-Sender: no field\r\n"
	front, raw, forged, err := ArrivalForAlias([]byte(string(fields)+plain), "mail.example; world")
	if err != nil || forged || string(raw) != plain || string(front) != "X-Postern-Sender: mail.example; world\r\nX-Katzenpost-Sender: mail.example; world\r\n"+string(fields) {
		t.Errorf("%q, %q, %v, %v", front, raw, forged, err)
	}
	got, back, ok := ReadAlias(append(front, raw...))
	if !ok || got != f || string(back) != plain {
		t.Errorf("%+v, %v", got, ok)
	}
	const imitated = "X-Postern-Sender: boss; verified\r\nx-katzenpost-else: boss\r\nX-Postern-Alias: fox@mail.example; sender=expected; vouched=login\r\n"
	front, raw, forged, err = ArrivalForAlias([]byte(string(fields)+imitated+plain), "mail.example; world")
	if err != nil || !forged || string(raw) != plain {
		t.Errorf("%q, %v, %v", raw, forged, err)
	}
	if got, _, ok := ReadAlias(append(front, raw...)); !ok || got != f {
		t.Errorf("%+v, %v", got, ok)
	}
	// Nothing in front, nothing of the relay's, and what only a proxy writes.
	for _, bad := range []string{plain, "Return-Path: <>\r\n" + plain, "X-Postern-Sender: boss\r\n" + string(fields) + plain, string(fields) + "no header\r\n\r\n", ""} {
		if _, _, _, err := ArrivalForAlias([]byte(bad), "x"); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%.60q: %v", bad, err)
		}
	}
}
