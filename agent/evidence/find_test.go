package evidence

import (
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/sanitize"
	"postern.email/post/mailbox"
)

// TestFind: the two mails are looked for in all folders, by what the relay said of them and no older
// than evidence is kept; signed ones go before others.
func TestFind(t *testing.T) {
	o := agenttest.Open(t, "mail.example", nil, "/data")
	o.Create("anna", nil)
	s := o.Login("anna")
	defer s.Close()
	box := o.Boxes.Account(s.Key, s.Quota)
	search := func(set func(*Search)) (string, string, error) {
		q := Search{Alias: own, Now: o.Clock.Now()}
		if set != nil {
			set(&q)
		}
		e, x, err := Find(t.Context(), box, q)
		return subject(e.Raw), subject(x.Raw), err
	}
	put := func(folder uint32, name, sender, signer, from string) {
		t.Helper()
		raw := stored(t, sender, signer, "From: <"+from+">\r\n"+strings.Replace(plain, "hello", name, 1)).Raw
		if _, _, err := box.Append(t.Context(), folder, mailbox.Message{Raw: raw, Date: o.Clock.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	other, err := box.CreateFolder(t.Context(), "Shops", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OfMailbox(t.Context(), box, Search{Alias: own, Now: o.Clock.Now()}, nil); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
	put(mailbox.Inbox, "too old", sanitize.SenderFirst, "shop.example", "a@shop.example")
	o.Clock.Add(DefaultWithin)
	o.Clock.Add(time.Hour)
	// A mail that its sender made look like one of ours is none: Return-Path stands on top of what is delivered.
	o.Deliver("anna", "X-Postern-Alias: "+own.String()+"; sender=first; vouched=login\r\nFrom: <a@shop.example>\r\nSubject: forged\r\n\r\nx\r\n")
	if _, _, err := search(nil); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "of whom the alias was given to") {
		t.Error(err)
	}
	put(mailbox.Inbox, "unsigned first", sanitize.SenderFirst, "", "a@shop.example")
	o.Clock.Add(time.Minute)
	put(other.Box, "signed first", sanitize.SenderFirst, "shop.example", "a@shop.example")
	o.Clock.Add(time.Minute)
	put(mailbox.Inbox, "later", sanitize.SenderExpected, "shop.example", "a@shop.example")
	if _, _, err := search(nil); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "of a stranger") {
		t.Error(err)
	}
	put(mailbox.Inbox, "spam", sanitize.SenderUnexpected, "spam.example", "x@spam.example")
	o.Clock.Add(time.Minute)
	put(mailbox.Inbox, "more spam", sanitize.SenderUnexpected, "more.example", "x@more.example")
	o.Clock.Add(time.Minute)
	put(mailbox.Inbox, "unsigned spam", sanitize.SenderUnexpected, "", "x@last.example")
	for name, c := range map[string]struct {
		set      func(*Search)
		stranger string
	}{
		"the last":     {nil, "more spam"},
		"of one":       {func(q *Search) { q.Stranger = mail.Address{Local: "X", Domain: "spam.example"} }, "spam"},
		"not the site": {func(q *Search) { q.Site = "www.more.example" }, "spam"},
		"another site": {func(q *Search) { q.Site = "shop.example" }, "more spam"},
		"of unsigned":  {func(q *Search) { q.Stranger = mail.Address{Local: "x", Domain: "last.example"} }, "unsigned spam"},
	} {
		e, x, err := search(c.set)
		if err != nil || e != "signed first" || x != c.stranger {
			t.Errorf("%s: %q, %q, %v", name, e, x, err)
		}
	}
	if _, _, err := search(func(q *Search) {
		q.Stranger, q.Site = mail.Address{Local: "x", Domain: "last.example"}, "shop.last.example"
	}); errs.KindOf(err) != errs.NotFound {
		t.Errorf("the site accused of itself: %v", err)
	}
	if _, _, err := search(func(q *Search) { q.Alias.Local = "other" }); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
	b, err := OfMailbox(t.Context(), box, Search{Alias: own, Now: o.Clock.Now()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if r := Verify(t.Context(), f, agenttest.SigningKeys); !r.Holds || r.Stranger.Domain != "more.example" {
		t.Errorf("%+v", r)
	}
}

func subject(raw []byte) string {
	h, _, _ := mail.ParseHeader(raw)
	return h.Get("Subject")
}
