package smtp

import (
	"context"
	"crypto/tls"
	"slices"
	"testing"
)

// greeting is a backend that wants to know what clients call themselves.
type greeting struct {
	fake
	names []string
}

func (f *greeting) NewSession(ctx context.Context, c Info) (Session, error) {
	s, err := f.fake.NewSession(ctx, c)
	f.said("session")
	return greetingSession{s.(*fakeSession), f}, err
}

func (f *greeting) said(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names = append(f.names, name)
}

type greetingSession struct {
	*fakeSession
	f *greeting
}

func (s greetingSession) Hello(name string) { s.f.said(name) }

// TestGreeter: a session is told what the client calls itself, by EHLO and HELO, anew after STARTTLS, and not where
// the command is refused.
func TestGreeter(t *testing.T) {
	server, conf := testTLS(t)
	f := &greeting{}
	c := dial(t, start(t, Options{Backend: f, TLS: server}), nil)
	c.expect("220 ")
	for _, s := range []struct{ say, want string }{
		{"EHLO\r\n", "501"}, {"EHLO two words\r\n", "501"}, {"HELO old.example\r\n", "250 "}, {"EHLO [192.0.2.1]\r\n", "250 "}, {"STARTTLS\r\n", "220 "},
	} {
		c.send(s.say)
		c.expect(s.want)
	}
	under := tls.Client(c.conn, conf)
	c.conn = under
	c.r.Reset(under)
	c.send("EHLO MX1.host.example\r\n")
	c.expect("250 ")
	c.send("QUIT\r\n")
	c.expect("221 ")
	c.closed()
	f.mu.Lock()
	defer f.mu.Unlock()
	if want := []string{"session", "old.example", "[192.0.2.1]", "session", "MX1.host.example"}; !slices.Equal(f.names, want) {
		t.Errorf("%q", f.names)
	}
}
