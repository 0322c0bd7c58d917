package aliasname

import (
	_ "embed"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"

	"postern.email/kit/errs"
)

// TokenLen is the length of a token in characters: 64 of 62 letters and digits, 381 bits.
const TokenLen = 64

// RandomLen is the length of what Random gives: 18 of 36 letters and digits, 93 bits.
const RandomLen = 18

// Style is how the server makes a handle.
type Style string

// The styles.
const (
	StyleWords  Style = "words"  // Words; the default
	StyleRandom Style = "random" // Random
	StyleSite   Style = "site"   // Site
)

const (
	lower        = "abcdefghijklmnopqrstuvwxyz"
	digits       = "0123456789"
	tokenLetters = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits
	wordDigits   = 100_000   // what stands behind two words: five digits
	siteDigits   = 1_000_000 // what stands behind a site's name: six digits and a letter
)

// The lists are ours: short, plain words that can be told by phone.
var (
	//go:embed first.txt
	firstText string
	//go:embed second.txt
	secondText string

	firstWords  = sync.OnceValue(func() []string { return strings.Fields(firstText) })
	secondWords = sync.OnceValue(func() []string { return strings.Fields(secondText) })
)

// ParseStyle reads a style; "" is StyleWords. errs.Invalid for another word.
func ParseStyle(s string) (Style, error) {
	switch st := Style(s); st {
	case "":
		return StyleWords, nil
	case StyleWords, StyleRandom, StyleSite:
		return st, nil
	}
	return "", errs.E("aliasname.ParseStyle", errs.Invalid, "the style is words, random or site", nil)
}

// Make draws a handle in a style; site counts for StyleSite only.
func Make(r io.Reader, style Style, site string) (string, error) {
	switch style {
	case StyleRandom:
		return Random(r)
	case StyleSite:
		return Site(r, site)
	}
	return Words(r)
}

// NewToken draws a token: TokenLen letters and digits, each as likely as the others.
// errs.Unavailable when r fails.
func NewToken(r io.Reader) (string, error) { return text(r, tokenLetters, TokenLen) }

// TokenForm reports whether s has the form of a token.
func TokenForm(s string) bool {
	if len(s) != TokenLen {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(tokenLetters, s[i]) < 0 {
			return false
		}
	}
	return true
}

// Random draws a handle of RandomLen characters [a-z0-9]. Its length keeps it apart from
// derived ones.
func Random(r io.Reader) (string, error) { return text(r, lower+digits, RandomLen) }

// Words draws a handle of two words and five digits, "amber-falcon-48217": one of 5 · 10^10,
// more than 2^35.
func Words(r io.Reader) (string, error) {
	first, second := firstWords(), secondWords()
	a, err := draw(r, len(first))
	if err != nil {
		return "", err
	}
	b, err := draw(r, len(second))
	if err != nil {
		return "", err
	}
	n, err := draw(r, wordDigits)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s-%s-%05d", first[a], second[b], n), nil
}

// text draws n characters of letters.
func text(r io.Reader, letters string, n int) (string, error) {
	b := make([]byte, n)
	for i := range b {
		c, err := draw(r, len(letters))
		if err != nil {
			return "", err
		}
		b[i] = letters[c]
	}
	return string(b), nil
}

// draw gives a number below n, each as likely as the others: what lies beyond the last whole
// multiple of n is drawn again.
func draw(r io.Reader, n int) (int, error) {
	most := uint32(math.MaxUint32) - uint32((uint64(math.MaxUint32)+1)%uint64(n))
	for {
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return 0, errs.E("aliasname.draw", errs.Unavailable, "no random numbers", err)
		}
		v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		if v <= most {
			return int(v % uint32(n)), nil
		}
	}
}
