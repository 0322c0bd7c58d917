package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"postern.email/deploy"
	"postern.email/kit/config"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/role/authority"
)

// settle PATTERN ARGS... runs postern with these arguments until it succeeds and its output
// has the pattern.
func settle(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	end := time.After(2 * time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	words := make([]string, len(args)-1)
	for i, a := range args[1:] {
		if words[i] = a; strings.HasSuffix(a, ".toml") {
			words[i] = ts.MkAbs(a)
		}
	}
	for {
		var out, errs bytes.Buffer
		if run(context.Background(), words, streams{strings.NewReader(""), &out, &errs}) == exitDone && want.Match(out.Bytes()) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			ts.Fatalf("%v says no %q: %s%s", words, args[0], out.String(), errs.String())
		}
	}
}

// authorityStatusOf waits for a running authority.
func authorityStatusOf(ts *testscript.TestScript, file string) (st authority.Status) {
	settle(ts, false, []string{`"ready":true`, "authority", "status", "--json", "--config", file})
	var out, errs bytes.Buffer
	if run(context.Background(), []string{"authority", "status", "--json", "--config", ts.MkAbs(file)}, streams{strings.NewReader(""), &out, &errs}) != exitDone {
		ts.Fatalf("status: %s", errs.String())
	}
	ts.Check(json.Unmarshal(out.Bytes(), &st))
	return st
}

// signalAuthority NAME FILE sends a signal to the authority of a configuration.
func signalAuthority(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	ts.Check(syscall.Kill(authorityStatusOf(ts, args[1]).PID, signals[args[0]]))
}

// offerNode FILE NICKNAME VAR publishes a mix to the authority of a configuration, and puts its
// fingerprint into $VAR.
func offerNode(ts *testscript.TestScript, neg bool, args []string) {
	var c authority.Config
	ts.Check(config.Load(&c, ts.MkAbs(args[0]), nil))
	text, err := os.ReadFile(c.Network)
	ts.Check(err)
	n, err := directory.ParseNetwork(text)
	ts.Check(err)
	a, b := sha256.Sum256([]byte("one "+args[1])), sha256.Sum256([]byte("two "+args[1]))
	id, err := directory.NewPrivateKey(append(a[:], b[:]...))
	ts.Check(err)
	key, err := packet.NewPrivateKey(a[:])
	ts.Check(err)
	lk := ed25519.NewKeyFromSeed(b[:])
	name, err := link.KeyOf(lk.Public().(ed25519.PublicKey))
	ts.Check(err)
	now := time.Now().UTC().Truncate(time.Second)
	d, err := directory.SignDescriptor(directory.Descriptor{Network: n.Name(), Published: now, Node: directory.Node{Nickname: args[1], Mode: directory.Mix,
		LinkKey: directory.Hash(name), Addresses: []string{"127.0.0.1:4000"}, Version: "test", Mixing: directory.Poisson,
		Keys: []directory.PacketKey{{From: now, Until: now.Add(72 * time.Hour), Key: key.Public()}}}}, id)
	ts.Check(err)
	request, err := directory.AppendRequest(nil, directory.Request{Kind: directory.RequestPublish, Document: d.Bytes()})
	ts.Check(err)
	l, err := link.New(link.Options{Key: lk, Who: func(link.Key) (link.Peer, bool) { return link.Peer{}, false }, Handler: noUnits{}})
	ts.Check(err)
	st := authorityStatusOf(ts, args[0])
	line, err := l.Line(link.LineOptions{Peer: link.Peer{Key: link.Key(n.Contacts()[0].LinkKey), Role: link.Authority}, Addresses: func() []string { return []string{st.Link} }})
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	ended := make(chan struct{})
	go func() { defer close(ended); line.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	answer, err := line.Fetch(ctx, request)
	ts.Check(err)
	if _, err := directory.ParseVerdict(answer); (err != nil) != neg {
		ts.Fatalf("%s: %v", answer, err)
	}
	public := id.Public().ID()
	ts.Setenv(args[2], directory.Hash(public).String())
}

type noUnits struct{}

func (noUnits) Take(_ context.Context, _ link.Peer, _ []byte, r link.Receipt) { r.Later() }

// TestAuthorityConfigText: the file of authority init is read as what was decided, also with
// every proposal in it taken.
func TestAuthorityConfigText(t *testing.T) {
	var want authority.Config
	set := []string{"listen.http=127.0.0.1:8480", "vote.profile=full"}
	if err := config.Load(&want, "", append([]string{"dir=/srv/a", "network=/srv/network"}, set...)); err != nil {
		t.Fatal(err)
	}
	text := authorityConfigText(&want, set)
	read := func(text string) (c authority.Config) {
		t.Helper()
		if err := config.LoadText(&c, "a.toml", []byte(text), nil); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if err := c.Check(); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		return c
	}
	got := read(text)
	for k, v := range config.Values(&want) {
		if config.Values(&got)[k] != v {
			t.Errorf("%s is read as %s", k, config.Values(&got)[k])
		}
	}
	var taken strings.Builder
	for l := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(l, "#"); ok && !strings.HasPrefix(rest, " ") {
			l = rest
		}
		taken.WriteString(l)
	}
	got = read(taken.String())
	for _, x := range authorityChoices {
		if given := strings.Contains(strings.Join(set, " "), x.key+"="); !given && config.Values(&got)[x.key] == config.Values(&want)[x.key] {
			t.Errorf("%s: the proposal changes nothing", x.key)
		}
	}
}

// TestAuthorityUnit: the unit has the program and the file in it, a directory of its own, and
// the same protection as that of a relay.
func TestAuthorityUnit(t *testing.T) {
	text, err := startLine(deploy.Authority(), "authority serve", authoritySystemConfig, "/opt/postern", "/etc/a.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nExecStart=/opt/postern authority serve --config /etc/a.toml\n", "\nStateDirectory=postern-authority\n", "\nDynamicUser=yes\n", "\nMemorySwapMax=0\n", "\nSystemCallFilter=@system-service\n", "\n[Install]\n", "\nCapabilityBoundingSet=\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the unit lacks %q", want)
		}
	}
	relayUnit := deploy.Unit[strings.Index(deploy.Unit, "# What is in memory"):]
	if !strings.HasSuffix(text, relayUnit) {
		t.Error("the protection differs from the relay's")
	}
	u := &authoritySetUp{file: "/etc/a.toml"}
	u.cfg.Dir, u.cfg.Identity.Passphrase = authoritySystemDir, "ask"
	if _, err := u.unitText(); err == nil || !strings.Contains(say(err), "a service cannot ask for a passphrase") {
		t.Error(err)
	}
	u.cfg.Dir = "/elsewhere"
	if _, err := u.unitText(); err == nil || !strings.Contains(say(err), "under systemd the data lies in "+authoritySystemDir) {
		t.Error(err)
	}
}

// TestAuthorityReference: docs/authority-config.md is what the program would write.
func TestAuthorityReference(t *testing.T) {
	want := config.Reference(&authority.Config{}, authorityReferenceTitle, authorityReferenceIntro)
	got, err := os.ReadFile("../../docs/authority-config.md")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/authority-config.md is stale (%v); run: go run ./cmd/postern authority config --markdown > docs/authority-config.md", err)
	}
}
