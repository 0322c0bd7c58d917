package account

import (
	"fmt"
	"io"
	"log/slog"
)

// What these types show of themselves, however they are printed: no address, no
// password, no network.

const redacted = "[login]"

// Format hides all, whatever the verb.
func (LoginRequest) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String hides all.
func (LoginRequest) String() string { return redacted }

// LogValue hides all.
func (LoginRequest) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON hides all.
func (LoginRequest) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format hides all, whatever the verb.
func (CreateRequest) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// String hides all.
func (CreateRequest) String() string { return redacted }

// LogValue hides all.
func (CreateRequest) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format shows the number only, whatever the verb.
func (a Account) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, a.String()) }

// LogValue shows the number only.
func (a Account) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Format shows the account's number only.
func (s *Session) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, s.Account.String()) }
