package mailbox

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/post/seal"
	"postern.email/store"
)

// Purposes of records sealed to the account by its owner.
const (
	purposeFolder   = "mailbox folder"
	purposeKeywords = "mailbox keywords"
	purposeKeyNames = "mailbox keyword names"
	purposeMetadata = "mailbox metadata"
)

// cleanKeywords checks keywords (flag-keyword of RFC 9051 §9: an atom) and drops doubles.
func cleanKeywords(words []string) ([]string, error) {
	const op = "post/mailbox.cleanKeywords"
	var out []string
	for _, w := range words {
		if !validKeyword(w) {
			return nil, errs.E(op, errs.Invalid, "not a keyword", nil)
		}
		if findFold(out, w) < 0 {
			out = append(out, w)
		}
	}
	if len(out) > MaxKeywords {
		return nil, errs.E(op, errs.TooLarge, "too many keywords", nil)
	}
	return out, nil
}

func validKeyword(w string) bool {
	if w == "" || len(w) > MaxKeyword {
		return false
	}
	for i := range len(w) {
		if c := w[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}

// findFold finds a keyword without regard to case (RFC 9051 §2.3.2).
func findFold(list []string, w string) int {
	return slices.IndexFunc(list, func(v string) bool { return strings.EqualFold(v, w) })
}

func encodeStrings(list []string) []byte {
	b := []byte{formatVersion}
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = codec.AppendSized(b, s)
	}
	return b
}

func decodeStrings(b []byte, count, length int) ([]string, error) {
	d := newDec(b)
	n := int(d.Int(int64(count)))
	list := make([]string, 0, min(n, 64))
	for range n {
		list = append(list, d.String(length))
	}
	return list, d.End("post/mailbox.decodeStrings")
}

// openStrings reads a sealed list; a record that is not there is an empty one.
func openStrings(r store.Reader, key *seal.Opened, purpose string, k []byte, count int) ([]string, error) {
	b, err := r.Get(k)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return nil, nil
		}
		return nil, err
	}
	plain, err := key.OpenRecord(purpose, k, b)
	if err != nil {
		return nil, err
	}
	return decodeStrings(plain, count, MaxKeyword)
}

func sealStrings(tx store.Tx, key *seal.Opened, purpose string, k []byte, list []string) error {
	b, err := key.SealRecord(purpose, k, encodeStrings(list))
	if err != nil {
		return err
	}
	return tx.Set(k, b)
}

// keywords reads the keywords of a mail within a transaction.
func (x *boxTx) keywords(key *seal.Opened, uid uint32) ([]string, error) {
	return openStrings(x.t.tx, key, purposeKeywords, keywordsKey(x.t.id, x.st.series, uid), MaxKeywords)
}

// setKeywords writes the keywords of a mail (none: deletes them), and adds new ones
// to the mailbox's list, in whose spelling they are kept.
func (x *boxTx) setKeywords(key *seal.Opened, uid uint32, words []string) error {
	k := keywordsKey(x.t.id, x.st.series, uid)
	if len(words) == 0 {
		x.t.deleted = true
		return x.t.tx.Delete(k)
	}
	words, err := x.nameKeywords(key, words)
	if err != nil {
		return err
	}
	return sealStrings(x.t.tx, key, purposeKeywords, k, words)
}

// nameKeywords enters keywords into the mailbox's list.
func (x *boxTx) nameKeywords(key *seal.Opened, words []string) ([]string, error) {
	k := keyNamesKey(x.t.id, x.st.series)
	if !x.namesRead {
		names, err := openStrings(x.t.tx, key, purposeKeyNames, k, MaxBoxKeywords)
		if err != nil {
			return nil, err
		}
		x.names, x.namesRead = names, true
	}
	out := make([]string, len(words))
	grown := false
	for i, w := range words {
		at := findFold(x.names, w)
		if at < 0 {
			if len(x.names) >= MaxBoxKeywords {
				return nil, errs.E("post/mailbox.nameKeywords", errs.TooLarge, "too many different keywords in this mailbox", nil)
			}
			at = len(x.names)
			x.names = append(x.names, w)
			grown = true
		}
		out[i] = x.names[at]
	}
	if !grown {
		return out, nil
	}
	return out, sealStrings(x.t.tx, key, purposeKeyNames, k, x.names)
}

