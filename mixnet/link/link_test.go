package link

import (
	"slices"
	"testing"
)

// TestSend: units arrive as they were, in order, and Send returns after the commit.
func TestSend(t *testing.T) {
	got := newRecorder()
	b := start(t, options("b", known(t, Mix, "a").who, got))
	a := start(t, options("a", known(t, Mix, "b").who, commitAll))
	line := a.line(t, "b", b.addr)
	const count = 300
	done := make(chan error, count)
	sem := make(chan struct{}, 100)
	for i := range uint64(count) {
		sem <- struct{}{}
		if err := line.Post(unit(i), func(err error) { done <- err; <-sem }); err != nil {
			t.Fatal(err)
		}
	}
	for range count {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := line.Send(soon(t), unit(count)); err != nil {
		t.Fatal(err)
	}
	numbers := got.numbers(t)
	if len(numbers) != count+1 || !slices.IsSorted(numbers) {
		t.Fatalf("%d units, sorted %v", len(numbers), slices.IsSorted(numbers))
	}
	if c := a.Counts(); c.UnitsOut != count+1 || c.Again != 0 {
		t.Errorf("%+v", c)
	}
	if c := b.Counts(); c.UnitsIn != count+1 {
		t.Errorf("%+v", c)
	}
}
