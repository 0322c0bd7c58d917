package interop

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// curlBase trusts the server's own certificate and finds its name at loopback.
func (s *server) curlBase(t testing.TB, addr string) []string {
	host, port := hostPort(t, addr)
	return []string{"--silent", "--show-error", "--max-time", "60", "--cacert", s.TLSCert,
		"--resolve", s.Domain + ":" + port + ":" + host}
}

func (s *server) url(t testing.TB, scheme, addr, path string) string {
	_, port := hostPort(t, addr)
	return scheme + "://" + s.Domain + ":" + port + path
}

func TestCurlMail(t *testing.T) {
	curl := needTool(t, "curl")
	s := start(t)
	users := s.created(t, 2)
	mail := mailclient.NewMaker(3).Mail(users[0].addr, 5000)

	smtp := append(s.curlBase(t, s.Submissions), "--user", users[0].addr+":"+users[0].password,
		"--mail-from", users[0].addr, "--mail-rcpt", users[1].addr, "--upload-file", mailFile(t, mail),
		s.url(t, "smtps", s.Submissions, "/client.example"))
	command(t, nil, curl, smtp...).want(t, 0)

	base := append(s.curlBase(t, s.IMAPS), "--user", users[1].addr+":"+users[1].password)
	command(t, nil, curl, append(base, s.url(t, "imaps", s.IMAPS, "/"), "--request", "EXAMINE INBOX")...).want(t, 0, "* 1 EXISTS")
	list := command(t, nil, curl, append(base, s.url(t, "imaps", s.IMAPS, "/INBOX"), "--request", "UID SEARCH ALL")...)
	list.want(t, 0, "* SEARCH 1")
	out := filepath.Join(t.TempDir(), "fetched")
	command(t, nil, curl, append(base, s.url(t, "imaps", s.IMAPS, "/INBOX;UID=1"), "--output", out)...).want(t, 0)
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if mailclient.BodyHash(raw) != mailclient.BodyHash(mail) {
		t.Errorf("the body that curl fetched is not the one it sent")
	}
	head, _, _ := strings.Cut(string(raw), "\r\n\r\n")
	if n := strings.Count(strings.ToLower("\r\n"+head), "\r\nreturn-path:"); n != 1 {
		t.Errorf("%d Return-Path fields, want exactly one (RFC 5321 §4.4)\n%s", n, head)
	}
	for _, leak := range []string{"client.example", "127.0.0.1"} {
		if strings.Contains(head, leak) {
			t.Errorf("the header keeps %q of the client\n%s", leak, head)
		}
	}

	wrong := append(s.curlBase(t, s.IMAPS), "--user", users[1].addr+":wrong password", s.url(t, "imaps", s.IMAPS, "/INBOX;UID=1"))
	command(t, nil, curl, wrong...).want(t, 67)
	cleartext := filepath.Join(t.TempDir(), "clear")
	writeFile(t, cleartext, "From: <"+users[0].addr+">\r\nSubject: hello\r\n\r\nin the clear\r\n")
	smtp[len(smtp)-2] = cleartext
	if r := command(t, nil, curl, smtp...); r.code == 0 {
		t.Errorf("cleartext was accepted\n%s", r.out)
	}
}

// fresh asks for new credentials over HTTPS.
func (s *server) fresh(t testing.TB, curl string, args ...string) user {
	t.Helper()
	r := command(t, nil, curl, append(append(s.curlBase(t, s.HTTPS), args...), s.url(t, "https", s.HTTPS, "/new"))...)
	r.want(t, 0)
	var got struct{ Email, Password string }
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatalf("%v: %s", err, r.out)
	}
	return user{got.Email, got.Password}
}

func TestCurlNew(t *testing.T) {
	curl := needTool(t, "curl")
	s := start(t)
	first := s.fresh(t, curl, "--request", "POST")
	second := s.fresh(t, curl, "--request", "POST")
	if first == second || first.addr == "" || !strings.HasSuffix(first.addr, "@"+s.Domain) || len(first.password) < 9 {
		t.Fatalf("new credentials: %+v and %+v", first, second)
	}
	s.mustLogin(t, first)
	s.mustSubmit(t, first)
	s.mustLogin(t, s.fresh(t, curl)) // GET, on a host with a self-signed certificate
}

func TestCurlAutoconfig(t *testing.T) {
	curl := needTool(t, "curl")
	s := start(t)
	for _, path := range []string{
		"/.well-known/autoconfig/mail/config-v1.1.xml",
		"/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=someone@" + s.Domain,
	} {
		r := command(t, nil, curl, append(s.curlBase(t, s.HTTPS), "--fail", s.url(t, "https", s.HTTPS, path))...)
		r.want(t, 0)
		var got struct {
			XMLName  xml.Name `xml:"clientConfig"`
			Provider struct {
				Domain   []string           `xml:"domain"`
				Incoming []autoconfigServer `xml:"incomingServer"`
				Outgoing []autoconfigServer `xml:"outgoingServer"`
			} `xml:"emailProvider"`
		}
		if err := xml.Unmarshal([]byte(r.out), &got); err != nil {
			t.Fatalf("%v\n%s", err, r.out)
		}
		if len(got.Provider.Domain) == 0 || got.Provider.Domain[0] != s.Domain {
			t.Errorf("domain %v, want %s", got.Provider.Domain, s.Domain)
		}
		offered := map[string]bool{}
		for _, srv := range append(got.Provider.Incoming, got.Provider.Outgoing...) {
			offered[fmt.Sprintf("%s %s %s", srv.Type, srv.Port, srv.Socket)] = true
			if srv.Username != "%EMAILADDRESS%" {
				t.Errorf("user name %q, want the address", srv.Username)
			}
		}
		for _, want := range []struct{ kind, addr, socket string }{
			{"imap", s.IMAPS, "SSL"}, {"imap", s.IMAP, "STARTTLS"},
			{"smtp", s.Submissions, "SSL"}, {"smtp", s.Submission, "STARTTLS"},
		} {
			_, port := hostPort(t, want.addr)
			if key := want.kind + " " + port + " " + want.socket; !offered[key] {
				t.Errorf("does not offer %q, only %v", key, offered)
			}
		}
	}
}

type autoconfigServer struct {
	Type     string `xml:"type,attr"`
	Port     string `xml:"port"`
	Socket   string `xml:"socketType"`
	Username string `xml:"username"`
}
