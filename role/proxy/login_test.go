package proxy

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern.email/agent/mixsubmit"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/client"
	"postern.email/post/account"
)

// TestNoPassword: until an account has a password every door refuses it, with the command to type;
// afterwards it lets it in, by the whole address and by the name alone, with that password and no
// other.
func TestNoPassword(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one).register(t)
	s := c.start(t, nil)
	// doors are the answers to a login.
	doors := func(name, password string) map[string]string {
		out := map[string]string{}
		x := reach(t, s.at("SMTPAddress"))
		x.smtp(t, "")
		x.smtp(t, "EHLO x")
		out["smtp"], _ = x.smtp(t, "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+name+"\x00"+password)))
		p := reach(t, s.at("POP3Address"))
		p.line(t)
		fmt.Fprintf(p, "USER %s\r\nPASS %s\r\n", name, password)
		p.line(t)
		out["pop3"] = p.line(t)
		fmt.Fprint(p, "QUIT\r\n") // it gives the mailbox back
		io.Copy(io.Discard, p)
		i := reach(t, s.at("IMAPAddress"))
		i.line(t)
		fmt.Fprintf(i, "a LOGIN %q %q\r\n", name, password)
		out["imap"] = i.line(t)
		return out
	}
	for door, said := range doors("anna@"+one, "anything") {
		if !strings.Contains(said, "postern proxy passwd USER") {
			t.Errorf("%s: %s", door, said)
		}
	}
	passwords(t, s)
	in := map[string]string{"smtp": "235", "pop3": "+OK", "imap": "a OK"}
	for name, ok := range map[string]bool{"anna@" + one: true, "anna": true, "ANNA@" + strings.ToUpper(one): true, "berta@" + one: false, "berta": false} {
		for door, said := range doors(name, localPassword) {
			if strings.HasPrefix(said, in[door]) != ok {
				t.Errorf("%s: %s: %s", name, door, said)
			}
		}
	}
	for door, said := range doors("anna@"+one, "wrong") {
		if strings.HasPrefix(said, in[door]) || strings.Contains(said, "passwd") {
			t.Errorf("%s: %s", door, said)
		}
	}
}

// TestPasswd: the first password needs no other; later ones need the old one, since the mail is
// sealed with it, or give the mail up.
func TestPasswd(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one, "anna@"+two)
	cfg := c.load(t)
	st, err := HasPassword(t.Context(), Deps{}, cfg, "anna@"+one)
	if err != nil || st.Password {
		t.Errorf("%+v, %v", st, err)
	}
	_, err = SetPassword(t.Context(), Deps{}, cfg, PasswordArgs{Account: "anna", Password: localPassword})
	refused(t, err, errs.NotFound, "several accounts have this name")
	_, err = SetPassword(t.Context(), Deps{}, cfg, PasswordArgs{Account: "anna@" + one, Password: localPassword})
	must(t, err)
	s := c.start(t, nil)
	to, err := s.accounts.Resolve(t.Context(), s.users[0].Address)
	must(t, err)
	must(t, s.deliver.Local(t.Context(), mail.Address{}, []account.Account{to}, []byte(letterFrom("x@y.example", "anna@"+one, "kept", "text"))))
	_, err = s.passwd(t.Context(), PasswordArgs{Account: "anna@" + one, Password: "other"})
	refused(t, err, errs.Exists, "the old one is needed")
	_, err = s.passwd(t.Context(), PasswordArgs{Account: "anna@" + one, Old: "wrong", Password: "other"})
	refused(t, err, errs.Auth, "old password is wrong")
	_, err = s.passwd(t.Context(), PasswordArgs{Account: "anna@" + one, Old: localPassword, Password: "other"})
	must(t, err)
	_, err = s.passwd(t.Context(), PasswordArgs{Account: "anna@" + one, Old: "other", Password: localPassword})
	must(t, err)
	if m := pop3Mails(t, s, "anna@"+one); len(m) != 1 || !strings.Contains(m[0], "Subject: kept") {
		t.Errorf("%q", m)
	}
	_, err = s.passwd(t.Context(), PasswordArgs{Account: "anna@" + one, Forget: true, Password: localPassword})
	must(t, err)
	if m := pop3Mails(t, s, "anna@"+one); len(m) != 0 {
		t.Errorf("%q", m)
	}
	_, err = HasPassword(t.Context(), Deps{}, cfg, "anna@"+one)
	refused(t, err, errs.Exists, "in use by process")
	_, err = s.passwd(t.Context(), PasswordArgs{Account: "nobody", Password: "x"})
	refused(t, err, errs.NotFound, "no such account")
}

