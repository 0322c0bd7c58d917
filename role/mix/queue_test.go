package mix

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mixnet/replay"
	"postern.email/wire/control"
)

// TestQueue: what is in the log is shown by a node that runs, and of one that does not: each packet that
// waits, and how many were damaged and set aside.
func TestQueue(t *testing.T) {
	w := newWorld(t)
	w.base, w.fs = filepath.Join(t.TempDir(), "node"), vfs.OS()
	w.file("network", string(w.net.Network.Bytes()))
	w.start().Close()
	c := w.config()
	st, err := openStopped(c, w.dep().withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	due := w.now().Add(24 * time.Hour).Truncate(time.Second)
	var want []QueueEntry
	for i := range 3 {
		r := replay.Record{Key: replay.Key(st.keys.List()[0].ID), Tag: replay.Tag{byte(i)}, Body: bytes.Repeat([]byte{1}, 100+i), Next: replay.NodeID{0xab, byte(i)}, Use: 1, Due: due}
		out, err := st.log.Add(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, QueueEntry{State: "msg", ID: out[0].Entry.ID, Due: due.UTC().Format(time.RFC3339), Next: fmt.Sprintf("ab%02x000000000000", i), Bytes: int64(len(r.Body)), Count: 1})
	}
	if err := st.close(); err != nil {
		t.Fatal(err)
	}
	stopped := func() (all []QueueEntry) {
		t.Helper()
		if err := Queue(c, w.dep(), func(e QueueEntry) error { all = append(all, e); return nil }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	running := func() (all []QueueEntry) {
		t.Helper()
		d := w.dep()
		d.NoControl = false
		s, err := Start(soon(t), c, d, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		n := 0
		err = control.Call(t.Context(), w.base, "queue", nil, &n, func(line json.RawMessage) {
			var e QueueEntry
			if err := json.Unmarshal(line, &e); err != nil {
				t.Error(err)
			}
			all = append(all, e)
		})
		if err != nil || n != len(all) {
			t.Errorf("%d of %d, %v", len(all), n, err)
		}
		return all
	}
	if got := stopped(); !slices.Equal(got, want) {
		t.Errorf("of a stopped node: %+v", got)
	}
	if got := running(); !slices.Equal(got, want) {
		t.Errorf("of a running node: %+v", got)
	}

	logs, err := filepath.Glob(filepath.Join(c.packetDir(), "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	f, err := os.OpenFile(logs[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("something else"), 4096); err != nil { // over the first record
		t.Fatal(err)
	}
	f.Close()
	for _, got := range [][]QueueEntry{stopped(), running()} {
		if len(got) != 3 || !slices.Equal(got[:2], want[1:]) || got[2].State != "crp" || got[2].Count != 1 || got[2].Bytes == 0 {
			t.Errorf("with a damaged packet: %+v", got)
		}
	}
}
