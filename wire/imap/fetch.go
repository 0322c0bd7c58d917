package imap

import (
	"context"
	"io"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail/mime"
)

// seenBatch is how many messages get \Seen in one transaction behind their data.
const seenBatch = 64

// maxHeader bounds the memory for the header of a nested part.
const maxHeader = 1 << 20

func cmdFetch(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doFetch(ctx, p, false)
}

func cmdUIDFetch(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doFetch(ctx, p, true)
}

// fetch is one FETCH in progress.
type fetch struct {
	c     *conn
	ctx   context.Context
	items []fetchItem
	since uint64 // CHANGEDSINCE

	needSummary, needTree bool
	preview, saveDate     bool
	modseq, uid, flags    bool
	seen                  bool // some item sets \Seen
	gone                  bool // a message was expunged while we read
	batch                 []pending

	ahead bodyQueue
}

// pending is a message whose \Seen is to be set.
type pending struct {
	seq uint32
	uid uint32
}

// doFetch is RFC 9051 §6.4.5 and §6.4.9, RFC 7162 §3.1.4 and §3.2.6.
func (c *conn) doFetch(ctx context.Context, p *parser, byUID bool) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	set, err := p.sequence()
	if err != nil {
		return reply{}, err
	}
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	f := &fetch{c: c, ctx: ctx, uid: byUID}
	if f.items, err = p.fetchItems(); err != nil {
		return reply{}, err
	}
	vanished := false
	if p.take(' ') {
		if vanished, err = p.fetchModifiers(f); err != nil {
			return reply{}, err
		}
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	if vanished && (!byUID || f.since == 0 || !c.enabled.qresync) {
		return reply{}, bad("", "VANISHED needs QRESYNC, UID FETCH and CHANGEDSINCE")
	}
	f.plan()
	if f.needsBody(nil) {
		f.ahead.open(c.sel.mailbox)
		defer f.ahead.close()
	}
	if f.since > 0 {
		c.enabled.condstore, f.modseq = true, true // RFC 7162 §3.1.4.1
	}
	if err := c.refreshFor(ctx, byUID); err != nil {
		return reply{}, err
	}
	if vanished {
		ranges := set.resolve(c.sel.seq.last())
		if set.saved {
			ranges = rangesOf(c.sel.saved)
		}
		if err := c.tellVanished(ctx, ranges, f.since, 0); err != nil {
			return reply{}, err
		}
	}
	gone, err := c.each(set, byUID, func(seq uint32, e Entry) error {
		if e.ModSeq <= f.since {
			return nil
		}
		return f.next(seq, e)
	})
	if err == nil {
		err = f.rest()
	}
	if err != nil {
		return reply{}, err
	}
	if err := f.setSeen(); err != nil {
		return reply{}, err
	}
	return goneReply(gone || f.gone, byUID, reply{"", "FETCH done"})
}

// plan finds out what the items need.
func (f *fetch) plan() {
	var size, whole bool
	for _, it := range f.items {
		switch it.kind {
		case itemFlags:
			f.flags = true
		case itemUID:
			f.uid = true
		case itemModSeq:
			f.modseq, f.c.enabled.condstore = true, true
		case itemDate:
			f.needSummary = true
		case itemSize:
			size = true
		case itemEmailID, itemThreadID:
		case itemSaveDate:
			f.saveDate = true
		default:
			if it.isWhole() {
				whole = true
				break
			}
			f.needSummary = true
			f.needTree = f.needTree || !it.fromHeader()
			f.preview = f.preview || it.kind == itemPreview
		}
		f.seen = f.seen || ((it.kind == itemSection || it.kind == itemBinary) && !it.peek && !f.c.sel.readOnly)
	}
	// A whole message tells its size: reading it alone costs no summary.
	f.needSummary = f.needSummary || size && !whole
}

func (p *parser) fetchModifiers(f *fetch) (vanished bool, err error) {
	err = p.list(false, func() error {
		switch {
		case p.word("CHANGEDSINCE"):
			if err := p.sp(); err != nil {
				return err
			}
			n, err := p.number64()
			if err == nil && n == 0 {
				err = syntaxf("CHANGEDSINCE needs a mod-sequence")
			}
			f.since = n
			return err
		case p.word("VANISHED"):
			vanished = true
			return nil
		}
		return syntaxf("unknown FETCH modifier")
	})
	return vanished, err
}

