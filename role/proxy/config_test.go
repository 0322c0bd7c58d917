package proxy

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// TestDefaults: what mailproxy's manual has in its smallest file is enough, and what is left out, or
// empty, or zero has the defaults of the program.
func TestDefaults(t *testing.T) {
	for _, text := range []string{"[Proxy]\nDataDir = \"/d\"\n", "[proxy]\ndatadir = \"/d\"\nPOP3Address = \"\"\nSMTPAddress = \"\"\nRecipientDir = \"\"\n[Logging]\nFile = \"\"\nLevel = \"\"\n[Management]\nPath = \"\"\n" +
		"[UpstreamProxy]\nType = \"\"\n[Debug]\nReceiveTimeout = -1\nBounceQueueLifetime = 0\nUrgentQueueLifetime = -5\nPollingInterval = 0\nRetransmitSlack = 0\n"} {
		c, err := LoadText("t.toml", []byte(text), nil)
		must(t, err)
		p, d := &c.Proxy, &c.Debug
		if p.POP3Address != "127.0.0.1:2524" || p.SMTPAddress != "127.0.0.1:2525" || p.IMAPAddress != "127.0.0.1:2526" || p.PageAddress != "127.0.0.1:2527" || p.RecipientDir != "/d/recipients" || !p.SMTPAuth || p.NoLaunchListeners ||
			c.Logging.Level != "NOTICE" || c.Logging.File != "" || c.Logging.Disable || c.Management.Enable || c.Management.Path != "/d/management_sock" || c.UpstreamProxy.Type != "none" ||
			d.ReceiveTimeout != 0 || d.BounceQueueLifetime != 432000 || d.UrgentQueueLifetime != 3600 || d.RetransmitSlack != 300 || d.PollingInterval != 30 {
			t.Errorf("%+v", c)
		}
	}
	_, err := Load(t.TempDir()+"/none.toml", nil)
	refused(t, err, errs.NotFound, "there is no configuration file")
}

// TestManual: the examples of mailproxy's manual, put together, are a configuration.
func TestManual(t *testing.T) {
	c, err := LoadText("t.toml", []byte(`[Proxy]
    POP3Address = "127.0.0.1:2524"
    SMTPAddress = "127.0.0.1:2525"
    DataDir = "/home/user/.local/share/katzenpost"
[Logging]
    Disable = false
    File = "/home/user/.local/share/katzenpost/katzenpost.log"
    Level = "DEBUG"
[NonvotingAuthority]
  [NonvotingAuthority.TestAuthority]
    Address = "127.0.0.1:29483"
    PublicKey = "kAiVchOBwHVtKJVFJLsdCQ9UyN2SlfhLHYqT8ePBetg="
[[Account]]
    User = "alice"
    Provider = "provider.example"
    ProviderKeyPin = "0AV1syaCdBbm3CLmgXLj6HdlMNiTeeIxoDc8Lgk41e0="
    Authority = "TestAuthority"
    InsecureKeyDiscovery = true
[Management]
    Enable = true
    Path = "/home/user/.local/share/katzenpost/management_sock"
`), nil)
	must(t, err)
	a, err := c.Accounts()
	must(t, err)
	if len(a) != 1 || a[0].Address.String() != "alice@provider.example" || a[0].Pin[0] != 0xd0 || a[0].Authorities.peers[0].id[0] != 0x90 || !a[0].Discover {
		t.Errorf("%+v", a)
	}
}

// TestParseKey: 32 bytes in Base16 of either case, in Base64 of either alphabet, padded or not; nothing
// else.
func TestParseKey(t *testing.T) {
	key := bytes.Repeat([]byte{0xfb, 0xff}, 16)
	for _, s := range []string{hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key),
		base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key)} {
		if k, err := ParseKey(s); err != nil || !bytes.Equal(k[:], key) {
			t.Errorf("%s: %x, %v", s, k, err)
		}
	}
	for _, s := range []string{"", "x", hex.EncodeToString(key[:31]), hex.EncodeToString(append(key, 1)), base64.StdEncoding.EncodeToString(key[:31]), base64.StdEncoding.EncodeToString(key) + "AAAA"} {
		_, err := ParseKey(s)
		refused(t, err, errs.Invalid, "no key of 32 bytes in Base64 or Base16")
	}
}

// TestManyAccounts: their number is bounded.
func TestManyAccounts(t *testing.T) {
	var b strings.Builder
	b.WriteString("[Proxy]\nDataDir = \"/d\"\n")
	for i := range MaxAccounts {
		fmt.Fprintf(&b, "[[Account]]\nUser = \"u%d\"\nProvider = \"x.example\"\n", i)
	}
	_, err := LoadText("t.toml", []byte(b.String()), nil)
	must(t, err)
	b.WriteString("[[Account]]\nUser = \"more\"\nProvider = \"x.example\"\n")
	_, err = LoadText("t.toml", []byte(b.String()), nil)
	refused(t, err, errs.Invalid, "there are more than 64 accounts")
}

// TestManyConnections: mail programs beyond the bound are told so, and the others go on.
func TestManyConnections(t *testing.T) {
	s := newSetup(t, newRelays(t), "anna@"+one).start(t, nil)
	var first *conn
	for range maxConns {
		c := reach(t, s.at("SMTPAddress"))
		c.smtp(t, "")
		if first == nil {
			first = c
		}
	}
	if l, _ := reach(t, s.at("SMTPAddress")).smtp(t, ""); !strings.HasPrefix(l, "421") {
		t.Error(l)
	}
	if l, _ := first.smtp(t, "NOOP"); !strings.HasPrefix(l, "250") {
		t.Error(l)
	}
}

// FuzzLoad: whatever a file holds is a configuration, which can be imported too, or an error with a public text.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{"", "[Proxy]\nDataDir = \"/d\"\n", "Proxy = 1", "[Proxy]\nDataDir = \"/d\"\n[[Account]]\nUser = \"a\"\nProvider = \"[127.0.0.1]\"\n[Recipients]\n\"a@b\" = \"c\"\n",
		"[Proxy]\nDataDir = \"/d\"\n[VotingAuthority.\"x y\"]\nPeers = [{Addresses = [], IdentityPublicKey = \"00\"}]\n", "Proxy.DataDir = \"/d\"\nDebug = {RetransmitSlack = 1}\n",
		"[Proxy]\nDataDir = \"/d\"\n[UpstreamProxy]\nPreferedTransports = [\n\"tcp\", # x\n]\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := LoadText("t.toml", text, nil)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid || errs.Public(err) == "" {
				t.Fatal(err)
			}
			return
		}
		_ = c.Warnings()
		i, err := ImportFile("t.toml", text, "/new")
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if len(i.Refused()) == 0 && i.Config.Proxy.DataDir != "/new" {
			t.Fatalf("%+v", i.Config.Proxy)
		}
	})
}
