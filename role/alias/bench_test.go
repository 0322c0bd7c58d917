package alias

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"postern.email/post/alias"
)

// BenchmarkChange is one alias more where there are 10,000: the durable record, and the map of Postfix that shows it.
func BenchmarkChange(b *testing.B) {
	const have = 10_000
	p := newPlace(b, "[Postern]\nMaxHandles=1000000\n")
	s := p.start(b)
	secret := p.account(b, "anna@mailbox.example")
	v, _, err := s.aliases.ByToken(b.Context(), secret)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	make := func(name string) {
		if _, err := s.aliases.Create(b.Context(), v, alias.New{Local: name, Class: alias.OpenMail}); err != nil {
			b.Error(err)
		}
	}
	var all sync.WaitGroup
	for w := range 64 {
		all.Go(func() {
			for i := w; i < have; i += 64 {
				make(fmt.Sprintf("amber-falcon-%d%s", i, strings.Repeat("x", i%5)))
			}
		})
	}
	all.Wait()
	if err := s.follow(b.Context()); err != nil {
		b.Fatal(err)
	}
	for n := 0; b.Loop(); n++ {
		make(fmt.Sprintf("fresh-%d", n))
		if err := s.follow(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if st := s.Status().Map; st.Lines < have || st.Error != "" {
		b.Fatalf("%+v", st)
	}
}
