package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern.email/kit/errs"
)

// TestAssignment: what is written is read again as it was.
func TestAssignment(t *testing.T) {
	var want sample
	Defaults(&want)
	set := []string{"limits.mail=2M", "limits.age=36h", "limits.load=0.5", "limits.count=7", "limits.on=no", "net.trusted=10.0.0.0/8, ::1", "net.listen=off"}
	if err := Apply(&want, set); err != nil {
		t.Fatal(err)
	}
	var text, section string
	for _, o := range Options(&want) {
		line, err := Assignment(&want, o.Key)
		if err != nil {
			t.Fatal(err)
		}
		if s, _, ok := strings.Cut(o.Key, "."); ok && s != section {
			section = s
			text += "[" + s + "]\n"
		}
		text += line + "\n"
	}
	var got sample
	if err := Load(&got, write(t, text), nil); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !strings.Contains(text, "age = \"36h\"\n") || !strings.Contains(text, "trusted = [\"10.0.0.0/8\", \"::1\"]\n") || !strings.Contains(text, "count = 7\n") {
		t.Error(text)
	}
	want.Domain = "a\"\\\n\x1b\u0085ü"
	line, err := Assignment(&want, "domain")
	if err != nil || Load(&got, write(t, line+"\n"), nil) != nil || got.Domain != want.Domain {
		t.Errorf("%s: %q, %v", line, got.Domain, err)
	}
	if _, err := Assignment(&want, "domian"); errs.KindOf(err) != errs.NotFound {
		t.Error(err)
	}
}
