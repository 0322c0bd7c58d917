package proxy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// accountEffects are those of accounts and authorities.
func accountEffects() map[string]func(*testing.T) {
	// refusedBy registers an account with lines of its own and sections, and gives the error.
	refusedBy := func(t *testing.T, perUser, sections string) error {
		c := newSetup(t, newRelays(t), "anna@"+one)
		c.perUser, c.rest = perUser, sections
		cfg := c.load(t)
		a, err := cfg.Accounts()
		must(t, err)
		_, err = Register(t.Context(), Deps{}, cfg, a[0], "x", "")
		if err != nil {
			// A proxy that starts with it all the same does not connect.
			s := c.start(t, func(d *Deps) {
				d.Dial = func(context.Context, string, string) (net.Conn, error) {
					t.Error("it connects")
					return nil, errors.New("no")
				}
			})
			if st := s.Status().Lines[0]; st.Registered || st.Problem != errs.Public(err) {
				t.Errorf("%+v", st)
			}
		}
		return err
	}
	ids := func(t *testing.T, n int) (out []string) {
		for _, k := range newRelays(t).net.Network.Authorities()[:n] {
			id := k.ID()
			out = append(out, hex.EncodeToString(id[:]))
		}
		return out
	}
	voting := func(keys ...string) string {
		var b strings.Builder
		for _, k := range keys {
			fmt.Fprintf(&b, "[[VotingAuthority.net.Peers]]\nAddresses = [\"127.0.0.1:29483\"]\nIdentityPublicKey = %q\n", k)
		}
		return b.String()
	}
	const label = `Authority = "net"`
	stranger := strings.Repeat("ab", 32)
	return map[string]func(*testing.T){
		"NonvotingAuthority.LABEL.Address": func(t *testing.T) {
			w := strings.Join(loadText(t, "[NonvotingAuthority.a]\nAddress = \"127.0.0.1:29483\"\nPublicKey = \"kAiVchOBwHVtKJVFJLsdCQ9UyN2SlfhLHYqT8ePBetg=\"").Warnings(), " ")
			if !strings.Contains(w, "addresses of authorities are not connected to") {
				t.Error(w)
			}
		},
		"NonvotingAuthority.LABEL.PublicKey": func(t *testing.T) {
			refused(t, refusedBy(t, label, "[NonvotingAuthority.net]\nPublicKey = \""+stranger+"\""), errs.Denied, "NonvotingAuthority.net names")
			// One of two is not the whole network: the other one could decide.
			refused(t, refusedBy(t, label, "[NonvotingAuthority.net]\nPublicKey = \""+ids(t, 1)[0]+"\""), errs.Denied, "is in it")
			_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[NonvotingAuthority.a]\nPublicKey = \"abc\""), nil)
			refused(t, err, errs.Invalid, "NonvotingAuthority.a: PublicKey: this is no key of 32 bytes in Base64 or Base16")
		},
		"VotingAuthority.LABEL.Peers.Addresses": func(t *testing.T) {
			if w := loadText(t, voting(stranger)).Warnings(); len(w) != 1 || !strings.Contains(w[0], "not connected to") {
				t.Errorf("%q", w)
			}
		},
		"VotingAuthority.LABEL.Peers.IdentityPublicKey": func(t *testing.T) {
			must(t, refusedBy(t, label, voting(ids(t, 2)...)))
			refused(t, refusedBy(t, label, voting(ids(t, 1)...)), errs.Denied, "is in it")
			refused(t, refusedBy(t, label, voting(append(ids(t, 2), stranger)...)), errs.Denied, "is not in it")
		},
		"VotingAuthority.LABEL.Peers.LinkPublicKey": func(t *testing.T) {
			text := voting(ids(t, 2)...)
			refused(t, refusedBy(t, label, strings.Replace(text, "Addresses", "LinkPublicKey = \""+stranger+"\"\nAddresses", 1)), errs.Denied, "another link key")
			right := map[string]string{}
			for _, c := range newRelays(t).net.Network.Contacts() {
				right[hex.EncodeToString(c.ID[:])] = hex.EncodeToString(c.LinkKey[:])
			}
			must(t, refusedBy(t, label, strings.Replace(text, "Addresses", "LinkPublicKey = \""+right[ids(t, 1)[0]]+"\"\nAddresses", 1)))
		},
		"Account.User": func(t *testing.T) {
			c := loadText(t, "[[Account]]\nUser = \"ＡNNA\"\nProvider = \"BÜCHER.example\"") // PRECIS and IDNA
			a, err := c.Accounts()
			if err != nil || a[0].Address.String() != "anna@xn--bcher-kva.example" || a[0].URL != "https://xn--bcher-kva.example" {
				t.Errorf("%v, %v", a, err)
			}
			for text, words := range map[string]string{"User = \"\"\nProvider = \"x.example\"": "User is missing", "User = \"a b\"\nProvider = \"x.example\"": "no name of an account",
				"User = \"a\"": "Provider is missing", "User = \"a\"\nProvider = \"x..y\"": "no mail address", "User = \"a\"\nProvider = \"-x.example\"": "no domain",
				"User = \"a\"\nProvider = \"x.example\"\n[[Account]]\nUser = \"A\"\nProvider = \"X.example\"": "is there twice"} {
				_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir = \"/x\"\n[[Account]]\n"+text), nil)
				refused(t, err, errs.Invalid, words)
			}
		},
		"Account.Provider": func(t *testing.T) {
			r := newRelays(t)
			newSetup(t, r, "anna@"+two).register(t)
			if len(r.users) != 1 || r.users[0] != "anna@"+two+":relay password" {
				t.Errorf("%q", r.users)
			}
		},
		"Account.ProviderKeyPin": func(t *testing.T) {
			refused(t, refusedBy(t, `ProviderKeyPin = "`+stranger+`"`, ""), errs.Denied, "the relay is not the one that ProviderKeyPin names")
			id := newRelays(t).node(one)
			must(t, refusedBy(t, fmt.Sprintf("ProviderKeyPin = %q", hex.EncodeToString(id[:])), ""))
		},
		"Account.Authority": func(t *testing.T) {
			must(t, refusedBy(t, label, voting(ids(t, 2)...)))
			_, err := LoadText("t.toml", []byte(fmt.Sprintf("[Proxy]\nDataDir=\"/x\"\n[[Account]]\nUser=\"a\"\nProvider=\"x.example\"\nAuthority=\"nett\"\n%s", voting(stranger))), nil)
			refused(t, err, errs.Invalid, "there is no authority with the label nett")
		},
		"Account.NonvotingAuthority": func(t *testing.T) {
			refused(t, refusedBy(t, `NonvotingAuthority = "net"`, "[NonvotingAuthority.net]\nPublicKey = \""+stranger+"\""), errs.Denied, "NonvotingAuthority.net")
			_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[[Account]]\nUser=\"a\"\nProvider=\"x.example\"\nNonvotingAuthority=\"net\"\n"+voting(stranger)), nil)
			refused(t, err, errs.Invalid, "NonvotingAuthority: there is no authority with the label net")
		},
		"Account.VotingAuthority": func(t *testing.T) {
			must(t, refusedBy(t, `VotingAuthority = "net"`, voting(ids(t, 2)...)))
			_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[[Account]]\nUser=\"a\"\nProvider=\"x.example\"\nAuthority=\"o\"\nVotingAuthority=\"net\"\n[NonvotingAuthority.o]\nPublicKey=\""+stranger+"\"\n"+voting(stranger)), nil)
			refused(t, err, errs.Invalid, "two different authorities")
		},
		"Account.InsecureKeyDiscovery": func(t *testing.T) {
			for _, on := range []bool{false, true} {
				c := newSetup(t, newRelays(t), "anna@"+one)
				c.perUser = fmt.Sprintf("InsecureKeyDiscovery = %v", on)
				s := c.register(t).start(t, nil)
				passwords(t, s)
				l := submitter(t, s, "anna@"+one).send(t, "anna@"+one, "unknown@"+two, letterFrom("anna@"+one, "unknown@"+two, "x", "clear"))
				if strings.HasPrefix(l, "250") != on {
					t.Errorf("%v: %s", on, l)
				}
				if err := (recipients{s}).Query(t.Context(), "anna@"+one, "unknown@"+two); on == (errs.KindOf(err) == errs.Denied && err != nil) {
					t.Errorf("%v: %v", on, err)
				}
			}
		},
		"Account.RelayURL": func(t *testing.T) {
			c := newSetup(t, newRelays(t), "anna@"+one)
			cfg := c.load(t)
			a, err := cfg.Accounts()
			if err != nil || a[0].URL != c.relays.URL {
				t.Errorf("%v, %v", a, err)
			}
			_, err = LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[[Account]]\nUser=\"a\"\nProvider=\"x.example\"\nRelayURL=\"http://x.example\""), nil)
			refused(t, err, errs.Invalid, "https://")
		},
		"Account.Unpublished": func(t *testing.T) {
			for _, on := range []bool{false, true} {
				c := newSetup(t, newRelays(t), "anna@"+one)
				c.perUser = fmt.Sprintf("Unpublished = %v", on)
				c.register(t)
				if c.relays.seen[0]["publish"] != !on {
					t.Errorf("%v: %v", on, c.relays.seen[0]["publish"])
				}
			}
		},
	}
}

