package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// zone is a small DNS.
type zone struct {
	txt   map[string]string
	mx    map[string][]string
	addrs map[string]string
	ptr   map[string][]string
	fails map[string]bool // names whose look-up fails
	asked int
}

func (z *zone) answer(name string, ok bool) error {
	z.asked++
	switch {
	case z.fails[name]:
		return errors.New("timeout")
	case strings.ContainsAny(name, "+ ") || name == "":
		return errs.E("test", errs.Invalid, "", nil)
	case !ok:
		return errs.E("test", errs.NotFound, "", nil)
	}
	return nil
}

func (z *zone) lookups() Lookups {
	return Lookups{
		TXT: func(_ context.Context, name string) ([]string, bool, error) {
			txt, ok := z.txt[name]
			return strings.Split(txt, "|"), false, z.answer(name, ok)
		},
		MX: func(_ context.Context, name string) ([]string, error) {
			list, ok := z.mx[name]
			return list, z.answer(name, ok)
		},
		Addresses: func(_ context.Context, name string) ([]netip.Addr, error) {
			a, ok := z.addrs[name]
			if err := z.answer(name, ok); err != nil {
				return nil, err
			}
			return []netip.Addr{netip.MustParseAddr(a)}, nil
		},
		PTR: func(_ context.Context, a netip.Addr) ([]string, bool, error) {
			list, ok := z.ptr[a.String()]
			return list, false, z.answer(a.String(), ok)
		},
	}
}

// TestCheck has the mechanisms that domains use, and what is no pass.
func TestCheck(t *testing.T) {
	many := "v=spf1"
	for i := range MaxTerms + 1 {
		many += fmt.Sprintf(" a:h%d.example", i)
	}
	z := &zone{
		txt: map[string]string{
			"ip.example":       "other text|v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all",
			"soft.example":     "v=spf1 ~all",
			"neutral.example":  "v=spf1 ?all",
			"open.example":     "v=spf1 +all",
			"incl.example":     "v=spf1 include:ip.example -all",
			"redir.example":    "v=spf1 redirect=ip.example",
			"mx.example":       "v=spf1 mx -all",
			"a.example":        "v=spf1 a:host.example -all",
			"ptr.example":      "v=spf1 ptr -all",
			"exists.example":   "v=spf1 exists:%{ir}.%{l}.list.example -all",
			"helo.example":     "v=spf1 exists:%{h}.list.example -all",
			"two.example":      "v=spf1 +all|v=spf1 -all",
			"bad.example":      "v=spf1 ip4:999 +all",
			"many.example":     many + " +all",
			"void.example":     "v=spf1 a:x1.example a:x2.example a:x3.example +all",
			"loop.example":     "v=spf1 include:loop.example",
			"fails.example":    "v=spf1 a:down.example +all",
			"text.example":     "no record",
			"xn--bcher-kva.de": "v=spf1 ip4:192.0.2.7 -all",
		},
		mx:    map[string][]string{"mx.example": {"", "mx1.mx.example"}},
		addrs: map[string]string{"mx1.mx.example": "192.0.2.9", "host.example": "192.0.2.10", "n.ptr.example": "192.0.2.11", "7.2.0.192.bob.list.example": "127.0.0.2", "unknown.list.example": "127.0.0.2"},
		ptr:   map[string][]string{"192.0.2.11": {"n.ptr.example"}, "192.0.2.12": {"n.ptr.example"}},
		fails: map[string]bool{"down.example": true, "gone.example": true},
	}
	for i := range MaxTerms + 1 {
		z.addrs[fmt.Sprintf("h%d.example", i)] = "198.51.100.1"
	}
	for _, c := range []struct {
		addr, from string
		want       Verdict
	}{
		{"192.0.2.7", "bob@ip.example", Pass},
		{"192.0.2.7", "bob@IP.Example", Pass},
		{"::ffff:192.0.2.7", "bob@ip.example", Pass},
		{"2001:db8::1", "bob@ip.example", Pass},
		{"198.51.100.1", "bob@ip.example", NoPass},
		{"192.0.2.7", "bob@incl.example", Pass},
		{"198.51.100.1", "bob@incl.example", NoPass},
		{"192.0.2.7", "bob@redir.example", Pass},
		{"192.0.2.9", "bob@mx.example", Pass},
		{"192.0.2.8", "bob@mx.example", NoPass},
		{"192.0.2.10", "bob@a.example", Pass},
		{"192.0.2.11", "bob@ptr.example", Pass},
		{"192.0.2.12", "bob@ptr.example", NoPass}, // the name does not lead back
		{"192.0.2.7", "bob@exists.example", Pass},
		{"192.0.2.7", "bob+tag@exists.example", NoPass},
		{"192.0.2.7", "eve@exists.example", NoPass},
		{"192.0.2.7", "bob@helo.example", Pass},
		{"192.0.2.7", "bob@soft.example", NoPass},
		{"192.0.2.7", "bob@neutral.example", NoPass},
		{"192.0.2.7", "bob@open.example", Pass},
		{"192.0.2.7", "bob@two.example", NoPass},
		{"192.0.2.7", "bob@bad.example", NoPass},
		{"192.0.2.7", "bob@many.example", NoPass},
		{"192.0.2.7", "bob@void.example", NoPass},
		{"192.0.2.7", "bob@loop.example", NoPass},
		{"192.0.2.7", "bob@fails.example", Temporary},
		{"192.0.2.7", "bob@gone.example", Temporary},
		{"192.0.2.7", "bob@text.example", None},
		{"192.0.2.7", "bob@nothing.example", None},
		{"192.0.2.7", "bob@bücher.de", Pass},
		{"192.0.2.7", "bob@localhost", None},
		{"192.0.2.7", "bob@[192.0.2.7]", None},
		{"192.0.2.7", `"x@open.example "@ip.example`, None},
	} {
		from, err := mail.ParseAddress(c.from)
		if err != nil {
			t.Fatal(err)
		}
		if got := z.lookups().Check(t.Context(), netip.MustParseAddr(c.addr), from, ""); got != c.want {
			t.Errorf("%s from %s: %d, want %d", c.from, c.addr, got, c.want)
		}
	}
	l, from := z.lookups(), mail.Address{Local: "bob", Domain: "open.example"}
	if got := l.Check(t.Context(), netip.Addr{}, from, ""); got != None {
		t.Errorf("no network address: %d", got)
	}
	if got := (Lookups{}).Check(t.Context(), netip.MustParseAddr("192.0.2.7"), from, ""); got != None {
		t.Errorf("no look-ups: %d", got)
	}
}

