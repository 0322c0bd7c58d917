package account

import (
	"fmt"
	"io"
	"log/slog"
)

// Accounts and sessions show their number, however they are printed: no address, no key.

// Format shows the number only, whatever the verb.
func (a Account) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, a.String()) }

// LogValue shows the number only.
func (a Account) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Format shows the account's number only.
func (s *Session) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, s.Account.String()) }
