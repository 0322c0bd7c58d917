package flight

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

type result struct {
	v   int
	err error
}

// ask runs Do and tells what came of it.
func ask(ctx context.Context, g *Group[string, int], work func(context.Context) (int, error)) <-chan result {
	out := make(chan result, 1)
	go func() {
		v, err := g.Do(ctx, "k", work)
		out <- result{v, err}
	}()
	return out
}

// TestJoined: the work is done once for all who ask meanwhile, a failure too, and again
// for who asks later.
func TestJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		for _, want := range []error{nil, errors.New("no")} {
			n, open := 0, make(chan struct{})
			work := func(context.Context) (int, error) { n++; <-open; return n, want }
			a := ask(t.Context(), &g, work)
			b := ask(t.Context(), &g, work)
			other, err := g.Do(t.Context(), "another", func(context.Context) (int, error) { return 7, nil })
			if other != 7 || err != nil {
				t.Errorf("another key: %d, %v", other, err)
			}
			synctest.Wait()
			close(open)
			if ra, rb := <-a, <-b; ra != (result{1, want}) || rb != ra {
				t.Errorf("%v, %v", ra, rb)
			}
			if r := <-ask(t.Context(), &g, work); r.v != 2 {
				t.Errorf("asked later: %v", r)
			}
		}
	})
}

// TestGivingUp: who waits may leave; when the one who works leaves, another works.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		first, leave := context.WithCancel(t.Context())
		impatient, goAway := context.WithCancel(t.Context())
		a := ask(first, &g, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		synctest.Wait()
		b := ask(t.Context(), &g, func(context.Context) (int, error) { return 5, nil })
		c := ask(impatient, &g, func(context.Context) (int, error) { return 6, nil })
		synctest.Wait()
		goAway()
		if r := <-c; !errors.Is(r.err, context.Canceled) {
			t.Errorf("who left got %v", r)
		}
		leave()
		if r := <-a; !errors.Is(r.err, context.Canceled) {
			t.Errorf("the first got %v", r)
		}
		if r := <-b; r != (result{5, nil}) {
			t.Errorf("the next got %v", r)
		}
	})
}

// TestPanic: a panic of the work is the caller's own, and others do not wait for ever.
func TestPanic(t *testing.T) {
	var g Group[string, int]
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		g.Do(t.Context(), "k", func(context.Context) (int, error) { panic("x") })
	}()
	if r := <-ask(t.Context(), &g, func(context.Context) (int, error) { return 3, nil }); r.v != 3 {
		t.Errorf("after a panic: %v", r)
	}
}

// TestForget: who asks after Forget does not get what was begun before.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		open := make(chan struct{})
		a := ask(t.Context(), &g, func(context.Context) (int, error) { <-open; return 1, nil })
		synctest.Wait()
		g.Forget("k")
		if r := <-ask(t.Context(), &g, func(context.Context) (int, error) { return 2, nil }); r.v != 2 {
			t.Errorf("after Forget: %v", r)
		}
		close(open)
		if r := <-a; r.v != 1 {
			t.Errorf("begun before: %v", r)
		}
	})
}
