package mix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/replay"
	"postern.email/wire/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestReloadNames: each option either changes on a reload, or is named as one that needs a
// restart, and is not both.
func TestReloadNames(t *testing.T) {
	var c Config
	known := map[string]bool{}
	for _, o := range config.Options(&c) {
		known[o.Key] = true
	}
	for _, name := range atRestart {
		found := false
		for key := range known {
			found = found || key == name || strings.HasSuffix(name, ".") && strings.HasPrefix(key, name)
		}
		if !found {
			t.Errorf("%s names no option", name)
		}
	}
	w := newExit(t)
	s := w.start(w.set("fragmented.enabled=true")...)
	// What changes on a reload, and something else than what it is now.
	for key, to := range map[string]string{
		"nickname": "borealis", "family": "f", "contact_email": "b@example.org", "contact_fingerprint": "1", "comments": "c",
		"server.stop_time": "30s", "server.connections": "7", "server.max_bandwidth": "1M", "server.max_bandwidth_spike": "2M",
		"log.level": "debug", "log.echo": "true", "log.file": "other", "log.format": "json",
		"directory.publish": "true", "directory.extra_descriptors": "more", "incoming.addresses": "mix.example.org:1", "incoming.allow": "127.0.0.0/8", "incoming.deny": "10.0.0.0/8",
		"outgoing.retry": "1 hour", "outgoing.allow": "127.0.0.0/8", "outgoing.deny": "10.0.0.0/8", "clients.file": "c2",
		"mbox.address_file": "a2", "mbox.return_address": "x@example.org", "mbox.remove_contact": "y@example.org", "mbox.sendmail_command": "true", "mbox.retry": "2 hours",
		"mbox.advertise": "false", "mbox.maximum_size": "64K", "mbox.allow_from_address": "false", "mbox.subject_line": "s", "mbox.from_tag": "t", "mbox.x_abuse": "x",
		"mbox.comments": "c", "mbox.message": "m", "fragmented.maximum_size": "64K", "fragmented.maximum_interval": "1h",
	} {
		delete(known, key)
		if needsRestart(key) {
			t.Errorf("%s is named as one that needs a restart", key)
		}
		if key == "log.format" {
			continue // below
		}
		w.file("a2", "anna: anna@example.org\n")
		set := w.set("fragmented.enabled=true", key+"="+to)
		if key == "directory.publish" {
			set = append(set, "contact_email=c@example.org")
		}
		if key == "server.max_bandwidth_spike" {
			set = append(set, "server.max_bandwidth=1M")
		}
		r, err := s.Reload(soon(t), w.config(set...))
		if err != nil || !slices.Contains(r.Changed, key) || len(r.Restart) > 0 {
			t.Errorf("%s: %+v, %v", key, r, err)
		}
	}
	delete(known, "log.format")
	for key := range known {
		if !needsRestart(key) && !slices.Contains([]string{"directory.layer", "mixing.algorithm", "mixing.interval", "mixing.pool_rate", "mixing.pool_min_size", "mbox.enabled", "mbox.smtp_server", "fragmented.enabled"}, key) {
			t.Errorf("%s: nobody says whether it changes on a reload", key)
		}
	}
}

