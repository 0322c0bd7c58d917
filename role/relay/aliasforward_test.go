package relay

import (
	"strings"
	"testing"

	"postern.email/agent/aliases"
	"postern.email/agent/forward"
	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/wire/smtp"
)

// TestForwardHere: an answer as an alias to somebody of this relay passes the rules for what comes here: an
// account takes nothing in cleartext, an alias of class open-mail does.
func TestForwardHere(t *testing.T) {
	s := inMemory(t, "aliases.forward=true")
	w := annasAliases(t, s)
	open := makes(t, s, w, aliases.CreateRequest{})
	strict := makes(t, s, w, aliases.CreateRequest{Class: "strict"})
	const cleartext = "523 Encryption Needed: Invalid Unencrypted Mail"
	for to, want := range map[string]string{anna: cleartext, "nobody@example.org": "550 5.1.1 Recipient address rejected: User unknown", open.Address: "250", strict.Address: cleartext} {
		a, err := mail.ParseAddress(to)
		if err != nil {
			t.Fatal(err)
		}
		account, copy, err := s.forwardHere(t.Context(), []byte("From: <shop-1@example.org>\r\nTo: <"+to+">\r\nSubject: x\r\n\r\nhi\r\n"), a, []byte("name"))
		got := "250"
		if err != nil {
			got = smtp.ReplyFor(err).String()
		}
		if got != want || account != nil || (copy != nil) != (want == "250") {
			t.Errorf("%s: %s, want %s; %v", to, got, want, copy)
		}
	}
}

// TestTellAliasOwner: an owner with a mailbox here is told there; others are not, and nothing fails.
func TestTellAliasOwner(t *testing.T) {
	s := inMemory(t, "aliases.forward=true")
	allowed(t, login(s, anna, annas))
	a, err := s.accounts.Resolve(t.Context(), addr(annaAddr))
	if err != nil {
		t.Fatal(err)
	}
	n := forward.Note{Subject: "Mail is not sent on", Text: "for a while"}
	s.tellAliasOwner(t.Context(), alias.Owner{9}, n)
	s.tellAliasOwner(t.Context(), a.ID, n)
	if got := fetched(t, s, anna, annas); !strings.Contains(got, "Subject: Mail is not sent on") || !strings.Contains(got, "for a while") {
		t.Error(got)
	}
}

// TestAskTarget: a mailbox elsewhere is asked when it becomes an owner's, with a link to a page that is
// served here.
func TestAskTarget(t *testing.T) {
	s := inMemory(t, "aliases.forward=true")
	token, err := s.alias.desk.NewOwner(t.Context(), aliases.Who{}, "anna@home.example")
	if err != nil || token == "" {
		t.Fatal(err)
	}
	if st := s.queue.Stats(); st.Recipients != 1 {
		t.Errorf("%d mails wait", st.Recipients)
	}
	if u := s.forwardURL(); !strings.HasPrefix(u, "https://") || !strings.HasSuffix(u, forwardPath) {
		t.Error(u)
	}
	if u := inMemory(t, "aliases.forward=true", "listen.https=off", "listen.https_alt=off").forwardURL(); u != "" {
		t.Errorf("without pages: %s", u)
	}
}
