package alias

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/aliases"
	"postern.email/kit/disktest"
	"postern.email/kit/errs"
	"postern.email/kit/logs"
	"postern.email/kit/postmap"
	"postern.email/kit/vfs"
	"postern.email/wire/control"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is where a server of a test lives: a directory with a Postfix's configuration, the map, and all else.
type place struct {
	dir     string
	postfix postmap.Postfix
	more    string // of the configuration
	deps    Deps
	log     *safeText
}

// safeText is a log that may be read while it is written.
type safeText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newPlace(t testing.TB, more string) *place {
	t.Helper()
	p := &place{postfix: postfix(t, "virtual_alias_domains = alias.example\nvirtual_alias_maps = hash:DIR/map\n"), more: more, log: &safeText{}}
	p.dir = p.postfix.ConfigDir
	p.deps = Deps{Postfix: &p.postfix, Logger: logs.New(p.log, logs.Options{})}
	return p
}

func (p *place) config(t testing.TB) Config {
	t.Helper()
	text := "[General]\nUnixSockPath=DIR/sock\nLockFilePath=DIR/lock\nListenAddress=127.0.0.1:0\n[Persistence]\nDatabasePath=DIR/old.db\n[PostfixConfig]\nDomain=@alias.example\nMapFilePath=DIR/map\n"
	return load(t, strings.ReplaceAll(text+p.more, "DIR", p.dir)).Config
}

