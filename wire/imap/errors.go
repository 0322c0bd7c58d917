package imap

import (
	"errors"
	"strings"

	"postern.email/kit/errs"
)

// statusError is a tagged NO or BAD with a response code of its own.
type statusError struct {
	bad  bool
	code string // without brackets
	text string
	// closing says that the connection ends behind this answer.
	closing bool
}

func (e *statusError) Error() string { return e.text }

func no(code, text string) error  { return &statusError{code: code, text: text} }
func bad(code, text string) error { return &statusError{bad: true, code: code, text: text} }

// respCode gives the response code (RFC 5530, 7889, 9208) for a kind of failure.
func respCode(k errs.Kind, login bool) string {
	switch k {
	case errs.Auth:
		return "AUTHENTICATIONFAILED"
	case errs.Denied:
		if login {
			return "AUTHORIZATIONFAILED"
		}
		return "NOPERM"
	case errs.Busy, errs.Unavailable, errs.NoSpace, errs.Canceled:
		return "UNAVAILABLE"
	case errs.Full:
		return "OVERQUOTA"
	case errs.TooLarge:
		return "TOOBIG"
	case errs.NotFound:
		return "NONEXISTENT"
	case errs.Exists:
		return "ALREADYEXISTS"
	case errs.Invalid, errs.Unsupported:
		return "CANNOT"
	case errs.Conflict:
		return "INUSE"
	case errs.Corrupt:
		return "CORRUPTION"
	}
	return "SERVERBUG"
}

// answer turns an error into the status, code and text of a tagged response.
func answer(err error, login bool) *statusError {
	var st *statusError
	if errors.As(err, &st) {
		return st
	}
	var syn *syntaxError
	if errors.As(err, &syn) {
		return &statusError{bad: true, text: publicText(syn.text)}
	}
	return &statusError{code: respCode(errs.KindOf(err), login), text: publicText(errs.Public(err))}
}

// publicText makes a text fit for a response line: printable ASCII, not empty.
func publicText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
	if s == "" || s[0] == '[' {
		s = "error " + s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if len(s) > 400 {
		s = s[:400]
	}
	return s
}
