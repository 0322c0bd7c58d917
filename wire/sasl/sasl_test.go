package sasl

import (
	"encoding/base64"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

func TestMayAuth(t *testing.T) {
	for c, want := range map[Conn]bool{{}: false, {TLS: true}: true, {Private: true}: true, {true, true}: true} {
		if MayAuth(c) != want || (Mechanisms(c) != nil) != want {
			t.Errorf("%+v: %v, %v", c, MayAuth(c), Mechanisms(c))
		}
	}
}

func TestPlain(t *testing.T) {
	long := strings.Repeat("x", MaxField)
	for _, tc := range []struct {
		in   string
		want Credentials
		kind errs.Kind
		ok   bool
	}{
		{"\x00a\x00b", Credentials{"", "a", "b"}, 0, true},
		{"a\x00a\x00b", Credentials{"a", "a", "b"}, 0, true},
		{"\x00ü\x00ß", Credentials{"", "ü", "ß"}, 0, true},
		{"\x00" + long + "\x00" + long, Credentials{"", long, long}, 0, true},
		{"\x00" + long + "x\x00b", Credentials{}, errs.TooLarge, false},
		{"z\x00a\x00b", Credentials{}, errs.Denied, false},
		{"", Credentials{}, errs.Invalid, false},
		{"a", Credentials{}, errs.Invalid, false},
		{"a\x00b", Credentials{}, errs.Invalid, false},
		{"\x00\x00b", Credentials{}, errs.Invalid, false},
		{"\x00a\x00", Credentials{}, errs.Invalid, false},
		{"\x00a\x00b\x00", Credentials{}, errs.Invalid, false},
		{"\x00a\x00\xff", Credentials{}, errs.Invalid, false},
	} {
		s, err := New("plain")
		if err != nil {
			t.Fatal(err)
		}
		if c, done, err := s.Next(nil); err != nil || done || c == nil || len(c) != 0 {
			t.Fatalf("%q %v %v", c, done, err)
		}
		_, done, err := s.Next([]byte(tc.in))
		if done != tc.ok || s.Credentials() != tc.want || !tc.ok && errs.KindOf(err) != tc.kind {
			t.Errorf("%.20q: %v %v %v", tc.in, done, s.Credentials(), err)
		}
	}
}

func TestLogin(t *testing.T) {
	for _, initial := range []bool{false, true} {
		s, _ := New("LOGIN")
		if !initial {
			if c, done, err := s.Next(nil); string(c) != "Username:" || done || err != nil {
				t.Fatalf("%q %v %v", c, done, err)
			}
		}
		if c, done, err := s.Next([]byte("anna")); string(c) != "Password:" || done || err != nil {
			t.Fatalf("%q %v %v", c, done, err)
		}
		if _, done, err := s.Next([]byte("pw")); !done || err != nil {
			t.Fatal(done, err)
		}
		if got := s.Credentials(); got != (Credentials{"", "anna", "pw"}) {
			t.Fatal(got)
		}
		if _, _, err := s.Next([]byte("more")); errs.KindOf(err) != errs.Invalid {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a\x00b", "\xff", strings.Repeat("x", MaxField+1)} {
		s, _ := New("LOGIN")
		if _, _, err := s.Next([]byte(bad)); err == nil {
			t.Errorf("%.20q is a name", bad)
		}
	}
	s, _ := New("LOGIN")
	s.Next([]byte("anna"))
	if _, done, err := s.Next(nil); done || err == nil {
		t.Error("no password is a password")
	}
}

func TestUnknown(t *testing.T) {
	if _, err := New("CRAM-MD5"); errs.KindOf(err) != errs.Unsupported {
		t.Error(err)
	}
}

func TestDecode(t *testing.T) {
	if b, err := Decode([]byte("=")); err != nil || b == nil || len(b) != 0 {
		t.Error(b, err)
	}
	if b, err := Decode(nil); err != nil || b == nil {
		t.Error(b, err)
	}
	if b, err := Decode([]byte(Encode([]byte("a\x00b")))); err != nil || string(b) != "a\x00b" {
		t.Error(b, err)
	}
	for _, bad := range []string{"a", "ab", "YQ", "YR==", "YQ==YQ==", "Y Q==", "YQ=\n=", "Y\r\nQ==", "-_==", "*"} {
		if b, err := Decode([]byte(bad)); errs.KindOf(err) != errs.Invalid || err == nil {
			t.Errorf("%q: %q %v", bad, b, err)
		}
	}
	if _, err := Decode([]byte(strings.Repeat("A", MaxLine+1))); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
}

func FuzzExchange(f *testing.F) {
	f.Add("PLAIN", "AGEAYg==", "")
	f.Add("LOGIN", "YQ==", "Yg==")
	f.Add("LOGIN", "=", "=")
	f.Fuzz(func(t *testing.T, mechanism, a, b string) {
		s, err := New(mechanism)
		if err != nil {
			return
		}
		for _, in := range []string{a, b} {
			response, err := Decode([]byte(in))
			if err != nil {
				return
			}
			if again, err := base64.StdEncoding.DecodeString(in); in != "=" && (err != nil || string(again) != string(response)) {
				t.Fatalf("%q", in)
			}
			_, done, err := s.Next(response)
			if err != nil {
				return
			}
			if c := s.Credentials(); done && (c.Username == "" || c.Password == "" || strings.Contains(c.Username+c.Password, "\x00") ||
				c.Authzid != "" && c.Authzid != c.Username) {
				t.Fatalf("%q", c)
			}
			if done {
				return
			}
		}
	})
}
