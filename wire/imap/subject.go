package imap

import "strings"

// baseSubject takes what replies and forwards add off a subject (RFC 5256 §2.1). reply
// says that there was something of the kind (§3 on REFERENCES): a "Re:" or "Fw:", a
// "(fwd)" or a "[fwd: …]"; other blobs do not count.
func baseSubject(subject string) (base string, reply bool) {
	s := strings.Join(strings.Fields(decodeWords(subject)), " ")
	for {
		var cut bool
		s, cut = cutTrailers(s)
		reply = reply || cut
		for {
			before := s
			s, cut = cutLeader(s)
			reply = reply || cut
			if rest := cutBlob(s); rest != "" {
				s = rest
			}
			if s == before {
				break
			}
		}
		inner, ok := cutForward(s)
		if !ok {
			return s, reply
		}
		s, reply = inner, true
	}
}

func cutTrailers(s string) (rest string, cut bool) {
	for {
		s = strings.TrimRight(s, " ")
		if len(s) < 5 || !strings.EqualFold(s[len(s)-5:], "(fwd)") {
			return s, cut
		}
		s, cut = s[:len(s)-5], true
	}
}

// cutLeader removes blobs and one "re:", "fw:" or "fwd:" with its own blob.
func cutLeader(s string) (string, bool) {
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
			return strings.TrimLeft(tail, " "), true
		}
	}
	return s, false
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
