package interop

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/interop/mailclient"
	"postern.email/interop/smallworld"
	"postern.email/kit/tooltest"
	"postern.email/wire/dns/dnstest"
)

// acmeDomain is the relay that wants certificates.
const acmeDomain = "relay.example.org"

// pebble is Let's Encrypt's test authority: its own keys are new at every start, and it
// looks for challenges at ports of our choice.
type pebble struct {
	dns         *dnstest.Server       // what it asks for names
	api, manage string                // host:port
	http, tls   string                // ports on which it looks for challenges
	ca          *smallworld.Authority // vouches for its own API
	config, log string
	cmd         *exec.Cmd
	roots       *x509.CertPool
	validity    int // seconds; 0: years
}

// newPebble prepares an authority; start runs it.
func newPebble(t testing.TB, validity int) *pebble {
	t.Helper()
	needTool(t, "pebble")
	p := &pebble{dns: dnstest.New(t, acmeDomain+". 60 IN A 127.0.0.1", "www."+acmeDomain+". 60 IN CNAME "+acmeDomain+"."), ca: smallworld.NewAuthority(t), validity: validity}
	p.api, p.manage = freePort(t), freePort(t)
	_, p.http, _ = net.SplitHostPort(freePort(t))
	_, p.tls, _ = net.SplitHostPort(freePort(t))
	cert, key := p.ca.Issue(t, "127.0.0.1")
	dir := t.TempDir()
	p.config, p.log = filepath.Join(dir, "config.json"), filepath.Join(dir, "log")
	writeFile(t, p.config, fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": %q, "certificate": %q, "privateKey": %q,
		"httpPort": %s, "tlsPort": %s, "ocspResponderURL": "", "externalAccountBindingRequired": false, "certificateValidityPeriod": %d}}`,
		p.api, p.manage, cert, key, p.http, p.tls, validity))
	return p
}

// freePort gives a loopback address on which nobody listens at this moment.
func freePort(t testing.TB) string {
	t.Helper()
	addr, err := tooltest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// start runs the authority until stop, or the test's end, and learns its root.
func (p *pebble) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(needTool(t, "pebble"), "-config", p.config, "-dnsserver", p.dns.Addr)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	cmd.Stdout, cmd.Stderr = log, log
	tie(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmd = cmd
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("end of pebble's log:\n%s", tail(p.log, 3000))
		}
	})
	pool := x509.NewCertPool()
	pool.AddCert(p.ca.Cert)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer tr.CloseIdleConnections()
	eventually(t, patience, func() error {
		r, err := (&http.Client{Transport: tr}).Get("https://" + p.manage + "/roots/0")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		p.roots = x509.NewCertPool()
		if err == nil && !p.roots.AppendCertsFromPEM(text) {
			err = fmt.Errorf("no root: %s", text)
		}
		return err
	})
}

func (p *pebble) stop() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// relay runs a Postern that asks this authority.
func (p *pebble) relay(t testing.TB, sets ...string) *server {
	t.Helper()
	return start(t, append([]string{"domain=" + acmeDomain, "tls.mode=acme", "tls.acme_directory=https://" + p.api + "/dir", "tls.trusted_cas=" + p.ca.File,
		"network.resolver=" + p.dns.Addr, "tls.poll=1s", "listen.http=127.0.0.1:" + p.http, "listen.https=127.0.0.1:" + p.tls}, sets...)...)
}

// shown gives the certificate that a port shows for a name, when the authority vouches
// for it.
func (p *pebble) shown(addr, name string) (*x509.Certificate, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, &tls.Config{RootCAs: p.roots, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

// obtained waits for the certificate of a name.
func (p *pebble) obtained(t testing.TB, addr, name string) (cert *x509.Certificate) {
	t.Helper()
	eventually(t, patience, func() (err error) {
		cert, err = p.shown(addr, name)
		return err
	})
	return cert
}

// tlsStatus is the part of `postern status --json` that is about certificates.
type tlsStatus struct {
	TLS struct {
		Mode  string
		Certs []struct {
			Names         []string
			Issuer, Error string
			NotAfter      string `json:"not_after"`
			NextTry       string `json:"next_try"`
		} `json:"certificates"`
	}
}

func (s *server) tlsStatus(t testing.TB) (st tlsStatus) {
	t.Helper()
	r := command(t, nil, binary(t), "status", "--json", "--dir", s.dir)
	r.want(t, 0)
	if err := json.Unmarshal([]byte(r.out), &st); err != nil {
		t.Fatalf("%v\n%s", err, r.out)
	}
	return st
}

// TestACME: each kind of challenge alone brings a certificate for the domain and for an
// alias that leads here, and none for an alias that does not; the next start serves them
// at once without the authority.
func TestACME(t *testing.T) {
	for name, off := range map[string]string{"HTTP-01": "listen.https=off", "TLS-ALPN-01": "listen.http=off"} {
		t.Run(name, func(t *testing.T) {
			p := newPebble(t, 0)
			p.start(t)
			s := p.relay(t, off, "tls.acme_email=ops@example.org")
			first := p.obtained(t, s.IMAPS, acmeDomain)
			p.obtained(t, s.IMAPS, "www."+acmeDomain)
			if _, err := p.shown(s.IMAPS, "mta-sts."+acmeDomain); err == nil {
				t.Error("a certificate for a name without address")
			}
			st := s.tlsStatus(t)
			if st.TLS.Mode != "acme" || len(st.TLS.Certs) != 4 || !strings.Contains(st.TLS.Certs[0].Issuer, "Pebble") || st.TLS.Certs[0].Error != "" ||
				st.TLS.Certs[0].NotAfter != first.NotAfter.UTC().Format(time.RFC3339) || !strings.Contains(st.TLS.Certs[1].Error, "no address") {
				t.Errorf("status: %+v", st)
			}
			command(t, nil, binary(t), "status", "--dir", s.dir).want(t, 0, "certificate   "+acmeDomain+" (acme): by Pebble", "mta-sts."+acmeDomain+" (acme): none yet", "no address")
			command(t, nil, binary(t), "dns", "--dir", s.dir, "--zonefile", "-").want(t, 0, "_25._tcp."+acmeDomain+". 3600 IN TLSA 3 1 1 ")
			if log := tail(s.log, 1<<20); !strings.Contains(log, "self-signed") {
				t.Errorf("nobody was told that the first connections get a self-signed certificate:\n%s", log)
			}
			private(t, s.dir)
			s.kill()
			p.stop()
			s.run(t)
			again, err := p.shown(s.IMAPS, acmeDomain)
			if err != nil || again.SerialNumber.Cmp(first.SerialNumber) != 0 {
				t.Errorf("after the restart: %v", err)
			}
		})
	}
}

// private checks that keys and accounts are for the owner's eyes only.
func private(t testing.TB, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(dir, "tls"), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err == nil && i.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, i.Mode())
		}
		if strings.HasSuffix(path, ".key") {
			n++
		}
		return err
	})
	if err != nil || n < 2 {
		t.Errorf("%d keys, %v", n, err)
	}
}

// TestACMERenewal: certificates of half a minute are renewed again and again, with the
// same key; a session that is open stays open and new connections see the new one.
func TestACMERenewal(t *testing.T) {
	p := newPebble(t, 30)
	p.start(t)
	s := p.relay(t, "listen.https=off")
	first := p.obtained(t, s.IMAPS, acmeDomain)
	u := user{"anna@" + acmeDomain, "annas password"}
	c, err := mailclient.DialIMAP(s.IMAPS, mailclient.TLS, mailclient.Dialer{TLS: &tls.Config{RootCAs: p.roots, ServerName: acmeDomain}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(u.addr, u.password); err != nil {
		t.Fatal(err)
	}
	last := first
	for i := range 2 {
		eventually(t, patience, func() error {
			cert, err := p.shown(s.IMAPS, acmeDomain)
			if err != nil {
				t.Fatalf("a handshake failed: %v", err) // not even for a moment
			}
			if cert.SerialNumber.Cmp(last.SerialNumber) == 0 {
				return errors.New("not renewed")
			}
			last = cert
			return nil
		})
		if string(last.RawSubjectPublicKeyInfo) != string(first.RawSubjectPublicKeyInfo) {
			t.Error("the key is another one: what is pinned or published about it is no longer true")
		}
		if _, err := c.Cmd("NOOP"); err != nil {
			t.Fatalf("the session did not survive renewal %d: %v", i+1, err)
		}
	}
	if time.Now().Before(first.NotAfter) {
		t.Error("renewed twice before the end of the first: the test proves little")
	}
}

// TestACMEKilled: kill -9 in the middle of an order; the next start gets the certificate
// with the same account.
func TestACMEKilled(t *testing.T) {
	p := newPebble(t, 0)
	own := dnstest.New(t, acmeDomain+". 60 IN A 127.0.0.1") // the relay's, so that only the authority waits
	p.start(t)
	p.dns.Fail(acmeDomain, "A", dnstest.Silent)
	s := p.relay(t, "listen.https=off", "network.resolver="+own.Addr)
	eventually(t, patience, func() error {
		if p.dns.Asked(acmeDomain, "A") == 0 {
			return errors.New("the authority does not check yet")
		}
		return nil
	})
	s.kill()
	account := func() (keys []string) {
		found, _ := filepath.Glob(filepath.Join(s.dir, "tls/acme/acme/*/users/*/*.key"))
		for _, f := range found {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, string(b))
		}
		return keys
	}
	before := account()
	p.dns.Fail(acmeDomain, "A", dnstest.None)
	s.run(t)
	p.obtained(t, s.IMAPS, acmeDomain)
	if after := account(); len(before) != 1 || len(after) != 1 || before[0] != after[0] {
		t.Errorf("%d accounts before, %d after", len(before), len(after))
	}
}

// TestACMEDown: an authority that is not there is no reason not to serve, and is asked
// again until it is.
func TestACMEDown(t *testing.T) {
	p := newPebble(t, 0)
	s := p.relay(t)
	eventually(t, patience, func() error {
		c := s.tlsStatus(t).TLS.Certs[0]
		if !strings.Contains(c.Error, "no usable answer") || c.NextTry == "" || c.Issuer != "" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	s.mustLogin(t, s.newUser()) // with the self-signed certificate
	p.start(t)
	p.obtained(t, s.IMAPS, acmeDomain)
	eventually(t, patience, func() error {
		if c := s.tlsStatus(t).TLS.Certs[0]; c.Error != "" || c.NextTry != "" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

// TestACMEAddress: a certificate for an IP address (RFC 8738), and addresses that end in
// an address literal.
func TestACMEAddress(t *testing.T) {
	for name, off := range map[string]string{"HTTP-01": "listen.https=off", "TLS-ALPN-01": "listen.http=off"} {
		t.Run(name, func(t *testing.T) {
			p := newPebble(t, 0)
			p.start(t)
			s := p.relay(t, "domain=127.0.0.1", off)
			if s.Domain != "[127.0.0.1]" {
				t.Errorf("the domain is %s", s.Domain)
			}
			p.obtained(t, s.IMAPS, "127.0.0.1")
			c, err := mailclient.DialIMAP(s.IMAPS, mailclient.TLS, mailclient.Dialer{TLS: &tls.Config{RootCAs: p.roots, ServerName: "127.0.0.1"}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.Login("anna@[127.0.0.1]", "annas password"); err != nil {
				t.Error(err)
			}
		})
	}
}
