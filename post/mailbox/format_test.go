package mailbox

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postern.email/post/blob"
	"postern.email/post/seal"
)

var update = flag.Bool("update", false, "write the golden files")

// goldens are fixed values of every readable and sealed format of this package.
func goldens() map[string][]byte {
	st := newBoxState(7, 9)
	st.uidNext, st.highest, st.messages, st.unseen, st.deleted, st.size = 300, 1000, 3, 2, 1, 123456
	st.recent, st.tail, st.tombs, st.tombFloor, st.dirtyFloor = 290, 128, 5, 17, 900
	st.dirty = []dirtyPage{{1, 950}, {128, 1000}}
	c := counters{nextMid: 1 << 40, nextBox: 6, nextSeries: 8, nextUIDValidity: 1 << 30, folders: 5, used: 1 << 33, limit: 500 << 20}
	head := messageHead{chain: seal.ChainID{1, 2, 3}, index: 1023, stored: 4096}
	large := head
	large.blob, large.name = true, blob.Name{0xaa, 0xbb}
	sum := summary{size: 10_000, date: time.Unix(1_772_366_400, 0).In(time.FixedZone("", -5*3600-1800)),
		blobKey: bytes.Repeat([]byte{7}, seal.KeyLen), header: []byte("Subject: x\r\n\r\n"), structure: []byte{1, 2, 3}}
	dated := sum
	dated.saved = time.Unix(1_772_366_403, 0).UTC()
	run := savedRun{at: dated.saved, first: 300, count: 20_000}
	folder := folderRec{name: "Ärger/x", use: `\Sent`, subscribed: true, kind: folderNoSelect}
	return map[string][]byte{
		"page":       encodePage(goldenRows()),
		"state":      st.encode(),
		"counters":   c.encode(),
		"message":    encodeMessage(&head, []byte("sealed")),
		"blobhead":   encodeMessage(&large, []byte("sealed")),
		"summary":    sum.encode(), // as versions before the save date wrote it
		"summary2":   dated.encode(),
		"saved":      run.encode(),
		"folder":     folder.encode(),
		"tombstones": encodeTombstone([]uint32{1, 2, 300, 1<<32 - 1}),
		"strings":    encodeStrings([]string{"$Forwarded", "x"}),
		"metadata":   encodeMetadata([]MetadataEntry{{"/private/a", []byte("b")}}),
		"count":      encodeCount(300),
	}
}

func goldenRows() []Entry {
	return []Entry{
		{UID: 5, Mid: 9, ModSeq: 100, Flags: Seen | HasKeywords, Bucket: 16, Hour: 492_000},
		{UID: 6, Mid: 3, ModSeq: 20, Flags: Deleted, Bucket: 21, Hour: 491_000},
		{UID: 1<<32 - 1, Mid: 1 << 60, ModSeq: 1 << 62, Flags: 0, Bucket: 60, Hour: 1<<32 - 1},
	}
}

// TestGolden: what was once written can be read by every later version, to the byte.
func TestGolden(t *testing.T) {
	for name, b := range goldens() {
		path := filepath.Join("testdata", "golden", name+".hex")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(hex.EncodeToString(b)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: is %x, was %x", name, b, want)
		}
		decodeAny(t, name, want)
	}
	rows, _, err := decodePage(nil, goldens()["page"])
	if err != nil || !slices.Equal(rows, goldenRows()) {
		t.Errorf("page: %+v, %v", rows, err)
	}
	s, err := decodeSummary(goldens()["summary"])
	if _, zone := s.date.Zone(); err != nil || zone != -5*3600-1800 || s.date.Unix() != 1_772_366_400 {
		t.Errorf("summary: %v, %v", s.date, err)
	}
	if !s.saved.IsZero() {
		t.Errorf("a summary without a save date has %v", s.saved)
	}
	if s, err = decodeSummary(goldens()["summary2"]); err != nil || s.saved.Unix() != 1_772_366_403 || s.date.Unix() != 1_772_366_400 {
		t.Errorf("summary2: %v, %v", s, err)
	}
}

