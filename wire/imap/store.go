package imap

import (
	"context"
	"slices"
	"strings"
)

func cmdStore(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doStore(ctx, p, false)
}

func cmdUIDStore(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doStore(ctx, p, true)
}

// storeRequest is one STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3).
type storeRequest struct {
	set       numSet
	unchanged *uint64
	op        FlagsOp
	silent    bool
	flags     flagSet
}

func (p *parser) store() (q storeRequest, err error) {
	if err = p.sp(); err != nil {
		return q, err
	}
	if q.set, err = p.sequence(); err != nil {
		return q, err
	}
	if err = p.sp(); err != nil {
		return q, err
	}
	if p.peek() == '(' {
		err = p.list(false, func() error {
			if !p.word("UNCHANGEDSINCE") {
				return syntaxf("unknown STORE modifier")
			}
			if err := p.sp(); err != nil {
				return err
			}
			n, err := p.number64()
			q.unchanged = &n
			return err
		})
		if err != nil {
			return q, err
		}
		if err = p.sp(); err != nil {
			return q, err
		}
	}
	switch {
	case p.take('+'):
		q.op = FlagsAdd
	case p.take('-'):
		q.op = FlagsRemove
	}
	word, err := p.upperAtom()
	if err != nil {
		return q, err
	}
	word, q.silent = strings.CutSuffix(word, ".SILENT")
	if word != "FLAGS" {
		return q, syntaxf("unknown STORE item")
	}
	if err = p.sp(); err != nil {
		return q, err
	}
	if q.flags, err = p.storeFlags(); err != nil {
		return q, err
	}
	return q, p.end()
}

func (c *conn) doStore(ctx context.Context, p *parser, byUID bool) (reply, error) {
	q, err := p.store()
	if err != nil {
		return reply{}, err
	}
	if err := c.needWrite(); err != nil {
		return reply{}, err
	}
	if q.unchanged != nil {
		c.enabled.condstore = true
	}
	if err := c.refreshFor(ctx, byUID); err != nil {
		return reply{}, err
	}
	uids, gone, err := c.uids(q.set, byUID)
	if err != nil {
		return reply{}, err
	}
	done := reply{"", "STORE done"}
	if len(uids) == 0 {
		return goneReply(gone, byUID, done)
	}
	before := c.sel.view
	if q.op != FlagsRemove {
		c.announce(q.flags.keywords) // RFC 9051 §7.3.5: before its first use
	}
	res, err := c.sel.mailbox.SetFlags(ctx, SetFlags{UIDs: uids, Op: q.op, Flags: q.flags.bits,
		Keywords: q.flags.keywords, UnchangedSince: q.unchanged})
	if err != nil {
		return reply{}, err
	}
	if err := c.refresh(ctx); err != nil {
		return reply{}, err
	}
	if err := c.tellStored(ctx, q, uids, res, byUID); err != nil {
		return reply{}, err
	}
	c.sel.own = res.Changed
	if q.silent {
		c.sel.own = onlyOwn(before, c.sel.told, res.Changed)
	}
	if len(res.Modified) > 0 {
		done.code = "MODIFIED " + c.modified(res.Modified, byUID)
		done.text = "Some messages were changed by others meanwhile"
	}
	return goneReply(gone, byUID, done)
}

// onlyOwn gives those of our changes that the client can reckon by itself behind
// .SILENT: it was told all about the message until before, and nobody else can have
// changed it since, as the mod-sequences follow without a gap. The others are told
// with the new flags.
func onlyOwn(before View, told uint64, changed []Entry) []Entry {
	var modseqs []uint64 // one for each batch of the backend: few
	for _, e := range changed {
		if !slices.Contains(modseqs, e.ModSeq) {
			modseqs = append(modseqs, e.ModSeq)
		}
	}
	slices.Sort(modseqs)
	for i, m := range modseqs {
		if m != before.HighestModSeq()+uint64(i)+1 {
			return nil
		}
	}
	var own []Entry
	for _, e := range changed {
		if i, ok := before.Find(e.UID); ok && before.At(i).ModSeq <= told {
			own = append(own, e)
		}
	}
	return own
}

// tellStored writes the FETCH responses of a STORE. Without .SILENT every message
// of the set that was not left alone is told, changed or not; with it only the new
// mod-sequences, to clients that know them (RFC 7162 §3.1.3).
func (c *conn) tellStored(ctx context.Context, q storeRequest, uids []uint32, res SetFlagsResult, byUID bool) error {
	if q.silent {
		if !c.enabled.condstore {
			return nil
		}
		for _, e := range res.Changed {
			if seq, ok := c.sel.seq.seq(e.UID); ok {
				if err := c.tellFlagsOf(ctx, seq, e, byUID, false); err != nil {
					return err
				}
			}
		}
		return nil
	}
	slices.Sort(res.Modified)
	for _, uid := range uids {
		if _, left := slices.BinarySearch(res.Modified, uid); left {
			continue
		}
		i, ok := c.sel.view.Find(uid)
		seq, known := c.sel.seq.seq(uid)
		if !ok || !known {
			continue
		}
		if err := c.tellFlagsOf(ctx, seq, c.sel.view.At(i), byUID, true); err != nil {
			return err
		}
	}
	return nil
}

// modified gives the set of the MODIFIED code, in the numbers the command used.
func (c *conn) modified(uids []uint32, byUID bool) string {
	if byUID {
		return uidText(uids)
	}
	seqs := make([]uint32, 0, len(uids))
	for _, uid := range uids {
		if seq, ok := c.sel.seq.seq(uid); ok {
			seqs = append(seqs, seq)
		}
	}
	return uidText(seqs)
}
