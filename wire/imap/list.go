package imap

import (
	"context"
	"sort"
	"strings"
)

// Limits of one LIST.
const (
	maxPatterns = 50
	maxPattern  = 500 // bytes of all patterns together: matching costs their product with the names
)

// listRequest is one LIST (RFC 9051 §6.3.9, RFC 5258, 5819, 6154).
type listRequest struct {
	patterns []string
	status   []string // RETURN (STATUS (…))

	selSubscribed, recursive, selSpecialUse bool
	retSubscribed                           bool
}

func cmdList(c *conn, ctx context.Context, p *parser) (reply, error) {
	var q listRequest
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	extended := false
	if p.peek() == '(' {
		extended = true
		if err := p.listSelection(&q); err != nil {
			return reply{}, err
		}
		if err := p.sp(); err != nil {
			return reply{}, err
		}
	}
	ref, err := p.mailbox()
	if err != nil {
		return reply{}, err
	}
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	total := 0
	one := func() error {
		s, err := p.listMailbox()
		total += len(ref) + len(s)
		if err == nil && (total > maxPattern || len(q.patterns) >= maxPatterns) {
			err = no("LIMIT", "The pattern is too long")
		}
		q.patterns = append(q.patterns, joinReference(ref, s))
		return err
	}
	if p.peek() == '(' {
		extended = true
		err = p.list(false, one)
	} else {
		err = one()
	}
	if err != nil {
		return reply{}, err
	}
	if p.take(' ') {
		extended = true
		if err := p.listReturn(&q); err != nil {
			return reply{}, err
		}
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	done := reply{"", "LIST done"}
	if !extended && q.patterns[0] == ref && ref == "" {
		// RFC 9051 §6.3.9: an empty pattern asks for the delimiter.
		c.w.s("* LIST (\\Noselect) \"/\" \"\"\r\n")
		return done, nil
	}
	return done, c.list(ctx, &q)
}

// joinReference interprets a pattern below a reference, which is just a prefix here.
func joinReference(ref, pattern string) string {
	if strings.HasPrefix(pattern, "/") {
		return pattern
	}
	return canonicalInbox(ref + pattern)
}

func (p *parser) listSelection(q *listRequest) error {
	err := p.list(true, func() error {
		switch {
		case p.word("SUBSCRIBED"):
			q.selSubscribed = true
		case p.word("RECURSIVEMATCH"):
			q.recursive = true
		case p.word("SPECIAL-USE"):
			q.selSpecialUse = true
		case p.word("REMOTE"): // there are no remote mailboxes
		default:
			return syntaxf("unknown selection option")
		}
		return nil
	})
	if err == nil && q.recursive && !q.selSubscribed && !q.selSpecialUse {
		err = syntaxf("RECURSIVEMATCH needs another selection option")
	}
	return err
}

func (p *parser) listReturn(q *listRequest) error {
	if !p.word("RETURN") {
		return syntaxf("unexpected text behind the command")
	}
	if err := p.sp(); err != nil {
		return err
	}
	return p.list(true, func() error {
		switch {
		case p.word("SUBSCRIBED"):
			q.retSubscribed = true
		case p.word("CHILDREN"), p.word("SPECIAL-USE"): // always returned
		case p.word("STATUS"):
			if err := p.sp(); err != nil {
				return err
			}
			items, err := p.statusItems()
			q.status = items
			return err
		default:
			return syntaxf("unknown return option")
		}
		return nil
	})
}

// listed is a folder with what LIST needs beside it.
type listed struct {
	Folder
	children        bool
	subscribedBelow bool
	useBelow        bool
}

// tree sorts folders and adds the parents that exist only by name.
func tree(folders []Folder) []listed {
	at := make(map[string]int, len(folders))
	out := make([]listed, 0, len(folders))
	for _, f := range folders {
		at[f.Name] = len(out)
		out = append(out, listed{Folder: f})
	}
	for i := range folders {
		name := folders[i].Name
		for {
			cut := strings.LastIndexByte(name, '/')
			if cut <= 0 {
				break
			}
			name = name[:cut]
			k, ok := at[name]
			if !ok {
				k = len(out)
				at[name] = k
				out = append(out, listed{Folder: Folder{Name: name, NoSelect: true, NonExistent: true}})
			}
			out[k].children = true
			out[k].subscribedBelow = out[k].subscribedBelow || folders[i].Subscribed
			out[k].useBelow = out[k].useBelow || folders[i].Use != ""
		}
	}
	sort.Slice(out, func(i, j int) bool {
		if a, b := out[i].Name == "INBOX", out[j].Name == "INBOX"; a != b {
			return a
		}
		return out[i].Name < out[j].Name
	})
	return out
}

func (c *conn) list(ctx context.Context, q *listRequest) error {
	folders, err := c.session.Folders(ctx)
	if err != nil {
		return err
	}
	for _, f := range tree(folders) {
		if !matchAny(q.patterns, f.Name) {
			continue
		}
		if f.NonExistent && !f.children && !q.selSubscribed {
			continue // only a subscription
		}
		hit := (!q.selSubscribed || f.Subscribed) && (!q.selSpecialUse || f.Use != "")
		below := q.recursive && (!q.selSubscribed || f.subscribedBelow) && (!q.selSpecialUse || f.useBelow)
		if !hit && !below {
			continue
		}
		c.listLine("LIST", f, q.selSubscribed || q.retSubscribed, below && q.selSubscribed)
		if len(q.status) > 0 && !f.NoSelect && !f.NonExistent {
			if err := c.status(ctx, f.Folder, q.status); err != nil {
				return err
			}
		}
		if c.w.err != nil {
			return c.w.err
		}
	}
	return nil
}

func (c *conn) listLine(word string, f listed, subscribed, childInfo bool) {
	c.listHead(word, f, subscribed)
	if childInfo {
		c.w.s(` ("CHILDINFO" ("SUBSCRIBED"))`)
	}
	c.w.crlf()
}

// listHead writes a LIST response without its extended data and its end.
func (c *conn) listHead(word string, f listed, subscribed bool) {
	c.w.s("* ", word, " (")
	attributes := make([]string, 0, 4)
	if f.NonExistent && word == "LIST" { // RFC 5258 §3; LSUB is older
		attributes = append(attributes, `\NonExistent`, `\Noselect`)
	} else if f.NoSelect || f.NonExistent {
		attributes = append(attributes, `\Noselect`)
	}
	if f.children {
		attributes = append(attributes, `\HasChildren`)
	} else {
		attributes = append(attributes, `\HasNoChildren`)
	}
	if subscribed && f.Subscribed {
		attributes = append(attributes, `\Subscribed`)
	}
	if f.Use != "" {
		attributes = append(attributes, f.Use)
	}
	c.w.s(strings.Join(attributes, " "), `) "/" `)
	c.name(f.Name)
}

// cmdLsub is RFC 3501 §6.3.9. A parent that "%" matches is named with \Noselect
// when only mailboxes below it are subscribed.
func cmdLsub(c *conn, ctx context.Context, p *parser) (reply, error) {
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	ref, err := p.mailbox()
	if err != nil {
		return reply{}, err
	}
	if err := p.sp(); err != nil {
		return reply{}, err
	}
	pattern, err := p.listMailbox()
	if err != nil {
		return reply{}, err
	}
	if err := p.end(); err != nil {
		return reply{}, err
	}
	if len(ref)+len(pattern) > maxPattern {
		return reply{}, no("LIMIT", "The pattern is too long")
	}
	folders, err := c.session.Folders(ctx)
	if err != nil {
		return reply{}, err
	}
	patterns := []string{joinReference(ref, pattern)}
	for _, f := range tree(folders) {
		switch {
		case !matchAny(patterns, f.Name):
		case f.Subscribed:
			c.listLine("LSUB", f, false, false)
		case f.subscribedBelow && strings.HasSuffix(pattern, "%"):
			c.w.s("* LSUB (\\Noselect) \"/\" ")
			c.name(f.Name).crlf()
		}
	}
	return reply{"", "LSUB done"}, nil
}

func matchAny(patterns []string, name string) bool {
	for _, p := range patterns {
		if matchPattern(p, name) {
			return true
		}
	}
	return false
}

// matchPattern matches "*" with anything and "%" with anything but "/"; the first
// level INBOX in any case (RFC 9051 §5.1). Its time is bounded by the product of
// the lengths, whatever the pattern.
func matchPattern(pattern, name string) bool {
	anyCase := 0 // so many letters of name
	if name == "INBOX" || strings.HasPrefix(name, "INBOX/") {
		anyCase = len("INBOX")
	}
	same := func(p byte, k int) bool {
		return p != '*' && p != '%' && (p == name[k] || k < anyCase && p|0x20 == name[k]|0x20)
	}
	// reach[i]: pattern[:i] matches the part of name read so far.
	reach := make([]bool, len(pattern)+1)
	spread := func() {
		for i := range len(pattern) {
			if reach[i] && (pattern[i] == '*' || pattern[i] == '%') {
				reach[i+1] = true
			}
		}
	}
	reach[0] = true
	spread()
	for k := range len(name) {
		for i := len(pattern); i > 0; i-- {
			wild := pattern[i-1] == '*' || pattern[i-1] == '%' && name[k] != '/'
			reach[i] = reach[i-1] && same(pattern[i-1], k) || wild && (reach[i] || reach[i-1])
		}
		reach[0] = false
		spread()
	}
	return reach[len(pattern)]
}
