package imap

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// sortField is one criterion of SORT (RFC 5256 §3).
type sortField uint8

const (
	sortArrival sortField = iota
	sortCc
	sortDate
	sortFrom
	sortSize
	sortSubject
	sortTo
)

var sortFields = map[string]sortField{"ARRIVAL": sortArrival, "CC": sortCc, "DATE": sortDate, "FROM": sortFrom,
	"SIZE": sortSize, "SUBJECT": sortSubject, "TO": sortTo}

type sortKey struct {
	field   sortField
	reverse bool
}

// Limits of one SORT: criteria, bytes of a text that are compared, and bytes of all
// texts together.
const (
	maxSortKeys   = 10
	maxSortText   = 200
	maxSortMemory = 64 << 20
)

func cmdSort(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doSort(ctx, p, false)
}

func cmdUIDSort(c *conn, ctx context.Context, p *parser) (reply, error) {
	return c.doSort(ctx, p, true)
}

// sorted is one message with what it is sorted by.
type sorted struct {
	seq, uid uint32
	numbers  []int64
	texts    []string
}

// doSort is RFC 5256 §3, with return options RFC 5267 §3, and RFC 7162 §3.1.9 and §3.1.10.
func (c *conn) doSort(ctx context.Context, p *parser, byUID bool) (reply, error) {
	var q searchRequest
	if err := p.returnOptions(&q); err != nil {
		return reply{}, err
	}
	keys, err := p.sortKeys()
	if err != nil {
		return reply{}, err
	}
	if err := p.criteria(&q); err != nil {
		return c.searchFailed(&q, err)
	}
	if q.modseq {
		c.enabled.condstore = true
	}
	if err := c.refreshFor(ctx, byUID); err != nil {
		return reply{}, err
	}
	q.key.prepare(c.sel)
	found, highest, err := c.sorted(ctx, &q, keys)
	if err != nil {
		return c.searchFailed(&q, err)
	}
	nums, uids := make([]uint32, len(found)), make([]uint32, len(found))
	for i := range found {
		uids[i] = found[i].uid
		if nums[i] = found[i].seq; byUID {
			nums[i] = uids[i]
		}
	}
	if q.save {
		c.save(&q, nums, uids, byUID)
		slices.Sort(c.sel.saved)
	}
	if q.extended {
		c.esearch(&q, nums, byUID, highest)
		return reply{"", "SORT done"}, nil
	}
	c.w.s("* SORT")
	for _, n := range nums {
		c.w.s(" ").u32(n)
	}
	if highest > 0 {
		c.w.s(" (MODSEQ ").u(highest).s(")")
	}
	c.w.crlf()
	return reply{"", "SORT done"}, nil
}

// criteria reads the charset, which SORT and THREAD must name, and the search keys.
func (p *parser) criteria(q *searchRequest) error {
	if err := p.sp(); err != nil {
		return err
	}
	charset, err := p.astring()
	if err != nil {
		return err
	}
	q.key, q.modseq, err = p.searchKeys(charset)
	return err
}

// sorted gives the messages that match, in order, and their highest modseq if the
// search asks for modseqs.
func (c *conn) sorted(ctx context.Context, q *searchRequest, keys []sortKey) (found []sorted, highest uint64, err error) {
	memory := 0
	err = c.scan(ctx, &q.key, func(m *candidate) error {
		s := sorted{seq: m.seq, uid: m.e.UID}
		for _, k := range keys {
			if err := m.sortValue(k.field, &s); err != nil {
				return err
			}
		}
		for _, t := range s.texts {
			memory += len(t)
		}
		if memory += 64; memory > maxSortMemory {
			return no("LIMIT", "Too many messages to sort at once")
		}
		found = append(found, s)
		if q.modseq {
			highest = max(highest, m.e.ModSeq)
		}
		return nil
	})
	slices.SortFunc(found, func(a, b sorted) int { return compareSorted(keys, &a, &b) })
	return found, highest, err
}

func (p *parser) sortKeys() ([]sortKey, error) {
	if err := p.sp(); err != nil {
		return nil, err
	}
	var keys []sortKey
	err := p.list(false, func() error {
		var k sortKey
		word, err := p.upperAtom()
		if err != nil {
			return err
		}
		if k.reverse = word == "REVERSE"; k.reverse {
			if err := p.sp(); err != nil {
				return err
			}
			if word, err = p.upperAtom(); err != nil {
				return err
			}
		}
		var ok bool
		if k.field, ok = sortFields[word]; !ok || len(keys) >= maxSortKeys {
			return syntaxf("unknown or too many sort criteria")
		}
		keys = append(keys, k)
		return nil
	})
	return keys, err
}

// compareSorted compares by all criteria; what is equal stays in the order of the
// mailbox, which REVERSE does not turn (RFC 5256 §3).
func compareSorted(keys []sortKey, a, b *sorted) int {
	n, t := 0, 0
	for _, k := range keys {
		var r int
		switch k.field {
		case sortArrival, sortDate, sortSize:
			r = cmp.Compare(a.numbers[n], b.numbers[n])
			n++
		default:
			r = strings.Compare(a.texts[t], b.texts[t])
			t++
		}
		if k.reverse {
			r = -r
		}
		if r != 0 {
			return r
		}
	}
	return cmp.Compare(a.seq, b.seq)
}

// sortValue adds the value of one criterion.
func (m *candidate) sortValue(f sortField, s *sorted) error {
	sum, err := m.summary()
	if err != nil {
		return err
	}
	switch f {
	case sortArrival:
		s.numbers = append(s.numbers, sum.Date.Unix())
		return nil
	case sortSize:
		s.numbers = append(s.numbers, sum.Size)
		return nil
	}
	h, err := m.fields()
	if err != nil {
		return err
	}
	switch f {
	case sortDate:
		s.numbers = append(s.numbers, sentTime(h, sum.Date).Unix())
	case sortSubject:
		base, _ := baseSubject(h.Get("Subject"))
		s.texts = append(s.texts, cutText(fold(base)))
	default:
		name := map[sortField]string{sortCc: "Cc", sortFrom: "From", sortTo: "To"}[f]
		s.texts = append(s.texts, cutText(fold(firstLocal(h.Get(name)))))
	}
	return nil
}

func cutText(s string) string {
	if len(s) > maxSortText {
		return strings.Clone(s[:maxSortText])
	}
	return s
}

// sentTime is the sent date of RFC 5256 §2.2: that of the header, or the internal one.
func sentTime(h mail.Header, internal time.Time) time.Time {
	if t, err := mail.ParseDate(h.Get("Date")); err == nil {
		return t
	}
	return internal
}

// firstLocal gives the local part of the first address of a field, or the name of
// its group.
func firstLocal(value string) string {
	list, err := mail.ParseAddressList(value)
	if len(list) == 0 || (err != nil && errs.KindOf(err) == errs.TooLarge) {
		return ""
	}
	if list[0].Group == mail.GroupStart {
		return list[0].RawName
	}
	return list[0].Address.Local
}
