package mix

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/configtest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/node"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/stats"
)

// TestOptions runs one test for each option, TestOptions/<key>, which shows that the option
// has an effect. An option without one fails, and so does a test without an option.
func TestOptions(t *testing.T) {
	configtest.Options(t, &Config{}, effects(), exitEffects())
}

// said is what a node says of itself.
func said(t testing.TB, set ...string) *directory.Descriptor { return one(t, set...).node.Descriptor() }

// places: with an option a file lies elsewhere.
func places(set string, before, after string) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t)
		w.start().Close()
		v := newWorld(t)
		v.start(set).Close()
		if !w.there(before) || w.there(after) || !v.there(after) || v.there(before) {
			t.Errorf("%s: %v, %v; by default: %v, %v", set, v.there(after), v.there(before), w.there(after), w.there(before))
		}
	}
}

// inScript: what a test of the program itself shows (cmd/postern), in a line of a script.
func inScript(script string, lines ...string) func(*testing.T) {
	return func(t *testing.T) {
		text, err := os.ReadFile("../../cmd/postern/testdata/scripts/" + script + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if !strings.Contains(string(text), "\n"+l+"\n") {
				t.Errorf("%s does not have the line %q", script, l)
			}
		}
	}
}

func effects() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"nickname": func(t *testing.T) {
			if d := said(t, "nickname=borealis"); d.Nickname != "borealis" {
				t.Error(d.Nickname)
			}
			newWorld(t).refused("nickname must be", "nickname=")
		},
		"mode": func(t *testing.T) {
			if d, e := said(t), said(t, "mode=relay,mailbox"); d.Mode != directory.Mix || e.Mode != directory.Relay|directory.Mailbox {
				t.Error(d.Mode, e.Mode)
			}
			newWorld(t).refused("mode is mix", "mode=mix,relay")
			newWorld(t).refused("is not mix, relay", "mode=proxy")
			newWorld(t).refused("mode mailbox needs relay", "mode=mailbox")
		},
		"network": func(t *testing.T) {
			w := newWorld(t)
			w.refused("there is no network file /node/other", "network=other")
			w.file("other", strings.Replace(string(w.net.Network.Bytes()), "test-net", "other-net", 1))
			if d := w.start("network=other").node.Descriptor(); d.Network != "other-net" {
				t.Error(d.Network)
			}
			v := newWorld(t)
			v.file("bad", "nonsense\n")
			v.refused("/node/bad: ", "network=bad")
		},
		"family": func(t *testing.T) {
			if d := said(t, "family=northern"); d.Family != "northern" {
				t.Error(d.Family)
			}
		},
		"contact_email": func(t *testing.T) {
			if d := said(t, "contact_email=a@example.org"); d.Contact != "a@example.org" {
				t.Error(d.Contact)
			}
			newWorld(t).refused("contact_email is needed", "directory.publish=true")
		},
		"contact_fingerprint": func(t *testing.T) {
			if d := said(t, "contact_fingerprint=0123  4567"); d.Fingerprint != "0123 4567" {
				t.Error(d.Fingerprint)
			}
			newWorld(t).refused("contact_fingerprint must be", "contact_fingerprint="+strings.Repeat("0", 129))
		},
		"comments": func(t *testing.T) {
			if d := said(t, "comments=Kept by people."); d.Comments != "Kept by people." {
				t.Error(d.Comments)
			}
			newWorld(t).refused("comments must be", "comments="+strings.Repeat("a", 1025))
		},
		"server.base_dir": func(t *testing.T) {
			w := newWorld(t)
			w.base = "/elsewhere"
			w.file("network", string(w.net.Network.Bytes()))
			w.start()
			if !w.there("/elsewhere/keys/identity.key") || w.there("/node/keys") {
				t.Error("the keys are not in the base directory")
			}
		},
		"server.key_dir":   places("server.key_dir=/other/k", "keys/identity.key", "/other/k/identity.key"),
		"server.work_dir":  places("server.work_dir=w", "work/stats.tmp", "w/stats.tmp"),
		"server.queue_dir": places("server.queue_dir=/spool", "work/queues/packets/format", "/spool/packets/format"),
		"server.stats_file": func(t *testing.T) {
			w := newWorld(t)
			s := w.start("server.stats_file=counts")
			if err := s.stats.Reopen(); err != nil || !w.there("counts") || w.there("stats") {
				t.Errorf("%v", err)
			}
		},
		"server.pid_file":  inScript("mixminiond", "PidFile: p/id", "exists data/p/id"),
		"server.daemon":    inScript("mixminiond", "Daemon: yes"),
		"server.stop_time": testStopTime,
		"server.stats": func(t *testing.T) {
			if s := one(t, "server.stats=false"); s.stats != nil {
				t.Error("counted")
			}
			if one(t).stats == nil {
				t.Error("not counted")
			}
		},
		"server.stats_interval": func(t *testing.T) {
			ended := func(set ...string) bool {
				w := newWorld(t)
				s := w.start(set...)
				w.pass(110 * time.Second)
				if err := s.stats.Save(); err != nil {
					t.Fatal(err)
				}
				return w.there("stats")
			}
			if ended() || !ended("server.stats_interval=100s") {
				t.Error("the period did not end when it should, or when it should not")
			}
		},
		"server.timeout": func(t *testing.T) {
			w := knowing(t, "anna")
			s := w.start("mode=relay", "server.timeout=1s")
			line, _ := dial(t, "anna", s)
			if !served(t, line) {
				t.Fatal("not served")
			}
			until(t, "a silent connection was not closed", func() bool { return count(t, s, stats.ReceivedConnection) > 1 })
		},
		"server.connections": func(t *testing.T) {
			w := knowing(t, "anna", "berta")
			s := w.start("mode=relay", "server.connections=1")
			anna, _ := dial(t, "anna", s)
			if !served(t, anna) {
				t.Fatal("the first is not served")
			}
			if berta, _ := dial(t, "berta", s); served(t, berta) {
				t.Error("a second one is served")
			}
			v := knowing(t, "anna", "berta")
			s = v.start("mode=relay")
			for _, name := range []string{"anna", "berta"} {
				if l, _ := dial(t, name, s); !served(t, l) {
					t.Errorf("%s is not served by default", name)
				}
			}
		},
		"server.max_bandwidth":       bandwidth(node.Bandwidth{Rate: 2 << 20}, "server.max_bandwidth=2M"),
		"server.max_bandwidth_spike": bandwidth(node.Bandwidth{Rate: 1 << 20, Spike: 4 << 20}, "server.max_bandwidth=1M", "server.max_bandwidth_spike=4M"),

		"log.file":   testLogFile,
		"log.level":  testLogLevel,
		"log.echo":   testLogEcho,
		"log.format": testLogFormat,

		"keys.lifetime": func(t *testing.T) {
			for want, set := range map[time.Duration]string{3 * day: "keys.lifetime=3d", 5 * day: "keys.lifetime=5d"} {
				if k := one(t, set).keys.List()[0]; k.Until.Sub(k.From) != want {
					t.Errorf("%s: %v", set, k.Until.Sub(k.From))
				}
			}
			newWorld(t).refused("packet keys live from 1 to 30 days", "keys.lifetime=23h")
		},
		"keys.overlap": func(t *testing.T) {
			for want, set := range map[time.Duration]string{day: "keys.overlap=1d", 2 * day: "keys.overlap=2d"} {
				if k := one(t, set).keys.List()[0]; k.AcceptedUntil.Sub(k.Until) != want {
					t.Errorf("%s: %v", set, k.AcceptedUntil.Sub(k.Until))
				}
			}
			newWorld(t).refused("packet keys overlap by 6 to 72 hours", "keys.overlap=5h")
		},
		"keys.rotation": func(t *testing.T) {
			for want, set := range map[time.Duration]string{day: "keys.rotation=0", 12 * time.Hour: "keys.rotation=12h"} {
				if l := one(t, set).keys.List(); l[1].From.Sub(l[0].From) != want {
					t.Errorf("%s: %v", set, l[1].From.Sub(l[0].From))
				}
			}
			newWorld(t).refused("keys.rotation is longer", "keys.rotation=4d")
		},
		"keys.encrypt":         testEncrypt,
		"keys.encrypt_all":     testEncryptAll,
		"keys.passphrase_file": inScript("mixkeys", "! postern mix start -f mix.toml --nodaemon --set keys.passphrase_file=wrong"),

		"host.file_paranoia": testParanoia,
		"host.trusted_users": func(t *testing.T) {
			newWorld(t).refused("host.trusted_users: there is no user nobody-such", "host.trusted_users=nobody-such")
			c := newWorld(t).config("host.trusted_users=12345,root")
			if got, err := c.trusted(); err != nil || !slices.Equal(got, []int{12345, 0}) {
				t.Errorf("%v, %v", got, err)
			}
		},

		"mixing.algorithm": func(t *testing.T) {
			for set, want := range map[string]directory.Mixing{"mixing.algorithm=Poisson": directory.Poisson, "mixing.algorithm=Timed": directory.Timed,
				"mixing.algorithm=DynamicPool": directory.DynamicPool, "mixing.algorithm=BinomialDynamicPool": directory.BinomialDynamic} {
				if d := said(t, set); d.Mixing != want {
					t.Errorf("%s: %s", set, d.Mixing)
				}
			}
			newWorld(t).refused("mixing.algorithm is for a mix", "mixing.algorithm=Timed", "mode=relay")
		},
		"mixing.interval": func(t *testing.T) {
			if a, b := said(t, "mixing.algorithm=Timed").Residence, said(t, "mixing.algorithm=Timed", "mixing.interval=1h").Residence; b != 2*a {
				t.Error(a, b)
			}
		},
		"mixing.pool_rate": func(t *testing.T) {
			if a, b := said(t, "mixing.algorithm=DynamicPool").Residence, said(t, "mixing.algorithm=DynamicPool", "mixing.pool_rate=10").Residence; b <= a {
				t.Error(a, b)
			}
		},
		"mixing.pool_min_size": func(t *testing.T) {
			for set, want := range map[string]bool{"mixing.pool_min_size=5": false, "mixing.pool_min_size=4": true} {
				s := one(t, "mixing.algorithm=DynamicPool", set)
				if got := slices.ContainsFunc(s.Status().Insecure, func(w string) bool { return strings.HasPrefix(w, "the pool keeps only 4 packets back") }); got != want {
					t.Errorf("%s: %v", set, got)
				}
			}
		},
		"mixing.memory": func(t *testing.T) {
			if s := one(t, "mixing.memory=2M"); s.options.Pool.Memory != 2<<20 {
				t.Error(s.options.Pool.Memory)
			}
		},

		"directory.publish":           testPublish,
		"directory.urls":              testURLs,
		"directory.extra_descriptors": testExtra,
		"directory.layer": func(t *testing.T) {
			if d, e := said(t), said(t, "directory.layer=2"); d.UnlistedLayer() != 0 || e.UnlistedLayer() != 2 {
				t.Error(d.Parameters, e.Parameters)
			}
			w := newWorld(t)
			s := w.start()
			if r, err := s.Reload(soon(t), w.config("directory.layer=3")); err != nil || !slices.Equal(r.Changed, []string{"directory.layer"}) || s.applied.About.UnlistedLayer() != 3 {
				t.Errorf("%+v, %v", r, err)
			}
			for _, set := range [][]string{{"mode=relay"}, {"directory.publish=true", "contact_email=a@example.org"}} {
				newWorld(t).refused("directory.layer is of a mix that is not published", append(set, "directory.layer=1")...)
			}
		},

		"incoming.listen": func(t *testing.T) {
			s := one(t, "incoming.listen=127.0.0.1:0,[::1]:0")
			if i := s.Info(); len(i.Listen) != 2 || !strings.HasPrefix(i.Listen[1], "[::1]:") {
				t.Error(i.Listen)
			}
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			newWorld(t).refused("is in use by another process", "incoming.listen="+taken.Addr().String())
			newWorld(t).refused("incoming.listen: a node listens", "incoming.listen=off")
		},
		"incoming.addresses": func(t *testing.T) {
			if d := said(t, "incoming.addresses=mix.example.org:1,198.51.100.7:2"); !slices.Equal(d.Addresses, []string{"mix.example.org:1", "198.51.100.7:2"}) {
				t.Error(d.Addresses)
			}
			s := one(t)
			if d := s.node.Descriptor(); !slices.Equal(d.Addresses, s.Info().Listen) {
				t.Error(d.Addresses)
			}
			newWorld(t).refused("write host:port", "incoming.addresses=mix.example.org")
		},
		"incoming.deny": func(t *testing.T) {
			for set, want := range map[string]bool{"incoming.deny=127.0.0.0/8": false, "incoming.deny=10.0.0.0/8": true} {
				line, _ := dial(t, "anna", knowing(t, "anna").start("mode=relay", set))
				if got := served(t, line); got != want {
					t.Errorf("%s: %v", set, got)
				}
			}
		},
		"incoming.allow": func(t *testing.T) {
			for set, want := range map[string]bool{"incoming.allow=127.0.0.1": true, "incoming.allow=10.0.0.0/8": false} {
				line, _ := dial(t, "anna", knowing(t, "anna").start("mode=relay", set))
				if got := served(t, line); got != want {
					t.Errorf("%s: %v", set, got)
				}
			}
		},
		"outgoing.retry": func(t *testing.T) {
			s := one(t, "outgoing.retry=2 hours, 1 day")
			first := time.Now()
			if next, ok := s.options.Retry.Next(first, first); !ok || next.Sub(first) != 2*time.Hour {
				t.Error(next.Sub(first), ok)
			}
			newWorld(t).refused("outgoing.retry: ", "outgoing.retry=often")
		},
		"outgoing.deny":  reaches("outgoing.deny=10.0.0.0/8", map[string]bool{"10.1.2.3": false, "192.0.2.1": true}),
		"outgoing.allow": reaches("outgoing.allow=10.0.0.0/8", map[string]bool{"10.1.2.3": true, "192.0.2.1": false}),

		"clients.file": func(t *testing.T) {
			w := knowing(t, "anna")
			s := w.start("mode=relay")
			if berta, _ := dial(t, "berta", s); served(t, berta) {
				t.Error("a stranger is served")
			}
			anna, _ := dial(t, "anna", s)
			if !served(t, anna) {
				t.Error("a client is not served")
			}
			v := knowing(t, "anna")
			if anna, _ := dial(t, "anna", v.start("mode=relay", "clients.file=nobody")); served(t, anna) {
				t.Error("another file has the same clients")
			}
			v = newWorld(t)
			v.file("bad", "xyz\n")
			v.refused("/node/bad: line 1: a link key is 64 digits", "mode=relay", "clients.file=bad")
		},
		"mailbox.packets": func(t *testing.T) {
			w := knowing(t, "anna")
			s := w.start("mode=relay,mailbox", "mailbox.packets=1")
			for i, want := range []errs.Kind{0, errs.Full} {
				err := s.put("anna", byte(i), t)
				if err != nil && errs.KindOf(err) != want || err == nil && want != 0 {
					t.Errorf("packet %d: %v", i, err)
				}
			}
		},
		"mailbox.retention": func(t *testing.T) {
			w := knowing(t, "anna")
			s := w.start("mode=relay,mailbox", "mailbox.retention=2d")
			if err := s.put("anna", 1, t); err != nil {
				t.Fatal(err)
			}
			s.Close()
			w.pass(day)
			s = w.start("mode=relay,mailbox", "mailbox.retention=2d")
			if n := s.ends.boxes.box.Stats().Waiting; n != 1 {
				t.Errorf("after a day: %d", n)
			}
			s.Close()
			w.pass(3 * day)
			s = w.start("mode=relay,mailbox", "mailbox.retention=2d")
			until(t, "what is too old is still there", func() bool { return s.ends.boxes.box.Stats().Waiting == 0 })
			newWorld(t).refused("mailbox.retention must be a number of whole days", "mailbox.retention=36h")
		},
		"smtp.enabled": func(t *testing.T) {
			newWorld(t).refused("smtp.enabled: mail to all addresses leaves at a relay", "smtp.enabled=true")
		},
		"experiment.lose": testLose,
	}
}

