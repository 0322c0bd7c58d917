package control

import (
	"context"
	"encoding/json"

	"postern.email/kit/errs"
)

// Args decodes a command's arguments into v. errs.Invalid.
func Args(raw json.RawMessage, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return errs.E("wire/control.Args", errs.Invalid, "the command's arguments cannot be read", err)
	}
	return nil
}

// With makes a Handler of a function that takes arguments and reports no progress.
func With[A, R any](fn func(context.Context, A) (R, error)) Handler {
	return func(ctx context.Context, raw json.RawMessage, _ func(any) error) (any, error) {
		var a A
		if err := Args(raw, &a); err != nil {
			return nil, err
		}
		return fn(ctx, a)
	}
}