// Keywords opens a mail's keywords; nil without reading if e has none. The flags of e
// may be older than the keywords that are there now: e is made the mail's entry of the
// same moment, so that flags and keywords never come from two states.
func (a *Account) Keywords(ctx context.Context, box uint32, e *Entry) ([]string, error) {
	const op = "post/mailbox.Keywords"
	if e.Flags&HasKeywords == 0 {
		return nil, nil
	}
	var words []string
	now := *e
	err := a.read(ctx, func(r store.Reader) error {
		st, err := getState(r, a.key.ID(), box)
		if err != nil {
			return err
		}
		if st.highest > e.ModSeq { // else nothing changed since e
			if now, err = entryNow(r, a.key.ID(), st.series, *e); err != nil {
				return err
			}
		}
		words, err = openStrings(r, a.key, purposeKeywords, keywordsKey(a.key.ID(), st.series, e.UID), MaxKeywords)
		return err
	})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	*e = now
	return words, nil
}

// entryNow reads the entry of e's UID again; e itself when it is gone.
func entryNow(r store.Reader, id seal.AccountID, series uint32, e Entry) (Entry, error) {
	start, _ := pageRange(id, series)
	err := r.ScanReverse(start, after(pageKey(id, series, e.UID)), func(_, v []byte) (bool, error) {
		rows, _, err := decodePage(nil, v)
		if err != nil {
			return false, err
		}
		if i, ok := slices.BinarySearchFunc(rows, e.UID, func(x Entry, uid uint32) int { return cmp.Compare(x.UID, uid) }); ok {
			e = rows[i]
		}
		return false, nil // only the last page that begins at or below the UID can hold it
	})
	return e, err
}

// AllKeywords calls fn for each mail with keywords whose UID lies from lo to hi, in
// order: for FETCH and SEARCH over many mails.
func (a *Account) AllKeywords(ctx context.Context, box uint32, lo, hi uint32, fn func(uid uint32, words []string)) error {
	const op = "post/mailbox.AllKeywords"
	type sealedWords struct {
		key, val []byte
	}
	for lo <= hi {
		var batch []sealedWords
		more := false
		err := a.read(ctx, func(r store.Reader) error {
			batch, more = batch[:0], false
			st, err := getState(r, a.key.ID(), box)
			if err != nil {
				return err
			}
			end := after(keywordsKey(a.key.ID(), st.series, hi))
			return r.Scan(keywordsKey(a.key.ID(), st.series, lo), end, func(k, v []byte) (bool, error) {
				batch = append(batch, sealedWords{slices.Clone(k), slices.Clone(v)})
				more = len(batch) >= batchMails
				return !more, nil
			})
		})
		if err != nil {
			return errs.Wrap(op, err)
		}
		for _, w := range batch {
			plain, err := a.key.OpenRecord(purposeKeywords, w.key, w.val)
			if err != nil {
				return errs.Wrap(op, err)
			}
			words, err := decodeStrings(plain, MaxKeywords, MaxKeyword)
			if err != nil {
				return errs.Wrap(op, err)
			}
			lo = keyUID(w.key)
			fn(lo, words)
		}
		if !more || lo == 1<<32-1 {
			return nil
		}
		lo++
	}
	return nil
}

// BoxKeywords gives every keyword ever used in the mailbox: for FLAGS and PERMANENTFLAGS.
func (a *Account) BoxKeywords(ctx context.Context, box uint32) ([]string, error) {
	const op = "post/mailbox.BoxKeywords"
	var words []string
	err := a.read(ctx, func(r store.Reader) error {
		st, err := getState(r, a.key.ID(), box)
		if err != nil {
			return err
		}
		words, err = openStrings(r, a.key, purposeKeyNames, keyNamesKey(a.key.ID(), st.series), MaxBoxKeywords)
		return err
	})
	return words, errs.Wrap(op, err)
}
