package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/store"

	"pgregory.net/rapid"
)

// modelShards are few, so that operations meet; two are neighbours.
var modelShards = []store.Shard{0, 1, store.Shards - 1}

// state is what a store should hold: shard and key to value.
type state map[store.Shard]map[string]string

func newState() state {
	s := make(state)
	for _, sh := range modelShards {
		s[sh] = make(map[string]string)
	}
	return s
}

func (s state) clone() state {
	c := make(state)
	for sh, m := range s {
		c[sh] = maps.Clone(m)
	}
	return c
}

// place is one key of one shard.
type place struct {
	shard store.Shard
	key   string
}

// inRange lists the keys of [start, end); a nil end is the end of the shard.
func (s state) inRange(sh store.Shard, start, end []byte) []string {
	var out []string
	for k := range s[sh] {
		if k >= string(start) && (end == nil || k < string(end)) {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// model runs random transactions, reads, watches and restarts against a map.
func model(t *testing.T, e Engine) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{rt: rt, e: e, disk: vfs.NewCrashDisk(), want: newState(), ctx: t.Context()}
		m.reopen()
		defer func() { _ = m.st.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"update":  func(rt *rapid.T) { m.rt = rt; m.update() },
			"view":    func(rt *rapid.T) { m.rt = rt; m.view() },
			"walk":    func(rt *rapid.T) { m.rt = rt; m.walk() },
			"restart": func(rt *rapid.T) { m.rt = rt; m.restart() },
			"purge":   func(rt *rapid.T) { m.rt = rt; m.check(m.st.Purge(m.ctx)) },
		})
	})
}

type machine struct {
	rt   *rapid.T
	ctx  context.Context
	e    Engine
	disk *vfs.CrashDisk
	st   store.Store
	want state
}

var (
	modelKey   = rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00")), 0, 3, -1)
	modelValue = rapid.OneOf(rapid.StringN(0, 8, -1), rapid.Just(string(bytes.Repeat([]byte("long"), 2000))))
	modelShard = rapid.SampledFrom(modelShards)
)

func (m *machine) check(err error) {
	if err != nil {
		m.rt.Fatal(err)
	}
}

func (m *machine) reopen() {
	st, err := m.e.Open(m.ctx, m.disk, dir)
	m.check(err)
	m.st = st
}

// restart stops the store cleanly, or cuts the power.
func (m *machine) restart() {
	if rapid.Bool().Draw(m.rt, "power cut") {
		mode := rapid.SampledFrom([]vfs.Unsynced{vfs.Dropped, vfs.Kept, vfs.Torn}).Draw(m.rt, "unsynced")
		after := m.disk.Clone(mode, rapid.Uint64().Draw(m.rt, "seed"))
		m.check(m.st.Close())
		m.disk = after
	} else {
		m.check(m.st.Close())
	}
	m.reopen()
	m.walk()
}

// update runs one transaction of several steps; its reads are checked inside.
func (m *machine) update() {
	var (
		home   = modelShard.Draw(m.rt, "home")
		steps  = rapid.IntRange(1, 8).Draw(m.rt, "steps")
		next   state
		boom   = errors.New("boom")
		fail   = rapid.IntRange(0, 4).Draw(m.rt, "fail") == 0
		fires  = make(map[place]bool)
		shard  = modelShard.Draw(m.rt, "watched shard")
		key    = modelKey.Draw(m.rt, "watched key")
		w      = m.st.Watch(shard, []byte(key))
		inside error
	)
	defer w.Close()
	err := m.st.Update(m.ctx, home, func(tx store.Tx) (err error) {
		// The draws must happen in this goroutine only: the engine may run fn in
		// another one, but never at the same time.
		next = m.want.clone()
		clear(fires)
		for range steps {
			sh, at := home, tx
			if m.e.OneLog {
				if sh = modelShard.Draw(m.rt, "shard"); sh != home {
					if at, err = tx.Other(sh); err != nil {
						return err
					}
				}
			}
			if inside = m.step(at, next, sh, fires); inside != nil {
				return inside
			}
		}
		if fail {
			return boom
		}
		return nil
	})
	m.check(inside)
	if fail {
		if !errors.Is(err, boom) {
			m.rt.Fatalf("a failing transaction gave %v", err)
		}
		clear(fires)
	} else {
		m.check(err)
		m.want = next
	}
	if got, want := fired(w), fires[place{shard, key}]; got != want {
		m.rt.Fatalf("the watch of %d %q fired: %v, want %v", shard, key, got, want)
	}
}

