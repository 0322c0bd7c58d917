package replay

import (
	"bytes"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern.email/kit/clocktest"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"

	"pgregory.net/rapid"
)

// TestModel: whatever is done to a log in whatever order, restarts, crashes and full disks
// among it, it answers as a map of tags and a map of packets would.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type tag struct {
			key Key
			n   int
		}
		disk := vfs.NewCrashDisk()
		faults := vfs.NewFaults(disk)
		clock := clocktest.New(began)
		o := options(faults)
		o.SegmentBytes, o.Now = 32<<10, clock.Now
		var l *Log
		start := func() {
			var err error
			if l, err = Open(o); err != nil {
				t.Fatal(err)
			}
		}
		start()
		defer func() { l.Close() }()
		tags := map[tag]bool{}
		packets := map[uint64]Record{} // by number
		sent := map[uint64]Record{}    // not noted yet: a crash may bring them back
		doubt := map[tag]Record{}      // Add failed: after a restart they may be there
		unsure := map[tag]bool{}       // and nobody knows which
		ended := map[Key]bool{}
		limbo := map[Key]bool{} // ended or not: Forget failed, or was so long ago that it is forgotten
		purge := func(key Key) {
			for k := range tags {
				if k.key == key {
					delete(tags, k)
				}
			}
		}
		full, broken := false, false
		find := func(id uint64) *Entry {
			for _, e := range l.Waiting() {
				if e.ID == id {
					return e
				}
			}
			return nil
		}
		// after goes on with a disk; mayReturn: what was sent and not noted may wait again.
		after := func(d *vfs.CrashDisk, mayReturn bool) {
			disk, faults = d, vfs.NewFaults(d)
			o.FS, full, broken = faults, false, false
			start()
			for id, r := range sent {
				if mayReturn && find(id) != nil {
					packets[id] = r
				}
			}
			clear(sent)
			for key := range ended {
				limbo[key] = true
			}
			for k, r := range doubt {
				unsure[k] = !tags[k]
				for _, e := range l.Waiting() {
					if e.Key == r.Key && e.Next == r.Next && packets[e.ID].Body == nil {
						packets[e.ID] = r
						tags[k], unsure[k] = true, false
					}
				}
			}
			clear(doubt)
		}
		draw := func(t *rapid.T) Record {
			n := rapid.IntRange(0, 60).Draw(t, "n")
			r := Record{Key: Key(rapid.IntRange(0, 2).Draw(t, "key")), Tag: tagOf(n), Next: NodeID{byte(n)}}
			if n%5 > 0 {
				r.Body = bodyOf(n, 1+n*97)
			}
			return r
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				var recs []Record
				for range rapid.IntRange(1, 4).Draw(t, "records") {
					recs = append(recs, draw(t))
				}
				out, _ := l.Add(t.Context(), recs...)
				for i, r := range recs {
					k := tag{r.Key, int(r.Tag[15])}
					if limbo[r.Key] && !full && !broken {
						ended[r.Key] = errs.KindOf(out[i].Err) == errs.Denied
						if ended[r.Key] {
							purge(r.Key)
						}
						delete(limbo, r.Key)
					}
					switch {
					case limbo[r.Key]:
						doubt[k] = r
					case ended[r.Key]:
						if errs.KindOf(out[i].Err) != errs.Denied {
							t.Fatalf("an ended key: %+v", out[i])
						}
					case unsure[k] && out[i].Replay:
						tags[k], unsure[k] = true, false
					case tags[k]:
						if !out[i].Replay || out[i].Err != nil {
							t.Fatalf("a replay: %+v", out[i])
						}
					case full || broken:
						if out[i].Err == nil {
							t.Fatalf("taken by a disk that fails: %+v", out[i])
						}
						doubt[k] = r
					case out[i].Err != nil:
						t.Fatalf("refused: %v", out[i].Err)
					default:
						if out[i].Replay || (out[i].Entry == nil) != (r.Body == nil) {
							t.Fatalf("fresh: %+v", out[i])
						}
						tags[k], unsure[k] = true, false
						if r.Body != nil {
							packets[out[i].Entry.ID] = r
						}
					}
				}
			},
			"sent": func(t *rapid.T) {
				for id := range packets { // any
					l.Sent(find(id))
					sent[id] = packets[id]
					delete(packets, id)
					break
				}
			},
			"flush": func(t *rapid.T) {
				if l.Flush(t.Context()) == nil {
					clear(sent)
				}
			},
			"time": func(t *rapid.T) {
				clock.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "minutes")) * time.Minute)
			},
			"full": func(t *rapid.T) {
				if full = !full; full {
					faults.SetSpace(0)
				} else {
					faults.SetSpace(-1)
					clock.Add(fullPause)
				}
			},
			"restart": func(t *rapid.T) {
				faults.SetSpace(-1)
				full = false
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				after(disk, broken)
			},
			"crash": func(t *rapid.T) {
				mode := vfs.Unsynced(rapid.IntRange(0, 2).Draw(t, "mode"))
				_ = l.Flush(t.Context()) // what runs behind the last answer is tidying; let it end
				clone := disk.Clone(mode, rapid.Uint64().Draw(t, "seed"))
				l.Close()
				after(clone, true)
			},
			"broken": func(t *rapid.T) {
				if !full && !broken {
					faults.FailFrom(vfs.OpSync, 1, syscall.EIO)
					broken = true
				}
			},
			"end": func(t *rapid.T) {
				key := Key(rapid.IntRange(0, 2).Draw(t, "key"))
				if rapid.IntRange(0, 9).Draw(t, "really") > 0 {
					return
				}
				if l.Forget(t.Context(), key) == nil {
					ended[key] = true
					delete(limbo, key)
					purge(key)
				} else {
					limbo[key] = true
					for k := range tags {
						if k.key == key {
							delete(tags, k)
							unsure[k] = true
						}
					}
				}
			},
			"": func(t *rapid.T) {
				waiting := l.Waiting()
				if len(waiting) != len(packets) {
					t.Fatalf("%d wait, want %d", len(waiting), len(packets))
				}
				for _, e := range waiting {
					r, ok := packets[e.ID]
					body, err := l.Read(e, nil)
					if !ok || err != nil || !bytes.Equal(body, r.Body) || e.Next != r.Next || e.Key != r.Key {
						t.Fatalf("packet %d: %v", e.ID, err)
					}
				}
				if s := l.Stats(); s.Damaged != 0 || s.LostKeys != 0 || s.LostTags != 0 {
					t.Fatalf("%+v", s)
				}
			},
		})
	})
}

