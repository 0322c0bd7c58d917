package relay

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"postern.email/agent/aliases"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/mail/aliasname"
	"postern.email/post/account"
)

// aliasKind fails the test unless err is of a kind.
func aliasKind(t *testing.T, err error, kind errs.Kind, text string) {
	t.Helper()
	if errs.KindOf(err) != kind || err == nil || !strings.Contains(errs.Public(err), text) {
		t.Errorf("%v, want %v with %q", err, kind, text)
	}
}

// annasAliases makes anna's account, and says who she is to the desk.
func annasAliases(t *testing.T, s *Server) aliases.Who {
	t.Helper()
	allowed(t, login(s, anna, annas))
	return aliases.Who{Login: anna, Password: annas}
}

// makes makes an alias.
func makes(t *testing.T, s *Server, w aliases.Who, r aliases.CreateRequest) aliases.View {
	t.Helper()
	v, err := s.alias.desk.Create(t.Context(), w, r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// getPage asks for a page over HTTPS; origin "": none is named.
func getPage(t *testing.T, s *Server, path, origin string) *http.Response {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.Info().HTTPS+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	res, err := (&http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

func peerAt(ip string) limits.Peer { return limits.Peer{Addr: netip.MustParseAddr(ip)} }

// tries wants the answers to addresses of the derived form: the first is unknown, and beyond
// the limit none is looked at.
func triesOfAliases(option, other string) func(*testing.T) {
	return func(t *testing.T) {
		var key [32]byte
		at := func(n uint32) string { return aliasname.Derive(&key, "example.org", "shop", n) + "@example.org" }
		ask := func(s *Server, network string) (later bool) {
			c := exchange(t, s, network)
			says(t, c, "MAIL FROM:<a@shop.example>", "250")
			for n := range uint32(8) {
				reply, err := c.smtp("RCPT TO:<%s>", at(n))
				switch {
				case err != nil || !strings.HasPrefix(reply, "550 5.1.1") && !strings.HasPrefix(reply, "451 4.7.1"):
					t.Fatalf("%s %v", reply, err)
				case reply[0] == '4':
					return true
				}
			}
			return false
		}
		set := []string{"network.trusted_proxies=127.0.0.1", "exchange.refused_per_network=0", other + "=0"}
		if s := inMemory(t, append(set, option+"=1")...); !ask(s, "192.0.2.1") {
			t.Error("eight tries in a second were looked at")
		}
		if s := inMemory(t, append(set, option+"=0")...); ask(s, "192.0.2.1") {
			t.Error("without a limit a try was refused")
		}
	}
}

// fetched gives the first mail of somebody's inbox.
func fetched(t *testing.T, s *Server, name, password string) string {
	t.Helper()
	c, err := reader(s, name, password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.imap("SELECT INBOX"); err != nil {
		t.Fatal(err)
	}
	text, err := c.imap("FETCH 1 BODY[]")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// asAlias has anna send a mail to ben as an alias, in cleartext, and gives what he got.
func asAlias(t *testing.T, mail func(from string) []byte, set ...string) string {
	t.Helper()
	s := inMemory(t, set...)
	w := annasAliases(t, s)
	allowed(t, login(s, ben, annas))
	yes := true
	if _, err := s.accounts.Set(t.Context(), addr("ben"), account.Change{AcceptCleartext: &yes}); err != nil {
		t.Fatal(err)
	}
	from := makes(t, s, w, aliases.CreateRequest{}).Address
	if _, err := s.alias.desk.Change(t.Context(), w, from, aliases.ChangeRequest{Allow: []string{ben}}); err != nil {
		t.Fatal(err)
	}
	c, err := submitter(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	allowed(t, c.send(from, []string{ben}, mail(from)))
	return fetched(t, s, ben, annas)
}

func aliasEffects() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"aliases.enabled": func(t *testing.T) {
			s := inMemory(t)
			to := makes(t, s, annasAliases(t, s), aliases.CreateRequest{}).Address
			c := exchange(t, s, "")
			says(t, c, "MAIL FROM:<a@shop.example>", "250")
			says(t, c, "RCPT TO:<"+to+">", "250")
			if res := getPage(t, s, "/aliases", ""); res.StatusCode == http.StatusNotFound {
				t.Error("there are no pages")
			}
			s = inMemory(t, "aliases.enabled=false")
			if res := getPage(t, s, "/aliases", ""); res.StatusCode != http.StatusNotFound {
				t.Errorf("turned off, the page answers %d", res.StatusCode)
			}
			_, err := s.commands()["alias.new"](t.Context(), nil, nil)
			aliasKind(t, err, errs.Unsupported, "aliases.enabled")
			c = exchange(t, s, "")
			says(t, c, "MAIL FROM:<a@shop.example>", "250")
			says(t, c, "RCPT TO:<"+to+">", "550 5.1.1")
		},
		"aliases.domains": func(t *testing.T) {
			s := inMemory(t, "aliases.domains=alias.example,example.org")
			w := annasAliases(t, s)
			for _, d := range []string{"", "alias.example", "example.org"} {
				want := d
				if d == "" {
					want = "alias.example"
				}
				v := makes(t, s, w, aliases.CreateRequest{Domain: d})
				if !strings.HasSuffix(v.Address, "@"+want) {
					t.Errorf("in %q: %s", d, v.Address)
				}
				c := exchange(t, s, "")
				says(t, c, "MAIL FROM:<a@shop.example>", "250")
				says(t, c, "RCPT TO:<"+v.Address+">", "250")
			}
			_, err := s.alias.desk.Create(t.Context(), w, aliases.CreateRequest{Domain: "other.example"})
			aliasKind(t, err, errs.Invalid, "not made in this domain")
			s = inMemory(t)
			if v := makes(t, s, annasAliases(t, s), aliases.CreateRequest{}); !strings.HasSuffix(v.Address, "@example.org") {
				t.Errorf("by default: %s", v.Address)
			}
		},
		"aliases.style": func(t *testing.T) {
			for style, form := range map[string]string{"words": `^[a-z]+-[a-z]+-\d{5}@`, "random": `^[a-z0-9]{18}@`, "site": `^shop-\d{6}[a-z]@`} {
				s := inMemory(t, "aliases.style="+style)
				if v := makes(t, s, annasAliases(t, s), aliases.CreateRequest{Site: "shop.example"}); !regexp.MustCompile(form).MatchString(v.Address) {
					t.Errorf("%s: %s", style, v.Address)
				}
			}
		},
		"aliases.cleartext": func(t *testing.T) {
			s := inMemory(t)
			if v := makes(t, s, annasAliases(t, s), aliases.CreateRequest{}); v.Class != "open-mail" {
				t.Errorf("by default new aliases are %s", v.Class)
			}
			s = inMemory(t, "aliases.cleartext=false")
			w := annasAliases(t, s)
			if v := makes(t, s, w, aliases.CreateRequest{}); v.Class != "strict" {
				t.Errorf("turned off, new aliases are %s", v.Class)
			}
			_, err := s.alias.desk.Create(t.Context(), w, aliases.CreateRequest{Class: "open-mail"})
			aliasKind(t, err, errs.Denied, "end-to-end encrypted mail only")
		},
		"aliases.evidence": func(t *testing.T) {
			s := inMemory(t)
			w := annasAliases(t, s)
			v := makes(t, s, w, aliases.CreateRequest{})
			_, err := s.alias.desk.Evidence(t.Context(), w, v.Address)
			aliasKind(t, err, errs.NotFound, "")
			s = inMemory(t, "aliases.evidence=0")
			w = annasAliases(t, s)
			v = makes(t, s, w, aliases.CreateRequest{})
			_, err = s.alias.desk.Evidence(t.Context(), w, v.Address)
			aliasKind(t, err, errs.Unsupported, "")
		},
		"aliases.undo": func(t *testing.T) {
			for days, want := range map[string]bool{"1d": false, "30d": true} {
				var c clock
				s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now}, testConfig(t, "/data", "aliases.undo="+days))
				w := annasAliases(t, s)
				v := makes(t, s, w, aliases.CreateRequest{})
				allowed(t, s.alias.desk.Delete(t.Context(), w, v.Address))
				c.move(3 * day)
				if _, err := s.alias.desk.Restore(t.Context(), w, v.Address); (err == nil) != want {
					t.Errorf("%s: %v", days, err)
				}
			}
		},
		"aliases.delete_unused_after": func(t *testing.T) {
			for days, want := range map[string]bool{"0": false, "10d": true} {
				var c clock
				s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now}, testConfig(t, "/data", "aliases.delete_unused_after="+days))
				w := annasAliases(t, s)
				v := makes(t, s, w, aliases.CreateRequest{})
				c.move(11 * day)
				if _, err := s.alias.register.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got, err := s.alias.desk.Get(t.Context(), w, v.Address); err != nil || (got.State == "deleted") != want {
					t.Errorf("%s: %s, %v", days, got.State, err)
				}
			}
		},
		"aliases.max_per_account": func(t *testing.T) {
			s := inMemory(t, "aliases.max_per_account=1")
			w := annasAliases(t, s)
			makes(t, s, w, aliases.CreateRequest{})
			_, err := s.alias.desk.Create(t.Context(), w, aliases.CreateRequest{})
			aliasKind(t, err, errs.Full, "")
			if acc, err := s.alias.desk.Account(t.Context(), w); err != nil || acc.Max != 1 || acc.Aliases != 1 {
				t.Errorf("%+v, %v", acc, err)
			}
		},
		"aliases.max_deleted_per_account": func(t *testing.T) {
			s := inMemory(t, "aliases.max_deleted_per_account=1")
			w := annasAliases(t, s)
			v := makes(t, s, w, aliases.CreateRequest{})
			allowed(t, s.alias.desk.Delete(t.Context(), w, v.Address))
			_, err := s.alias.desk.Create(t.Context(), w, aliases.CreateRequest{})
			aliasKind(t, err, errs.Full, "you have deleted as many aliases as you may")
			if _, err := s.alias.desk.Restore(t.Context(), w, v.Address); err != nil {
				t.Fatal(err)
			}
			makes(t, s, w, aliases.CreateRequest{})
		},
		"aliases.create_per_minute": func(t *testing.T) {
			s := inMemory(t, "aliases.create_per_minute=1")
			w := annasAliases(t, s)
			makes(t, s, w, aliases.CreateRequest{})
			_, err := s.alias.desk.Create(t.Context(), w, aliases.CreateRequest{})
			aliasKind(t, err, errs.Busy, "too many requests, try again in ")
			s = inMemory(t, "aliases.create_per_minute=0")
			w = annasAliases(t, s)
			for range 70 {
				makes(t, s, w, aliases.CreateRequest{})
			}
		},
		"aliases.create_per_network": func(t *testing.T) {
			s := inMemory(t, "aliases.create_per_network=1", "aliases.create_per_minute=0")
			w := annasAliases(t, s)
			w.Peer = peerAt("192.0.2.1")
			makes(t, s, w, aliases.CreateRequest{})
			_, err := s.alias.desk.Create(t.Context(), w, aliases.CreateRequest{})
			aliasKind(t, err, errs.Busy, "too many requests, try again in ")
			w.Peer = peerAt("192.0.2.2")
			makes(t, s, w, aliases.CreateRequest{})
			s = inMemory(t, "aliases.create_per_network=0", "aliases.create_per_minute=0")
			w = annasAliases(t, s)
			w.Peer = peerAt("192.0.2.1")
			for range 130 {
				makes(t, s, w, aliases.CreateRequest{})
			}
		},
		"aliases.wrong_per_network": func(t *testing.T) {
			wrong := aliases.Who{Token: strings.Repeat("a", aliasname.TokenLen), Peer: peerAt("192.0.2.1")}
			for limit, last := range map[string]errs.Kind{"1": errs.Busy, "0": errs.Auth} {
				s := inMemory(t, "aliases.wrong_per_network="+limit)
				_, err := s.alias.desk.Account(t.Context(), wrong)
				aliasKind(t, err, errs.Auth, "is wrong")
				for range 20 {
					_, err = s.alias.desk.Account(t.Context(), wrong)
				}
				aliasKind(t, err, last, "wrong")
			}
		},
		"aliases.tries_network_per_second": triesOfAliases("aliases.tries_network_per_second", "aliases.tries_per_second"),
		"aliases.tries_per_second":         triesOfAliases("aliases.tries_per_second", "aliases.tries_network_per_second"),
		"aliases.websocket_path": func(t *testing.T) {
			s := inMemory(t, "aliases.websocket_path=/elsewhere")
			for path, there := range map[string]bool{"/elsewhere": true, "/incognitomail": false} {
				if res := getPage(t, s, path, ""); (res.StatusCode != http.StatusNotFound) != there {
					t.Errorf("%s answers %d", path, res.StatusCode)
				}
			}
		},
		"aliases.origins": func(t *testing.T) {
			const path = "/api/postern/v1/aliases"
			s := inMemory(t, "aliases.origins=moz-extension://*")
			if res := getPage(t, s, path, "https://evil.example"); res.StatusCode != http.StatusForbidden {
				t.Errorf("another origin: %d", res.StatusCode)
			}
			if res := getPage(t, s, path, "moz-extension://abc"); res.StatusCode != http.StatusUnauthorized || res.Header.Get("Access-Control-Allow-Origin") != "moz-extension://abc" {
				t.Errorf("one that is allowed: %d %v", res.StatusCode, res.Header)
			}
			if res := getPage(t, inMemory(t), path, "https://evil.example"); res.StatusCode != http.StatusUnauthorized {
				t.Errorf("by default: %d", res.StatusCode)
			}
		},
		"aliases.sender_names": func(t *testing.T) {
			mail := func(from string) []byte {
				return fmt.Appendf(nil, "From: \"Anna Karenina\" <%s>\r\nTo: <%s>\r\nSubject: hello\r\n\r\nhello\r\n", from, ben)
			}
			for value, want := range map[string]bool{"false": false, "true": true} {
				if got := asAlias(t, mail, "aliases.sender_names="+value); strings.Contains(got, "Karenina") != want || !strings.Contains(got, "hello") {
					t.Errorf("%s: %s", value, got)
				}
			}
		},
		"aliases.sender_keys": func(t *testing.T) {
			mail := func(from string) []byte {
				return fmt.Appendf(nil, "From: <%s>\r\nTo: <%s>\r\nSubject: hello\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"+
					"--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x\r\nContent-Type: application/pgp-keys\r\n\r\nTHE-KEY-OF-ANNA\r\n--x--\r\n", from, ben)
			}
			for value, want := range map[string]bool{"false": false, "true": true} {
				if got := asAlias(t, mail, "aliases.sender_keys="+value); strings.Contains(got, "THE-KEY-OF-ANNA") != want || !strings.Contains(got, "hello") {
					t.Errorf("%s: %s", value, got)
				}
			}
		},
		"aliases.forward": func(t *testing.T) {
			s := inMemory(t)
			_, err := s.alias.desk.NewOwner(t.Context(), aliases.Who{}, "anna@elsewhere.example")
			aliasKind(t, err, errs.Unsupported, "mailboxes elsewhere are not served here")
			s = inMemory(t, "aliases.forward=true")
			token, err := s.alias.desk.NewOwner(t.Context(), aliases.Who{}, "anna@elsewhere.example")
			if err != nil {
				t.Fatal(err)
			}
			to := makes(t, s, aliases.Who{Token: token}, aliases.CreateRequest{}).Address
			// The mailbox is asked first; the question waits in the queue.
			c := exchange(t, s, "")
			says(t, c, "MAIL FROM:<a@shop.example>", "250")
			says(t, c, "RCPT TO:<"+to+">", "450 4.2.1")
			if n := s.queue.Stats().Mails; n != 1 {
				t.Errorf("%d mails wait", n)
			}
			if res := getPage(t, s, "/forward/c/none", ""); res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusBadRequest {
				t.Errorf("the page where a mailbox agrees answers %d", res.StatusCode)
			}
			_, err = s.alias.desk.NewOwner(t.Context(), aliases.Who{}, "nobody@example.org")
			aliasKind(t, err, errs.Auth, "password")
		},
	}
}
