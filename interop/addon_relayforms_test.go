package interop

import (
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

// setUp makes a secret of an owner's into the link that sets the add-on up, and pastes it there.
func (o *aliasOwner) setUp(t *testing.T, b addonBrowser) {
	t.Helper()
	secret, err := os.ReadFile(o.secret)
	if err != nil {
		t.Fatal(err)
	}
	connectByPaste(t, b, (&url.URL{Scheme: "https", Host: o.HTTPS, Path: "/aliases/connect", Fragment: "token=" + strings.TrimSpace(string(secret))}).String())
}

// signUp fills a form in by the button beside its field, sends it in and gives the address. keys choose from the menu,
// which opens on a site that has an alias.
func (s *shop) signUp(t *testing.T, b addonBrowser, page string, keys ...string) string {
	t.Helper()
	v := b.tab()
	v.open(s.URL + "/" + page + ".html")
	pressAlias(t, b, "#mail")
	if len(keys) > 0 {
		until(t, "for the menu", func() bool { return v.js("document.activeElement?.localName") == "div" })
	}
	for _, k := range keys {
		v.key(k)
	}
	address := filled(t, v, "#mail")
	press(t, v, "#go")
	if got := s.signedUp(t, page); got != address {
		t.Errorf("%s: the site got %q, want %q", page, got, address)
	}
	return address
}

// receives wants a mail of a shop's to an alias taken, and there by IMAP.
func (o *aliasOwner) receives(t *testing.T, from *otherShop, alias, subject string) {
	t.Helper()
	from.send(t, o.server, alias, from.mail(t, alias, subject, true), swaksOK, "250 ")
	for _, m := range o.mails(t, o.user) {
		if strings.Contains(m, "Subject: "+subject+"\r\n") && strings.Contains(m, "X-Postern-Alias: "+alias+";") {
			return
		}
	}
	t.Errorf("the mail %q to %s is not in the mailbox", subject, alias)
}

// TestAddonRelayForms: plain, React and shadow-DOM forms are filled in with aliases of a real relay, and what the shop
// writes to them is read by IMAP. Then the relay is stopped: the alias that the add-on makes meanwhile is one of the
// relay's when it is back.
func TestAddonRelayForms(t *testing.T) {
	needTool(t, "swaks")
	w := newWorld(t)
	sender, site := w.shop(t, "shop.example"), newShop(t)
	a := w.relay(t, "a.example", append([]string{localHTTPS}, noSendLimit...)...)
	a.sets = append(a.sets, "listen.https="+a.HTTPS) // the same when it starts again
	inNamedBrowsers(t, func(t *testing.T, b addonBrowser) {
		me := a.withAliases(t, a.created(t, 1)[0])
		me.setUp(t, b)
		plain := site.signUp(t, b, "plain")
		me.receives(t, sender, plain, "plain")
		react := site.signUp(t, b, "react", "Enter") // the site's alias
		me.receives(t, sender, react, "react")
		shadow := site.signUp(t, b, "shadow", "ArrowUp", "Enter") // the last line: a new one
		me.receives(t, sender, shadow, "shadow")
		if react != plain || shadow == plain {
			t.Errorf("the aliases are %s, %s and %s", plain, react, shadow)
		}

		b.manage()
		choose(t, b.tab(), "#style", "derived")
		if code := a.stop(t); code != 0 {
			t.Errorf("the relay ended with %d", code)
		}
		derived := site.signUp(t, b, "plain", "ArrowUp", "Enter")
		if !regexp.MustCompile(`^[a-z2-7]{20}@a\.example$`).MatchString(derived) {
			t.Errorf("without the relay the alias is %s", derived)
		}
		a.run(t)
		if list := me.run(t, "list"); strings.Contains(list, strings.TrimSuffix(derived, "@a.example")) {
			t.Errorf("the relay lists what nobody told it: %s", list)
		}
		me.receives(t, sender, derived, "derived")
		b.manage()
		until(t, "for the alias in the add-on's list", func() bool { return strings.Contains(text(b.tab(), "#list"), derived) })
		want := map[string]string{plain: "", shadow: "", derived: ""}
		for line := range strings.Lines(me.run(t, "list")) {
			delete(want, strings.TrimSpace(line)+"@a.example")
			delete(want, strings.TrimSpace(line))
		}
		if len(want) != 0 {
			t.Errorf("the relay does not list %v", want)
		}
	})
}

// choose picks an option of a select by the keyboard, and waits until the add-on has kept it.
func choose(t *testing.T, v view, selector, option string) {
	t.Helper()
	look(v, selector, "el.scrollIntoView({block: 'center'});")
	for range 100 {
		if look(v, selector, "return el.getRootNode().activeElement === el;") == "true" {
			break
		}
		v.key("Tab")
	}
	for range 20 {
		if value(v, selector) == option {
			break
		}
		v.key("ArrowDown")
	}
	if got := value(v, selector); got != option {
		t.Fatalf("%s is at %q, want %q", selector, got, option)
	}
	until(t, "for the settings to be kept", func() bool { return strings.Contains(text(v, "#status"), "Saved.") })
}
