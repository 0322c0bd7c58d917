package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

// describe writes the descriptor of a node that is in no directory, and gives its ID.
func describe(t *testing.T, file string, mode directory.Mode, layer int) packet.ID {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Base(file)
	seed := func(what string) []byte { s := sha256.Sum256([]byte(what + name)); return s[:] }
	identity, err := directory.NewPrivateKey(append(seed("one"), seed("two")...))
	must(err)
	key, err := packet.NewPrivateKey(seed("packet"))
	must(err)
	now := time.Now().UTC().Truncate(time.Hour)
	n := directory.Node{Nickname: name, Mode: mode, LinkKey: [32]byte(seed("link")), Addresses: []string{"127.0.0.1:4000"}, Version: "postern-0.1",
		Keys: []directory.PacketKey{{From: now.Add(-time.Hour), Until: now.Add(71 * time.Hour), Key: key.Public()}}}
	if mode == directory.Mix {
		n.Mixing = directory.Poisson
		n.Parameters = directory.Parameters{{Name: directory.LayerParameter, Value: uint64(layer)}}
	} else {
		n.NameKey = identity.Public()
	}
	d, err := directory.SignDescriptor(directory.Descriptor{Network: "test.net", Published: now, Node: n}, identity)
	must(err)
	must(os.WriteFile(file, d.Bytes(), 0o600))
	return d.ID()
}

// TestMixSendByFiles: a message whose way is all files is queued though there never was a directory,
// and can be given up; where a file is missing it is told which.
func TestMixSendByFiles(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	own := describe(t, in("own"), directory.Relay|directory.Mailbox, 0)
	end := describe(t, in("end"), directory.Relay|directory.Mailbox, 0)
	for l := 1; l <= 3; l++ {
		describe(t, in(fmt.Sprint("mix", l)), directory.Mix, l)
	}
	network := dirtest.New(t, "test.net", time.Hour, 1).Network
	page := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"network":%q,"node":"%x","link_key":%q,"addresses":["127.0.0.1:1"],"mailbox":%q}`, network.Bytes(), own, strings.Repeat("2e", 32), strings.Repeat("3d", 32))
	}))
	defer page.Close()
	files := map[string][]byte{"ca": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: page.Certificate().Raw}), "password": []byte("secret\n"), "letter": []byte("hello")}
	key, err := letter.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	files["bob.pb"] = []byte(letter.Address{Relay: end, Mailbox: packet.ID{5}, Key: key.Public()}.String())
	for name, b := range files {
		if err := os.WriteFile(in(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mix := func(args ...string) (code int, out, errs string) {
		var o, e bytes.Buffer
		code = run(context.Background(), append([]string{"mix"}, append(args, "--dir", in("client"))...), streams{strings.NewReader(""), &o, &e})
		return code, o.String(), e.String()
	}
	if code, _, errs := mix("register", page.URL, "--user", "anna@relay.example", "--ca", in("ca"), "--password-file", in("password")); code != exitDone {
		t.Fatal(errs)
	}
	send := func(names ...string) (int, string, string) {
		for i := range names {
			names[i] = in(names[i])
		}
		return mix("send", "-t", in("bob.pb"), "--in", in("letter"), "--json", "-P", strings.Join(names, ","))
	}
	code, out, errs := send("own", "mix1", "mix2", "mix3", "end")
	if code != exitDone || !strings.Contains(out, `"state":"waiting"`) {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	var sent struct{ Name string }
	if err := json.Unmarshal([]byte(out), &sent); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := mix("sent", sent.Name, "--cancel", "--json"); code != exitDone || !strings.Contains(out, `"state":"canceled"`) {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if code, _, errs := mix("sent", sent.Name, "--cancel"); code != exitFailed || !strings.Contains(errs, "the message does not wait any more: canceled") {
		t.Errorf("%d %s", code, errs)
	}
	for want, names := range map[string][]string{
		"the path begins with the file of your own relay": {"mix1", "mix2", "mix3", "end"},
		"the path names no mix of layer 3 by a file":      {"own", "mix1", "mix2", "end"},
		"the recipient's relay is not in the directory":   {"own", "mix1", "mix2", "mix3"},
		"is neither the name of a node in the directory":  {"own", "nobody", "mix2", "mix3", "end"},
		"mix1 is in layer 1 and cannot stand behind mix2": {"own", "mix2", "mix1", "mix3", "end"},
	} {
		if code, _, errs := send(names...); code != exitFailed || !strings.Contains(errs, want) {
			t.Errorf("%d %s, want %q", code, errs, want)
		}
	}
}
