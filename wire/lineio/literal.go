package lineio

// Literal is the announcement of counted bytes at the end of a line (RFC 9051 §4.3,
// RFC 7888, RFC 3516).
type Literal struct {
	Size   int64 // octets that follow the line's CRLF
	NoWait bool  // "{n+}": the client sends without waiting for "+ "
	Binary bool  // "~{n}": a literal8, which may hold NUL
}

// maxLiteralDigits keeps the size inside 63 bits.
const maxLiteralDigits = 18

// CutLiteral finds a literal's announcement at the end of a line and gives the
// line before it. ok is false when the line does not end in one. Whether the brace
// stands inside a quoted string is for the caller's parser to know: a line of
// IMAP cannot end inside one, because quoted strings hold no CRLF.
func CutLiteral(line []byte) (before []byte, lit Literal, ok bool) {
	i := len(line) - 1
	if i < 2 || line[i] != '}' {
		return line, lit, false
	}
	i--
	if line[i] == '+' {
		lit.NoWait = true
		i--
	}
	end := i + 1
	for i >= 0 && line[i] >= '0' && line[i] <= '9' {
		i--
	}
	digits := line[i+1 : end]
	if i < 0 || line[i] != '{' || len(digits) == 0 || len(digits) > maxLiteralDigits {
		return line, Literal{}, false
	}
	for _, d := range digits {
		lit.Size = lit.Size*10 + int64(d-'0')
	}
	if i > 0 && line[i-1] == '~' {
		lit.Binary = true
		i--
	}
	return line[:i], lit, true
}
