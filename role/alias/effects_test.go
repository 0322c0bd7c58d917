package alias

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"postern.email/agent/aliases"
	"postern.email/kit/configtest"
	"postern.email/kit/errs"
	"postern.email/kit/tooltest"
	"postern.email/kit/vfs"
	wire "postern.email/wire/alias"
	"postern.email/wire/certs"
)

// TestEffects: each option of the configuration does what its description says.
func TestEffects(t *testing.T) {
	configtest.Options(t, &Config{}, map[string]func(*testing.T){
		"General.MailSystem": func(t *testing.T) { refused(t, "[General]\nMailSystem=exim\n", "there is postfix only") },
		"General.UnixSockPath": func(t *testing.T) {
			p := newPlace(t, "[General]\nUnixSockPath=DIR/other.sock\n")
			p.start(t)
			if st, err := os.Stat(p.dir + "/other.sock"); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", st, err)
			}
		},
		"General.LockFilePath": func(t *testing.T) {
			p := newPlace(t, "[General]\nLockFilePath=DIR/sub/dir/lock\n")
			p.start(t)
			if b, err := os.ReadFile(p.dir + "/sub/dir/lock"); err != nil || string(b) != fmt.Sprintf("%10d\n", os.Getpid()) {
				t.Errorf("%q, %v", b, err)
			}
		},
		"General.ListenPath": func(t *testing.T) {
			for _, path := range []string{"/other/path", "/"} {
				p := newPlace(t, "[General]\nListenPath="+path+"\n")
				s := p.start(t)
				secret := p.account(t, "anna@mailbox.example")
				if got := frame(t, "ws://"+s.Status().Listen+path, nil, "new handle "+secret); !seedHandle.MatchString(got) {
					t.Errorf("%s: %q", path, got)
				}
				stop(t, s)
			}
		},
		"General.ListenAddress": func(t *testing.T) {
			addr, err := tooltest.FreeAddress()
			if err != nil {
				t.Fatal(err)
			}
			if s := newPlace(t, "[General]\nListenAddress="+addr+"\n").start(t); s.Status().Listen != addr {
				t.Errorf("%q", s.Status().Listen)
			}
			if s := newPlace(t, "[General]\nListenAddress=off\n").start(t); s.Status().Listen != "" {
				t.Errorf("off: %q", s.Status().Listen)
			}
		},
		"General.TLSCertFile": withCertificate,
		"General.TLSKeyFile":  withCertificate,
		"Persistence.Type":    func(t *testing.T) { refused(t, "[Persistence]\nType=sqlite\n", "there is boltdb only") },
		"Persistence.DatabasePath": func(t *testing.T) {
			p := newPlace(t, "[Persistence]\nDatabasePath=DIR/sub.db\n")
			p.start(t)
			if _, err := os.Stat(p.dir + "/sub.db.postern/store"); err != nil {
				t.Error(err)
			}
		},
		"PostfixConfig.Domain": func(t *testing.T) {
			p := newPlace(t, "[PostfixConfig]\nDomain=\"@one.example, @two.example\"\n")
			p.start(t)
			secret := p.account(t, "anna@mailbox.example")
			if a := p.handle(t, secret); !strings.HasSuffix(a, "@one.example") {
				t.Errorf("%q", a)
			}
			var v aliases.View
			p.must(t, "alias.new", aliases.Args{Token: secret, Create: &aliases.CreateRequest{Domain: "two.example"}}, &v)
			if !strings.HasSuffix(v.Address, "@two.example") || p.lookUp(t, v.Address) != "anna@mailbox.example" {
				t.Errorf("%q", v.Address)
			}
			if err := p.ask(t, "alias.new", aliases.Args{Token: secret, Create: &aliases.CreateRequest{Domain: "three.example"}}, nil); errs.KindOf(err) != errs.Invalid {
				t.Error(err)
			}
		},
		"PostfixConfig.MapFilePath": func(t *testing.T) {
			p := newPlace(t, "[PostfixConfig]\nMapFilePath=DIR/canonical\n")
			p.start(t)
			p.handle(t, p.account(t, "anna@mailbox.example"))
			if b, err := os.ReadFile(p.dir + "/canonical"); err != nil || !strings.Contains(string(b), " anna@mailbox.example\n") {
				t.Errorf("%q, %v", b, err)
			}
		},
		"Postern.StateDir": func(t *testing.T) {
			p := newPlace(t, "[Postern]\nStateDir=DIR/state\n")
			p.start(t)
			if _, err := os.Stat(p.dir + "/state/store"); err != nil {
				t.Error(err)
			}
		},
		"Postern.KeyFile": func(t *testing.T) {
			p := newPlace(t, "[Postern]\nKeyFile=DIR/keys.key\n")
			s := p.start(t)
			if st, err := os.Stat(p.dir + "/keys.key"); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", st, err)
			}
			stop(t, s)
			if err := os.Remove(p.dir + "/keys.key"); err != nil {
				t.Fatal(err)
			}
			if _, err := Start(t.Context(), p.deps, p.config(t)); err == nil {
				t.Error("it starts without its key")
			}
		},
		"Postern.PostfixDir": func(t *testing.T) {
			p := newPlace(t, "[Postern]\nPostfixDir=DIR\n")
			p.deps.Postfix = nil // the configuration says where main.cf is
			p.start(t)
			if a := p.handle(t, p.account(t, "anna@mailbox.example")); p.lookUp(t, a) == "" {
				t.Error("no map of the type that main.cf names")
			}
		},
		"Postern.MapType": func(t *testing.T) {
			p := newPlace(t, "[Postern]\nMapType=btree\n")
			p.start(t)
			a := p.handle(t, p.account(t, "anna@mailbox.example"))
			if to, err := p.postfix.Query(t.Context(), "btree", p.dir+"/map", a); err != nil || to != "anna@mailbox.example" {
				t.Errorf("%q, %v", to, err)
			}
		},
		"Postern.HandleStyle": func(t *testing.T) {
			p := newPlace(t, "[Postern]\nHandleStyle=words\n")
			p.start(t)
			if a := p.handle(t, p.account(t, "anna@mailbox.example")); strings.Count(a, "-") != 2 {
				t.Errorf("%q", a)
			}
		},
		"Postern.CustomHandles": func(t *testing.T) {
			p := newPlace(t, "[Postern]\nCustomHandles\n")
			if err := os.WriteFile(p.dir+"/map", []byte("Boss@alias.example boss@mailbox.example\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			p.start(t)
			secret := p.account(t, "anna@mailbox.example")
			p.must(t, "alias.new", aliases.Args{Token: secret, Create: &aliases.CreateRequest{Custom: "anna.k"}}, nil)
			if err := p.ask(t, "alias.new", aliases.Args{Token: secret, Create: &aliases.CreateRequest{Custom: "boss"}}, nil); errs.KindOf(err) != errs.Exists || errs.Public(err) != "this name is taken" {
				t.Errorf("the address of a line by hand: %v", err)
			}
			if err := p.ask(t, "alias.owner.new", aliases.Args{Address: "anybody@alias.example"}, nil); errs.KindOf(err) != errs.Denied || !strings.HasPrefix(errs.Public(err), "with CustomHandles") {
				t.Errorf("a mailbox that somebody could choose as a handle: %v", err)
			}
		},
		"Postern.MaxHandles": func(t *testing.T) {
			p := newPlace(t, "[Postern]\nMaxHandles=1\n")
			p.start(t)
			secret := p.account(t, "anna@mailbox.example")
			p.handle(t, secret)
			if err := p.ask(t, "alias.new", aliases.Args{Token: secret}, nil); errs.KindOf(err) != errs.Full {
				t.Error(err)
			}
		},
		"Postern.PlainHTTP": func(t *testing.T) {
			// Without it, whoever asks from elsewhere is told to use HTTPS: a proxy on this machine says for whom it asks.
			for more, want := range map[string]int{"": http.StatusForbidden, "[Postern]\nPlainHTTP=yes\n": http.StatusUnauthorized} {
				s := newPlace(t, more).start(t)
				if code := call(t, "http://"+s.Status().Listen+"/api/postern/v1/aliases", http.Header{"X-Forwarded-For": {"192.0.2.7"}}); code != want {
					t.Errorf("%q: %d", more, code)
				}
				if code := call(t, "http://"+s.Status().Listen+"/api/postern/v1/aliases", nil); code != http.StatusUnauthorized {
					t.Errorf("%q, from this machine: %d", more, code)
				}
				stop(t, s)
			}
		},
		"Postern.Origins": func(t *testing.T) {
			s := newPlace(t, "[Postern]\nOrigins=moz-extension://*\n").start(t)
			url := "http://" + s.Status().Listen + "/incognitomail"
			for origin, want := range map[string]int{"https://evil.example": http.StatusForbidden, "moz-extension://abc": http.StatusUpgradeRequired} {
				if code := call(t, url, http.Header{"Origin": {origin}}); code != want {
					t.Errorf("%s: %d", origin, code)
				}
			}
		},
		"Postern.PublicURL": func(t *testing.T) {
			p := newPlace(t, "[Postern]\nPublicURL=https://mail.example:8443\n")
			s := p.start(t)
			var f aliases.Fresh
			if p.must(t, "alias.owner.new", aliases.Args{Address: "anna@mailbox.example"}, &f); !strings.HasPrefix(f.Link, "https://mail.example:8443/aliases/connect#") || !strings.Contains(f.Link, f.Token) {
				t.Errorf("%q", f.Link)
			}
			stop(t, s)
			if s := newPlace(t, "").start(t); !strings.HasPrefix(s.link(), "https://alias.example:") {
				t.Errorf("%q", s.link())
			}
		},
		"Postern.LogLevel": func(t *testing.T) {
			var quiet, all strings.Builder
			for level, b := range map[string]*strings.Builder{"warn": &quiet, "debug": &all} {
				l := Logger(load(t, minimal+"[Postern]\nLogLevel="+level+"\n").Config, b)
				l.Info("said")
				l.Debug("detail")
			}
			if quiet.Len() > 0 || !strings.Contains(all.String(), "said") || !strings.Contains(all.String(), "detail") {
				t.Errorf("%q, %q", &quiet, &all)
			}
		},
	})
}

