package relay

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/post/account"
	"postern.email/store"
	"postern.email/wire/certs"
)

// TestContradictions: options that are each in order and make no sense together.
func TestContradictions(t *testing.T) {
	for _, x := range []struct{ set, want string }{
		{"dkim.rotate_overlap=1d", "dkim.rotate_overlap"},
		{"accounts.username_min_length=10,accounts.username_max_length=9", "accounts.username_min_length"},
		{"tls.cert=/x,tls.mode=auto", "tls.key"}, {"tls.key=/x,tls.mode=files", "tls.cert"}, {"tls.mode=files", "tls.cert"},
		{"tls.cert=/x,tls.key=/x,tls.mode=acme", "one or the other"}, {"tls.cert=/x,tls.key=/x,tls.mode=self-signed", "one or the other"},
		{"tls.mode=acme,listen.http=off,listen.https=off,listen.https_alt=off", "listen.http"},
		{"password.threads=4", "password.memory"},
		{"exit.enabled=true", "mixnet.enabled"}, {"mixnet.enabled=true,mixnet.network=/n,mixnet.nickname=a,exit.enabled=true,domain=192.0.2.1", "domain name"},
		{"mixnet.keep_packets=36h", "whole days"}, {"mixnet.enabled=true", "mixnet.network"}, {"mixnet.enabled=true,mixnet.network=/n", "mixnet.nickname"},
		{"mixnet.enabled=true,mixnet.network=/n,mixnet.nickname=a b", "mixnet.nickname"}, {"mixnet.enabled=true,mixnet.network=/n,mixnet.nickname=a,mixnet.family=Us", "mixnet.family"},
		{"mixnet.enabled=true,mixnet.network=/n,mixnet.nickname=a,mixnet.listen=off", "mixnet.listen"},
		{"mixnet.enabled=true,mixnet.network=/n,mixnet.nickname=a,mixnet.addresses=relay.example", "mixnet.addresses"},
		{"mixnet.enabled=true,mixnet.network=/n,mixnet.nickname=a,mixnet.addresses=relay.example:0", "mixnet.addresses"},
		{"exchange.remember=36h", "whole days"}, {"accounts.delete_inactive_after=12h", "whole days"}, {"accounts.delete_inactive_after=36h", "whole days"},
	} {
		c := testConfig(t, "/data", strings.Split(x.set, ",")...)
		if err := c.Check(); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), x.want) {
			t.Errorf("%s: %v", x.set, err)
		}
	}
	if err := testConfig(t, "/data").Check(); err != nil {
		t.Error(err)
	}
}

// serial gives the certificate's number that a TLS port shows.
func serial(t *testing.T, addr string) string {
	t.Helper()
	c := mustDial(t, addr)
	if err := c.secure(nil); err != nil {
		t.Fatal(err)
	}
	return c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func testCertFiles(t *testing.T) {
	fs := vfs.NewCrashDisk()
	make := func(dir string) {
		t.Helper()
		if _, err := certs.New(certs.Options{FS: fs, Dir: dir, Domain: "example.org"}); err != nil {
			t.Fatal(err)
		}
	}
	make("/one")
	make("/two")
	_, err := Start(t.Context(), Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "tls.mode=files", "tls.cert=/one/cert.pem"))
	if errs.KindOf(err) != errs.Invalid {
		t.Errorf("a certificate without key: %v", err)
	}
	s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "tls.mode=files", "tls.cert=/one/cert.pem", "tls.key=/one/key.pem", "tls.poll=1ms"))
	first := serial(t, s.Info().IMAPS)
	open := mustDial(t, s.Info().IMAPS)
	if err := open.secure(nil); err != nil {
		t.Fatal(err)
	}
	open.line()
	if _, err := open.imap(`LOGIN "%s" "%s"`, anna, annas); err != nil {
		t.Fatal(err)
	}
	if ok, _ := vfs.Exists(fs, "/data/tls/cert.pem"); ok || s.Info().TLSCert != "/one/cert.pem" {
		t.Error("the given files are not in use")
	}
	for _, n := range []string{"key.pem", "cert.pem"} {
		b, err := vfs.ReadFile(fs, "/two/"+n)
		if err != nil || vfs.WriteFileAtomic(fs, "/one/"+n, b, 0o600) != nil {
			t.Fatal(err)
		}
	}
	until(t, "new certificate", func() bool { return serial(t, s.Info().IMAPS) != first })
	if _, err := open.imap("SELECT INBOX"); err != nil {
		t.Errorf("the session that was open: %v", err)
	}
}

