package content

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// owner is the key of a reply address.
func owner() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(random(7, ed25519.SeedSize)) }

var feedRelay = packet.ID{8}

// feed is one with n blocks.
func feed(t testing.TB, n int) *Feed {
	f := &Feed{Owner: owner().Public().(ed25519.PublicKey), Serial: 5, Hint: [16]byte(random(8, 16)), Key: [FeedKeyLen]byte(random(9, FeedKeyLen))}
	for range n {
		f.Blocks = append(f.Blocks, block(t))
	}
	return f
}

func signed(t testing.TB, f *Feed) []byte {
	t.Helper()
	b, err := f.Sign(feedRelay, owner())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFeed: up to four blocks fit into one query, and come out as they went in.
func TestFeed(t *testing.T) {
	for n := range MaxFeed + 1 {
		f := feed(t, n)
		b := signed(t, f)
		if _, err := NewQuery(block(t), ServiceReply, b); err != nil {
			t.Fatal(err)
		}
		got, err := ParseFeed(feedRelay, b)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Owner.Equal(f.Owner) || got.Serial != f.Serial || got.Hint != f.Hint || got.Key != f.Key || !bytes.Equal(signed(t, got), b) {
			t.Errorf("%d blocks: %+v", n, got)
		}
	}
	if name := ReplyName(owner().Public().(ed25519.PublicKey)); len(name) != ReplyNameLen || name == ReplyName(random(1, 32)) {
		t.Error(name)
	}
}

// TestFeedRefused: only the owner can feed, only the relay that was meant, and only in this form.
func TestFeedRefused(t *testing.T) {
	b := signed(t, feed(t, 2))
	_, err := ParseFeed(packet.ID{9}, b)
	wantKind(t, "another relay", err, errs.Auth)
	for i := range b {
		if i%97 != 0 && i < len(b)-ed25519.SignatureSize {
			continue
		}
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := ParseFeed(feedRelay, bad); err == nil {
			t.Fatalf("byte %d can be changed", i)
		}
	}
	for _, n := range []int{0, 1, len(b) - 1} {
		_, err := ParseFeed(feedRelay, b[:n])
		wantKind(t, "cut", err, errs.Invalid)
	}
	_, err = ParseFeed(feedRelay, append(bytes.Clone(b), 0))
	wantKind(t, "longer", err, errs.Invalid)
	// What the owner signs in another form is not taken either.
	resign := func(at int, to byte) error {
		text := bytes.Clone(b[:len(b)-ed25519.SignatureSize])
		text[at] = to
		_, err := ParseFeed(feedRelay, append(text, ed25519.Sign(owner(), feedText(feedRelay, text))...))
		return err
	}
	wantKind(t, "another number of blocks", resign(feedHead-8, 3), errs.Invalid)
	wantKind(t, "a byte that must be zero", resign(feedHead-1, 1), errs.Invalid)
	wantKind(t, "a block that is none", resign(feedHead, 0xff), errs.Invalid)
	wantKind(t, "serial zero", resign(39, 0), errs.Invalid)

	many := feed(t, MaxFeed+1)
	_, err = many.Sign(feedRelay, owner())
	wantKind(t, "five blocks", err, errs.Invalid)
	zero := feed(t, 1)
	zero.Serial = 0
	_, err = zero.Sign(feedRelay, owner())
	wantKind(t, "serial zero", err, errs.Invalid)
	other := feed(t, 1)
	_, err = other.Sign(feedRelay, ed25519.NewKeyFromSeed(random(1, 32)))
	wantKind(t, "another's key", err, errs.Invalid)
}

// TestStock: the answer.
func TestStock(t *testing.T) {
	for _, c := range []struct {
		n     uint16
		until uint64
		ok    bool
	}{{0, 0, true}, {64, 1_900_000_000, true}, {0, 1, false}, {1, 0, false}, {1, 1<<40 + 1, false}} {
		n, until, err := ParseStock(AppendStock(nil, c.n, c.until))
		if (err == nil) != c.ok || c.ok && (n != c.n || until != c.until) {
			t.Errorf("%+v: %d %d %v", c, n, until, err)
		}
	}
	_, _, err := ParseStock(make([]byte, stockLen+1))
	wantKind(t, "length", err, errs.Invalid)
}

// FuzzFeed: whatever is read is what its owner signed.
func FuzzFeed(f *testing.F) {
	f.Add(signed(f, feed(f, 0)))
	f.Add(signed(f, feed(f, 1))[:feedHead])
	f.Fuzz(func(t *testing.T, b []byte) {
		// The fuzzer cannot sign, so the signature is put under what it has.
		if len(b) >= feedHead {
			copy(b, owner().Public().(ed25519.PublicKey))
			b = append(b, ed25519.Sign(owner(), feedText(feedRelay, b))...)
		}
		if got, err := ParseFeed(feedRelay, b); err == nil {
			again, err := got.Sign(feedRelay, owner())
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("%v: it is written otherwise", err)
			}
		}
		if n, until, err := ParseStock(b); err == nil && !bytes.Equal(AppendStock(nil, n, until), b) {
			t.Errorf("%d %d", n, until)
		}
	})
}

