package mail

import (
	"strings"
	"testing"
)

// TestMessageIDs: ids are read out of the two fields that name other mails, whatever stands between them.
func TestMessageIDs(t *testing.T) {
	for value, want := range map[string]string{
		"": "", "<a@b>": "<a@b>", "<a@b> <c@d>": "<a@b> <c@d>", "<a@b><c@d>": "<a@b> <c@d>", "your mail of today <a@b> (comment)": "<a@b>",
		"<a@b": "", "<>": "", "<a b@c> <d@e>": "<d@e>", "a@b": "",
	} {
		if got := strings.Join(MessageIDs(value), " "); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}