func testMinVersion(t *testing.T) {
	old := func() *tls.Config { return &tls.Config{MaxVersion: tls.VersionTLS12} }
	for value, want := range map[string]bool{"1.3": false, "1.2": true} {
		i := inMemory(t, "tls.min_version="+value).Info()
		for _, addr := range []string{i.IMAPS, i.Submissions, i.POP3S, i.HTTPS} {
			if got := mustDial(t, addr).secure(old()) == nil; got != want {
				t.Errorf("least %s: TLS 1.2 served: %v", value, got)
			}
		}
		// Strangers' mail servers may always use TLS 1.2.
		c := mustDial(t, i.SMTP)
		for _, cmd := range []string{"", "EHLO x", "STARTTLS"} {
			if reply, err := c.smtp(cmd); err != nil || reply[0] != '2' {
				t.Fatalf("%s: %s, %v", cmd, reply, err)
			}
		}
		if err := c.secure(old()); err != nil {
			t.Errorf("port 25 with TLS 1.2: %v", err)
		}
	}
}

func testTrustedProxies(t *testing.T) {
	i := inMemory(t, "network.trusted_proxies=127.0.0.1", "connections.imap_per_network=1").Info()
	from := func(header string) bool {
		c := mustDial(t, i.PrivateIMAP)
		io.WriteString(c, header)
		l, err := c.line()
		return err == nil && strings.HasPrefix(l, "* OK")
	}
	const one, two = "PROXY TCP4 192.0.2.1 192.0.2.9 1 2\r\n", "PROXY TCP4 192.0.2.2 192.0.2.9 1 2\r\n"
	if !from(one) || !from(two) || from(one) {
		t.Error("one connection for each of two clients, no second one for the first")
	}
	// A masquerading proxy says nothing, and stands for many people.
	for range 2 {
		if !from("") {
			t.Error("a trusted address without header should be exempt")
		}
	}
	// A stranger's header is nonsense to IMAP.
	j := inMemory(t).Info()
	c := mustDial(t, j.PrivateIMAP)
	io.WriteString(c, one+"a1 NOOP\r\n")
	c.line()
	if l, _ := c.line(); strings.HasPrefix(l, "a1") {
		t.Errorf("a stranger's PROXY header was swallowed: %s", l)
	}
}

// scarce: creations are refused on the first machine and go on on the second, old
// logins go on on both.
func scarce(set, load1, load2, mem1, mem2 string) func(*testing.T) {
	return func(t *testing.T) {
		fs := vfs.NewCrashDisk()
		c := testConfig(t, "/data", set)
		good := begin(t, Deps{FS: fs, NoControl: true, System: machine(fs, load2, mem2)}, c)
		allowed(t, login(good, anna, annas))
		allowed(t, good.Close())
		bad := begin(t, Deps{FS: fs, NoControl: true, System: machine(fs, load1, mem1)}, c)
		refusedWith(t, login(bad, "ben@example.org", annas), "UNAVAILABLE")
		allowed(t, login(bad, anna, annas))
	}
}

func testMinFreeDisk(t *testing.T) {
	disk := vfs.NewFaults(vfs.NewCrashDisk())
	disk.SetSpace(200 << 20)
	s := begin(t, Deps{FS: disk, NoControl: true}, testConfig(t, "/data", "accounts.min_free_disk_space=100M"))
	allowed(t, login(s, anna, annas))
	disk.SetSpace(99 << 20)
	refusedWith(t, login(s, "ben@example.org", annas), "NO")
	allowed(t, login(s, anna, annas))
}

func testReuse(t *testing.T) {
	for set, want := range map[string]bool{"accounts.reuse=never": false, "accounts.reuse=after 3 days": true} {
		var c clock
		s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now}, testConfig(t, "/data", set))
		allowed(t, login(s, anna, annas))
		allowed(t, s.accounts.Delete(t.Context(), addr(annaAddr)))
		refusedWith(t, login(s, anna, annas), "NO")
		c.move(4 * day)
		if got := login(s, anna, annas) == nil; got != want {
			t.Errorf("%s: given out again: %v", set, got)
		}
	}
}

// creations: n addresses can be made at once, and no more.
func creations(set string, n int) func(*testing.T) {
	return func(t *testing.T) {
		s := inMemory(t, set)
		for i := range n {
			allowed(t, login(s, fmt.Sprintf("user%d@example.org", i), annas))
		}
		refusedWith(t, login(s, "another@example.org", annas), "UNAVAILABLE")
	}
}

