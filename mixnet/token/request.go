package token

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"postern.email/kit/errs"
)

// MaxRequest is how many tokens one request can ask for.
const MaxRequest = 64

// RequestTitle is what a request over the link begins with.
const RequestTitle = "postern-token 1 "

// AppendRequest writes a request for tokens over the link: the title, the day in decimal, LF, and
// the blinded messages.
func AppendRequest(b []byte, day Day, list []*Blinded) []byte {
	b = fmt.Appendf(b, RequestTitle+"%d\n", day)
	for _, x := range list {
		b = append(b, x.Request...)
	}
	return b
}

// ParseRequest reads it. The messages share the bytes of b. errs.Invalid.
func ParseRequest(b []byte) (Day, [][]byte, error) {
	bad := func(why string) (Day, [][]byte, error) {
		return 0, nil, errs.E("mixnet/token.ParseRequest", errs.Invalid, "the request for tokens is malformed", errors.New(why))
	}
	rest, ok := bytes.CutPrefix(b, []byte(RequestTitle))
	line, rest, end := bytes.Cut(rest, []byte("\n"))
	day, err := strconv.ParseUint(string(line), 10, 32)
	if !ok || !end || err != nil || strconv.FormatUint(day, 10) != string(line) {
		return bad("its first line")
	}
	list, ok := parts(rest)
	if !ok {
		return bad("its messages")
	}
	return Day(day), list, nil
}

// ParseAnswer reads the signatures of an answer to n messages, which stand one behind the other; fewer
// than n are those of the first messages.
func ParseAnswer(b []byte, n int) ([][]byte, error) {
	list, ok := parts(b)
	if !ok || len(list) > n {
		return nil, errs.E("mixnet/token.ParseAnswer", errs.Invalid, "the relay's answer holds no tokens", nil)
	}
	return list, nil
}

func parts(b []byte) (list [][]byte, ok bool) {
	if len(b) == 0 || len(b)%BlindLen != 0 || len(b)/BlindLen > MaxRequest {
		return nil, false
	}
	for ; len(b) > 0; b = b[BlindLen:] {
		list = append(list, b[:BlindLen:BlindLen])
	}
	return list, true
}
