package vouch

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"postern.email/mail"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
)

var update = flag.Bool("update", false, "write testdata/golden.json anew")

const goldenFile = "testdata/golden.json"

// golden is the file of docs/vouch.md §7.
type golden struct {
	NameSeed    string   `json:"name_seed"`   // of the relay's name key, 64 bytes
	KeySeed     string   `json:"key_seed"`    // of the account's key that signs, 64 bytes
	Letter      string   `json:"letter_key"`  // of the account, 1,216 bytes
	Relay       string   `json:"relay"`       // 32 bytes
	Mailbox     string   `json:"mailbox"`     // 32 bytes
	Address     string   `json:"address"`     // as the certificate has it
	Serial      uint64   `json:"serial"`      //
	From        int64    `json:"not_before"`  // seconds since 1970
	Until       int64    `json:"not_after"`   //
	Certificate string   `json:"certificate"` //
	Recipient   string   `json:"recipient"`   // text in one line
	PEM         string   `json:"pem"`         //
	Fingerprint string   `json:"fingerprint"` //
	Recipients  []string `json:"recipients"`  // of the mail
	Sender      string   `json:"sender"`      // of its envelope
	Raw         string   `json:"raw"`         // the mail itself
	Mail        string   `json:"mail"`        // content of the letter
}

// makeGolden makes all of it from the seeds.
func makeGolden(t *testing.T) golden {
	id := identity(t, "one", alice)
	c := issue(t, Certificate{Identity: id, Address: address(t, alice), Serial: 258, From: time.Unix(1_764_000_000, 0), Until: time.Unix(1_764_604_800, 0)}, "one")
	m := Mail{Certificate: c.Bytes(), Recipients: []mail.Address{address(t, "bob@two.example"), address(t, `"b b"@two.example`)}, Sender: c.Address,
		Raw: mailOf("From: Alice <"+alice+">", "Subject: x")}
	h := func(b []byte) string { return hex.EncodeToString(b) }
	g := golden{NameSeed: h(dirtest.Key(t, "names of one").Seed()), KeySeed: h(dirtest.Key(t, alice).Seed()), Letter: h(id.Letter.Bytes()),
		Relay: h(id.Relay[:]), Mailbox: h(id.Mailbox[:]), Address: c.Address.String(), Serial: c.Serial, From: c.From.Unix(), Until: c.Until.Unix(),
		Certificate: h(c.Bytes()), Recipient: id.String(), PEM: string(id.PEM(c.Address)), Fingerprint: id.Fingerprint(),
		Sender: m.Sender.String(), Raw: string(m.Raw), Mail: h(m.Append(nil))}
	for _, r := range m.Recipients {
		g.Recipients = append(g.Recipients, r.String())
	}
	return g
}

// TestGolden: the formats are those of the committed vectors, in both directions. Signatures
// are deterministic.
func TestGolden(t *testing.T) {
	made := makeGolden(t)
	b, err := json.MarshalIndent(made, "", " ")
	must(t, err)
	if *update {
		must(t, os.WriteFile(goldenFile, append(b, '\n'), 0o644))
	}
	want, err := os.ReadFile(goldenFile)
	must(t, err)
	if !bytes.Equal(append(b, '\n'), want) {
		t.Error("what is made is not what the file says")
	}
	var g golden
	must(t, json.Unmarshal(want, &g))
	raw, err := hex.DecodeString(g.Certificate)
	must(t, err)
	c, err := Parse(raw)
	must(t, err)
	if c.Address.String() != g.Address || c.Serial != g.Serial || c.From.Unix() != g.From || c.Until.Unix() != g.Until || c.Fingerprint() != g.Fingerprint {
		t.Errorf("%+v", c)
	}
	seed, err := hex.DecodeString(g.NameSeed)
	must(t, err)
	name, err := directory.NewPrivateKey(seed)
	must(t, err)
	cons := &directory.Consensus{Nodes: []directory.Entry{{ID: c.Relay, Node: directory.Node{NameKey: name.Public(), Domains: []string{"one.example"}}}}}
	must(t, c.Verify(cons, c.From))
	for _, text := range []string{g.Recipient, g.PEM} {
		i, err := ParseIdentity([]byte(text))
		if err != nil || !i.Equal(&c.Identity) {
			t.Error(err)
		}
	}
	raw, err = hex.DecodeString(g.Mail)
	must(t, err)
	m, err := ParseMail(raw)
	if err != nil || string(m.Raw) != g.Raw || len(m.Recipients) != 2 || m.Recipients[1].String() != g.Recipients[1] || m.Sender.String() != g.Sender || !bytes.Equal(m.Certificate, c.Bytes()) {
		t.Errorf("%+v, %v", m, err)
	}
}
