package relay

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/wire/certs"
)

// TestOptions runs one test for each option, TestOptions/<key>, which shows that
// the option has an effect. An option without one fails, and so does a test
// without an option.
func TestOptions(t *testing.T) {
	tests := effects()
	for _, o := range config.Options(&Config{}) {
		fn := tests[o.Key]
		delete(tests, o.Key)
		if fn == nil {
			t.Errorf("option %s: no test shows its effect", o.Key)
			continue
		}
		t.Run(o.Key, fn)
	}
	for key := range tests {
		t.Errorf("test of %s: there is no such option", key)
	}
}

const (
	anna     = "anna@example.org"
	annas    = "anna's password"
	annaAddr = "anna"
)

func addr(local string) mail.Address { return mail.Address{Local: local, Domain: "example.org"} }

// login tries to log in (and so to make an account) and says what happened.
func login(s *Server, name, password string) error {
	c, err := reader(s, name, password)
	if err == nil {
		c.Close()
	}
	return err
}

// onOff: the listener called name greets, and with "off" it is not there. begins is
// the start of the greeting, of the answer to an HTTP request for https.
func onOff(name, begins string, secured bool, where func(Info) string) func(*testing.T) {
	return func(t *testing.T) {
		on := where(inMemory(t).Info())
		c := mustDial(t, on)
		if secured {
			if err := c.secure(nil); err != nil {
				t.Fatal(err)
			}
		}
		if name == "https" {
			io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
		}
		if l, err := c.line(); !strings.HasPrefix(l, begins) {
			t.Errorf("greeting %q, %v", l, err)
		}
		if off := where(inMemory(t, "listen."+name+"=off").Info()); off != "" {
			t.Errorf("turned off, it is at %s", off)
		}
	}
}

// places: a limit of one connection lets a second one in only after the first has
// gone; more=2 lets both in.
func places(key, more string, where func(Info) string) func(*testing.T) {
	return func(t *testing.T) {
		greeted := func(addr string) bool {
			c := mustDial(t, addr)
			l, err := c.line()
			return err == nil && (strings.HasPrefix(l, "* OK") || strings.HasPrefix(l, "220") || strings.HasPrefix(l, "+OK"))
		}
		twoPlaces(t, greeted, where(inMemory(t, key+"=1").Info()), where(inMemory(t, key+"="+more).Info()))
	}
}

// twoPlaces opens two connections to each: the first has one place, the second more.
func twoPlaces(t *testing.T, served func(string) bool, few, many string) {
	t.Helper()
	for i, want := range []bool{true, false} {
		if got := served(few); got != want {
			t.Errorf("one place: connection %d served: %v", i+1, got)
		}
	}
	for i := range 2 {
		if !served(many) {
			t.Errorf("more places: connection %d was refused", i+1)
		}
	}
}

// webPlaces is places for the port on which the client speaks first.
func webPlaces(key, more string) func(*testing.T) {
	return func(t *testing.T) {
		served := func(addr string) bool {
			return mustDial(t, addr).secure(&tls.Config{NextProtos: []string{"imap"}}) == nil
		}
		twoPlaces(t, served, inMemory(t, key+"=1").Info().HTTPS, inMemory(t, key+"="+more).Info().HTTPS)
	}
}

func privateIMAP(i Info) string { return i.PrivateIMAP }
func privateSMTP(i Info) string { return i.PrivateSubmission }
func privatePOP3(i Info) string { return i.PrivatePOP3 }