// start runs a server until the test ends, or it is closed.
func (p *place) start(t testing.TB) *Server {
	t.Helper()
	s, err := Start(t.Context(), p.deps, p.config(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// ask sends a command over the socket.
func (p *place) ask(t testing.TB, command string, a aliases.Args, result any) error {
	t.Helper()
	return control.CallAt(t.Context(), filepath.Join(p.dir, "sock"), command, a, result, nil)
}

func (p *place) must(t testing.TB, command string, a aliases.Args, result any) {
	t.Helper()
	if err := p.ask(t, command, a, result); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

// account makes an account and gives its secret.
func (p *place) account(t testing.TB, target string) string {
	t.Helper()
	var f aliases.Fresh
	p.must(t, "alias.owner.new", aliases.Args{Address: target}, &f)
	return f.Token
}

// handle makes a handle and gives its address.
func (p *place) handle(t testing.TB, secret string) string {
	t.Helper()
	var v aliases.View
	p.must(t, "alias.new", aliases.Args{Token: secret}, &v)
	return v.Address
}

// lookUp asks Postfix's own postmap where mail goes, "" for nowhere.
func (p *place) lookUp(t testing.TB, address string) string {
	t.Helper()
	to, err := p.postfix.Query(t.Context(), "hash", filepath.Join(p.dir, "map"), address)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// list gives the addresses of a secret's aliases, sorted.
func (p *place) list(t testing.TB, secret string) (all []string) {
	t.Helper()
	var page aliases.Page
	p.must(t, "alias.list", aliases.Args{Token: secret, Limit: 100}, &page)
	for _, v := range page.Aliases {
		all = append(all, v.Address)
	}
	slices.Sort(all)
	return all
}

var seedHandle = regexp.MustCompile(`^[a-z0-9]{18}@alias\.example$`)

// TestServer: accounts and handles come and go, and Postfix's own postmap finds where their mail goes, at once.
func TestServer(t *testing.T) {
	p := newPlace(t, "")
	if err := os.WriteFile(filepath.Join(p.dir, "map"), []byte("info@alias.example office@mailbox.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := p.start(t)
	anna, ben := p.account(t, "anna@mailbox.example"), p.account(t, "ben@alias.example") // a mailbox in the domain of the aliases
	if len(anna) != 64 || anna == ben {
		t.Errorf("secrets %q, %q", anna, ben)
	}
	a1, a2, b1 := p.handle(t, anna), p.handle(t, anna), p.handle(t, ben)
	for _, a := range []string{a1, a2, b1} {
		if !seedHandle.MatchString(a) { // IM-04, IM-63
			t.Errorf("handle %q", a)
		}
	}
	for a, want := range map[string]string{a1: "anna@mailbox.example", a2: "anna@mailbox.example", strings.ToUpper(b1): "ben@alias.example", "info@alias.example": "office@mailbox.example", "x" + a1: ""} {
		if got := p.lookUp(t, a); got != want {
			t.Errorf("%s goes to %q, want %q", a, got, want)
		}
	}
	want := []string{a1, a2}
	slices.Sort(want)
	if got := p.list(t, anna); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	yes, no := true, false
	p.must(t, "alias.change", aliases.Args{Token: anna, Address: a1, Change: &aliases.ChangeRequest{Paused: &yes}}, nil)
	if got := p.lookUp(t, a1); got != "" {
		t.Errorf("paused, and goes to %q", got)
	}
	p.must(t, "alias.change", aliases.Args{Token: anna, Address: a1, Change: &aliases.ChangeRequest{Paused: &no}}, nil)
	if got := p.lookUp(t, a1); got != "anna@mailbox.example" {
		t.Errorf("resumed, and goes to %q", got)
	}
	p.must(t, "alias.delete", aliases.Args{Token: anna, Address: a2}, nil)
	if got := p.lookUp(t, a2); got != "" {
		t.Errorf("deleted, and goes to %q", got)
	}
	p.must(t, "alias.restore", aliases.Args{Token: anna, Address: a2}, nil)
	if got := p.lookUp(t, a2); got != "anna@mailbox.example" {
		t.Errorf("restored, and goes to %q", got)
	}
	p.must(t, "alias.owner.delete", aliases.Args{Token: anna}, nil)
	if p.lookUp(t, a1)+p.lookUp(t, a2) != "" || p.lookUp(t, b1) != "ben@alias.example" || p.lookUp(t, "info@alias.example") == "" {
		t.Error("the account's deletion took too little or too much")
	}
	if err := p.ask(t, "alias.new", aliases.Args{Token: anna}, nil); errs.KindOf(err) != errs.Auth {
		t.Errorf("a deleted account: %v", err)
	}
	st := s.Status()
	if st.Map.Lines != 1 || st.Map.Error != "" || st.Listen == "" || st.TLS || st.PID != os.Getpid() {
		t.Errorf("%+v", st)
	}
	// IM-55: the log names nobody.
	for _, private := range []string{anna, ben, a1, b1, "anna@", "ben@", "127.0.0.1"} {
		if strings.Contains(p.log.String(), private) {
			t.Errorf("the log says %q: %s", private, p.log)
		}
	}
}

// TestRestart: everything is there after a restart, and what somebody spoilt in the map meanwhile is healed.
func TestRestart(t *testing.T) {
	p := newPlace(t, "")
	s := p.start(t)
	anna := p.account(t, "anna@mailbox.example")
	a := p.handle(t, anna)
	stop(t, s)
	for _, name := range []string{"sock", "lock"} {
		if _, err := os.Stat(filepath.Join(p.dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s stays: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "map"), []byte("x@alias.example y@mailbox.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	if p.lookUp(t, a) != "anna@mailbox.example" || p.lookUp(t, "x@alias.example") != "y@mailbox.example" {
		t.Error("the map is not healed")
	}
	if got := p.list(t, anna); !slices.Equal(got, []string{a}) {
		t.Errorf("%q", got)
	}
	// And while it runs, by postern alias sync.
	if err := os.Remove(filepath.Join(p.dir, "map.db")); err != nil {
		t.Fatal(err)
	}
	var m Map
	p.must(t, "alias.sync", aliases.Args{}, &m)
	if m.Lines != 1 || p.lookUp(t, a) != "anna@mailbox.example" {
		t.Errorf("%+v", m)
	}
}

// TestDeleteIsTheOwnersAndExact: IM-61: a secret deletes handles of its own account alone, and only the one that is
// named in full.
func TestDeleteIsTheOwnersAndExact(t *testing.T) {
	p := newPlace(t, "[Postern]\nCustomHandles=yes\n")
	p.start(t)
	anna, ben := p.account(t, "anna@mailbox.example"), p.account(t, "ben@mailbox.example")
	for _, name := range []string{"aaa", "aaaa", "aaa.b"} {
		p.must(t, "alias.new", aliases.Args{Token: anna, Create: &aliases.CreateRequest{Custom: name}}, nil)
	}
	p.must(t, "alias.new", aliases.Args{Token: ben, Create: &aliases.CreateRequest{Custom: "aab"}}, nil)
	for _, address := range []string{"aaa", "aab", "aaaa@alias.example", "a"} {
		err := p.ask(t, "alias.delete", aliases.Args{Token: ben, Address: address}, nil)
		if (err == nil) != (address == "aab") || err != nil && errs.KindOf(err) != errs.NotFound {
			t.Errorf("ben deletes %s: %v", address, err)
		}
	}
	if err := p.ask(t, "alias.delete", aliases.Args{Token: anna, Address: "aa"}, nil); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a part of a name: %v", err)
	}
	p.must(t, "alias.delete", aliases.Args{Token: anna, Address: "AAA"}, nil) // IM-63: as Postfix compares
	for name, want := range map[string]string{"aaa": "", "aab": "", "aaaa": "anna@mailbox.example", "aaa.b": "anna@mailbox.example"} {
		if got := p.lookUp(t, name+"@alias.example"); got != want {
			t.Errorf("%s goes to %q, want %q", name, got, want)
		}
	}
	// IM-33: nobody gets a deleted one again.
	for _, secret := range []string{anna, ben} {
		if err := p.ask(t, "alias.new", aliases.Args{Token: secret, Create: &aliases.CreateRequest{Custom: "aaa"}}, nil); err == nil {
			t.Error("a deleted handle is given out again")
		}
	}
}

// TestNoTemporaryDirectory: IM-62: the map is written without any other file system.
func TestNoTemporaryDirectory(t *testing.T) {
	p := newPlace(t, "")
	t.Setenv("TMPDIR", filepath.Join(p.dir, "none"))
	p.start(t)
	anna := p.account(t, "anna@mailbox.example")
	a := p.handle(t, anna)
	p.must(t, "alias.delete", aliases.Args{Token: anna, Address: a}, nil)
	if got := p.lookUp(t, a); got != "" {
		t.Errorf("deleted, and goes to %q", got)
	}
}

// TestAlreadyRunning: IM-64: a second server is told at once, whichever of lock, state and port it shares.
func TestAlreadyRunning(t *testing.T) {
	p := newPlace(t, "")
	s := p.start(t)
	for more, want := range map[string]string{
		"": "already running: " + filepath.Join(p.dir, "lock") + " is held by process ",
		"[General]\nLockFilePath=" + p.dir + "/lock2\n": filepath.Join(p.dir, "old.db.postern") + " is in use by process ",
		"[General]\nLockFilePath=" + p.dir + "/lock2\nListenAddress=" + s.Status().Listen + "\n[Postern]\nStateDir=" + p.dir + "/state2\n": s.Status().Listen + " is in use by another process; choose another with General.ListenAddress",
	} {
		second := *p
		second.more = more
		if _, err := Start(t.Context(), second.deps, second.config(t)); errs.KindOf(err) != errs.Exists || !strings.Contains(errs.Public(err), want) {
			t.Errorf("%q: %v", more, err)
		}
	}
	p.account(t, "anna@mailbox.example") // the first one is not disturbed
}

// TestMapThatCannotBeWritten: IM-65: an alias that is kept and not in the map yet is told of as that, and is in the map
// after the next start, whatever ended the server.
func TestMapThatCannotBeWritten(t *testing.T) {
	p := newPlace(t, "[Postern]\nMapType=hash\n")
	real := p.postfix
	s := p.start(t)
	anna := p.account(t, "anna@mailbox.example")
	broken := filepath.Join(p.dir, "broken")
	if err := os.Mkdir(broken, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "postmap"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	p.deps.Postfix = &postmap.Postfix{Dir: broken}
	s = p.start(t)
	err := p.ask(t, "alias.new", aliases.Args{Token: anna}, nil)
	if errs.KindOf(err) != errs.Unavailable || errs.Public(err) != "the alias is kept, but the map of the mail server could not be written" && errs.Public(err) != "postmap of Postfix failed" {
		t.Errorf("%v", err)
	}
	all := p.list(t, anna)
	if len(all) != 1 || p.lookUp(t, all[0]) != "" {
		t.Errorf("%q", all)
	}
	if st := s.Status(); !st.Map.Waits || st.Map.Error == "" {
		t.Errorf("%+v", st.Map)
	}
	stop(t, s)
	p.deps.Postfix = &real
	p.start(t)
	if got := p.lookUp(t, all[0]); got != "anna@mailbox.example" {
		t.Errorf("after the restart it goes to %q", got)
	}
}

// TestCannotStart: IM-54: what keeps the map from being written stops the start, before anybody is promised anything.
func TestCannotStart(t *testing.T) {
	p := newPlace(t, "")
	c := p.config(t)
	c.PostfixConfig.MapFilePath = filepath.Join(p.dir, "none", "map")
	c.Postern.MapType = "hash"
	if _, err := Start(t.Context(), p.deps, c); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "no file can be made in the directory of the map "+c.PostfixConfig.MapFilePath) {
		t.Error(err)
	}
	c.PostfixConfig.MapFilePath = "/proc/map"
	if _, err := Start(t.Context(), p.deps, c); err == nil || !strings.Contains(errs.Public(err), "/proc/map") {
		t.Error(err)
	}
	p.postfix = postfix(t, "meta_directory = DIR\n") // where nothing says that the package of lmdb is there
	c.PostfixConfig.MapFilePath, c.Postern.MapType = filepath.Join(p.dir, "map"), "lmdb"
	if _, err := Start(t.Context(), p.deps, c); errs.KindOf(err) != errs.Unsupported || errs.Public(err) != "this Postfix has no tables of the type lmdb" {
		t.Error(err)
	}
}

// TestWhatTheDiskShows: IM-66: neither secrets nor where mail goes can be read in what is kept; secrets can be replaced,
// and the address behind can be changed, by who has the secret and the socket.
func TestWhatTheDiskShows(t *testing.T) {
	p := newPlace(t, "")
	s := p.start(t)
	anna := p.account(t, "anna@mailbox.example")
	var v aliases.View
	p.must(t, "alias.new", aliases.Args{Token: anna, Create: &aliases.CreateRequest{Site: "shop.example", Label: "The lamp shop"}}, &v)
	var f aliases.Fresh
	p.must(t, "alias.token.rotate", aliases.Args{Token: anna}, &f)
	if err := p.ask(t, "alias.list", aliases.Args{Token: anna}, nil); errs.KindOf(err) != errs.Auth {
		t.Errorf("the old secret: %v", err)
	}
	p.must(t, "alias.owner.target", aliases.Args{Token: f.Token, Address: "new@mailbox.example"}, nil)
	if got := p.lookUp(t, v.Address); got != "new@mailbox.example" {
		t.Errorf("it goes to %q", got)
	}
	for _, bad := range []string{v.Address, "no address", `"a b"@mailbox.example`} {
		if err := p.ask(t, "alias.owner.target", aliases.Args{Token: f.Token, Address: bad}, nil); err == nil {
			t.Errorf("%q is taken as a target", bad)
		}
		if err := p.ask(t, "alias.owner.new", aliases.Args{Address: bad}, nil); err == nil {
			t.Errorf("%q is taken as a target", bad)
		}
	}
	stop(t, s)
	local, _, _ := strings.Cut(v.Address, "@")
	var pieces [][]byte
	for _, secret := range []string{anna, f.Token, "anna@", "new@mailbox", local, "shop.example", "lamp shop"} {
		pieces = append(pieces, []byte(secret))
	}
	if found := disktest.Holding(t, vfs.OS(), p.config(t).Postern.StateDir, pieces...); len(found) > 0 {
		t.Errorf("readable in %q", found)
	}
	filepath.Walk(p.config(t).Postern.StateDir, func(path string, st os.FileInfo, err error) error {
		if err != nil || st.Mode().Perm()&0o077 != 0 && !st.IsDir() && strings.HasSuffix(path, ".key") {
			t.Errorf("%s: %v, %v", path, st, err)
		}
		return nil
	})
}

// TestNotBesidePostfix: what only a relay can do is refused, and says so.
func TestNotBesidePostfix(t *testing.T) {
	p := newPlace(t, "")
	s := p.start(t)
	anna := p.account(t, "anna@mailbox.example")
	a := p.handle(t, anna)
	pinned, strict, three, who := "pinned", "strict", uint32(3), "x@y.example"
	for want, c := range map[string]aliases.ChangeRequest{"rules about senders": {Mode: &pinned}, "the class is open-mail": {Class: &strict}, "an end by count": {MaxMails: &three}, "rules about": {Pin: &who}} {
		if err := p.ask(t, "alias.change", aliases.Args{Token: anna, Address: a, Change: &c}, nil); errs.KindOf(err) != errs.Unsupported || !strings.HasPrefix(errs.Public(err), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
	if err := p.ask(t, "alias.new", aliases.Args{Token: anna, Create: &aliases.CreateRequest{Mode: "ask"}}, nil); errs.KindOf(err) != errs.Unsupported {
		t.Error(err)
	}
	if err := p.ask(t, "alias.new", aliases.Args{Token: anna, Create: &aliases.CreateRequest{Custom: "ceo"}}, nil); errs.KindOf(err) != errs.Denied || errs.Public(err) != "handles cannot be chosen here" {
		t.Error(err)
	}
	if _, _, err := s.desk.AliasKey(t.Context(), aliases.Who{Token: anna}); errs.KindOf(err) != errs.Unsupported {
		t.Errorf("derived aliases: %v", err)
	}
}

// TestExpiryLeavesTheMap: an end by date is kept by the map, too.
func TestExpiryLeavesTheMap(t *testing.T) {
	p := newPlace(t, "")
	var mu sync.Mutex
	now := time.Now()
	p.deps.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s := p.start(t)
	anna := p.account(t, "anna@mailbox.example")
	var v aliases.View
	p.must(t, "alias.new", aliases.Args{Token: anna, Create: &aliases.CreateRequest{Expires: now.Add(time.Hour).UTC().Format(time.RFC3339)}}, &v)
	if p.lookUp(t, v.Address) == "" {
		t.Error("it is not in the map")
	}
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	s.Touch()
	p.must(t, "alias.sync", aliases.Args{}, nil)
	if got := p.lookUp(t, v.Address); got != "" {
		t.Errorf("it has ended, and goes to %q", got)
	}
}

// TestManyOwners: many who make handles at one time all find them in the map when they are told, in fewer rewritings
// than handles.
func TestManyOwners(t *testing.T) {
	p := newPlace(t, "")
	p.start(t)
	const owners, each = 6, 5
	var all sync.WaitGroup
	for i := range owners {
		secret := p.account(t, fmt.Sprintf("owner%d@mailbox.example", i))
		all.Go(func() {
			for range each {
				var v aliases.View
				if err := control.CallAt(context.Background(), filepath.Join(p.dir, "sock"), "alias.new", aliases.Args{Token: secret}, &v, nil); err != nil {
					t.Error(err)
					return
				}
				if to, err := p.postfix.Query(context.Background(), "hash", filepath.Join(p.dir, "map"), v.Address); err != nil || to != fmt.Sprintf("owner%d@mailbox.example", i) {
					t.Errorf("%q, %v", to, err)
				}
			}
		})
	}
	all.Wait()
	if n := strings.Count(p.log.String(), "the map of Postfix was written"); n > owners*each {
		t.Errorf("%d rewritings for %d handles", n, owners*each)
	}
}

// TestStopOverTheSocket: the stop command asks for the end.
func TestStopOverTheSocket(t *testing.T) {
	p := newPlace(t, "")
	s := p.start(t)
	p.must(t, "alias.stop", aliases.Args{}, nil)
	<-s.Asked()
	stop(t, s)
	if err := p.ask(t, "status", aliases.Args{}, nil); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
}
