package smtp

import (
	"context"
	"sync/atomic"
	"testing"
)

// telling is a backend that has something to say about each mail that it took.
type telling struct {
	fake
	text string
}

func (f *telling) NewSession(ctx context.Context, c Info) (Session, error) {
	s, err := f.fake.NewSession(ctx, c)
	return &tellingSession{s.(*fakeSession), f}, err
}

type tellingSession struct {
	*fakeSession
	f *telling
}

func (s *tellingSession) Data(ctx context.Context) (Transfer, error) {
	_, err := s.fakeSession.Data(ctx)
	return s, err
}

func (s *tellingSession) Text() string { return s.f.text }

// TestTeller: what a backend has to say stands in the 250, by DATA and BDAT, on one line; never
// beside a refusal.
func TestTeller(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "250 2.0.0 OK",
		"queued, arrives in about 7 h":           "250 2.0.0 queued, arrives in about 7 h",
		"one\r\n250-8BITMIME\x7f\r\n250 smuggle": "250 2.0.0 one  250-8BITMIME   250 smuggle",
	} {
		c := dial(t, start(t, Options{Backend: &telling{text: text}}), nil)
		c.expect("220 ")
		c.send("EHLO me\r\n")
		c.expect("250 ")
		for _, mail := range []string{"DATA\r\n", "BDAT 3 LAST\r\nx\r\n"} {
			c.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
			c.expect("250 ")
			c.expect("250 ")
			c.send(mail)
			if mail == "DATA\r\n" {
				c.expect("354 ")
				c.send("x\r\n.\r\n")
			}
			if got := c.expect("250 "); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		c.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
		c.expect("250 ")
		c.expect("250 ")
		c.send("DATA\r\n")
		c.expect("354 ")
		c.send("X-Refuse: 1\r\n\r\n.\r\n")
		c.expect("523 Encryption Needed")
	}
}

// TestOffer: EHLO names the size that is taken now, within MaxSize.
func TestOffer(t *testing.T) {
	var offer atomic.Int64
	addr := start(t, Options{Backend: &fake{}, MaxSize: 5000, Offer: offer.Load})
	for n, want := range map[int64]string{0: "250-SIZE 5000", 1234: "250-SIZE 1234", 6000: "250-SIZE 5000", -1: "250-SIZE 5000"} {
		offer.Store(n)
		c := dial(t, addr, nil)
		c.expect("220 ")
		c.send("EHLO me\r\n")
		for l := c.line(); l != want; l = c.line() {
			if l[3] == ' ' {
				t.Fatalf("%d: no %q", n, want)
			}
		}
	}
}
