package access

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/kit/tooltest"
	"postern.email/kit/vfs"
	"postern.email/wire/imap"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// TestPythonImaplib drives the server with the IMAP client of Python.
func TestPythonImaplib(t *testing.T) {
	python := tooltest.Tool(t, "python3")
	w := newWorld(t, vfs.NewCrashDisk(), "/data", func(_ *Options, o *imap.Options) {
		o.TLS, o.Private = agenttest.TLS(t), false
	})
	if out := run(t, python, "testdata/imaplib_client.py", w.addr); !strings.HasSuffix(out, "done\n") {
		t.Fatal(out)
	}
}

// TestCurl reads, appends, searches and lists with curl over implicit TLS.
func TestCurl(t *testing.T) {
	curl := tooltest.Tool(t, "curl")
	w := newWorld(t, vfs.NewCrashDisk(), "/data", func(_ *Options, o *imap.Options) {
		o.TLS, o.Private, o.Implicit = agenttest.TLS(t), false, true
	})
	url := "imaps://" + w.addr + "/"
	base := []string{"-sS", "-k", "--user", "curlcurlc@example.org:secret-word"}
	file := t.TempDir() + "/mail"
	raw := "Subject: by curl\r\n\r\n" + strings.Repeat("0123456789\r\n", 3000)
	if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, curl, append(base, "-T", file, url+"INBOX")...)
	out, err := exec.CommandContext(t.Context(), curl, append(base, url+"INBOX;UID=1")...).Output()
	if err != nil || !bytes.Equal(out, []byte(raw)) {
		t.Fatalf("%v: %d bytes came of %d", err, len(out), len(raw))
	}
	if out := run(t, curl, append(base, url+"INBOX?SUBJECT%20curl")...); !strings.Contains(out, "* SEARCH 1") {
		t.Error(out)
	}
	if out := run(t, curl, append(base, url)...); !strings.Contains(out, `"INBOX"`) {
		t.Error(out)
	}
	if out := run(t, curl, append(base, url+"INBOX", "-X", "STORE 1 +FLAGS (\\Deleted)")...); !strings.Contains(out, `\Deleted`) {
		t.Error(out)
	}
}
