package lineio

import "testing"

func TestClean(t *testing.T) {
	for _, c := range []struct {
		in    string
		limit int
		want  string
	}{
		{"no such user", 100, "no such user"},
		{" a\tb\r\nc\x00d\x7f ", 100, "a b  c d"},
		{"a\u0085b\u2028c\u2029d\u202ee\u200ff", 100, "a b c d e f"},
		{"a\xff\xfeb", 100, "a?b"},
		{"größe", 100, "größe"},
		{"größe", 3, "gr?"},
		{"abc", 2, "ab"},
		{"", 2, ""},
	} {
		if got := Clean(c.in, c.limit); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}
