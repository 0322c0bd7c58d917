// Package anon is the form in which mail says that nobody vouches for its sender:
//
//	From: "[Anon] name" <return address>
//
// It is mixminiond's form. What a sender says of itself is a name only, cleaned of what could
// pass for an address or for another tag; the address is one that belongs to nobody.
package anon

import (
	netmail "net/mail"
	"strings"
	"unicode"

	"postern.email/mail"
)

// Tag stands before the name that a sender says, mixminiond's FromTag.
const Tag = "[Anon]"

// MaxName bounds the name, in characters.
const MaxName = 64

// From gives the value of the field From. tag "": Tag. The name is cleaned (Name).
func From(tag, name string, ret mail.Address) string {
	if tag == "" {
		tag = Tag
	}
	return Bare(strings.TrimSpace(tag+" "+Name(name)), ret)
}

// Bare gives a display name and an address as RFC 5322 §3.4 writes them; without a name
// the address in angle brackets alone.
func Bare(name string, a mail.Address) string {
	return (&netmail.Address{Name: name, Address: a.String()}).String()
}

// Name takes out of a name what could pass for an address or a tag, and what is no text of one
// line.
func Name(said string) string {
	name, _, _ := strings.Cut(said, "@")
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune("[]:\"<>\\", r) {
			return -1
		}
		return r
	}, name)
	// Many readers decode what looks like an encoded word (RFC 2047) within quotes, too.
	for strings.Contains(name, "=?") {
		name = strings.ReplaceAll(name, "=?", "")
	}
	return strings.TrimSpace(Clip(OneLine(name), MaxName))
}

// Parse reads the value of a field From in the exact form that From writes with Tag, and in
// no other: what one reader might read differently is not it.
func Parse(value string) (name string, ret mail.Address, ok bool) {
	list, err := mail.ParseAddressList(value)
	if err != nil || len(list) != 1 || list[0].Group != mail.NoGroup {
		return "", mail.Address{}, false
	}
	said, ok := strings.CutPrefix(list[0].Name, Tag)
	if !ok {
		return "", mail.Address{}, false
	}
	name = strings.TrimPrefix(said, " ")
	ret, err = mail.ParseAddress(list[0].Address.String())
	if err != nil || From(Tag, name, ret) != value {
		return "", mail.Address{}, false
	}
	return name, ret, true
}

// OneLine makes control characters, and what reorders or hides text, spaces, and each run of
// white space one space.
func OneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// Clip gives the first characters of a text.
func Clip(s string, chars int) string {
	n := 0
	for i := range s {
		if n++; n > chars {
			return s[:i]
		}
	}
	return s
}