// TestMany: many goroutines add, some of them the same packets, while what was taken is
// read and sent: each tag is fresh exactly once, and the log is empty in the end.
func TestMany(t *testing.T) {
	const workers, each = 16, 60
	o := options(vfs.NewCrashDisk())
	o.SegmentBytes = 256 << 10
	l := open(t, o)
	fresh := make([]int, workers*each)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range 2 * each {
				n := (w*each + i) % len(fresh) // others have it too
				r := Record{Key: 1, Tag: tagOf(n), Body: bodyOf(n, 1000+n)}
				out, err := l.Add(t.Context(), r)
				if err != nil {
					t.Error(err)
					return
				}
				if out[0].Replay {
					continue
				}
				mu.Lock()
				fresh[n]++
				mu.Unlock()
				body, err := l.Read(out[0].Entry, nil)
				if err != nil || !bytes.Equal(body, r.Body) {
					t.Errorf("packet %d: %v", n, err)
				}
				l.Sent(out[0].Entry)
				if i%20 == 0 {
					if err := l.Flush(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	flush(t, l)
	for n, k := range fresh {
		if k != 1 {
			t.Errorf("packet %d was fresh %d times", n, k)
		}
	}
	if s := l.Stats(); s.Waiting != 0 || s.Live != 0 || s.Tags != len(fresh) {
		t.Errorf("%+v", s)
	}
}
