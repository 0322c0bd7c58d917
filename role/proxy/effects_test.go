package proxy

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/configtest"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/wire/management"
)

// TestOptions runs one test for each option, TestOptions/<key>, which shows that the option has an
// effect. An option without one fails, and so does a test without an option.
func TestOptions(t *testing.T) {
	configtest.Options(t, &Config{}, effects(), accountEffects(), upstreamEffects(), debugEffects())
}

// free gives a port of loopback on which nobody listens.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// there reports whether a file exists.
func there(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// with is a setup with lines in [Proxy].
func with(t *testing.T, top string, accounts ...string) *setup {
	c := newSetup(t, newRelays(t), accounts...)
	c.top = top
	return c
}

// listens: the address is where the greeting comes from, and an address that is taken stops the
// start.
func listens(key, greeting string) func(*testing.T) {
	return func(t *testing.T) {
		at := free(t)
		c := with(t, fmt.Sprintf("%s = %q", key, at))
		s := c.start(t, nil)
		x := reach(t, at)
		if greeting != "" {
			if l := x.line(t); !strings.HasPrefix(l, greeting) {
				t.Errorf("%q", l)
			}
		}
		if s.at(key) != at {
			t.Errorf("%q", s.at(key))
		}
		other := with(t, fmt.Sprintf("%s = %q", key, at))
		_, err := Start(t.Context(), Deps{}, other.load(t))
		refused(t, err, errs.Exists, "choose another with Proxy."+key)
	}
}

func effects() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"Proxy.POP3Address": listens("POP3Address", "+OK"),
		"Proxy.SMTPAddress": listens("SMTPAddress", "220 localhost"),
		"Proxy.IMAPAddress": func(t *testing.T) {
			listens("IMAPAddress", "* OK")(t)
			if s := with(t, `IMAPAddress = "off"`).start(t, nil); s.at("IMAPAddress") != "" || s.at("POP3Address") == "" {
				t.Errorf("%+v", s.Info())
			}
		},
		"Proxy.PageAddress": func(t *testing.T) {
			listens("PageAddress", "")(t)
			if s := with(t, `PageAddress = "off"`).start(t, nil); s.at("PageAddress") != "" || s.Info().Page != "" {
				t.Errorf("%+v", s.Info())
			}
		},
		"Proxy.DataDir": func(t *testing.T) {
			c := with(t, "")
			c.start(t, nil)
			for _, name := range []string{"store", "root.key", "node.key", "recipients", "accounts"} {
				if !there(c.data(name)) {
					t.Errorf("%s is not there", name)
				}
			}
			_, err := Start(t.Context(), Deps{}, c.load(t))
			refused(t, err, errs.Exists, "in use by process")
			for text, words := range map[string]string{"[Proxy]\n": "DataDir is needed", "[Proxy]\nDataDir = \"data\"\n": "no absolute path"} {
				_, err := LoadText("t.toml", []byte(text), nil)
				refused(t, err, errs.Invalid, words)
			}
		},
		"Proxy.RecipientDir": func(t *testing.T) {
			dir := t.TempDir()
			c := with(t, fmt.Sprintf("RecipientDir = %q", dir))
			must(t, os.WriteFile(filepath.Join(dir, "bob@x.example.pem"), identity(t, "bob").PEM(mail.Address{}), 0o600))
			s := c.start(t, nil)
			if s.Status().Keys.Known != 1 || there(c.data("recipients")) {
				t.Errorf("%+v", s.Status().Keys)
			}
		},
		"Proxy.NoLaunchListeners": func(t *testing.T) {
			s := with(t, "NoLaunchListeners = true").start(t, nil)
			if i := s.Info(); i.SMTP+i.POP3+i.IMAP+i.Page != "" || len(s.ports) != 0 {
				t.Errorf("%+v", i)
			}
		},
		"Proxy.SMTPAuth": func(t *testing.T) {
			for _, auth := range []bool{true, false} {
				c := with(t, fmt.Sprintf("SMTPAuth = %v", auth), "anna@"+one).register(t)
				s := c.start(t, nil)
				x := reach(t, s.at("SMTPAddress"))
				x.smtp(t, "")
				_, all := x.smtp(t, "EHLO x")
				l, _ := x.smtp(t, "MAIL FROM:<anna@%s>", one)
				if strings.Contains(all, "AUTH") != auth || strings.HasPrefix(l, "530 5.7.0") != auth || strings.HasPrefix(l, "250") == auth {
					t.Errorf("%v: %q, %q", auth, all, l)
				}
				if !auth {
					if l, _ := x.smtp(t, "RSET"); !strings.HasPrefix(l, "250") {
						t.Error(l)
					}
					if l, _ := x.smtp(t, "MAIL FROM:<other@%s>", one); !strings.HasPrefix(l, "5") {
						t.Errorf("somebody else's address: %s", l)
					}
				}
			}
		},
		"Proxy.AllowRemote": func(t *testing.T) {
			for _, key := range []string{"SMTPAddress", "POP3Address", "IMAPAddress", "PageAddress"} {
				c := with(t, fmt.Sprintf("%s = \"0.0.0.0:0\"", key))
				_, err := LoadText("t.toml", []byte(c.text()), nil)
				refused(t, err, errs.Invalid, "Proxy."+key+" is no loopback address")
				c.top += "\nAllowRemote = true"
				if w := strings.Join(c.load(t).Warnings(), "\n"); !strings.Contains(w, "AllowRemote") {
					t.Errorf("no warning: %s", w)
				}
			}
			if w := with(t, "AllowRemote = true").load(t).Warnings(); len(w) != 0 {
				t.Errorf("%q", w)
			}
			_, err := LoadText("t.toml", []byte(with(t, "SMTPAddress = \"0.0.0.0:0\"\nAllowRemote = true\nSMTPAuth = false").text()), nil)
			refused(t, err, errs.Invalid, "must be a loopback address")
		},
		"Proxy.KeyFile": func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "k")
			c := with(t, fmt.Sprintf("KeyFile = %q", file))
			c.start(t, nil)
			if !there(file) || there(c.data("node.key")) {
				t.Error("the key lies elsewhere")
			}
		},
		"Proxy.TrustedCAs": func(t *testing.T) {
			c := newSetup(t, newRelays(t), "anna@"+one)
			cfg := c.load(t)
			a, err := cfg.Accounts()
			must(t, err)
			cfg.Proxy.TrustedCAs = nil
			_, err = Register(t.Context(), Deps{}, cfg, a[0], "x", "")
			refused(t, err, errs.Unavailable, "the relay cannot be reached")
			_, err = Register(t.Context(), Deps{}, c.load(t), a[0], "x", "")
			must(t, err)
		},
		"Proxy.MaxMailboxSize": func(t *testing.T) {
			s := with(t, `MaxMailboxSize = "1M"`, "anna@"+one).start(t, nil)
			passwords(t, s)
			to, err := s.accounts.Resolve(t.Context(), s.users[0].Address)
			must(t, err)
			big := []byte(letterFrom("x@y.example", "anna@"+one, "big", strings.Repeat("x\r\n", 200_000)))
			must(t, s.deliver.Local(t.Context(), mail.Address{}, []account.Account{to}, big))
			refused(t, s.deliver.Local(t.Context(), mail.Address{}, []account.Account{to}, big), errs.Full, "full")
		},
		"Proxy.MinFreeSpace": func(t *testing.T) {
			for least, code := range map[string]string{"900000T": "452 4.3.1", "0": "250"} { // no disk has so much
				s := with(t, fmt.Sprintf("MinFreeSpace = %q", least), "anna@"+one).register(t).start(t, nil)
				passwords(t, s)
				if l, _ := submitter(t, s, "anna@"+one).smtp(t, "MAIL FROM:<anna@%s>", one); !strings.HasPrefix(l, code) {
					t.Errorf("%s: %s", least, l)
				}
			}
		},
		"Proxy.AllowClassicalRecipients": func(t *testing.T) {
			bare := hex.EncodeToString(bytes.Repeat([]byte{9}, 32))
			for _, allow := range []bool{false, true} {
				c := with(t, fmt.Sprintf("AllowClassicalRecipients = %v", allow))
				s := c.start(t, nil)
				err := recipients{s}.Set(t.Context(), "bob@x.example", bare)
				if allow {
					must(t, err)
				} else {
					refused(t, err, errs.Denied, "AllowClassicalRecipients")
				}
				if w := strings.Contains(strings.Join(c.load(t).Warnings(), " "), "quantum"); w != allow {
					t.Error(w)
				}
			}
		},
		"Proxy.AllowCleartext": func(t *testing.T) {
			for allow, code := range map[bool]string{false: "523", true: "250"} {
				c := with(t, fmt.Sprintf("AllowCleartext = %v", allow), "anna@"+one).register(t)
				s := c.start(t, nil)
				passwords(t, s)
				if l := submitter(t, s, "anna@"+one).send(t, "anna@"+one, "x@world.example", letterFrom("anna@"+one, "x@world.example", "x", "clear")); !strings.HasPrefix(l, code) {
					t.Errorf("%v: %s", allow, l)
				}
				if w := strings.Join(c.load(t).Warnings(), " "); strings.Contains(w, "readable for everybody") != allow {
					t.Error(w)
				}
			}
		},
		"Logging.Disable": func(t *testing.T) {
			if got := logOf(t, "Disable = true\nLevel = \"DEBUG\"", nil); got != "" {
				t.Error(got)
			}
			file := filepath.Join(t.TempDir(), "log")
			logOf(t, fmt.Sprintf("Disable = true\nFile = %q", file), nil)
			if there(file) {
				t.Error("a file is made")
			}
		},
		"Logging.File": func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			if got := logOf(t, fmt.Sprintf("File = %q", file), nil); got != "" {
				t.Errorf("standard output: %s", got)
			}
			b, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(b), "an error") {
				t.Errorf("%q, %v", b, err)
			}
			c := with(t, "")
			c.rest = "[Logging]\nFile = \"proxy.log\""
			if got := c.load(t).Logging.File; got != c.data("proxy.log") {
				t.Error(got)
			}
		},
		"Logging.Level": func(t *testing.T) {
			for i, level := range logLevels {
				got := logOf(t, fmt.Sprintf("Level = %q", strings.ToLower(level)), nil)
				for k, words := range []string{"an error", "a warning", "a notice", "an info", "some debug"} {
					if strings.Contains(got, words) != (k <= i) || k <= i && !strings.Contains(got, "level="+logLevels[k]+" ") {
						t.Errorf("%s: %q: %s", level, words, got)
					}
				}
				if strings.Contains(got, "anna@") != (level == "DEBUG") {
					t.Errorf("%s: an address: %s", level, got)
				}
				w := strings.Join(loadText(t, "[Logging]\nLevel = \""+level+"\"").Warnings(), "\n")
				if strings.Contains(w, "Warning: The DEBUG log level is unsafe for production use.") != (level == "DEBUG") {
					t.Errorf("%s: %s", level, w)
				}
			}
			_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[Logging]\nLevel = \"LOUD\""), nil)
			refused(t, err, errs.Invalid, "Logging.Level is none of ERROR, WARNING, NOTICE, INFO, DEBUG: LOUD")
		},
		"Management.Enable": func(t *testing.T) {
			c := with(t, "")
			c.start(t, nil)
			if there(c.data("management_sock")) {
				t.Error("it is there by itself")
			}
			c = with(t, "")
			c.rest = "[Management]\nEnable = true"
			s := c.start(t, nil)
			m, err := management.Dial(t.Context(), c.data("management_sock"))
			must(t, err)
			defer m.Close()
			must(t, m.Set("bob@x.example", identity(t, "bob").String()))
			if s.Status().Keys.Known != 1 || s.Info().Management != c.data("management_sock") {
				t.Errorf("%+v", s.Status())
			}
		},
		"Management.Path": func(t *testing.T) {
			c := with(t, "")
			path := filepath.Join(c.dir, "m")
			c.rest = fmt.Sprintf("[Management]\nEnable = true\nPath = %q", path)
			c.start(t, nil)
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o600 || there(c.data("management_sock")) {
				t.Errorf("%v, %v", info, err)
			}
			_, err = LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[Management]\nEnable = true\nPath = \"m\""), nil)
			refused(t, err, errs.Invalid, "Management.Path is no absolute path")
		},
		"Recipients.ADDRESS": func(t *testing.T) {
			c := with(t, "")
			c.rest = fmt.Sprintf("[Recipients]\n\"bob@x.example\" = %q\n\"eve@x.example\" = \"nonsense\"", identity(t, "bob"))
			s := c.start(t, nil)
			key, err := recipients{s}.Get(t.Context(), "bob@x.example")
			if err != nil || key != identity(t, "bob").String() {
				t.Errorf("%q, %v", key, err)
			}
			if bad := s.Status().Keys.Unreadable; len(bad) != 1 || !strings.Contains(bad[0], "eve@x.example") {
				t.Errorf("%q", bad)
			}
		},
	}
}

