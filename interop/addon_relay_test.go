package interop

import (
	"net/url"
	"os"
	"strings"
	"testing"
)

// TestAddonRelay: the add-on at a real relay. It is connected by one link, a press of its button fills a form with an
// alias, a shop's mail to it is read by IMAP, and when the sender is blocked no more comes. That a derived alias gets
// mail at a relay is in TestAliasMail, and that the add-on derives the same ones in TestAddonNode.
func TestAddonRelay(t *testing.T) {
	needTool(t, "swaks")
	w := newWorld(t)
	a := w.relay(t, "a.example", noSendLimit...)
	me := a.withAliases(t, a.created(t, 1)[0])
	sender, site := w.shop(t, "shop.example"), newShop(t)
	c := startChromiumAddon(t, nil)
	secret, err := os.ReadFile(me.secret)
	if err != nil {
		t.Fatal(err)
	}
	connectByPaste(t, c, (&url.URL{Scheme: "https", Host: a.HTTPS, Path: "/aliases/connect", Fragment: "token=" + strings.TrimSpace(string(secret))}).String())
	v := c.tab()
	v.open(site.URL + "/plain.html")
	pressAlias(t, c, "#mail")
	address := filled(t, v, "#mail")
	press(t, v, "#go")
	if got := site.signedUp(t, "plain"); got != address || !strings.HasSuffix(address, "@a.example") {
		t.Errorf("the site got %q, want %q", got, address)
	}
	sender.send(t, a, address, sender.mail(t, address, "welcome", true), swaksOK, "250 ")
	if all := strings.Join(a.mails(t, me.user), "\n"); !strings.Contains(all, "Subject: welcome") {
		t.Errorf("it did not come: %q", all)
	}
	me.run(t, "block", address, "@shop.example")
	sender.send(t, a, address, sender.mail(t, address, "more", true), swaksData, "550 5.7.1 ")
}
