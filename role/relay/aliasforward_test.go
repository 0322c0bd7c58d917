package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"postern.email/agent/aliases"
	"postern.email/agent/forward"
	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/wire/smtp"
)

// forwarding is a relay with an alias whose owner's mailbox, at a host elsewhere, has agreed.
type forwarding struct {
	t     *testing.T
	s     *Server
	world *peer // all other hosts
	al    *alias.Alias
}

const elsewhereAddr = "anna@home.example"

func newForwarding(t *testing.T, set ...string) *forwarding {
	t.Helper()
	f := &forwarding{t: t, world: newPeer(t, "mx.other.example", nil)}
	f.s = inMemory(t, append([]string{"aliases.forward=true", fmt.Sprintf("delivery.routes=* host=%s smtp=%s https=off tls=any", f.world.host, f.world.port)}, set...)...)
	token, err := f.s.alias.desk.NewOwner(t.Context(), aliases.Who{}, elsewhereAddr)
	if err != nil {
		t.Fatal(err)
	}
	v := makes(t, f.s, aliases.Who{Token: token}, aliases.CreateRequest{})
	m := regexp.MustCompile(forwardPath + "confirm/[a-z2-7]+").FindString(<-f.world.arrived)
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).PostForm("https://"+f.s.Info().HTTPS+m, url.Values{"do": {"yes"}})
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(m, err)
	}
	res.Body.Close()
	a, err := mail.ParseAddress(v.Address)
	if err == nil {
		f.al, err = f.s.alias.register.Lookup(t.Context(), a)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// forward sends a mail of the shop on, and gives it as the mailbox elsewhere gets it.
func (f *forwarding) forward(fields string) string {
	f.t.Helper()
	raw := fmt.Sprintf("From: <news@shop.example>\r\nTo: <%s>\r\nSubject: offers\r\n%sContent-Type: text/plain\r\n\r\nhello\r\n", f.al.Address, fields)
	err := f.s.alias.forward.Forward(f.t.Context(), forward.Mail{Alias: f.al, From: mail.Address{Local: "news", Domain: "shop.example"}, Raw: []byte(raw), Proof: []byte(raw)})
	if err != nil {
		f.t.Fatal(err)
	}
	return <-f.world.arrived
}

// answer answers a mail that was sent on, and gives the answer as the shop gets it.
func (f *forwarding) answer(to, body string) string {
	f.t.Helper()
	at, err := mail.ParseAddress(regexp.MustCompile(`re\.[a-z2-7]{42}@[a-z.]+`).FindString(to))
	if err != nil {
		f.t.Fatal(err)
	}
	target, err := mail.ParseAddress(elsewhereAddr)
	if err != nil {
		f.t.Fatal(err)
	}
	raw := fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: Re: offers\r\n%s", target, at, body)
	err = f.s.alias.forward.Take(f.t.Context(), forward.Incoming{To: []mail.Address{at}, From: target, Raw: []byte(raw), Vouched: func(context.Context) (bool, error) { return true, nil }})
	if err != nil {
		f.t.Fatal(err)
	}
	return <-f.world.arrived
}

// aliasForwardEffects are the effects of the options about mail that is sent on, on what others get.
func aliasForwardEffects() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"aliases.forward_unsubscribe": func(t *testing.T) {
			for value, want := range map[string]string{"keep": "List-Unsubscribe: <https://shop.example/u>", "block": "List-Unsubscribe: <https://example.org:", "drop": ""} {
				got := newForwarding(t, "aliases.forward_unsubscribe="+value).forward("List-Unsubscribe: <https://shop.example/u>\r\n")
				got = strings.ReplaceAll(got, "\r\n ", " ")
				if has := strings.Contains(got, "\r\nList-Unsubscribe: "); has != (want != "") || !strings.Contains(got, want) {
					t.Errorf("%s:\n%s", value, got)
				}
			}
		},
		"aliases.forward_keys": func(t *testing.T) {
			for value, want := range map[string]bool{"false": false, "true": true} {
				f := newForwarding(t, "aliases.forward_keys="+value)
				got := f.answer(f.forward(""), "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nyes\r\n--b\r\nContent-Type: application/pgp-keys\r\n\r\nTHE-KEY\r\n--b--\r\n")
				if strings.Contains(got, "THE-KEY") != want || !strings.Contains(got, "yes") || strings.Contains(got, "home.example") || !strings.Contains(got, "From: <"+f.al.Address.String()+">") {
					t.Errorf("%s:\n%s", value, got)
				}
			}
		},
	}
}

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
