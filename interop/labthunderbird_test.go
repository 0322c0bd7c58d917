package interop

import (
	"net/mail"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// jsFields types into fields of the account dialog and picks from its lists.
const jsFields = `const doc = win().document;
const forward = async () => (await until("forward", () => seen(deep(doc, "#forward")))).click();
const pick = (id, v) => { const el = deep(doc, id); el.value = v; el.dispatchEvent(new (win().Event)("change", { bubbles: true })); };
const server = async (way, host, port) => {
	type(await until("the " + way + " server", () => seen(deep(doc, "#" + way + "Hostname"))), host);
	pick("#" + way + "ConnectionSecuritySelect", "0"); // none
	pick("#" + way + "AuthMethodSelect", "3"); // the password
	type(deep(doc, "#" + way + "Port"), port); };
`

// TestLabThunderbird: somebody who gives Thunderbird's own dialog the hosts and ports of a mail proxy, and
// nothing else, writes a mail to another proxy and reads the answer. In what arrives there is nothing about
// program and machine.
func TestLabThunderbird(t *testing.T) {
	if !long() {
		t.Skip("takes about a minute: POSTERN_LONG=1")
	}
	needTool(t, "thunderbird")
	startLab(t).thunderbird(t)
}

func (l *testLab) thunderbird(t *testing.T) {
	p, to, dir := &l.Proxies[0], &l.Proxies[1], t.TempDir()
	pictures := os.Getenv("POSTERN_PICTURES")
	if pictures == "" {
		pictures = dir
	}
	// Nothing listens at this web proxy: no settings are found, and nothing is asked of the Internet.
	m, display := startThunderbird(t, dir, "127.0.0.1", "1")
	defer func() {
		if t.Failed() {
			m.shot(pictures, "failed", display)
		}
	}()
	host, imap := hostPort(t, p.IMAP)
	smtpHost, smtp := hostPort(t, p.SMTP)
	m.js(jsFields+`type(await until("the account dialog", () => seen(deep(doc, "#realName"))), "Anna Abel");
		type(deep(doc, "#email"), args[0]);
		await forward();`, p.Account)
	m.js(jsFields+`await server("incoming", args[0], args[1]);`, host, imap)
	m.shot(pictures, "lab-incoming", display)
	m.js(jsFields+`await forward();
		await server("outgoing", args[0], args[1]);
		const buttons = (root, out = []) => { for (const el of root.querySelectorAll("*")) { if (el.localName == "button") out.push(el); if (el.shadowRoot) buttons(el.shadowRoot, out); } return out; };
		(await until("the test of the settings", () => buttons(doc).find((el) => seen(el) && el.textContent.trim() == "Test"))).click();`, smtpHost, smtp)
	m.js(jsFields + `await until("the end of the test", () => seen(deep(doc, "#forward")));`)
	m.shot(pictures, "lab-outgoing", display)
	m.js(jsFields+`await forward();
		type(await until("the password", () => seen(deep(doc, "#password"))), args[0]);
		await forward();
		const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
		await until("the account", () => MailServices.accounts.accounts.some((a) => a.incomingServer.type == "imap"));`, p.Password)
	m.js(jsFields + `(await until("the end of the dialog", () => seen(deep(doc, "email-added-success")) && seen(deep(doc, "#forward")))).click();
		await until("the dialog is closed", () => !seen(deep(doc, "#forward")));
		await until("the folders", () => doc.getElementById("tabmail").currentAbout3Pane.document.getElementById("folderTree").textContent.includes("Drafts"));`)

	have := to.list(t)
	m.compose("HTML", to.Account, "Grüße vom Schreibtisch", "a letter with ümläuts")
	m.shot(pictures, "lab-compose", display)
	m.send()
	to.await(t, have+1, 4*time.Minute)
	raw := to.fetch(t, have+1)
	if bodyOf(t, raw) != "a letter with ümläuts" {
		t.Errorf("it came as %q", raw)
	}
	got, err := mail.ReadMessage(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	for name := range got.Header {
		if !slices.Contains([]string{"Return-Path", "X-Postern-Sender", "X-Katzenpost-Sender", "Received", "Message-Id", "Date", "Mime-Version", "From", "To", "Subject"}, name) && !strings.HasPrefix(name, "Content-") {
			t.Errorf("the recipient gets %s: %s", name, got.Header.Get(name))
		}
	}
	if id := got.Header.Get("Message-Id"); !strings.HasSuffix(id, p.Account[strings.IndexByte(p.Account, '@'):]+">") {
		t.Errorf("Message-ID %s", id)
	}
	for _, word := range []string{"Thunderbird", "Mozilla", "127.0.0.1"} {
		if strings.Contains(string(raw), word) {
			t.Errorf("%s stands in what came: %q", word, raw)
		}
	}

	// The answer comes by IMAP and is read in the main window.
	to.swaks(t, p.Account, labMail(to.Account, p.Account, "Re: the desk", "an answer through the mixes")).want(t, swaksOK)
	p.await(t, 1, 4*time.Minute)
	shown := m.js(`const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
		const server = MailServices.accounts.accounts.find((a) => a.incomingServer.type == "imap").incomingServer;
		const folder = (flag) => until("a folder", () => server.rootFolder.getFolderWithFlags(flag));
		const inbox = await folder(Ci.nsMsgFolderFlags.Inbox);
		inbox.getNewMessages(null, null);
		await until("the mail in the INBOX", () => [...inbox.messages].some((h) => h.subject.includes("the desk")));
		const about = win().document.getElementById("tabmail").currentAbout3Pane;
		about.displayFolder(inbox.URI);
		await until("the list", () => about.gDBView && about.gDBView.rowCount > 0);
		about.threadTree.selectedIndex = about.gDBView.rowCount - 1;
		const message = () => about.messageBrowser.contentWindow;
		return await until("the text", () => { const text = message().getMessagePaneBrowser().contentDocument?.body?.textContent || ""; return text.includes("through the mixes") ? text + " / " + message().document.getElementById("expandedfromBox").textContent : null; });`)
	m.shot(pictures, "lab-answer", display)
	if !strings.Contains(shown, to.Account) {
		t.Errorf("the window shows %q", shown)
	}
}
