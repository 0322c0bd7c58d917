package smtp

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestConversations plays the scripts in testdata. Lines of a script:
//
//	C: text       the client sends text and CRLF
//	R: "text"     the client sends exactly this Go string
//	S: text       the server's next line is exactly text
//	S: closed     the server closes the connection
//	Q: n          the server has taken n mails so far
//	M: "text"     the last mail taken is exactly this Go string
//	#             a comment; empty lines are ignored
//
// Consecutive C and R lines go out in one write.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/conversations/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	serverTLS, _ := testTLS(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f := &fake{}
			o := Options{Hostname: "mail.example", Backend: f, TLS: serverTLS, OfferAuth: true, Private: true,
				MaxSize: 1000, MaxRecipients: 3, MaxErrors: 5, MaxRefused: 3, MaxMails: 4, Grace: time.Second}
			for _, l := range strings.Split(string(script), "\n") {
				switch l {
				case "# public":
					o.Private = false
				case "# submission":
					o.RequireAuth = true
				case "# exchange":
					o.RequireTLS, o.OfferAuth = true, false
				}
			}
			play(t, string(script), f, dial(t, start(t, o), nil))
			eventually(t, "all transfers ended", func() bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.open == 0
			})
		})
	}
}

func play(t *testing.T, script string, f *fake, c *client) {
	t.Helper()
	var pending string
	unquote := func(n int, s string) string {
		u, err := strconv.Unquote(s)
		if err != nil {
			t.Fatalf("line %d: %v", n, err)
		}
		return u
	}
	for i, l := range strings.Split(script, "\n") {
		n := i + 1
		if l == "" || l[0] == '#' {
			continue
		}
		kind, text := l[:2], strings.TrimPrefix(l[2:], " ")
		if kind == "C:" || kind == "R:" {
			if kind == "R:" {
				pending += unquote(n, text)
			} else {
				pending += text + "\r\n"
			}
			continue
		}
		if pending != "" {
			c.send(pending)
			pending = ""
		}
		switch kind {
		case "S:":
			if text == "closed" {
				c.closed()
				continue
			}
			if got := c.line(); got != text {
				t.Fatalf("line %d: %s", n, cmp.Diff(text, got))
			}
		case "Q:":
			if got := strconv.Itoa(len(f.taken())); got != text {
				t.Fatalf("line %d: %s mails taken, want %s", n, got, text)
			}
		case "M:":
			mails := f.taken()
			if len(mails) == 0 {
				t.Fatalf("line %d: no mail", n)
			}
			if diff := cmp.Diff(unquote(n, text), mails[len(mails)-1].Raw); diff != "" {
				t.Fatalf("line %d: %s", n, diff)
			}
		default:
			t.Fatalf("line %d: what is %q?", n, l)
		}
	}
	if pending != "" {
		t.Fatal("the script ends with the client speaking")
	}
}