// revealed gives what the node key opens, as one text.
func revealed(t *testing.T, s *Server) string {
	t.Helper()
	var b strings.Builder
	if err := s.Reveal(t.Context(), func(r Revealed) { fmt.Fprintf(&b, "%s: %s\n", r.Kind, r.Text) }); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// clock is a clock that tests move.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) move(d time.Duration) { c.ahead.Add(int64(d)) }

// count gives how many mails a folder of anna holds.
func count(t *testing.T, s *Server, box string) int {
	t.Helper()
	c, err := reader(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	reply, err := c.imap("STATUS %s (MESSAGES)", box)
	var n int
	if _, serr := fmt.Sscanf(strings.ReplaceAll(reply, `"`, ""), "* STATUS "+box+" (MESSAGES %d)", &n); err != nil || serr != nil {
		t.Fatalf("%s, %v", reply, err)
	}
	return n
}

// ages: a mail with flags and size is there until the option's age has passed.
func ages(key string, size int, flags string) func(*testing.T) {
	return func(t *testing.T) {
		var c clock
		s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now},
			testConfig(t, "/data", "mail.delete_mails_after=0", "mail.delete_large_after=0", "mail.expire_every=1ms", key+"=10d"))
		r, err := reader(s, anna, annas)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		m, _ := sealedMail(anna, size)
		if err := r.append("INBOX", flags, m); err != nil {
			t.Fatal(err)
		}
		c.move(9 * day)
		if n := count(t, s, "INBOX"); n != 1 {
			t.Fatalf("%d mails before their time", n)
		}
		c.move(2 * day)
		until(t, "expiry", func() bool { return count(t, s, "INBOX") == 0 })
	}
}

// metadataOf asks for an annotation of the server.
func metadataOf(t *testing.T, s *Server, entry string) string {
	t.Helper()
	c, err := reader(s, anna, annas)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	reply, err := c.imap(`GETMETADATA "" (%s)`, entry)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func annotation(key, value, entry string) func(*testing.T) {
	return func(t *testing.T) {
		if got := metadataOf(t, inMemory(t, key+"="+value), entry); !strings.Contains(got, value) {
			t.Errorf("%s", got)
		}
		if got := metadataOf(t, inMemory(t), entry); strings.Contains(got, value) {
			t.Errorf("unset: %s", got)
		}
	}
}

// post asks the web page for credentials.
func post(t *testing.T, s *Server) (status int, email string) {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	r, err := (&http.Client{Transport: tr}).Post("https://"+s.Info().HTTPS+"/new", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var c struct{ Email string }
	json.NewDecoder(r.Body).Decode(&c)
	return r.StatusCode, c.Email
}

// submits hands in one mail from anna to herself.
func submits(s *Server, mail []byte) error {
	c, err := submitter(s, anna, annas)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.send(anna, []string{anna}, mail)
}

// refusedWith fails the test unless err says text.
func refusedWith(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("wanted a refusal with %q, got %v", text, err)
	}
}

// allowed fails the test on an error.
func allowed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("refused: %v", err)
	}
}

const secureJoin = "From: <anna@example.org>\r\nSubject: [...]\r\nSecure-Join: vc-request\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n" +
	"--x\r\nContent-Type: text/plain\r\n\r\nsecure-join: vc-request\r\n--x--\r\n"

const setupMessage = "From: <anna@example.org>\r\nTo: <anna@example.org>\r\nSubject: Autocrypt Setup Message\r\nAutocrypt-Setup-Message: v1\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nhello\r\n" +
	"--x\r\nContent-Type: application/autocrypt-setup\r\n\r\nkey\r\n--x--\r\n"

// exception: the mail is taken with the option on and refused with it off.
func exception(key, text string) func(*testing.T) {
	return func(t *testing.T) {
		allowed(t, submits(inMemory(t), []byte(text)))
		refusedWith(t, submits(inMemory(t, key+"=false"), []byte(text)), "523 ")
	}
}

