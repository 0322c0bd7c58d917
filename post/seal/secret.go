package seal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// Causes of errs.Corrupt.
var (
	errShort   = errors.New("sealed record is too short")
	errVersion = errors.New("unknown format version")
	errClosed  = errors.New("the account key is closed")
)

// redacted is what every secret type shows of itself, however it is printed.
const redacted = "[secret]"

// Format shows nothing, whatever the verb (%d would print the bytes otherwise).
func (*Root) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String shows nothing.
func (*Root) String() string { return redacted }

// GoString shows nothing.
func (*Root) GoString() string { return redacted }

// LogValue shows nothing.
func (*Root) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON shows nothing.
func (*Root) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format shows nothing, whatever the verb (%d would print the bytes otherwise).
func (*Opened) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String shows nothing.
func (*Opened) String() string { return redacted }

// GoString shows nothing.
func (*Opened) GoString() string { return redacted }

// LogValue shows nothing.
func (*Opened) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON shows nothing.
func (*Opened) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format shows nothing, whatever the verb (%d would print the bytes otherwise).
func (*MailKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String shows nothing.
func (*MailKey) String() string { return redacted }

// GoString shows nothing.
func (*MailKey) GoString() string { return redacted }

// LogValue shows nothing.
func (*MailKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON shows nothing.
func (*MailKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
