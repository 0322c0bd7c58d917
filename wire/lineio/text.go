package lineio

import "bytes"

// CheckText judges a whole text that did not come line by line: every line ends in CRLF
// (the last one may lack it), none is longer than maxLine, there is no other CR or LF
// and no NUL. Errors are ErrBareCR, ErrBareLF, ErrNUL and ErrTooLong.
func CheckText(p []byte, maxLine int) error {
	if bytes.IndexByte(p, 0) >= 0 {
		return ErrNUL
	}
	lines, pos := 0, 0
	for pos < len(p) {
		i := bytes.IndexByte(p[pos:], '\n')
		if i < 0 {
			break
		}
		if i == 0 || p[pos+i-1] != '\r' {
			return ErrBareLF
		}
		if i-1 > maxLine {
			return ErrTooLong
		}
		lines++
		pos += i + 1
	}
	switch {
	case bytes.Count(p, []byte{'\r'}) != lines:
		return ErrBareCR
	case len(p)-pos > maxLine:
		return ErrTooLong
	}
	return nil
}
