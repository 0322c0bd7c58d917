package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"postern.email/role/mix"
	"postern.email/role/proxy"
	"postern.email/wire/control"
)

// testLab is one with members that do not run.
func testLab(t *testing.T) *Lab {
	t.Helper()
	c, err := Config{Dir: t.TempDir()}.complete()
	must(t, err)
	l := &Lab{c: c}
	for _, kind := range []struct {
		name string
		n    int
	}{{"authority", Authorities}, {"mix", Mixes}, {"world", 1}, {"relay", Relays}, {"proxy", 3}} {
		for i := range kind.n {
			l.add(kind.name, i, nil)
		}
	}
	return l
}

// views are how the members of a lab stand.
func (l *Lab) views() (all []seen) {
	for _, m := range l.members {
		s := seen{Name: m.name, Kind: m.kind, Up: true}
		if m.kind == "mix" {
			s.layer = 1 + len(all)%Layers
		}
		all = append(all, s)
	}
	return all
}

// TestDraw: every member is on the map once, inside of it, and every line leads from one to another: from
// proxies to their own relay, and through all layers and back.
func TestDraw(t *testing.T) {
	l := testLab(t)
	all := l.views()
	d := draw(all, l)
	places := map[string]placed{}
	for _, p := range d.Members {
		if _, twice := places[p.Name]; twice || p.X < 0 || p.Y < 0 || p.X > d.Width || p.Y > d.Height {
			t.Errorf("%+v", p)
		}
		places[p.Name] = p
	}
	if len(places) != len(all) {
		t.Errorf("%d of %d members are drawn", len(places), len(all))
	}
	lines := map[string]bool{}
	for _, x := range d.Lines {
		if places[x.From].Name == "" || places[x.To].Name == "" || x.Path == "" {
			t.Errorf("%+v", x)
		}
		lines[places[x.From].Kind+" "+places[x.To].Kind] = true
		if x.From == "proxy3" && x.To != "relay1" {
			t.Errorf("%s leads to %s", x.From, x.To)
		}
	}
	for _, want := range []string{"proxy relay", "relay mix", "mix mix", "mix relay", "world relay"} {
		if !lines[want] {
			t.Errorf("no line %s", want)
		}
	}
}

// TestMoves: what moves is what was counted since the last look; a member that was started again
// counts anew, and one that is down sends nothing.
func TestMoves(t *testing.T) {
	l := testLab(t)
	before, after := l.views(), l.views()
	total := func(moves []move, from string) (n int) {
		for _, m := range moves {
			if m.From == from {
				n += m.N
			}
		}
		return n
	}
	at := func(name string) int { return slices.IndexFunc(after, func(s seen) bool { return s.Name == name }) }
	w := &watcher{l: l, last: map[string]seen{}}
	if got := w.moves(after); len(got) != 0 {
		t.Errorf("at the first look: %v", got)
	}
	for _, s := range before {
		w.last[s.Name] = s
	}
	last := after[at("mix1")].layer
	after[at("mix1")].Sent = 5
	after[at("proxy2")].Sent = 3
	after[at("proxy2")].came = 2
	moves := w.moves(after)
	if total(moves, "mix1") != 5 || total(moves, "proxy2") != 3 || total(moves, "relay2") != 3+2 || total(moves, "mix2") != 0 {
		t.Errorf("%v", moves)
	}
	for _, m := range moves {
		if to := after[at(m.To)]; m.From == "mix1" && (last == Layers) != (to.Kind == "relay") {
			t.Errorf("%+v of layer %d", m, last)
		}
	}
	after[at("mix1")].Sent = 1000
	if n := total(w.moves(after), "mix1"); n != mostMoves {
		t.Errorf("%d packets are drawn at one time", n)
	}
	w.last["mix1"] = seen{Name: "mix1", Kind: "mix", Up: true, Sent: 2000}
	after[at("proxy2")].Up = false
	if moves := w.moves(after); total(moves, "mix1") != 0 || total(moves, "proxy2") != 0 {
		t.Errorf("%v", moves)
	}
}

// TestLookAtProxy: each packet that a proxy says it sent counts once, be it mail, or cover, among which are
// loops.
func TestLookAtProxy(t *testing.T) {
	l := testLab(t)
	m := l.of("proxy")[0]
	must(t, os.MkdirAll(m.dir, 0o700))
	m.proc = &process{ended: make(chan struct{})}
	ln, err := control.Listen(m.dir)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- control.Serve(ctx, ln, map[string]control.Handler{"status": func(context.Context, json.RawMessage, func(any) error) (any, error) {
			return proxy.Status{Lines: []proxy.AccountStatus{{Connected: true, Sent: 5, Cover: 7, Loops: 3, Received: 2, Waiting: make([]proxy.Waiting, 4)}}}, nil
		}})
	}()
	s := m.look(t.Context())
	cancel()
	must(t, <-done)
	if !s.Up || s.State != "connected" || s.Sent != 5+7 || s.came != 2 || s.Held != 4 {
		t.Errorf("%+v", s)
	}
}

// TestLosses: what each mix lost on purpose is added up, whether it runs or not.
func TestLosses(t *testing.T) {
	l := testLab(t)
	if n := l.losses(); n != (mix.Losses{}) {
		t.Error(n)
	}
	for i, m := range l.of("mix")[:2] {
		path := filepath.Join(m.dir, mix.LossesFile)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, fmt.Appendf(nil, "%020d came\n%020d lost\n", 100*(i+1), i+1), 0o600))
	}
	if n := l.losses(); n != (mix.Losses{Came: 300, Lost: 3}) {
		t.Error(n)
	}
	own := watcher{l: l}
	if v := own.look(t.Context()); v.Came != 300 || v.Lost != 3 {
		t.Errorf("%+v", v)
	}
}