// loadText reads a configuration with these sections.
func loadText(t testing.TB, sections string) Config {
	t.Helper()
	c, err := LoadText("t.toml", []byte("[Proxy]\nDataDir = \"/x\"\n"+sections), nil)
	must(t, err)
	return c
}

// logOf logs something at each level, and gives what went to standard output.
func logOf(t *testing.T, section string, _ []string) string {
	t.Helper()
	var out bytes.Buffer
	l, closer, err := Logger(loadText(t, "[Logging]\n"+section), &out)
	must(t, err)
	if closer != nil {
		defer closer.Close()
	}
	l.Error("an error of anna@one.example")
	l.Warn("a warning")
	l.Log(t.Context(), LevelNotice, "a notice")
	l.Info("an info")
	l.Debug("some debug")
	return out.String()
}

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

// seenSocks is what a SOCKS proxy was asked.
type seenSocks struct{ network, addr, user, password, target string }

// throughSocks connects as an account does, to a proxy that notes what it is asked and refuses.
func throughSocks(t *testing.T, section, account, addr string) (got seenSocks, err error) {
	t.Helper()
	c := newSetup(t, newRelays(t), account)
	c.rest = "[UpstreamProxy]\n" + section
	done := make(chan struct{})
	var dialed bool
	s, err := prepare(Deps{Dial: func(_ context.Context, network, addr string) (net.Conn, error) {
		dialed = true
		got.network, got.addr = network, addr
		client, server := net.Pipe()
		go func() {
			defer close(done)
			defer server.Close()
			answerSocks(server, &got)
		}()
		return client, nil
	}}, c.load(t))
	must(t, err)
	conn, err := s.users[0].dial(t.Context(), addr)
	if err == nil {
		conn.Close()
	}
	if dialed {
		if strings.Contains(section, "none") {
			conn.Close()
		}
		<-done
	}
	return got, err
}

