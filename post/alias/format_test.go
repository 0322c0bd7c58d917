package alias

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/golden.json anew: only for a new format beside the old ones")

// vector is a record of docs/aliases-store.md: what it says, and what is sealed.
type vector struct{ What, Key, Plain, Sealed string }

const goldenFile = "testdata/golden.json"

// goldenRecords gives one record of each kind, with its key and what it is sealed for.
func goldenRecords() (list []struct {
	what    string
	key     []byte
	purpose seal.Purpose
	plain   []byte
}) {
	owner := Owner{1, 2, 3, 4, 5, 6, 7, 8}
	p := place(bytes.Repeat([]byte{0x22}, placeLen))
	id := [idLen]byte{9, 9, 9, 9, 9, 9, 9, 9}
	add := func(what string, key []byte, purpose seal.Purpose, plain []byte) {
		list = append(list, struct {
			what    string
			key     []byte
			purpose seal.Purpose
			plain   []byte
		}{what, key, purpose, plain})
	}
	add("owner", ownerKey(owner), seal.PurposeAliasOwner, (&ownerRecord{began: 20778, seen: 20779, count: 300, target: mail.Address{Local: "anna", Domain: "mailbox.example"}}).encode())
	add("key", keyKey(owner), seal.PurposeAliasKey, encodeKey(&[32]byte{1, 2, 3}))
	add("token", tokenKey(owner, id), seal.PurposeAliasToken, (&tokenRecord{place: [placeLen]byte{7}, scope: ScopeCreate | ScopeList, made: 20778, used: 20779, shard: 4095, nameBytes: []byte("sealed name")}).encode())
	add("place", placeKey([placeLen]byte{7}), seal.PurposeAliasToken, (&placeRecord{owner: owner, id: id, scope: ScopeAll, wrapped: bytes.Repeat([]byte{5}, seal.TokenWrapLen)}).encode())
	add("rules", rulesKey(owner, p), seal.PurposeAliasRules, (&rules{addr: mail.Address{Local: "amber-falcon-4821", Domain: "example.org"}, derived: true, mode: ModePinned, pinDomain: true, paused: true,
		class: OpenMail, created: 20778, deleted: 20780, noticed: true, expires: 1795780800, maxMails: 100, base: 7, idleDays: 90, since: 20779, notes: []byte("sealed notes")}).encode())
	add("state", stateKey(owner, p), seal.PurposeAliasRules, (&state{received: 300, refused: 2, sent: 1, last: 20779, people: []person{
		{tag: tag{1}, is: isPinned | isTaken, first: 20778, last: 20779, mails: 299}, {tag: tag{2}, is: isBlocked | isDomain}}}).encode())
	// Later than the first version, and read by no earlier one.
	add("owner", ownerKey(owner), seal.PurposeAliasOwner, (&ownerRecord{began: 20778, seen: 20779, dead: 301, ended: true}).encode())
	add("sent", sentKey(owner, p), seal.PurposeAliasRules, encodeSent([]sentMail{{tag{1}, 20778}, {tag{2}, 20779}}))
	return list
}

