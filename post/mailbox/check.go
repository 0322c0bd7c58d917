package mailbox

import (
	"context"
	"slices"

	"postern.email/kit/errs"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// Check walks every invariant of all mailboxes and reports each one that is broken. It
// needs no key, may run beside a working server, and changes nothing. The error says
// only that the walk itself failed.
func (b *Boxes) Check(ctx context.Context, report func(Finding)) error {
	const op = "post/mailbox.Check"
	// The files are listed before the records are read: a file that is listed and not being
	// prepared has its record by then, or lost it.
	files, err := b.blobs.List()
	if err != nil {
		return errs.Wrap(op, err)
	}
	var acc *accountCheck
	named := make(map[blob.Name]struct{})
	finish := func() error {
		if acc == nil {
			return nil
		}
		acc.judge(report)
		for n, m := range acc.blobs {
			named[n] = struct{}{}
			if err := b.checkFile(ctx, acc.id, n, acc.mails[m], report); err != nil {
				return err
			}
		}
		return nil
	}
	err = b.o.Store.Walk(ctx, func(_ store.Shard, k, v []byte) (bool, error) {
		id, kind, rest, ok := kindOf(k)
		if !ok {
			return true, nil
		}
		if acc == nil || acc.id != id {
			if err := finish(); err != nil {
				return false, err
			}
			acc = newAccountCheck(id)
		}
		if !acc.take(kind, rest, v) {
			report(Finding{What: "a record of kind '" + string(kind) + "' cannot be read", Account: id.String()})
		}
		return true, nil
	})
	if err == nil {
		err = finish()
	}
	if err != nil {
		return errs.Wrap(op, err)
	}
	for _, n := range files {
		if _, ok := named[n]; ok {
			continue
		}
		// Its mail may have been deleted since the listing; then the file is gone too.
		if _, err := b.blobs.Size(n); err == nil {
			report(Finding{What: "a body file belongs to no mail"})
		}
	}
	return nil
}

// checkFile looks at the file of one mail. The mail may have been deleted since the walk began.
func (b *Boxes) checkFile(ctx context.Context, id seal.AccountID, n blob.Name, m *mailCheck, report func(Finding)) error {
	size, err := b.blobs.Size(n)
	switch {
	case err == nil && m != nil && size != m.head.stored-m.summary:
		report(Finding{What: "a body file has the wrong length", Account: id.String()})
	case err != nil && errs.KindOf(err) == errs.NotFound:
		err := b.o.Store.View(ctx, id.Shard(), func(r store.Reader) error {
			_, err := r.Get(blobKey(id, n))
			return err
		})
		if err == nil {
			report(Finding{What: "the body file of a mail is missing", Account: id.String()})
		} else if errs.KindOf(err) != errs.NotFound {
			return err
		}
	case err != nil:
		return err
	}
	return nil
}

// accountCheck gathers the records of one account, without bodies.
type accountCheck struct {
	id        seal.AccountID
	others    bool // there are records of other packages: the account exists
	counters  *counters
	states    map[uint32]*boxState
	folders   map[uint32]bool
	list      bool
	metadata  []uint32
	series    map[uint32]*seriesCheck
	mails     map[uint64]*mailCheck
	bodies    map[uint64]int64
	refs      map[uint64]uint64
	blobs     map[blob.Name]uint64
	encaps    map[seal.ChainID]bool
	chainRefs map[seal.ChainID]uint64
}

type seriesCheck struct {
	doomed   bool
	users    int // mailboxes that lie here
	names    bool
	pages    []pageCheck
	keywords map[uint32]bool
	saved    map[uint32]bool
	tombs    []tombCheck
}

type pageCheck struct {
	key  uint32
	info pageInfo
	rows []Entry
}

type tombCheck struct {
	modseq uint64
	uids   []uint32
}

type mailCheck struct {
	head    messageHead
	summary int64 // its sealed length
	found   uint64
}

func newAccountCheck(id seal.AccountID) *accountCheck {
	return &accountCheck{id: id, states: map[uint32]*boxState{}, folders: map[uint32]bool{},
		series: map[uint32]*seriesCheck{}, mails: map[uint64]*mailCheck{}, bodies: map[uint64]int64{},
		refs: map[uint64]uint64{}, blobs: map[blob.Name]uint64{}, encaps: map[seal.ChainID]bool{},
		chainRefs: map[seal.ChainID]uint64{}}
}

func (c *accountCheck) at(series uint32) *seriesCheck {
	s := c.series[series]
	if s == nil {
		s = &seriesCheck{keywords: map[uint32]bool{}, saved: map[uint32]bool{}}
		c.series[series] = s
	}
	return s
}

// restLen gives the length of a key behind its kind; -1 for kinds of other packages.
func restLen(kind byte) int {
	switch kind {
	case kindCounters, kindFolderList:
		return 0
	case kindFolder, kindState, kindMetadata, kindKeyNames, kindDoomed:
		return 4
	case kindPage, kindKeywords, kindSaved, kindMessage, kindBody, kindRefs:
		return 8
	case kindTombstone:
		return 12
	case kindBlob, kindEncap, kindChainRefs:
		return 16
	}
	return -1
}

// take notes one record; false if it cannot be read.
func (c *accountCheck) take(kind byte, rest, v []byte) bool {
	want := restLen(kind)
	if want < 0 {
		c.others = true
		return true
	}
	if len(rest) != want {
		return false
	}
	var err error
	switch kind {
	case kindCounters:
		var n counters
		if n, err = decodeCounters(v); err == nil {
			c.counters = &n
		}
	case kindFolderList:
		c.list = true
		_, err = decodeCount(v)
	case kindFolder:
		c.folders[keyUID(rest)] = true
	case kindState:
		var st *boxState
		if st, err = decodeState(v); err == nil {
			c.states[keyUID(rest)] = st
		}
	case kindMetadata:
		c.metadata = append(c.metadata, keyUID(rest))
	case kindKeyNames:
		c.at(keyUID(rest)).names = true
	case kindDoomed:
		c.at(keyUID(rest)).doomed = true
	case kindPage:
		var p pageCheck
		p.key = keyUID(rest)
		if p.rows, p.info, err = decodePage(nil, v); err == nil {
			s := c.at(keyUID(rest[:4]))
			s.pages = append(s.pages, p)
		}
	case kindKeywords:
		c.at(keyUID(rest[:4])).keywords[keyUID(rest)] = true
	case kindSaved:
		c.at(keyUID(rest[:4])).saved[keyUID(rest)] = true
	case kindTombstone:
		t := tombCheck{modseq: keyUint64(rest)}
		t.uids, err = decodeTombstone(nil, v)
		s := c.at(keyUID(rest[:4]))
		s.tombs = append(s.tombs, t)
	case kindMessage:
		var sealed []byte
		m := &mailCheck{}
		if m.head, sealed, err = decodeMessage(v); err == nil {
			m.summary = int64(len(sealed))
			c.mails[keyUint64(rest)] = m
		}
	case kindBody:
		c.bodies[keyUint64(rest)] = int64(len(v))
	case kindRefs:
		c.refs[keyUint64(rest)], err = decodeCount(v)
	case kindBlob:
		c.blobs[blob.Name(rest)], err = decodeCount(v)
	case kindEncap:
		c.encaps[seal.ChainID(rest)] = len(v) == seal.EncapLen
	case kindChainRefs:
		c.chainRefs[seal.ChainID(rest)], err = decodeCount(v)
	}
	return err == nil
}

// judge compares what was gathered.
func (c *accountCheck) judge(report func(Finding)) {
	if len(c.states)+len(c.folders)+len(c.mails)+len(c.series)+len(c.bodies)+len(c.blobs) == 0 {
		return // no mailboxes: not made yet, or removed
	}
	say := func(bad bool, what string) {
		if bad {
			report(Finding{What: what, Account: c.id.String()})
		}
	}
	say(c.counters == nil, "the account has no counters")
	if c.counters == nil {
		c.counters = &counters{}
	}
	say(c.states[Inbox] == nil, "the account has no INBOX")
	say(!c.list, "the account has no folder list record")
	say(len(c.folders) != c.counters.folders, "the number of folders is not what the counters say")
	for box := range c.folders {
		say(box >= c.counters.nextBox, "a folder has a number that was not given out yet")
	}
	for _, box := range c.metadata {
		say(box != 0 && c.states[box] == nil, "annotations belong to no mailbox")
	}
	for _, box := range sortedKeys(c.states) {
		st := c.states[box]
		say(!c.folders[box], "a mailbox has no folder name")
		say(st.series >= c.counters.nextSeries, "a mailbox has a series that was not given out yet")
		say(st.uidValidity >= c.counters.nextUIDValidity, "a mailbox has a UIDVALIDITY that was not given out yet")
		s := c.at(st.series)
		s.users++
		c.judgeBox(box, st, s, report)
	}
	for _, s := range c.series {
		users := s.users
		if s.doomed {
			users++
		}
		say(users == 0, "records of a mailbox that does not exist")
		say(users > 1, "two mailboxes share their records")
		for i := range s.pages {
			for j := range s.pages[i].rows {
				m := c.mails[s.pages[i].rows[j].Mid]
				say(m == nil, "a mail in a mailbox has no message record")
				if m != nil {
					m.found++
				}
			}
		}
	}
	c.judgeMails(say)
}

// judgeBox compares one mailbox with its pages.
func (c *accountCheck) judgeBox(box uint32, st *boxState, s *seriesCheck, report func(Finding)) {
	say := func(bad bool, what string) {
		if bad {
			report(Finding{What: what, Account: c.id.String(), Box: box})
		}
	}
	var have boxState
	uids := make(map[uint32]bool)
	words, copied := 0, 0
	var last uint32
	for i, p := range s.pages {
		say(p.rows[0].UID < p.key || p.rows[0].UID <= last, "pages are out of order")
		say(p.info.highest > st.dirtyFloor && !slices.ContainsFunc(st.dirty, func(d dirtyPage) bool { return d.page == p.key }),
			"a page that changed is not noted as changed")
		for j := range p.rows {
			e := &p.rows[j]
			last = e.UID
			uids[e.UID] = true
			have.count(e, 1)
			if m := c.mails[e.Mid]; m != nil {
				have.size += m.head.stored
			}
			say(e.UID >= st.uidNext, "a UID is not below UIDNEXT")
			say(e.ModSeq > st.highest, "a modseq is above HIGHESTMODSEQ")
			if e.Flags&HasKeywords != 0 {
				words++
				say(!s.keywords[e.UID], "keywords of a mail are missing")
			}
			if e.Flags&Copied != 0 {
				copied++
				say(!s.saved[e.UID], "the save date of a copied mail is missing")
			}
		}
		say(st.tail == p.key && i != len(s.pages)-1, "the page for new mails is not the last one")
	}
	say(st.tail != 0 && (len(s.pages) == 0 || s.pages[len(s.pages)-1].key != st.tail), "the page for new mails does not exist")
	say(have.messages != st.messages, "the number of mails is not what the pages hold")
	say(have.unseen != st.unseen, "the number of unseen mails is not what the pages hold")
	say(have.deleted != st.deleted, "the number of deleted mails is not what the pages hold")
	say(have.size != st.size, "the size of the mailbox is not the sum of its mails")
	say(len(s.keywords) > words, "keywords belong to no mail")
	say(len(s.saved) > copied, "a save date belongs to no copied mail")
	say(len(s.keywords) > 0 && !s.names, "the list of keywords is missing")
	say(st.recent > st.uidNext, "a claim of recent mails reaches beyond UIDNEXT")
	tombs := 0
	for _, t := range s.tombs {
		tombs += len(t.uids)
		say(t.modseq <= st.tombFloor || t.modseq > st.highest, "an expunge is remembered under a wrong modseq")
		for _, u := range t.uids {
			say(u >= st.uidNext || uids[u], "a mail is remembered as expunged and is not")
		}
	}
	say(tombs != st.tombs, "the number of remembered expunges is wrong")
}

// judgeMails compares message records with what they refer to and what refers to them.
func (c *accountCheck) judgeMails(say func(bool, string)) {
	var used int64
	chains := make(map[seal.ChainID]uint64)
	for mid, m := range c.mails {
		used += m.head.stored
		chains[m.head.chain]++
		say(mid >= c.counters.nextMid, "a message record has a number that was not given out yet")
		say(m.found == 0, "a message record belongs to no mailbox")
		refs, ok := c.refs[mid]
		if !ok {
			refs = 1
		}
		say(m.found != 0 && refs != m.found || ok && refs < 2, "a message record counts its mailboxes wrongly")
		if m.head.blob {
			n, ok := c.blobs[m.head.name]
			say(!ok || n != mid, "a message record's body file is not listed")
			continue
		}
		body, ok := c.bodies[mid]
		say(!ok, "the body of a mail is missing")
		say(ok && body+m.summary != m.head.stored, "the stored size of a mail is wrong")
	}
	for mid := range c.bodies {
		m := c.mails[mid]
		say(m == nil || m.head.blob, "a body belongs to no mail")
	}
	for mid := range c.refs {
		say(c.mails[mid] == nil, "a reference count belongs to no mail")
	}
	for n, mid := range c.blobs {
		m := c.mails[mid]
		say(m == nil || !m.head.blob || m.head.name != n, "a listed body file belongs to no mail")
	}
	say(used != c.counters.used, "the used bytes are not the sum of the mails")
	for chain, n := range chains {
		say(!c.encaps[chain], "an encapsulation that mails need is missing")
		say(c.chainRefs[chain] != n, "the mails of an encapsulation are counted wrongly")
	}
	for chain := range c.encaps {
		say(chains[chain] == 0, "an encapsulation is kept that no mail needs")
	}
	for chain := range c.chainRefs {
		say(chains[chain] == 0, "a count of mails belongs to no encapsulation")
	}
}

func sortedKeys(m map[uint32]*boxState) []uint32 {
	keys := make([]uint32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