// TestRegisterErrors: what the relay refuses comes to the user, and nothing is registered.
func TestRegisterErrors(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one)
	cfg := c.load(t)
	a, err := cfg.Accounts()
	must(t, err)
	_, err = Register(t.Context(), Deps{}, cfg, a[0], "wrong", "")
	refused(t, err, errs.Auth, "the relay refused: name or password is wrong")
	if Registered(Deps{}, cfg, a[0]) {
		t.Error("it is registered")
	}
	s := c.start(t, nil)
	if st := s.Status().Lines[0]; st.Registered || !strings.Contains(st.Problem, "postern proxy -f FILE -r") || !strings.Contains(strings.Join(st.Words(), " "), "Not registered") {
		t.Errorf("%+v", st)
	}
	if l := submitterWith(t, s); !strings.HasPrefix(l, "5") {
		t.Errorf("mail is taken: %s", l)
	}
	// A proxy that runs takes it up by itself.
	r, err := Register(t.Context(), Deps{}, cfg, a[0], "relay password", "an invite")
	must(t, err)
	if r.Network != "small-net" || len(r.LinkKey) != 64 || c.relays.seen[0]["invite"] != "an invite" || c.relays.seen[0]["publish"] != true {
		t.Errorf("%+v, %v", r, c.relays.seen)
	}
	until(t, "the account is there", func() bool { return s.Status().Lines[0].Registered })
	if !Registered(Deps{}, cfg, a[0]) {
		t.Error("it is not registered")
	}
}

// submitterWith tries to hand in a mail of an account that has a password.
func submitterWith(t *testing.T, s *Server) string {
	t.Helper()
	passwords(t, s)
	l, _ := submitter(t, s, s.users[0].Address.String()).smtp(t, "MAIL FROM:<%s>", s.users[0].Address)
	return l
}

// TestPage: who knows the address of the page sees how the proxy stands, without scripts, and can
// change nothing; nobody else sees anything. The address stays the same after a restart.
func TestPage(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one).register(t)
	s := c.start(t, nil)
	page := s.Info().Page
	get := func(method, url string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		must(t, err)
		tr := &http.Transport{DisableKeepAlives: true}
		res, err := tr.RoundTrip(req)
		must(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		must(t, err)
		return res.StatusCode, string(b), res.Header
	}
	code, text, h := get("GET", page)
	for _, want := range []string{"anna@" + one, "Not connected to its relay", "It has no password", "width=device-width", s.at("SMTPAddress"), "0 known."} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if code != 200 || strings.Contains(text, "<script") || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("%d, %v", code, h)
	}
	base := "http://" + s.at("PageAddress")
	for _, path := range []string{"/", "/status", "/" + strings.Repeat("0", 32) + "/", strings.TrimSuffix(strings.TrimPrefix(page, base), "/")} {
		if code, text, _ := get("GET", base+path); code != 404 || strings.Contains(text, "anna") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if code, _, h := get("POST", page); code != 405 || h.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", code)
	}
	secret := page[len(base):]
	must(t, s.Close())
	if again := c.start(t, nil).Info().Page; !strings.HasSuffix(again, secret) {
		t.Errorf("%s, then %s", page, again)
	}
}