// TestGolden: what was once written is read by every later version, and what is written has the
// same form.
func TestGolden(t *testing.T) {
	root, err := seal.NewRoot(bytes.Repeat([]byte{0x11}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	if *rewrite {
		var list []vector
		for _, r := range goldenRecords() {
			sealed, err := root.Seal(r.purpose, r.key, r.plain)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, vector{r.what, hex.EncodeToString(r.key), hex.EncodeToString(r.plain), hex.EncodeToString(sealed)})
		}
		out, err := json.MarshalIndent(list, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(goldenFile, append(out, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var list []vector
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	records := goldenRecords()
	if len(list) != len(records) {
		t.Fatalf("%d vectors of %d records", len(list), len(records))
	}
	for i, r := range records {
		g := list[i]
		if g.What != r.what || g.Key != hex.EncodeToString(r.key) || g.Plain != hex.EncodeToString(r.plain) {
			t.Errorf("%s: %x under %x", r.what, r.plain, r.key)
		}
		sealed, err := hex.DecodeString(g.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := root.Open(r.purpose, r.key, sealed); err != nil || !bytes.Equal(plain, r.plain) {
			t.Errorf("%s: %x %v", r.what, plain, err)
		}
		if !decodes(t, r.what, r.plain) {
			t.Errorf("%s is not read", r.what)
		}
	}
	// The keyed hashes.
	owner, addr := Owner{1, 2, 3, 4, 5, 6, 7, 8}, mail.Address{Local: "alice", Domain: "example.org"}
	at, shard := root.TokenPlace(strings.Repeat("t", 64))
	p, tags := root.AliasPlace(owner, addr), root.AliasTags(owner, addr)
	al := &Alias{tags: tags}
	who, whole := al.tagOf(mail.Address{Local: "News", Domain: "Shop.Example"}), al.tagOf(mail.Address{Domain: "shop.example"})
	mailed := al.tagOfID("<1@example.org>")
	got := []string{hex.EncodeToString(p[:]), hex.EncodeToString(tags[:]), hex.EncodeToString(who[:]), hex.EncodeToString(whole[:]), hex.EncodeToString(at[:]), hex.EncodeToString(mailed[:])}
	want := goldenHashes
	if !reflect.DeepEqual(got, want) || shard != goldenShard {
		t.Errorf("hashes %q in shard %d", got, shard)
	}
}

// decodes reads a record and looks whether it encodes to the same bytes.
func decodes(t *testing.T, what string, b []byte) bool {
	t.Helper()
	var again []byte
	var err error
	switch what {
	case "owner":
		var r *ownerRecord
		if r, err = decodeOwner(b); err == nil {
			again = r.encode()
		}
	case "key":
		var k [32]byte
		if k, err = decodeKey(b); err == nil {
			again = encodeKey(&k)
		}
	case "token":
		var r *tokenRecord
		if r, err = decodeToken(b); err == nil {
			again = r.encode()
		}
	case "place":
		var r *placeRecord
		if r, err = decodePlace(b); err == nil {
			again = r.encode()
		}
	case "rules":
		var r *rules
		if r, err = decodeRules(b); err == nil {
			again = r.encode()
		}
	case "state":
		var s *state
		if s, err = decodeState(b); err == nil {
			again = s.encode()
		}
	case "sent":
		var list []sentMail
		if list, err = decodeSent(b); err == nil {
			again = encodeSent(list)
		}
	case "notes":
		var n Notes
		if n, err = decodeNotes(b); err == nil {
			again = n.encode()
		}
	case "vault":
		var pub seal.PublicKey
		if pub, err = decodeVault(b); err == nil {
			again = encodeVault(pub)
		}
	default:
		t.Fatalf("no record is called %s", what)
	}
	if err != nil {
		if errs.KindOf(err) != errs.Corrupt {
			t.Errorf("%s: %v", what, err)
		}
		return false
	}
	if !bytes.Equal(again, b) {
		t.Errorf("%s has two forms: %x and %x", what, b, again)
	}
	return true
}

// FuzzRecords: whatever lies in a record, reading it ends with an error or with what encodes to the
// same bytes.
func FuzzRecords(f *testing.F) {
	kinds := []string{"owner", "key", "token", "place", "rules", "state", "notes", "vault", "sent"}
	for _, r := range goldenRecords() {
		f.Add(byte(max(0, indexOf(kinds, r.what))), r.plain)
	}
	f.Add(byte(6), (&Notes{Site: "a", Label: "b", Note: "c"}).encode())
	f.Add(byte(7), encodeVault(make([]byte, seal.PublicKeyLen)))
	f.Add(byte(8), []byte{version, 255, 255, 255, 255})
	f.Add(byte(5), []byte{version, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, kind byte, b []byte) { decodes(t, kinds[int(kind)%len(kinds)], b) })
}

func indexOf(list []string, s string) int {
	for i, x := range list {
		if x == s {
			return i
		}
	}
	return -1
}

// FuzzPerson: what is read as a correspondent is written and read as the same.
func FuzzPerson(f *testing.F) {
	for _, s := range []string{"news@shop.example", "@shop.example", "", "@", `"a b"@x.example`, "x@[192.0.2.1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parsePerson(s)
		if err != nil {
			if errs.Public(err) != textPerson {
				t.Error(err)
			}
			return
		}
		if again, err := parsePerson(personText(a)); err != nil || again != a {
			t.Errorf("%q: %+v, again %+v %v", s, a, again, err)
		}
	})
}

// FuzzCursor: a place in a list is twenty bytes or nothing.
func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add(strings.Repeat("ab", placeLen))
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseCursor(s)
		if err == nil && p != nil && !strings.EqualFold(hex.EncodeToString(p[:]), s) || err == nil && p == nil && s != "" {
			t.Errorf("%q", s)
		}
	})
}

// goldenHashes: the place of an alias, the key of its tags, the tags of an address and of a domain, the
// place of a token, the tag of a Message-ID.
var goldenHashes = []string{"92465deaf499525082e755a28f22398ad077acd1", "a77a7f37f09cd926ecd5bc270a2be95e", "e913390700fc0b3ce28f86bbc14f5815",
	"11185a0a057bf5eb3fe0e38c1275850a", "e302df49922a6a268418ea925f420138bf331606",
	"9954c3f061fb5d6b183e81c2d5555c52"}

const goldenShard = 2100
