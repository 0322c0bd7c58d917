package interop

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern.email/interop/mailclient"
)

// marionette speaks the remote control protocol of Mozilla's programs: messages
// "length:[type, id, command, parameters]" over TCP, one after another.
type marionette struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func (m *marionette) read() ([]byte, error) {
	size, err := m.r.ReadString(':')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
	if err != nil {
		return nil, err
	}
	raw := make([]byte, n)
	_, err = io.ReadFull(m.r, raw)
	return raw, err
}

func (m *marionette) call(command string, params map[string]any) (json.RawMessage, error) {
	m.n++
	raw, err := json.Marshal([]any{0, m.n, command, params})
	if err != nil {
		return nil, err
	}
	if err := m.conn.SetDeadline(time.Now().Add(90 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(m.conn, "%d:%s", len(raw), raw); err != nil {
		return nil, err
	}
	if raw, err = m.read(); err != nil {
		return nil, err
	}
	var answer [4]json.RawMessage
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, err
	}
	if string(answer[2]) != "null" {
		return nil, fmt.Errorf("%s: %s", command, answer[2])
	}
	var value struct{ Value json.RawMessage }
	if err := json.Unmarshal(answer[3], &value); err != nil || value.Value == nil {
		return answer[3], nil
	}
	return value.Value, nil
}

// js runs the body of an async function in the program and gives its result.
func (m *marionette) js(body string, args ...any) string {
	m.t.Helper()
	if args == nil {
		args = []any{}
	}
	out, err := m.call("WebDriver:ExecuteAsyncScript", map[string]any{"args": args, "scriptTimeout": 60000, "newSandbox": true,
		"script": "const done = arguments[arguments.length - 1]; const args = [...arguments];\n" + jsHelpers +
			"(async () => {" + body + "})().then((v) => done(v === undefined ? '' : String(v)), (e) => done('ERROR ' + e + ' ' + (e.stack || '')));"})
	if err != nil {
		m.t.Fatal(err)
	}
	var text string
	if err := json.Unmarshal(out, &text); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	if strings.HasPrefix(text, "ERROR") {
		m.t.Fatal(text)
	}
	return text
}

// jsHelpers find elements also inside of shadow roots, and wait.
const jsHelpers = `
const sleep = (ms) => new Promise((r) => { const t = Cc["@mozilla.org/timer;1"].createInstance(Ci.nsITimer); t.initWithCallback(r, ms, 0); sleep.kept = t; });
const until = async (what, f) => { for (let i = 0; i < 300; i++) { let v; try { v = await f(); } catch (e) { v = null; } if (v) return v; await sleep(100); } throw new Error("in vain: " + what); };
const win = () => Services.wm.getMostRecentWindow("mail:3pane");
const deep = (root, sel) => { const hit = root.querySelector(sel); if (hit) return hit;
  for (const el of root.querySelectorAll("*")) if (el.shadowRoot) { const inner = deep(el.shadowRoot, sel); if (inner) return inner; } return null; };
const seen = (el) => el && el.getClientRects().length > 0 && !el.disabled ? el : null;
const type = (el, text) => { el.focus(); el.value = text; el.dispatchEvent(new (el.ownerDocument.defaultView.Event)("input", { bubbles: true })); el.dispatchEvent(new (el.ownerDocument.defaultView.Event)("change", { bubbles: true })); };
`

// shot keeps a picture of the screen.
func (m *marionette) shot(dir, name, display string) {
	m.t.Helper()
	path := filepath.Join(dir, name+".png")
	command(m.t, []string{"DISPLAY=" + display}, needTool(m.t, "import"), "-window", "root", path).want(m.t, 0)
	m.t.Logf("picture: %s", path)
}

// compose opens the window in which mails are written, in a format of nsIMsgCompFormat, for the account of IMAP.
func (m *marionette) compose(format, to, subject, body string) {
	m.t.Helper()
	m.js(`const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
		const make = (id, iface) => Cc[id].createInstance(iface);
		const params = make("@mozilla.org/messengercompose/composeparams;1", Ci.nsIMsgComposeParams);
		const fields = make("@mozilla.org/messengercompose/composefields;1", Ci.nsIMsgCompFields);
		params.identity = MailServices.accounts.accounts.find((a) => a.incomingServer.type == "imap").defaultIdentity;
		params.type = Ci.nsIMsgCompType.New; params.format = Ci.nsIMsgCompFormat[args[0]];
		fields.to = args[1]; fields.subject = args[2]; fields.body = args[3];
		params.composeFields = fields;
		MailServices.compose.OpenComposeWindowWithParams(null, params);
		await until("the compose window", () => { const w = Services.wm.getMostRecentWindow("msgcompose"); return w && w.gMsgCompose && w.gMsgCompose.editor && w.document.getElementById("msgSubject").value; });
		await sleep(1000);`, format, to, subject, body)
}

// send presses the button of that window.
func (m *marionette) send() {
	m.t.Helper()
	m.js(`const w = Services.wm.getMostRecentWindow("msgcompose"); w.goDoCommand("cmd_sendNow"); await until("the mail is sent", () => w.closed);`)
}

// webProxy takes any HTTPS host of the server's domain to the server's port; a
// real server listens on 443, which a test cannot.
func webProxy(t testing.TB, s *server) (host, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || !strings.HasSuffix(r.Host, s.Domain+":443") {
			http.Error(w, "not here", http.StatusBadGateway)
			return
		}
		far, err := net.Dial("tcp", s.HTTPS)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			far.Close()
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); far.Close() }()
		go func() { _, _ = io.Copy(near, far); near.Close() }()
	})}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { web.Close() })
	return hostPort(t, l.Addr().String())
}

