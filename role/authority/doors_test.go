package authority

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/wire/control"
)

// A node publishes over its own link, asks for what there is, and sends nothing. Everybody
// may ask, whatever the key.
func TestLinkDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, time.Hour)
		w.start()
		defer w.stop()
		w.admit(someNodes(t, 6))
		n := newNode(t, "newcomer", directory.Mix)
		c := w.client(n.link, "newcomer")
		defer c.stop()
		publish := func() ([]byte, error) {
			return c.ask(t, 0, directory.Request{Kind: directory.RequestPublish, Document: n.descriptor(t, time.Now()).Bytes()})
		}
		b, err := publish()
		must(t, err)
		if held, err := directory.ParseVerdict(b); err != nil || !held {
			t.Errorf("held %v, %v", held, err)
		}
		must(t, w.all[0].core.reject(n.id.Public().ID()))
		b, err = publish()
		must(t, err)
		if _, err := directory.ParseVerdict(b); errs.Public(err) != "the operator rejected this node" {
			t.Errorf("%s, %v", b, err)
		}
		epoch := w.next()
		w.until(epoch, 6)
		for _, x := range []struct {
			request directory.Request
			begins  string
		}{
			{directory.Request{Kind: directory.RequestConsensus}, "postern-consensus 1\n"},
			{directory.Request{Kind: directory.RequestConsensus, Epoch: epoch}, "postern-consensus 1\n"},
			{directory.Request{Kind: directory.RequestConsensus, Packed: true}, "postern-packed 1\n"},
			{directory.Request{Kind: directory.RequestGossip}, "postern-gossip 1\nnetwork test.net\ngossip "},
			{directory.Request{Kind: directory.RequestOffers, Epoch: epoch}, "postern-offers 1\nnetwork test.net\nepoch "},
			{directory.Request{Kind: directory.RequestProofs}, "postern-proofs 1\nnetwork test.net\n"},
			{directory.Request{Kind: directory.RequestVersion}, "postern-version 1\nnetwork test.net\nversion postern\n"},
		} {
			b, err := c.ask(t, 0, x.request)
			if err != nil || !bytes.HasPrefix(b, []byte(x.begins)) {
				t.Errorf("%s: %.40q, %v", x.request.Kind, b, err)
			}
		}
		// What an offer names is given, and what a vote names.
		b, err = c.ask(t, 0, directory.Request{Kind: directory.RequestOffers, Epoch: epoch})
		must(t, err)
		list, err := directory.ParseOffers(b)
		must(t, err)
		if len(list.Offers) != 4 {
			t.Errorf("%d offers", len(list.Offers))
		}
		for _, o := range list.Offers {
			d, err := c.ask(t, 0, directory.Request{Kind: directory.RequestDocument, Hash: o.Hash})
			must(t, err)
			if kindOf(d) != o.Kind || directory.HashOf(d) != o.Hash || len(d) != o.Size {
				t.Errorf("%s: another document", o.Kind)
			}
			if o.Kind == kindVote {
				v, err := directory.ParseVote(w.net, d)
				must(t, err)
				d, err := c.ask(t, 0, directory.Request{Kind: directory.RequestDocument, Hash: v.Nodes[0].Descriptor, Packed: true})
				must(t, err)
				if d, err = directory.Unpack(d, directory.MaxDescriptor); err != nil || kindOf(d) != kindDescriptor {
					t.Errorf("a descriptor: %.20q, %v", d, err)
				}
			}
		}
		for _, r := range []directory.Request{
			{Kind: directory.RequestConsensus, Epoch: epoch + 1}, {Kind: directory.RequestOffers, Epoch: epoch + 9}, {Kind: directory.RequestDocument, Hash: directory.Hash{1}},
		} {
			if _, err := c.ask(t, 0, r); errs.KindOf(err) != errs.NotFound {
				t.Errorf("%s: %v", r.Kind, err)
			}
		}
		if _, err := c.lines[0].Fetch(t.Context(), []byte("nonsense\n")); errs.KindOf(err) != errs.Denied {
			t.Errorf("nonsense: %v", err)
		}
		// No unit is taken, of a stranger or of a known node.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.lines[0].Send(ctx, make([]byte, packet.Size)); err != link.ErrLater && errs.KindOf(err) != errs.KindOf(link.ErrLater) {
			t.Errorf("a unit: %v", err)
		}
	})
}

