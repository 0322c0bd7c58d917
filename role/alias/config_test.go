package alias

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/config"
	"postern.email/kit/errs"
)

const minimal = "[PostfixConfig]\nDomain = \"@sidhion.com\"\nMapFilePath = \"/tmp/postfix/canonical\"\n"

func load(t testing.TB, text string) Loaded {
	t.Helper()
	l, err := LoadText("f.conf", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// here is the working directory, in which relative names begin.
func here(t testing.TB, name string) string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(wd, name)
}

// TestSample: the README's sample works as it is.
func TestSample(t *testing.T) {
	l, err := Load("testdata/sample.conf", nil)
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{l.General.MailSystem: "postfix", l.General.UnixSockPath: "/tmp/incognito.sock", l.General.LockFilePath: "/var/lock/incognito.lock",
		l.General.ListenPath: "/incognitomail", l.General.ListenAddress: ":9090", l.General.TLSCertFile: here(t, "server.pem"), l.General.TLSKeyFile: here(t, "server.key"),
		l.Persistence.Type: "boltdb", l.Persistence.DatabasePath: here(t, "incognito.db"), l.PostfixConfig.Domain: "@sidhion.com",
		l.PostfixConfig.MapFilePath: "/tmp/postfix/canonical", l.Postern.StateDir: here(t, "incognito.db.postern"), l.Postern.KeyFile: here(t, "incognito.db.postern/node.key")} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if d, err := l.Domains(); err != nil || !slices.Equal(d, []string{"sidhion.com"}) || len(l.Warnings) > 0 {
		t.Errorf("%q, %v, %q", d, err, l.Warnings)
	}
}

// TestDefaults: IM-20 to IM-26: two keys are enough.
func TestDefaults(t *testing.T) {
	l := load(t, minimal)
	want := map[string]string{"General.MailSystem": "postfix", "General.UnixSockPath": "/tmp/incognitomail.sock", "General.LockFilePath": "/var/lock/incognitomail.lock",
		"General.ListenPath": "/incognitomail", "General.ListenAddress": ":8080", "General.TLSCertFile": "", "General.TLSKeyFile": "",
		"Persistence.Type": "boltdb", "Persistence.DatabasePath": here(t, "incognitomail.db")}
	got := config.Values(&l.Config)
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, want %q", k, got[k], v)
		}
	}
	b, err := Bare(nil)
	if err != nil || b.General.UnixSockPath != "/tmp/incognitomail.sock" || b.Check() == nil {
		t.Errorf("without a file: %+v, %v", b, err)
	}
}