// TestReload: options change while the node runs, the others are named, and what is wrong
// changes nothing.
func TestReload(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	r, err := s.Reload(soon(t), w.config("family=northern", "mixing.algorithm=Timed", "mixing.interval=1h", "keys.lifetime=5d", "log.level=info", "incoming.listen=127.0.0.1:1"))
	if err != nil || fmt.Sprint(r) != "{[family log.level mixing.algorithm mixing.interval] [incoming.listen keys.lifetime]}" {
		t.Fatalf("%v, %v", r, err)
	}
	until(t, "the descriptor says what it said before", func() bool {
		d := s.node.Descriptor()
		return d.Family == "northern" && d.Mixing == directory.Timed
	})
	if s.d.Level.Level() != levels["info"] || !strings.Contains(w.logged(), "some options were changed that need a restart") {
		t.Errorf("log: %s", w.logged())
	}
	if c := s.Config(); c.Family != "northern" || c.Keys.Lifetime != config.Duration(3*day) {
		t.Errorf("%v", c)
	}
	// Again the same: what needs a restart still does.
	r, err = s.Reload(soon(t), w.config("family=northern", "mixing.algorithm=Timed", "mixing.interval=1h", "keys.lifetime=5d", "log.level=info"))
	if err != nil || fmt.Sprint(r) != "{[] [keys.lifetime]}" {
		t.Errorf("%v, %v", r, err)
	}
	before := s.Config()
	for _, bad := range [][]string{{"nickname="}, {"outgoing.retry=often"}, {"mixing.interval=0s", "mixing.algorithm=Timed"}} {
		if err := config.Apply(&Config{}, bad); err != nil {
			continue
		}
		if r, err := s.Reload(soon(t), w.config(bad...)); err == nil {
			t.Errorf("%q: %v", bad, r)
		}
	}
	if fmt.Sprint(s.Config()) != fmt.Sprint(before) {
		t.Error("something changed")
	}
}