// decodeAny decodes one format and encodes it again; what was accepted must come back
// to the byte, so that no record has two forms.
func decodeAny(t *testing.T, name string, b []byte) {
	t.Helper()
	var again []byte
	var err error
	switch name {
	case "page":
		var rows []Entry
		if rows, _, err = decodePage(nil, b); err == nil {
			again = encodePage(rows)
		}
	case "state":
		var s *boxState
		if s, err = decodeState(b); err == nil {
			again = s.encode()
		}
	case "counters":
		var c counters
		if c, err = decodeCounters(b); err == nil {
			again = c.encode()
		}
	case "message", "blobhead":
		var h messageHead
		var sum []byte
		if h, sum, err = decodeMessage(b); err == nil {
			again = encodeMessage(&h, sum)
		}
	case "summary", "summary2":
		var s summary
		if s, err = decodeSummary(b); err == nil {
			again = s.encode()
		}
	case "saved":
		var s savedRun
		if s, err = decodeSaved(b); err == nil {
			again = s.encode()
		}
	case "folder":
		var f folderRec
		if f, err = decodeFolder(b); err == nil {
			again = f.encode()
		}
	case "tombstones":
		var u []uint32
		if u, err = decodeTombstone(nil, b); err == nil {
			again = encodeTombstone(u)
		}
	case "strings":
		var l []string
		if l, err = decodeStrings(b, MaxBoxKeywords, MaxKeyword); err == nil {
			again = encodeStrings(l)
		}
	case "metadata":
		var l []MetadataEntry
		if l, err = decodeMetadata(b); err == nil {
			again = encodeMetadata(l)
		}
	case "count":
		var n uint64
		if n, err = decodeCount(b); err == nil {
			again = encodeCount(n)
		}
	default:
		t.Fatalf("no decoder for %q", name)
	}
	if err == nil && !bytes.Equal(again, b) {
		t.Fatalf("%s: %x was read and is written as %x", name, b, again)
	}
}

// FuzzDecode: no record, however damaged, makes a decoder panic or is read in two ways.
func FuzzDecode(f *testing.F) {
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range goldens() {
			if !yield(n) {
				return
			}
		}
	})
	for i, n := range names {
		f.Add(uint8(i), goldens()[n])
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		decodeAny(t, names[int(which)%len(names)], b)
	})
}

// FuzzRows: the fast reader gives the same rows as the careful one.
func FuzzRows(f *testing.F) {
	f.Add(goldens()["page"])
	f.Fuzz(func(t *testing.T, b []byte) {
		want, _, err := decodePage(nil, b)
		if err != nil {
			return
		}
		var got []Entry
		for r := openRows(b); r.next(); {
			got = append(got, r.cur)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("rows %+v, want %+v", got, want)
		}
	})
}

// FuzzCleanName: what is accepted is in its final form, and within the limits.
func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"inbox", "a/b/", "A\u0308", "INBOX/x", "\u1e9b\u0323"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := CleanName(s)
		if err != nil {
			return
		}
		again, err := CleanName(name)
		if err != nil || again != name || name == "" || len(name) > MaxFolderName {
			t.Fatalf("%q became %q, then %q: %v", s, name, again, err)
		}
	})
}

// TestDecodersRefuse: every truncation of every format is refused, and other versions.
func TestDecodersRefuse(t *testing.T) {
	for name, b := range goldens() {
		for n := range len(b) {
			if name == "message" || name == "blobhead" {
				if _, sum, err := decodeMessage(b[:n]); err == nil && len(sum) >= len("sealed") {
					t.Errorf("%s cut to %d bytes is read", name, n)
				}
				continue
			}
			if decodes(name, b[:n]) {
				t.Errorf("%s cut to %d bytes is read", name, n)
			}
		}
		other := slices.Clone(b)
		other[0]++
		if decodes(name, other) {
			t.Errorf("%s of another version is read", name)
		}
		if name != "message" && name != "blobhead" && decodes(name, append(slices.Clone(b), 0)) {
			t.Errorf("%s with a byte behind it is read", name)
		}
	}
}

func decodes(name string, b []byte) bool {
	var err error
	switch name {
	case "page":
		_, _, err = decodePage(nil, b)
	case "state":
		_, err = decodeState(b)
	case "counters":
		_, err = decodeCounters(b)
	case "message", "blobhead":
		_, _, err = decodeMessage(b)
	case "summary", "summary2":
		_, err = decodeSummary(b)
	case "saved":
		_, err = decodeSaved(b)
	case "folder":
		_, err = decodeFolder(b)
	case "tombstones":
		_, err = decodeTombstone(nil, b)
	case "strings":
		_, err = decodeStrings(b, MaxBoxKeywords, MaxKeyword)
	case "metadata":
		_, err = decodeMetadata(b)
	case "count":
		_, err = decodeCount(b)
	}
	return err == nil
}

// TestPageRoundTrip: pages of any rows come back.
func TestPageRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, pageEntries).Draw(t, "n")
		rows := make([]Entry, n)
		uid := uint64(0)
		for i := range rows {
			uid += rapid.Uint64Range(1, (1<<32-1-uid-uint64(n-i))/2+1).Draw(t, "step")
			rows[i] = Entry{UID: uint32(uid), Mid: rapid.Uint64().Draw(t, "mid"), ModSeq: rapid.Uint64().Draw(t, "modseq"),
				Flags: Flags(rapid.Byte().Draw(t, "flags")), Bucket: rapid.Byte().Draw(t, "bucket"), Hour: rapid.Uint32().Draw(t, "hour")}
		}
		b := encodePage(rows)
		got, _, err := decodePage(nil, b)
		if err != nil || !reflect.DeepEqual(got, rows) || len(b) > 40+n*maxRow {
			t.Fatalf("%v\n%+v\n%+v", err, got, rows)
		}
	})
}
