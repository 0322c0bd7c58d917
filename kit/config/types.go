package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a number of bytes. In text: a whole number, or one with a unit K, M,
// G or T (powers of 1024), "500M".
type Bytes int64

// UnmarshalText reads "31457280" or "500M".
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	unit := int64(1)
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]&^0x20); i >= 0 && s[n-1] > '9' {
			unit, s = 1<<(10*(i+1)), s[:n-1]
		}
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 0 || v > math.MaxInt64/unit {
		return fmt.Errorf("%q is not a size; write a number of bytes, or one with K, M, G or T", text)
	}
	*b = Bytes(v * unit)
	return nil
}

// String gives the shortest exact form.
func (b Bytes) String() string {
	for i := 4; i > 0; i-- {
		if u := int64(1) << (10 * i); b != 0 && int64(b)%u == 0 {
			return strconv.FormatInt(int64(b)/u, 10) + " KMGT"[i:i+1]
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText is String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Duration is a length of time. In text: what Go reads ("90s", "15m", "1h30m"),
// or whole days ("20d").
type Duration time.Duration

// UnmarshalText reads "15m" or "20d"; a bare 0 is zero. Negative lengths are refused.
func (d *Duration) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if s == "0" {
		*d = 0
		return nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 32)
		if err == nil && n >= 0 && n <= 36500 {
			*d = Duration(time.Duration(n) * 24 * time.Hour)
			return nil
		}
	} else if v, err := time.ParseDuration(s); err == nil && v >= 0 {
		*d = Duration(v)
		return nil
	}
	return fmt.Errorf("%q is not a length of time; write for example 90s, 15m, 12h or 20d", text)
}

// String gives the form that UnmarshalText reads, days where they are whole.
func (d Duration) String() string {
	const day = Duration(24 * time.Hour)
	if d != 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Std gives the standard library's form.
func (d Duration) Std() time.Duration { return time.Duration(d) }
