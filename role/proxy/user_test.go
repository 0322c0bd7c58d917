package proxy

import (
	"sync"
	"testing"
)

// TestOpenOnce: an account has one client, whoever opens it: its line, or a command that shows its key while the
// account has just been registered.
func TestOpenOnce(t *testing.T) {
	c := newSetup(t, newRelays(t), "anna@"+one).register(t)
	s, err := prepare(Deps{Careless: true}, c.load(t))
	if err != nil {
		t.Fatal(err)
	}
	u := s.users[0]
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := u.open(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first := u.opened()
	if err := u.open(); err != nil || first == nil || u.opened() != first || u.submit.Store != first.Store() {
		t.Errorf("%v: another client was opened", err)
	}
}
