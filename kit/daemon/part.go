package daemon

import (
	"context"
	"errors"
	"log/slog"

	"postern.email/kit/errs"
)

// Part gives a function that runs a part of a program until ctx ends, for a WaitGroup. A part
// that ends by itself, with an error or without, is logged, and broken gets an errs.Unavailable
// whose public text names part and whole ("relay"), unless an earlier one is there:
// the program should then be closed. broken has room for one.
func Part(ctx context.Context, log *slog.Logger, whole, name string, broken chan<- error, run func(context.Context) error) func() {
	return func() {
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended without an error")
		}
		log.Error("a part of the "+whole+" stopped", "part", name, "err", err)
		select {
		case broken <- errs.E("role/"+whole+"."+name, errs.Unavailable, "the part of the "+whole+" called "+name+" stopped", err):
		default:
		}
	}
}
