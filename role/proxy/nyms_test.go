package proxy

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
)

// TestReplyAddresses: a mail that goes without its sender's name makes a reply address, and waits for its relay to
// have reply blocks; the commands, the status and the page show it; forgetting it gives the mail back.
func TestReplyAddresses(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one, "berta@"+two).register(t)
	s := c.start(t, nil)
	passwords(t, s)
	sub := submitter(t, s, "anna@"+one)
	l := sub.send(t, "anna@"+one, "berta@"+two, "X-Postern-Anonymous: Fox\r\n"+letterFrom("anna@"+one, "berta@"+two, "first", "hello"))
	if !strings.HasPrefix(l, "250 2.0.0 queued anonymously, arrives in ") || !strings.HasSuffix(l, "once its reply address has reply blocks; answers reach you as long as this proxy is on line at least once every 48 hours") {
		t.Fatal(l)
	}
	list, err := s.listNyms(t.Context(), NymArgs{})
	must(t, err)
	if len(list) != 1 || list[0].Account != "anna@"+one || list[0].Name != "Fox" || list[0].Blocks != 0 || list[0].Made.IsZero() || !list[0].Until.IsZero() {
		t.Fatalf("%+v", list)
	}
	fox := list[0].Address
	if a, err := mail.ParseAddress(fox); err != nil || a.Domain != one {
		t.Errorf("%s %v", fox, err)
	} else if _, ok := anon.ReplyName(a); !ok {
		t.Error(fox)
	}
	var st Status
	until(t, "the status says what is waited for", func() bool {
		st = s.Status()
		return len(st.Lines[0].Waiting) == 1 && strings.Contains(st.Lines[0].Waiting[0].Why, "its reply address is being fed")
	})
	if len(st.Lines[0].ReplyAddresses) != 1 || len(st.Lines[1].ReplyAddresses) != 0 {
		t.Errorf("%+v", st.Lines)
	}
	const words = "it is not ready yet; mail that names it waits until its relay has reply blocks."
	if all := strings.Join(st.Lines[0].Words(), "\n"); !strings.Contains(all, "Reply address Fox <"+fox+">: "+words) {
		t.Error(all)
	}
	res, err := http.Get(s.pageURL())
	must(t, err)
	page, err := io.ReadAll(res.Body)
	res.Body.Close()
	must(t, err)
	if !strings.Contains(string(page), fox) || !strings.Contains(string(page), words) {
		t.Errorf("%s", page)
	}

	// Its owner alone sends with it, and it is the address of a mail program's identity.
	if l, _ := submitter(t, s, "berta@"+two).smtp(t, "MAIL FROM:<%s>", fox); !strings.HasPrefix(l, "553 5.7.1") {
		t.Error(l)
	}
	if l, _ := submitter(t, s, "anna@"+one).smtp(t, "MAIL FROM:<%s>", fox); !strings.HasPrefix(l, "250") {
		t.Error(l)
	}

	again, err := s.makeNym(t.Context(), NymArgs{Account: "anna@" + one, Name: "Fox"})
	if err != nil || again.Address != fox {
		t.Errorf("%+v %v", again, err)
	}
	other, err := s.makeNym(t.Context(), NymArgs{Account: "anna@" + one, Name: "Owl"})
	if err != nil || other.Address == fox {
		t.Errorf("%+v %v", other, err)
	}
	_, err = s.makeNym(t.Context(), NymArgs{Name: "Fox"})
	refused(t, err, errs.Invalid, "several accounts")
	_, err = s.makeNym(t.Context(), NymArgs{Account: "nobody", Name: "Fox"})
	refused(t, err, errs.NotFound, "no such account")
	if gone, err := s.forgetNym(t.Context(), NymArgs{Account: "anna@" + one, Name: fox}); err != nil || gone.Name != "Fox" {
		t.Errorf("%+v %v", gone, err)
	}
	_, err = s.forgetNym(t.Context(), NymArgs{Account: "anna@" + one, Name: "Fox"})
	refused(t, err, errs.NotFound, "no such reply address")
	s.mail.out.Fed(mail.Address{Local: "anna", Domain: one}) // has the mail looked at
	until(t, "the mail is given back", func() bool {
		all := pop3Mails(t, s, "anna@"+one)
		return len(all) == 1 && strings.Contains(strings.Join(strings.Fields(all[0]), " "), "its reply address was given up; with X-Postern-Reply: no a mail goes without one")
	})

	// After a restart they are there.
	must(t, s.Close())
	s = c.start(t, nil)
	if list, err := s.listNyms(t.Context(), NymArgs{Account: "anna@" + one}); err != nil || len(list) != 1 || list[0].Address != other.Address {
		t.Errorf("%+v %v", list, err)
	}
}

// TestNotRegistered: an account that is not registered says so, to mail programs and to who wants a reply address.
func TestNotRegistered(t *testing.T) {
	s := newSetup(t, newRelays(t), "anna@"+one).start(t, nil)
	passwords(t, s)
	if l, _ := submitter(t, s, "anna@"+one).smtp(t, "MAIL FROM:<anna@%s>", one); !strings.HasPrefix(l, "550 5.7.1 this account is not registered with its relay") {
		t.Error(l)
	}
	_, err := s.makeNym(t.Context(), NymArgs{Name: "Fox"})
	refused(t, err, errs.Unavailable, "is not registered")
	if list, err := s.listNyms(t.Context(), NymArgs{}); err != nil || len(list) != 0 {
		t.Errorf("%+v %v", list, err)
	}
}

// TestReplyWords: until when answers reach an address, and what keeps it alive, is said.
func TestReplyWords(t *testing.T) {
	at := time.Date(2026, 11, 29, 8, 30, 0, 0, time.UTC)
	for want, r := range map[string]ReplyAddress{
		"answers reach it until 2026-11-29 08:30 UTC, and for as long as this proxy is on line at least once every 48 hours; its relay has 27 reply blocks.": {Blocks: 27, Until: at, Fed: at},
		"its relay has no reply blocks left, so that answers are put off until it is fed. It is being fed now.":                                              {Until: at, Fed: at, Feeding: true},
		"no answers reach it: this proxy was off line for too long, and its reply blocks have expired. It lives again when it is fed.":                       {Fed: at},
		"it is not ready yet; mail that names it waits until its relay has reply blocks. It could not be fed: the relay takes no reply blocks now.":          {Problem: "the relay takes no reply blocks now"},
	} {
		r.Name, r.Address = "Fox", "reply.x@one.example"
		if got := r.Words(); got != "Reply address Fox <reply.x@one.example>: "+want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if r := (&ReplyAddress{Address: "reply.x@one.example"}); !strings.HasPrefix(r.Words(), "Reply address <reply.x@one.example>: ") {
		t.Error(r.Words())
	}
}