// TestWords: what waits, when it arrives and what protects, in sentences.
func TestWords(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	a := AccountStatus{Address: "anna@one.example", Registered: true, Password: true, Connected: true, Send: 100, Leave: 60, Fetch: 50, Cover: 1, LoopsBack: 9, LoopsLost: 1, Notes: []string{"A note."}}
	to := mail.Address{Local: "b", Domain: "two.example"}
	a.mails([]mixsubmit.Waiting{{To: []mail.Address{to}, Created: now, Why: "the recipient's key is being looked up"}, {To: []mail.Address{to, to}, Created: now, Names: []string{"x", "y"}},
		{To: []mail.Address{to}, Created: now, Names: []string{"z"}}}, []client.Progress{
		{Name: "x", Packets: 3, Sent: 1, Expect: client.Forecast{Mean: 7 * time.Hour, P95: 9 * time.Hour}}, {Name: "y", Packets: 2, Sent: 2, Acked: 1, Expect: client.Forecast{Mean: time.Minute, P95: 2 * time.Minute}},
		{Name: "z", Packets: 1, Sent: 1}, {Name: "old", Packets: 1, Result: client.Delivered, Ended: now}})
	got := strings.Join(a.Words(), "\n")
	for _, want := range []string{"Connected to its relay.", "A note.", "3 mails wait to be sent:", "b@two.example: not on its way yet (the recipient's key is being looked up)",
		"b@two.example, b@two.example: 3 of 5 packets sent, 1 acknowledged; arrives in about 7 h, most likely within 9 h", "b@two.example: 1 of 1 packet sent, 0 acknowledged; its arrival is not confirmed yet",
		"a packet leaves, about every 60 s, and one comes, about every 50 s", "1 packet of cover since the start.", "9 of 10 came back"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	a.Refused = []Refused{{To: "x@world.example", Status: "5.1.1", Sent: now, Told: now}}
	if got := strings.Join(a.Words(), "\n"); !strings.Contains(got, "1 recipient outside of the network did not get a mail of the last days, as reports in the INBOX say:\n  x@world.example: refused (5.1.1); sent on 2026-11-26 12:00 UTC\n") {
		t.Errorf("of mail that came back:\n%s", got)
	}
	a.Refused = append(a.Refused, Refused{To: "y@world.example", Sent: now})
	if got := strings.Join(a.Words(), "\n"); !strings.Contains(got, "2 recipients outside") || !strings.Contains(got, "  y@world.example: refused; sent") {
		t.Errorf("of mail that came back:\n%s", got)
	}
	if len(a.Ended) != 1 || a.Ended[0].Result != "delivered" {
		t.Errorf("%+v", a.Ended)
	}
	off := AccountStatus{Address: "anna@one.example", Registered: true, Problem: "the relay cannot be reached", Directory: "it is too old", Expired: true, Until: now}
	got = strings.Join(off.Words(), "\n")
	for _, want := range []string{"Not connected to its relay. What is handed in waits on this disk", "Problem: the relay cannot be reached.", "postern proxy passwd anna@one.example", "No mail waits", "sees that this proxy is off line",
		"The directory of the network is not known now, so that nothing can be sent: it is too old.", "Until 2026-11-26 the relay vouched for the keys"} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	for d, want := range map[time.Duration]string{0: "1 s", 900 * time.Millisecond: "1 s", 90 * time.Second: "90 s", 90 * time.Minute: "90 min", 40 * time.Hour: "40 h", 75 * time.Hour: "3 days"} {
		if s := span(d); s != want {
			t.Errorf("%v: %s, want %s", d, s, want)
		}
	}
}

// TestShutdownOverSocket: SHUTDOWN, once or twice, asks for the end.
func TestShutdownOverSocket(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one)
	s := c.start(t, nil)
	recipients{s}.Shutdown()
	recipients{s}.Shutdown()
	select {
	case <-s.Asked():
	case <-time.After(time.Minute):
		t.Fatal("nobody was told")
	}
}
