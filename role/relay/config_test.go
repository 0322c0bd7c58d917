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
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/configtest"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/seal"
)

// TestOptions runs one test for each option, TestOptions/<key>, which shows that
// the option has an effect. An option without one fails, and so does a test
// without an option.
func TestOptions(t *testing.T) {
	configtest.Options(t, &Config{}, effects(), outEffects(), mixEffects(), exitEffects(), aliasEffects(), aliasForwardEffects())
}

const (
	anna     = "anna@example.org"
	annas    = "anna's password"
	annaAddr = "anna"
)

func addr(local string) mail.Address {
	if local, domain, ok := strings.Cut(local, "@"); ok {
		return mail.Address{Local: local, Domain: domain}
	}
	return mail.Address{Local: local, Domain: "example.org"}
}

// login tries to log in (and so to make an account) and says what happened.
func login(s *Server, name, password string) error {
	c, err := reader(s, name, password)
	if err == nil {
		c.Close()
	}
	return err
}

// onOff: the listener called name greets, and with "off" it is not there. begins is
// the start of the greeting, of the answer to an HTTP request for the web ports.
func onOff(name, begins string, secured bool, where func(Info) string) func(*testing.T) {
	return func(t *testing.T) {
		on := where(inMemory(t).Info())
		c := mustDial(t, on)
		if secured {
			if err := c.secure(nil); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasPrefix(name, "http") {
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
		"listen.https_alt":          onOff("https_alt", "HTTP/1.0 200", true, func(i Info) string { return i.HTTPSAlt }),
		"listen.http":               onOff("http", "HTTP/1.0 301", false, func(i Info) string { return i.HTTP }),
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

		"tls.mode":           testTLSMode,
		"tls.acme_directory": testACME,
		"tls.acme_email":     testACME,
		"tls.acme_names":     testACME,

		"tls.trusted_cas": testDoctor,

		"network.addresses":       testAddresses,
		"network.trusted_proxies": testTrustedProxies,
		"network.resolver":        testDoctor,
		"network.resolver_dnssec": testDNSSEC,

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
			// A file that cannot be looked at closes the door as well.
			blind := begin(t, Deps{NoControl: true}, testConfig(t, t.TempDir(), "accounts.nocreate_file="+strings.Repeat("x", 300)))
			refusedWith(t, login(blind, "ben@example.org", annas), "NO")
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
			r, err := reader(s, anna, annas)
			allowed(t, err)
			defer r.Close()
			disk.SetSpace(49 << 20)
			refusedWith(t, submits(s, m), "452 4.3.1")
			refusedWith(t, r.append("INBOX", "", m), "NO [UNAVAILABLE]")
			for _, line := range []string{"CREATE more", `SETMETADATA INBOX (/private/comment "x")`} {
				_, err := r.imap("%s", line)
				refusedWith(t, err, "NO [UNAVAILABLE]")
			}
			_, err = r.imap("SELECT INBOX")
			allowed(t, err)
			_, err = r.imap("COPY 1 Trash")
			refusedWith(t, err, "NO [UNAVAILABLE]")
			_, err = r.imap(`STORE 1 +FLAGS (\Flagged)`)
			allowed(t, err)
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

		"exchange.mails_per_network":   testMailsPerNetwork,
		"exchange.bytes_per_network":   testBytesPerNetwork,
		"exchange.refused_per_network": testRefusedPerNetwork,
		"exchange.remember":            testRemember,

		"dkim.rotate_overlap":   testRotateOverlap,
		"dkim.publish_old_keys": testPublishOldKeys,

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
