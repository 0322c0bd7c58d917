package replay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"postern.email/kit/vfs"
)

var write = flag.Bool("write-golden", false, "write the golden files again: only for a new version of the format")

// golden compares a file under testdata with what the code gives.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	text := hex.Dump(got)
	if *write {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s: the format has changed", name)
	}
}

// heads are one of each kind, as they stand in the golden file.
func heads() []head {
	return []head{
		{kind: kindPacket, use: 3, key: 0x01020304, seq: 9, group: 8, id: 9, due: 1_800_000_000_123, tag: Tag{0xaa, 15: 0xbb}, next: NodeID{0xcc, 31: 0xdd}, body: 5000},
		{kind: kindTag, key: 0x01020304, seq: 10, group: 10, tag: Tag{1}},
		{kind: kindSent, seq: 11, group: 10, body: 16},
		{kind: kindEnded, key: 7, seq: 12, group: 12},
		{kind: kindEnd},
		{kind: kindMoved, use: 255, key: 1, seq: 13, group: 13, id: 4, due: -1, next: NodeID{1}, body: 1},
	}
}

// TestGolden: the plaintext of heads, the first blocks of both files, a block of tags, and a
// record as it is sealed are fixed; docs/mixlog.md describes them.
func TestGolden(t *testing.T) {
	var b []byte
	for _, h := range heads() {
		one := make([]byte, headLen)
		h.put(one)
		b = append(b, one...)
	}
	golden(t, "heads.hex", b)
	salt := [saltLen]byte{1, 2, 3}
	a, err := newAEAD(secret, salt[:])
	if err != nil {
		t.Fatal(err)
	}
	hd := header{number: 3, first: 9, acked: 7, made: 1_800_000_000_000, salt: salt}
	golden(t, "segment-header.hex", hd.block(a)[:128])
	golden(t, "tag-header.hex", tagHeader(0x01020304, salt)[:96])
	golden(t, "tag-block.hex", appendTagBlock(nil, 2, []uint64{1, 2, 1 << 63})[:64])
	k, err := newKeyState(secret, 1, salt)
	if err != nil {
		t.Fatal(err)
	}
	if f := k.fingerprint(Tag{1, 2, 3}); f != 0x9c5fcbf893fbd037 {
		t.Errorf("the fingerprint is %#x", f)
	}
	h := heads()[0]
	rec := appendRecord(nil, a, new(scratch), 17, &h, bodyOf(1, 5000))
	if len(rec) != 2*blockLen || h.blocks() != 2 {
		t.Errorf("the record has %d bytes", len(rec))
	}
	const want = "02fe7e9a03a441413dccab698007dd7c2c5c194df44ef89cb46fd73132456008"
	if sum := sha256.Sum256(rec); hex.EncodeToString(sum[:]) != want {
		t.Errorf("the record of %d bytes has the sum %x", len(rec), sum)
	}
	// And back.
	got, err := openHead(a, new(scratch), 17, rec[:sealedHead])
	if err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	body, err := openBody(a, new(scratch), 17, rec[sealedHead:][:5000+sealOverhead])
	if err != nil || !bytes.Equal(body, bodyOf(1, 5000)) {
		t.Errorf("the body: %v", err)
	}
	if _, err := openHead(a, new(scratch), 18, rec[:sealedHead]); err == nil {
		t.Error("a record opens at another place")
	}
}

// TestSecretOnDisk: nothing of a packet can be found on the disk: no tag, next hop, or packet.
func TestSecretOnDisk(t *testing.T) {
	disk := vfs.NewCrashDisk()
	l := open(t, options(disk))
	r := record(1, 1)
	copy(r.Tag[:], "TAG-CANARY-HERE!")
	copy(r.Next[:], "NEXT-HOP-CANARY")
	copy(r.Body[1000:], "BODY-CANARY-SOMEWHERE")
	l.Sent(add(t, l, r))
	add(t, l, record(1, 2))
	flush(t, l)
	for _, name := range files(t, disk, "") {
		b, err := vfs.ReadFile(disk, dir+"/"+name)
		if err != nil {
			t.Fatal(err)
		}
		for _, canary := range [][]byte{r.Tag[:], []byte("NEXT-HOP"), []byte("BODY-CANARY"), r.Body[:64]} {
			if bytes.Contains(b, canary) {
				t.Errorf("%s shows %q", name, canary)
			}
		}
	}
}

// FuzzHead: what parses is written the same.
func FuzzHead(f *testing.F) {
	for _, h := range heads() {
		b := make([]byte, headLen)
		h.put(b)
		f.Add(b)
		b = bytes.Clone(b)
		b[95] = 1
		f.Add(b)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var h head
		if h.parse(b) != nil {
			return
		}
		again := make([]byte, headLen)
		if h.put(again); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
		if n := h.blocks(); n < 1 || n > 9 {
			t.Errorf("%d blocks", n)
		}
	})
}

// FuzzTagFile: any file gives an error or a set, and what it holds is no more than the file.
func FuzzTagFile(f *testing.F) {
	good := appendTagBlock(tagHeader(1, [saltLen]byte{1}), 1, []uint64{5, 6, 7})
	f.Add(good)
	f.Add(append(bytes.Clone(good), make([]byte, 10)...))
	f.Add(make([]byte, blockLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		disk := vfs.NewCrashDisk()
		if err := vfs.WriteFileAtomic(disk, "/f", b, 0o600); err != nil {
			t.Fatal(err)
		}
		k, _, err := loadTags(disk, "/f", secret, 1)
		if (k == nil) == (err == nil) {
			t.Fatalf("%v and %v", k, err)
		}
		if k != nil && (8*k.set.n > len(b) || int(k.filed)*blockLen > len(b)) {
			t.Errorf("%d tags and %d blocks from %d bytes", k.set.n, k.filed, len(b))
		}
	})
}

// FuzzSegment: a segment that was changed anywhere opens, gives only packets that were
// added, whole, and works on.
func FuzzSegment(f *testing.F) {
	f.Add(uint32(blockLen), []byte("x"))
	f.Add(uint32(0), []byte("x"))
	f.Add(uint32(3*blockLen+100), bytes.Repeat([]byte("x"), 5000))
	f.Add(uint32(1<<20), []byte{})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		disk := vfs.NewCrashDisk()
		o := options(disk)
		l := open(t, o)
		bodies := map[uint64][]byte{}
		for n := range 4 {
			r := record(1, n)
			r.Body = r.Body[:3000+n*100]
			bodies[add(t, l, r).ID] = r.Body
		}
		l.Sent(l.Waiting()[1])
		closeLog(t, l)
		name := files(t, disk, ".log")[0]
		b, err := vfs.ReadFile(disk, dir+"/"+name)
		if err != nil {
			t.Fatal(err)
		}
		at %= uint32(len(b)) + 1
		b = append(b[:at], append(change, b[min(len(b), int(at)+len(change)):]...)...)
		if err := vfs.WriteFileAtomic(disk, dir+"/"+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		l = open(t, o)
		for _, e := range l.Waiting() {
			body, err := l.Read(e, nil)
			if err == nil && !bytes.Equal(body, bodies[e.ID]) {
				t.Errorf("packet %d has another body", e.ID)
			}
		}
		add(t, l, record(9, 1000))
		closeLog(t, l)
	})
}