// TestHello: for the null sender the name in EHLO is asked, as postmaster's domain; it also stands for %{h}.
func TestHello(t *testing.T) {
	z := &zone{txt: map[string]string{
		"mx1.host.example": "v=spf1 ip4:192.0.2.7 -all",
		"post.example":     "v=spf1 exists:%{l}.%{h}.list.example -all",
		"macro.example":    "v=spf1 exists:%{h}.list.example -all",
	}, addrs: map[string]string{"postmaster.post.example.list.example": "127.0.0.2", "mx1.host.example.list.example": "127.0.0.2"},
		fails: map[string]bool{"down.example": true}}
	bob := mail.Address{Local: "bob", Domain: "macro.example"}
	for _, c := range []struct {
		addr  string
		from  mail.Address
		hello string
		want  Verdict
	}{
		{"192.0.2.7", mail.Address{}, "mx1.host.example", Pass},
		{"192.0.2.7", mail.Address{}, "MX1.Host.Example.", Pass},
		{"192.0.2.8", mail.Address{}, "mx1.host.example", NoPass},
		{"192.0.2.8", mail.Address{}, "post.example", Pass},
		{"192.0.2.7", mail.Address{}, "host.example", None},
		{"192.0.2.7", mail.Address{}, "down.example", Temporary},
		{"192.0.2.7", mail.Address{}, "", None},
		{"192.0.2.7", mail.Address{}, "localhost", None},
		{"192.0.2.7", mail.Address{}, "[192.0.2.7]", None},
		{"192.0.2.7", mail.Address{}, "192.0.2.7", None},
		{"192.0.2.7", mail.Address{}, "a@mx1.host.example", None},
		{"192.0.2.7", mail.Address{}, strings.Repeat("a.", 127) + "example", None},
		{"192.0.2.7", bob, "mx1.host.example", Pass},
		{"192.0.2.7", bob, "other.example", NoPass},
	} {
		if got := z.lookups().Check(t.Context(), netip.MustParseAddr(c.addr), c.from, c.hello); got != c.want {
			t.Errorf("%q from %s: %d, want %d", c.hello, c.addr, got, c.want)
		}
	}
	if got := Sender(mail.Address{}, "MX1.host.example"); got.String() != "postmaster@mx1.host.example" {
		t.Error(got)
	}
	if got := Sender(bob, "x.example"); got != bob {
		t.Error(got)
	}
}

// TestTime: a DNS that never answers ends the check.
func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := (&zone{}).lookups()
		l.TXT = func(ctx context.Context, _ string) ([]string, bool, error) {
			<-ctx.Done()
			return nil, false, errs.E("test", errs.Unavailable, "", ctx.Err())
		}
		if got := l.Check(t.Context(), netip.MustParseAddr("192.0.2.7"), mail.Address{Local: "a", Domain: "b.example"}, ""); got != Temporary {
			t.Error(got)
		}
	})
}

// FuzzCheck: no record costs more look-ups than the RFC allows, whatever it says, and none that
// says nothing of the address lets it pass.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"v=spf1 mx ptr a include:a.example exists:%{l1r-}.%{d2} -all", "v=spf1 +all", "v=spf1 redirect=a.example", "v=spf1 ip4:1.2.3.4/33", "v=spf1 a:%{", "v=spf1 a//129", ""} {
		f.Add(s, "bob", "192.0.2.7")
	}
	f.Fuzz(func(t *testing.T, record, local, addr string) {
		from, err := mail.ParseAddress(local + "@a.example")
		at, err2 := netip.ParseAddr(addr)
		if err != nil || err2 != nil {
			return
		}
		z := &zone{txt: map[string]string{"a.example": strings.ReplaceAll(record, "|", "")}, mx: map[string][]string{}, addrs: map[string]string{}}
		for i := range 2 * MaxHosts {
			z.mx["a.example"] = append(z.mx["a.example"], fmt.Sprintf("h%d.example", i))
		}
		got := z.lookups().Check(t.Context(), at, from, "")
		if most := 2 + MaxTerms*(1+MaxHosts); z.asked > most {
			t.Errorf("%d look-ups", z.asked)
		}
		if got == Pass && !strings.Contains(strings.ToLower(record), "v=spf1") {
			t.Error("passed without a record")
		}
	})
}