func TestForms(t *testing.T) {
	l := load(t, "[general]\nlistenaddress = 127.0.0.1:1 # c\n[POSTFIXCONFIG] ; c\nDOMAIN = \"@a.example, B.example @xn--bcher-kva.example\"\nmapfilepath=/m\n[Postern]\nCustomHandles\nPlainHTTP = on\nOrigins = \"null,moz-extension://*\"\nMaxHandles = 5\nMaxHandles = 7\n")
	d, err := l.Domains()
	if err != nil || !slices.Equal(d, []string{"a.example", "b.example", "xn--bcher-kva.example"}) {
		t.Errorf("%q, %v", d, err)
	}
	if l.General.ListenAddress != "127.0.0.1:1" || !l.Postern.CustomHandles || !l.Postern.PlainHTTP || !slices.Equal(l.Postern.Origins, []string{"null", "moz-extension://*"}) || l.Postern.MaxHandles != 7 {
		t.Errorf("%+v", l.Config)
	}
	if !slices.Equal(l.Warnings, []string{"f.conf:11: Postern.MaxHandles is there twice, first in line 10; the last one counts"}) {
		t.Errorf("%q", l.Warnings)
	}
	if l, err = LoadText("f", []byte(minimal), []string{"Postern.MaxHandles=3"}); err != nil || l.Postern.MaxHandles != 3 {
		t.Errorf("--set: %v", err)
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                                     "invalid configuration values: PostfixConfig.Domain is needed",
		"[PostfixConfig]\nDomain=@a.example":                   "invalid configuration values: PostfixConfig.MapFilePath is needed",
		"[General]\nMailSystem=exim\n" + minimal:               `invalid configuration values: General.MailSystem is "exim"; there is postfix only`,
		"[Persistence]\nType=sqlite\n" + minimal:               `invalid configuration values: Persistence.Type is "sqlite"; there is boltdb only`,
		"[Persistence]\nDatabasePath=\n" + minimal:             "invalid configuration values: Persistence.DatabasePath is needed",
		"[General]\nUnixSockPath=\n" + minimal:                 "invalid configuration values: General.UnixSockPath is needed",
		"[General]\nLockFilePath=\n" + minimal:                 "invalid configuration values: General.LockFilePath is needed",
		"[General]\nListenPath=\n" + minimal:                   "invalid configuration values: General.ListenPath is needed",
		"[General]\nListenPath=/api/x\n" + minimal:             "invalid configuration values: General.ListenPath has no braces, spaces, ? or #, and lies outside of /aliases and /api/",
		"[General]\nListenPath=x\n" + minimal:                  "invalid configuration values: General.ListenPath begins with a slash",
		"[General]\nTLSKeyFile=x\n" + minimal:                  "invalid configuration values: a certificate needs both General.TLSCertFile and General.TLSKeyFile",
		"[General]\nListenAdress=:1\n" + minimal:               `f:2: unknown key "General.ListenAdress"; the nearest known key is "General.ListenAddress"`,
		"[General]\nMapFilePath=/x\n" + minimal:                `f:2: unknown key "General.MapFilePath"; the nearest known key is "PostfixConfig.MapFilePath"`,
		"[Generall]\n" + minimal:                               `f:1: unknown key "Generall"; the nearest known key is "General"`,
		"[General \"x\"]\n" + minimal:                          `f:1: there is no section [General "x"]`,
		"[General]\nListenPath\n" + minimal:                    "f:2: General.ListenPath has no value; write ListenPath = value",
		"[General]\nListenAddress=nowhere\n" + minimal:         `f:2: General.ListenAddress: "nowhere": write host:port (port 0 takes a free one), or off`,
		"[Postern]\nPlainHTTP=perhaps\n" + minimal:             "f:2: Postern.PlainHTTP",
		"[Postern]\nMaxHandles=0\n" + minimal:                  "f:2: Postern.MaxHandles: ",
		"[Postern]\nMapType=dbm\n" + minimal:                   "f:2: Postern.MapType: ",
		"[PostfixConfig]\nDomain=a b@c\nMapFilePath=/m":        `invalid configuration values: PostfixConfig.Domain: "b@c" is no domain; write @example.org`,
		"[PostfixConfig]\nDomain=@[192.0.2.1]\nMapFilePath=/m": `invalid configuration values: PostfixConfig.Domain: "@[192.0.2.1]" is no domain`,
		"[PostfixConfig]\nDomain=\" , \"\nMapFilePath=/m":      "invalid configuration values: PostfixConfig.Domain: there is no domain",
		"[PostfixConfig]\nDomain=\"" + strings.Repeat("@a.example ", 65) + "\"\nMapFilePath=/m": "invalid configuration values: PostfixConfig.Domain: there are more than 64 domains",
		"[General\n": "f:1: a section is written [Name]",
	} {
		_, err := LoadText("f", []byte(text), nil)
		if errs.KindOf(err) != errs.Invalid || !strings.HasPrefix(errs.Public(err), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := Load("testdata/none.conf", nil); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
}

// FuzzLoad: no file brings the program down, and one that is taken can be used.
func FuzzLoad(f *testing.F) {
	sample, err := os.ReadFile("testdata/sample.conf")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(sample), minimal, "[Postern]\nCustomHandles\n" + minimal, "[general]\nLISTENPATH=/\n" + minimal} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := LoadText("f", text, nil)
		if err != nil {
			if errs.KindOf(err) != errs.Invalid || errs.Public(err) == "" {
				t.Fatal(err)
			}
			return
		}
		if d, err := l.Domains(); err != nil || len(d) == 0 || l.General.MailSystem != "postfix" || !filepath.IsAbs(l.Postern.StateDir) {
			t.Fatalf("%q: %+v", text, l)
		}
	})
}