// count is how often an event was counted.
func count(t testing.TB, s *Server, event string) (n int) {
	t.Helper()
	var b bytes.Buffer
	if err := s.stats.Dump(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Sscanf(strings.TrimSpace(line), event+": %d", &n); err == nil {
			return n
		}
	}
	return 0
}

// put puts a packet into the box of a client, as the node does.
func (s *Server) put(client string, name byte, t testing.TB) error {
	_, k := clientKey(t, client)
	payload := make([]byte, packet.PayloadLen)
	return s.ends.boxes.arrivals().Put(soon(t), []node.Arrival{{Mailbox: content.ClientMailbox(s.node.ID(), k), Payload: payload, Name: [16]byte{name}}})[0]
}

func bandwidth(want node.Bandwidth, set ...string) func(*testing.T) {
	return func(t *testing.T) {
		if got := one(t, set...).options.Bandwidth; got != want {
			t.Errorf("%+v", got)
		}
		newWorld(t).refused("server.max_bandwidth_spike", "server.max_bandwidth=2M", "server.max_bandwidth_spike=1M")
		newWorld(t).refused("server.max_bandwidth_spike does nothing", "server.max_bandwidth_spike=1M")
	}
}

func reaches(set string, want map[string]bool) func(*testing.T) {
	return func(t *testing.T) {
		s := one(t, set)
		for a, yes := range want {
			if s.options.DialOk(netip.MustParseAddr(a)) != yes {
				t.Errorf("%s: %s is not %v", set, a, yes)
			}
		}
	}
}

