package relay

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/token"
)

// someToken gives one of two keys that were made once: each costs a second when a test's code is
// watched for races.
func someToken() (*token.PrivateKey, error) {
	keys, err := tokenKeys()
	return keys[turns.Add(1)%2], err
}

var tokenKeys = sync.OnceValues(func() (keys [2]*token.PrivateKey, err error) {
	for i := range keys {
		if keys[i], err = token.GenerateKey(rand.Reader); err != nil {
			return keys, err
		}
	}
	return keys, nil
})

// exitRelay is a relay that lets mail leave, with anna, who reads it with a mail proxy, and one host of
// the world, other.example.
type exitRelay struct {
	t     *testing.T
	s     *Server
	fs    vfs.FS
	cons  *directory.Consensus
	proxy *proxyKeys
	cert  *vouch.Certificate
	line  *link.Line
	world *peer
}

func exitOf(t *testing.T, files map[string]string, set ...string) *exitRelay {
	t.Helper()
	n, fs := newMixNet(t), vfs.NewCrashDisk()
	for name, text := range files {
		if err := vfs.WriteFileAtomic(fs, name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x := &exitRelay{t: t, fs: fs, proxy: newProxy(t, "annas proxy"), world: newPeer(t, "mx.other.example", nil)}
	set = append([]string{"mixnet.tokens_per_day=20", "exit.enabled=true",
		fmt.Sprintf("delivery.routes=other.example host=%s smtp=%s https=off tls=any", x.world.host, x.world.port)}, set...)
	x.s = begin(t, Deps{FS: fs, NoControl: true, NewToken: someToken}, n.config(fs, set...))
	x.cons = n.join(x.s)
	_, x.cert = x.proxy.register(t, x.s, anna, annas, false)
	u, line := clientOf(t, x.s, "annas proxy")
	u.mu.Lock()
	u.hold = true // what comes for anna stays in her box, where the test looks at it
	u.mu.Unlock()
	x.line = line
	return x
}

// token asks for one over anna's line.
func (x *exitRelay) token() ([]byte, error) {
	x.t.Helper()
	e := x.cons.Find(x.s.mix.node.ID())
	day := token.DayOf(time.Now())
	key, err := token.ParseKey(e.TokenKey(uint32(day)))
	if err != nil {
		x.t.Fatal(err)
	}
	b, err := token.Blind(key, e.ID, day, rand.Reader)
	if err != nil {
		x.t.Fatal(err)
	}
	answer, err := x.line.Fetch(x.t.Context(), token.AppendRequest(nil, day, []*token.Blinded{b}))
	if err != nil {
		return nil, err
	}
	list, err := token.ParseAnswer(answer, 1)
	if err != nil {
		x.t.Fatal(err)
	}
	tok, err := b.Finish(list[0])
	if err != nil {
		x.t.Fatal(err)
	}
	return tok.Bytes(), nil
}

// send gives a mail of anna's, or of nobody's, to the relay's door, as packets of the mix network do.
func (x *exitRelay) send(anonymous bool, raw string, to ...string) {
	x.t.Helper()
	tok, err := x.token()
	if err != nil {
		x.t.Fatal(err)
	}
	x.sendWith(tok, anonymous, raw, to...)
}

func (x *exitRelay) sendWith(tok []byte, anonymous bool, raw string, to ...string) {
	x.t.Helper()
	m := vouch.Mail{Token: tok, Raw: []byte(raw)}
	msg := letter.Message{}
	if !anonymous {
		m.Certificate, m.Sender = x.cert.Bytes(), x.cert.Address
		msg = letter.Message{Date: time.Now(), Signer: x.proxy.sign, Sender: x.cert.Address.String()}
	}
	for _, a := range to {
		to, err := mail.ParseAddress(a)
		if err != nil {
			x.t.Fatal(err)
		}
		m.Recipients = append(m.Recipients, to)
	}
	msg.Content = m.Append(nil)
	s, err := letter.Seal(x.s.mix.letter.Public(), msg, letter.Options{Room: letter.RoomACK})
	if err != nil {
		x.t.Fatal(err)
	}
	for _, b := range s.Bodies {
		var name [16]byte
		rand.Read(name[:])
		if err := x.s.mix.door.Exit(x.t.Context(), name, packet.Content{Kind: content.Mail, Body: b}); err != nil {
			x.t.Fatal(err)
		}
	}
}

// refused waits for a report to anna, the n-th, and gives it.
func (x *exitRelay) refused(n int) string {
	x.t.Helper()
	until(x.t, "a report", func() bool { return x.s.packets.Stats().Waiting >= int64(n) }) // each is one packet
	return string(x.proxy.mails(x.t, x.s, x.cons)[n-1].Mail.Raw)
}

// done waits until the door has worked on everything.
func (x *exitRelay) done() {
	x.t.Helper()
	until(x.t, "the letters are gone", func() bool { return x.s.mix.door.Status().Letters == 0 })
}

const (
	far    = "x@other.example"
	nobody = `"[Anon] a friend" <anonymous@anonymous.invalid>`
)

func encrypted(from string) string {
	raw, _ := sealedMail("x@y.example", 500)
	return strings.Replace(string(raw), "From: <x@y.example>", "From: "+from, 1)
}

// effectOfMailboxes: which mail from the mix network ordinary mailboxes take.
func effectOfMailboxes(t *testing.T) {
	for _, c := range []struct{ option, want string }{{"all", "2"}, {"vouched", "1"}, {"off", "0"}} {
		x := exitOf(t, nil, "mixnet.mailboxes="+c.option)
		allowed(t, login(x.s, ben, bens))
		x.sendWith(nil, true, encrypted(nobody), ben)
		x.sendWith(nil, false, encrypted("<"+anna+">"), ben)
		x.done()
		if got := inboxOf(t, x.s, ben, bens); got != c.want {
			t.Errorf("%s: ben has %s mails, want %s", c.option, got, c.want)
		}
		if c.want == "0" {
			if got := x.refused(1); !strings.Contains(got, "take no mail from the mix network") {
				t.Error(got)
			}
		}
	}
}

// exitEffects shows what each option of [exit], and mixnet.tokens_per_day, does.
func exitEffects() map[string]func(*testing.T) {
	// caps sends one mail that leaves and one that does not, where the option says so.
	caps := func(option, words string, second ...string) func(*testing.T) {
		return func(t *testing.T) {
			x := exitOf(t, nil, option)
			x.send(false, encrypted("<"+anna+">"), far)
			<-x.world.arrived
			x.send(false, encrypted("<"+anna+">"), second...)
			if got := x.refused(1); !strings.Contains(got, words) {
				t.Errorf("%q is not in\n%s", words, got)
			}
		}
	}
	// anonymous gives what an anonymous mail looks like that has left.
	anonymous := func(t *testing.T, set ...string) string {
		t.Helper()
		x := exitOf(t, nil, append([]string{"exit.cleartext=true"}, set...)...)
		x.send(true, "From: "+nobody+"\r\n\r\nhello\r\n", far)
		return <-x.world.arrived
	}
	field := func(option, value, want, without string) func(*testing.T) {
		return func(t *testing.T) {
			if got := anonymous(t, option+"="+value); !strings.Contains(got, want) {
				t.Errorf("%q is not in\n%s", want, got)
			}
			if got := anonymous(t); !strings.Contains(got, without) || strings.Contains(got, want) {
				t.Errorf("%q is not in\n%s", without, got)
			}
		}
	}
	return map[string]func(*testing.T){
		"mixnet.tokens_per_day": func(t *testing.T) {
			x := exitOf(t, nil, "mixnet.tokens_per_day=2")
			for range 2 {
				if _, err := x.token(); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := x.token(); err == nil {
				t.Error("a third token was given")
			}
			_, s, cons := relayIn(t)
			if keys := cons.Find(s.mix.node.ID()).TokenKeys; len(keys) != 0 {
				t.Error("a relay that gives none has keys for them")
			}
		},
		"exit.enabled": func(t *testing.T) {
			x := exitOf(t, nil)
			if !x.cons.Find(x.s.mix.node.ID()).Mode.Has(directory.Exit) {
				t.Error("the directory does not know")
			}
			tok, err := x.token()
			if err != nil {
				t.Fatal(err)
			}
			raw := encrypted("<" + anna + ">")
			for range 2 { // the same mail, of which the acknowledgement got lost
				x.sendWith(tok, false, raw, far)
				x.done()
			}
			if got := <-x.world.arrived; !strings.Contains(got, "DKIM-Signature:") || !strings.Contains(got, "From: <"+anna+">") || !strings.Contains(got, "https://example.org/exit/") {
				t.Error(got)
			}
			x.sendWith(tok, false, encrypted("<"+anna+">"), far)
			if got := x.refused(1); !strings.Contains(got, "token") {
				t.Error("a token was spent twice:", got)
			}
			off := exitOf(t, nil, "exit.enabled=false")
			off.send(false, raw, far)
			if got := off.refused(1); !strings.Contains(got, "does not send mail from the mix network to other hosts") {
				t.Error(got)
			}
			if len(x.world.arrived)+len(off.world.arrived) != 0 {
				t.Error("more mails left")
			}
		},
		"exit.return_address": func(t *testing.T) {
			if got := anonymous(t, "exit.return_address=mixed@example.org"); !strings.Contains(got, "<mixed@example.org>") {
				t.Error(got)
			}
			x := exitOf(t, nil)
			c := exchange(t, x.s, "")
			says(t, c, "MAIL FROM:<>", "250")
			says(t, c, "RCPT TO:<anonymous@example.org>", "250")
			says(t, c, "DATA", "354")
			says(t, c, "From: <mailer-daemon@other.example>\r\n\r\nit came back\r\n.", "250")
			if n := x.s.mix.exit.Bounces(); n != 1 {
				t.Errorf("%d mails came back", n)
			}
			if status, text := mxdeliver(t, x.s, "anonymous@example.org", "From: <mailer-daemon@other.example>\r\n\r\nit came back\r\n"); status != http.StatusOK || x.s.mix.exit.Bounces() != 2 {
				t.Error(status, text)
			}
		},
		"exit.x_abuse":      field("exit.x_abuse", "abuse@example.org", "X-Abuse: abuse@example.org", "hello"),
		"exit.comments":     field("exit.comments", "nobody knows", "Comments: nobody knows", "hello"),
		"exit.message":      field("exit.message", "A note of ours", "A note of ours", "left an anonymity network"),
		"exit.subject_line": field("exit.subject_line", "Something", "Subject: Something", "Subject: Type III Anonymous Message"),
		"exit.from_tag":     field("exit.from_tag", "[Mix]", "[Mix]", "[Anon]"),
		"exit.allow_from_address": func(t *testing.T) {
			for _, on := range []bool{true, false} {
				if got := anonymous(t, fmt.Sprint("exit.allow_from_address=", on)); strings.Contains(got, "a friend") != on {
					t.Errorf("%v: %s", on, got)
				}
			}
		},
		"exit.blacklist_file": func(t *testing.T) {
			x := exitOf(t, map[string]string{"/list": "Deny onehost other.example\n"}, "exit.blacklist_file=/list")
			x.send(false, encrypted("<"+anna+">"), far)
			x.refused(1)
			n, fs := newMixNet(t), vfs.NewCrashDisk()
			_, err := Start(t.Context(), Deps{FS: fs, NoControl: true, NewRSA: someRSA}, n.config(fs, "exit.enabled=true", "exit.blacklist_file=/none"))
			if errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "exit.blacklist_file: cannot use /none") {
				t.Error(err)
			}
		},
		"exit.cleartext": func(t *testing.T) {
			x := exitOf(t, nil)
			x.send(false, "From: <"+anna+">\r\n\r\nhello\r\n", far)
			if got := x.refused(1); !strings.Contains(got, "only mail that is end-to-end encrypted") {
				t.Error(got)
			}
			y := exitOf(t, nil, "exit.cleartext=true")
			y.send(false, "From: <"+anna+">\r\n\r\nhello\r\n", far)
			<-y.world.arrived
		},
		"exit.anonymous": func(t *testing.T) {
			x := exitOf(t, nil, "exit.anonymous=false")
			x.send(true, encrypted(nobody), far)
			x.done()
			x.send(false, encrypted("<"+anna+">"), far)
			if got := <-x.world.arrived; !strings.Contains(got, "From: <"+anna+">") {
				t.Error("anonymous mail left:", got)
			}
		},
		"exit.other_domains": func(t *testing.T) {
			for _, on := range []bool{true, false} {
				x := exitOf(t, nil, fmt.Sprint("exit.other_domains=", on))
				from := mail.Address{Local: "eve", Domain: "elsewhere.example"}
				to, err := mail.ParseAddress(far)
				if err != nil {
					t.Fatal(err)
				}
				m := &vouch.Mail{Sender: from, Recipients: []mail.Address{to}, Raw: []byte(encrypted("<eve@elsewhere.example>"))}
				err = x.s.mix.exit.Send(t.Context(), &vouch.Vouched{Kind: vouch.User, Address: from, Mail: m})
				if own := strings.Contains(errs.Public(err), "its own domains only"); err == nil || own == on { // without a token it is refused in any case
					t.Errorf("%v: %v", on, err)
				}
			}
		},
		"exit.maximum_size": func(t *testing.T) {
			large, _ := sealedMail(anna, 50_000)
			x := exitOf(t, nil, "exit.maximum_size=32K")
			x.send(false, string(large), far)
			if got := x.refused(1); !strings.Contains(got, "up to 32768 bytes") {
				t.Error(got)
			}
			y := exitOf(t, nil)
			y.send(false, string(large), far)
			<-y.world.arrived
		},
		"exit.max_recipients": caps("exit.max_recipients=1", "up to 1 recipients", far, "y@other.example"),
		"exit.per_recipient":  caps("exit.per_recipient=1", "today", far),
		"exit.per_domain":     caps("exit.per_domain=1", "today", "y@other.example"),
		"exit.per_day":        caps("exit.per_day=1", "today", "y@elsewhere.example"),
	}
}
