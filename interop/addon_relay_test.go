package interop

import (
	"net"
	"strings"
	"testing"
	"time"

	"postern.email/interop/smallworld"
)

// person is a new user of the add-on. What a person does is counted as that, not as the events that it took.
type person struct {
	t             testing.TB
	b             addonBrowser
	clicks, texts int // texts: typed or pasted, addresses of pages, too
}

func (p *person) open(url string) {
	p.t.Helper()
	p.texts++
	p.b.tab().open(url)
}

func (p *person) press(v view, selector string) {
	p.t.Helper()
	p.clicks++
	press(p.t, v, selector)
}

func (p *person) pressNamed(v view, name string) {
	p.t.Helper()
	p.clicks++
	pressNamed(p.t, v, name)
}

func (p *person) write(v view, selector, text string) {
	p.t.Helper()
	p.clicks++
	p.texts++
	typeInto(p.t, v, selector, text)
}

// paste puts what was copied into a field of which the text begins with begins.
func (p *person) paste(v view, selector, begins string) {
	p.t.Helper()
	p.clicks++
	p.texts++
	typeInto(p.t, v, selector, "")
	v.key("ctrl+v")
	until(p.t, "for the paste in "+selector, func() bool { return strings.HasPrefix(value(v, selector), begins) })
}

// toolbar clicks the add-on's button there.
func (p *person) toolbar() view {
	p.t.Helper()
	p.clicks++
	p.b.toolbar()
	return p.b.popup()
}

// inNamedBrowsers runs a test in Chromium and in Firefox, with the add-on and a server at shop.example, which is this machine.
func inNamedBrowsers(t *testing.T, run func(t *testing.T, b addonBrowser)) {
	t.Run("Chromium", func(t *testing.T) {
		run(t, startChromiumAddon(t, nil, "--host-resolver-rules=MAP shop.example 127.0.0.1"))
	})
	t.Run("Firefox", func(t *testing.T) {
		f := startFirefoxAddon(t)
		f.window().js(`Services.prefs.setStringPref('network.dns.localDomains', 'shop.example')`)
		run(t, f)
	})
}

// localHTTPS is where the link leads that postern up makes: to this machine.
const localHTTPS = "listen.https=127.0.0.1:0"