func effects() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"domain": func(t *testing.T) {
			s := inMemory(t, "domain=other.example")
			allowed(t, login(s, "anna@other.example", annas))
			refusedWith(t, login(s, anna, annas), "AUTHORIZATIONFAILED")
		},
		"dir": func(t *testing.T) {
			fs := vfs.NewCrashDisk()
			begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/else/where"))
			if ok, err := vfs.Exists(fs, "/else/where/root.key"); !ok || err != nil {
				t.Errorf("nothing in the directory: %v", err)
			}
		},
		"listen.https":              onOff("https", "HTTP/1.0 200", true, func(i Info) string { return i.HTTPS }),
		"listen.imaps":              onOff("imaps", "* OK", true, func(i Info) string { return i.IMAPS }),
		"listen.imap":               onOff("imap", "* OK", false, func(i Info) string { return i.IMAP }),
		"listen.smtp":               onOff("smtp", "220 ", false, func(i Info) string { return i.SMTP }),
		"listen.submissions":        onOff("submissions", "220 ", true, func(i Info) string { return i.Submissions }),
		"listen.submission":         onOff("submission", "220 ", false, func(i Info) string { return i.Submission }),
		"listen.pop3s":              onOff("pop3s", "+OK", true, func(i Info) string { return i.POP3S }),
		"listen.pop3":               onOff("pop3", "+OK", false, func(i Info) string { return i.POP3 }),
		"listen.private_imap":       onOff("private_imap", "* OK", false, privateIMAP),
		"listen.private_submission": onOff("private_submission", "220 ", false, privateSMTP),
		"listen.private_pop3":       onOff("private_pop3", "+OK", false, privatePOP3),

		"tls.cert":        testCertFiles,
		"tls.key":         testCertFiles,
		"tls.poll":        testCertFiles,
		"tls.min_version": testMinVersion,

		"tls.trusted_cas": testDoctor,

		"network.trusted_proxies": testTrustedProxies,
		"network.resolver":        testDoctor,

		"connections.imap":             places("connections.imap", "2", privateIMAP),
		"connections.imap_per_network": places("connections.imap_per_network", "0", privateIMAP),
		"connections.smtp":             places("connections.smtp", "2", privateSMTP),
		"connections.smtp_per_network": places("connections.smtp_per_network", "0", privateSMTP),
		"connections.pop3":             places("connections.pop3", "2", privatePOP3),
		"connections.pop3_per_network": places("connections.pop3_per_network", "0", privatePOP3),
		"connections.web":              webPlaces("connections.web", "2"),
		"connections.web_per_network":  webPlaces("connections.web_per_network", "0"),

		"accounts.username_min_length": func(t *testing.T) {
			refusedWith(t, login(inMemory(t, "accounts.username_min_length=6"), "short@example.org", annas), "NO")
			allowed(t, login(inMemory(t, "accounts.username_min_length=5"), "short@example.org", annas))
		},
		"accounts.username_max_length": func(t *testing.T) {
			refusedWith(t, login(inMemory(t, "accounts.username_max_length=9"), "tenletters@example.org", annas), "NO")
			allowed(t, login(inMemory(t, "accounts.username_max_length=10"), "tenletters@example.org", annas))
		},
		"accounts.password_min_length": func(t *testing.T) {
			refusedWith(t, login(inMemory(t, "accounts.password_min_length=5"), anna, "four"), "NO")
			allowed(t, login(inMemory(t, "accounts.password_min_length=4"), anna, "four"))
		},
		"accounts.nocreate_file": func(t *testing.T) {
			fs := vfs.NewCrashDisk()
			s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "accounts.nocreate_file=/stop"))
			allowed(t, login(s, anna, annas))
			if err := vfs.WriteFileAtomic(fs, "/stop", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			refusedWith(t, login(s, "ben@example.org", annas), "NO")
			allowed(t, login(s, anna, annas))
		},
		"accounts.max_load":              scarce("accounts.max_load=4", "4.5", "3.5", "9", "9"),
		"accounts.min_available_memory":  scarce("accounts.min_available_memory=1M", "0", "0", "1000", "1100"),
		"accounts.min_free_disk_space":   testMinFreeDisk,
		"accounts.reuse":                 testReuse,
		"accounts.create_per_minute":     creations("accounts.create_per_minute=3", 3),
		"accounts.create_per_network":    creations("accounts.create_per_network=1", 5),
		"accounts.delete_inactive_after": testInactive,
		"accounts.login_grace": func(t *testing.T) {
			for grace, want := range map[string]int{"0": 0, "15m": 1} {
				s := inMemory(t, "accounts.login_grace="+grace)
				allowed(t, login(s, anna, annas))
				until(t, "end of the session", func() bool { return s.accounts.Load().KeysUsed == 0 })
				if n := s.accounts.Load().KeysIdle; n != want {
					t.Errorf("grace %s: %d idle keys, want %d", grace, n, want)
				}
			}
		},
		"accounts.max_idle_keys": func(t *testing.T) {
			s := inMemory(t, "accounts.max_idle_keys=1")
			allowed(t, login(s, anna, annas))
			allowed(t, login(s, "ben@example.org", annas))
			until(t, "end of the sessions", func() bool { return s.accounts.Load().KeysUsed == 0 })
			if n := s.accounts.Load().KeysIdle; n != 1 {
				t.Errorf("%d idle keys", n)
			}
		},

		"password.time":    hashed("password.time=3", "t=3"),
		"password.memory":  hashed("password.memory=64K", "m=64"),
		"password.threads": hashed("password.threads=2", "p=2", "password.memory=64K"),
		"password.queue":   crowd("password.queue=1"),
		"password.wait":    crowd("password.wait=1ms"),

		"mail.max_message_size": func(t *testing.T) {
			m, _ := sealedMail(anna, 5000)
			refusedWith(t, submits(inMemory(t, "mail.max_message_size=4K"), m), "552")
			allowed(t, submits(inMemory(t), m))
		},
		"mail.max_mailbox_size": func(t *testing.T) {
			s := inMemory(t, "mail.max_mailbox_size=1M")
			m, _ := sealedMail(anna, 600_000)
			allowed(t, submits(s, m))
			refusedWith(t, submits(s, m), "452")
		},
		"mail.delete_mails_after": ages("mail.delete_mails_after", 1000, ""),
		"mail.delete_large_after": ages("mail.delete_large_after", 250_000, `\Seen`),
		"mail.expire_every":       testExpireEvery,
		"mail.purge_every":        testPurgeEvery,
		"mail.min_free_space": func(t *testing.T) {
			disk := vfs.NewFaults(vfs.NewCrashDisk())
			disk.SetSpace(100 << 20)
			s := begin(t, Deps{FS: disk, NoControl: true}, testConfig(t, "/data", "mail.min_free_space=50M"))
			m, _ := sealedMail(anna, 1000)
			allowed(t, submits(s, m))
			disk.SetSpace(49 << 20)
			refusedWith(t, submits(s, m), "452 4.3.1")
			if n := count(t, s, "INBOX"); n != 1 {
				t.Errorf("reading should go on: %d mails", n)
			}
		},

		"submission.max_user_send_per_minute": rate("submission.max_user_send_per_minute=1", "submission.max_user_send_burst_size=1", 1),
		"submission.max_user_send_burst_size": rate("submission.max_user_send_per_minute=1", "submission.max_user_send_burst_size=4", 4),
		"submission.max_recipients": func(t *testing.T) {
			s := inMemory(t, "submission.max_recipients=2")
			if got := metadataOf(t, s, "/shared/vendor/deltachat/maxsmtprecipients"); !strings.Contains(got, `"2"`) {
				t.Errorf("clients are told %s", got)
			}
			c, err := submitter(s, anna, annas)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			m, _ := sealedMail(anna, 1000)
			allowed(t, login(s, "ben@example.org", annas))
			allowed(t, login(s, "eve@example.org", annas))
			refusedWith(t, c.send(anna, []string{anna, "ben@example.org", "eve@example.org"}, m), "452 4.5.3")
		},
		"submission.secure_join":   exception("submission.secure_join", secureJoin),
		"submission.setup_message": exception("submission.setup_message", setupMessage),

		"imap.imap_compress": func(t *testing.T) {
			for value, want := range map[string]bool{"false": false, "true": true} {
				c, err := reader(inMemory(t, "imap.imap_compress="+value), anna, annas)
				if err != nil {
					t.Fatal(err)
				}
				reply, err := c.imap("CAPABILITY")
				c.Close()
				if err != nil || strings.Contains(reply, "COMPRESS=DEFLATE") != want {
					t.Errorf("%s: %s, %v", value, reply, err)
				}
			}
		},

		"metadata.admin":      annotation("metadata.admin", "mailto:post@example.org", "/shared/admin"),
		"metadata.comment":    annotation("metadata.comment", "a comment", "/shared/comment"),
		"metadata.iroh_relay": annotation("metadata.iroh_relay", "https://iroh.example.org", "/shared/vendor/deltachat/irohrelay"),

		"web.name_length": func(t *testing.T) {
			if _, email := post(t, inMemory(t, "web.name_length=12")); len(email) != len("@example.org")+12 {
				t.Errorf("made %q", email)
			}
		},
		"web.requests_per_second": func(t *testing.T) {
			last := func(s *Server) (status int) {
				for range 8 {
					status, _ = post(t, s)
				}
				return status
			}
			if got := last(inMemory(t, "web.requests_per_second=1")); got != http.StatusTooManyRequests {
				t.Errorf("the eighth request at once: %d", got)
			}
			if got := last(inMemory(t, "web.requests_per_second=0")); got != http.StatusOK {
				t.Errorf("without a limit: %d", got)
			}
		},

		"node_key.source": func(t *testing.T) {
			fs := vfs.NewCrashDisk()
			key := make([]byte, 32)
			rand.Read(key)
			if err := errors.Join(vfs.MkdirAll(fs, "/creds", 0o700), vfs.WriteFileAtomic(fs, "/creds/"+seal.DefaultCredential, key, 0o600)); err != nil {
				t.Fatal(err)
			}
			t.Setenv("CREDENTIALS_DIRECTORY", "/creds")
			c := testConfig(t, "/data", "node_key.source=credential")
			s := begin(t, Deps{FS: fs, NoControl: true}, c)
			allowed(t, login(s, anna, annas))
			if ok, _ := vfs.Exists(fs, "/data/node.key"); ok {
				t.Error("a node key lies on the same disk")
			}
			if src := KeySource(fs, testConfig(t, "/data", "node_key.source=passphrase"), nil); src.Name() != "passphrase" {
				t.Errorf("source is %s", src.Name())
			}
		},
		"node_key.file": func(t *testing.T) {
			fs := vfs.NewCrashDisk()
			if err := vfs.MkdirAll(fs, "/usb", 0o700); err != nil {
				t.Fatal(err)
			}
			begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "node_key.file=/usb/key"))
			if ok, _ := vfs.Exists(fs, "/usb/key"); !ok {
				t.Error("no key at its place")
			}
			if ok, _ := vfs.Exists(fs, "/data/node.key"); ok {
				t.Error("a node key lies on the same disk")
			}
		},

		"log.level": func(t *testing.T) {
			var out bytes.Buffer
			level := new(slog.LevelVar)
			c := testConfig(t, "/data", "log.level=warn")
			l := Logger(&out, c, level)
			l.Info("quiet")
			s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Level: level}, c)
			allowed(t, s.Reload(testConfig(t, "/data", "log.level=info")))
			l.Info("loud")
			if out := out.String(); strings.Contains(out, "quiet") || !strings.Contains(out, "loud") {
				t.Errorf("%s", out)
			}
		},
		"log.format": func(t *testing.T) {
			var out bytes.Buffer
			Logger(&out, testConfig(t, "/data", "log.format=json"), new(slog.LevelVar)).Info("x")
			if !json.Valid(out.Bytes()) {
				t.Errorf("%s", out.String())
			}
			out.Reset()
			Logger(&out, testConfig(t, "/data"), new(slog.LevelVar)).Info("x")
			if json.Valid(out.Bytes()) || !strings.Contains(out.String(), "msg=x") {
				t.Errorf("%s", out.String())
			}
		},
	}
}

// TestContradictions: options that are each in order and make no sense together.
func TestContradictions(t *testing.T) {
	for _, x := range []struct{ set, want string }{
		{"accounts.username_min_length=10,accounts.username_max_length=9", "accounts.username_min_length"},
		{"tls.cert=/x", "tls.key"}, {"tls.key=/x", "tls.cert"},
		{"password.threads=4", "password.memory"},
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
	_, err := Start(t.Context(), Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "tls.cert=/one/cert.pem"))
	if errs.KindOf(err) != errs.Invalid {
		t.Errorf("a certificate without key: %v", err)
	}
	s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data", "tls.cert=/one/cert.pem", "tls.key=/one/key.pem", "tls.poll=1ms"))
	first := serial(t, s.Info().IMAPS)
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
		s := begin(t, Deps{FS: vfs.NewCrashDisk(), NoControl: true, Now: c.now}, testConfig(t, "/data", "mail.expire_every="+every))
		m, _ := sealedMail(anna, 1000)
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
