package exit

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/ledger"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/token"
)

// Defaults of IssuerOptions.
const (
	DefaultTokens      = 20      // that an account gets a day
	DefaultMaxAccounts = 100_000 // that ask on one day
)

// IssuerOptions of an Issuer. FS, Dir and Secret are needed.
type IssuerOptions struct {
	FS     vfs.FS
	Dir    string // made if it is missing
	Secret []byte // 32 bytes or more that do not lie beside it: the keys are sealed under them

	PerDay      int // tokens an account gets a day; DefaultTokens, token.MaxRequest at most
	MaxAccounts int // DefaultMaxAccounts

	Generate func() (*token.PrivateKey, error) // nil: token.GenerateKey
	Now      func() time.Time
	Rand     io.Reader
	Log      *slog.Logger // nil: nothing is logged
}

// Issuer gives tokens to the accounts of a relay. It may be used by many goroutines.
type Issuer struct {
	o      IssuerOptions
	aead   cipher.AEAD
	marks  marks
	issued *days

	mu   sync.Mutex
	keys map[token.Day]*token.PrivateKey
}

// OpenIssuer reads what is there and makes the keys of today and tomorrow. Kinds of errors:
// errs.Invalid for options that are not possible, errs.Corrupt for a key that cannot be opened, and
// those of the disk.
func OpenIssuer(o IssuerOptions) (*Issuer, error) {
	const op = "agent/exit.OpenIssuer"
	if o.FS == nil || o.Dir == "" || len(o.Secret) < 32 || o.PerDay > token.MaxRequest || o.PerDay < 0 {
		return nil, errs.E(op, errs.Invalid, "", errors.New("no FS, Dir or Secret, or more tokens than a request can ask for"))
	}
	if o.PerDay == 0 {
		o.PerDay = DefaultTokens
	}
	if o.MaxAccounts <= 0 {
		o.MaxAccounts = DefaultMaxAccounts
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Generate == nil {
		o.Generate = func() (*token.PrivateKey, error) { return token.GenerateKey(rand.Reader) }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := vfs.MkdirAll(o.FS, o.Dir, 0o700); err != nil {
		return nil, errs.Wrap(op, err)
	}
	i := &Issuer{o: o, issued: newDays(o.FS, o.Dir, "issued", o.MaxAccounts), keys: make(map[token.Day]*token.PrivateKey)}
	var err error
	if i.marks, err = newMarks(o.Secret, "marks of accounts"); err != nil {
		return nil, errs.Wrap(op, err)
	}
	seal, err := hkdf.Key(sha256.New, o.Secret, nil, "postern/exit: keys of tokens", 32)
	if err == nil {
		var block cipher.Block
		if block, err = aes.NewCipher(seal); err == nil {
			i.aead, err = cipher.NewGCM(block)
		}
	}
	if err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	if _, err := i.Keys(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	return i, nil
}

const (
	keyName   = "token-"
	retryKeys = 10 * time.Minute
)

func (i *Issuer) keyPath(day token.Day) string {
	return i.o.FS.PathJoin(i.o.Dir, fmt.Sprintf("%s%d.key", keyName, day))
}

// Keys gives the public keys for the descriptor, of the days whose tokens are still good, today and
// tomorrow, and makes the last two if they are not there. They are on the disk when it returns; keys and counts of days before are
// gone.
func (i *Issuer) Keys() ([]directory.TokenKey, error) {
	const op = "agent/exit.Issuer.Keys"
	i.mu.Lock()
	defer i.mu.Unlock()
	today := token.DayOf(i.o.Now())
	var out []directory.TokenKey
	for day := today - token.GoodDays + 1; day <= today+1; day++ {
		k, err := i.key(day, day >= today)
		if err != nil && day < today && errs.KindOf(err) == errs.NotFound {
			continue
		}
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		out = append(out, directory.TokenKey{Day: uint32(day), Key: k.Public().Bytes()})
	}
	return out, errs.Wrap(op, i.tidy(today-token.GoodDays+1))
}

// key gives the key of a day. The lock is held.
func (i *Issuer) key(day token.Day, create bool) (*token.PrivateKey, error) {
	const op = "agent/exit.Issuer.key"
	if k := i.keys[day]; k != nil {
		return k, nil
	}
	path, label := i.keyPath(day), fmt.Appendf(nil, "%d", day)
	b, err := vfs.ReadFile(i.o.FS, path)
	if err != nil && (errs.KindOf(err) != errs.NotFound || !create) {
		return nil, errs.Wrap(op, err)
	}
	if err != nil {
		k, err := i.o.Generate()
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		plain := k.Marshal()
		defer clear(plain)
		nonce := make([]byte, i.aead.NonceSize())
		if _, err := io.ReadFull(i.o.Rand, nonce); err != nil {
			return nil, errs.E(op, errs.Internal, "", err)
		}
		if err := vfs.WriteFileAtomic(i.o.FS, path, i.aead.Seal(nonce, nonce, plain, label), 0o600); err != nil {
			return nil, errs.Wrap(op, err)
		}
		i.keys[day] = k
		return k, nil
	}
	n := i.aead.NonceSize()
	if len(b) < n {
		return nil, errs.E(op, errs.Corrupt, "a key of tokens is damaged: remove it, and another one is made", nil)
	}
	plain, err := i.aead.Open(nil, b[:n], b[n:], label)
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "a key of tokens is damaged: remove it, and another one is made", err)
	}
	defer clear(plain)
	k, err := token.ParsePrivateKey(plain)
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "a key of tokens is damaged: remove it, and another one is made", err)
	}
	i.keys[day] = k
	return k, nil
}

// tidy removes what is about days before one.
func (i *Issuer) tidy(before token.Day) error {
	const op = "agent/exit.Issuer.tidy"
	names, err := i.o.FS.List(i.o.Dir)
	if err != nil {
		return vfs.Error(op, err)
	}
	for _, name := range names {
		s, ok := strings.CutPrefix(name, keyName)
		s, ok2 := strings.CutSuffix(s, ".key")
		n, err := strconv.ParseUint(s, 10, 32)
		if !ok || !ok2 || err != nil || token.Day(n) >= before {
			continue
		}
		delete(i.keys, token.Day(n))
		if err := i.o.FS.Remove(i.keyPath(token.Day(n))); err != nil {
			return vfs.Error(op, err)
		}
	}
	return errs.Wrap(op, i.issued.drop(before))
}

// Answer gives an account the tokens that it asks for (token.AppendRequest), signatures one behind the
// other; fewer where fewer are left. account names it: any bytes, the same each time. An account gets
// PerDay a day; the same request again gives the same answer and counts once, for who did not hear
// it. When it returns nil the count is durable. Kinds of errors: errs.Invalid; errs.Denied for another
// day than today, or where the account has had its tokens; errs.Busy where too many accounts asked
// today; those of the disk.
func (i *Issuer) Answer(ctx context.Context, account, request []byte) ([]byte, error) {
	const op = "agent/exit.Issuer.Answer"
	day, list, err := token.ParseRequest(request)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	now := i.o.Now()
	if day < token.DayOf(now.Add(-directory.MaxSkew)) || day > token.DayOf(now.Add(directory.MaxSkew)) {
		return nil, errs.E(op, errs.Denied, "tokens are given on their day only", nil)
	}
	if err := ctx.Err(); err != nil {
		return nil, errs.E(op, errs.Canceled, "", err)
	}
	i.mu.Lock()
	k, err := i.key(day, false)
	i.mu.Unlock()
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "the key of the day is not there", err)
	}
	counts, err := i.issued.get(day)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	key, name := ledger.Key(i.marks.of("account", account)), i.marks.of("request", request)
	none := errs.E(op, errs.Denied, fmt.Sprintf("an account gets %d tokens a day, and this one had them", i.o.PerDay), nil)
	if v, had := counts.Get(key); had {
		if _, given, _ := i.give(v, had, name, len(list)); given == 0 {
			return nil, none // without signing
		}
	}
	// All of it is signed before it is counted, so that what is malformed counts for nothing.
	out := make([]byte, 0, len(list)*token.BlindLen)
	for _, m := range list {
		sig, err := k.Sign(m)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		out = append(out, sig...)
	}
	given := 0
	err = counts.Update(func(get func(ledger.Key) (ledger.Value, bool)) (ledger.Record, bool, error) {
		v, had := get(key)
		var write bool
		if v, given, write = i.give(v, had, name, len(list)); given == 0 {
			return ledger.Record{}, false, none
		}
		return ledger.Record{Key: key, Value: v}, write, nil
	})
	switch {
	case err != nil && errs.KindOf(err) == errs.Full:
		return nil, errs.E(op, errs.Busy, "too many accounts have asked for tokens today", err)
	case err != nil:
		return nil, errs.Wrap(op, err)
	}
	return out[:given*token.BlindLen], nil
}

// give reckons how many tokens an account gets for a request, by its record: how many it got today
// (uint32), how many of them for its last request (u8), and a mark of that.
func (i *Issuer) give(v ledger.Value, had bool, request [16]byte, want int) (next ledger.Value, given int, write bool) {
	n := int(binary.BigEndian.Uint32(v[:]))
	if had && string(v[5:]) == string(request[:11]) {
		return v, int(v[4]), false
	}
	given = min(want, max(i.o.PerDay-n, 0))
	binary.BigEndian.PutUint32(next[:], uint32(n+given))
	next[4] = byte(given)
	copy(next[5:], request[:11])
	return next, given, true
}

// Run makes the key of the day that comes, once a day, until ctx ends; changed is told the keys
// that the descriptor shall have. It returns nil.
func (i *Issuer) Run(ctx context.Context, changed func([]directory.TokenKey)) error {
	for {
		now := i.o.Now()
		wait := (token.DayOf(now) + 1).Begin().Sub(now)
		for {
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				t.Stop()
				return nil
			case <-t.C:
			}
			keys, err := i.Keys()
			if err == nil {
				changed(keys)
				break
			}
			i.o.Log.Warn("the keys of tokens could not be renewed; it is tried again", "kind", errs.KindOf(err))
			i.o.Log.Debug("the keys of tokens could not be renewed", "err", err)
			wait = retryKeys
		}
	}
}

// Close ends the use of the files.
func (i *Issuer) Close() error { return errs.Wrap("agent/exit.Issuer.Close", i.issued.close()) }