// feedVector is a request with blocks, and what a relay reads in it. Blocks are made with fresh keys, so that
// it can only be read again, not made.
type feedVector struct {
	Relay     string        `json:"relay"`
	Owner     string        `json:"owner"`
	Name      string        `json:"name"`
	Serial    uint64        `json:"serial"`
	Hint      string        `json:"hint"`
	KeySHA256 string        `json:"key_sha256"`
	Blocks    []blockVector `json:"blocks"`
	Request   []byte        `json:"request"` // base64
}

type blockVector struct {
	Name    string `json:"name"`
	Expires int64  `json:"expires"`
	SHA256  string `json:"sha256"`
}

func vectorOf(t testing.TB, relay packet.ID, request []byte) feedVector {
	t.Helper()
	f, err := ParseFeed(relay, request)
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(f.Key[:])
	v := feedVector{Relay: hex.EncodeToString(relay[:]), Owner: hex.EncodeToString(f.Owner), Name: ReplyName(f.Owner), Serial: f.Serial, Hint: hex.EncodeToString(f.Hint[:]),
		KeySHA256: hex.EncodeToString(key[:]), Request: request}
	for _, b := range f.Blocks {
		raw, err := b.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		name, sum := b.Name(), sha256.Sum256(raw)
		v.Blocks = append(v.Blocks, blockVector{hex.EncodeToString(name[:]), b.Expires().Unix(), hex.EncodeToString(sum[:])})
	}
	return v
}

// TestFeedVector holds the form of a request with blocks to testdata/feed.json. WRITE_GOLDEN=1 writes it
// anew.
func TestFeedVector(t *testing.T) {
	const path = "testdata/feed.json"
	if os.Getenv("WRITE_GOLDEN") != "" {
		b, err := json.MarshalIndent(vectorOf(t, feedRelay, signed(t, feed(t, 2))), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want feedVector
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	relay, err := hex.DecodeString(want.Relay)
	if err != nil || len(relay) != len(packet.ID{}) || len(want.Blocks) != 2 {
		t.Fatalf("%d blocks, %v", len(want.Blocks), err)
	}
	if got := vectorOf(t, packet.ID(relay), want.Request); !reflect.DeepEqual(got, want) {
		t.Errorf("it reads as %+v, want %+v", got, want)
	}
	f, err := ParseFeed(packet.ID(relay), want.Request)
	if err != nil {
		t.Fatal(err)
	}
	if again := signed(t, f); !bytes.Equal(again, want.Request) { // signatures of Ed25519 are deterministic
		t.Error("what was read is written in another form")
	}
}
