package interop

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"postern.email/interop/mailclient"
)

// TestNoDomain: relays without a name that an authority could vouch for, an IP address
// or a name that begins with an underscore: the page makes accounts whose link tells the
// app to accept the certificate, the app logs in with it, mail programs find their
// settings, and two accounts write to each other.
func TestNoDomain(t *testing.T) {
	for domain, behind := range map[string]string{"_relay.example": "_relay.example", "192.0.2.1": "[192.0.2.1]", "2001:db8::1": "[ipv6:2001:db8::1]"} {
		t.Run(domain, func(t *testing.T) {
			s := start(t, "domain="+domain)
			if s.Domain != behind {
				t.Errorf("the domain is %s, want %s", s.Domain, behind)
			}
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool, ServerName: domain}}
			defer tr.CloseIdleConnections()
			web := func(method, path string, want int) string {
				t.Helper()
				r, err := http.NewRequest(method, "https://"+s.HTTPS+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := (&http.Client{Transport: tr}).Do(r)
				if err != nil {
					t.Fatal(err) // also when the certificate does not name the domain
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != want {
					t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
				}
				return string(body)
			}
			if page := web("GET", "/", 200); !strings.Contains(page, "<form") || !strings.Contains(page, behind) {
				t.Errorf("the page:\n%s", page)
			}
			if xml := web("GET", "/.well-known/autoconfig/mail/config-v1.1.xml", 200); !strings.Contains(xml, "<domain>"+behind+"</domain>") || strings.Contains(xml, "<hostname>[") {
				t.Errorf("autoconfig:\n%s", xml)
			}
			web("GET", "/.well-known/mta-sts.txt", 404) // nobody could hold us to it
			var made struct {
				Email, Password string
				Link            string `json:"dclogin_url"`
			}
			if err := json.Unmarshal([]byte(web("POST", "/new", 200)), &made); err != nil || !strings.HasSuffix(made.Email, "@"+behind) ||
				!strings.Contains(made.Link, "dclogin:"+made.Email+"?") || !strings.Contains(made.Link, "&ic=3") {
				t.Errorf("/new: %+v, %v", made, err)
			}

			users := s.created(t, 2)
			from, to := users[0], users[1]
			mail := mailclient.NewMaker(1).Mail(from.addr, 3000)
			args := append(s.swaksArgs(t, from, "TLS", "PLAIN"), "--to", to.addr, "--data", "@"+swaksFile(t, mail))
			command(t, nil, needTool(t, "swaks"), args...).want(t, swaksOK, "<~  250 ")
			if got := s.inbox(t, to); got[mailclient.BodyHash(mail)] != 1 || len(got) != 1 {
				t.Errorf("%d mails arrived", len(got))
			}

			deltachatBinary(t)
			r := startRPC(t)
			r.must(nil, "add_transport_from_qr", r.newProfile("Anna"), made.Link)
		})
	}
}
