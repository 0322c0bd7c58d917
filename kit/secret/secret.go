// Package secret keeps keys out of logs, errors and JSON.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

// Text is what every secret shows of itself, however it is printed.
const Text = "[secret]"

// Hidden is embedded in a struct whose fields nobody may see printed.
type Hidden struct{}

// Format shows nothing, whatever the verb (%d would print the bytes otherwise).
func (Hidden) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, Text) }

// String shows nothing.
func (Hidden) String() string { return Text }

// LogValue shows nothing.
func (Hidden) LogValue() slog.Value { return slog.StringValue(Text) }

// MarshalText shows nothing, also to JSON.
func (Hidden) MarshalText() ([]byte, error) { return []byte(Text), nil }
