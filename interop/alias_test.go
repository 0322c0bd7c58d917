package interop

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"postern.email/interop/mailclient"
	"postern.email/mail/aliasname"
)

// aliasOwner is an account with aliases, as its owner uses it: by the commands, with a secret.
type aliasOwner struct {
	*server
	user
	secret string // file
}

// withAliases makes a secret for an account's aliases.
func (s *server) withAliases(t testing.TB, u user) *aliasOwner {
	t.Helper()
	cmd := s.aliasCommand(t, "new", "account", u.addr, "--stdin")
	cmd.Stdin = strings.NewReader(u.password + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("new account: %v", err)
	}
	file := filepath.Join(t.TempDir(), "secret")
	writeFile(t, file, string(out))
	return &aliasOwner{s, u, file}
}

// aliasCommand is postern alias at a server.
func (s *server) aliasCommand(t testing.TB, args ...string) *exec.Cmd {
	return exec.Command(binary(t), append(append([]string{"alias"}, args...), "--dir", s.dir)...)
}

// run runs a command on the owner's aliases and gives what it prints.
func (o *aliasOwner) run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := o.aliasCommand(t, append(args, "--secret-file", o.secret)...).Output()
	if err != nil {
		t.Fatalf("postern alias %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// otherShop is another mail server that swaks plays: this machine may send for its domain, and it may sign.
type otherShop struct {
	domain string
	key    ed25519.PrivateKey
}

func (w *world) shop(t testing.TB, domain string) *otherShop {
	t.Helper()
	seed := sha256.Sum256([]byte(domain))
	s := &otherShop{domain, ed25519.NewKeyFromSeed(seed[:])}
	w.DNS.AddTXT(t, domain, "v=spf1 ip4:127.0.0.0/8 -all")
	w.DNS.AddTXT(t, "s1._domainkey."+domain, "v=DKIM1; k=ed25519; p="+base64.StdEncoding.EncodeToString(s.key.Public().(ed25519.PublicKey)))
	return s
}

// mail is an ordinary mail of the shop's, signed or not.
func (s *otherShop) mail(t testing.TB, to, subject string, signed bool) []byte {
	t.Helper()
	raw := []byte(fmt.Sprintf("From: Shop <news@%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: Fri, 20 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%s@%s>\r\n\r\nHello %s\r\n", s.domain, to, subject, subject, s.domain, subject))
	if !signed {
		return raw
	}
	var out bytes.Buffer
	err := dkim.Sign(&out, bytes.NewReader(raw), &dkim.SignOptions{Domain: s.domain, Selector: "s1", Signer: s.key, Hash: crypto.SHA256,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// send gives a mail to a relay, and wants swaks to end with a code, and to have seen a text.
func (s *otherShop) send(t testing.TB, to *server, rcpt string, raw []byte, code int, text string) {
	t.Helper()
	host, port := hostPort(t, to.SMTP)
	command(t, nil, "swaks", "--tls", "--server", host, "--port", port, "--helo", "mx."+s.domain,
		"--from", "news@"+s.domain, "--to", rcpt, "--data", "@"+swaksFile(t, raw)).want(t, code, text)
}

// TestAliasMail: an alias from its first mail to the answer and the evidence, at the doors that
// other people and mail programs use. Nothing of the account is in what the other side gets.
func TestAliasMail(t *testing.T) {
	needTool(t, "swaks")
	w := newWorld(t)
	a := w.relay(t, "a.example", noSendLimit...)
	away := w.relay(t, "away.example", noSendLimit...)
	me := a.withAliases(t, a.created(t, 1)[0])
	friend := away.created(t, 1)[0]
	away.set(t, "set", friend.addr, "accept-cleartext", "on")
	good, spam := w.shop(t, "shop.example"), w.shop(t, "spam.example")
	inbox := func() []string { return a.mails(t, me.user) }

	al := me.run(t, "new", "handle", "--site", "shop.example")
	// The first mail, that the shop's domain signs, is taken and marked; so is a stranger's.
	first := good.mail(t, al, "welcome", true)
	good.send(t, a, al, first, swaksOK, "250 ")
	stranger := spam.mail(t, al, "cheap", true)
	spam.send(t, a, strings.ToUpper(al), stranger, swaksOK, "250 ")
	all := inbox()
	if len(all) != 2 || !strings.Contains(all[0], "X-Postern-Alias: "+al+"; sender=first; vouched=dkim:shop.example\r\n") || !strings.HasSuffix(all[0], string(first)) ||
		!strings.Contains(all[1], "; sender=unexpected; vouched=dkim:spam.example\r\n") || !strings.HasSuffix(all[1], string(stranger)) {
		t.Fatalf("%d mails:\n%s", len(all), strings.Join(all, "\n"))
	}
	// SPF is enough; nothing is not.
	good.send(t, a, al, good.mail(t, al, "unsigned", false), swaksOK, "250 ")
	forged := strings.Replace(string(good.mail(t, al, "forged", false)), "shop.example>", "bank.example>", 1)
	good.send(t, a, al, []byte(forged), swaksData, "550 5.7.26 ")
	// Block, pause, ask, pin.
	me.run(t, "block", al, "news@spam.example")
	spam.send(t, a, al, spam.mail(t, al, "again", true), swaksData, "550 5.7.1 Recipient address rejected: this sender is not accepted here")
	me.run(t, "pause", al)
	good.send(t, a, al, first, swaksRcpt, "550 5.1.1 Recipient address rejected: User unknown")
	good.send(t, a, "never-there-11111@a.example", first, swaksRcpt, "550 5.1.1 Recipient address rejected: User unknown")
	me.run(t, "resume", al)
	pinned := me.run(t, "new", "handle", "--mode", "pinned")
	good.send(t, a, pinned, good.mail(t, pinned, "pin", true), swaksOK, "250 ")
	spam.send(t, a, pinned, spam.mail(t, pinned, "pin", true), swaksData, "550 5.7.1 ")
	ask := me.run(t, "new", "handle", "--mode", "ask")
	before := len(inbox())
	for range 2 {
		spam.send(t, a, ask, spam.mail(t, ask, "ask", true), swaksData, "450 4.7.1 Recipient address rejected: the recipient is asked, try again later")
	}
	all = inbox()
	if len(all) != before+1 || !strings.Contains(all[before], "postern alias allow "+ask+" news@spam.example") {
		t.Errorf("%d notes: %q", len(all)-before, all[before:])
	}
	me.run(t, "allow", ask, "news@spam.example")
	spam.send(t, a, ask, spam.mail(t, ask, "ask", true), swaksOK, "250 ")

	me.derived(t, good)
	me.answer(t, al, away, friend)
	me.evidence(t, w, al)
}

// derived: an address that a client made by itself is one from its first mail on.
func (o *aliasOwner) derived(t *testing.T, s *otherShop) {
	t.Helper()
	secret, err := os.ReadFile(o.secret)
	if err != nil {
		t.Fatal(err)
	}
	var key struct{ Key []byte }
	out := command(t, nil, needTool(t, "curl"), append(o.curlBase(t, o.HTTPS), "--fail", "-H", "Authorization: Bearer "+strings.TrimSpace(string(secret)), o.url(t, "https", o.HTTPS, "/api/postern/v1/key"))...)
	out.want(t, 0)
	if err := json.Unmarshal([]byte(out.out), &key); err != nil || len(key.Key) != aliasname.KeyLen {
		t.Fatalf("%v: %s", err, out.out)
	}
	k := [aliasname.KeyLen]byte(key.Key)
	made := aliasname.Derive(&k, o.Domain, "plane.example", 0) + "@" + o.Domain
	if list := o.run(t, "list"); strings.Contains(made, list) && list != "" {
		t.Errorf("it is there before its first mail: %s", list)
	}
	s.send(t, o.server, made, s.mail(t, made, "derived", true), swaksOK, "250 ")
	all := o.mails(t, o.user)
	if last := all[len(all)-1]; !strings.Contains(last, "X-Postern-Alias: "+made+"; sender=first;") {
		t.Errorf("%s", last)
	}
	if local, _, _ := strings.Cut(made, "@"); !strings.Contains(o.run(t, "list"), local) {
		t.Errorf("it is not listed after its first mail: %s", o.run(t, "list"))
	}
	k[0]++
	guess := aliasname.Derive(&k, o.Domain, "plane.example", 0) + "@" + o.Domain
	s.send(t, o.server, guess, s.mail(t, guess, "guess", true), swaksRcpt, "550 5.1.1 ")
}

// answer: the owner answers as the alias with a mail program that knows nothing of aliases. In cleartext that
// goes only to who wrote, or was allowed; and nothing of the account is in what comes.
func (o *aliasOwner) answer(t *testing.T, al string, away *server, friend user) {
	t.Helper()
	local, _, _ := strings.Cut(o.addr, "@")
	raw := "Received: from canary-laptop ([192.0.2.1])\r\nFrom: \"Canary Name\" <" + al + ">\r\nReply-To: " + o.addr + "\r\nSender: " + o.addr + "\r\nTo: \"Canary Friend\" <" + friend.addr + ">\r\nSubject: as the alias\r\n" +
		"Date: Fri, 20 Nov 2026 14:02:03 +0530\r\nMessage-ID: <" + local + ".1@" + o.Domain + ">\r\nReferences: <" + local + ".0@" + o.Domain + ">\r\nUser-Agent: canary\r\nX-Canary: 1\r\nDisposition-Notification-To: " + o.addr + "\r\n" +
		"Autocrypt: addr=" + o.addr + "; keydata=AAAA\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\nContent-ID: <" + local + "@canary>\r\n\r\nHello, " + o.addr + " here.\r\n" +
		"--b\r\nContent-Type: application/pgp-keys\r\n\r\ncanary\r\n--b--\r\n"
	send := func(code int, text string) {
		t.Helper()
		host, port := hostPort(t, o.Submissions)
		args := []string{"--tls-on-connect", "--server", host, "--port", port, "--helo", "swaks.example", "--auth", "PLAIN", "--auth-user", o.addr, "--auth-password", o.password, "--from", al}
		command(t, nil, "swaks", append(args, "--to", friend.addr, "--data", "@"+swaksFile(t, []byte(raw)))...).want(t, code, text)
	}
	send(swaksData, "523 Encryption Needed: unencrypted mail as an alias goes only to who wrote to it, or whom you have allowed")
	o.run(t, "allow", al, friend.addr)
	send(swaksOK, "250 ")
	maker := mailclient.NewMaker(7)
	if err := o.mustSubmit(t, o.user).Send(al, []string{friend.addr}, maker.Mail(al, 2000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error {
		if got, err := away.tryMails(friend); err != nil || len(got) != 2 {
			return fmt.Errorf("%d mails, %v", len(got), err)
		}
		return nil
	})
	var got string
	for _, m := range away.mails(t, friend) {
		for _, secret := range []string{"canary", strings.ToLower(local), o.password} {
			if strings.Contains(strings.ToLower(m), secret) {
				t.Errorf("the other side gets %q:\n%s", secret, m)
			}
		}
		if strings.Contains(m, "Subject: as the alias") {
			got = m
		}
	}
	if !strings.Contains(got, "From: <"+al+">\r\n") || !strings.Contains(got, "Date: Fri, 20 Nov 2026 08:32:03 +0000\r\n") || !strings.Contains(got, "Hello, "+al+" here.") {
		t.Errorf("%s", got)
	}
	// What cannot be delivered is reported to the alias, in the mailbox of its owner.
	if err := o.mustSubmit(t, o.user).Send(al, []string{"nobody@" + away.Domain}, maker.Mail(al, 2000)); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, func() error {
		all, err := o.tryMails(o.user)
		if err != nil {
			return err
		}
		for _, m := range all {
			if strings.Contains(m, "multipart/report") {
				if !strings.Contains(m, "To: <"+al+">") || strings.Contains(strings.ToLower(m), strings.ToLower(local)) {
					t.Errorf("the report tells of the account:\n%s", m)
				}
				return nil
			}
		}
		return fmt.Errorf("no report among %d mails", len(all))
	})
}

// evidence: two mails and their keys go into a file that anybody can check.
func (o *aliasOwner) evidence(t *testing.T, w *world, al string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "evidence.json")
	cmd := o.aliasCommand(t, "evidence", al, "--account", o.addr, "--out", file)
	cmd.Stdin = strings.NewReader(o.password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	command(t, nil, binary(t), "alias", "verify-evidence", file, "--resolver", w.DNS.Addr).want(t, 0, "shop.example", "spam.example", "publishes today")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, file, strings.Replace(string(text), `"unexpected"`, `"expected"`, 1))
	command(t, nil, binary(t), "alias", "verify-evidence", file, "--offline").want(t, 1, "does not hold")
}