// onLoopback is one authority on a real disk, with all its doors.
func onLoopback(t *testing.T, set ...string) (*Server, Config, Deps) {
	t.Helper()
	dir := t.TempDir()
	var c Config
	must(t, config.Load(&c, "", append([]string{"listen.link=127.0.0.1:0", "listen.http=127.0.0.1:0", "dir=" + filepath.Join(dir, "data"), "network=" + filepath.Join(dir, "network")}, set...)))
	d := Deps{Paranoia: true, Version: "test-1", Logger: slog.New(slog.NewTextHandler(testWriter{t, "log"}, nil))}
	n, _, err := Init(t.Context(), c, d, "test.net", time.Second, []string{"127.0.0.1:1"})
	must(t, err)
	must(t, os.WriteFile(c.Network, n.Bytes(), 0o644))
	s, err := Start(t.Context(), c, d)
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s, c, d
}

// awaitConsensus waits until an authority with short epochs has one.
func awaitConsensus(t *testing.T, s *Server) *directory.Consensus {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(time.Minute)
	for {
		if p := s.core.newest.Load(); p != nil {
			return p
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("no consensus: %+v", s.Status())
		}
	}
}

// The page tells without scripts who signed and what waits; the documents are there as they
// were signed; nothing private is told.
func TestPages(t *testing.T) {
	s, c, _ := onLoopback(t)
	n := newNode(t, "waiting-mix", directory.Mix)
	held, err := s.core.publish(n.linkKey(t), n.descriptor(t, time.Now()).Bytes())
	if err != nil || !held {
		t.Fatal(held, err)
	}
	p := awaitConsensus(t, s)
	base := "http://" + s.Info().HTTP
	get := func(path string, header ...string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		must(t, err)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(r)
		must(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp, string(b)
	}
	resp, page := get("/")
	for _, want := range []string{"test.net", idText(s.core.self)[:16], "Waiting for the operator</th><td>1</td>", "1 of 1 authorities must sign", "None is known."} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %s", want, page)
		}
	}
	for _, bad := range []string{"<script", "http://", "https://", "src=", c.Dir, "waiting-mix", "on" + "click"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", resp.Header)
	}
	if resp, css := get("/style.css"); resp.StatusCode != 200 || !strings.Contains(css, "body") {
		t.Errorf("style: %d", resp.StatusCode)
	}
	resp, text := get("/postern/consensus?epoch=" + epochText(p.Epoch))
	got, err := directory.ParseConsensus([]byte(text))
	if err != nil || got.Hash() != p.Hash() {
		t.Errorf("consensus: %d, %v", resp.StatusCode, err)
	}
	if resp, _ := get("/postern/consensus?epoch=1"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("none: %d", resp.StatusCode)
	}
	resp, text = get("/postern/proofs")
	if text != "postern-proofs 1\nnetwork test.net\n" {
		t.Errorf("proofs: %q", text)
	}
	if resp, _ := get("/postern/proofs", "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != http.StatusNotModified {
		t.Errorf("the same again: %d", resp.StatusCode)
	}
	if resp, _ := get("/postern/proofs/" + strings.Repeat("a", 64)); resp.StatusCode != http.StatusNotFound {
		t.Errorf("no proof: %d", resp.StatusCode)
	}
	if resp, _ := get("/elsewhere"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("elsewhere: %d", resp.StatusCode)
	}
}

