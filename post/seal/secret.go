package seal

import (
	"errors"
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

func (*Root) String() string               { return redacted }
func (*Root) GoString() string             { return redacted }
func (*Root) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (*Root) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

func (*Opened) String() string               { return redacted }
func (*Opened) GoString() string             { return redacted }
func (*Opened) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (*Opened) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

func (*MailKey) String() string               { return redacted }
func (*MailKey) GoString() string             { return redacted }
func (*MailKey) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (*MailKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
