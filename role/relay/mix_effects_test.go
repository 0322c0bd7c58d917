package relay

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// mixEffects shows what each option of [mixnet] does.
func mixEffects() map[string]func(*testing.T) {
	// described starts a relay and gives its descriptor.
	described := func(t *testing.T, set ...string) *directory.Descriptor {
		t.Helper()
		n, fs := newMixNet(t), vfs.NewCrashDisk()
		s := begin(t, Deps{FS: fs, NoControl: true}, n.config(fs, set...))
		<-s.mix.node.Described()
		return s.mix.node.Descriptor()
	}
	return map[string]func(*testing.T){
		"mixnet.enabled": func(t *testing.T) {
			fs := vfs.NewCrashDisk()
			s := begin(t, Deps{FS: fs, NoControl: true}, testConfig(t, "/data"))
			if ok, err := vfs.Exists(fs, "/data/mix"); ok || err != nil || s.Info().Mix != "" {
				t.Error("a relay without mix network has one", err)
			}
			if _, s, _ := relayIn(t); s.Info().Mix == "" {
				t.Error("it does not listen")
			}
		},
		"mixnet.network": func(t *testing.T) {
			n, fs := newMixNet(t), vfs.NewCrashDisk()
			c := n.config(fs)
			c.Mixnet.Network = "/nothing"
			_, err := Start(t.Context(), Deps{FS: fs, NoControl: true, NewRSA: someRSA}, c)
			if errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "network file /nothing (mixnet.network)") {
				t.Error(err)
			}
			if err := vfs.WriteFileAtomic(fs, "/broken", []byte("no network\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c.Mixnet.Network = "/broken"
			if _, err = Start(t.Context(), Deps{FS: fs, NoControl: true, NewRSA: someRSA}, c); err == nil || !strings.HasPrefix(errs.Public(err), "/broken: ") {
				t.Error(err)
			}
		},
		"mixnet.nickname": func(t *testing.T) {
			if d := described(t, "mixnet.nickname=Other_1"); d.Nickname != "Other_1" {
				t.Error(d.Nickname)
			}
		},
		"mixnet.listen": func(t *testing.T) {
			l := listener(t)
			addr := l.Addr().String()
			l.Close()
			n, fs := newMixNet(t), vfs.NewCrashDisk()
			s := begin(t, Deps{FS: fs, NoControl: true}, n.config(fs, "mixnet.listen="+addr))
			if s.Info().Mix != addr {
				t.Error(s.Info().Mix)
			}
			_, err := Start(t.Context(), Deps{FS: vfs.NewCrashDisk(), NoControl: true, NewRSA: someRSA}, n.config(vfs.NewCrashDisk(), "mixnet.listen="+addr))
			if err == nil {
				t.Error("two relays on one port")
			}
		},
		"mixnet.addresses": func(t *testing.T) {
			d := described(t)
			if host, port, err := net.SplitHostPort(d.Addresses[0]); err != nil || len(d.Addresses) != 1 || host != "example.org" || port == "0" {
				t.Error(d.Addresses)
			}
			if d := described(t, "mixnet.addresses=relay.example:48099,192.0.2.1:48099"); !slices.Equal(d.Addresses, []string{"relay.example:48099", "192.0.2.1:48099"}) {
				t.Error(d.Addresses)
			}
		},
		"mixnet.contact": func(t *testing.T) {
			if d := described(t); d.Contact != "" {
				t.Error(d.Contact)
			}
			if d := described(t, "mixnet.contact=op@example.net"); d.Contact != "op@example.net" {
				t.Error(d.Contact)
			}
		},
		"mixnet.family": func(t *testing.T) {
			if d := described(t, "mixnet.family=ours"); d.Family != "ours" {
				t.Error(d.Family)
			}
		},
		"mixnet.publish": func(t *testing.T) {
			for _, publish := range []string{"true", "false"} {
				n, fs := newMixNet(t), vfs.NewCrashDisk()
				c := n.config(fs, "mixnet.publish="+publish)
				asked, file := n.authority()
				if err := vfs.WriteFileAtomic(fs, networkFile, file, 0o600); err != nil {
					t.Fatal(err)
				}
				s := begin(t, Deps{FS: fs, NoControl: true}, c)
				<-s.mix.node.Described()
				got := ""
				for got != "publish" && (publish == "true" || got != "consensus") {
					got = <-asked
				}
				if got == "publish" && publish == "false" {
					t.Error("the authority was told")
				}
			}
		},
		"mixnet.packets_per_account": func(t *testing.T) {
			n, s, c := relayIn(t, "mixnet.packets_per_account=2")
			e := joined(t, s, anna, annas, "annas client")
			mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)
			for i := range 3 {
				if err := mix.Send(t.Context(), toMailbox(t, relayKey(t, c, s), mailboxOf(t, e), packet.Content{Kind: content.Plain, Body: []byte{byte(i)}})); err != nil {
					t.Fatal(err)
				}
			}
			until(t, "one is refused", func() bool { return s.packets.Stats().Refused == 1 })
			if st := s.packets.Stats(); st.Waiting != 2 {
				t.Errorf("%+v", st)
			}
		},
		"mixnet.registration":     effectOfRegistration,
		"mixnet.key_service":      effectOfKeyService,
		"mixnet.reply_addresses":  effectOfReplyAddresses,
		"mixnet.mailboxes":        effectOfMailboxes,
		"mixnet.accept_cleartext": effectOfProxyCleartext,
		"mixnet.keep_packets": func(t *testing.T) {
			for keep, want := range map[string]int64{"1d": 0, "5d": 1} {
				var clk clock
				n, fs := newMixNet(t), vfs.NewCrashDisk()
				cfg := n.config(fs, "mixnet.keep_packets="+keep)
				deps := Deps{FS: fs, NoControl: true, Now: clk.now, NewRSA: someRSA, StopGrace: 50 * time.Millisecond}
				s, err := Start(t.Context(), deps, cfg)
				if err != nil {
					t.Fatal(err)
				}
				c := n.join(s)
				e := joined(t, s, anna, annas, "annas client")
				mix := dialRelay(t, s, "mix3", n.mixes[2], link.Relay, nil)
				if err := mix.Send(t.Context(), toMailbox(t, relayKey(t, c, s), mailboxOf(t, e), packet.Content{Kind: content.Plain, Body: []byte("x")})); err != nil {
					t.Fatal(err)
				}
				until(t, "it is there", func() bool { return s.packets.Stats().Waiting == 1 })
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				clk.ahead.Store(int64(3 * 24 * time.Hour))
				s = begin(t, deps, cfg)
				until(t, "what is too old has gone", func() bool { return s.packets.Stats().Waiting == want })
			}
		},
		"mixnet.connections": func(t *testing.T) {
			served := func(s *Server) func(string) bool {
				return func(name string) bool {
					priv, _ := testLinkKey(name)
					peer := link.Peer{Key: s.mix.node.Link().Key(), Role: link.Relay}
					l, err := link.New(link.Options{Key: priv, Handler: &testMix{}, Who: func(k link.Key) (link.Peer, bool) { return peer, k == peer.Key }})
					if err != nil {
						t.Fatal(err)
					}
					line, err := l.Line(link.LineOptions{Peer: peer, Addresses: func() []string { return []string{s.Info().Mix} }})
					if err != nil {
						t.Fatal(err)
					}
					run(t, line.Run)
					until(t, "it is connected or refused", func() bool { st := line.Status(); return st.Connected || st.Err != nil })
					return line.Status().Connected
				}
			}
			for most, want := range map[int]string{1: "[true false]", 2: "[true true]"} {
				_, s, _ := relayIn(t, fmt.Sprint("mixnet.connections=", most))
				try := served(s)
				if got := fmt.Sprint([]bool{try("mix1"), try("mix2")}); got != want {
					t.Errorf("%d: %s", most, got)
				}
			}
		},
		"mixnet.stats_interval": func(t *testing.T) {
			for every, want := range map[string]bool{"2h": true, "1d": false} {
				var clk clock
				n, fs := newMixNet(t), vfs.NewCrashDisk()
				s := begin(t, Deps{FS: fs, NoControl: true, Now: clk.now}, n.config(fs, "mixnet.stats_interval="+every))
				until(t, "the counting has begun", func() bool { ok, _ := vfs.Exists(fs, "/data/mix/stats.tmp"); return ok })
				// The time that is observed has to be known step by step.
				for range 70 {
					clk.ahead.Add(int64(2 * time.Minute))
					if err := s.mix.stats.Save(); err != nil {
						t.Fatal(err)
					}
				}
				if ok, err := vfs.Exists(fs, "/data/mix/stats"); err != nil || ok != want {
					t.Errorf("%s: a period was written: %v, %v", every, ok, err)
				}
			}
		},
	}
}

// authority serves the links of an authority that knows nothing, and gives the first word of
// what it is asked, and a network file with its address.
func (n *mixNet) authority() (asked chan string, file []byte) {
	n.t.Helper()
	priv, key := testLinkKey("the authority")
	asked = make(chan string, 1000)
	a, err := link.New(link.Options{Key: priv, Handler: &testMix{}, Who: func(k link.Key) (link.Peer, bool) { return link.Peer{Key: k, Role: link.Relay}, true },
		Documents: func(_ context.Context, _ link.Peer, request []byte) ([]byte, error) {
			word, _, _ := strings.Cut(strings.ReplaceAll(string(request), "\n", " "), " ")
			asked <- word
			return nil, errs.E("test", errs.NotFound, "", nil)
		}})
	if err != nil {
		n.t.Fatal(err)
	}
	l := listener(n.t)
	run(n.t, func(ctx context.Context) { _ = a.Serve(ctx, l) })
	file, err = directory.FormatNetwork(n.auth.Network.Name(), n.auth.Network.Period(), []directory.Contact{{Key: n.auth.Keys[0].Public(),
		LinkKey: directory.Hash(key), Addresses: []string{l.Addr().String()}}})
	if err != nil {
		n.t.Fatal(err)
	}
	return asked, file
}
