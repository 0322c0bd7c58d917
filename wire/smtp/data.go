package smtp

import (
	"bytes"

	"postern.email/wire/lineio"
)

// scanData reads a piece of the stream between 354 and CRLF.CRLF, which must begin
// at the start of a line. Whole lines are taken, with their first dot unstuffed
// (RFC 5321 §4.5.2), and handed to keep in runs as long as possible; a last line without
// its end is left. It gives the number of bytes taken, and done when they end with
// the line "." that ends the mail.
//
// It works on whole blocks with bytes.IndexByte and bytes.Count, which the runtime
// implements with vector instructions: a mail costs microseconds.
//
// Faults: faultContent for a bare CR, a bare LF or a NUL anywhere in the lines taken
// or in the unfinished one; faultLine when a line, finished or not, exceeds
// MaxTextLine. After a fault nothing in the stream means anything.
func scanData(p []byte, keep func([]byte)) (taken int, done bool, f fault) {
	start := 0 // of the run that is not yet kept
	lines := 0
	for taken < len(p) {
		i := bytes.IndexByte(p[taken:], '\n')
		if i < 0 {
			break
		}
		if i == 0 || p[taken+i-1] != '\r' {
			return taken, false, faultContent
		}
		if i-1 > MaxTextLine {
			return taken, false, faultLine
		}
		lines++
		if p[taken] == '.' {
			if start < taken {
				keep(p[start:taken])
			}
			if i == 2 { // ".\r\n"
				end := taken + 3
				if !cleanLines(p[:end], lines) {
					return taken, false, faultContent
				}
				return end, true, faultNone
			}
			start = taken + 1
		}
		taken += i + 1
	}
	if !cleanLines(p[:taken], lines) {
		return taken, false, faultContent
	}
	if start < taken {
		keep(p[start:taken])
	}
	return taken, false, checkTail(p[taken:])
}

// cleanLines: every one of the lines ends in CRLF, so any further CR is bare.
func cleanLines(p []byte, lines int) bool {
	return bytes.Count(p, []byte{'\r'}) == lines && bytes.IndexByte(p, 0) < 0
}

// checkTail looks at a line that has not ended: its last byte may be the CR of
// its end.
func checkTail(p []byte) fault {
	if len(p) == 0 {
		return faultNone
	}
	if bytes.IndexByte(p[:len(p)-1], '\r') >= 0 || bytes.IndexByte(p, 0) >= 0 {
		return faultContent
	}
	if len(p) > MaxTextLine+1 {
		return faultLine
	}
	return faultNone
}

// checkText judges a whole mail that came in chunks (BDAT without BINARYMIME is text:
// RFC 3030 §3 needs BODY=BINARYMIME for anything else).
func checkText(p []byte) fault {
	switch lineio.CheckText(p, MaxTextLine) {
	case nil:
		return faultNone
	case lineio.ErrTooLong:
		return faultLine
	}
	return faultContent
}
