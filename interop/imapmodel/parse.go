package imapmodel

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Reply is one response, taken apart as far as the model needs it.
type Reply struct {
	Raw  string
	Tag  string // "*", "+" or a command's tag
	Kind string // in capitals: OK, NO, BAD, BYE, EXISTS, FETCH, …
	Num  uint32 // of "* 7 EXISTS"
	Code string // of "OK [CODE arguments]", in capitals
	Args string // the code's arguments, or what follows the kind
	Data fetched
}

// fetched is what one FETCH response said about a message.
type fetched struct {
	uid     uint32
	modseq  uint64
	size    uint32
	flags   string // canonical
	has     map[string]bool
	literal string // of BODY[…]
}

var errSyntax = errors.New("bad syntax")

func parseReply(raw string) (Reply, error) {
	r := Reply{Raw: raw}
	if strings.HasPrefix(raw, "+") {
		r.Tag = "+"
		return r, nil
	}
	tag, rest, ok := strings.Cut(raw, " ")
	if !ok || tag == "" {
		return r, errSyntax
	}
	r.Tag = tag
	word, args, _ := strings.Cut(rest, " ")
	if n, err := strconv.ParseUint(word, 10, 32); err == nil && tag == "*" {
		r.Num = uint32(n)
		word, args, _ = strings.Cut(args, " ")
	}
	r.Kind, r.Args = strings.ToUpper(word), args
	switch r.Kind {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		if strings.HasPrefix(args, "[") {
			inside, _, ok := strings.Cut(args[1:], "]")
			if !ok {
				return r, errSyntax
			}
			r.Code, r.Args, _ = strings.Cut(inside, " ")
			r.Code = strings.ToUpper(r.Code)
		}
	case "FETCH":
		data, err := parseFetch(args)
		if err != nil {
			return r, err
		}
		r.Data = data
	case "":
		return r, errSyntax
	}
	return r, nil
}

// parseFetch reads "(NAME value NAME value …)".
func parseFetch(text string) (fetched, error) {
	f := fetched{has: map[string]bool{}}
	p := &parser{text: text}
	if !p.eat('(') {
		return f, errSyntax
	}
	for !p.eat(')') {
		name := p.name()
		if name == "" || !p.eat(' ') {
			return f, errSyntax
		}
		value, err := p.value(0)
		if err != nil {
			return f, err
		}
		if f.has[name] {
			return f, fmt.Errorf("%s twice", name)
		}
		f.has[name] = true
		switch name {
		case "UID", "RFC822.SIZE":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return f, err
			}
			if name == "UID" {
				f.uid = uint32(n)
			} else {
				f.size = uint32(n)
			}
		case "MODSEQ":
			n, err := strconv.ParseUint(strings.Trim(value, "()"), 10, 63)
			if err != nil {
				return f, err
			}
			f.modseq = n
		case "FLAGS":
			f.flags = canonical(value)
		default:
			f.literal = value
		}
		p.eat(' ')
	}
	if p.at != len(p.text) {
		return f, errSyntax
	}
	return f, nil
}

type parser struct {
	text string
	at   int
}

func (p *parser) eat(c byte) bool {
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

// name reads the name of a data item, with a section that may hold spaces.
func (p *parser) name() string {
	start, depth := p.at, 0
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case depth == 0 && (c == ' ' || c == '(' || c == ')'):
			return strings.ToUpper(p.text[start:p.at])
		}
	}
	return strings.ToUpper(p.text[start:p.at])
}

// value reads an atom, a string or a list; strings lose their quotes, lists keep
// their form.
func (p *parser) value(depth int) (string, error) {
	if depth > 20 || p.at >= len(p.text) {
		return "", errSyntax
	}
	start := p.at
	switch p.text[p.at] {
	case '(':
		p.at++
		for !p.eat(')') {
			if _, err := p.value(depth + 1); err != nil {
				return "", err
			}
			p.eat(' ')
		}
		return p.text[start:p.at], nil
	case '"':
		for p.at++; p.at < len(p.text); p.at++ {
			switch p.text[p.at] {
			case '\\':
				p.at++
			case '"':
				p.at++
				return p.text[start+1 : p.at-1], nil
			}
		}
		return "", errSyntax
	case '{', '~':
		end := strings.Index(p.text[p.at:], "\r\n")
		if end < 0 {
			return "", errSyntax
		}
		size, ok := literalSize(p.text[p.at : p.at+end])
		from := p.at + end + 2
		if !ok || from+size > len(p.text) {
			return "", errSyntax
		}
		p.at = from + size
		return p.text[from:p.at], nil
	}
	for p.at < len(p.text) && !strings.ContainsRune(" ()", rune(p.text[p.at])) {
		p.at++
	}
	if p.at == start {
		return "", errSyntax
	}
	return p.text[start:p.at], nil
}

// canonical sorts flags, puts system flags in lower case (RFC 9051 §2.3.2: their
// case does not count) and leaves \Recent out: it belongs to sessions, not to
// messages.
func canonical(list string) string {
	words := strings.Fields(strings.Trim(list, "()"))
	out := words[:0]
	for _, w := range words {
		if strings.HasPrefix(w, `\`) {
			w = strings.ToLower(w)
		}
		if w != `\recent` {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}

// parseSet reads a set of numbers in which nothing is open ("2:4,7"), in the
// order given; RFC 4315 gives meaning to that order.
func parseSet(text string) ([]uint32, error) {
	const most = 1 << 16
	var all []uint32
	for part := range strings.SplitSeq(text, ",") {
		from, to, ranged := strings.Cut(part, ":")
		a, err := strconv.ParseUint(from, 10, 32)
		if err != nil || a == 0 {
			return nil, fmt.Errorf("%w: set %q", errSyntax, text)
		}
		b := a
		if ranged {
			if b, err = strconv.ParseUint(to, 10, 32); err != nil || b == 0 {
				return nil, fmt.Errorf("%w: set %q", errSyntax, text)
			}
		}
		if b < a {
			a, b = b, a
		}
		if b-a >= most || len(all) > most {
			return nil, fmt.Errorf("%w: a huge set", errSyntax)
		}
		for ; a <= b; a++ {
			all = append(all, uint32(a))
		}
	}
	return all, nil
}

// formatSet writes numbers as a set, runs as ranges.
func formatSet(nums []uint32) string {
	nums = slices.Clone(nums)
	slices.Sort(nums)
	var parts []string
	for i := 0; i < len(nums); {
		j := i
		for j+1 < len(nums) && nums[j+1] == nums[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(int(nums[i])))
		} else {
			parts = append(parts, fmt.Sprintf("%d:%d", nums[i], nums[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}
