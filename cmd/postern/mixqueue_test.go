package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mixnet/dirtest"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/replay"
)

// TestMixQueue: the command shows each packet that waits with its state, as a table and as JSON.
func TestMixQueue(t *testing.T) {
	dir := t.TempDir()
	base, conf, network := filepath.Join(dir, "data"), filepath.Join(dir, "mix.toml"), filepath.Join(dir, "network")
	if err := os.WriteFile(network, dirtest.New(t, "test.net", time.Hour, 1).Network.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	mix := func(args ...string) string {
		t.Helper()
		var out, failed bytes.Buffer
		if code := run(context.Background(), append([]string{"mix"}, args...), streams{strings.NewReader(""), &out, &failed}); code != exitDone {
			t.Fatalf("%v: %s", args, failed.String())
		}
		return out.String()
	}
	mix("init", "aurora", "--network", network, "--config", conf, "--set", "incoming.listen=127.0.0.1:0", "--set", "server.base_dir="+base)
	k, err := keys.Open(keys.Options{FS: vfs.OS(), Dir: filepath.Join(base, "keys"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	l, err := replay.Open(replay.Options{FS: vfs.OS(), Dir: filepath.Join(base, "work", "queues", "packets"), Secret: k.LogSecret(), Rand: rand.Reader, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Add(t.Context(), replay.Record{Key: 7, Tag: replay.Tag{1}, Body: []byte("packet"), Next: replay.NodeID{0xab}, Use: 1, Due: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)})
	if cerr := l.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	if out := mix("queue", "-f", conf); !regexp.MustCompile(`^STATE +NUMBER +DUE +NEXT +BYTES +PACKETS\nmsg +1 +2026-11-01T12:00:00Z +ab00000000000000 +6 +1\n$`).MatchString(out) {
		t.Errorf("%s", out)
	}
	if out, want := mix("queue", "-f", conf, "--json"), `{"state":"msg","id":1,"due":"2026-11-01T12:00:00Z","next":"ab00000000000000","bytes":6,"count":1}`; strings.TrimSpace(out) != want {
		t.Errorf("%s", out)
	}
}