// TestAdmits: the longest network decides, deny before allow.
func TestAdmits(t *testing.T) {
	ok := admits([]string{"10.0.0.0/8", "10.1.2.3", "2001:db8::/32"}, []string{"10.1.0.0/16", "10.1.2.3/32", "2001:db8:1::/48"})
	for a, want := range map[string]bool{"10.2.0.1": true, "10.1.0.1": false, "10.1.2.3": false, "192.0.2.1": false, "::ffff:10.2.0.1": true, "2001:db8::1": true, "2001:db8:1::1": false} {
		if ok(netip.MustParseAddr(a)) != want {
			t.Errorf("%s: not %v", a, want)
		}
	}
	if all := admits(nil, nil); !all(netip.MustParseAddr("192.0.2.1")) {
		t.Error("without lists nobody is admitted")
	}
}

// testStopTime: a stop that takes too long is cut.
func testStopTime(t *testing.T) {
	s := one(t, "server.stop_time=1s")
	release := make(chan struct{})
	s.running.Go(func() { <-release })
	if err := s.Stop(); errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.Public(err), "did not stop in time") {
		t.Errorf("%v", err)
	}
	close(release)
	if err := one(t).Stop(); err != nil {
		t.Error(err)
	}
}

// logOn writes a line at each level to a log that some options make.
func logOn(t *testing.T, dir string, set ...string) (file, echo string) {
	t.Helper()
	var c Config
	if err := config.Load(&c, "", append([]string{"nickname=x", "server.base_dir=" + dir}, set...)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	b, err := OpenLogbook(c, &out)
	if err != nil {
		t.Fatal(err)
	}
	log := Logger(b, c, new(slog.LevelVar))
	for _, l := range []string{"trace", "debug", "info", "warn", "error", "fatal"} {
		log.Log(t.Context(), levels[l], "said "+l, "n", 1)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(filepath.Join(dir, "log"))
	return string(text), out.String()
}

func testLogFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := os.Stat(filepath.Join(dir, "other")); err == nil {
		t.Fatal("there")
	}
	if file, _ := logOn(t, dir, "log.file=other"); file != "" {
		t.Errorf("log: %q", file)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "other")); err != nil || !strings.Contains(string(text), "said warn") {
		t.Errorf("%q, %v", text, err)
	}
	if file, _ := logOn(t, t.TempDir(), "log.file="); file != "" {
		t.Errorf("log without a file: %q", file)
	}
	if st, err := os.Stat(filepath.Join(dir, "other")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}

func testLogLevel(t *testing.T) {
	for level, want := range map[string]int{"trace": 6, "debug": 5, "info": 4, "warn": 3, "error": 2, "fatal": 1, "never": 0} {
		if file, _ := logOn(t, t.TempDir(), "log.level="+level); strings.Count(file, "\n") != want {
			t.Errorf("%s:\n%s", level, file)
		}
	}
}

func testLogEcho(t *testing.T) {
	file, echo := logOn(t, t.TempDir(), "log.echo=true")
	if echo == "" || echo != file {
		t.Errorf("%q, %q", echo, file)
	}
	if _, echo := logOn(t, t.TempDir()); echo != "" {
		t.Errorf("%q", echo)
	}
}

func testLogFormat(t *testing.T) {
	if file, _ := logOn(t, t.TempDir(), "log.format=json"); !strings.HasPrefix(file, "{") {
		t.Error(file)
	}
	if file, _ := logOn(t, t.TempDir()); strings.HasPrefix(file, "{") {
		t.Error(file)
	}
}

// readAll gives the bytes of a file.
func (w *world) read(name string) string {
	w.t.Helper()
	b, err := vfs.ReadFile(w.fs, w.fs.PathJoin(w.base, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func testEncrypt(t *testing.T) {
	w := newWorld(t)
	w.refused("keys.encrypt is on, and there is nobody to ask", "keys.encrypt=true")
	phrase := "a long passphrase"
	w.deps = func(d *Deps) { d.Passphrase = func(bool) ([]byte, error) { return []byte(phrase), nil } }
	w.start("keys.encrypt=true").Close()
	if !strings.Contains(w.read("keys/identity.key"), "passphrase") || strings.Contains(w.read("keys/link.key"), "sealed") {
		t.Errorf("%s\n%s", w.read("keys/identity.key"), w.read("keys/link.key"))
	}
	phrase = "another passphrase"
	w.refused("the passphrase does not open", "keys.encrypt=true")
}

func testEncryptAll(t *testing.T) {
	newWorld(t).refused("keys.encrypt_all needs keys.encrypt", "keys.encrypt_all=true")
	sealed := func(set ...string) string {
		w := newWorld(t)
		w.deps = func(d *Deps) { d.Passphrase = func(bool) ([]byte, error) { return []byte("a long passphrase"), nil } }
		w.start(append(set, "keys.encrypt=true")...)
		return w.read("keys/link.key") + w.read("keys/key_0001/mix.key")
	}
	if a, b := sealed(), sealed("keys.encrypt_all=true"); strings.Count(b, "identity") <= strings.Count(a, "identity") {
		t.Errorf("open:\n%s\nsealed:\n%s", a, b)
	}
}

func testParanoia(t *testing.T) {
	w := newWorld(t)
	w.fs, w.base = vfs.OS(), t.TempDir()
	w.file("network", string(w.net.Network.Bytes()))
	if err := os.Chmod(w.base, 0o755); err != nil {
		t.Fatal(err)
	}
	w.refused("the directory server.base_dir has mode 0755")
	s := w.start("host.file_paranoia=false")
	if !slices.Contains(s.Status().Insecure, "the rights of private files are not looked at") {
		t.Errorf("%q", s.Status().Insecure)
	}
	s.Close()
	if err := os.Chmod(w.base, 0o700); err != nil {
		t.Fatal(err)
	}
	w.start().Close()
	if err := os.Chmod(filepath.Join(w.base, "keys", "identity.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.refused("identity.key has mode 0644")
}

// testURLs: the directory comes from a web server.
func testURLs(t *testing.T) {
	w := newWorld(t)
	now := w.now()
	epoch := w.net.Network.Epoch(now)
	c := w.net.Agree(t, epoch, nil, w.net.Mix(t, "other", w.net.Network.Begin(epoch)))
	web := httptest.NewServer(http.HandlerFunc(func(r http.ResponseWriter, q *http.Request) { r.Write(c.Bytes()) }))
	defer web.Close()
	s := w.start("directory.urls=" + web.URL + "/postern/consensus")
	until(t, "the directory was not fetched", func() bool { return s.Status().Epoch == epoch })
	until(t, "the directory was not kept", func() bool { return w.there(fmt.Sprintf("work/dir/consensus-%d.txt", epoch)) })
	newWorld(t).refused("directory.urls: ", "directory.urls=ftp://x")
	newWorld(t).refused("directory.urls: ", "directory.urls=https://user@x/")
}

// testExtra: descriptors in files and directories are known, what cannot be used is said, and both
// change with the files, without a reload.
func testExtra(t *testing.T) {
	w := newWorld(t)
	first := w.net.Mix(t, "first", w.now())
	w.file("extra/first", string(first.Bytes()))
	s := w.start("directory.extra_descriptors=extra,missing")
	why := func() (all []string) {
		for _, i := range s.Status().Insecure {
			if rest, ok := strings.CutPrefix(i, "a descriptor of directory.extra_descriptors is not used: "); ok {
				all = append(all, rest)
			}
		}
		return all
	}
	if x := s.applied.Extra; len(x) != 1 || x[0].ID() != first.ID() || !slices.Equal(why(), []string{"/node/missing: there is no such file"}) {
		t.Errorf("%d descriptors, %q", len(x), why())
	}
	w.file("missing", string(w.net.Mix(t, "second", w.now()).Bytes()))
	w.file("extra/first", "nonsense\n")
	if err := s.refreshExtra(); err != nil {
		t.Fatal(err)
	}
	if x := s.applied.Extra; len(x) != 1 || x[0].Nickname != "second" || len(why()) != 1 || !strings.HasPrefix(why()[0], "/node/extra/first: ") {
		t.Errorf("%d descriptors, %q", len(x), why())
	}
	if _, err := s.Reload(soon(t), w.config()); err != nil || len(s.applied.Extra) != 0 || len(why()) != 0 {
		t.Errorf("%v, %q", err, why())
	}
}

func testPublish(t *testing.T) {
	a := newAuthority(t)
	w := newWorld(t)
	w.file("network", a.network)
	s := w.start("directory.publish=true", "contact_email=a@example.org")
	d, err := directory.ParseDescriptor(a.published(t))
	if err != nil || d.Hash() != s.node.Descriptor().Hash() {
		t.Errorf("%v", err)
	}
	until(t, "the verdict is not known", func() bool { return s.Status().Authorities[0].Verdict == "held" })
	if st := s.Status(); !st.Publish || st.Keys[len(st.Keys)-1].Published != 1 {
		t.Errorf("%+v", st.Keys)
	}
	s.Close()
	v := newWorld(t)
	v.file("network", a.network)
	s = v.start()
	if err := s.node.Republish(soon(t)); err != nil {
		t.Error(err)
	}
	select {
	case <-a.got:
		t.Error("a node that does not publish has published")
	default:
	}
	if st := s.Status(); st.Publish || st.Authorities[0].Verdict != "not asked yet" {
		t.Errorf("%+v", st.Authorities)
	}
}
