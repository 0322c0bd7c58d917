package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// seenSocks is what a SOCKS proxy was asked.
type seenSocks struct{ network, addr, user, password, target string }

// throughSocks connects as an account does, to a proxy that notes what it is asked and refuses.
func throughSocks(t *testing.T, section, account, addr string) (got seenSocks, err error) {
	t.Helper()
	c := newSetup(t, newRelays(t), account)
	c.rest = "[UpstreamProxy]\n" + section
	done := make(chan struct{})
	var dialed bool
	s, err := prepare(Deps{Dial: func(_ context.Context, network, addr string) (net.Conn, error) {
		dialed = true
		got.network, got.addr = network, addr
		client, server := net.Pipe()
		go func() {
			defer close(done)
			defer server.Close()
			answerSocks(server, &got)
		}()
		return client, nil
	}}, c.load(t))
	must(t, err)
	conn, err := s.users[0].dial(t.Context(), addr)
	if err == nil {
		conn.Close()
	}
	if dialed {
		if strings.Contains(section, "none") {
			conn.Close()
		}
		<-done
	}
	return got, err
}

// answerSocks is the other side of RFC 1928 and RFC 1929, as far as it goes until the target is
// known.
func answerSocks(c net.Conn, got *seenSocks) {
	b := make([]byte, 512)
	read := func(n int) []byte {
		_, _ = io.ReadFull(c, b[:n])
		return b[:n]
	}
	if h := read(2); h[0] != 5 {
		return
	}
	methods := slices.Clone(read(int(b[1])))
	if slices.Contains(methods, 2) {
		c.Write([]byte{5, 2})
		read(2)
		got.user = string(read(int(b[1])))
		read(1)
		got.password = string(read(int(b[0])))
		c.Write([]byte{1, 0})
	} else {
		c.Write([]byte{5, 0})
	}
	h := read(4)
	switch h[3] {
	case 1:
		got.target = net.IP(read(4)).String()
	case 3:
		n := int(read(1)[0])
		got.target = string(read(n))
	}
	read(2)
	c.Write([]byte{5, 2, 0, 1, 0, 0, 0, 0, 0, 0})
}

func upstreamEffects() map[string]func(*testing.T) {
	const proxy = "Address = \"127.0.0.1:9050\"\n"
	return map[string]func(*testing.T){
		"UpstreamProxy.Type": func(t *testing.T) {
			got, err := throughSocks(t, "Type = \"none\"", "anna@"+one, "relay.example:48099")
			if err != nil || got.addr != "relay.example:48099" {
				t.Errorf("%+v, %v", got, err)
			}
			got, _ = throughSocks(t, "Type = \"SOCKS5\"\n"+proxy, "anna@"+one, "relay.example:48099")
			if got.addr != "127.0.0.1:9050" || got.target != "relay.example" || got.user != "" {
				t.Errorf("%+v", got)
			}
			// Behind Tor each account has circuits of its own.
			a, _ := throughSocks(t, "Type = \"tor+socks5\"\n"+proxy, "anna@"+one, "relay.example:48099")
			b, _ := throughSocks(t, "Type = \"tor+socks5\"\n"+proxy, "berta@"+one, "relay.example:48099")
			if a.user == "" || a.user+a.password == b.user+b.password || strings.Contains(a.user+a.password, "anna") {
				t.Errorf("%+v, %+v", a, b)
			}
			for text, words := range map[string]string{"Type = \"http\"": "Type is none of", "Type = \"socks5\"": "no IP address and port", "Type = \"socks5\"\nNetwork = \"udp\"": "neither tcp nor unix",
				"Type = \"socks5\"\nNetwork = \"unix\"\nAddress = \"s\"": "no absolute path", "Type = \"socks5\"\nUser = \"a\"\n" + proxy: "belong together",
				"Type = \"tor+socks5\"\nUser = \"a\"\nPassword = \"b\"\n" + proxy: "names choose circuits", "Type = \"socks5\"\nPassword = \"b\"\nUser = \"" + strings.Repeat("x", 256) + "\"\n" + proxy: "at most 255 bytes"} {
				_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[UpstreamProxy]\n"+text), nil)
				refused(t, err, errs.Invalid, words)
			}
		},
		"UpstreamProxy.Network": func(t *testing.T) {
			got, _ := throughSocks(t, "Type = \"socks5\"\nNetwork = \"unix\"\nAddress = \"/run/tor/socks\"", "anna@"+one, "relay.example:1")
			if got.network != "unix" || got.addr != "/run/tor/socks" {
				t.Errorf("%+v", got)
			}
		},
		"UpstreamProxy.Address": func(t *testing.T) {
			got, _ := throughSocks(t, "Type = \"socks5\"\nAddress = \"127.0.0.1:9999\"", "anna@"+one, "relay.example:1")
			if got.addr != "127.0.0.1:9999" {
				t.Errorf("%+v", got)
			}
		},
		"UpstreamProxy.User": func(t *testing.T) {
			got, _ := throughSocks(t, "Type = \"socks5\"\nUser = \"me\"\nPassword = \"secret\"\n"+proxy, "anna@"+one, "relay.example:1")
			if got.user != "me" {
				t.Errorf("%+v", got)
			}
		},
		"UpstreamProxy.Password": func(t *testing.T) {
			got, _ := throughSocks(t, "Type = \"socks5\"\nUser = \"me\"\nPassword = \"secret\"\n"+proxy, "anna@"+one, "relay.example:1")
			if got.password != "secret" {
				t.Errorf("%+v", got)
			}
		},
		"UpstreamProxy.PreferedTransports": func(t *testing.T) {
			const onion = "abc.onion:1"
			all := []string{"192.0.2.1:1", "[2001:db8::1]:1", onion, "relay.example:1"}
			for text, want := range map[string][]string{`[]`: all, `["onion"]`: {onion}, `["tcp6", "tcp4"]`: {all[1], all[3], all[0]}, `["tcp"]`: {all[0], all[1], all[3]}, `["onion", "tcp4"]`: {onion, all[0], all[3]}} {
				c := newSetup(t, newRelays(t), "anna@"+one)
				c.rest = "[UpstreamProxy]\nPreferedTransports = " + text
				s, err := prepare(Deps{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("reached") }}, c.load(t))
				must(t, err)
				var got []string
				for _, a := range s.ordered(all) {
					if _, err := s.users[0].dial(t.Context(), a); errs.KindOf(err) != errs.Denied {
						got = append(got, a)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", text, got, want)
				}
			}
			_, err := LoadText("t.toml", []byte("[Proxy]\nDataDir=\"/x\"\n[UpstreamProxy]\nPreferedTransports = [\"i2p\"]"), nil)
			refused(t, err, errs.Invalid, "i2p is none of")
		},
	}
}
