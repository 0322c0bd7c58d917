// Package errs is the one error type of Postern: what was being done, what kind
// of failure it is, what may be shown to a stranger, and the private cause.
//
// Protocol codes (SMTP 4xx, IMAP NO [CODE], HTTP status) are derived from the
// Kind at the edge only, never stored here. A Public text never contains an
// address, a network address, a message id, a file path or a key.
package errs

import (
	"context"
	"errors"
	"strings"
)

// Kind classes a failure by what the other side can do about it. A Kind is
// itself an error, so errors.Is(err, errs.NotFound) works.
type Kind uint8

const (
	Internal    Kind = iota // a bug or an unexpected failure; nothing is promised
	Invalid                 // the input is malformed; repeating it cannot help
	NotFound                // the named thing does not exist
	Exists                  // the named thing exists already
	Denied                  // policy refuses; repeating it cannot help
	Auth                    // name or password is wrong
	TooLarge                // a size limit is exceeded
	Full                    // a quota is exceeded
	NoSpace                 // the disk is (nearly) full; temporary
	Busy                    // a rate or concurrency limit; try again later
	Unavailable             // a part of the system is not working now; temporary
	Canceled                // the caller gave up
	Corrupt                 // stored data does not hold what it should
	Unsupported             // not built, or not possible here
	Conflict                // another writer was faster; read again and repeat
)

var kindNames = [...]string{"internal error", "invalid", "not found", "exists already", "denied",
	"authentication failed", "too large", "quota exceeded", "no space left", "busy", "unavailable",
	"canceled", "corrupt", "unsupported", "conflict"}

func (k Kind) Error() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown kind"
}

// Temporary reports whether the same request may succeed later without change.
func (k Kind) Temporary() bool {
	switch k {
	case NoSpace, Busy, Unavailable, Full, Conflict, Canceled, Internal:
		return true
	}
	return false
}

// Error is a failure of one operation.
type Error struct {
	Op     string // "post/mailbox.Deliver"
	Kind   Kind
	Public string // may be shown to anybody; empty: the kind's own words
	Err    error  // private cause; for logs at debug level only
}

// E makes an *Error. cause may be nil.
func E(op string, kind Kind, public string, cause error) *Error {
	return &Error{Op: op, Kind: kind, Public: public, Err: cause}
}

// Wrap puts op around err and keeps its kind and public text. Wrap(op, nil) is nil.
func Wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Kind: KindOf(err), Public: "", Err: err}
}

// Error gives the private text: operation, kind or public text, and cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	b.WriteString(": ")
	switch {
	case e.Public != "":
		b.WriteString(e.Public)
	case e.Err == nil:
		b.WriteString(e.Kind.Error())
	}
	if e.Err != nil {
		if e.Public != "" {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Is matches a Kind; only the outermost *Error of a chain decides the kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf gives the kind of err: that of the outermost *Error, Canceled for
// context errors, Internal otherwise.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	var k Kind
	if errors.As(err, &k) {
		return k
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return Canceled
	}
	return Internal
}

// Public gives the text that may be shown to anybody: the outermost public text
// of the chain, else the kind's own words.
func Public(err error) string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if pe, ok := e.(*Error); ok && pe.Public != "" {
			return pe.Public
		}
	}
	return KindOf(err).Error()
}
