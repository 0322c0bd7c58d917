package authority

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/configtest"
	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
)

// effects names for each option the test that shows what it does.
var effects = map[string]func(*testing.T){
	"dir":     func(t *testing.T) { TestStartErrors(t) },
	"network": func(t *testing.T) { TestStartErrors(t) },
	"listen.link": func(t *testing.T) {
		if err := load(t, "listen.link=off").Check(); errs.Public(err) != "listen.link is off: nobody could reach this authority" {
			t.Error(err)
		}
		if s, _, _ := onLoopback(t); s.Info().Link == "" {
			t.Error("no link")
		}
	},
	"listen.http": func(t *testing.T) {
		if s, _, _ := onLoopback(t, "listen.http=off"); s.Info().HTTP != "" {
			t.Error("it listens")
		}
		if s, _, _ := onLoopback(t); s.Info().HTTP == "" {
			t.Error("it does not listen")
		}
	},
	"connections.link":             func(t *testing.T) { second(t, "connections.link=1", Info.link) },
	"connections.link_per_network": func(t *testing.T) { second(t, "connections.link_per_network=1", Info.link) },
	"connections.handshakes":       func(t *testing.T) { second(t, "connections.handshakes=1", Info.link) },
	"connections.http":             func(t *testing.T) { second(t, "connections.http=1", Info.http) },
	"connections.http_per_network": func(t *testing.T) { second(t, "connections.http_per_network=1", Info.http) },
	"nodes.publish_per_minute":     TestPublishLimit,
	"vote.profile": func(t *testing.T) {
		for profile, want := range map[string]uint64{"low": 100_000, "full": 10_000} {
			c := load(t, "vote.profile="+profile)
			p, err := c.parameters()
			if err != nil || p.Get(directory.PayloadInterval) != want {
				t.Errorf("%s: %d, %v", profile, p.Get(directory.PayloadInterval), err)
			}
			s := &Server{core: &core{}}
			if err := s.Reload(c); err != nil || s.core.params.Get(directory.PayloadInterval) != want {
				t.Errorf("%s, read again: %v", profile, err)
			}
		}
		if err := (&Server{core: &core{}}).Reload(load(t, "vote.parameters=delay=0")); errs.KindOf(err) != errs.Invalid {
			t.Errorf("what cannot be voted for: %v", err)
		}
	},
	"vote.parameters": func(t *testing.T) {
		c := load(t, "vote.parameters=delay=7, new-one = 5")
		p, err := c.parameters()
		if err != nil || p.Get(directory.Delay) != 7 || p.Get("new-one") != 5 || p.Get(directory.MaxDelay) != 3_600_000 {
			t.Errorf("%v, %v", p, err)
		}
		for bad, want := range map[string]string{
			"delay":              `vote.parameters: "delay" is not name=number`,
			"delay=x":            `vote.parameters: "delay=x" is not name=number`,
			"delay=0":            "vote.parameters: delay is not from 1 to 3600000",
			"Delay=1":            `vote.parameters: "Delay" is not 1 to 32 of a-z, 0-9, dot and hyphen`,
			"x=9007199254740992": `vote.parameters: "x=9007199254740992" is not name=number`,
		} {
			if err := load(t, "vote.parameters="+bad).Check(); errs.Public(err) != want {
				t.Errorf("%s: %v", bad, err)
			}
		}
	},
	"keep.consensuses":    TestKeep,
	"identity.passphrase": func(*testing.T) {}, // cmd/postern/testdata/scripts/authority.txtar
	"log.level": func(t *testing.T) {
		var b bytes.Buffer
		level := new(slog.LevelVar)
		c := load(t, "log.level=warn")
		l := Logger(&b, c, level)
		l.Info("quiet")
		l.Warn("loud")
		s := &Server{core: &core{}, d: Deps{Level: level}}
		if err := s.Reload(load(t, "log.level=debug")); err != nil {
			t.Fatal(err)
		}
		l.Debug("whisper")
		if got := b.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "loud") || !strings.Contains(got, "whisper") {
			t.Error(got)
		}
	},
	"log.format": func(t *testing.T) {
		var b bytes.Buffer
		Logger(&b, load(t, "log.format=json"), new(slog.LevelVar)).Info("x")
		if !strings.HasPrefix(b.String(), "{") {
			t.Error(b.String())
		}
	},
}

func (i Info) link() string { return i.Link }
func (i Info) http() string { return i.HTTP }

func load(t testing.TB, set ...string) (c Config) {
	t.Helper()
	must(t, config.Load(&c, "", set))
	return c
}

// second checks that a second connection is closed where one is allowed.
func second(t *testing.T, set string, at func(Info) string) {
	s, _, _ := onLoopback(t, set)
	dial := func() net.Conn {
		c, err := net.Dial("tcp", at(s.Info()))
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial() // it waits for what we say
	c := dial()
	must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("a second connection: %v", err)
	}
}

func isReset(err error) bool { return err != nil && strings.Contains(err.Error(), "reset by peer") }

// Every option has an effect that is tested.
func TestEffects(t *testing.T) { configtest.Options(t, &Config{}, effects) }

// Of consensuses so many are kept as the configuration says; of the agreements none but the
// two that are under way.
func TestKeep(t *testing.T) {
	a := newAlone(t)
	first := a.net.Epoch(a.clock.Now()) + 1
	a.clock.Add(a.net.Begin(first).Sub(a.clock.Now()))
	for range 6 {
		for range 8 {
			a.tick()
			a.clock.Add(time.Hour / 8)
		}
	}
	got, err := a.core.disk.epochs(consensusDir)
	must(t, err)
	n := a.core.newest.Load()
	if n == nil || n.Epoch != first+6 {
		t.Fatal("the newest is another one")
	}
	// One more than is kept may be there until the next tidying.
	if len(got) > 4 || !slices.Contains(got, n.Epoch) || slices.Contains(got, first+1) {
		t.Errorf("kept: %v of %d", got, n.Epoch)
	}
	agreements, err := a.core.disk.epochs(epochDir)
	must(t, err)
	if len(agreements) > 2 {
		t.Errorf("agreements: %v", agreements)
	}
	if b := a.core.consensus(first + 1); b != nil {
		t.Error("what is not kept is given out")
	}
	if b := a.core.consensus(n.Epoch - 1); b == nil {
		t.Error("what is kept is not given out")
	}
	// What is on the disk and cannot be used is told and left alone.
	must(t, a.core.disk.write([]byte("postern-consensus 1\n"), consensusDir, epochText(n.Epoch)))
	a.log.Reset()
	a.again()
	if m := a.core.newest.Load(); m == nil || m.Epoch != n.Epoch-1 || !strings.Contains(a.log.String(), "is not one of this network") {
		t.Errorf("%v: %s", m != nil, a.log.String())
	}
}
