package imap

import (
	"context"
	"slices"
	"sort"
	"strings"

	"postern.email/kit/errs"
)

// selected is what a client was told about the mailbox it has selected.
type selected struct {
	mailbox     Mailbox
	box         uint32
	readOnly    bool
	uidValidity uint32

	seq     seqMap
	uidNext uint32 // messages from here on were not told yet
	told    uint64 // changes of flags up to this modseq were told
	recent  uint32 // lowest UID that is \Recent to this session
	saved   []uint32
	known   map[string]struct{} // keywords told by an untagged FLAGS, beside commonKeywords

	// fresh are the messages told by EXISTS before the current command, up to the
	// modseq freshAt: their flags were never told, so there is nothing to tell again.
	fresh   uint32
	freshAt uint64

	expunged bool // the current command removed messages: the client is told whatever it asked for

	view View    // the current state; only while a command runs
	own  []Entry // what this command changed and told already
}

// commonKeywords are told with every SELECT, whether in use or not. Others are told
// before their first use. All are in the IANA registry of IMAP keywords.
var commonKeywords = []string{"$Forwarded", "$MDNSent", "$Junk", "$NotJunk", "$Phishing", "$Important"}

// maxKnown bounds the memory for keywords; beyond it they are simply told again.
const maxKnown = 1000

// refresh takes the current state of the mailbox for a command.
func (c *conn) refresh(ctx context.Context) error {
	v, err := c.sel.mailbox.View(ctx)
	switch k := errs.KindOf(err); {
	case err == nil:
	case k == errs.NotFound || k == errs.Denied:
		// The mailbox was deleted, or the user was locked out: nothing is left to do.
		return &statusError{code: respCode(k, false), text: publicText(errs.Public(err)), closing: true}
	default:
		return err
	}
	if v.UIDValidity() != c.sel.uidValidity {
		return &statusError{code: "UIDNOTSTICKY", text: "The mailbox was replaced, select it again", closing: true}
	}
	c.sel.view = v
	return nil
}

// refreshFor is refresh for a command that names messages. One that names UIDs may
// mean a message that this session was not told yet (by APPENDUID of another one):
// it is told first, so that it has a number.
func (c *conn) refreshFor(ctx context.Context, byUID bool) error {
	if err := c.refresh(ctx); err != nil || !byUID {
		return err
	}
	c.sel.fresh, c.sel.freshAt = c.sel.uidNext, c.sel.view.HighestModSeq()
	return c.tellNew(ctx)
}

// sync tells the client what changed: expunged messages if that is allowed now
// (RFC 9051 §7.5.1), new ones, new flags.
func (c *conn) sync(ctx context.Context, expunge bool) error {
	s := c.sel
	if err := c.refresh(ctx); err != nil {
		return err
	}
	v := s.view
	defer func() { s.own, s.freshAt, s.expunged = nil, 0, false }()
	want := c.wanted()
	if v.HighestModSeq() == s.told && v.Len() == int(s.seq.len()) {
		return nil
	}
	old, _ := v.Find(s.uidNext) // entries before old may be known to the client
	if expunge && old < int(s.seq.len()) && (want&evExpunge != 0 || s.expunged) {
		c.tellExpunged(v, old)
	}
	// Flags first, with numbers that the client knows; then the new size.
	if want&evFlags != 0 {
		if err := c.tellPending(ctx); err != nil {
			return err
		}
	}
	return c.tellNew(ctx)
}

// tellNew tells the messages that arrived.
func (c *conn) tellNew(ctx context.Context) error {
	s, v := c.sel, c.sel.view
	if c.wanted()&evNew == 0 {
		return nil
	}
	old, _ := v.Find(s.uidNext)
	if n := v.Len(); old < n {
		first := s.seq.len() + 1
		for _, e := range v.Range(old, n) {
			s.seq.add(e.UID)
			s.uidNext = e.UID + 1
		}
		if !s.readOnly && !c.enabled.rev2 {
			if _, err := s.mailbox.Recent(ctx, v, true); err != nil {
				return err
			}
		}
		c.w.s("* ").u32(s.seq.len()).s(" EXISTS\r\n")
		c.tellRecent()
		if c.notify != nil && len(c.notify.items) > 0 {
			return c.fetchNew(ctx, first, v, old)
		}
	}
	return nil
}

// tellRecent writes the RECENT count for clients of IMAP4rev1.
func (c *conn) tellRecent() {
	if !c.enabled.rev2 {
		c.w.s("* ").u32(c.sel.recentCount()).s(" RECENT\r\n")
	}
}

func (s *selected) recentCount() uint32 {
	return s.seq.len() + 1 - s.seq.lower(s.recent)
}

// tellExpunged finds what is in the client's map and no longer in the view.
func (c *conn) tellExpunged(v View, old int) {
	s := c.sel
	var seqs, uids []uint32
	i := 0
	for r := range s.seq.runs {
		uid, end := s.seq.runs[r].uid, s.seq.end(r)
		for q := s.seq.runs[r].seq; q < end; q, uid = q+1, uid+1 {
			for i < old && v.At(i).UID < uid {
				i++
			}
			if i < old && v.At(i).UID == uid {
				i++
				continue
			}
			seqs, uids = append(seqs, q), append(uids, uid)
		}
	}
	s.seq.remove(seqs)
	if c.enabled.qresync { // RFC 7162 §3.2.10
		if len(uids) > 0 {
			c.w.s("* VANISHED ").uidList(uids).crlf()
		}
		return
	}
	// From the end, so that no number changes before it is used.
	for k := len(seqs) - 1; k >= 0; k-- {
		c.w.s("* ").u32(seqs[k]).s(" EXPUNGE\r\n")
	}
}

// tellPending tells the changes of flags in the current view.
func (c *conn) tellPending(ctx context.Context) error {
	s := c.sel
	if s.view.HighestModSeq() == s.told {
		return nil
	}
	old, _ := s.view.Find(s.uidNext)
	if err := c.tellFlags(ctx, s.view, old); err != nil {
		return err
	}
	s.told = s.view.HighestModSeq()
	return nil
}

// tellFlags sends the flags of known messages that changed since they were told.
func (c *conn) tellFlags(ctx context.Context, v View, old int) error {
	s := c.sel
	for i, e := range v.Changed(s.told) {
		if i >= old {
			break
		}
		if s.isOwn(e) || (e.UID >= s.fresh && e.ModSeq <= s.freshAt) {
			continue
		}
		seq, ok := s.seq.seq(e.UID)
		if !ok {
			continue
		}
		if err := c.tellFlagsOf(ctx, seq, e, true, true); err != nil {
			return err
		}
	}
	return c.w.err
}

// isOwn reports a change that the current command made and told.
func (s *selected) isOwn(e Entry) bool {
	i := sort.Search(len(s.own), func(i int) bool { return s.own[i].UID >= e.UID })
	return i < len(s.own) && s.own[i].UID == e.UID && s.own[i].ModSeq == e.ModSeq
}

// tellFlagsOf writes one FETCH response with UID, FLAGS and MODSEQ as asked for.
func (c *conn) tellFlagsOf(ctx context.Context, seq uint32, e Entry, uid, flags bool) error {
	var keywords []string
	if flags {
		var err error
		keywords, err = c.keywords(ctx, &e)
		if errs.KindOf(err) == errs.NotFound && err != nil {
			return nil // gone meanwhile: EXPUNGE will say so
		}
		if err != nil {
			return err
		}
	}
	c.w.s("* ").u32(seq).s(" FETCH (")
	sep := ""
	if uid || c.enabled.condstore { // RFC 7162 §3.2.4: UID and MODSEQ, as QRESYNC is offered
		c.w.s("UID ").u32(e.UID)
		sep = " "
	}
	if flags {
		c.w.s(sep)
		c.flags(e, keywords)
		sep = " "
	}
	if c.enabled.condstore {
		c.w.s(sep, "MODSEQ (").u(e.ModSeq).s(")")
	}
	c.w.s(")\r\n")
	return c.w.err
}

// keywords gives the keywords of a message and tells those that are new to this
// client by an untagged FLAGS; e becomes the entry of the same moment. It must not
// be called inside a response.
func (c *conn) keywords(ctx context.Context, e *Entry) ([]string, error) {
	if e.Flags&HasKeywords == 0 {
		return nil, nil
	}
	kw, err := c.sel.mailbox.Keywords(ctx, e)
	if err != nil {
		return nil, err
	}
	c.announce(kw)
	return kw, nil
}

