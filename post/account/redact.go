package account

import "log/slog"

// What these types show of themselves, however they are printed: no address, no
// password, no network.

const redacted = "[login]"

// String hides all.
func (LoginRequest) String() string { return redacted }

// GoString hides all.
func (LoginRequest) GoString() string { return redacted }

// LogValue hides all.
func (LoginRequest) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON hides all.
func (LoginRequest) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// String hides all.
func (CreateRequest) String() string { return redacted }

// GoString hides all.
func (CreateRequest) GoString() string { return redacted }

// LogValue hides all.
func (CreateRequest) LogValue() slog.Value { return slog.StringValue(redacted) }

// GoString is String.
func (a Account) GoString() string { return a.String() }

// LogValue shows the number only.
func (a Account) LogValue() slog.Value { return slog.StringValue(a.String()) }