// step does one random operation on the transaction and on the model.
func (m *machine) step(tx store.Tx, s state, sh store.Shard, fires map[place]bool) error {
	key := modelKey.Draw(m.rt, "key")
	switch rapid.SampledFrom([]string{"set", "set", "set", "delete", "range", "get", "many", "scan"}).Draw(m.rt, "op") {
	case "set":
		v := modelValue.Draw(m.rt, "value")
		s[sh][key] = v
		fires[place{sh, key}] = true
		return tx.Set([]byte(key), []byte(v))
	case "delete":
		delete(s[sh], key)
		fires[place{sh, key}] = true
		return tx.Delete([]byte(key))
	case "range":
		start, end := m.bounds()
		for _, k := range s.inRange(sh, start, end) {
			delete(s[sh], k)
		}
		// A write that a later DeleteRange of the same transaction takes back is
		// no commit of that key.
		for f := range fires {
			if f.shard == sh && f.key >= string(start) && (end == nil || f.key < string(end)) {
				delete(fires, f)
			}
		}
		return tx.DeleteRange(start, end)
	case "get":
		return compareGet(tx, s, sh, key)
	case "many":
		return compareMany(tx, s, sh, m.keys())
	}
	start, end := m.bounds()
	return compareScan(tx, s, sh, start, end, rapid.Bool().Draw(m.rt, "reverse"))
}

func (m *machine) bounds() (start, end []byte) {
	start = []byte(modelKey.Draw(m.rt, "start"))
	if rapid.IntRange(0, 3).Draw(m.rt, "open end") > 0 {
		end = []byte(modelKey.Draw(m.rt, "end"))
	}
	return start, end
}

func (m *machine) view() {
	sh := modelShard.Draw(m.rt, "shard")
	m.check(m.st.View(m.ctx, sh, func(r store.Reader) error {
		if err := compareGet(r, m.want, sh, modelKey.Draw(m.rt, "key")); err != nil {
			return err
		}
		if err := compareMany(r, m.want, sh, m.keys()); err != nil {
			return err
		}
		start, end := m.bounds()
		return compareScan(r, m.want, sh, start, end, rapid.Bool().Draw(m.rt, "reverse"))
	}))
}

func (m *machine) walk() {
	got := newState()
	m.check(m.st.Walk(m.ctx, func(sh store.Shard, k, v []byte) (bool, error) {
		if got[sh] == nil {
			return false, fmt.Errorf("a record in shard %d", sh)
		}
		got[sh][string(k)] = string(v)
		return true, nil
	}))
	var filled []store.Shard
	for sh := range m.want {
		if !maps.Equal(got[sh], m.want[sh]) {
			m.rt.Fatalf("shard %d holds %.200q, want %.200q", sh, got[sh], m.want[sh])
		}
		if len(m.want[sh]) > 0 {
			filled = append(filled, sh)
		}
	}
	slices.Sort(filled)
	occupied, err := m.st.Occupied(m.ctx)
	m.check(err)
	if !slices.Equal(occupied, filled) {
		m.rt.Fatalf("records in shards %v, want %v", occupied, filled)
	}
}

func compareGet(r store.Reader, s state, sh store.Shard, key string) error {
	v, err := r.Get([]byte(key))
	want, ok := s[sh][key]
	switch {
	case !ok && errors.Is(err, errs.NotFound):
		return nil
	case !ok:
		return fmt.Errorf("get %d %q: %.20q, %v, want not found", sh, key, v, err)
	case err != nil:
		return err
	case string(v) != want:
		return fmt.Errorf("get %d %q: %.20q, want %.20q", sh, key, v, want)
	}
	return nil
}

// keys draws some keys in order.
func (m *machine) keys() []string {
	keys := rapid.SliceOfNDistinct(modelKey, 0, 6, rapid.ID[string]).Draw(m.rt, "keys")
	slices.Sort(keys)
	return keys
}

func compareMany(r store.Reader, s state, sh store.Shard, keys []string) error {
	var want []string
	for i, k := range keys {
		if v, ok := s[sh][k]; ok {
			want = append(want, fmt.Sprintf("%d=%s", i, v))
		}
	}
	got, err := many(r, keys...)
	if err == nil && got != strings.Join(want, " ") {
		err = fmt.Errorf("get %d %q: %.200q, want %.200q", sh, keys, got, want)
	}
	return err
}

func compareScan(r store.Reader, s state, sh store.Shard, start, end []byte, reverse bool) error {
	want := s.inRange(sh, start, end)
	scan := r.Scan
	if reverse {
		slices.Reverse(want)
		scan = r.ScanReverse
	}
	var got []string
	err := scan(start, end, func(k, v []byte) (bool, error) {
		if s[sh][string(k)] != string(v) {
			return false, fmt.Errorf("scan %d: %q is %.20q, want %.20q", sh, k, v, s[sh][string(k)])
		}
		got = append(got, string(k))
		return true, nil
	})
	if err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("scan %d [%q, %q) reverse=%v: %q, want %q", sh, start, end, reverse, got, want)
	}
	return err
}
