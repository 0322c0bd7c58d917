// Package blacklist reads the list of addresses that get no anonymous mail, in the form that
// operators of mixminiond have it in:
//
//	# a comment
//	Deny address fred@example.com     this address
//	Deny user postmaster              this name on every host
//	Deny onehost example.com          every name on this host
//	Deny allhosts example.com         and on every host below it
//	Deny pattern /spam/               every address in which the expression is found
//
// Capitals matter nowhere.
package blacklist

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// Bounds of a list.
const (
	MaxLine     = 1024 // bytes, with its end
	MaxEntries  = 1 << 16
	MaxPatterns = 256
	MaxPattern  = 512 // bytes
)

// List is a list that was read. A nil List denies nobody. It may be used by many goroutines.
type List struct {
	addresses map[mail.Address]bool
	users     map[string]bool
	domains   map[string]bool // true: and all below it
	patterns  []*regexp.Regexp
}

// Parse reads a list. White space between and around words does not matter; empty lines and
// those that begin with # are passed over. Patterns are RE2 expressions (regexp/syntax), which
// take linear time: what other engines know beyond it, references back and looking around,
// is an error. Kinds of errors: errs.Invalid and errs.TooLarge, whose public text names the
// line, and errs.Unavailable where r fails.
func Parse(r io.Reader) (*List, error) {
	const op = "mail/blacklist.Parse"
	l := &List{addresses: make(map[mail.Address]bool), users: make(map[string]bool), domains: make(map[string]bool)}
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, MaxLine), MaxLine)
	n, entries := 0, 0
	for in.Scan() {
		n++
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if entries++; entries > MaxEntries {
			return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("line %d: more than %d entries", n, MaxEntries), nil)
		}
		if err := l.add(line); err != nil {
			return nil, errs.E(op, errs.KindOf(err), fmt.Sprintf("line %d: %s", n, errs.Public(err)), err)
		}
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("line %d: longer than %d bytes", n+1, MaxLine), nil)
	case err != nil:
		return nil, errs.E(op, errs.Unavailable, "", err)
	}
	return l, nil
}

// cut gives the first word of s and what follows it.
func cut(s string) (word, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool { return r == ' ' || r == '\t' })
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

func (l *List) add(line string) error {
	invalid := func(text string) error { return errs.E("mail/blacklist.add", errs.Invalid, text, nil) }
	deny, rest := cut(line)
	what, arg := cut(rest)
	if !strings.EqualFold(deny, "deny") {
		return invalid("does not begin with Deny")
	}
	if arg == "" {
		return invalid("nothing to deny: write Deny, what it is, and its value")
	}
	switch what = strings.ToLower(what); what {
	case "address":
		a, err := mail.ParseAddress(arg)
		if err != nil {
			return invalid("not a mail address")
		}
		l.addresses[fold(a)] = true
	case "user":
		a, err := mail.ParseAddress(arg + "@x")
		if err != nil || strings.Contains(arg, "@") {
			return invalid("not the name of a user")
		}
		l.users[fold(a).Local] = true
	case "onehost", "allhosts":
		a, err := mail.ParseAddress("x@" + arg)
		if err != nil {
			return invalid("not the name of a host")
		}
		d := fold(a).Domain
		l.domains[d] = l.domains[d] || what == "allhosts"
	case "pattern":
		return l.pattern(arg)
	case "host", "hosts", "allhost", "onehosts", "domain":
		return invalid("unknown kind of entry; did you mean onehost or allhosts?")
	default:
		return invalid("unknown kind of entry; there are address, user, onehost, allhosts and pattern")
	}
	return nil
}

func (l *List) pattern(arg string) error {
	const op = "mail/blacklist.pattern"
	switch {
	case len(arg) < 2 || arg[0] != '/' || arg[len(arg)-1] != '/':
		return errs.E(op, errs.Invalid, "a pattern stands between two /", nil)
	case len(arg)-2 > MaxPattern:
		return errs.E(op, errs.TooLarge, fmt.Sprintf("a pattern is longer than %d bytes", MaxPattern), nil)
	case len(l.patterns) == MaxPatterns:
		return errs.E(op, errs.TooLarge, fmt.Sprintf("more than %d patterns", MaxPatterns), nil)
	}
	re, err := regexp.Compile("(?i)" + arg[1:len(arg)-1])
	if err != nil {
		return errs.E(op, errs.Invalid, "not an expression of RE2", err)
	}
	l.patterns = append(l.patterns, re)
	return nil
}

// fold gives the form that is compared. The local part is folded beyond ASCII too: a list that
// should keep mail away errs on that side.
func fold(a mail.Address) mail.Address {
	a = a.Canonical()
	a.Local = strings.ToLower(a.Local)
	return a
}

// Denied reports whether a gets no anonymous mail.
func (l *List) Denied(a mail.Address) bool {
	if l == nil {
		return false
	}
	f := fold(a)
	if l.addresses[f] || l.users[f.Local] {
		return true
	}
	if _, ok := l.domains[f.Domain]; ok {
		return true
	}
	for d := f.Domain; d != ""; {
		if l.domains[d] {
			return true
		}
		_, d, _ = strings.Cut(d, ".")
	}
	for _, re := range l.patterns {
		// As it is written, and as it is compared: the domain may be written in two ways.
		if re.MatchString(a.String()) || re.MatchString(f.String()) {
			return true
		}
	}
	return false
}
