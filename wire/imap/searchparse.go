package imap

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/encoding/htmlindex"
)

// searchOp names a search key (RFC 9051 §6.4.4).
type searchOp uint8

const (
	opAll searchOp = iota
	opNumbers
	opUIDs
	opFlag    // system flag set
	opNoFlag  // system flag not set
	opRecent  // RECENT
	opOld     // OLD
	opModSeq  // MODSEQ (RFC 7162)
	opEmailID // EMAILID (RFC 8474)
	opNever   // matches nothing
	opKeyword // needs keywords
	opNoKeyword
	opBefore // need the summary
	opOn
	opSince
	opSentBefore
	opSentOn
	opSentSince
	opOlder // RFC 5032
	opYounger
	opLarger
	opSmaller
	opSavedBefore // RFC 8514
	opSavedOn
	opSavedSince
	opSaveDated
	opHeader
	opBody // need the body
	opText
	opNot // need what they hold
	opOr
	opAnd
)

// searchKey is one key with its arguments.
type searchKey struct {
	op     searchOp
	nums   numSet
	ranges []numRange // nums resolved
	flag   Flags
	name   string // keyword or header field
	text   string // folded
	date   time.Time
	n      uint64
	sub    []searchKey
}

// cost orders the keys of a conjunction: what is cheap to know is asked first.
func (k *searchKey) cost() searchOp {
	if k.op < opNot {
		return k.op
	}
	most := opAll
	for i := range k.sub {
		most = max(most, k.sub[i].cost())
	}
	return most
}

// maxKeys bounds the keys of one SEARCH, maxTexts those that read whole messages.
const (
	maxKeys  = 500
	maxTexts = 20
)

// searchRequest is one SEARCH.
type searchRequest struct {
	extended                   bool // RETURN was given
	min, max, all, count, save bool
	key                        searchKey
	modseq                     bool // a MODSEQ key is in it
}

// searchParser reads the keys of one SEARCH.
type searchParser struct {
	*parser
	charset string
	keys    int
	texts   int
	modseq  bool
}

func (p *parser) search() (q searchRequest, err error) {
	if err = p.returnOptions(&q); err != nil {
		return q, err
	}
	charset := "utf-8"
	if p.prefix(" CHARSET ") {
		if charset, err = p.astring(); err != nil {
			return q, err
		}
	}
	q.key, q.modseq, err = p.searchKeys(charset)
	return q, err
}

// returnOptions reads " RETURN (…)" if it is next: of SEARCH (RFC 4731, RFC 5182), and
// of SORT, where they mean the same (RFC 5267 §3).
func (p *parser) returnOptions(q *searchRequest) error {
	if !p.prefix(" RETURN (") {
		return nil
	}
	p.i--
	q.extended = true
	err := p.list(true, func() error {
		switch {
		case p.word("MIN"):
			q.min = true
		case p.word("MAX"):
			q.max = true
		case p.word("ALL"):
			q.all = true
		case p.word("COUNT"):
			q.count = true
		case p.word("SAVE"):
			q.save = true
		default:
			return syntaxf("unknown RETURN option")
		}
		return nil
	})
	if !q.min && !q.max && !q.count && !q.save {
		q.all = true
	}
	return err
}

// searchKeys reads the keys of a search with a space before each, to the end.
func (p *parser) searchKeys(charset string) (key searchKey, modseq bool, err error) {
	sp := &searchParser{parser: p, charset: strings.ToLower(charset)}
	if !knownCharset(sp.charset) {
		return key, false, no("BADCHARSET (US-ASCII UTF-8)", "This charset is not known")
	}
	key = searchKey{op: opAnd}
	for {
		if err := p.sp(); err != nil {
			return key, false, err
		}
		k, err := sp.key(0)
		if err != nil {
			return key, false, err
		}
		key.sub = append(key.sub, k)
		if p.done() {
			return key, sp.modseq, nil
		}
	}
}

func knownCharset(name string) bool {
	if name == "us-ascii" || name == "utf-8" {
		return true
	}
	_, err := htmlindex.Get(name)
	return err == nil
}

// text reads an astring in the charset of the search and folds it.
func (p *searchParser) text() (string, error) {
	if err := p.sp(); err != nil {
		return "", err
	}
	s, err := p.astring()
	if err != nil {
		return "", err
	}
	if !isASCII(s) && p.charset != "utf-8" {
		e, err := htmlindex.Get(p.charset)
		if err == nil {
			s, err = e.NewDecoder().String(s)
		}
		if err != nil {
			return "", no("BADCHARSET (US-ASCII UTF-8)", "The text is not in this charset")
		}
	}
	return fold(s), nil
}

var flagKeys = map[string]Flags{"ANSWERED": Answered, "DELETED": Deleted, "DRAFT": Draft, "FLAGGED": Flagged, "SEEN": Seen}

var dateKeys = map[string]searchOp{"BEFORE": opBefore, "ON": opOn, "SINCE": opSince,
	"SENTBEFORE": opSentBefore, "SENTON": opSentOn, "SENTSINCE": opSentSince,
	"SAVEDBEFORE": opSavedBefore, "SAVEDON": opSavedOn, "SAVEDSINCE": opSavedSince}

