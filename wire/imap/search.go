package imap

import (
	"context"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

func cmdSearch(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doSearch(ctx, p, false)
}

func cmdUIDSearch(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doSearch(ctx, p, true)
}

// doSearch is RFC 9051 §6.4.4, RFC 4731 (ESEARCH), RFC 5182 (SEARCHRES) and RFC
// 7162 §3.1.5.
func (c *conn) doSearch(ctx context.Context, p *parser, byUID bool) (reply, error) {
	q, err := p.search()
	if err != nil {
		return c.searchFailed(&q, err)
	}
	if q.modseq {
		c.enabled.condstore = true
	}
	if err := c.refreshFor(ctx, byUID); err != nil {
		return reply{}, err
	}
	q.key.prepare(c.sel)
	var found, foundUIDs []uint32
	var highest uint64
	err = c.scan(ctx, &q.key, func(m *candidate) error {
		if byUID {
			found = append(found, m.e.UID)
		} else {
			found = append(found, m.seq)
		}
		if q.save && !byUID {
			foundUIDs = append(foundUIDs, m.e.UID)
		}
		highest = max(highest, m.e.ModSeq)
		return nil
	})
	if err != nil {
		return c.searchFailed(&q, err)
	}
	if q.save {
		c.save(&q, found, foundUIDs, byUID)
	}
	if !q.modseq {
		highest = 0
	}
	if q.extended || c.enabled.rev2 {
		c.esearch(&q, found, byUID, highest)
	} else {
		c.w.s("* SEARCH")
		for _, n := range found {
			c.w.s(" ").u32(n)
		}
		if highest > 0 {
			c.w.s(" (MODSEQ ").u(highest).s(")")
		}
		c.w.crlf()
	}
	return reply{"", "SEARCH done"}, nil
}

// searchFailed forgets what was saved when a search that was to be saved ends with NO, but
// not with BAD (RFC 5182 §2.1).
func (c *conn) searchFailed(q *searchRequest, err error) (reply, error) {
	if q.save && !answer(err, false).bad {
		c.sel.saved = nil
	}
	return reply{}, err
}

// scan calls fn for each message that matches, by ascending number. Messages that
// were expunged meanwhile are left out.
func (c *conn) scan(ctx context.Context, key *searchKey, fn func(*candidate) error) error {
	now := c.s.o.Now()
	shown := time.Now()
	_, err := c.each(numSet{ranges: []numRange{{1, 0}}}, true, func(seq uint32, e Entry) error {
		if err := ctx.Err(); err != nil {
			return errs.E("wire/imap.search", errs.Canceled, "", err)
		}
		// A long search says that it goes on (RFC 9585), and by that finds out whether
		// the client is still there.
		if time.Since(shown) >= c.s.o.Progress {
			c.w.s("* OK [INPROGRESS (").str(c.tag, false).s(" ").u32(seq - 1).s(" ").u32(c.sel.seq.len()).s(")] Still searching\r\n")
			if err := c.w.flush(); err != nil {
				return err
			}
			shown = time.Now()
		}
		m := &candidate{ctx: ctx, c: c, seq: seq, e: e, now: now}
		defer m.close()
		hit, err := m.matches(key)
		if err == nil && hit {
			err = fn(m)
		}
		return skipGone(err)
	})
	return err
}

// save keeps the result for "$" (RFC 5182 §2.4: with MIN or MAX alone, only those).
func (c *conn) save(q *searchRequest, found, foundUIDs []uint32, byUID bool) {
	uids := foundUIDs
	if byUID {
		uids = slices.Clone(found)
	}
	if (q.min || q.max) && !q.all && !q.count && len(uids) > 0 {
		var some []uint32
		if q.min {
			some = append(some, uids[0])
		}
		if last := uids[len(uids)-1]; q.max && (len(some) == 0 || some[0] != last) {
			some = append(some, last)
		}
		uids = some
	}
	c.sel.saved = uids
}

// esearch writes the ESEARCH response (RFC 9051 §7.3.4).
func (c *conn) esearch(q *searchRequest, found []uint32, byUID bool, highest uint64) {
	if q.save && !q.min && !q.max && !q.all && !q.count {
		return
	}
	all := q.all || !q.extended
	w := &c.w
	w.s("* ESEARCH (TAG ").str(c.tag, false).s(")")
	if byUID {
		w.s(" UID")
	}
	if n := len(found); n > 0 {
		if q.min {
			w.s(" MIN ").u32(found[0])
		}
		if q.max {
			w.s(" MAX ").u32(found[n-1])
		}
		if all {
			w.s(" ALL ").uidList(found)
		}
	}
	if q.count {
		w.s(" COUNT ").u(uint64(len(found)))
	}
	if highest > 0 {
		w.s(" MODSEQ ").u(highest)
	}
	w.crlf()
}

// prepare resolves sets and puts cheap keys first.
func (k *searchKey) prepare(s *selected) {
	switch k.op {
	case opNumbers:
		if k.nums.saved {
			k.op, k.ranges = opUIDs, rangesOf(s.saved)
			return
		}
		k.ranges = k.nums.resolve(s.seq.len())
	case opUIDs:
		if k.nums.saved {
			k.ranges = rangesOf(s.saved)
			return
		}
		k.ranges = k.nums.resolve(s.seq.last())
	case opNot, opOr, opAnd:
		for i := range k.sub {
			k.sub[i].prepare(s)
		}
		sort.SliceStable(k.sub, func(i, j int) bool { return k.sub[i].cost() < k.sub[j].cost() })
	}
}

// candidate is one message that is looked at; it loads what keys ask for.
type candidate struct {
	ctx context.Context
	c   *conn
	seq uint32
	e   Entry
	now time.Time

	sum    *Summary
	header *mail.Header
	body   Body
}

func (m *candidate) close() {
	if m.body != nil {
		_ = m.body.Close()
	}
}

func (m *candidate) summary() (*Summary, error) {
	if m.sum == nil {
		s, err := m.c.sel.mailbox.Summary(m.ctx, m.e)
		if err != nil {
			return nil, err
		}
		m.sum = s
	}
	return m.sum, nil
}

func (m *candidate) fields() (mail.Header, error) {
	if m.header == nil {
		s, err := m.summary()
		if err != nil {
			return mail.Header{}, err
		}
		raw := s.Header
		if raw == nil {
			if raw, err = m.longHeader(s); err != nil {
				return mail.Header{}, err
			}
		}
		h, _, _ := mail.ParseHeader(raw) // of a broken header what can be read
		m.header = &h
	}
	return *m.header, nil
}

// open opens the body once.
func (m *candidate) open() error {
	if m.body != nil {
		return nil
	}
	b, err := m.c.sel.mailbox.Body(m.ctx, m.e)
	if err == nil {
		m.body = b
	}
	return err
}

// longHeader reads the beginning of a header that the summary does not hold.
func (m *candidate) longHeader(s *Summary) ([]byte, error) {
	tree, err := s.Structure()
	if err != nil {
		return nil, err
	}
	if err := m.open(); err != nil {
		return nil, err
	}
	raw := make([]byte, min(tree.BodyStart, maxHeader, m.body.Size()))
	if _, err := m.body.ReadAt(raw, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return raw, nil
}

func (m *candidate) matches(k *searchKey) (bool, error) {
	switch k.op {
	case opAll:
		return true, nil
	case opNumbers:
		return inRanges(k.ranges, m.seq), nil
	case opUIDs:
		return inRanges(k.ranges, m.e.UID), nil
	case opFlag:
		return m.e.Flags&k.flag != 0, nil
	case opNoFlag:
		return m.e.Flags&k.flag == 0, nil
	case opRecent:
		return m.e.UID >= m.c.sel.recent, nil
	case opOld:
		return m.e.UID < m.c.sel.recent, nil
	case opEmailID:
		return m.e.ID == k.n, nil
	case opNever:
		return false, nil
	case opModSeq:
		return m.e.ModSeq >= k.n, nil
	case opKeyword, opNoKeyword:
		has, err := m.hasKeyword(k.name)
		return has == (k.op == opKeyword), err
	case opNot:
		hit, err := m.matches(&k.sub[0])
		return !hit, err
	case opOr, opAnd:
		for i := range k.sub {
			hit, err := m.matches(&k.sub[i])
			if err != nil || hit == (k.op == opOr) {
				return hit, err
			}
		}
		return k.op == opAnd, nil
	case opSavedBefore, opSavedOn, opSavedSince, opSaveDated:
		return m.matchSaved(k)
	case opBody, opText:
		return m.matchText(k)
	case opHeader:
		return m.matchHeader(k)
	case opSentBefore, opSentOn, opSentSince:
		return m.matchSent(k)
	}
	s, err := m.summary()
	if err != nil {
		return false, err
	}
	switch k.op {
	case opLarger:
		return uint64(s.Size) > k.n, nil
	case opSmaller:
		return uint64(s.Size) < k.n, nil
	case opOlder, opYounger:
		age := m.now.Sub(s.Date)
		young := k.n >= uint64(time.Duration(1<<63-1)/time.Second) || age <= time.Duration(k.n)*time.Second
		return young == (k.op == opYounger), nil
	}
	return compareDay(s.Date, k.date, k.op, opBefore), nil
}

// compareDay compares the day of t in its own zone (RFC 9051 §6.4.4 "disregarding
// time and timezone"); op counts from before: before, on, since.
func compareDay(t, day time.Time, op, before searchOp) bool {
	y, mo, d := t.Date()
	own := time.Date(y, mo, d, 0, 0, 0, 0, time.UTC)
	switch op - before {
	case 0:
		return own.Before(day)
	case 1:
		return own.Equal(day)
	}
	return !own.Before(day)
}

func (m *candidate) hasKeyword(name string) (bool, error) {
	if m.e.Flags&HasKeywords == 0 {
		return false, nil
	}
	kw, err := m.c.sel.mailbox.Keywords(m.ctx, &m.e)
	return slices.ContainsFunc(kw, func(k string) bool { return strings.EqualFold(k, name) }), err
}

func (m *candidate) matchSent(k *searchKey) (bool, error) {
	h, err := m.fields()
	if err != nil {
		return false, err
	}
	t, err := mail.ParseDate(h.Get("Date"))
	if err != nil {
		return false, nil // no date: no match
	}
	return compareDay(t, k.date, k.op, opSentBefore), nil
}

func (m *candidate) matchHeader(k *searchKey) (bool, error) {
	h, err := m.fields()
	if err != nil {
		return false, err
	}
	for _, v := range h.All(k.name) {
		if k.text == "" || strings.Contains(fold(decodeWords(v)), k.text) {
			return true, nil
		}
	}
	return false, nil
}