// message writes the response for one message. ready is its body, when that was
// opened ahead.
func (f *fetch) message(seq uint32, e Entry, ready readyBody) error {
	c, m := f.c, f.c.sel.mailbox
	var keywords []string
	var sum *Summary
	var tree *mime.Part
	var err error
	if f.flags {
		if keywords, err = c.keywords(f.ctx, &e); err != nil {
			return f.skipGone(err)
		}
	}
	if f.needSummary {
		if sum, err = m.Summary(f.ctx, e); err != nil {
			return f.skipGone(err)
		}
		if f.needTree || sum.Header == nil {
			if tree, err = sum.Structure(); err != nil {
				return f.skipGone(err)
			}
		}
	}
	lazy := &lazyBody{ctx: f.ctx, mailbox: m, entry: e, ready: ready}
	defer lazy.close()
	if f.needsBody(sum) { // before the response begins, while an error can still be told
		if _, err := lazy.get(); err != nil {
			return f.skipGone(err)
		}
	}
	sizes, err := f.binarySizes(tree, lazy)
	if err != nil {
		return err
	}
	shown := ""
	if f.preview {
		body, err := lazy.get()
		if err == nil {
			shown, err = preview(tree, body)
		}
		if err != nil {
			return f.skipGone(err)
		}
	}
	var saved time.Time
	if f.saveDate {
		if saved, err = m.SaveDate(f.ctx, e); err != nil {
			return f.skipGone(err)
		}
	}
	w := &c.w
	w.s("* ").u32(seq).s(" FETCH (")
	sep := ""
	if f.uid {
		w.s("UID ").u32(e.UID)
		sep = " "
	}
	for i := range f.items {
		it := &f.items[i]
		if it.kind == itemUID || it.kind == itemModSeq {
			continue // written once, whatever the client asked for
		}
		w.s(sep)
		sep = " "
		switch it.kind {
		case itemFlags:
			c.flags(e, keywords)
		case itemDate:
			w.s(sum.Date.Format(`INTERNALDATE "_2-Jan-2006 15:04:05 -0700"`))
		case itemSize:
			n := int64(0)
			if sum != nil {
				n = sum.Size
			} else {
				n = lazy.body.Size()
			}
			w.s("RFC822.SIZE ").u(uint64(n))
		case itemEnvelope:
			w.s("ENVELOPE ")
			c.envelope(tree.Envelope)
		case itemBodyStructure:
			w.s("BODYSTRUCTURE ")
			c.structure(tree, true)
		case itemBody:
			w.s("BODY ")
			c.structure(tree, false)
		case itemEmailID:
			w.s("EMAILID (M").u(e.ID).s(")")
		case itemSaveDate:
			c.saveDate(saved)
		case itemThreadID: // there are no threads (RFC 8474 §5.2)
			w.s("THREADID NIL")
		case itemPreview:
			w.s("PREVIEW ").str(shown, c.enabled.utf8ok())
		case itemBinarySize:
			w.s(it.name, " ").u(uint64(sizes[i]))
		case itemBinary:
			if err := f.binary(it, tree, lazy, sizes[i]); err != nil {
				return &brokenError{err}
			}
		default:
			if err := f.section(it, sum, tree, lazy); err != nil {
				return &brokenError{err}
			}
		}
	}
	if f.modseq || (c.enabled.condstore && f.flags) {
		w.s(sep, "MODSEQ (").u(e.ModSeq).s(")")
	}
	w.s(")\r\n")
	if f.seen && e.Flags&Seen == 0 {
		f.batch = append(f.batch, pending{seq, e.UID})
		if len(f.batch) >= seenBatch {
			return f.setSeen()
		}
	}
	return w.err
}

// brokenError is a failure in the middle of a response: no honest continuation is
// possible, so the connection ends.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// skipGone drops the error of a message that was expunged meanwhile.
func skipGone(err error) error {
	if err != nil && errs.KindOf(err) == errs.NotFound {
		return nil
	}
	return err
}

func (f *fetch) skipGone(err error) error {
	if err = skipGone(err); err == nil {
		f.gone = true
	}
	return err
}