// TestAddonRelay: a new user and the add-on at a real relay. The link is made on the relay's page and pasted into what the
// toolbar opens; a form is filled in; the shop's confirmation comes by SMTP and is read by IMAP; it is answered as the
// alias by a mail program; and the sender is blocked on the alias's page. The shop never sees the account.
func TestAddonRelay(t *testing.T) {
	needTool(t, "swaks")
	w := newWorld(t)
	shop := w.Postfix(t, smallworld.PostfixOptions{Domain: "shop.example", Users: []string{"news"}})
	a := w.relay(t, "a.example", append([]string{localHTTPS}, noSendLimit...)...)
	site := newShop(t)
	_, port := hostPort(t, strings.TrimPrefix(site.URL, "http://"))
	form := "http://" + net.JoinHostPort("shop.example", port) + "/plain.html"
	inNamedBrowsers(t, func(t *testing.T, b addonBrowser) {
		me := a.created(t, 1)[0]
		p := &person{t: t, b: b}
		v := b.tab()
		began := time.Now()

		p.open("https://" + a.HTTPS + "/aliases/connect")
		picture(t, v, "connect")
		p.write(v, "#address", me.addr)
		p.write(v, "#password", me.password)
		v.key("Enter")
		p.press(v, "form[action='/aliases/connect'] button")
		p.press(v, ".secret")
		v.key("ctrl+c")
		p.open(form)
		top := p.toolbar()
		p.paste(top, "#link", "https://"+a.HTTPS+"/")
		top.key("Enter")
		until(t, "for an alias", func() bool { return strings.HasSuffix(value(top, "#address"), "@"+a.Domain) })
		alias := value(top, "#address")
		picture(t, top, "made")
		p.pressNamed(top, "Fill in")
		if got := filled(t, v, "#mail"); got != alias {
			t.Errorf("the form has %q, want %q", got, alias)
		}
		inField := time.Since(began)
		p.press(v, "#go")
		if got := site.signedUp(t, "plain"); got != alias {
			t.Errorf("the site got %q, want %q", got, alias)
		}
		hand(t, shop.Submission, "news@shop.example", alias, "", shopMail(alias, "confirm"))
		got := awaitMail(t, func() ([]string, error) { return a.tryMails(me) }, "Subject: confirm", "the text of confirm")
		if !strings.Contains(got, "X-Postern-Alias: "+alias+"; sender=first; vouched=") {
			t.Errorf("%.2000s", got)
		}
		t.Logf("%d clicks, %d texts typed or pasted, %.1f s from the installed add-on to the alias in the form, %.1f s to the confirmation in the mailbox",
			p.clicks, p.texts, inField.Seconds(), time.Since(began).Seconds())
		if p.clicks != 8 || p.texts != 5 {
			t.Errorf("%d clicks and %d texts, want 8 and 5: docs/aliases.md §1 has them, too", p.clicks, p.texts)
		}
		a.answerAs(t, me, alias, shop)

		before := p.clicks
		p.open("https://" + a.HTTPS + "/aliases")
		p.press(v, "ul.list a[href*='"+strings.TrimSuffix(alias, "@"+a.Domain)+"']:not(.button)")
		p.press(v, "form:has(input[name=sender][value='news@shop.example']) button[value=block]")
		until(t, "for the page to say so", func() bool {
			return strings.Contains(v.ask("document.body?.innerText ?? ''"), "Blocked: mail from there is refused.")
		})
		picture(t, v, "blocked")
		if n := p.clicks - before; n != 2 {
			t.Errorf("%d clicks block a sender, want 2", n)
		}
		hand(t, shop.Submission, "news@shop.example", alias, "", shopMail(alias, "more"))
		awaitMail(t, func() ([]string, error) { return shop.Mails("news") }, "Undelivered Mail Returned to Sender", alias, "550 5.7.1")
		if all := strings.Join(a.mails(t, me), "\n"); strings.Contains(all, "Subject: more") {
			t.Error("a mail of the blocked sender came")
		}
	})
}

// shopMail is an ordinary mail of news@shop.example.
func shopMail(to, subject string) []byte {
	return []byte("From: The Shop <news@shop.example>\r\nTo: <" + to + ">\r\nSubject: " + subject + "\r\nMessage-ID: <" + subject + "-" + to + "@shop.example>\r\n" +
		"Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nContent-Type: text/plain\r\n\r\nthe text of " + subject + "\r\n")
}

// answerAs answers the shop's mail with a mail program that knows nothing of aliases but the address in From.
func (s *server) answerAs(t *testing.T, u user, alias string, shop *smallworld.Postfix) {
	t.Helper()
	local, _, _ := strings.Cut(u.addr, "@")
	raw := "From: <" + alias + ">\r\nTo: <news@shop.example>\r\nSubject: Re: confirm\r\nMessage-ID: <" + local + ".1@" + s.Domain + ">\r\nIn-Reply-To: <confirm-" + alias + "@shop.example>\r\n" +
		"User-Agent: " + local + "\r\nDate: Fri, 20 Nov 2026 12:00:00 +0900\r\nContent-Type: text/plain\r\n\r\nyes, it is me at " + alias + "\r\n"
	host, port := hostPort(t, s.Submissions)
	command(t, nil, "swaks", "--tls-on-connect", "--server", host, "--port", port, "--helo", "swaks.example", "--auth", "PLAIN", "--auth-user", u.addr, "--auth-password", u.password,
		"--from", alias, "--to", "news@shop.example", "--data", "@"+swaksFile(t, []byte(raw))).want(t, swaksOK, "250 ")
	got := awaitMail(t, func() ([]string, error) { return shop.Mails("news") }, "From: <"+alias+">", "yes, it is me at "+alias, "In-Reply-To: <confirm-"+alias+"@shop.example>", "dkim=pass")
	for _, secret := range []string{local, u.password, "+0900"} {
		if strings.Contains(strings.ToLower(got), strings.ToLower(secret)) {
			t.Errorf("the shop sees %q:\n%s", secret, got)
		}
	}
}
