package dkimkey

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/mail/dkim"
	"postern.email/post/seal"
	"postern.email/store"
)

// State is where a pair is in its life.
type State uint8

// States, in order.
const (
	New State = iota
	Active
	Retiring
	Removed
	numStates
)

var stateNames = [...]string{"new", "active", "retiring", "removed"}

// String gives the word that commands show.
func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return "unknown"
}

// Suffixes of the selectors of a pair.
const (
	suffixRSA = "-rsa"
	suffixEd  = "-ed"
)

// Pair is what may be shown of a pair. Times are in whole seconds; zero: not yet.
type Pair struct {
	Name      string // "p2026a"
	State     State
	Published bool // of a Removed one: its private halves are for everybody to see

	Made, Activated, Retired, Gone, Removed time.Time // Gone: since when its records are not seen, only kept for publishing

	Keys []PublicKey // RSA, Ed25519
}

// PublicKey is the public half of one key of a pair.
type PublicKey struct {
	Selector  string
	Algorithm string // "rsa", "ed25519"
	Public    crypto.PublicKey
}

// pair is a pair with its private halves; they are nil when destroyed.
type pair struct {
	Pair
	rsa *rsa.PrivateKey
	ed  ed25519.PrivateKey
}

// Place and form of the records.
const (
	letter  = 'd'
	version = 1
	home    = store.Shard(0)

	maxName = 16
	maxDER  = 4 << 10
)

func recordKey(name string) []byte { return append([]byte{letter}, name...) }

var recordsStart, recordsEnd = []byte{letter}, []byte{letter + 1}

// times gives the times of a pair in the order of its record.
func (p *Pair) times() [5]*time.Time {
	return [5]*time.Time{&p.Made, &p.Activated, &p.Retired, &p.Gone, &p.Removed}
}

// seal gives the record of a pair.
func (p *pair) seal(root *seal.Root) ([]byte, error) {
	const op = "post/dkimkey.seal"
	public := p.Keys
	der, err := x509.MarshalPKIXPublicKey(public[0].Public)
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	published := byte(0)
	if p.Published {
		published = 1
	}
	b := []byte{version, byte(p.State), published}
	for _, t := range p.times() {
		sec := uint64(0)
		if !t.IsZero() {
			sec = uint64(max(t.Unix(), 1))
		}
		b = binary.AppendUvarint(b, sec)
	}
	b = codec.AppendSized(b, der)
	b = codec.AppendSized(b, public[1].Public.(ed25519.PublicKey))
	var private, seed []byte
	if p.rsa != nil {
		private, seed = x509.MarshalPKCS1PrivateKey(p.rsa), p.ed.Seed()
	}
	b = codec.AppendSized(codec.AppendSized(b, private), seed)
	sealed, err := root.Seal(seal.PurposeDKIM, recordKey(p.Name), b)
	clear(b)
	clear(private)
	return sealed, errs.Wrap(op, err)
}

// open reads the record of a pair.
func open(root *seal.Root, key, sealed []byte) (*pair, error) {
	const op = "post/dkimkey.open"
	bad := func(err error) (*pair, error) { return nil, errs.E(op, errs.Corrupt, "", err) }
	b, err := root.Open(seal.PurposeDKIM, key, sealed)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	defer clear(b)
	name := string(key[1:])
	if _, _, ok := parseName(name); !ok {
		return bad(nil)
	}
	p := &pair{Pair: Pair{Name: name}}
	r := codec.NewReader(b, version)
	p.State = State(r.Byte())
	published := r.Byte()
	p.Published = published == 1
	for _, t := range p.times() {
		if sec := r.Int(1 << 40); sec != 0 {
			*t = time.Unix(sec, 0).UTC()
		}
	}
	der, edPublic := r.Sized(maxDER), r.Sized(maxDER)
	private, seed := r.Sized(maxDER), r.Sized(maxDER)
	if err := r.End(op); err != nil {
		return nil, err
	}
	whole := len(private) > 0
	if p.State >= numStates || published > 1 || p.Published != (p.State == Removed && whole) || !whole && p.State != Removed ||
		len(edPublic) != ed25519.PublicKeySize || whole != (len(seed) == ed25519.SeedSize) || !whole && len(seed) > 0 {
		return bad(nil)
	}
	any, err := x509.ParsePKIXPublicKey(der)
	public, ok := any.(*rsa.PublicKey)
	if err != nil || !ok {
		return bad(err)
	}
	p.setPublic(public, ed25519.PublicKey(slices.Clone(edPublic)))
	if whole {
		if p.rsa, err = x509.ParsePKCS1PrivateKey(private); err != nil {
			return bad(err)
		}
		p.ed = ed25519.NewKeyFromSeed(seed)
		if !p.rsa.PublicKey.Equal(public) || !p.ed.Public().(ed25519.PublicKey).Equal(p.Keys[1].Public) {
			return bad(nil)
		}
	}
	return p, nil
}

func (p *pair) setPublic(r *rsa.PublicKey, e ed25519.PublicKey) {
	p.Keys = []PublicKey{{p.Name + suffixRSA, "rsa", r}, {p.Name + suffixEd, "ed25519", e}}
}

// signing gives the keys in the order of their signatures: the kind that everybody
// verifies is on top.
func (p *pair) signing() []dkim.Key {
	return []dkim.Key{{Selector: p.Keys[0].Selector, Signer: p.rsa}, {Selector: p.Keys[1].Selector, Signer: p.ed}}
}

// destroyed gives the pair without its private halves.
func (p *pair) destroyed() *pair {
	c := *p
	c.rsa, c.ed, c.Published = nil, nil, false
	return &c
}

// nextName gives the first name of a year that was never given.
func nextName(year int, taken func(string) bool) string {
	for n := 1; ; n++ {
		if name := makeName(year, n); !taken(name) {
			return name
		}
	}
}

// makeName gives the nth name of a year: a to z, then aa, ab and so on.
func makeName(year, n int) string {
	letters := ""
	for ; n > 0; n = (n - 1) / 26 {
		letters = string(rune('a'+(n-1)%26)) + letters
	}
	return "p" + strconv.Itoa(year) + letters
}

// parseName reads what makeName gives.
func parseName(s string) (year, n int, ok bool) {
	rest, ok := strings.CutPrefix(s, "p")
	if !ok || len(s) > maxName {
		return 0, 0, false
	}
	letters := strings.TrimLeft(rest, "0123456789")
	year, err := strconv.Atoi(rest[:len(rest)-len(letters)])
	if err != nil || letters == "" || len(letters) > 3 {
		return 0, 0, false
	}
	for _, c := range letters {
		if c < 'a' || c > 'z' {
			return 0, 0, false
		}
		n = n*26 + int(c-'a') + 1
	}
	return year, n, makeName(year, n) == s
}

// older orders pairs by name: by year and number.
func older(a, b *pair) int {
	ya, na, _ := parseName(a.Name)
	yb, nb, _ := parseName(b.Name)
	if ya != yb {
		return ya - yb
	}
	return na - nb
}
