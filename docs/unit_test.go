package docs_test

import (
	"os"
	"strings"
	"testing"
)

// TestUnit: the systemd unit forbids what docs/threat-model.md says it forbids, and
// hands over what the program asks for.
func TestUnit(t *testing.T) {
	raw, err := os.ReadFile("../deploy/postern.service")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			if _, twice := set[key]; twice {
				t.Errorf("%s is given twice", key)
			}
			set[key] = value
		}
	}
	for key, want := range map[string]string{
		"MemorySwapMax": "0", "LimitCORE": "0", // memory goes to no disk
		"Type": "notify", "ExecReload": "/bin/kill -HUP $MAINPID", "UMask": "0077",
		"StateDirectory": "postern", "StateDirectoryMode": "0700",
		"ExecStart": "/usr/local/bin/postern serve --config /etc/postern/postern.toml",
	} {
		if set[key] != want {
			t.Errorf("%s=%s, want %s", key, set[key], want)
		}
	}
	const credential = "postern-node-key"
	source, err := os.ReadFile("../post/seal/nodekey.go")
	if err != nil || !strings.Contains(string(source), `DefaultCredential = "`+credential+`"`) {
		t.Errorf("the program does not ask for the credential %s: %v", credential, err)
	}
	if !strings.Contains(string(raw), "LoadCredentialEncrypted="+credential+":") {
		t.Errorf("the unit does not name the credential %s", credential)
	}
}

// TestReadmeIsHonest: what does not work yet is said where people look first.
func TestReadmeIsHonest(t *testing.T) {
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	head, _, _ := strings.Cut(text, "## Two commands")
	if n := len(strings.Split(strings.TrimSpace(head), "\n")); n > 14 {
		t.Errorf("what it is and for whom takes %d lines", n)
	}
	for _, want := range []string{"go run ./cmd/postern up", "go test ./...", "## Log in with any mail program", "## What works today", "not yet",
		"push notification", "does not go out yet", "docs/threat-model.md", "docs/features.md"} {
		if !strings.Contains(text, want) {
			t.Errorf("README.md does not say %q", want)
		}
	}
}
