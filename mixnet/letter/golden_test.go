package letter

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"postern.email/kit/tooltest"
	"postern.email/mixnet/packet"
)

var update = flag.Bool("update", false, "write testdata/golden.json anew")

const goldenFile = "testdata/golden.json"

// golden is the file of docs/letter.md §10.
type golden struct {
	Seed    string         `json:"seed"`
	Letters []goldenLetter `json:"letters"`
	Address struct {
		Text    string `json:"text"`
		Relay   string `json:"relay"`
		Mailbox string `json:"mailbox"`
		Key     string `json:"key_sha256"`
	} `json:"address"`
	Blocks struct {
		Text  string   `json:"text"`
		Seed  string   `json:"seed"`
		Hint  string   `json:"hint"`
		Key   string   `json:"key_sha256"`
		Names []string `json:"names"`
	} `json:"blocks"`
}

type goldenLetter struct {
	Name    string   `json:"name"`
	Sealed  bool     `json:"sealed"`
	Bodies  []string `json:"bodies"`
	ID      string   `json:"id"`
	Date    int64    `json:"date"`
	Sender  string   `json:"sender"`
	From    string   `json:"from"`
	Content string   `json:"content_sha256"`
	Length  int      `json:"content_length"`

	Classical bool `json:"classical,omitempty"` // sealed to the X25519 half of the key
}

func hexOf[T ~[]byte](b T) string { return hex.EncodeToString(b) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	must(t, err)
	return b
}

func writeGolden(t *testing.T) {
	seed := sha256.Sum256([]byte("golden"))
	k, err := NewPrivateKey(seed[:])
	must(t, err)
	g := golden{Seed: hexOf(seed[:])}
	add := func(name string, sealed bool, id ID, bodies [][]byte, m Message) {
		l := goldenLetter{Name: name, Sealed: sealed, ID: hexOf(id[:]), Sender: m.Sender, Length: len(m.Content)}
		sum := sha256.Sum256(m.Content)
		l.Content = hexOf(sum[:])
		if !m.Date.IsZero() {
			l.Date = m.Date.Unix()
		}
		if m.Signer != nil {
			from := m.Signer.Public().ID()
			l.From = hexOf(from[:])
		}
		for _, b := range bodies {
			l.Bodies = append(l.Bodies, hexOf(b))
		}
		g.Letters = append(g.Letters, l)
	}
	room := sealLen + MinPart // small, for the file's sake
	text := []byte(strings.Repeat("A letter whose text says the same again and again, a little. ", 20))
	for _, v := range []struct {
		name string
		m    Message
		o    Options
		lost []int
	}{
		{"anonymous, fills a packet", Message{Content: []byte("Hello.\r\n")}, Options{Room: RoomACK}, nil},
		{"compressed, with a date", Message{Content: text, Date: now}, Options{Room: room}, nil},
		{"signed", Message{Content: []byte("From me.\r\n"), Date: now, Signer: testSigner(t, "golden"), Sender: "anna@example.org"}, Options{Room: room}, nil},
		{"empty", Message{}, Options{Room: room}, nil},
		{"several, not coded", Message{Content: noise(3000)}, Options{Room: room}, nil},
		{"two chunks, as many lost as may be", Message{Content: noise(17 * 1024)}, Options{Room: room, Coded: true}, []int{0, 3, 11, 12, 17, 23}},
	} {
		s, err := Seal(k.Public(), v.m, v.o)
		must(t, err)
		for i := len(v.lost) - 1; i >= 0; i-- {
			s.Bodies = append(s.Bodies[:v.lost[i]:v.lost[i]], s.Bodies[v.lost[i]+1:]...)
		}
		add(v.name, true, s.ID, s.Bodies, v.m)
	}
	for _, v := range classicalLetters(t) {
		s, err := Seal(k.Public().ClassicalHalf(), v.m, v.o)
		must(t, err)
		add(v.name, true, s.ID, s.Bodies, v.m)
		g.Letters[len(g.Letters)-1].Classical = true
	}
	for name, n := range map[string]int{"not sealed, one fragment": 100, "not sealed, coded, one lost": 3000} {
		id, list, err := Split(noise(n), Options{Room: HeaderLen + MinPart, Coded: true}, bytes.NewReader(seed[:]))
		must(t, err)
		if len(list) > 1 {
			list = list[1:]
		}
		add(name, false, id, list, Message{Content: noise(n)})
	}
	a := Address{Relay: packet.ID{1, 2, 3}, Mailbox: packet.ID{4, 5, 6}, Key: k.Public()}
	g.Address.Text, g.Address.Relay, g.Address.Mailbox, g.Address.Key = a.String(), hexOf(a.Relay[:]), hexOf(a.Mailbox[:]), hexOf(a.Key.name[:])
	blocks, blockSeed, hint := testBlocks(t, 2)
	for _, b := range blocks {
		text, err := b.MarshalText()
		must(t, err)
		g.Blocks.Text += string(text)
		name := b.SURB.Name()
		g.Blocks.Names = append(g.Blocks.Names, hexOf(name[:]))
	}
	g.Blocks.Seed, g.Blocks.Hint, g.Blocks.Key = hexOf(blockSeed[:]), hexOf(hint[:]), hexOf(blocks[0].Key.name[:])
	out, err := json.MarshalIndent(g, "", " ")
	must(t, err)
	must(t, os.MkdirAll("testdata", 0o755))
	must(t, os.WriteFile(goldenFile, append(out, '\n'), 0o644))
}

