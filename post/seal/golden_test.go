package seal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	crvfs "github.com/cockroachdb/pebble/v2/vfs"

	"postern.email/kit/passhash"
	"postern.email/mail"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/golden.json anew: only for a new format beside the old ones")

// hexBytes are bytes that are written in hex.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// golden is one file of decode vectors. Encoding draws random numbers, also inside
// the standard library, so only what was once written can be fixed.
type golden struct {
	RootKey    hexBytes
	Name       string
	NameKey    hexBytes
	NameShard  int
	RootSealed []struct{ Purpose, AAD, Plain, Sealed hexBytes }

	AccountID, Seed, Public hexBytes
	Password                string
	Wrapped                 hexBytes
	RecordPurpose           string
	RecordAAD, RecordPlain  hexBytes
	Record                  hexBytes

	Chain, Encap hexBytes
	Mails        []struct {
		Index   uint16
		Key     hexBytes
		Part    Part
		Chunk   uint32
		Plain   hexBytes
		Sealed  hexBytes
		PadOnly hexBytes // Pad(Plain)
	}

	Passphrase string
	RootFile   string // of RootKey, under Passphrase
	KeyFile    string
	NodeKey    hexBytes
}

const goldenFile = "testdata/golden.json"

func writeGolden(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g := golden{RootKey: bytes.Repeat([]byte{0x11}, KeyLen), Name: "alice@example.org", Password: "correct horse", RecordPurpose: "folder",
		RecordAAD: []byte("7"), RecordPlain: []byte("Letters"), Passphrase: "a long passphrase", NodeKey: bytes.Repeat([]byte{0x22}, KeyLen)}
	root, err := NewRoot(g.RootKey, nil)
	must(err)
	a := mail.Address{Local: "alice", Domain: "example.org"}
	k := root.NameKey(a)
	g.NameKey, g.NameShard = k[:], int(root.NameShard(a))
	for _, p := range Purposes() {
		s, err := root.Seal(p.Purpose, []byte("aad"), []byte("plain"))
		must(err)
		g.RootSealed = append(g.RootSealed, struct{ Purpose, AAD, Plain, Sealed hexBytes }{hexBytes(p.Name), hexBytes("aad"), hexBytes("plain"), s})
	}
	o := testKey(t, 0x33)
	id := o.ID()
	g.AccountID, g.Seed, g.Public = id[:], o.seed[:], hexBytes(o.Public())
	g.Wrapped, err = o.Wrap(g.Password, passhash.Cost{Time: 1, Memory: 8, Threads: 1})
	must(err)
	g.Record, err = o.SealRecord(g.RecordPurpose, g.RecordAAD, g.RecordPlain)
	must(err)
	c := NewChains(ChainOptions{})
	for i := range MaxChainMails {
		s, err := c.Next(id, o.Public())
		must(err)
		g.Chain, g.Encap = s.Chain[:], s.Encap
		if i != 0 && i != 1 && i != checkpointEvery && i != MaxChainMails-1 {
			continue
		}
		m := g.Mails
		plain := bytes.Repeat([]byte{byte(i)}, 100)
		sealed, err := s.Key.SealPart(PartBody, uint32(i), plain)
		must(err)
		m = append(m, struct {
			Index   uint16
			Key     hexBytes
			Part    Part
			Chunk   uint32
			Plain   hexBytes
			Sealed  hexBytes
			PadOnly hexBytes
		}{s.Index, s.Key.Bytes(), PartBody, uint32(i), plain, sealed, Pad(plain)})
		g.Mails = m
	}
	fs := crvfs.NewMem()
	must(putRoot(ctx, fs, "root", cheapPhrase(g.Passphrase), g.RootKey, root.rand))
	b, err := readSmall(fs, "root")
	must(err)
	g.RootFile, g.KeyFile = string(b), string(encodeNodeKey(nodeKey(g.NodeKey)))
	out, err := json.MarshalIndent(g, "", " ")
	must(err)
	must(os.MkdirAll("testdata", 0o755))
	must(os.WriteFile(goldenFile, append(out, '\n'), 0o644))
}

// What was once written can be opened by every later version.
func TestGolden(t *testing.T) {
	if *rewrite {
		writeGolden(t)
	}
	b, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	root, err := NewRoot(g.RootKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := mail.Address{Local: "alice", Domain: "example.org"}
	if k := root.NameKey(a); !bytes.Equal(k[:], g.NameKey) || int(root.NameShard(a)) != g.NameShard {
		t.Error("the keyed hash of names has changed")
	}
	byName := map[string]Purpose{}
	for _, p := range Purposes() {
		byName[p.Name] = p.Purpose
	}
	if len(g.RootSealed) == 0 || len(g.Mails) == 0 {
		t.Fatal("the vectors are empty")
	}
	for _, v := range g.RootSealed {
		p, ok := byName[string(v.Purpose)]
		if !ok {
			t.Errorf("purpose %s is gone", v.Purpose)
			continue
		}
		if got, err := root.Open(p, v.AAD, v.Sealed); err != nil || !bytes.Equal(got, v.Plain) {
			t.Errorf("%s: %q %v", v.Purpose, got, err)
		}
	}
	o, err := FromSeed(AccountID(g.AccountID), g.Seed, nil)
	if err != nil || !bytes.Equal(o.Public(), g.Public) {
		t.Fatalf("the public key of a seed has changed: %v", err)
	}
	w, err := ParseWrapped(g.Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Unwrap(o.ID(), o.Public(), g.Password); err != nil || !bytes.Equal(got.seed[:], g.Seed) {
		t.Errorf("unwrap: %v", err)
	}
	if got, err := o.OpenRecord(g.RecordPurpose, g.RecordAAD, g.Record); err != nil || !bytes.Equal(got, g.RecordPlain) {
		t.Errorf("record: %q %v", got, err)
	}
	for _, m := range g.Mails {
		k, err := o.MailKey(ChainID(g.Chain), g.Encap, m.Index)
		if err != nil || !bytes.Equal(k.Bytes(), m.Key) {
			t.Errorf("mail %d: another key, %v", m.Index, err)
			continue
		}
		if got, err := k.OpenPart(m.Part, m.Chunk, m.Sealed); err != nil || !bytes.Equal(got, m.Plain) {
			t.Errorf("mail %d: %v", m.Index, err)
		}
		if got, err := Unpad(m.PadOnly); err != nil || !bytes.Equal(got, m.Plain) || !bytes.Equal(Pad(m.Plain), m.PadOnly) {
			t.Errorf("padding of mail %d: %v", m.Index, err)
		}
	}
	fs := crvfs.NewMem()
	if err := writePrivate(fs, "root", []byte(g.RootFile)); err != nil {
		t.Fatal(err)
	}
	if got, err := OpenRoot(ctx, fs, "root", cheapPhrase(g.Passphrase), nil); err != nil || !sameRoot(t, root, got) {
		t.Errorf("root key's file: %v", err)
	}
	if k, err := decodeNodeKey([]byte(g.KeyFile)); err != nil || !bytes.Equal(k[:], g.NodeKey) {
		t.Errorf("node key's file: %v", err)
	}
}