// The operator's commands over the control socket.
func TestCommands(t *testing.T) {
	s, c, _ := onLoopback(t)
	n := newNode(t, "mixA", directory.Mix)
	d := n.descriptor(t, time.Now())
	_, err := s.core.publish(n.linkKey(t), d.Bytes())
	must(t, err)
	id := idText(d.ID())
	call := func(command string, args any) (n Node, err error) {
		return n, control.Call(t.Context(), c.Dir, command, args, &n, nil)
	}
	list := func() (out []Node) {
		must(t, control.Call(t.Context(), c.Dir, "authority.list", nil, nil, func(line json.RawMessage) {
			var n Node
			must(t, json.Unmarshal(line, &n))
			out = append(out, n)
		}))
		return out
	}
	if all := list(); len(all) != 1 || all[0].ID != id || all[0].State != StateWaits || all[0].Mode != "mix" || all[0].Addresses[0] != "127.0.0.1:4000" {
		t.Fatalf("%+v", all)
	}
	if _, err := call("authority.approve", NodeArgs{Node: "mixA"}); errs.KindOf(err) != errs.NotFound {
		t.Errorf("by nickname: %v", err)
	}
	_, err = call("authority.approve", NodeArgs{Node: id[:16], Descriptor: strings.Repeat("a", 64)})
	refused(t, err, errs.NotFound, "no such descriptor waits for a decision")
	_, err = call("authority.approve", NodeArgs{Node: id[:16], Descriptor: "abc"})
	refused(t, err, errs.Invalid, "the hash of a descriptor has 64 digits")
	if n, err := call("authority.approve", NodeArgs{Node: id[:16], Descriptor: d.Hash().String()}); err != nil || n.Nickname != "mixA" {
		t.Errorf("%+v, %v", n, err)
	}
	_, err = call("authority.approve", NodeArgs{Node: id[:16]})
	refused(t, err, errs.NotFound, "nothing of this node waits for a decision: its state is approved")
	if n, err := call("authority.node", NodeArgs{Node: "MIXA"}); err != nil || n.State != StateApproved || n.LinkKey != d.LinkKey.String() {
		t.Errorf("%+v, %v", n, err)
	}
	if _, err := call("authority.reject", NodeArgs{Node: "mixA"}); err != nil {
		t.Error(err)
	}
	if all := list(); len(all) != 1 || all[0].State != StateRejected {
		t.Errorf("%+v", all)
	}
	if _, err := call("authority.forget", NodeArgs{Node: id}); err != nil {
		t.Error(err)
	}
	if all := list(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	_, err = call("authority.forget", NodeArgs{Node: id})
	refused(t, err, errs.NotFound, "no known node has this nickname or fingerprint")
	var st Status
	must(t, control.Call(t.Context(), c.Dir, "status", nil, &st, nil))
	if st.Network != "test.net" || st.Version != "test-1" || st.Threshold != 1 || len(st.AuthorityList) != 1 || !st.AuthorityList[0].Self || st.PID != os.Getpid() {
		t.Errorf("%+v", st)
	}
	must(t, control.Call(t.Context(), c.Dir, "stop", nil, nil, nil))
	select {
	case <-s.Requests():
	case <-time.After(time.Minute):
		t.Error("nobody was asked to stop")
	}
}

// Why an authority does not start is said in words, and nothing is left running.
func TestStartErrors(t *testing.T) {
	_, c, d := onLoopback(t)
	_, err := Start(t.Context(), c, d)
	if errs.KindOf(err) != errs.Exists || !strings.Contains(errs.Public(err), "in use by process") {
		t.Errorf("twice: %v", err)
	}
	other := c
	other.Dir = filepath.Join(t.TempDir(), "none")
	if _, err := Start(t.Context(), other, d); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "no keys of an authority") {
		t.Errorf("no keys: %v", err)
	}
	other.Network = filepath.Join(t.TempDir(), "none")
	if _, err := Start(t.Context(), other, d); errs.KindOf(err) != errs.NotFound || !strings.Contains(errs.Public(err), "cannot read the network file") {
		t.Errorf("no network file: %v", err)
	}
	must(t, os.WriteFile(other.Network, []byte("postern-network 1\n"), 0o600))
	if _, err := Start(t.Context(), other, d); errs.KindOf(err) != errs.Invalid || !strings.Contains(errs.Public(err), "cannot be used: line") {
		t.Errorf("a bad network file: %v", err)
	}
	// Another authority's network file.
	_, oc, _ := onLoopback(t)
	fresh := c
	fresh.Dir = filepath.Join(t.TempDir(), "data")
	_, made, err := Init(t.Context(), fresh, d, "test.net", time.Second, []string{"127.0.0.1:1"})
	if err != nil || !made {
		t.Fatal(made, err)
	}
	fresh.Network = oc.Network
	if _, err := Start(t.Context(), fresh, d); errs.KindOf(err) != errs.Denied || !strings.Contains(errs.Public(err), "does not name this authority") {
		t.Errorf("another's: %v", err)
	}
	// A port that is taken.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, fc, fd := func() (*Server, Config, Deps) { s, c, d := onLoopback(t); s.Close(); return s, c, d }()
	fc.Listen.Link = l.Addr().String()
	if _, err := Start(t.Context(), fc, fd); errs.KindOf(err) != errs.Exists || !strings.Contains(errs.Public(err), "listen.link") {
		t.Errorf("a taken port: %v", err)
	}
}

