package interop

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/smtp"
	"regexp"
	"slices"
	"sync"
	"testing"
)

// exchange opens a session on port 25 as another relay does.
func (s *server) exchange() (*smtp.Client, error) {
	c, err := smtp.Dial(s.SMTP)
	if err != nil {
		return nil, err
	}
	if err := c.StartTLS(&tls.Config{RootCAs: s.pool, ServerName: s.Domain}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// handOver sends one mail to one recipient; nil is the 250.
func handOver(c *smtp.Client, to string, raw []byte) error {
	if err := c.Mail("alice@remote.example"); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(raw); err != nil {
		return err
	}
	return w.Close()
}

// TestSentAgainAfterAKill: the server is killed while other relays send. Each relay then
// sends again, the same way or over HTTPS, the mail whose answer it did not hear, and also the one
// before, whose 250 it lost with its own memory. Every mail is there exactly once.
func TestSentAgainAfterAKill(t *testing.T) {
	keys := newKeyServer(t)
	s := start(t, "network.resolver="+keys.Addr)
	me := s.created(t, 1)[0]
	signed := signedMail(t, "mailauth-both-enc")
	mail := func(n int) []byte { return append(fmt.Appendf(nil, "X-Number: %d\r\n", n), signed...) }
	number := regexp.MustCompile(`(?m)^X-Number: (\d+)\r$`)

	const relays = 4
	next := make([]int, relays) // the first mail of each relay that it does not know to be taken
	for cut := range 3 {
		var mu sync.Mutex
		acked := 0
		var wg sync.WaitGroup
		for i := range relays {
			c, err := s.exchange()
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				defer c.Close()
				for handOver(c, me.addr, mail(next[i]*relays+i)) == nil {
					next[i]++
					mu.Lock()
					acked++
					mu.Unlock()
				}
			})
		}
		eventually(t, patience, func() error {
			mu.Lock()
			defer mu.Unlock()
			if acked < 40 {
				return fmt.Errorf("%d acknowledged so far", acked)
			}
			return nil
		})
		s.kill()
		wg.Wait()
		s.run(t)
		post := s.poster(t)
		for i := range relays {
			for n := max(next[i]-1, 0); n <= next[i]; n++ {
				if (cut+i+n)%2 == 0 {
					if status, text := post("POST", "alice@remote.example", mail(n*relays+i), me.addr); status != 200 {
						t.Errorf("%d %s", status, text)
					}
					continue
				}
				c, err := s.exchange()
				if err != nil {
					t.Fatal(err)
				}
				if err := handOver(c, me.addr, mail(n*relays+i)); err != nil {
					t.Error(err)
				}
				c.Close()
			}
			next[i]++
		}
		var got, want []string
		for _, m := range s.mails(t, me) {
			if !bytes.Contains([]byte(m), []byte("BEGIN PGP MESSAGE")) {
				t.Error("a mail came without its body")
			}
			got = append(got, number.FindStringSubmatch(m)[1])
		}
		for i := range relays {
			for n := range next[i] {
				want = append(want, fmt.Sprint(n*relays+i))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("cut %d: %d mails, want %d, each once", cut, len(got), len(want))
		}
	}
}