func debugEffects() map[string]func(*testing.T) {
	options := func(t *testing.T, line string) *user {
		c := newSetup(t, newRelays(t), "anna@"+one)
		c.rest = "[Debug]\n" + line
		c.register(t)
		s, err := prepare(Deps{}, c.load(t))
		must(t, err)
		must(t, s.users[0].open())
		return s.users[0]
	}
	return map[string]func(*testing.T){
		"Debug.ReceiveTimeout": func(t *testing.T) {
			if k := options(t, "ReceiveTimeout = 7200").options().Limits.Keep; k != 2*time.Hour {
				t.Error(k)
			}
			if k := options(t, "ReceiveTimeout = -1").options().Limits.Keep; k != 0 {
				t.Error(k)
			}
		},
		"Debug.BounceQueueLifetime": func(t *testing.T) {
			c := newSetup(t, newRelays(t), "anna@"+one, "berta@"+two)
			c.rest = "[Debug]\nBounceQueueLifetime = 172800"
			s := c.register(t).start(t, nil)
			passwords(t, s)
			if l := submitter(t, s, "anna@"+one).send(t, "anna@"+one, "berta@"+two, letterFrom("anna@"+one, "berta@"+two, "x", "y")); !strings.HasPrefix(l, "250") {
				t.Fatal(l)
			}
			w := s.Status().Lines[0].Waiting
			if len(w) != 1 || w[0].Expires.Sub(w[0].Created).Round(time.Hour) != 48*time.Hour {
				t.Errorf("%+v", w)
			}
		},
		"Debug.UrgentQueueLifetime": func(t *testing.T) {
			if d := options(t, "UrgentQueueLifetime = 60").submit.LookupTime; d != time.Minute {
				t.Error(d)
			}
		},
		"Debug.PollingInterval": func(t *testing.T) {
			if w := loadText(t, "[Debug]\nPollingInterval = 60").Warnings(); len(w) != 1 || !strings.Contains(w[0], "PollingInterval has no effect") {
				t.Errorf("%q", w)
			}
			if w := loadText(t, "[Debug]\nPollingInterval = 0").Warnings(); len(w) != 0 {
				t.Errorf("%q", w)
			}
		},
		"Debug.RetransmitSlack": func(t *testing.T) {
			if d := options(t, "RetransmitSlack = 10").options().AckSlack; d != 10*time.Second {
				t.Error(d)
			}
		},
		"Debug.CaseSensitiveUserIdentifiers": func(t *testing.T) {
			for _, on := range []bool{false, true} {
				c := newSetup(t, newRelays(t), "Anna@"+one)
				c.rest = fmt.Sprintf("[Debug]\nCaseSensitiveUserIdentifiers = %v", on)
				s := c.start(t, nil)
				passwords(t, s)
				for name, ok := range map[string]bool{"Anna@" + one: true, "anna@" + one: !on} {
					got, err := s.login(t.Context(), name)
					if (err == nil) != ok {
						t.Errorf("%v: %s: %s, %v", on, name, got, err)
					}
				}
				if want := map[bool]string{false: "anna@" + one, true: "Anna@" + one}[on]; s.users[0].Address.String() != want {
					t.Errorf("%s", s.users[0].Address)
				}
			}
		},
		"Debug.SendDecoyTraffic": func(t *testing.T) {
			if w := loadText(t, "[Debug]\nSendDecoyTraffic = false").Warnings(); len(w) != 1 || !strings.Contains(w[0], "SendDecoyTraffic = false has no effect") {
				t.Errorf("%q", w)
			}
			if w := loadText(t, "[Debug]\nSendDecoyTraffic = true").Warnings(); len(w) != 0 {
				t.Errorf("%q", w)
			}
		},
		"Debug.GenerateOnly": func(t *testing.T) { // the command's: testdata/proxy.txtar has it too
			c := newSetup(t, newRelays(t), "anna@"+one)
			c.rest = "[Debug]\nGenerateOnly = true"
			cfg := c.load(t)
			if !cfg.Debug.GenerateOnly {
				t.Fatal("it is not read")
			}
			keys, err := Generate(t.Context(), Deps{}, cfg)
			must(t, err)
			if len(keys) != 1 || !there(c.data("root.key")) || !there(c.data("accounts", "anna@"+one, "client.key")) || there(c.data("store")) {
				t.Errorf("%v", keys)
			}
			again, err := Generate(t.Context(), Deps{}, cfg)
			if err != nil || again["anna@"+one] != keys["anna@"+one] {
				t.Errorf("%v, %v", again, err)
			}
		},
	}
}
