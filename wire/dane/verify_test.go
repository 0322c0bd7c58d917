package dane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"postern.email/kit/errs"
	"postern.email/wire/dns"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// issued is a certificate with its key.
type issued struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate, valid for a day around noon, signed by parent or by itself.
func issue(t testing.TB, parent *issued, change func(*x509.Certificate)) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: serial.String()}, NotBefore: noon.Add(-12 * time.Hour), NotAfter: noon.Add(12 * time.Hour)}
	change(tmpl)
	by := &issued{tmpl, key}
	if parent != nil {
		by = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{c, key}
}

func authority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
}

func server(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames, c.KeyUsage, c.ExtKeyUsage = names, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
}

// record makes a TLSA record by miekg/dns's own way of hashing.
func record(t testing.TB, usage, selector, matching uint8, c *issued) dns.TLSA {
	t.Helper()
	text, err := mdns.CertificateToDANE(selector, matching, c.cert)
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return dns.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: data}
}

// TestVerify: which records vouch for which chains.
func TestVerify(t *testing.T) {
	root := issue(t, nil, authority)
	middle := issue(t, root, authority)
	leaf := issue(t, middle, server("mx.example.org"))
	direct := issue(t, root, server("*.example.org"))
	old := issue(t, middle, func(c *x509.Certificate) {
		server("mx.example.org")(c)
		c.NotAfter = noon.Add(-time.Hour)
	})
	nameless := issue(t, nil, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Hour) })
	client := issue(t, middle, func(c *x509.Certificate) {
		server("mx.example.org")(c)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	common := issue(t, middle, func(c *x509.Certificate) {
		server()(c)
		c.Subject.CommonName = "mx.example.org"
	})
	stranger := issue(t, nil, authority)
	impostor := issue(t, stranger, server("mx.example.org"))
	chain := func(all ...*issued) (list []*x509.Certificate) {
		for _, c := range all {
			list = append(list, c.cert)
		}
		return list
	}
	full := chain(leaf, middle, root)
	const noCert, wrong, apart, name = "the mail server shows no certificate", "the mail server's certificate is not the one that its TLSA records name",
		"the mail server's certificate does not lead to the one that its TLSA records name", "the mail server's certificate is for another name"
	type rec = []dns.TLSA
	r := func(usage, selector, matching uint8, c *issued) dns.TLSA {
		return record(t, usage, selector, matching, c)
	}
	for what, c := range map[string]struct {
		records rec
		chain   []*x509.Certificate
		says    string // empty: verified
	}{
		"the key of the authority":               {rec{r(2, 1, 1, root)}, full, ""},
		"an authority between":                   {rec{r(2, 0, 1, middle)}, full, ""},
		"an authority between, the top not sent": {rec{r(2, 1, 2, middle)}, chain(leaf, middle), ""},
		"the authority in full, not sent":        {rec{r(2, 0, 0, root)}, chain(leaf, middle), ""},
		"the authority in full, sent":            {rec{r(2, 0, 0, root)}, full, ""},
		"its key in full":                        {rec{r(2, 1, 0, middle)}, full, ""},
		"a wildcard":                             {rec{r(2, 1, 1, root)}, chain(direct, root), ""},
		"one of several":                         {rec{r(3, 1, 1, stranger), r(2, 1, 1, stranger), r(2, 1, 1, root)}, full, ""},
		"beside useless ones":                    {rec{{Usage: 1, Selector: 1, Matching: 1, Data: make([]byte, 32)}, {Usage: 3, Selector: 9, Matching: 1, Data: make([]byte, 32)}, r(3, 1, 1, leaf)}, full, ""},
		"the server itself, old and nameless":    {rec{r(3, 0, 1, nameless)}, chain(nameless), ""},
		"the server with strangers behind it":    {rec{r(3, 1, 1, leaf)}, chain(leaf, stranger), ""},

		"authority not sent":              {rec{r(2, 1, 1, root)}, chain(leaf, middle), wrong},
		"another authority":               {rec{r(2, 1, 1, stranger)}, full, wrong},
		"another server":                  {rec{r(3, 1, 1, impostor)}, full, wrong},
		"an authority as the server":      {rec{r(3, 1, 1, root)}, full, wrong},
		"the server as its own authority": {rec{r(2, 1, 1, leaf)}, full, wrong},
		"an authority that did not sign":  {rec{r(2, 1, 1, root)}, chain(impostor, middle, root), apart},
		"old":                             {rec{r(2, 1, 1, root)}, chain(old, middle, root), apart},
		"the middle is missing":           {rec{r(2, 1, 1, root)}, chain(leaf, root), apart},
		"not for servers":                 {rec{r(2, 1, 1, root)}, chain(client, middle, root), apart},
		"a common name only":              {rec{r(2, 1, 1, root)}, chain(common, middle, root), name},
		"no certificate":                  {rec{r(3, 1, 1, leaf)}, nil, noCert},
		"the stronger digest counts":      {rec{r(3, 1, 1, leaf), r(3, 1, 2, stranger)}, full, wrong},
	} {
		err := Verify(c.records, []string{"mx.example.org"}, c.chain, noon)
		if c.says == "" && err != nil || c.says != "" && (errs.KindOf(err) != errs.Denied || errs.Public(err) != c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
	for _, matching := range []uint8{0, 1, 2} {
		for _, selector := range []uint8{0, 1} {
			if err := Verify(rec{r(3, selector, matching, leaf)}, nil, full, noon); err != nil {
				t.Errorf("3 %d %d: %v", selector, matching, err)
			}
			if err := Verify(rec{r(2, selector, matching, middle)}, []string{"mx.example.org"}, full, noon); err != nil {
				t.Errorf("2 %d %d: %v", selector, matching, err)
			}
			// A digest of another kind, or a weaker one of another selector, does not shadow.
			if err := Verify(rec{r(3, selector, 1, leaf), r(3, 1-selector, 2, stranger), r(2, selector, 2, stranger), {Usage: 3, Selector: selector, Matching: 2, Data: []byte("short")}}, nil, full, noon); err != nil {
				t.Errorf("shadowed, selector %d: %v", selector, err)
			}
		}
	}
	ta := rec{r(2, 1, 1, root)}
	for names, ok := range map[[2]string]bool{{"other.example", "mx.example.org"}: true, {"other.example", "example.org"}: false, {"", ""}: false} {
		if err := Verify(ta, names[:], full, noon); (err == nil) != ok {
			t.Errorf("%v: %v", names, err)
		}
	}
	if err := Verify(ta, []string{"mx.example.org"}, full, noon.Add(13*time.Hour)); errs.KindOf(err) != errs.Denied {
		t.Errorf("tomorrow: %v", err)
	}
}

// TestUnusable: records that cannot decide, alone, are told as such, so that the caller
// can do what RFC 7672 §2.2 leaves to it.
func TestUnusable(t *testing.T) {
	leaf := issue(t, nil, server("mx.example.org"))
	sum := make([]byte, 32)
	for what, records := range map[string][]dns.TLSA{
		"none": nil,
		// The examples of RFC 6698 §2.3: usages 0 and 1, which mail does not use.
		"RFC 6698 0 0 1":     {{Usage: 0, Selector: 0, Matching: 1, Data: sum}},
		"RFC 6698 1 1 2":     {{Usage: 1, Selector: 1, Matching: 2, Data: make([]byte, 64)}},
		"usage 4":            {{Usage: 4, Selector: 1, Matching: 1, Data: sum}},
		"selector 2":         {{Usage: 3, Selector: 2, Matching: 1, Data: sum}},
		"matching 3":         {{Usage: 3, Selector: 1, Matching: 3, Data: sum}},
		"short SHA-256":      {{Usage: 3, Selector: 1, Matching: 1, Data: sum[:31]}},
		"SHA-256 as SHA-512": {{Usage: 3, Selector: 1, Matching: 2, Data: sum}},
		"no certificate":     {{Usage: 2, Selector: 0, Matching: 0, Data: sum}},
		"no key":             {{Usage: 3, Selector: 1, Matching: 0, Data: leaf.cert.Raw}},
	} {
		p := Policy{Base: "mx.example.org", Records: records}
		err := Verify(records, []string{p.Base}, []*x509.Certificate{leaf.cert}, noon)
		if p.Authenticates() || !p.Applies() || errs.KindOf(err) != errs.Unsupported || errs.Public(err) != "no TLSA record of the mail server can be used" {
			t.Errorf("%s: %v, Authenticates %v", what, err, p.Authenticates())
		}
	}
	if (Policy{}).Applies() {
		t.Error("no policy applies")
	}
}

// TestHandshake: as part of a TLS handshake, with the base domain as server name.
func TestHandshake(t *testing.T) {
	root := issue(t, nil, authority)
	leaf := issue(t, root, server("example.org"))
	for what, c := range map[string]struct {
		record  dns.TLSA
		domains []string
		ok      bool
	}{
		"the server":           {record(t, 3, 1, 1, leaf), nil, true},
		"an authority":         {record(t, 2, 1, 1, root), []string{"example.org"}, true},
		"for another name":     {record(t, 2, 1, 1, root), nil, false},
		"an authority unasked": {record(t, 3, 1, 1, root), []string{"example.org"}, false},
	} {
		p := Policy{Base: "mx.example.org", Records: []dns.TLSA{c.record}}
		a, b := net.Pipe()
		done := make(chan string)
		go func() {
			s := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.cert.Raw, root.cert.Raw}, PrivateKey: leaf.key}}})
			_ = s.Handshake()
			b.Close()
			done <- s.ConnectionState().ServerName
		}()
		cl := tls.Client(a, &tls.Config{ServerName: p.Base, InsecureSkipVerify: true, VerifyConnection: p.VerifyConnection(func() time.Time { return noon }, c.domains...)})
		err := cl.HandshakeContext(t.Context())
		a.Close()
		if name := <-done; (err == nil) != c.ok || name != p.Base {
			t.Errorf("%s: %v, name %q", what, err, name)
		}
		if err != nil && errs.KindOf(err) != errs.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	now := issue(t, nil, server("mx.example.org"))
	if err := (Policy{Records: []dns.TLSA{record(t, 3, 1, 1, now)}}).VerifyConnection(nil)(tls.ConnectionState{PeerCertificates: []*x509.Certificate{now.cert}}); err != nil {
		t.Error(err)
	}
}

// FuzzVerify: whatever a record says, it vouches for a chain only when it holds what it
// must.
func FuzzVerify(f *testing.F) {
	root := issue(f, nil, authority)
	leaf := issue(f, root, server("mx.example.org"))
	chain := []*x509.Certificate{leaf.cert, root.cert}
	for _, r := range []dns.TLSA{record(f, 3, 1, 1, leaf), record(f, 2, 0, 2, root), record(f, 3, 0, 0, leaf), record(f, 2, 0, 0, root), {Usage: 0}} {
		f.Add(r.Usage, r.Selector, r.Matching, r.Data)
	}
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		r := dns.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: data}
		if Verify([]dns.TLSA{r}, []string{"mx.example.org"}, chain, noon) != nil {
			return
		}
		if usage == UsageEE && matches(r, leaf.cert) || usage == UsageTA && matches(r, root.cert) {
			return
		}
		t.Errorf("%d %d %d %x vouches", usage, selector, matching, data)
	})
}
