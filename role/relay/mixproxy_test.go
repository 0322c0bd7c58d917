package relay

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/wire/web"
)

// proxyKeys are those of a mail proxy.
type proxyKeys struct {
	client string // name of its link key
	letter *letter.PrivateKey
	sign   *directory.PrivateKey
}

func newProxy(t *testing.T, client string) *proxyKeys {
	t.Helper()
	p := &proxyKeys{client: client}
	var err error
	if p.letter, err = letter.GenerateKey(rand.Reader); err == nil {
		p.sign, err = directory.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask sends its registration.
func (p *proxyKeys) ask(t *testing.T, s *Server, address, password string, publish bool, invite string) (int, string) {
	t.Helper()
	_, key := testLinkKey(p.client)
	pub := p.sign.Public()
	body, err := json.Marshal(map[string]any{"link_key": key.String(), "letter_key": p.letter.Public().Bytes(), "verify_key": append(pub.Ed25519(), pub.MLDSA()...),
		"publish": publish, "invite": invite})
	if err != nil {
		t.Fatal(err)
	}
	return askJSON(t, s, address, password, string(body))
}

func askJSON(t *testing.T, s *Server, address, password, body string) (int, string) {
	t.Helper()
	return askMix(t, s, "POST", address, password, "application/json", body)
}

// register registers it, which must be taken, and gives the certificate.
func (p *proxyKeys) register(t *testing.T, s *Server, address, password string, publish bool) (web.MixEntry, *vouch.Certificate) {
	t.Helper()
	code, body := p.ask(t, s, address, password, publish, "")
	var e web.MixEntry
	if err := json.Unmarshal([]byte(body), &e); err != nil || code != 200 {
		t.Fatal(code, body, err)
	}
	c, err := vouch.Parse(e.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return e, c
}

// TestMixCertificate: a proxy that registers gets a certificate which everybody can verify by the
// consensus; over its link it gets one again, with later dates; other keys take their place under
// the next serial.
func TestMixCertificate(t *testing.T) {
	_, s, cons := relayIn(t)
	p := newProxy(t, "annas proxy")
	e, c := p.register(t, s, anna, annas, true)
	if err := c.Verify(cons, time.Now()); err != nil {
		t.Fatal(err)
	}
	if c.Address.String() != anna || c.Relay != s.mix.node.ID() || c.Mailbox != mailboxOf(t, e) || !c.Letter.Equal(p.letter.Public()) || c.Key.ID() != p.sign.Public().ID() || c.Serial != 1 {
		t.Errorf("%+v", c)
	}
	if d := time.Since(c.From); d < 0 || d > time.Hour+time.Minute || c.Until.Sub(c.From) != 7*24*time.Hour {
		t.Error(c.From, c.Until)
	}

	_, line := clientOf(t, s, "annas proxy")
	b, err := line.Fetch(t.Context(), []byte("postern-certificate 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	over, err := vouch.Parse(b)
	if err != nil || over.Verify(cons, time.Now()) != nil || !over.Identity.Equal(&c.Identity) || over.Serial != 1 {
		t.Errorf("%+v %v", over, err)
	}

	other := newProxy(t, "annas proxy")
	if _, c := other.register(t, s, anna, annas, false); c.Serial != 2 || c.Key.ID() != other.sign.Public().ID() {
		t.Errorf("%+v", c)
	}
	got, err := s.mixAccount(t.Context(), []byte(`{"address":"anna"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	ident := vouch.Identity{Letter: other.letter.Public(), Key: other.sign.Public()}
	if x := got.(MixAccount).Proxy; x == nil || x.Fingerprint != ident.Fingerprint() || x.Published || x.Serial != 2 || x.Since == "" {
		t.Errorf("%+v", x)
	}

	// The relay's own letter key is in the directory, and stays.
	n := cons.Find(s.mix.node.ID())
	if string(n.LetterKey) != string(s.mix.letter.Public().Bytes()) {
		t.Error("the directory has another letter key")
	}
	if again, err := s.letterKey(false); err != nil || !again.Public().Equal(s.mix.letter.Public()) {
		t.Error(err)
	}
}

// TestMixCertificateIsNotForAll: who has no proxy gets none, nor who is blocked or no client.
func TestMixCertificateIsNotForAll(t *testing.T) {
	n, s, _ := relayIn(t)
	joined(t, s, anna, annas, "annas client")
	ask := func(line *link.Line) errs.Kind {
		_, err := line.Fetch(t.Context(), []byte("postern-certificate 1\n"))
		if err == nil {
			return 0
		}
		return errs.KindOf(err)
	}
	_, line := clientOf(t, s, "annas client")
	if k := ask(line); k != errs.NotFound {
		t.Error("a client without a proxy's keys:", k)
	}
	if k := ask(dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)); k == 0 {
		t.Error("a mix got a certificate")
	}
	p := newProxy(t, "bens proxy")
	_, c := p.register(t, s, "ben@example.org", "ben's password", false)
	id, err := s.packets.Client(t.Context(), [32]byte(mustKey("bens proxy")))
	if err != nil || s.mix.s.packets.Mailbox(id) != [32]byte(c.Mailbox) {
		t.Fatal(err)
	}
	if err := s.accounts.Block(t.Context(), c.Address); err != nil {
		t.Fatal(err)
	}
	if _, err := s.mix.certificate(t.Context(), id); errs.KindOf(err) != errs.Denied {
		t.Error(err)
	}
	code, body := askJSON(t, s, anna, annas, `{"link_key":"`+mustKey("annas client").String()+`","letter_key":"`+strings.Repeat("A", 1621)+`8=="}`) // one key without the other
	if code != 400 {
		t.Error(code, body)
	}
}

func mustKey(name string) link.Key {
	_, k := testLinkKey(name)
	return k
}

// TestMixProxyNeedsADomain: a relay whose domain is an address cannot vouch, and says so.
func TestMixProxyNeedsADomain(t *testing.T) {
	n := newMixNet(t)
	fs := vfs.NewCrashDisk()
	s := begin(t, Deps{FS: fs, NoControl: true}, n.config(fs, "domain=192.0.2.1", "mixnet.addresses=relay.example:48099"))
	code, body := newProxy(t, "p").ask(t, s, "anna@[192.0.2.1]", annas, false, "")
	if code == 200 || !strings.Contains(body, "cannot vouch for addresses") {
		t.Error(code, body)
	}
}

// effectOfRegistration: invitations, and a door that is shut.
func effectOfRegistration(t *testing.T) {
	n := newMixNet(t)
	fs := vfs.NewCrashDisk()
	s := begin(t, Deps{FS: fs, NoControl: true}, n.config(fs, "mixnet.registration=invite", "web.requests_per_second=0"))
	p := newProxy(t, "annas proxy")
	if code, body := p.ask(t, s, anna, annas, false, ""); code != 403 || !strings.Contains(body, "asks for an invitation") {
		t.Error(code, body)
	}
	if code, body := p.ask(t, s, anna, annas, false, "aaaaa-aaaaa-aaaaa-aaaaa"); code != 403 || !strings.Contains(body, "the invitation is not valid") {
		t.Error(code, body)
	}
	got, err := s.invite(t.Context(), []byte(`{"days":3}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	i := got.(Invited)
	if i.Open != 1 || i.Until != time.Now().UTC().Add(3*24*time.Hour).Format(time.DateOnly) {
		t.Errorf("%+v", i)
	}
	for range 2 { // the first answer may have been lost
		if code, body := p.ask(t, s, anna, annas, false, i.Invite); code != 200 {
			t.Error(code, body)
		}
	}
	if code, body := newProxy(t, "bens proxy").ask(t, s, "ben@example.org", "ben's password", false, i.Invite); code != 403 {
		t.Error("another account used it too:", code, body)
	}
	if code, body := newProxy(t, "annas other").ask(t, s, anna, annas, false, ""); code != 200 {
		t.Error("who is in needs no invitation:", code, body)
	}

	s.c.Mixnet.Register = "off"
	if code, body := newProxy(t, "annas third").ask(t, s, anna, annas, false, i.Invite); code != 403 || !strings.Contains(body, "takes no new clients") {
		t.Error(code, body)
	}
	if code, body := p.ask(t, s, anna, annas, true, ""); code != 200 {
		t.Error("a client that is registered stays:", code, body)
	}
}

// effectOfKeyService: what is asked through the network, of whom. Unknown, unpublished and blocked
// addresses have one answer, and without the service there is only a refusal.
func effectOfKeyService(t *testing.T) {
	_, s, cons := relayIn(t)
	_, want := newProxy(t, "annas proxy").register(t, s, anna, annas, true)
	newProxy(t, "bens proxy").register(t, s, "ben@example.org", "ben's password", false)
	_, gone := newProxy(t, "carls proxy").register(t, s, "carl@example.org", "carl's password", true)
	joined(t, s, "dora@example.org", "dora's password", "doras client")
	if err := s.accounts.Block(t.Context(), gone.Address); err != nil {
		t.Fatal(err)
	}
	ask := func(address string) (uint8, []byte) {
		t.Helper()
		q, err := content.AppendLookup(nil, address)
		if err != nil {
			t.Fatal(err)
		}
		return s.mix.services().Serve(t.Context(), content.ServiceCertificate, q)
	}
	status, b := ask(anna)
	c, err := vouch.Parse(b)
	if status != content.AnswerOK || err != nil || c.Verify(cons, time.Now()) != nil || !c.Identity.Equal(&want.Identity) {
		t.Error(status, err)
	}
	for _, other := range []string{"ben@example.org", "carl@example.org", "dora@example.org", "nobody@example.org", "anna@elsewhere.example"} {
		if status, b := ask(other); status != content.AnswerUnknown || len(b) != 0 {
			t.Errorf("%s: %d, %d bytes", other, status, len(b))
		}
	}
	s.c.Mixnet.Keys = false
	if status, b := ask(anna); status != content.AnswerRefused || len(b) != 0 {
		t.Error(status, b)
	}
}
