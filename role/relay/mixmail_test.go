package relay

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/disktest"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/post/seal"
)

// mails opens the letters that wait for a proxy, as the proxy does, and leaves them there.
func (p *proxyKeys) mails(t *testing.T, s *Server, cons *directory.Consensus) (list []*vouch.Vouched) {
	t.Helper()
	id := p.account(t, s)
	a := letter.NewAssembler(letter.Limits{})
	for after := uint64(0); ; {
		items, err := s.packets.Next(t.Context(), id, after, 64)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) == 0 {
			return list
		}
		for _, it := range items {
			after = it.Number
			c, err := packet.OpenContent(it.Payload)
			if err != nil || c.Kind != content.Letter || c.SURB != nil || it.Reply {
				t.Fatal(c.Kind, err)
			}
			f, err := letter.Open(p.letter, c.Body)
			if err != nil {
				t.Fatal(err)
			}
			l, err := a.Add(f, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if l == nil {
				continue
			}
			v, err := vouch.Check(cons, time.Now(), l, vouch.Door{Home: s.mix.node.ID(), Transit: vouch.InboxTransit})
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, v)
		}
	}
}

func (p *proxyKeys) account(t *testing.T, s *Server) seal.AccountID {
	t.Helper()
	id, err := s.packets.Client(t.Context(), mustKey(p.client))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// inboxOf counts the mails in an INBOX.
func inboxOf(t *testing.T, s *Server, name, password string) string {
	t.Helper()
	c, err := reader(s, name, password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	reply, err := c.imap("STATUS INBOX (MESSAGES)")
	if err != nil {
		t.Fatal(err)
	}
	_, n, _ := strings.Cut(strings.SplitN(reply, "\n", 2)[0], "MESSAGES ")
	return strings.TrimRight(n, ")")
}

const (
	ben, bens   = "ben@example.org", "ben's password"
	carl, carls = "carl@example.org", "carl's password"
)

// TestMailToAProxy: what others send to an account that is read with a mail proxy goes into its packet
// box as letters of the relay, which the proxy opens and believes; what goes to others in the same
// transaction goes into their mailboxes. Large mail is several packets.
func TestMailToAProxy(t *testing.T) {
	_, s, cons := relayIn(t)
	p := newProxy(t, "annas proxy")
	p.register(t, s, anna, annas, false)
	allowed(t, login(s, carl, carls))
	c, err := submitter(s, ben, bens)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	small, mark := sealedMail(ben, 500)
	large, other := sealedMail(ben, 200_000)
	for _, m := range [][]byte{small, large} {
		if err := c.send(ben, []string{anna, carl}, m); err != nil {
			t.Fatal(err)
		}
	}
	got := p.mails(t, s, cons)
	if len(got) != 2 {
		t.Fatalf("%d mails", len(got))
	}
	for i, want := range []string{mark, other} {
		v := got[i]
		if v.Kind != vouch.Relay || v.Domain != "example.org" || v.Cleartext() || v.Mail.Sender.String() != ben || len(v.Mail.Recipients) != 1 || v.Mail.Recipients[0].String() != anna ||
			!bytes.Contains(v.Mail.Raw, []byte(want)) {
			t.Errorf("%+v", v)
		}
	}
	if body(got[1].Mail.Raw) != body(large) {
		t.Error("the mail was changed")
	}
	if n := s.packets.Stats().Waiting; n < 8 {
		t.Errorf("%d packets", n)
	}
	if a, c := inboxOf(t, s, anna, annas), inboxOf(t, s, carl, carls); a != "0" || c != "2" {
		t.Errorf("%s mails in anna's mailbox, %s in carl's", a, c)
	}

	// A report that this relay makes goes there too, and is not marked: it is a listed exception.
	d, err := submitter(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m, _ := sealedMail(anna, 100)
	says(t, d, "MAIL FROM:<"+anna+">", "250")
	says(t, d, "RCPT TO:<"+carl+"> NOTIFY=SUCCESS", "250")
	says(t, d, "DATA", "354")
	says(t, d, string(m)+".", "250")
	if got = p.mails(t, s, cons); len(got) != 3 || got[2].Cleartext() || !got[2].Mail.Sender.IsZero() || !bytes.Contains(got[2].Mail.Raw, []byte("Action: delivered")) {
		t.Errorf("%d mails", len(got))
	}

	// Without its last client the account is read as before.
	if err := s.removeMixClient(t.Context(), p.account(t, s), mustKey(p.client)); err != nil {
		t.Fatal(err)
	}
	if err := c.send(ben, []string{anna}, small); err != nil {
		t.Fatal(err)
	}
	if a := inboxOf(t, s, anna, annas); a != "1" {
		t.Error(a)
	}
}

// TestFullBoxOfAProxy: a mail that has no room is put off, at RCPT if its size is told, and nothing of it
// is kept; others get theirs.
func TestFullBoxOfAProxy(t *testing.T) {
	_, s, cons := relayIn(t, "mixnet.packets_per_account=3")
	p := newProxy(t, "annas proxy")
	p.register(t, s, anna, annas, false)
	c, err := submitter(s, ben, bens)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	large, _ := sealedMail(ben, 100_000)
	if err := c.send(ben, []string{anna}, large); err == nil || !strings.HasPrefix(err.Error(), "452 4.2.2") {
		t.Error(err)
	}
	says(t, c, "MAIL FROM:<"+ben+"> SIZE=100000", "250")
	says(t, c, "RCPT TO:<"+anna+">", "452 4.2.2")
	says(t, c, "RSET", "250")
	if n := len(p.mails(t, s, cons)); n != 0 || s.packets.Stats().Waiting != 0 {
		t.Errorf("%d mails", n)
	}
	small, _ := sealedMail(ben, 500)
	if err := c.send(ben, []string{anna}, small); err != nil {
		t.Fatal(err)
	}
	if n := len(p.mails(t, s, cons)); n != 1 {
		t.Errorf("%d mails", n)
	}
}

// effectOfProxyCleartext: what is not encrypted is judged by its signature where the account is read
// with a proxy, and refused before that for all others, or where the option is off.
func effectOfProxyCleartext(t *testing.T) {
	const clear = "From: <bob@remote.example>\r\nSubject: x\r\n\r\nhello\r\n"
	for _, x := range []struct{ option, to, want string }{
		{"true", anna, "554 5.7.1 No DKIM signature found"}, {"true", ben, "523 Encryption Needed"}, {"false", anna, "523 Encryption Needed"},
	} {
		_, s, _ := relayIn(t, "mixnet.accept_cleartext="+x.option)
		newProxy(t, "annas proxy").register(t, s, anna, annas, false)
		allowed(t, login(s, ben, bens))
		c := exchange(t, s, "")
		says(t, c, "MAIL FROM:<bob@remote.example>", "250")
		says(t, c, "RCPT TO:<"+x.to+">", "250")
		says(t, c, "DATA", "354")
		says(t, c, clear+".", x.want)
	}
}

// sendMail sends a mail of the proxy's account to others of the relay, through its last hop, with a reply
// block for the acknowledgement.
func (p *proxyKeys) sendMail(t *testing.T, n *mixNet, s *Server, cons *directory.Consensus, mix *link.Line, c *vouch.Certificate, raw []byte, to ...string) {
	t.Helper()
	m := vouch.Mail{Certificate: c.Bytes(), Sender: c.Address, Raw: raw}
	for _, a := range to {
		m.Recipients = append(m.Recipients, addr(a))
	}
	key, err := letter.ParsePublicKey(cons.Find(s.mix.node.ID()).LetterKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := letter.Seal(key, letter.Message{Content: m.Append(nil), Date: time.Now(), Signer: p.sign, Sender: c.Address.String()}, letter.Options{Room: letter.RoomACK})
	if err != nil {
		t.Fatal(err)
	}
	hop := relayKey(t, cons, s)
	hops := []packet.Hop{hopOf(t, cons, 1), hopOf(t, cons, 2), hopOf(t, cons, 3), hop}
	for _, b := range sealed.Bodies {
		surb, _, err := packet.NewSURB(hops, packet.ID(c.Mailbox), &packet.Seed{1}, time.Now().Add(24*time.Hour), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		last := hop
		last.Delay = 0
		u, err := packet.Build(nil, packet.Route{First: packet.Last, Hops: []packet.Hop{last}}, packet.Dest{Command: packet.Exit},
			packet.Content{Kind: content.Mail, SURB: surb, Body: b}, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := mix.Send(t.Context(), fill(u)); err != nil {
			t.Fatal(err)
		}
		if p, err := packet.ParsePrefix((<-layerOne(n, cons).got)[:packet.SizeAt(1)]); err != nil || p.Layer != 1 {
			t.Errorf("the acknowledgement: %+v %v", p, err)
		}
	}
}

// TestMailFromAProxy: mail that comes through the mix network is acknowledged by the relay, reaches an
// ordinary mailbox and another proxy's packet box, and a recipient who is nobody is reported into the
// sender's packet box. Who was blocked, or has other keys now, sends nothing any more.
func TestMailFromAProxy(t *testing.T) {
	n, s, cons := relayIn(t)
	p, q := newProxy(t, "annas proxy"), newProxy(t, "bens proxy")
	_, cert := p.register(t, s, anna, annas, false)
	q.register(t, s, ben, bens, false)
	allowed(t, login(s, carl, carls))
	mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)
	raw, mark := sealedMail(anna, 60_000)
	p.sendMail(t, n, s, cons, mix, cert, raw, "ben", "carl", "nobody")
	until(t, "the mail is in carl's mailbox", func() bool { return inboxOf(t, s, carl, carls) == "1" })
	if got := q.mails(t, s, cons); len(got) != 1 || got[0].Mail.Sender.String() != anna || !bytes.Contains(got[0].Mail.Raw, []byte(mark)) {
		t.Errorf("ben's proxy has %d mails", len(got))
	}
	if got := p.mails(t, s, cons); len(got) != 1 || !got[0].Mail.Sender.IsZero() || !bytes.Contains(got[0].Mail.Raw, []byte("nobody@example.org")) || bytes.Contains(got[0].Mail.Raw, []byte(carl)) {
		t.Errorf("anna's proxy has %d reports", len(got))
	}
	if left := disktest.Holding(t, s.d.FS, s.mixPath(mixDoorDir), []byte(mark)); len(left) > 0 {
		t.Error("the mail lies at the door:", left)
	}

	refused := func(why string) {
		t.Helper()
		p.sendMail(t, n, s, cons, mix, cert, raw, "carl")
		until(t, "the letter is gone", func() bool { return s.mix.door.Status().Letters == 0 })
		if got := inboxOf(t, s, carl, carls); got != "1" {
			t.Errorf("%s: carl has %s mails", why, got)
		}
	}
	if err := s.accounts.Block(t.Context(), cert.Address); err != nil {
		t.Fatal(err)
	}
	refused("a blocked account")
	if err := s.accounts.Unblock(t.Context(), cert.Address); err != nil {
		t.Fatal(err)
	}
	newProxy(t, "annas proxy").register(t, s, anna, annas, false)
	refused("old keys")
}