// setSeen sets \Seen on the messages whose data was sent, and tells it. It is done
// behind the data, in batches: a commit for each message would be slow.
func (f *fetch) setSeen() error {
	if len(f.batch) == 0 {
		return nil
	}
	c := f.c
	uids := make([]uint32, len(f.batch))
	for i, b := range f.batch {
		uids[i] = b.uid
	}
	res, err := c.sel.mailbox.SetFlags(f.ctx, SetFlags{UIDs: uids, Op: FlagsAdd, Flags: Seen})
	if err != nil {
		return err
	}
	for _, e := range res.Changed {
		seq, ok := c.sel.seq.seq(e.UID)
		if !ok {
			continue
		}
		if err := c.tellFlagsOf(f.ctx, seq, e, f.uid, true); err != nil {
			return err
		}
	}
	c.sel.own = append(c.sel.own, res.Changed...)
	f.batch = f.batch[:0]
	return nil
}

// needsBody reports whether an item needs more than the summary. Without one it says
// what is sure beforehand.
func (f *fetch) needsBody(sum *Summary) bool {
	for i := range f.items {
		switch it := &f.items[i]; it.kind {
		case itemBinary, itemBinarySize, itemPreview:
			return true
		case itemSection:
			if !it.fromHeader() || sum != nil && sum.Header == nil {
				return true
			}
		}
	}
	return false
}

// fromHeader reports an item that the summary's header answers.
func (it *fetchItem) fromHeader() bool {
	return it.kind == itemSection && len(it.path) == 0 && it.what == mime.Header
}

// isWhole reports an item that is the message or a piece of it by offset.
func (it *fetchItem) isWhole() bool {
	return it.kind == itemSection && len(it.path) == 0 && it.what == mime.Whole
}

// section writes BODY[…] and its relatives.
func (f *fetch) section(it *fetchItem, sum *Summary, tree *mime.Part, lazy *lazyBody) error {
	c := f.c
	w := &c.w
	w.s(it.name)
	if it.partial {
		w.s("<").u(it.offset).s(">")
	}
	w.s(" ")
	if it.fromHeader() && sum.Header != nil {
		header := sum.Header
		if it.fields != nil {
			header = mime.FilterFields(header, it.fields, it.not)
		}
		w.lit(cutPartial(header, it))
		return w.err
	}
	body, err := lazy.get()
	if err != nil {
		return err
	}
	if it.isWhole() && !it.partial {
		w.s("{").u(uint64(body.Size())).s("}\r\n")
		n, err := body.WriteTo(w)
		if err == nil && n != body.Size() {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	r, ok := mime.Range{Start: 0, End: body.Size()}, true
	if !it.isWhole() {
		r, ok = tree.Section(it.path, it.what)
	}
	if !ok || r.End > body.Size() {
		w.s("NIL")
		return w.err
	}
	if it.fields != nil { // only the beginning of a header of absurd length is searched
		if r.Len() > maxHeader {
			r.End = r.Start + maxHeader
		}
		header := make([]byte, r.Len())
		if _, err := body.ReadAt(header, r.Start); err != nil && err != io.EOF {
			return err
		}
		w.lit(cutPartial(mime.FilterFields(header, it.fields, it.not), it))
		return w.err
	}
	if it.partial {
		start := r.Start + int64(min(it.offset, uint64(r.Len())))
		r = mime.Range{Start: start, End: start + int64(min(it.len, uint64(r.End-start)))}
	}
	w.s("{").u(uint64(r.Len())).s("}\r\n")
	return copyRange(w, body, r)
}

// copyBuffer is the step of reading a part of a body.
const copyBuffer = 32 << 10

func copyRange(w *writer, body Body, r mime.Range) error {
	buf := make([]byte, min(r.Len(), copyBuffer))
	for at := r.Start; at < r.End; {
		n, err := body.ReadAt(buf[:min(int64(len(buf)), r.End-at)], at)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		at += int64(n)
	}
	return w.err
}

func cutPartial(b []byte, it *fetchItem) []byte {
	if !it.partial {
		return b
	}
	b = b[min(it.offset, uint64(len(b))):]
	return b[:min(it.len, uint64(len(b)))]
}