// Init makes nothing where it fails, and finds again what it made.
func TestInit(t *testing.T) {
	dir := t.TempDir()
	var c Config
	must(t, config.Load(&c, "", []string{"dir=" + filepath.Join(dir, "data"), "network=" + filepath.Join(dir, "network")}))
	for _, x := range []struct {
		name    string
		period  time.Duration
		address string
	}{{"Bad Name", time.Hour, "127.0.0.1:1"}, {"test.net", time.Millisecond, "127.0.0.1:1"}, {"test.net", time.Hour, "nowhere"}} {
		if _, _, err := Init(t.Context(), c, Deps{}, x.name, x.period, []string{x.address}); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", x, err)
		}
		if ok, err := vfs.Exists(vfs.OS(), c.Dir); ok || err != nil {
			t.Errorf("%+v: something was made", x)
		}
	}
	if _, _, err := Init(t.Context(), c, Deps{Passphrase: func(bool) ([]byte, error) { return []byte("short"), nil }}, "test.net", time.Hour, []string{"127.0.0.1:1"}); err == nil {
		t.Error("a short passphrase")
	}
	if ok, _ := vfs.Exists(vfs.OS(), c.Dir); ok {
		t.Error("something was made")
	}
	pass := func(fresh bool) ([]byte, error) { return []byte("correct horse battery"), nil }
	n, made, err := Init(t.Context(), c, Deps{Passphrase: pass, Paranoia: true}, "test.net", time.Hour, []string{"127.0.0.1:1"})
	if err != nil || !made {
		t.Fatal(made, err)
	}
	must(t, os.WriteFile(c.Network, n.Bytes(), 0o644))
	again, made, err := Init(t.Context(), c, Deps{Passphrase: pass, Paranoia: true}, "test.net", time.Hour, nil)
	if err != nil || made || !bytes.Equal(again.Bytes(), n.Bytes()) {
		t.Errorf("again: %v, %v", made, err)
	}
	wrong := func(bool) ([]byte, error) { return []byte("another horse battery"), nil }
	if _, err := Start(t.Context(), c, Deps{Passphrase: wrong, NoControl: true}); errs.KindOf(err) != errs.Auth {
		t.Errorf("wrong passphrase: %v", err)
	}
	// The identity lies sealed, and nothing is readable by others.
	entries, err := os.ReadDir(filepath.Join(c.Dir, keyDir))
	must(t, err)
	for _, e := range entries {
		if st, err := e.Info(); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", e.Name(), st.Mode(), err)
		}
	}
	Uninit(c, Deps{})
	if ok, _ := vfs.Exists(vfs.OS(), c.Dir); ok {
		t.Error("something is left")
	}
}
