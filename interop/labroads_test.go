package interop

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestLabRoads sends over every road of the mail proxy in one lab, with the mail programs that people
// have. The network has the profile full; how long a large mail takes in the profile low is computed in
// virtual time elsewhere (mixnet/sim).
func TestLabRoads(t *testing.T) {
	t.Parallel()
	l := startLab(t, "--profile", "full")
	t.Logf("ready after %v", l.took.Round(time.Second))
	t.Run("attachment", l.attachment)
	t.Run("neomutt", l.neomutt)
	t.Run("Delta Chat", l.deltaChat)
	t.Run("world", l.world)
	t.Run("nobody", l.nobody)
	t.Run("refused", l.refused)
}

// attachment: a mail with an attachment of 5 MB arrives byte for byte.
func (l *testLab) attachment(t *testing.T) {
	from, to := &l.Proxies[0], &l.Proxies[1]
	have := to.list(t)
	file := make([]byte, 5_000_000)
	if _, err := rand.Read(file); err != nil {
		t.Fatal(err)
	}
	text := base64.StdEncoding.EncodeToString(file)
	var mail bytes.Buffer
	mail.WriteString("From: <" + from.Account + ">\r\nTo: <" + to.Account + ">\r\nSubject: large\r\nMIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for len(text) > 0 {
		n := min(76, len(text))
		mail.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	began := time.Now()
	from.swaks(t, to.Account, mail.Bytes()).want(t, swaksOK, "250 2.0.0 queued, arrives in")
	// A short mail behind it does not wait for it.
	from.swaks(t, to.Account, labMail(from.Account, to.Account, "short", "a line")).want(t, swaksOK)
	to.await(t, have+1, 4*time.Minute)
	first := to.fetch(t, have+1)
	if bodyOf(t, first) != "a line" {
		t.Errorf("the large mail held up the short one: %.200q", first)
	}
	t.Logf("the short mail came after %v", time.Since(began).Round(time.Second))
	to.await(t, have+2, 8*time.Minute)
	t.Logf("5 MB came after %v", time.Since(began).Round(time.Second))
	got := bodyOf(t, to.fetch(t, have+2))
	raw, err := base64.StdEncoding.DecodeString(got)
	if err != nil || !bytes.Equal(raw, file) {
		t.Errorf("the attachment came changed: %d bytes of %d, %v", len(raw), len(file), err)
	}
}

// neomutt: a mail written in neomutt goes to the other proxy, where neomutt reads it by IMAP.
func (l *testLab) neomutt(t *testing.T) {
	neomutt := needTool(t, "neomutt")
	from, to := &l.Proxies[0], &l.Proxies[1]
	rc := func(p *labProxy) (file string, env []string) {
		dir := t.TempDir()
		file = filepath.Join(dir, "rc")
		text := fmt.Sprintf(`set folder="imap://%s/" spoolfile="+INBOX" record="" postponed=""
set imap_user="%s" imap_pass="%s" imap_idle=yes imap_authenticators="plain"
set smtp_url="smtp://%s@%s/" smtp_pass="%s" smtp_authenticators="plain"
set ssl_starttls=no ssl_force_tls=no
set from="%s" realname="" use_from=yes envelope_from=yes
set mail_check=1 timeout=1 wait_key=no sleep_time=0 sort=mailbox-order quit=yes
set index_format="%%C %%s"
`, p.IMAP, p.Account, p.Password, url.QueryEscape(p.Account), p.SMTP, p.Password, p.Account)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file, []string{"HOME=" + dir, "LC_ALL=C.UTF-8"}
	}
	file, env := rc(from)
	command(t, env, "sh", "-c", `echo "written in a terminal" | "$0" -n -F "$1" -s "from neomutt" -- "$2"`, neomutt, file, to.Account).want(t, 0)
	file, env = rc(to)
	scr := open(t, t.TempDir(), env, neomutt, "-n", "-F", file)
	eventually(t, 4*time.Minute, func() error {
		if seen := scr.text(); !strings.Contains(seen, "from neomutt") {
			return fmt.Errorf("the screen does not show it:\n%s", seen)
		}
		return nil
	})
	scr.keys("*") // the last
	scr.keys("Enter")
	scr.shows("written in a terminal", "X-Postern-Sender: "+from.Account)
	scr.keys("q", "q")
}

// deltaChat: somebody with Delta Chat at a proxy and somebody with Delta Chat at a relay meet by
// secure-join and write to each other, encrypted from end to end.
func (l *testLab) deltaChat(t *testing.T) {
	deltachatBinary(t)
	p, relay := &l.Proxies[0], &l.Relays[1]
	r := startRPC(t)
	account := func(addr, password, imap, smtp, security string) map[string]any {
		number := func(at string) int {
			_, port := hostPort(t, at)
			n, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		return map[string]any{"addr": addr, "password": password, "imapServer": "127.0.0.1", "imapPort": number(imap), "imapSecurity": security,
			"smtpServer": "127.0.0.1", "smtpPort": number(smtp), "smtpSecurity": security, "certificateChecks": "acceptInvalidCertificates"}
	}
	anna, dario := r.newProfile("Anna"), r.newProfile("Dario")
	r.must(nil, "add_or_update_transport", anna, account(p.Account, p.Password, p.IMAP, p.SMTP, "plain"))
	r.must(nil, "add_or_update_transport", dario, account(relay.Account, relay.Password, relay.IMAPS, relay.Submissions, "ssl"))
	r.must(nil, "start_io_for_all_accounts")
	idle := map[int]bool{}
	r.await(2*time.Minute, "both inboxes idle", func(e rpcEvent) bool {
		idle[e.Account] = idle[e.Account] || e.kind() == "ImapInboxIdle"
		return idle[anna] && idle[dario]
	})
	began := time.Now()
	var qr string
	r.must(&qr, "get_chat_securejoin_qr_code", anna, nil)
	var darioChat, annaChat, contact int
	r.must(&darioChat, "secure_join", dario, qr)
	joined := map[string]bool{}
	r.await(4*time.Minute, "both ends of secure-join", func(e rpcEvent) bool {
		if e.number("progress") == 1000 && strings.HasPrefix(e.kind(), "Securejoin") {
			joined[e.kind()] = true
			if e.kind() == "SecurejoinInviterProgress" {
				contact = e.number("contactId")
			}
		}
		return len(joined) == 2
	})
	t.Logf("secure-join over the mix network: %v", time.Since(began).Round(time.Second))
	r.must(&annaChat, "create_chat_by_contact_id", anna, contact)
	for _, way := range []struct {
		name           string
		from, chat, to int
	}{{"to the relay", anna, annaChat, dario}, {"to the proxy", dario, darioChat, anna}} {
		text := way.name + ": with ümläuts"
		r.must(nil, "misc_send_text_message", way.from, way.chat, text)
		var got struct {
			Text        string `json:"text"`
			ShowPadlock bool   `json:"showPadlock"`
		}
		e := r.await(4*time.Minute, "message "+text, func(e rpcEvent) bool { return e.kind() == "IncomingMsg" && e.Account == way.to })
		r.must(&got, "get_message", way.to, e.number("msgId"))
		if got.Text != text || !got.ShowPadlock {
			t.Errorf("got %q (padlock %v), want %q", got.Text, got.ShowPadlock, text)
		}
	}
}

// refused: of a mail into the world one recipient gets it and the other is refused there; its sender reads
// so, of that one alone: whom a relay vouches for in a letter of the exit's relay, and who wrote without a
// name at the reply address, by its relay and back over its reply blocks.
func (l *testLab) refused(t *testing.T) {
	p, w := &l.Proxies[0], &l.World
	unknown := "unknown@" + w.Domain
	domain := p.Account[strings.IndexByte(p.Account, '@')+1:]
	for i, c := range []struct {
		name string
		raw  []byte
		from *regexp.Regexp // of the report
		by   string         // X-Postern-Sender
	}{
		{"vouched for", labMail(p.Account, w.Account, "to two", "a text"), regexp.MustCompile(`(?m)^From: .*<mailer-daemon@` + regexp.QuoteMeta(domain) + `>`), domain + "; "},
		{"anonymous", anonymousMail(p, "Owl", w.Account, "to two", "a text"), regexp.MustCompile(`(?m)^From: .*<mailer-daemon@relay\d\.test>`), `; for reply address reply.`},
	} {
		have, n := p.list(t), curlCount(t, w.POP3, w.Account, w.Password)
		began := time.Now()
		p.swaks(t, w.Account+","+unknown, c.raw).want(t, swaksOK, "250 2.0.0 queued")
		awaitPOP3(t, w.POP3, w.Account, w.Password, n+1, 4*time.Minute)
		p.await(t, have+1, 4*time.Minute)
		t.Logf("%s: the report came after %v", c.name, time.Since(began).Round(time.Second))
		got := string(p.fetch(t, have+1))
		for _, want := range []string{"X-Postern-Sender: ", c.by, "report-type=delivery-status", "Final-Recipient: rfc822; " + unknown, "Action: failed", "Status: 5.1.1", "Diagnostic-Code: smtp; 550"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q is not in the report:\n%s", c.name, want, got)
			}
		}
		if !c.from.MatchString(got) || strings.Contains(got, "List-Unsubscribe") || strings.Contains(got, "Final-Recipient: rfc822; "+w.Account) {
			t.Errorf("%s: the report is\n%s", c.name, got)
		}
		eventually(t, time.Minute, func() error {
			r := command(t, nil, binary(t), "proxy", "status", "-f", p.Config)
			r.want(t, 0)
			if n := strings.Count(r.out, unknown+": refused (5.1.1)"); n != i+1 {
				return fmt.Errorf("%s: the status tells of %d refused mails:\n%s", c.name, n, r.out)
			}
			return nil
		})
		if m := curlFetch(t, w.POP3, w.Account, w.Password, n+1); strings.Contains(string(m), unknown) {
			t.Errorf("%s: who got it reads who did not:\n%s", c.name, m)
		}
	}
}

// world: mail of an ordinary host reaches the proxy over the mix network, marked as what it is; the
// answer leaves through an exit, and so does mail of somebody at the other relay; each for an address
// of which only the exit's relay knows nothing more.
func (l *testLab) world(t *testing.T) {
	p, w := &l.Proxies[0], &l.World
	have := p.list(t)
	swaksPlain(t, w.Submission, w.Account, w.Password, w.Account, p.Account, labMail(w.Account, p.Account, "from outside", "an ordinary mail")).want(t, swaksOK)
	p.await(t, have+1, 4*time.Minute)
	got := p.fetch(t, have+1)
	if bodyOf(t, got) != "an ordinary mail" || !strings.Contains(string(got), "world (unencrypted mail from the Internet)") {
		t.Errorf("it came as %q", got)
	}
	for i := range l.Proxies {
		from, n := &l.Proxies[i], curlCount(t, w.POP3, w.Account, w.Password)
		subject := "Re: from outside, from " + from.Account
		from.swaks(t, w.Account, labMail(from.Account, w.Account, subject, "an answer")).want(t, swaksOK, "250 2.0.0 queued")
		awaitPOP3(t, w.POP3, w.Account, w.Password, n+1, 4*time.Minute)
		mail := curlFetch(t, w.POP3, w.Account, w.Password, n+1)
		if bodyOf(t, mail) != "an answer" || subjectOf(mail) != subject || !strings.Contains(string(mail), "From: <"+from.Account+">") || !strings.Contains(string(mail), "List-Unsubscribe:") {
			t.Errorf("it came as %q", mail)
		}
	}
}