func testInactive(t *testing.T) {
	for set, want := range map[string]bool{"accounts.delete_inactive_after=5d": false, "accounts.delete_inactive_after=0": true} {
		fs := vfs.NewCrashDisk()
		s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", set))
		allowed(t, login(s, anna, annas))
		allowed(t, s.Close())
		var c clock
		c.move(7 * day)
		s = begin(t, Deps{FS: fs, NoControl: true, Now: c.now}, testConfig(t, "/data", set))
		exists := func() bool { _, err := s.accounts.Show(t.Context(), addr(annaAddr)); return err == nil }
		if !want {
			until(t, "removal", func() bool { return !exists() })
		} else if !exists() {
			t.Error("removed although it should never be")
		}
	}
}

// hashed: the cost stands beside the wrapped key.
func hashed(set, want string, more ...string) func(*testing.T) {
	return func(t *testing.T) {
		s := inMemory(t, append(more, set)...)
		allowed(t, login(s, anna, annas))
		if r := revealed(t, s); !strings.Contains(r, want) {
			t.Errorf("%q is not in\n%s", want, r)
		}
	}
}

// crowd: many logins with costly passwords at once; with a full gate some are told
// to try later, with the defaults none.
func crowd(set string) func(*testing.T) {
	return func(t *testing.T) {
		refused := func(set ...string) (n int32) {
			s := inMemory(t, append([]string{"password.memory=32M"}, set...)...)
			var busy atomic.Int32
			var all sync.WaitGroup
			for i := range 24 {
				all.Go(func() {
					_, err := s.accounts.Login(t.Context(), account.LoginRequest{Name: fmt.Sprintf("user%d@example.org", i), Password: annas, Peer: limits.Peer{Exempt: true}})
					if errs.KindOf(err) == errs.Busy {
						busy.Add(1)
					} else if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			return busy.Load()
		}
		if refused(set) == 0 {
			t.Error("nobody was told to try later")
		}
		if n := refused(); n != 0 {
			t.Errorf("%d were told to try later without need", n)
		}
	}
}

// rate: n mails go at once, and no more.
func rate(perMinute, burst string, n int) func(*testing.T) {
	return func(t *testing.T) {
		s := inMemory(t, perMinute, burst)
		m, _ := sealedMail(anna, 1000)
		for range n {
			allowed(t, submits(s, m))
		}
		refusedWith(t, submits(s, m), "450 4.7.1")
	}
}

func testExpireEvery(t *testing.T) {
	var c clock
	for every, want := range map[string]int{"1d": 1, "1ms": 0} {
		d := Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now}
		start := func() *Server { return begin(t, d, testConfig(t, "/data", "mail.expire_every="+every)) }
		m, _ := sealedMail(anna, 1000)
		s := start()
		allowed(t, submits(s, m))
		s.Close()
		c.move(30 * day)
		s = start()
		// There is a look at the start, too. What comes behind it waits for the next one.
		until(t, "expiry at the start", func() bool { return count(t, s, "INBOX") == 0 })
		allowed(t, submits(s, m))
		c.move(30 * day)
		if want == 0 {
			until(t, "expiry", func() bool { return count(t, s, "INBOX") == 0 })
		} else if n := count(t, s, "INBOX"); n != want {
			t.Errorf("every %s: %d mails", every, n)
		}
	}
}

// testPurgeEvery: the sealed bytes of an expunged mail are in no file any more.
func testPurgeEvery(t *testing.T) {
	fs := vfs.NewCrashDisk()
	s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "mail.purge_every=1ms"))
	m, _ := sealedMail(anna, 20_000)
	allowed(t, submits(s, m))
	var sealed []byte
	err := s.db.Walk(t.Context(), func(_ store.Shard, _, value []byte) (bool, error) {
		if len(value) > len(sealed) {
			sealed = bytes.Clone(value)
		}
		return true, nil
	})
	if err != nil || len(sealed) < 20_000 {
		t.Fatalf("%d bytes, %v", len(sealed), err)
	}
	somewhere := func() bool {
		for _, dir := range []string{"/data/store", "/data/blobs"} {
			names, err := fs.List(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				b, err := vfs.ReadFile(fs, dir+"/"+n)
				if err == nil && bytes.Contains(b, sealed[100:200]) {
					return true
				}
			}
		}
		return false
	}
	if !somewhere() {
		t.Fatal("the search finds nothing: it would find nothing later either")
	}
	c, err := reader(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, cmd := range []string{"SELECT INBOX", `STORE 1 +FLAGS (\Deleted)`, "EXPUNGE"} {
		if _, err := c.imap(cmd); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "purge", func() bool { return !somewhere() })
}

// TestExpireDays: what POP3 tells of how long mail is kept is never less than one day.
func TestExpireDays(t *testing.T) {
	for age, want := range map[time.Duration]int{0: 0, time.Hour: 1, day: 1, day + 1: 2, 20 * day: 20} {
		if got := expireDays(age); got != want {
			t.Errorf("%v: %d days, want %d", age, got, want)
		}
	}
}