func (c *conn) announce(keywords []string) {
	if c.sel.learn(keywords) {
		c.tellKnown()
	}
}

// learn notes keywords and reports whether one of them was not known.
func (s *selected) learn(keywords []string) (fresh bool) {
	for _, k := range keywords {
		if slices.Contains(commonKeywords, k) {
			continue
		}
		if _, ok := s.known[k]; ok {
			continue
		}
		if s.known == nil || len(s.known) >= maxKnown {
			s.known = make(map[string]struct{})
		}
		s.known[k] = struct{}{}
		fresh = true
	}
	return fresh
}

// tellKnown writes the untagged FLAGS (RFC 9051 §7.3.5).
func (c *conn) tellKnown() {
	c.w.s("* FLAGS (", c.knownFlags(), ")\r\n")
}

func (c *conn) knownFlags() string {
	names := make([]string, 0, len(systemFlags)+len(commonKeywords)+len(c.sel.known))
	for _, f := range systemFlags {
		names = append(names, f.name)
	}
	names = append(names, commonKeywords...)
	own := len(names)
	for k := range c.sel.known {
		names = append(names, k)
	}
	sort.Strings(names[own:])
	return strings.Join(names, " ")
}

// flags writes the FLAGS item.
func (c *conn) flags(e Entry, keywords []string) {
	c.w.s("FLAGS (")
	sep := ""
	for _, f := range systemFlags {
		if e.Flags&f.bit != 0 {
			c.w.s(sep, f.name)
			sep = " "
		}
	}
	for _, k := range keywords {
		c.w.s(sep, k)
		sep = " "
	}
	if !c.enabled.rev2 && e.UID >= c.sel.recent {
		c.w.s(sep, `\Recent`)
	}
	c.w.s(")")
}

// each calls fn for every message of a set that still exists, by ascending
// number, until fn gives an error. gone says that some exist no more, though the
// client was not told yet. Numbers beyond the mailbox are BAD, UIDs are not (RFC
// 9051 §6.4.9).
func (c *conn) each(set numSet, byUID bool, fn func(seq uint32, e Entry) error) (gone bool, err error) {
	s := c.sel
	var rs []numRange
	switch {
	case set.saved:
		rs, byUID = rangesOf(s.saved), true
	case byUID:
		rs = set.resolve(s.seq.last())
	default:
		rs = set.resolve(s.seq.len())
		if len(set.ranges) > 0 && (s.seq.len() == 0 || rs[len(rs)-1].hi > s.seq.len()) {
			return false, bad("", "No such message number")
		}
	}
	at := 0 // position in the view
	for _, r := range rs {
		first, last := r.lo, r.hi
		if byUID {
			first = s.seq.lower(r.lo)
			last = s.seq.len()
		}
		for seq := first; seq <= last; seq++ {
			uid := s.seq.uid(seq)
			if byUID && uid > r.hi {
				break
			}
			if at >= s.view.Len() || s.view.At(at).UID != uid {
				var ok bool
				if at, ok = s.view.Find(uid); !ok {
					gone = true
					continue
				}
			}
			if err := fn(seq, s.view.At(at)); err != nil {
				return gone, err
			}
			if c.w.err != nil {
				return gone, c.w.err
			}
			at++
		}
	}
	return gone, nil
}

// uids gives the UIDs of a set, ascending.
func (c *conn) uids(set numSet, byUID bool) (uids []uint32, gone bool, err error) {
	gone, err = c.each(set, byUID, func(_ uint32, e Entry) error {
		uids = append(uids, e.UID)
		return nil
	})
	return uids, gone, err
}

// goneReply is the answer to a command by message numbers of which some messages
// were expunged by another session (RFC 5530 EXPUNGEISSUED); UIDs that are gone
// are silently left out.
func goneReply(gone, byUID bool, done reply) (reply, error) {
	if gone && !byUID {
		return reply{}, no("EXPUNGEISSUED", "Some of these messages exist no more")
	}
	return done, nil
}