// TestShortEpochs: where epochs are short, keys may be too.
func TestShortEpochs(t *testing.T) {
	c := newWorld(t).config("keys.lifetime=24s", "keys.overlap=6s")
	if err := c.fits(time.Second); err != nil {
		t.Error(err)
	}
	if err := c.fits(time.Hour); errs.KindOf(err) != errs.Invalid {
		t.Errorf("%v", err)
	}
	for set, want := range map[string]string{"keys.lifetime=23s": "keys.lifetime must be at least 24s", "keys.overlap=5s": "keys.overlap must be at least 6s"} {
		if err := newWorld(t).config("keys.lifetime=24s", "keys.overlap=6s", set).fits(time.Second); !strings.HasPrefix(errs.Public(err), want) {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// TestFirstStartIsCut: a crash at any sync of the first start leaves what the next start takes
// up, with the identity that was there, if any was.
func TestFirstStartIsCut(t *testing.T) {
	for n := int64(1); ; n++ {
		w := newWorld(t)
		cut := vfs.CutAt(w.fs.(*vfs.CrashDisk), n, n%2 == 0, vfs.Dropped, uint64(n), nil)
		w.fs = cut.FS
		s := w.start()
		id := s.node.ID()
		s.Close()
		if cut.Disk() == nil {
			if n < 10 {
				t.Errorf("only %d syncs", n)
			}
			return
		}
		w.fs = cut.Disk()
		had := w.there("keys/identity.key")
		s, err := w.try()
		if err != nil {
			t.Fatalf("after a crash at sync %d: %v", n, err)
		}
		if had && s.node.ID() != id {
			t.Errorf("after a crash at sync %d: another identity", n)
		}
		s.Close()
	}
}

// TestReloadClients: a client that is taken out of the file is served no more, one that comes
// in is.
func TestReloadClients(t *testing.T) {
	w := knowing(t, "anna")
	s := w.start("mode=relay")
	anna, _ := dial(t, "anna", s)
	berta, _ := dial(t, "berta", s)
	if !served(t, anna) || served(t, berta) {
		t.Fatal("the file is not obeyed")
	}
	v := knowing(t, "berta")
	w.file("clients", v.read("clients"))
	if _, err := s.Reload(soon(t), w.config("mode=relay")); err != nil {
		t.Fatal(err)
	}
	until(t, "a client that is gone is still connected", func() bool { return !anna.Status().Connected })
	until(t, "a new client is not served", func() bool { return berta.Status().Connected })
	w.file("clients", "nonsense\n")
	if _, err := s.Reload(soon(t), w.config("mode=relay")); !strings.Contains(errs.Public(err), "line 1") {
		t.Errorf("%v", err)
	}
	if !berta.Status().Connected {
		t.Error("a bad file has changed something")
	}
}

// TestLogReopened: a log that was moved away is begun anew.
func TestLogReopened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "node")
	w := newWorld(t)
	w.base, w.fs = dir, vfs.OS()
	w.file("network", string(w.net.Network.Bytes()))
	book, err := OpenLogbook(w.config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	w.deps = func(d *Deps) { d.Log, d.Logger = book, Logger(book, w.config("log.level=info"), d.Level) }
	s := w.start()
	if err := os.Rename(filepath.Join(dir, "log"), filepath.Join(dir, "old")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(soon(t), w.config("log.level=info")); err != nil {
		t.Fatal(err)
	}
	if text := w.read("log"); !strings.Contains(text, "the configuration was read again") {
		t.Errorf("%q", text)
	}
	if !w.there("stats") {
		t.Error("the file of statistics was not opened anew")
	}
}

// TestMailbox: a packet for a client of a bare node waits in its box over a restart, goes to
// the client over its connection, and leaves the box when the client has it.
func TestMailbox(t *testing.T) {
	w := knowing(t, "anna", "berta")
	set := []string{"mode=relay,mailbox"}
	quick := w.net.Network.Epoch(w.now())
	w.net.Parameters = directory.ProfileLow()
	for i, p := range w.net.Parameters {
		if p.Name == directory.ReceiveInterval {
			w.net.Parameters[i].Value = 10
		}
	}
	c := w.net.Agree(t, quick, nil, w.net.Mix(t, "other", w.net.Network.Begin(quick)))
	s := w.start(set...)
	for i := range byte(2) {
		if err := s.put("anna", i, t); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.put("anna", 0, t); err != nil { // again, after a crash
		t.Fatal(err)
	}
	if err := s.put("carla", 0, t); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a stranger's box: %v", err)
	}
	s.Close()
	w.file("clients", strings.Split(w.read("clients"), "\n")[0]+"\n") // berta is gone
	s = w.start(set...)
	if err := s.put("berta", 0, t); errs.KindOf(err) != errs.NotFound {
		t.Errorf("the box of one who is gone: %v", err)
	}
	if err := s.cache.Put(c.Bytes()); err != nil {
		t.Fatal(err)
	}
	until(t, "the directory is not in use", func() bool { return s.Status().Epoch == quick })
	_, in := dial(t, "anna", s)
	for n := range uint64(2) {
		select {
		case b := <-in.units:
			if u, err := content.ParseBoxUnit(b); err != nil || u.Item != n+1 {
				t.Fatalf("%+v, %v", u.Item, err)
			}
		case <-soon(t).Done():
			t.Fatal("no packet came")
		}
	}
	until(t, "the packets are still in the box", func() bool { return s.ends.boxes.box.Stats().Waiting == 0 })
}

// TestDeleteKeys: packet keys and the memory of their packets are gone, the identity stays, and
// nothing happens to a node that runs.
func TestDeleteKeys(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	id, old := s.node.ID(), s.keys.List()[0].ID
	if _, err := DeleteKeys(t.Context(), w.config(), w.dep()); errs.KindOf(err) != errs.Exists {
		t.Errorf("while it runs: %v", err)
	}
	s.Close()
	st, err := openStopped(w.config(), w.dep().withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	rec := replay.Record{Key: replay.Key(old), Tag: replay.Tag{1}}
	if _, err := st.log.Add(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	st.close()
	if n, err := DeleteKeys(t.Context(), w.config(), w.dep()); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for _, f := range w.files("keys") {
		if strings.HasSuffix(f, "mix.key") {
			t.Errorf("%s is still there", f)
		}
	}
	if st, err = openStopped(w.config(), w.dep().withDefaults()); err != nil {
		t.Fatal(err)
	}
	if out, err := st.log.Add(t.Context(), rec); err == nil && out[0].Replay {
		t.Error("a packet of a key that is gone is remembered")
	}
	st.close()
	s = w.start()
	if s.node.ID() != id || s.keys.List()[0].ID == old {
		t.Error("another identity, or the old key")
	}
	if _, err := DeleteKeys(t.Context(), w.config("server.base_dir=/none"), w.dep()); errs.KindOf(err) != errs.NotFound {
		t.Errorf("nothing there: %v", err)
	}
}

// TestInsecurities: what mixminiond warned of at its start, and what it says of the directory.
func TestInsecurities(t *testing.T) {
	w := newWorld(t)
	for set, want := range map[string]string{
		"log.level=debug": "the log is too verbose", "log.level=trace": "the log is too verbose", "server.stats_interval=1h": "the period of the statistics is short",
		"mixing.algorithm=Timed": "Timed sends everything", "mixing.algorithm=DynamicPool mixing.pool_min_size=4": "the pool keeps only 4",
		"mixing.algorithm=DynamicPool mixing.interval=29m": "an interval of 29m0s is short", "host.file_paranoia=false": "the rights of private files",
	} {
		if list := w.config(strings.Fields(set)...).Insecurities(); len(list) != 1 || !strings.HasPrefix(list[0], want) {
			t.Errorf("%s: %q", set, list)
		}
	}
	for _, set := range []string{"", "log.level=info", "server.stats=false server.stats_interval=1h", "server.stats_interval=2h", "mixing.algorithm=BinomialDynamicPool"} {
		if list := w.config(strings.Fields(set)...).Insecurities(); len(list) > 0 {
			t.Errorf("%s: %q", set, list)
		}
	}
}

// TestInsecuritiesOnce: a running node says each of them once, and those of its network.
func TestInsecuritiesOnce(t *testing.T) {
	list := one(t, "mixing.algorithm=Timed", "log.level=debug").Status().Insecure
	seen := map[string]bool{}
	for _, why := range list {
		if seen[why] {
			t.Errorf("twice: %s", why)
		}
		seen[why] = true
	}
	for _, want := range []string{"Timed sends", "the log is too verbose", "there is no valid directory"} {
		if !slices.ContainsFunc(list, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("%q is not in %q", want, list)
		}
	}
}

// TestControl: what the commands of an operator ask a running node, over its socket.
func TestControl(t *testing.T) {
	w := newWorld(t)
	w.base, w.fs = filepath.Join(t.TempDir(), "node"), vfs.OS()
	w.file("network", string(w.net.Network.Bytes()))
	next := w.config("family=northern")
	c := w.config()
	d := w.dep()
	d.NoControl = false
	s, err := Start(soon(t), c, d, func() (Config, error) { return next, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var st Status
	if err := control.Call(t.Context(), w.base, "status", nil, &st, nil); err != nil || st.Nickname != "aurora" || st.PID != os.Getpid() || st.Network != "test-net" || len(st.Keys) != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	if st.ID != s.Info().ID || st.Descriptor == "" || st.NoDir == "" || st.Health != "ok" {
		t.Errorf("%+v", st)
	}
	if name := strings.TrimSpace(w.read("current-desc")); name != st.Descriptor {
		t.Errorf("current-desc says %q, status %q", name, st.Descriptor)
	}
	var r Reloaded
	if err := control.Call(t.Context(), w.base, "reload", nil, &r, nil); err != nil || !slices.Equal(r.Changed, []string{"family"}) {
		t.Errorf("%+v, %v", r, err)
	}
	before := s.node.Descriptor().Hash()
	if err := control.Call(t.Context(), w.base, "republish", nil, &st, nil); err != nil || s.node.Descriptor().Hash() == before {
		t.Errorf("%v", err)
	}
	var text string
	if err := control.Call(t.Context(), w.base, "stats", nil, &text, nil); err != nil || !strings.Contains(text, "ReceivedPacket: 0") {
		t.Errorf("%q, %v", text, err)
	}
	n := 0
	if err := control.Call(t.Context(), w.base, "queue", nil, &n, func(json.RawMessage) { t.Error("a packet") }); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := Start(soon(t), c, d, nil); errs.KindOf(err) != errs.Exists || !strings.Contains(errs.Public(err), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("started twice: %v", err)
	}
}

// TestQueueStates: what waits is shown in mixminiond's words.
func TestQueueStates(t *testing.T) {
	due := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		v    replay.View
		want QueueEntry
	}{
		{replay.View{State: replay.Incoming, Bytes: 5, Count: 1}, QueueEntry{State: "inp", Next: "0000000000000000", Bytes: 5, Count: 1}},
		{replay.View{State: replay.Message, ID: 3, Due: due, Next: replay.NodeID{0xab}, Bytes: 5, Count: 1}, QueueEntry{State: "msg", ID: 3, Due: "2026-11-01T00:00:00Z", Next: "ab00000000000000", Bytes: 5, Count: 1}},
		{replay.View{State: replay.Removed, ID: 3, Bytes: 5, Count: 1}, QueueEntry{State: "rmv", ID: 3, Next: "0000000000000000", Bytes: 5, Count: 1}},
		{replay.View{State: replay.Corrupt, Bytes: 4096, Count: 2}, QueueEntry{State: "crp", Bytes: 4096, Count: 2}},
	} {
		if got := entry(x.v, nil); got != x.want {
			t.Errorf("%+v", got)
		}
	}
	w := newWorld(t)
	epoch := w.net.Network.Epoch(w.now())
	d := w.net.Mix(t, "other", w.net.Network.Begin(epoch))
	c := w.net.Agree(t, epoch, nil, d)
	if got := entry(replay.View{State: replay.Message, Next: replay.NodeID(d.ID())}, c); got.Next != "other" {
		t.Errorf("a node that the directory names: %q", got.Next)
	}
}

// TestPools: the options of the pool become the pool's own.
func TestPools(t *testing.T) {
	w := newWorld(t)
	c := w.config("mixing.algorithm=DynamicPool", "mixing.interval=45m", "mixing.pool_rate=55.5", "mixing.pool_min_size=8")
	if got, want := c.pool(), (pool.Config{Algorithm: pool.DynamicPool, Interval: 45 * time.Minute, Rate: 5550, MinSize: 8}); got != want {
		t.Errorf("%+v", got)
	}
}

// TestNoAddress: a node that nobody could reach does not start.
func TestNoAddress(t *testing.T) {
	w := newWorld(t)
	w.deps = func(d *Deps) { d.System = noAddress() }
	w.refused("this machine has no public address: say in incoming.addresses", "incoming.listen=:0")
}

// FuzzClients: no file of clients is read as more than its lines say.
func FuzzClients(f *testing.F) {
	f.Add([]byte("# nobody\n" + strings.Repeat("ab", 32) + " anna\n\n" + strings.Repeat("CD", 32) + "\tberta\n"))
	f.Add([]byte("xyz\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := ParseClients(text)
		if err != nil && errs.KindOf(err) != errs.Invalid && errs.KindOf(err) != errs.TooLarge {
			t.Fatal(err)
		}
		if len(keys)*64 > len(text) {
			t.Fatalf("%d keys in %d bytes", len(keys), len(text))
		}
	})
}

// TestLetterKey: a node where mail can end has a letter key in its descriptor, the same in each run,
// to which it has the private half; nodes that only pass packets on have none.
func TestLetterKey(t *testing.T) {
	for _, mode := range []string{"mix", "relay"} {
		if d := one(t, "mode="+mode).node.Descriptor(); d.LetterKey != nil {
			t.Errorf("a %s has a letter key", mode)
		}
	}
	w := newWorld(t)
	s := w.start("mode=relay,mailbox")
	d := s.node.Descriptor()
	pub, err := letter.ParsePublicKey(d.LetterKey)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := letter.Seal(pub, letter.Message{Content: []byte("mail")}, letter.Options{Room: letter.RoomPlain})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = w.start("mode=relay,mailbox")
	if again := s.node.Descriptor(); !bytes.Equal(again.LetterKey, d.LetterKey) {
		t.Error("the second run has another letter key")
	}
	private, err := letter.NewPrivateKey(s.keys.Letter())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := letter.Open(private, sealed.Bodies[0]); err != nil {
		t.Errorf("the node cannot open what was sealed to it: %v", err)
	}
}
