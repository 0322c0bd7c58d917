package lab

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/smtp"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/lab/world"
)

// worlds starts two mail hosts that find each other by one zone.
func worlds(t *testing.T) [2]world.Config {
	t.Helper()
	dir := t.TempDir()
	ca, err := newCertAuthority(dir)
	must(t, err)
	taken, ports := map[int]bool{}, map[string]int{}
	at := func() string {
		n, err := freePort(taken)
		must(t, err)
		return fmt.Sprintf("127.0.0.1:%d", n)
	}
	var all [2]world.Config
	zone := ""
	for i, domain := range []string{"one.test", "two.test"} {
		own := filepath.Join(dir, domain)
		must(t, os.Mkdir(own, 0o700))
		c := world.Config{Dir: filepath.Join(own, "data"), Domain: domain, Zone: filepath.Join(dir, "zone"), DNS: at(), SMTP: at(), Submission: at(), POP3: at(),
			Cert: filepath.Join(own, "cert.pem"), Key: filepath.Join(own, "cert.key"), CA: ca.file, Accounts: map[string]string{"u": "secret of " + domain}, Ports: ports}
		must(t, ca.issue(c.Cert, c.Key, domain))
		_, port, err := net.SplitHostPort(c.SMTP)
		must(t, err)
		var n int
		fmt.Sscan(port, &n)
		ports[domain] = n
		zone += domain + ". 5 IN A 127.0.0.1\n" + domain + ". 5 IN MX 10 " + domain + ".\n"
		all[i] = c
	}
	must(t, os.WriteFile(filepath.Join(dir, "zone"), []byte(zone), 0o600))
	for _, c := range all {
		w, err := world.Start(c, slog.New(slog.DiscardHandler))
		must(t, err)
		t.Cleanup(func() { must(t, w.Close()) })
	}
	return all
}

// send hands a mail in as the user of a host.
func send(c world.Config, password, from, to, text string) error {
	host, _, err := net.SplitHostPort(c.Submission)
	if err != nil {
		return err
	}
	return smtp.SendMail(c.Submission, smtp.PlainAuth("", "u@"+c.Domain, password, host), from, []string{to}, []byte(text))
}

// inbox waits until a mailbox has n mails and gives the last of them.
func inbox(t *testing.T, c world.Config, n int) string {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		p, err := textproto.Dial("tcp", c.POP3)
		must(t, err)
		for _, line := range []string{"", "USER u", "PASS secret of " + c.Domain, "STAT"} {
			if line != "" {
				must(t, p.PrintfLine("%s", line))
			}
			said, err := p.ReadLine()
			must(t, err)
			var have, size int
			if _, err := fmt.Sscanf(said, "+OK %d %d", &have, &size); line != "STAT" || err != nil || have < n {
				continue
			}
			must(t, p.PrintfLine("RETR %d", n))
			_, err = p.ReadLine()
			must(t, err)
			raw, err := p.ReadDotBytes()
			must(t, err)
			p.Close()
			return string(raw)
		}
		must(t, p.PrintfLine("QUIT")) // the box is free again when that is answered
		_, err = p.ReadLine()
		must(t, err)
		p.Close()
		<-tick.C
	}
	t.Fatalf("%s has not got %d mails", c.Domain, n)
	return ""
}

