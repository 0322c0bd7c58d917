package directory

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// crowd makes the consensus of an epoch with this many nodes, each with five keys, a quarter
// of them relays. Once a day a node makes a new key and drops the oldest; its score changes
// each epoch. Keys follow from the number of the node, so that two epochs share most of them.
func crowd(t testing.TB, n *Network, keys []*PrivateKey, nodes int, epoch uint64, previous Previous) *Consensus {
	t.Helper()
	c := plain(epoch, previous)
	c.Random = Value(sha256.Sum256(binary.BigEndian.AppendUint64(nil, epoch)))
	for i := range nodes {
		day := (epoch + uint64(i)) / 24
		from := time.Unix(int64(day)*86400, 0).UTC()
		name := fmt.Sprintf("node%d", i)
		e := Entry{ID: mixID(i), Descriptor: sha256.Sum256(fmt.Append(nil, name, day)), Score: 900 + (uint64(i)*7+epoch*13)%100,
			Node: Node{Nickname: name, Mode: Mix, LinkKey: sha256.Sum256([]byte(name)), Addresses: []string{fmt.Sprintf("192.0.2.%d:4000", i%250)},
				Version: "postern-0.1"}}
		if i%4 == 0 {
			e.Mode = Relay | Mailbox
			e.NameKey = crowdKey(t, i)
			e.Domains = []string{name + ".example"}
		} else {
			e.Layer, e.Mixing = 1+i%3, Poisson
		}
		for k := range 5 {
			at := from.Add(time.Duration(k-3) * 24 * time.Hour)
			e.Keys = append(e.Keys, PacketKey{at, at.Add(72 * time.Hour), crowdPacketKey(t, fmt.Sprint(name, day+uint64(k)))})
		}
		c.Nodes = append(c.Nodes, e)
	}
	slices.SortFunc(c.Nodes, func(a, b Entry) int { return compareID(a.ID, b.ID) })
	return signedBy(t, n, c, keys...)
}

var crowdKeys sync.Map

func crowdPacketKey(t testing.TB, name string) *packet.PublicKey {
	if k, ok := crowdKeys.Load(name); ok {
		return k.(*packet.PublicKey)
	}
	k := packetKey(t, name)
	crowdKeys.Store(name, k)
	return k
}

// crowdKey gives one of a few name keys, as they are slow to make.
func crowdKey(t testing.TB, i int) *PublicKey {
	return testKey(t, fmt.Sprintf("names %d", i%16)).Public()
}

func BenchmarkLargeConsensus(b *testing.B) {
	n, keys := testNetwork(b, 9)
	for _, nodes := range []int{20, 100, MaxNodes} {
		first := crowd(b, n, keys, nodes, someEpoch, Previous{})
		next := crowd(b, n, keys, nodes, someEpoch+1, first.Name())
		raw := next.Bytes()
		delta := next.Delta(first)
		size := func(b *testing.B, name string, got int) { b.ReportMetric(float64(got), name) }
		b.Run(fmt.Sprintf("parse/%d", nodes), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			c, err := ParseConsensus(raw)
			must(b, err)
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(c)
			b.ReportAllocs()
			for b.Loop() {
				_, err := ParseConsensus(raw)
				must(b, err)
			}
			size(b, "doc-bytes", len(raw))
			size(b, "held-bytes", int(after.HeapAlloc)-int(before.HeapAlloc))
		})
		b.Run(fmt.Sprintf("parse-after/%d", nodes), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			c, err := ParseConsensusAfter(raw, first)
			must(b, err)
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(c)
			b.ReportAllocs()
			for b.Loop() {
				_, err := ParseConsensusAfter(raw, first)
				must(b, err)
			}
			size(b, "held-bytes", int(after.HeapAlloc)-int(before.HeapAlloc))
		})
		b.Run(fmt.Sprintf("verify/%d", nodes), func(b *testing.B) {
			for b.Loop() {
				_, err := Verify(n, next, first, someTime.Add(time.Hour))
				must(b, err)
			}
		})
		for _, level := range []int{flate.HuffmanOnly, flate.BestSpeed, 6, 9} {
			b.Run(fmt.Sprintf("deflate%d/%d", level, nodes), func(b *testing.B) {
				var out bytes.Buffer
				for b.Loop() {
					out.Reset()
					z, err := flate.NewWriter(&out, level)
					must(b, err)
					_, err = z.Write(raw)
					must(b, err)
					must(b, z.Close())
				}
				size(b, "packed-bytes", out.Len())
			})
		}
		b.Run(fmt.Sprintf("unpack/%d", nodes), func(b *testing.B) {
			packed := Pack(raw)
			for b.Loop() {
				_, err := Unpack(packed, MaxConsensus)
				must(b, err)
			}
		})
		b.Run(fmt.Sprintf("delta/%d", nodes), func(b *testing.B) {
			for b.Loop() {
				next.Delta(first)
			}
			size(b, "delta-bytes", len(delta))
			size(b, "packed-bytes", len(Pack(delta)))
		})
		b.Run(fmt.Sprintf("apply/%d", nodes), func(b *testing.B) {
			for b.Loop() {
				_, err := OpenConsensus(delta, first)
				must(b, err)
			}
		})
	}
}