// thunderbird starts the program on a virtual display with a new profile. What it asks of the web
// it asks of the server.
func thunderbird(t testing.TB, s *server, dir string) (m *marionette, display string) {
	t.Helper()
	host, port := webProxy(t, s)
	return startThunderbird(t, dir, host, port)
}

// startThunderbird starts the program with a web proxy at host and port.
func startThunderbird(t testing.TB, dir, host, port string) (m *marionette, display string) {
	t.Helper()
	program := needTool(t, "thunderbird")
	display = virtualDisplay(t)
	profile := filepath.Join(dir, "profile")
	if err := os.MkdirAll(profile, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(profile, "user.js"), `user_pref("marionette.port", 0);
user_pref("network.proxy.type", 1);
user_pref("network.proxy.ssl", "`+host+`");
user_pref("network.proxy.ssl_port", `+port+`);
user_pref("network.proxy.http", "`+host+`");
user_pref("network.proxy.http_port", `+port+`);
user_pref("network.proxy.allow_hijacking_localhost", true);
user_pref("mailnews.auto_config_url", "");
user_pref("mailnews.start_page.enabled", false);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.rights.version", 1);
user_pref("mail.spotlight.firstRunDone", true);
user_pref("mail.inappnotifications.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("datareporting.policy.dataSubmissionPolicyBypassNotification", true);
user_pref("app.update.auto", false);
user_pref("app.donation.eoy.version.viewed", 999);
user_pref("toolkit.telemetry.enabled", false);
user_pref("mailnews.mark_message_read.auto", true);
`)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "--no-remote", "--marionette", "--profile", profile)
	cmd.Env = append(os.Environ(), "DISPLAY="+display, "HOME="+dir, "MOZ_REMOTE_ALLOW_SYSTEM_ACCESS=1", "LC_ALL=C.UTF-8", "LIBGL_ALWAYS_SOFTWARE=1")
	cmd.Args = append(cmd.Args, "--remote-allow-system-access")
	cmd.Stdout, cmd.Stderr = log, log
	tie(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("end of the program's log:\n%s", tail(filepath.Join(dir, "log"), 2000))
		}
	})
	m = &marionette{t: t}
	eventually(t, patience, func() error {
		raw, err := os.ReadFile(filepath.Join(profile, "MarionetteActivePort"))
		if err != nil {
			return err
		}
		m.conn, err = net.Dial("tcp", "127.0.0.1:"+strings.TrimSpace(string(raw)))
		return err
	})
	t.Cleanup(func() { m.conn.Close() })
	m.r = bufio.NewReader(m.conn)
	if err := m.conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.read(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		command string
		params  map[string]any
	}{
		{"WebDriver:NewSession", map[string]any{}},
		{"Marionette:SetContext", map[string]any{"value": "chrome"}},
	} {
		if _, err := m.call(step.command, step.params); err != nil {
			t.Fatal(err)
		}
	}
	return m, display
}

