// Package defaults puts what an option stands for in the place of one that was not set.
package defaults

import (
	"crypto/rand"
	"io"
	"log/slog"
	"time"
)

// Zero puts d in the place of a zero value; a negative one stays, where it has a meaning.
func Zero[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Positive puts d in the place of what is not greater than 0.
func Positive[T ~int | ~int32 | ~int64 | ~float64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Clock is time.Now unless another one was passed in.
func Clock(now *func() time.Time) {
	if *now == nil {
		*now = time.Now
	}
}

// Rand is crypto/rand.Reader unless another source was passed in.
func Rand(r *io.Reader) {
	if *r == nil {
		*r = rand.Reader
	}
}

// Logger discards everything unless another one was passed in.
func Logger(l **slog.Logger) {
	if *l == nil {
		*l = slog.New(slog.DiscardHandler)
	}
}