func TestPack(t *testing.T) {
	for kind, b := range golden(t) {
		packed := Pack(b)
		if len(packed) >= len(b) {
			t.Errorf("%s: %d bytes packed are %d", kind, len(b), len(packed))
		}
		for _, x := range [][]byte{packed, b} {
			if got, err := Unpack(x, len(b)); err != nil || !bytes.Equal(got, b) {
				t.Errorf("%s: unpacked it is another: %v", kind, err)
			}
			_, err := Unpack(x, len(b)-1)
			refused(t, err, errs.TooLarge, "the document is too large")
		}
		for _, x := range [][]byte{packed[:len(packed)-1], append(bytes.Clone(packed), 0),
			bytes.Replace(packed, fmt.Append(nil, "size ", len(b)), fmt.Append(nil, "size ", len(b)+1), 1),
			bytes.Replace(packed, fmt.Append(nil, "size ", len(b)), fmt.Append(nil, "size ", len(b)-1), 1)} {
			_, err := Unpack(x, 2*len(b))
			refused(t, err, errs.Invalid, "the document is packed wrongly")
		}
		if z := Deflated(packed); z == nil || len(z) >= len(packed) {
			t.Errorf("%s: no deflated bytes", kind)
		}
		if Deflated(b) != nil || Deflated([]byte("postern-packed 1\nsize x\n")) != nil {
			t.Errorf("%s: deflated bytes of what is not packed", kind)
		}
	}
	if got, err := Unpack(Pack(nil), 0); err != nil || len(got) != 0 {
		t.Error(err)
	}
	for text, public := range map[string]string{
		"postern-packed 2\n":                  "version of postern-packed is unknown",
		"postern-packed 1\n":                  "no size",
		"postern-packed 1\nsize 1 1\n":        "no size",
		"postern-packed 1\ncritical size 1\n": "no size",
		"postern-packed 1\nsize 50331649\n":   "line 2: size: not a number from 0 to 50331648",
	} {
		if _, err := Unpack([]byte(text), MaxProof); !strings.HasSuffix(errs.Public(err), public) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A few bytes that claim to be much take no memory: what is claimed is not allocated.
func TestUnpackBombs(t *testing.T) {
	bomb := Pack(make([]byte, MaxProof)) // 48 MiB of zeros
	if _, err := Unpack(bomb, MaxConsensus); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
	lie := bytes.Replace(bomb, fmt.Append(nil, "size ", MaxProof), []byte("size 1000"), 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Unpack(lie, MaxConsensus); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	small := append([]byte("postern-packed 1\nsize 50331648\n"), 3, 0)
	if _, err := Unpack(small, MaxProof); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated for two lies", used)
	}
}

// The difference between two consensuses gives the second one again, byte for byte.
func TestDelta(t *testing.T) {
	n, keys := testNetwork(t, 3)
	var list []*Consensus
	for i, nodes := range []int{0, 5, 12, 12, 7} {
		c := crowd(t, n, keys[:2+i%2], nodes, someEpoch+uint64(i), Previous{})
		list = append(list, c)
	}
	// One with unknown lines.
	odd, err := ParseConsensus(bytes.ReplaceAll(list[2].Bytes(), []byte("\nversion"), []byte("\nfuture 1\nversion")))
	must(t, err)
	list = append(list, odd)
	for i, base := range list {
		for j, c := range list {
			d := c.Delta(base)
			for _, answer := range [][]byte{d, Pack(d), c.Bytes(), Pack(c.Bytes())} {
				got, err := OpenConsensus(answer, base)
				if err != nil || !bytes.Equal(got, c.Bytes()) {
					t.Fatalf("from %d to %d: %v", i, j, err)
				}
			}
			if i != j {
				_, err := OpenConsensus(d, c)
				refused(t, err, errs.NotFound, "the answer is a difference from a consensus that is not here")
			}
			_, err := OpenConsensus(d, nil)
			refused(t, err, errs.NotFound, "the answer is a difference from a consensus that is not here")
		}
	}
	// Of two that follow each other little is told.
	if d, all := list[3].Delta(list[2]), len(list[3].Bytes()); len(d) > all/3 {
		t.Errorf("a difference of %d bytes for a consensus of %d", len(d), all)
	}
}

func TestDeltaRules(t *testing.T) {
	n, keys := testNetwork(t, 1)
	base := crowd(t, n, keys, 1, someEpoch, Previous{})
	head := func(size int) string { return fmt.Sprintf("postern-delta 1\nbase %s\nsize %d\n", base.Hash(), size) }
	long := fmt.Sprintf("copy 0 %d\n", base.body)
	for _, k := range []struct{ text, public string }{
		{"postern-delta 2\n", "line 1: version of postern-delta is unknown"},
		{"postern-delta 1\nsize 1\n", "no base"},
		{head(0), "line 3: size: not a number from 1 to 16777216"},
		{head(16777217), "line 3: size: not a number from 1 to 16777216"},
		{head(5), "the difference is not as long as it says"},
		{head(5) + "copy 0 6\n", "line 4: copy: more than the size"},
		{head(5) + "copy 0\n", "line 4: neither copy nor add"},
		{head(5) + "copy\n", "line 4: neither copy nor add"},
		{head(5) + "critical copy 0 5\n", "line 4: neither copy nor add"},
		{head(5) + "move 0 5\n", "line 4: neither copy nor add"},
		{head(base.body+1) + fmt.Sprintf("copy 1 %d\n", base.body), fmt.Sprintf("line 4: copy: not a number from 1 to %d", base.body-1)},
		{head(base.body+1) + fmt.Sprintf("copy %d 1\n", base.body+1), fmt.Sprintf("line 4: copy: not a number from 0 to %d", base.body)},
		{head(base.body+1) + long + long, "line 5: copy: more than the size"},
		{head(5) + "add 6\nabcdef", "line 4: add: more than the size"},
		{head(5) + "add 5\nabcd", "line 4: add: not a number from 1 to 4"},
		{head(5) + "add 5\nabcdefg", "line 5: no end of line"},
	} {
		_, err := OpenConsensus([]byte(k.text), base)
		refused(t, err, errs.KindOf(err), k.public)
		if k := errs.KindOf(err); k != errs.Invalid && k != errs.Unsupported {
			t.Errorf("%v", err)
		}
	}
	if got, err := OpenConsensus([]byte(head(5)+"add 2\nzz"+"copy 0 3\n"), base); err != nil || string(got) != "zzpos" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := OpenConsensus(make([]byte, MaxConsensus+1), nil)
	refused(t, err, errs.TooLarge, "the document is too large")
}

// The keys that two consensuses share are one in memory, and the document is the same.
func TestParseConsensusAfter(t *testing.T) {
	n, keys := testNetwork(t, 1)
	first := crowd(t, n, keys, 8, someEpoch, Previous{})
	next := crowd(t, n, keys, 9, someEpoch+24, first.Name())
	again, err := ParseConsensusAfter(next.Bytes(), first)
	must(t, err)
	shared, fresh := 0, 0
	for i := range again.Nodes {
		e, old := &again.Nodes[i], first.Find(again.Nodes[i].ID)
		for j, k := range e.Keys {
			if !bytes.Equal(k.Key.Bytes(), next.Nodes[i].Keys[j].Key.Bytes()) {
				t.Error("another key than the document says")
			}
			if old != nil && slices.ContainsFunc(old.Keys, func(o PacketKey) bool { return o.Key == k.Key }) {
				shared++
			} else {
				fresh++
			}
		}
	}
	if shared != 8*4 || fresh != 8+5 {
		t.Errorf("%d keys are shared, %d are not", shared, fresh)
	}
	// A key of another time or another node is not taken for it.
	lie := *first
	lie.Nodes = slices.Clone(first.Nodes)
	for i := range lie.Nodes {
		lie.Nodes[i].Keys = slices.Clone(lie.Nodes[i].Keys)
		for j := range lie.Nodes[i].Keys {
			lie.Nodes[i].Keys[j].Key = crowdPacketKey(t, "another")
		}
	}
	honest, err := ParseConsensusAfter(next.Bytes(), &lie)
	must(t, err)
	for i := range honest.Nodes {
		for j, k := range honest.Nodes[i].Keys {
			if k.Key.ID() != next.Nodes[i].Keys[j].Key.ID() {
				t.Fatal("a key was taken that the document does not hold")
			}
		}
	}
}

func FuzzOpenConsensus(f *testing.F) {
	n, keys := testNetwork(f, 1)
	base := crowd(f, n, keys, 1, someEpoch, Previous{})
	next := crowd(f, n, keys, 2, someEpoch+1, base.Name())
	f.Add(next.Delta(base))
	f.Add(Pack(next.Delta(base)))
	f.Add(Pack([]byte("postern-consensus 1\n")))
	f.Add(fmt.Appendf(nil, "postern-delta 1\nbase %s\nsize 8\ncopy 3 5\nadd 3\nabc", base.Hash()))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := OpenConsensus(b, base)
		if err == nil && len(got) > MaxConsensus {
			t.Fatal("longer than a consensus may be")
		}
		if z := Deflated(b); z != nil && !bytes.HasSuffix(b, z) {
			t.Fatal("deflated bytes that are not in the document")
		}
	})
}

// A difference that was once written, packed, still opens; whoever packs may do it otherwise.
func TestTransferGolden(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", "golden", name))
		must(t, err)
		return b
	}
	base, err := ParseConsensus(read("consensus.txt"))
	must(t, err)
	next := plain(someEpoch+1, base.Name())
	next.Random, next.Nodes = Value{7}, slices.Clone(base.Nodes[1:])
	next.Nodes[0].Score = 17
	_, keys := testNetwork(t, 3)
	next = signedBy(t, nil, next, keys...)
	delta := next.Delta(base)
	if *rewrite {
		must(t, os.WriteFile(filepath.Join("testdata", "golden", "answer-delta.bin"), delta, 0o644))
		must(t, os.WriteFile(filepath.Join("testdata", "golden", "answer-packed.bin"), Pack(delta), 0o644))
	}
	if !bytes.Equal(read("answer-delta.bin"), delta) {
		t.Error("the difference is written otherwise now")
	}
	for _, name := range []string{"answer-delta.bin", "answer-packed.bin"} {
		if got, err := OpenConsensus(read(name), base); err != nil || !bytes.Equal(got, next.Bytes()) {
			t.Errorf("%s opens as something else: %v", name, err)
		}
	}
}
