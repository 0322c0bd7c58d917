package sanitize

import (
	"bytes"
	"slices"
	"strings"
)

// replacer puts other texts in the place of some, compared without the case of ASCII letters, in one
// pass from left to right; of several that begin at one place the longest counts.
type replacer struct {
	from  []string // lower case, longest first
	to    []string
	first [256]bool // bytes with which one begins
}

func newReplacer(m map[string]string) *replacer {
	r := &replacer{}
	type pair struct{ from, to string }
	var list []pair
	for from, to := range m {
		if from != "" {
			list = append(list, pair{strings.ToLower(from), to})
			if at := strings.IndexByte(from, '@'); at >= 0 { // as it stands in a link (RFC 6068)
				list = append(list, pair{strings.ToLower(from[:at] + "%40" + from[at+1:]), strings.Replace(to, "@", "%40", 1)})
			}
		}
	}
	slices.SortFunc(list, func(a, b pair) int {
		if len(a.from) != len(b.from) {
			return len(b.from) - len(a.from)
		}
		return strings.Compare(a.from, b.from)
	})
	for _, p := range list {
		r.from, r.to = append(r.from, p.from), append(r.to, p.to)
		r.first[p.from[0]] = true
	}
	return r
}

// replace gives text with all replaced, and whether anything was. whole: only where what is found is not a
// part of a longer address. text is not changed.
func (r *replacer) replace(text []byte, whole bool) ([]byte, bool) {
	if len(r.from) == 0 {
		return text, false
	}
	var out []byte
	done := 0
	for i := 0; i < len(text); i++ {
		if !r.first[fold(text[i])] {
			continue
		}
		for k, from := range r.from {
			if !hasFold(text[i:], from) || whole && !bordered(text, i, i+len(from)) {
				continue
			}
			out = append(append(out, text[done:i]...), r.to[k]...)
			done = i + len(from)
			i = done - 1
			break
		}
	}
	if done == 0 {
		return text, false
	}
	return append(out, text[done:]...), true
}

// replaceString is replace for whole addresses in a string.
func (r *replacer) replaceString(s string) string {
	b, _ := r.replace([]byte(s), true)
	return string(b)
}

// Replacing gives the function with which Parts replaces addresses in texts, for a string.
func Replacing(m map[string]string) func(string) string { return newReplacer(m).replaceString }

func fold(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

func hasFold(text []byte, lower string) bool {
	if len(text) < len(lower) {
		return false
	}
	for i := range len(lower) {
		if fold(text[i]) != lower[i] {
			return false
		}
	}
	return true
}

// bordered reports whether an address at [from, to) is not the end of a longer local part, nor the
// begin of a longer domain.
func bordered(text []byte, from, to int) bool {
	if from > 0 && (isLocal(text[from-1]) || text[from-1] == '.' && from > 1 && isLocal(text[from-2])) {
		return false
	}
	if to == len(text) {
		return true
	}
	c := text[to]
	if c == '.' {
		return to+1 == len(text) || !isLabel(text[to+1])
	}
	return !isLabel(c)
}

func isLabel(c byte) bool {
	c = fold(c)
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c >= 0x80
}

// isLocal: characters of a local part that stand in texts; others, such as = and ', stand beside
// addresses in markup as well.
func isLocal(c byte) bool { return isLabel(c) && c < 0x80 || bytes.IndexByte([]byte("_+"), c) >= 0 }
