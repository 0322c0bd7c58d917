package sanitize

import (
	"bytes"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
)

func addr(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAlias: the mail stays behind our fields byte for byte, and they are read back.
func TestAlias(t *testing.T) {
	record := "v=DKIM1; k=rsa; p=" + strings.Repeat("MIIB/+ab", 60)
	raw := "DKIM-Signature: v=1;\r\n b=x\r\nReceived: from y\r\nX-Postern-Alias: other@mail.example; sender=expected; vouched=login\r\nFrom: <bob@shop.example>\r\n\r\nhi\r\n"
	for _, f := range []AliasFields{
		{ReturnPath: addr(t, "bounce@shop.example"), Alias: addr(t, "amber-falcon-4821@mail.example"), Sender: SenderFirst, Vouched: "dkim:shop.example", KeyName: "s1._domainkey.shop.example", KeyRecord: record},
		{Alias: addr(t, `"a; sender=expected"@mail.example`), Sender: SenderUnexpected, Vouched: "spf:shop.example"},
	} {
		front, err := Alias(f)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, ok := ReadAlias(append(front, raw...))
		if !ok || got != f || string(rest) != raw {
			t.Errorf("%+v, %v\n%s", got, ok, front)
		}
		for line := range strings.SplitSeq(string(front), "\r\n") {
			if len(line) > 998 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		h, _, err := mail.ParseHeader(append(front, raw...))
		if err != nil || h.Fields()[0].Name != "Return-Path" || h.Get(AliasField) != f.Alias.String()+"; sender="+f.Sender+"; vouched="+f.Vouched {
			t.Errorf("%v, %v", h.Get(AliasField), err)
		}
	}
	for name, f := range map[string]AliasFields{
		"word":    {Alias: addr(t, "a@b.example"), Sender: SenderFirst, Vouched: "dkim:x\r\nBcc: y"},
		"alias":   {Alias: mail.Address{Local: "a\nb", Domain: "b.example"}, Sender: SenderFirst},
		"no word": {Alias: addr(t, "a@b.example")},
	} {
		if _, err := Alias(f); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A key record that is no text of one line, or too long, is left out.
	for _, r := range []string{"v=DKIM1\r\nFrom: x", "v=DKIM1; p=\u00e4", strings.Repeat("a", MaxKeyRecord+1)} {
		front, err := Alias(AliasFields{Alias: addr(t, "a@b.example"), Sender: SenderFirst, KeyName: "s._domainkey.x", KeyRecord: r})
		if err != nil || bytes.Contains(front, []byte(KeyField)) {
			t.Errorf("%.20q: %v", r, err)
		}
	}
}

// TestForgedAlias: fields that a sender wrote are not taken for ours, and do not get into a mailbox.
func TestForgedAlias(t *testing.T) {
	forged := "X-Postern-DKIM-Key: s._domainkey.bank.example;\r\n v=DKIM1; p=AAAA\r\nX-Postern-Alias: me@mail.example; sender=expected; vouched=dkim:bank.example\r\nFrom: <eve@x.example>\r\n\r\nhi\r\n"
	if _, _, ok := ReadAlias([]byte(forged)); ok {
		t.Error("forged fields alone are taken")
	}
	front, err := Alias(AliasFields{Alias: addr(t, "me@mail.example"), Sender: SenderUnexpected, Vouched: "spf:x.example"})
	if err != nil {
		t.Fatal(err)
	}
	f, raw, ok := ReadAlias(append(front, forged...))
	if !ok || f.KeyName != "" || f.Sender != SenderUnexpected || string(raw) != forged {
		t.Errorf("%+v", f)
	}
	header, _, err := Delivery([]byte(strings.ReplaceAll(forged, "X-Postern", "x-postern")), mail.Address{})
	if err != nil || bytes.Contains(bytes.ToLower(header), []byte("x-postern")) {
		t.Errorf("%s, %v", header, err)
	}
}

// FuzzReadAlias: whatever is read was written by Alias, or could have been.
func FuzzReadAlias(f *testing.F) {
	front, _ := Alias(AliasFields{Alias: mail.Address{Local: "a", Domain: "b.example"}, Sender: SenderFirst, Vouched: "login", KeyName: "s._domainkey.x", KeyRecord: "v=DKIM1; p=x"})
	f.Add(append(front, "From: x\r\n\r\n"...))
	f.Add([]byte("Return-Path: <>\r\nX-Postern-Alias: a@b; sender=x; vouched=y\r\n"))
	f.Add([]byte("Return-Path: <>\r\nX-Postern-DKIM-Key: k;\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, raw, ok := ReadAlias(b)
		if ok && !bytes.HasSuffix(b, raw) {
			t.Error("what stands behind is not the end of it")
		}
		if again, err := Alias(got); ok && err == nil {
			if second, _, ok := ReadAlias(append(again, raw...)); !ok || second.Alias != got.Alias || second.Sender != got.Sender || second.Vouched != got.Vouched {
				t.Errorf("%+v, then %+v", got, second)
			}
		}
	})
}