// refused starts nothing with these lines.
func refused(t *testing.T, more, want string) {
	t.Helper()
	if _, err := LoadText("f", []byte(minimal+more), nil); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), want) {
		t.Error(err)
	}
}

// withCertificate: IM-16: TLS with certificate and key, and only then.
func withCertificate(t *testing.T) {
	p := newPlace(t, "[General]\nTLSCertFile=DIR/tls/"+certs.CertName+"\nTLSKeyFile=DIR/tls/"+certs.KeyName+"\n")
	if _, err := certs.New(certs.Options{FS: vfs.OS(), Dir: filepath.Join(p.dir, "tls"), Domain: "alias.example"}); err != nil {
		t.Fatal(err)
	}
	s := p.start(t)
	c, err := tls.Dial("tcp", s.Status().Listen, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !s.Status().TLS || len(c.ConnectionState().PeerCertificates) == 0 {
		t.Errorf("%+v", s.Status())
	}
	plain, err := net.Dial("tcp", s.Status().Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fmt.Fprint(plain, "GET /aliases HTTP/1.1\r\nHost: x\r\n\r\n")
	plain.SetReadDeadline(time.Now().Add(30 * time.Second))
	if b, _ := io.ReadAll(plain); strings.Contains(string(b), "200 OK") {
		t.Errorf("HTTP on the port of HTTPS: %q", b)
	}
}

// call gives the status of a GET.
func call(t *testing.T, url string, h http.Header) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if h != nil {
		req.Header = h
	}
	tr := &http.Transport{DisableKeepAlives: true}
	r, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	return r.StatusCode
}

// frame sends one frame over a WebSocket and gives the answer.
func frame(t *testing.T, url string, h http.Header, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: h, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	_, b, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWebSocket: IM-11 to IM-14 at the server's own door: the frame of the add-on makes a handle that is in the map when
// the answer comes.
func TestWebSocket(t *testing.T) {
	p := newPlace(t, "")
	s := p.start(t)
	secret := p.account(t, "anna@mailbox.example")
	url := "ws://" + s.Status().Listen + wire.DefaultWebSocketPath
	got := frame(t, url, nil, "new handle "+secret)
	if !seedHandle.MatchString(got) || p.lookUp(t, got) != "anna@mailbox.example" {
		t.Errorf("%q", got)
	}
	for text, want := range map[string]string{"new handle " + strings.Repeat("x", 64): "error account not found", "new account x@y.example": "error invalid permission to do this",
		"delete handle a " + secret: "error invalid permission to do this", "list " + secret: "error unknown command received", "delete x": "error wrong command usage", "": "error empty command received"} {
		if got := frame(t, url, nil, text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
