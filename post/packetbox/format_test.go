package packetbox

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"postern.email/post/seal"
)

var update = flag.Bool("update", false, "write testdata/golden.json anew: only for a new format beside the old ones")

// golden is what was once written; JSON has bytes as base64.
type golden struct {
	RootKey, Account                             []byte
	Mailbox, MailboxKey, ClientKey               []byte // the mailbox, and where the names of it and of a client lie
	MailboxShard, ClientShard                    int
	Link                                         []byte
	MailboxName, ClientName, Clients, State      []byte // records as they lie in the store
	PacketName, MarkKey, Mark, PacketKey, Packet []byte
	Reply                                        bool
	ReplyMark                                    []byte
	PayloadByte                                  byte // of which the payload consists
	StateNext                                    uint64
	StateWaiting                                 uint32
	Day                                          uint32
}

const goldenFile = "testdata/golden.json"

func writeGolden(t *testing.T) {
	t.Helper()
	w := newWorld(t)
	k, name := linkKey(3), [markLen]byte{4, 5}
	m := w.b.Mailbox(anna)
	mp, ms := w.root.MixPlace(nameMailbox, m)
	cp, cs := w.root.MixPlace(nameClient, k)
	mark := w.root.PacketMark(anna, name)
	g := golden{RootKey: bytes.Repeat([]byte{7}, seal.KeyLen), Account: anna[:], Mailbox: m[:], MailboxKey: nameKey(nameMailbox, mp), ClientKey: nameKey(nameClient, cp),
		MailboxShard: int(ms), ClientShard: int(cs), Link: k[:], State: state{9, 3}.encode(), StateNext: 9, StateWaiting: 3, Day: 20000,
		PacketName: name[:], MarkKey: markKey(anna, mark), Mark: encodeMark(20000), PacketKey: packetKey(anna, 258), Reply: true, ReplyMark: bytes.Repeat([]byte{6}, markLen), PayloadByte: 8}
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	g.MailboxName, g.ClientName = must(w.b.sealName(nameMailbox, mp, anna)), must(w.b.sealName(nameClient, cp, anna))
	g.Clients = must(w.root.Seal(seal.PurposeMixClient, anna[:], encodeClients([]Client{{k, 20000}})))
	p := Packet{Reply: true, Mark: [markLen]byte(g.ReplyMark), Payload: bytes.Repeat([]byte{8}, PayloadLen)}
	g.Packet = must(w.b.sealPacket(anna, &p, g.Day))
	b := must(json.MarshalIndent(g, "", " "))
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestGolden: what was once written can be read by every later version, and found again.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	raw, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	root, err := seal.NewRoot(g.RootKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &Boxes{o: Options{Root: root}}
	id := seal.AccountID(g.Account)
	if m := b.Mailbox(id); !bytes.Equal(m[:], g.Mailbox) {
		t.Error("the mailbox of an account has changed")
	}
	for kind, x := range map[byte]struct {
		name, key, record []byte
		shard             int
	}{nameMailbox: {g.Mailbox, g.MailboxKey, g.MailboxName, g.MailboxShard}, nameClient: {g.Link, g.ClientKey, g.ClientName, g.ClientShard}} {
		place, shard := root.MixPlace(kind, [KeyLen]byte(x.name))
		if !bytes.Equal(nameKey(kind, place), x.key) || int(shard) != x.shard {
			t.Errorf("%c: the place of a name has changed", kind)
		}
		if got, err := b.openName(kind, place, x.record); err != nil || got != id {
			t.Errorf("%c: %v %v", kind, got, err)
		}
	}
	plain, err := root.Open(seal.PurposeMixClient, id[:], g.Clients)
	if err != nil {
		t.Fatal(err)
	}
	list, err := decodeClients(plain)
	if err != nil || len(list) != 1 || !bytes.Equal(list[0].Key[:], g.Link) || list[0].day != g.Day {
		t.Errorf("%v %v", list, err)
	}
	if st, err := decodeState(g.State); err != nil || st.next != g.StateNext || st.waiting != g.StateWaiting || !bytes.Equal(st.encode(), g.State) {
		t.Errorf("%v %v", st, err)
	}
	if day, err := decodeMark(g.Mark); err != nil || day != g.Day || !bytes.Equal(encodeMark(day), g.Mark) {
		t.Errorf("%v %v", day, err)
	}
	if m := root.PacketMark(id, [markLen]byte(g.PacketName)); !bytes.Equal(markKey(id, m), g.MarkKey) {
		t.Error("the mark of a packet's name has changed")
	}
	n, ok := number(g.PacketKey)
	if !ok || n != 258 || !bytes.Equal(packetKey(id, n), g.PacketKey) {
		t.Error(n, ok)
	}
	it, day, err := b.openPacket(id, n, g.Packet)
	if err != nil || it.Reply != g.Reply || day != g.Day || !bytes.Equal(it.Mark[:], g.ReplyMark) || !bytes.Equal(it.Payload, bytes.Repeat([]byte{g.PayloadByte}, PayloadLen)) {
		t.Errorf("%v %d %v", it.Reply, day, err)
	}
}

// FuzzRecords: no record makes a reader fail in any other way than with Corrupt, and what is
// read is written the same way.
func FuzzRecords(f *testing.F) {
	f.Add(state{2, 1}.encode())
	f.Add(encodeMark(7))
	f.Add(encodeClients([]Client{{linkKey(1), 7}, {linkKey(2), 8}}))
	f.Add([]byte{})
	root, err := seal.NewRoot(make([]byte, seal.KeyLen), nil)
	if err != nil {
		f.Fatal(err)
	}
	b := &Boxes{o: Options{Root: root}}
	f.Fuzz(func(t *testing.T, v []byte) {
		if st, err := decodeState(v); err == nil && !bytes.Equal(st.encode(), v) {
			t.Error("state")
		}
		if d, err := decodeMark(v); err == nil && !bytes.Equal(encodeMark(d), v) {
			t.Error("mark")
		}
		if l, err := decodeClients(v); err == nil && !bytes.Equal(encodeClients(l), v) {
			t.Error("clients")
		}
		if _, _, err := b.openPacket(anna, 1, v); kindOf(err) != "corrupt" {
			t.Error(err)
		}
		if _, err := b.openName(nameClient, [placeLen]byte{}, v); kindOf(err) != "corrupt" {
			t.Error(err)
		}
		// The same inside a seal.
		sealed, err := root.Seal(seal.PurposeMixPacket, anna[:], v)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.openPacket(anna, 1, sealed); err != nil && kindOf(err) != "corrupt" {
			t.Error(err)
		}
	})
}