// goldenCase is a letter to be sealed.
type goldenCase struct {
	name string
	m    Message
	o    Options
}

func classicalLetters(t *testing.T) []goldenCase {
	room := Options{Room: sealLen + MinPart}
	return []goldenCase{
		{"to a classical key", Message{Content: []byte("Hello.\r\n")}, room},
		{"to a classical key, signed, several", Message{Content: noise(4000), Date: now, Signer: testSigner(t, "golden"), Sender: "anna@example.org"}, room},
	}
}

// testBlocks makes reply blocks of one set, through hops that nobody else has.
func testBlocks(t testing.TB, n int) (out []*ReplyBlock, seed packet.Seed, hint Hint) {
	t.Helper()
	seed, hint = packet.Seed(sha256.Sum256([]byte("seed of blocks"))), Hint{1, 2, 3}
	key, err := ReplyKey(&seed, hint)
	must(t, err)
	var hops []packet.Hop
	for i := range 4 {
		s := sha256.Sum256([]byte{byte(i)})
		k, err := packet.NewPrivateKey(s[:])
		must(t, err)
		hops = append(hops, packet.Hop{Node: s, Key: k.Public()})
	}
	for i := range n {
		b, _, err := packet.NewSURB(hops, packet.ID{9}, &seed, now.Add(48*time.Hour), bytes.NewReader(noise(200 + i)[i:]))
		must(t, err)
		out = append(out, &ReplyBlock{SURB: b, Hint: hint, Key: key.Public()})
	}
	return out, seed, hint
}

// TestGolden: what this program wrote once it still reads, and it says what docs/letter.md
// says of it.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	raw, err := os.ReadFile(goldenFile)
	must(t, err)
	var g golden
	must(t, json.Unmarshal(raw, &g))
	k, err := NewPrivateKey(unhex(t, g.Seed))
	must(t, err)
	if len(g.Letters) < 10 {
		t.Fatalf("%d letters", len(g.Letters))
	}
	for _, v := range g.Letters {
		a := NewAssembler(Limits{})
		var got *Letter
		for _, b := range v.Bodies {
			f, err := ParseFragment(unhex(t, b))
			if v.Sealed {
				f, err = Open(k, unhex(t, b))
			}
			must(t, err)
			l, err := a.Add(f, now)
			must(t, err)
			if l != nil {
				got = l
			}
		}
		if got == nil {
			t.Fatalf("%s: not whole", v.Name)
		}
		sum := sha256.Sum256(got.Content)
		from, date := "", int64(0)
		if got.From != nil {
			id := got.From.ID()
			from = hexOf(id[:])
		}
		if !got.Date.IsZero() {
			date = got.Date.Unix()
		}
		if hexOf(got.ID[:]) != v.ID || hexOf(sum[:]) != v.Content || got.Classical(k) != v.Classical || len(got.Content) != v.Length || from != v.From || got.Sender != v.Sender || date != v.Date {
			t.Errorf("%s: %+v", v.Name, got)
		}
	}
	a, err := ParseAddress(g.Address.Text)
	must(t, err)
	if hexOf(a.Relay[:]) != g.Address.Relay || hexOf(a.Mailbox[:]) != g.Address.Mailbox || hexOf(a.Key.name[:]) != g.Address.Key || a.String() != g.Address.Text {
		t.Error("address")
	}
	blocks, err := ParseReplyBlocks([]byte(g.Blocks.Text))
	must(t, err)
	seed := packet.Seed(unhex(t, g.Blocks.Seed))
	key, err := ReplyKey(&seed, Hint(unhex(t, g.Blocks.Hint)))
	must(t, err)
	for i, b := range blocks {
		name := b.SURB.Name()
		if hexOf(name[:]) != g.Blocks.Names[i] || hexOf(b.Hint[:]) != g.Blocks.Hint || !b.Key.Equal(key.Public()) || hexOf(b.Key.name[:]) != g.Blocks.Key {
			t.Errorf("block %d", i)
		}
	}
	if len(blocks) != 2 {
		t.Errorf("%d blocks", len(blocks))
	}
}

// TestIndependentDecoder: an implementation in another language, written from docs/letter.md,
// reads the vectors, and notices when one says something else.
func TestIndependentDecoder(t *testing.T) {
	name := tooltest.Python(t)
	decode := func(file string) ([]byte, error) {
		return exec.CommandContext(t.Context(), name, "-B", "decoder/check.py", file).CombinedOutput()
	}
	if out, err := decode(goldenFile); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(goldenFile)
	must(t, err)
	changed := bytes.Replace(raw, []byte(`"content_length": 3000`), []byte(`"content_length": 3001`), 1)
	if bytes.Equal(raw, changed) {
		t.Fatal("nothing was changed")
	}
	file := t.TempDir() + "/changed.json"
	must(t, os.WriteFile(file, changed, 0o600))
	if out, err := decode(file); err == nil || !bytes.Contains(out, []byte("content_length")) {
		t.Errorf("a wrong vector passes: %v\n%s", err, out)
	}
}
