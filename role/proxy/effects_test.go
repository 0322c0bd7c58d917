package proxy

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/kit/configtest"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/wire/management"
)

// TestOptions runs one test for each option, TestOptions/<key>, which shows that the option has an
// effect. An option without one fails, and so does a test without an option.
func TestOptions(t *testing.T) {
	configtest.Options(t, &Config{}, effects(), accountEffects(), upstreamEffects(), debugEffects(), webKeyEffects())
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

// listens: the address is what is listened on, and the greeting comes from there; one that is taken
// stops the start.
func listens(key, greeting string) func(*testing.T) {
	return func(t *testing.T) {
		const at = "127.0.0.1:1234"
		c := with(t, fmt.Sprintf("%s = %q", key, at))
		var taken net.Listener
		s := c.start(t, func(d *Deps) {
			d.Listen = func(network, addr string) (net.Listener, error) {
				l, err := net.Listen(network, "127.0.0.1:0")
				if addr == at {
					taken = l
				}
				return l, err
			}
		})
		if taken == nil || s.at(key) != taken.Addr().String() {
			t.Fatalf("%v, %q", taken, s.at(key))
		}
		if x := reach(t, s.at(key)); greeting != "" {
			if l := x.line(t); !strings.HasPrefix(l, greeting) {
				t.Errorf("%q", l)
			}
		}
		other := with(t, fmt.Sprintf("%s = %q", key, taken.Addr()))
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
			refused(t, err, errs.Unavailable, "certificate is not trusted")
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