var numberKeys = map[string]searchOp{"LARGER": opLarger, "SMALLER": opSmaller, "OLDER": opOlder, "YOUNGER": opYounger}

var headerKeys = []string{"BCC", "CC", "FROM", "SUBJECT", "TO"}

func (p *searchParser) key(depth int) (k searchKey, err error) {
	if p.keys++; depth > maxDepth || p.keys > maxKeys {
		return k, syntaxf("the search is too complex")
	}
	switch c := p.peek(); {
	case c == '(':
		k.op = opAnd
		err = p.list(false, func() error {
			sub, err := p.key(depth + 1)
			k.sub = append(k.sub, sub)
			return err
		})
		return k, err
	case c == '*' || c == '$' || isDigit(c):
		k.op = opNumbers
		k.nums, err = p.sequence()
		return k, err
	}
	word, err := p.upperAtom()
	if err != nil {
		return k, err
	}
	if f, ok := flagKeys[word]; ok {
		return searchKey{op: opFlag, flag: f}, nil
	}
	if f, ok := flagKeys[strings.TrimPrefix(word, "UN")]; ok && strings.HasPrefix(word, "UN") {
		return searchKey{op: opNoFlag, flag: f}, nil
	}
	if op, ok := dateKeys[word]; ok {
		if err := p.sp(); err != nil {
			return k, err
		}
		k.op = op
		k.date, err = p.date()
		return k, err
	}
	if op, ok := numberKeys[word]; ok {
		if err := p.sp(); err != nil {
			return k, err
		}
		k.op = op
		k.n, err = p.number64()
		if err == nil && k.n == 0 && (op == opOlder || op == opYounger) {
			err = syntaxf("an interval is not zero")
		}
		return k, err
	}
	for _, h := range headerKeys {
		if h == word {
			k.op, k.name = opHeader, word
			k.text, err = p.text()
			return k, err
		}
	}
	return p.otherKey(word, depth)
}

func (p *searchParser) otherKey(word string, depth int) (k searchKey, err error) {
	switch word {
	case "ALL":
		return searchKey{op: opAll}, nil
	case "SAVEDATESUPPORTED":
		return searchKey{op: opSaveDated}, nil
	case "RECENT":
		return searchKey{op: opRecent}, nil
	case "OLD":
		return searchKey{op: opOld}, nil
	case "NEW":
		return searchKey{op: opAnd, sub: []searchKey{{op: opRecent}, {op: opNoFlag, flag: Seen}}}, nil
	case "BODY", "TEXT":
		if p.texts++; p.texts > maxTexts {
			return k, no("LIMIT", "Too many texts to search for at once")
		}
		k.op = opBody
		if word == "TEXT" {
			k.op = opText
		}
		k.text, err = p.text()
		return k, err
	case "KEYWORD", "UNKEYWORD":
		k.op = opKeyword
		if word == "UNKEYWORD" {
			k.op = opNoKeyword
		}
		if err := p.sp(); err != nil {
			return k, err
		}
		k.name, err = p.atom()
		return k, err
	case "HEADER":
		if err := p.sp(); err != nil {
			return k, err
		}
		k.op = opHeader
		if k.name, err = p.astring(); err != nil {
			return k, err
		}
		k.text, err = p.text()
		return k, err
	case "UID":
		if err := p.sp(); err != nil {
			return k, err
		}
		k.op = opUIDs
		k.nums, err = p.sequence()
		return k, err
	case "EMAILID", "THREADID":
		return p.objectKey(word)
	case "MODSEQ":
		return p.modseqKey()
	case "NOT", "OR":
		k.op = opNot
		n := 1
		if word == "OR" {
			k.op, n = opOr, 2
		}
		for range n {
			if err := p.sp(); err != nil {
				return k, err
			}
			sub, err := p.key(depth + 1)
			if err != nil {
				return k, err
			}
			k.sub = append(k.sub, sub)
		}
		return k, nil
	}
	return k, syntaxf("unknown search key")
}

// objectKey is RFC 8474 §7. An id that we never gave out matches nothing.
func (p *searchParser) objectKey(word string) (k searchKey, err error) {
	if err := p.sp(); err != nil {
		return k, err
	}
	id, err := p.atom()
	if err != nil {
		return k, err
	}
	k.op = opNever
	if n, err := strconv.ParseUint(strings.TrimPrefix(id, "M"), 10, 64); err == nil && word == "EMAILID" && id[0] == 'M' {
		k.op, k.n = opEmailID, n
	}
	return k, nil
}

// modseqKey is RFC 7162 §3.1.5: the entry name may be given and is ignored,
// because flags have no mod-sequences of their own here.
func (p *searchParser) modseqKey() (k searchKey, err error) {
	if err := p.sp(); err != nil {
		return k, err
	}
	if p.peek() == '"' {
		if _, err := p.quoted(); err != nil {
			return k, err
		}
		if err := p.sp(); err != nil {
			return k, err
		}
		if !p.word("all") && !p.word("priv") && !p.word("shared") {
			return k, syntaxf("unknown entry type")
		}
		if err := p.sp(); err != nil {
			return k, err
		}
	}
	p.modseq = true
	k.op = opModSeq
	k.n, err = p.number64()
	return k, err
}

// fold makes text comparable without case (i;unicode-casemap in spirit, RFC 5051).
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }
