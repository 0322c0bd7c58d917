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

// doSort is RFC 5256 §3.
func (c *conn) doSort(ctx context.Context, p *parser, byUID bool) (reply, error) {
	keys, err := p.sortKeys()
	if err != nil {
		return reply{}, err
	}
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	charset, err := p.astring()
	if err != nil {
		return reply{}, err
	}
	key, _, err := p.searchKeys(charset)
	if err != nil {
		return reply{}, err
	}
	if err := c.refreshFor(ctx, byUID); err != nil {
		return reply{}, err
	}
	key.prepare(c.sel)
	var found []sorted
	memory := 0
	err = c.scan(ctx, &key, func(m *candidate) error {
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
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	slices.SortFunc(found, func(a, b sorted) int { return compareSorted(keys, &a, &b) })
	c.w.s("* SORT")
	for _, s := range found {
		if byUID {
			c.w.s(" ").u32(s.uid)
		} else {
			c.w.s(" ").u32(s.seq)
		}
	}
	c.w.crlf()
	return reply{"", "SORT done"}, nil
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
		s.texts = append(s.texts, cutText(fold(baseSubject(h.Get("Subject")))))
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

// baseSubject takes answers and forwards off a subject (RFC 5256 §2.1).
func baseSubject(subject string) string {
	s := strings.Join(strings.Fields(decodeWords(subject)), " ")
	for {
		s = cutTrailers(s)
		for {
			before := s
			s = cutLeader(s)
			if rest := cutBlob(s); rest != "" {
				s = rest
			}
			if s == before {
				break
			}
		}
		inner, ok := cutForward(s)
		if !ok {
			return s
		}
		s = inner
	}
}

func cutTrailers(s string) string {
	for {
		s = strings.TrimRight(s, " ")
		if len(s) < 5 || !strings.EqualFold(s[len(s)-5:], "(fwd)") {
			return s
		}
		s = s[:len(s)-5]
	}
}

// cutLeader removes blobs and one "re:", "fw:" or "fwd:" with its own blob.
func cutLeader(s string) string {
	s = strings.TrimLeft(s, " ")
	rest := s
	for {
		next, ok := blob(rest)
		if !ok {
			break
		}
		rest = next
	}
	for _, word := range []string{"re", "fwd", "fw"} {
		if len(rest) < len(word) || !strings.EqualFold(rest[:len(word)], word) {
			continue
		}
		after := strings.TrimLeft(rest[len(word):], " ")
		if next, ok := blob(after); ok {
			after = next
		}
		if tail, ok := strings.CutPrefix(after, ":"); ok {
			return strings.TrimLeft(tail, " ")
		}
	}
	return s
}

// cutBlob removes one leading "[…]", and gives "" if nothing would remain.
func cutBlob(s string) string {
	if rest, ok := blob(s); ok {
		return rest
	}
	return ""
}

// blob cuts "[…]" without brackets inside.
func blob(s string) (rest string, ok bool) {
	if !strings.HasPrefix(s, "[") {
		return s, false
	}
	end := strings.IndexAny(s[1:], "[]")
	if end < 0 || s[1+end] != ']' {
		return s, false
	}
	return strings.TrimLeft(s[end+2:], " "), true
}

// cutForward unwraps "[fwd: …]".
func cutForward(s string) (string, bool) {
	if len(s) < 6 || !strings.EqualFold(s[:5], "[fwd:") || !strings.HasSuffix(s, "]") {
		return s, false
	}
	return strings.TrimSpace(s[5 : len(s)-1]), true
}
