package interop

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"postern.email/interop/mailclient"
)

func itoa(n int) string { return strconv.Itoa(n) }

// with gives the dialer with an application protocol (RFC 7301).
func (s *server) with(alpn ...string) mailclient.Dialer {
	d := s.dialer()
	d.TLS.NextProtos = alpn
	return d
}

func login(s *server, addr string, sec mailclient.Security, u user, alpn ...string) error {
	c, err := mailclient.DialIMAP(addr, sec, s.with(alpn...))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Login(u.addr, u.password)
}

func submit(s *server, addr string, sec mailclient.Security, u user, alpn ...string) error {
	c, err := mailclient.DialSMTP(addr, sec, s.with(alpn...))
	if err != nil {
		return err
	}
	defer c.Close()
	return c.AuthPlain(u.addr, u.password)
}

func dialOnly(s *server, addr string) error {
	c, err := mailclient.DialSMTP(addr, mailclient.Plain, s.dialer())
	if err != nil {
		return err
	}
	c.Quit()
	return nil
}

// pop logs in by POP3 (RFC 1939, STLS of RFC 2595).
func pop(s *server, addr string, sec mailclient.Security, u user) error {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if sec == mailclient.TLS {
		conn = tls.Client(conn, s.dialer().TLS)
	}
	r := bufio.NewReader(conn)
	ok := func(line string) error {
		if line != "" {
			if _, err := fmt.Fprintf(conn, "%s\r\n", line); err != nil {
				return err
			}
		}
		reply, err := r.ReadString('\n')
		if err == nil && !strings.HasPrefix(reply, "+OK") {
			err = fmt.Errorf("after %.4q: %s", line, strings.TrimSpace(reply))
		}
		return err
	}
	if err := ok(""); err != nil {
		return err
	}
	if sec == mailclient.STARTTLS {
		if err := ok("STLS"); err != nil {
			return err
		}
		conn = tls.Client(conn, s.dialer().TLS)
		r = bufio.NewReader(conn)
	}
	for _, line := range []string{"USER " + u.addr, "PASS " + u.password, "STAT", "QUIT"} {
		if err := ok(line); err != nil {
			return err
		}
	}
	return nil
}