// TestWorld: two ordinary mail hosts find each other by MX records, send under TLS with a DKIM signature,
// keep what they got, and tell a sender what could not be delivered.
func TestWorld(t *testing.T) {
	all := worlds(t)
	one, two := all[0], all[1]
	const mail = "From: <u@one.test>\r\nTo: <u@two.test>\r\nSubject: hello\r\n\r\nhello\r\n"
	must(t, send(one, "secret of one.test", "u@one.test", "u@two.test", mail))
	got := inbox(t, two, 1)
	for _, want := range []string{"Return-Path: <u@one.test>", "d=one.test", "Message-ID: ", "Date: ", "Subject: hello\n", "\n\nhello\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in %s", want, got)
		}
	}
	must(t, send(one, "secret of one.test", "u@one.test", "nobody@two.test", mail))
	if report := inbox(t, one, 1); !strings.Contains(report, "nobody@two.test") || !strings.Contains(report, "message/delivery-status") {
		t.Errorf("the report: %s", report)
	}
	must(t, send(one, "secret of one.test", "u@one.test", "u@nowhere.test", mail))
	if report := inbox(t, one, 2); !strings.Contains(report, "u@nowhere.test") {
		t.Errorf("the report: %s", report)
	}
	must(t, send(one, "secret of one.test", "u@one.test", "u@one.test", mail)) // to the own domain
	inbox(t, one, 3)
	for why, err := range map[string]error{
		"535": send(one, "wrong", "u@one.test", "u@two.test", mail),
		"550": send(one, "secret of one.test", "other@one.test", "u@two.test", mail), // not the login
	} {
		if err == nil || !strings.HasPrefix(err.Error(), why) {
			t.Errorf("want %s: %v", why, err)
		}
	}
	c, err := smtp.Dial(two.SMTP)
	must(t, err)
	defer c.Close()
	must(t, c.Mail("u@one.test"))
	if err := c.Rcpt("u@three.test"); err == nil || !strings.HasPrefix(err.Error(), "550") {
		t.Errorf("it relays: %v", err)
	}
}

// TestWorldNames: the DNS answers by UDP and TCP, for its names alone, and reads the zone again when it
// has changed; what cannot be read leaves what was there.
func TestWorldNames(t *testing.T) {
	c := worlds(t)[0]
	for _, network := range []string{"udp", "tcp"} {
		r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, c.DNS)
		}}
		mx, err := r.LookupMX(t.Context(), "two.test")
		if err != nil || len(mx) != 1 || mx[0].Host != "two.test." {
			t.Errorf("%s: %v, %v", network, mx, err)
		}
		if _, err := r.LookupMX(t.Context(), "three.test"); err == nil {
			t.Errorf("%s: there is a three.test", network)
		}
		txt, err := r.LookupTXT(t.Context(), "lab._domainkey.one.test")
		if err != nil || len(txt) != 1 || !strings.Contains(txt[0], "k=ed25519") {
			t.Errorf("%s: %v, %v", network, txt, err)
		}
		zone, err := os.ReadFile(c.Zone)
		must(t, err)
		must(t, writeFile(c.Zone, append(zone, []byte(network+".test. 5 IN TXT"+strings.Repeat(` "`+strings.Repeat("x", 200)+`"`, 3)+"\n")...), 0o600))
		txt, err = r.LookupTXT(t.Context(), network+".test")
		if err != nil || len(txt) != 1 || len(txt[0]) != 600 {
			t.Errorf("%s: %v, %v", network, txt, err)
		}
		must(t, writeFile(c.Zone, append(zone, []byte("alias.test. 5 IN CNAME www.two.test.\nwww.two.test. 5 IN CNAME two.test.\nloop.test. 5 IN CNAME loop.test.\n")...), 0o600))
		if addrs, err := r.LookupHost(t.Context(), "alias.test"); err != nil || len(addrs) != 1 || addrs[0] != "127.0.0.1" {
			t.Errorf("%s: an alias leads to %v, %v", network, addrs, err)
		}
		if addrs, err := r.LookupHost(t.Context(), "loop.test"); err == nil {
			t.Errorf("%s: an alias for itself leads to %v", network, addrs)
		}
		must(t, writeFile(c.Zone, bytes.Repeat([]byte("no record\n"), 100), 0o600))
		if mx, err := r.LookupMX(t.Context(), "two.test"); err != nil || len(mx) != 1 {
			t.Errorf("%s, with a damaged zone: %v, %v", network, mx, err)
		}
		must(t, writeFile(c.Zone, zone, 0o600))
	}
}
