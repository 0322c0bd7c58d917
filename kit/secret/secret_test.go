package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

type key struct {
	Hidden
	Bytes [4]byte
}

// TestHidden: nothing of a struct is shown, by value or by pointer, printed, logged or as JSON.
func TestHidden(t *testing.T) {
	k := &key{Bytes: [4]byte{0x41, 0x41, 0x41, 0x41}}
	for _, v := range []any{k, *k} {
		var b bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		fmt.Fprintln(&b, v)
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(j)
		slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: noTime})).Info("x", "v", v)
		if out := b.String(); strings.Contains(out, "65") || strings.Contains(out, "41") || strings.Contains(out, "AAAA") || strings.Count(out, Text) != 10 {
			t.Errorf("%T shows %s", v, out)
		}
	}
}

// noTime leaves the time out: its digits are no secret's.
func noTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
