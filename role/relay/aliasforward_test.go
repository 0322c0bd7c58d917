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
	"time"

	"postern.email/agent/aliases"
	"postern.email/agent/forward"
	kitday "postern.email/kit/day"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mail/verp"
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

// returned lets n mails for the alias come back with a status, and says in which state the mailbox is then, and
// how long a pause lasts, in hours.
func (f *forwarding) returned(status string, n int) (state string, hours int) {
	f.t.Helper()
	key := f.s.root.ForwardKey()
	codes, err := verp.New(&key)
	if err != nil {
		f.t.Fatal(err)
	}
	r := verp.Return{Kind: verp.Forwarded, Day: uint16(kitday.Of(time.Now()))}
	copy(r.Ref[:], f.al.Owner[:])
	local, err := codes.Return(f.al.Address.Domain, r)
	if err != nil {
		f.t.Fatal(err)
	}
	for range n {
		f.s.alias.forward.Returned(f.t.Context(), dsn.Report{To: mail.Address{Local: local, Domain: f.al.Address.Domain},
			Recipients: []dsn.Recipient{{Action: dsn.Failed, Status: status}}})
	}
	st, err := f.s.alias.forward.State(f.t.Context(), f.al.Owner)
	if err != nil {
		f.t.Fatal(err)
	}
	if st.Until != "" {
		until, err := time.Parse(time.RFC3339, st.Until)
		if err != nil {
			f.t.Fatal(err)
		}
		hours = int(time.Until(until).Round(time.Hour) / time.Hour)
	}
	return st.State, hours
}

// ladder is the effect of an option about what comes back: with value, n mails with a status lead to a pause of so
// many hours; by default as many lead to none.
func ladder(option, value, status string, n, hours int) func(*testing.T) {
	return func(t *testing.T) {
		f := newForwarding(t, "aliases."+option+"="+value)
		if n > 1 {
			if state, _ := f.returned(status, n-1); state != "agreed" {
				t.Errorf("after %d: %s", n-1, state)
			}
		}
		if state, got := f.returned(status, 1); state != "paused" || got != hours {
			t.Errorf("%s for %d hours, want %d", state, got, hours)
		}
		if state, _ := newForwarding(t).returned(status, n); state != "agreed" {
			t.Errorf("by default: %s", state)
		}
	}
}

// pause is the effect of an option about how long one is.
func pause(option, value, status string, n int, byDefault, hours int) func(*testing.T) {
	return func(t *testing.T) {
		for value, want := range map[string]int{"": byDefault, value: hours} {
			var set []string
			if value != "" {
				set = []string{"aliases." + option + "=" + value}
			}
			if state, got := newForwarding(t, set...).returned(status, n); state != "paused" || got != want {
				t.Errorf("%q: %s for %d hours, want %d", value, state, got, want)
			}
		}
	}
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
		"aliases.forward_hard_bounces":     ladder("forward_hard_bounces", "2", "5.1.1", 2, 30*24),
		"aliases.forward_bounces_per_day":  ladder("forward_bounces_per_day", "2", "5.2.2", 2, 24),
		"aliases.forward_bounces_per_week": ladder("forward_bounces_per_week", "2", "5.2.2", 2, 30*24),
		"aliases.forward_bad_days":         ladder("forward_bad_days", "1", "5.2.2", 1, 30*24),
		"aliases.forward_short_pause":      pause("forward_short_pause", "5h", "5.2.2", 12, 24, 5),
		"aliases.forward_long_pause":       pause("forward_long_pause", "3d", "5.1.1", 3, 30*24, 3*24),
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
