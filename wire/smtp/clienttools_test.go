package smtp

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/tooltest"
)

// sink starts Postfix's smtp-sink and gives a way to connect to it.
func sink(t *testing.T, args ...string) func() net.Conn {
	t.Helper()
	prog := tooltest.Tool(t, "smtp-sink")
	dir, err := os.MkdirTemp("/tmp", "sink")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		args = append(args, "-u", "nobody")
	}
	path := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, prog, append(args, "-d", dir+"/mail.", "unix:"+path, "10")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		cmd.Wait()
	})
	connect := func() (net.Conn, error) { return net.DialTimeout("unix", path, 5*time.Second) }
	eventually(t, "smtp-sink listens", func() bool {
		conn, err := connect()
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return func() net.Conn {
		conn, err := connect()
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
}

// TestSMTPSink: Postfix's own scripted server, in every state: takes, refuses for good and for now,
// hangs up with and without a word, with its extensions and without.
func TestSMTPSink(t *testing.T) {
	const taken = "taken; taken"
	both := func(s string) string { return s + "; " + s }
	hard, soft, bye := "500 5.3.0 Error: command failed", "450 4.3.0 Error: command failed", "421 4.0.0 Server closing connection"
	for _, x := range []struct {
		args string
		want string // the start of it; of NewClient where it fails
		over bool
	}{
		{"", taken, false},
		{"-p", taken, false},
		{"-e", taken, false},
		{"-P", taken, false},
		{"-E -N", taken, false},
		{"-f MAIL", both(hard), false},
		{"-f RCPT", both(hard), false},
		{"-f DATA", both(hard), false},
		{"-f .", both(hard), false},
		{"-r MAIL", both(soft), false},
		{"-r RCPT", both(soft), false},
		{"-r DATA", both(soft), false},
		{"-r .", both(soft), false},
		{"-Q MAIL", both(bye), true},
		{"-Q RCPT", both(bye), true},
		{"-Q DATA", both(bye), true},
		{"-Q .", both(bye), true},
		{"-q MAIL", both("error: unavailable"), true},
		{"-q RCPT", both("error: unavailable"), true},
		{"-q DATA", both("error: unavailable"), true},
		{"-q .", both("error: unavailable"), true},
		{"-f EHLO", taken, false},
		{"-f CONNECT", "denied", true},
		{"-r CONNECT", "unavailable", true},
		{"-Q EHLO", "unavailable", true},
		{"-q EHLO", "unavailable", true},
		{"-8", "554 5.6.3 ", false},
	} {
		t.Run(x.args, func(t *testing.T) {
			t.Parallel()
			c, err := NewClient(t.Context(), sink(t, strings.Fields(x.args)...)(), ClientOptions{})
			if err != nil {
				if !x.over || errs.KindOf(err).Error() != x.want {
					t.Errorf("%v", err)
				}
				return
			}
			e := envelope(t, "a@example.org", "b@example.org", "c@example.org")
			e.Options.Body = Body8Bit
			if x.args == "-e" || x.args == "-P" || x.args == "-f EHLO" {
				e.Options.Body = BodyUnset
			}
			for i := range 3 {
				sent, err := c.Send(t.Context(), e, strings.NewReader(plainMail))
				if got := outcomes(sent); !strings.HasPrefix(got, x.want) || (err != nil) != x.over {
					t.Fatalf("mail %d: %s, %v", i, got, err)
				}
				if sent.Unknown != (x.args == "-q .") {
					t.Errorf("unknown: %v", sent.Unknown)
				}
				if x.over {
					break
				}
			}
			c.Quit()
		})
	}
	// A refusal behind the 354, before the mail. It depends on the network whether it is seen in time.
	c, err := NewClient(t.Context(), sink(t, "-A", "0")(), ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sent, _ := c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader(plainMail)); outcomes(sent) != "550 This violates SMTP" {
		t.Errorf("%s", outcomes(sent))
	}
	c.Close()
}

// TestSMTPSinkBytes: the mail that smtp-sink writes down is the one that was sent.
func TestSMTPSinkBytes(t *testing.T) {
	for _, size := range []int{0, 100, 100_000, 3_000_000} {
		connect := sink(t)
		conn := connect()
		dir := filepath.Dir(conn.RemoteAddr().String())
		c, err := NewClient(t.Context(), conn, ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		line := "..." + strings.Repeat("x", 71) + "\r\n"
		text := "Subject: x\r\n\r\n" + strings.Repeat(line, size/len(line)) + ".\r\nend\r\n"
		if sent, err := c.Send(t.Context(), envelope(t, "a@example.org", "b@example.org"), strings.NewReader(text)); err != nil || outcomes(sent) != "taken" {
			t.Fatalf("%s, %v", outcomes(sent), err)
		}
		c.Quit()
		files, err := filepath.Glob(dir + "/mail.*")
		if err != nil || len(files) != 1 {
			t.Fatalf("%q, %v", files, err)
		}
		raw, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		// It writes lines without CR, and an empty one at the end.
		if !strings.HasSuffix(string(raw), "\n"+strings.ReplaceAll(text, "\r\n", "\n")+"\n") {
			t.Errorf("%d bytes: other bytes were written", size)
		}
	}
}
