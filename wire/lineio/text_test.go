package lineio

import "testing"

func TestCheckText(t *testing.T) {
	for in, want := range map[string]error{
		"": nil, "\r\n": nil, "a\r\n\r\nb": nil, "12345678\r\n": nil, "12345678": nil,
		"a\n": ErrBareLF, "\n": ErrBareLF, "a\r\n\nb\r\n": ErrBareLF, "a\rb\r\n": ErrBareCR, "a\r": ErrBareCR, "a\r\r\n": ErrBareCR,
		"\x00": ErrNUL, "123456789\r\n": ErrTooLong, "a\r\n123456789": ErrTooLong,
	} {
		if got := CheckText([]byte(in), 8); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}