// TestThunderbird makes an account by autoconfig in the program's own dialog,
// sends an encrypted mail to itself and to a user of gpg, and reads both ways.
func TestThunderbird(t *testing.T) {
	needTool(t, "thunderbird")
	gpg := needTool(t, "gpg")
	s := start(t)
	u, other, dir := s.plainUser(t), s.plainUser(t), t.TempDir()
	pictures := os.Getenv("POSTERN_PICTURES")
	if pictures == "" {
		pictures = dir
	}
	home := gpgKeys(t, other.addr)
	m, display := thunderbird(t, s, dir)
	defer func() {
		if t.Failed() {
			m.shot(pictures, "failed", display)
		}
	}()

	// The certificate is self-signed; a person would take it as an exception, too.
	raw, err := os.ReadFile(s.TLSCert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	hosts := []string{"autoconfig." + s.Domain + ":443", s.Domain + ":443"}
	for _, addr := range []string{s.IMAPS, s.IMAP, s.Submissions, s.Submission, s.POP3S, s.POP3} {
		_, port := hostPort(t, addr)
		hosts = append(hosts, s.Domain+":"+port, "127.0.0.1:"+port)
	}
	m.js(`const cert = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).constructX509FromBase64(args[0]);
		const overrides = Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService);
		for (const at of args[1].split(" ")) overrides.rememberValidityOverride(at.split(":")[0], Number(at.split(":")[1]), {}, cert, true);`,
		base64.StdEncoding.EncodeToString(block.Bytes), strings.Join(hosts, " "))

	m.js(`await until("the account dialog", () => seen(deep(win().document, "#realName")));`)
	m.js(`const doc = win().document;
		type(deep(doc, "#realName"), "Postern Tester"); type(deep(doc, "#email"), args[0]);
		(await until("forward", () => seen(deep(doc, "#forward")))).click();
		await until("the configuration", () => seen(deep(doc, "#incomingHost")) || seen(deep(doc, "#password")));
		await sleep(500);`, u.addr)
	m.shot(pictures, "autoconfig", display)
	m.js(`const doc = win().document;
		if (!seen(deep(doc, "#password"))) (await until("forward", () => seen(deep(doc, "#forward")))).click();
		type(await until("the password", () => seen(deep(doc, "#password"))), args[0]);
		await sleep(300);
		(await until("forward", () => seen(deep(doc, "#forward")))).click();
		const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
		await until("the account", () => MailServices.accounts.accounts.some((a) => a.incomingServer.type == "imap"));`, u.password)
	m.js(`(await until("the end of the dialog", () => seen(deep(win().document, "email-added-success")) && seen(deep(win().document, "#forward")))).click();
		await until("the dialog is closed", () => !seen(deep(win().document, "#forward")));
		await until("the folders", () => win().document.getElementById("tabmail").currentAbout3Pane.document.getElementById("folderTree").textContent.includes("Drafts"));`)
	m.shot(pictures, "account", display)

	// A key of one's own, as the key wizard makes it, and the other's public key.
	public := command(t, []string{"GNUPGHOME=" + home}, gpg, "--armor", "--export", other.addr)
	public.want(t, 0, "PUBLIC KEY")
	m.js(`const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
		const at = "chrome://openpgp/content/modules/";
		const { RNP } = ChromeUtils.importESModule(at + "RNP.sys.mjs");
		const { EnigmailKeyRing } = ChromeUtils.importESModule(at + "keyRing.sys.mjs");
		const { PgpSqliteDb2 } = ChromeUtils.importESModule(at + "sqliteDb.sys.mjs");
		const { OpenPGPMasterpass } = ChromeUtils.importESModule(at + "masterpass.sys.mjs");
		const { EnigmailCore } = ChromeUtils.importESModule(at + "core.sys.mjs");
		await EnigmailCore.init?.();
		const identity = MailServices.accounts.accounts.find((a) => a.incomingServer.type == "imap").defaultIdentity;
		const id = await RNP.genKey("Postern Tester <" + identity.email + ">", "ECC", 0, 30, await OpenPGPMasterpass.retrieveOpenPGPPassword());
		await RNP.saveKeyRings();
		EnigmailKeyRing.clearCache();
		await PgpSqliteDb2.acceptAsPersonalKey(EnigmailKeyRing.getKeyById("0x" + id).fpr);
		identity.setUnicharAttribute("openpgp_key_id", id);
		await RNP.importPubkeyBlockAutoAcceptImpl(null, args[0], "verified");
		EnigmailKeyRing.clearCache();`, public.out)

	// Written and sent in the compose window.
	m.compose("PlainText", other.addr+", "+u.addr, "a secret subject", "a secret word\n")
	m.js(`const w = Services.wm.getMostRecentWindow("msgcompose");
		await sleep(500);
		if (!w.gSendEncrypted) w.toggleEncryptMessage();
		await sleep(500);`)
	m.shot(pictures, "compose", display)
	m.send()
	eventually(t, patience, func() error {
		if n := len(s.inbox(t, other)); n != 1 {
			return fmt.Errorf("%d mails arrived", n)
		}
		return nil
	})
	var arrived []byte
	c := s.mustLogin(t, other)
	if _, err := c.Select("INBOX"); err != nil {
		t.Fatal(err)
	}
	if err := c.FetchAll("1:*", func(got mailclient.Message) { arrived = got.Raw }); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(arrived), "secret") {
		t.Error("the subject or the text was sent in the clear")
	}
	_, armored, _ := strings.Cut(string(arrived), "-----BEGIN PGP MESSAGE-----")
	file := filepath.Join(dir, "armored")
	writeFile(t, file, "-----BEGIN PGP MESSAGE-----"+armored)
	// 2: it is signed, and gpg does not know the sender's key.
	command(t, []string{"GNUPGHOME=" + home}, gpg, "--batch", "--decrypt", file).want(t, 2, "a secret word", "a secret subject", "Signature made")

	// The copy to oneself comes by IMAP and is read in the main window.
	shown := m.js(`const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
		const server = MailServices.accounts.accounts.find((a) => a.incomingServer.type == "imap").incomingServer;
		const inbox = await until("the INBOX", () => server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox));
		inbox.getNewMessages(null, null);
		const header = await until("the mail in the INBOX", () => [...inbox.messages][0]);
		const about = win().document.getElementById("tabmail").currentAbout3Pane;
		about.displayFolder(inbox.URI);
		await until("the list", () => about.gDBView && about.gDBView.rowCount > 0);
		about.threadTree.selectedIndex = 0;
		const message = () => about.messageBrowser.contentWindow;
		return await until("the text", () => { const text = message().getMessagePaneBrowser().contentDocument?.body?.textContent || ""; return text.includes("secret word") ? text + " / " + message().document.getElementById("expandedsubjectBox").textContent : null; });`)
	m.shot(pictures, "read", display)
	if !strings.Contains(shown, "a secret subject") {
		t.Errorf("the window shows %q", shown)
	}
	becomesSeen(t, s, u)
	if n := len(folderAt(t, s, u, "Sent")); n != 1 {
		t.Errorf("%d copies in Sent, want 1", n)
	}
}

// becomesSeen waits until the one mail of INBOX is marked as read.
func becomesSeen(t testing.TB, s *server, u user) {
	t.Helper()
	eventually(t, patience, func() error {
		for _, flags := range folderAt(t, s, u, "INBOX") {
			if !strings.Contains(flags, "S") {
				return fmt.Errorf("the mail has flags %q, want S", flags)
			}
		}
		return nil
	})
}