// answerSocks is the other side of RFC 1928 and RFC 1929, as far as it goes until the target is
// known.
func answerSocks(c net.Conn, got *seenSocks) {
	b := make([]byte, 512)
	read := func(n int) []byte {
		_, _ = io.ReadFull(c, b[:n])
		return b[:n]
	}
	if h := read(2); h[0] != 5 {
		return
	}
	methods := slices.Clone(read(int(b[1])))
	if slices.Contains(methods, 2) {
		c.Write([]byte{5, 2})
		read(2)
		got.user = string(read(int(b[1])))
		read(1)
		got.password = string(read(int(b[0])))
		c.Write([]byte{1, 0})
	} else {
		c.Write([]byte{5, 0})
	}
	h := read(4)
	switch h[3] {
	case 1:
		got.target = net.IP(read(4)).String()
	case 3:
		n := int(read(1)[0])
		got.target = string(read(n))
	}
	read(2)
	c.Write([]byte{5, 2, 0, 1, 0, 0, 0, 0, 0, 0})
}

func upstreamEffects() map[string]func(*testing.T) {
	const proxy = "Address = \"127.0.0.1:9050\"\n"
	return map[string]func(*testing.T){
		"UpstreamProxy.Type": func(t *testing.T) {
			got, err := throughSocks(t, "Type = \"none\"", "anna@"+one, "relay.example:48099")
			if err != nil || got.addr != "relay.example:48099" {
				t.Errorf("%+v, %v", got, err)
			}
			got, _ = throughSocks(t, "Type = \"SOCKS5\"\n"+proxy, "anna@"+one, "relay.example:48099")
			if got.addr != "127.0.0.1:9050" || got.target != "relay.example" || got.user != "" {
				t.Errorf("%+v", got)
			}
			// Behind Tor each account has circuits of its own.
			a, _ := throughSocks(t, "Type = \"tor+socks5\"\n"+proxy, "anna@"+one, "relay.example:48099")
			b, _ := throughSocks(t, "Type = \"tor+socks5\"\n"+proxy, "berta@"+one, "relay.example:48099")
			if a.user == "" || a.user+a.password == b.user+b.password || strings.Contains(a.user+a.password, "anna") {
				t.Errorf("%+v, %+v", a, b)
			}
			for text, words := range map[string]string{"Type = \"http\"": "Type is none of", "Type = \"socks5\"": "no IP address and port", "Type = \"socks5\"\nNetwork = \"udp\"": "neither tcp nor unix",
				"Type = \"socks5\"\nNetwork = \"unix\"\nAddress = \"s\"": "no absolute path", "Type = \"socks5\"\nUser = \"a\"\n" + proxy: "belong together",
				"Type = \"tor+socks5\"\nUser = \"a\"\nPassword = \"b\"\n" + proxy: "names choose circuits", "Type = \"socks5\"\nPassword = \"b\"\nUser = \"" + strings.Repeat("x", 256) + "\"\n" + proxy: "at most 255 bytes"} {
				_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[UpstreamProxy]\n"+text), nil)
				refused(t, err, errs.Invalid, words)
			}
		},
		"UpstreamProxy.Network": func(t *testing.T) {
			got, _ := throughSocks(t, "Type = \"socks5\"\nNetwork = \"unix\"\nAddress = \"/run/tor/socks\"", "anna@"+one, "relay.example:1")
			if got.network != "unix" || got.addr != "/run/tor/socks" {
				t.Errorf("%+v", got)
			}
		},
		"UpstreamProxy.Address": func(t *testing.T) {
			got, _ := throughSocks(t, "Type = \"socks5\"\nAddress = \"127.0.0.1:9999\"", "anna@"+one, "relay.example:1")
			if got.addr != "127.0.0.1:9999" {
				t.Errorf("%+v", got)
			}
		},
		"UpstreamProxy.User": func(t *testing.T) {
			got, _ := throughSocks(t, "Type = \"socks5\"\nUser = \"me\"\nPassword = \"secret\"\n"+proxy, "anna@"+one, "relay.example:1")
			if got.user != "me" {
				t.Errorf("%+v", got)
			}
		},
		"UpstreamProxy.Password": func(t *testing.T) {
			got, _ := throughSocks(t, "Type = \"socks5\"\nUser = \"me\"\nPassword = \"secret\"\n"+proxy, "anna@"+one, "relay.example:1")
			if got.password != "secret" {
				t.Errorf("%+v", got)
			}
		},
		"UpstreamProxy.PreferedTransports": func(t *testing.T) {
			const onion = "abc.onion:1"
			all := []string{"192.0.2.1:1", "[2001:db8::1]:1", onion, "relay.example:1"}
			for text, want := range map[string][]string{`[]`: all, `["onion"]`: {onion}, `["tcp6", "tcp4"]`: {all[1], all[3], all[0]}, `["tcp"]`: {all[0], all[1], all[3]}, `["onion", "tcp4"]`: {onion, all[0], all[3]}} {
				c := newSetup(t, newRelays(t), "anna@"+one)
				c.rest = "[UpstreamProxy]\nPreferedTransports = " + text
				s, err := prepare(Deps{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("reached") }}, c.load(t))
				must(t, err)
				var got []string
				for _, a := range s.ordered(all) {
					if _, err := s.users[0].dial(t.Context(), a); errs.KindOf(err) != errs.Denied {
						got = append(got, a)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", text, got, want)
				}
			}
			_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[UpstreamProxy]\nPreferedTransports = [\"i2p\"]"), nil)
			refused(t, err, errs.Invalid, "i2p is none of")
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
