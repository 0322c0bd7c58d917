package mailbox

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"postern.email/kit/codec"
	"postern.email/kit/errs"
	"postern.email/store"
)

// maxEntryName bounds the name of an annotation in bytes.
const maxEntryName = 255

// cleanEntry gives the form in which the name of an annotation is kept (RFC 5464 §3.2).
func cleanEntry(name string) (string, bool) {
	ok := len(name) > 1 && len(name) <= maxEntryName && name[0] == '/' && name[len(name)-1] != '/' &&
		!strings.Contains(name, "//") &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' || r == '%' })
	return strings.ToLower(name), ok
}

func encodeMetadata(list []MetadataEntry) []byte {
	b := []byte{formatVersion}
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, e := range list {
		b = codec.AppendSized(b, e.Name)
		b = codec.AppendSized(b, e.Value)
	}
	return b
}

func decodeMetadata(b []byte) ([]MetadataEntry, error) {
	d := newDec(b)
	n := d.Int(MaxMetadataEntries)
	list := make([]MetadataEntry, 0, n)
	for range n {
		list = append(list, MetadataEntry{d.String(maxEntryName), slices.Clone(d.Sized(MaxMetadataBytes))})
	}
	return list, d.End("post/mailbox.decodeMetadata")
}

func (a *Account) metadata(r store.Reader, box uint32) ([]MetadataEntry, error) {
	if box != 0 {
		if _, err := getState(r, a.key.ID(), box); err != nil {
			return nil, err
		}
	}
	k := metadataKey(a.key.ID(), box)
	b, err := r.Get(k)
	if err != nil {
		if errs.KindOf(err) == errs.NotFound {
			return nil, nil
		}
		return nil, err
	}
	plain, err := a.key.OpenRecord(purposeMetadata, k, b)
	if err != nil {
		return nil, err
	}
	return decodeMetadata(plain)
}

// Metadata gives all annotations of a mailbox (0: of the account), sorted by name.
func (a *Account) Metadata(ctx context.Context, box uint32) ([]MetadataEntry, error) {
	var list []MetadataEntry
	err := a.read(ctx, func(r store.Reader) (err error) {
		list, err = a.metadata(r, box)
		return err
	})
	return list, errs.Wrap("post/mailbox.Metadata", err)
}

// WatchMetadata fires on any change of the account's own annotations (box 0). Those of a
// mailbox are changes of the mailbox: Watch.
func (a *Account) WatchMetadata() *store.Watch {
	id := a.key.ID()
	return a.b.o.Store.Watch(id.Shard(), metadataKey(id, 0))
}

// Annotated notes that an annotation of the mailbox changed that is not kept here: its
// modseq rises (RFC 7162 §3.2), and Watch fires.
func (a *Account) Annotated(ctx context.Context, box uint32) error {
	err := a.b.update(ctx, a.key.ID(), func(t *txn) error {
		x, err := t.open(box)
		if err == nil {
			x.bump()
		}
		return err
	})
	return errs.Wrap("post/mailbox.Annotated", err)
}

// SetMetadata sets and deletes annotations, all or none. The mailbox's modseq rises (RFC
// 7162 §3.2). errs.TooLarge beyond
// MaxMetadataBytes or MaxMetadataEntries, errs.Invalid for a bad name.
func (a *Account) SetMetadata(ctx context.Context, box uint32, entries []MetadataEntry) error {
	const op = "post/mailbox.SetMetadata"
	clean := make([]MetadataEntry, len(entries))
	for i, e := range entries {
		name, ok := cleanEntry(e.Name)
		if !ok {
			return errs.E(op, errs.Invalid, "not an annotation name", nil)
		}
		clean[i] = MetadataEntry{name, e.Value}
	}
	err := a.b.update(ctx, a.key.ID(), func(t *txn) error {
		list, err := a.metadata(t.tx, box)
		if err != nil {
			return err
		}
		for _, e := range clean {
			i, ok := slices.BinarySearchFunc(list, e.Name, func(x MetadataEntry, name string) int { return cmp.Compare(x.Name, name) })
			switch {
			case ok && e.Value == nil:
				list = slices.Delete(list, i, i+1)
			case ok:
				list[i].Value = e.Value
			case e.Value != nil:
				list = slices.Insert(list, i, e)
			}
		}
		size := 0
		for _, e := range list {
			size += len(e.Name) + len(e.Value)
		}
		if len(list) > MaxMetadataEntries || size > MaxMetadataBytes {
			return errs.E(op, errs.TooLarge, "too many or too large annotations", nil)
		}
		if box != 0 {
			x, err := t.open(box)
			if err != nil {
				return err
			}
			x.bump()
		}
		t.deleted = true // the old values shall leave the disk
		k := metadataKey(t.id, box)
		if len(list) == 0 {
			return t.tx.Delete(k)
		}
		b, err := a.key.SealRecord(purposeMetadata, k, encodeMetadata(list))
		if err != nil {
			return err
		}
		return t.tx.Set(k, b)
	})
	return errs.Wrap(op, err)
}
