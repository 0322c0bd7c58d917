package mixreceive

import (
	"strings"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/agent/vouch"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mixnet/letter"
)

// nyms are reply addresses by their names, and what came for them.
type nyms struct {
	names map[mail.Address]string
	came  []string
}

func (n *nyms) Find(a mail.Address) (string, bool) {
	name, ok := n.names[a.Canonical()]
	return name, ok
}

func (n *nyms) Came(name, id string) error {
	n.came = append(n.came, name+" "+id)
	return nil
}

// TestReplyAddress: what comes with the reply blocks of an address says so; what comes without them, or with
// those of another, is never taken for mail for that address, whoever signs it.
func TestReplyAddress(t *testing.T) {
	fox, owl := strings.Repeat("f", anon.ReplyNameLen), strings.Repeat("o", anon.ReplyNameLen)
	to := func(name string) mail.Address { return anon.ReplyAddress(name, other) }
	gone := to(strings.Repeat("g", anon.ReplyNameLen))
	relay := func(flags uint8, rcpts ...mail.Address) func(*vouch.Mail, *letter.Message) {
		return func(m *vouch.Mail, l *letter.Message) {
			m.Flags, m.Certificate, m.Sender, m.Recipients = vouch.FromOrdinary|flags, nil, mail.Address{}, rcpts
			l.Signer, l.Sender = agenttest.NameKey(t, other), other
		}
	}
	raw := strings.Replace(plain, "To: bert@two.example", "Message-ID: <a@x>\r\nTo: "+to(fox).String(), 1)
	const refused = "Subject: Mail was refused: it did not come the way that it says"
	const lure = "Subject: A mail may want to find out that a reply address is yours"
	for name, c := range map[string]struct {
		with, raw string
		change    func(*vouch.Mail, *letter.Message)
		want      []string // within the mails that are there then
	}{
		"an answer": {fox, raw, relay(0, to(fox)), []string{"X-Postern-Sender: two.example; relay (mail that your relay took by its own rules); for reply address " + to(fox).String() + " (\"Fox\")\r\n"}},
		"from the world": {owl, raw, relay(vouch.FromWorld, to(owl)), []string{"X-Postern-Sender: two.example; world (unencrypted mail from the Internet); for reply address " + to(owl).String() +
			" (\"=?utf-8?b?RcO8bGU=?=\")\r\n"}},
		"of an address that was given up":    {strings.Repeat("g", anon.ReplyNameLen), raw, relay(0, gone), []string{"for reply address " + gone.String() + " (which you gave up)\r\n"}},
		"to the account instead":             {"", raw, relay(0, to(fox)), []string{refused}},
		"with the blocks of another":         {owl, raw, relay(0, to(fox)), []string{refused}},
		"to two":                             {fox, raw, relay(0, to(fox), to(owl)), []string{refused}},
		"to the account, with blocks":        {fox, plain, relay(0, mail.Address{Local: "bert", Domain: other}), []string{refused}},
		"of a user, with blocks":             {fox, raw, func(m *vouch.Mail, _ *letter.Message) { m.Recipients = []mail.Address{to(fox)} }, []string{refused}},
		"to the account, naming the address": {"", raw, nil, []string{lure, "X-Postern-Sender: anna@one.example; certificate (the sender's relay vouches; the key is not in your key book)\r\n"}},
		"to the account":                     {"", plain, nil, []string{"X-Postern-Sender: anna@one.example; certificate (the sender's relay vouches; the key is not in your key book)\r\n"}},
	} {
		w := newWorld(t, nil, nil)
		w.Create("bert", nil)
		n := &nyms{names: map[mail.Address]string{to(fox): "Fox", to(owl): "Eüle"}}
		w.account.Nyms = n
		w.net.GiveWith(w.bert, c.with, w.seal(c.raw, c.change).Bodies...)
		must(t, w.pass())
		in := w.Inbox("bert")
		if len(in) != len(c.want) {
			t.Errorf("%s: %q", name, in)
			continue
		}
		for i := range in {
			if !strings.Contains(in[i], c.want[i]) {
				t.Errorf("%s: %q, want %q", name, in[i], c.want[i])
			}
			if c.want[i] == refused && strings.Contains(in[i], "Hello.") {
				t.Errorf("%s: its text was delivered", name)
			}
		}
		came := map[string]string{"an answer": "Fox <a@x>", "from the world": "Eüle <a@x>"}[name]
		if got := strings.Join(n.came, ", "); got != came {
			t.Errorf("%s: noted as %q", name, got)
		}
		if got, err := w.bert.Store.Collect(); err != nil || len(got.Letters) != 0 {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}
