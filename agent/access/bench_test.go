package access

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/kit/vfs"
	"postern.email/wire/imap"
)

// benchClient is a client that reads answers without looking at them.
type benchClient struct {
	b   *testing.B
	nc  net.Conn
	r   *bufio.Reader
	tag int
	n   int64 // bytes read
}

func newBenchClient(b *testing.B, w *world) *benchClient {
	b.Helper()
	nc, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close() })
	c := &benchClient{b: b, nc: nc, r: bufio.NewReaderSize(nc, 64<<10)}
	if _, err := c.r.ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	c.cmd("LOGIN benchbench@example.org secret-word")
	return c
}

func (c *benchClient) cmd(text string) {
	c.b.Helper()
	c.tag++
	tag := fmt.Sprintf("t%d ", c.tag)
	if _, err := io.WriteString(c.nc, tag+text+"\r\n"); err != nil {
		c.b.Fatal(err)
	}
	for {
		l, err := c.r.ReadSlice('\n')
		c.n += int64(len(l))
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			c.b.Fatal(err)
		}
		if bytes.HasPrefix(l, []byte(tag)) {
			if !bytes.HasPrefix(l[len(tag):], []byte("OK")) {
				c.b.Fatal(string(l))
			}
			return
		}
	}
}

func emptyWorld(b *testing.B) *world {
	b.Helper()
	return newWorld(b, vfs.OS(), b.TempDir(), func(_ *Options, o *imap.Options) { o.TLS, o.Implicit = agenttest.TLS(b), true })
}

func benchMail(size int) string {
	raw := "From: a@example.org\r\nTo: b@example.org\r\nSubject: [...]\r\nMessage-ID: <x@example.org>\r\nDate: Thu, 19 Nov 2026 10:11:12 +0000\r\n\r\n"
	raw += strings.Repeat("0123456789012345678901234567890123456789012345678901234567890123456789\r\n", size/72)
	return raw
}

func benchWorld(b *testing.B, mails, size int) *world {
	b.Helper()
	w := emptyWorld(b)
	c, raw := newBenchClient(b, w), benchMail(size)
	for done := 0; done < mails; {
		n := min(100, mails-done)
		text := "APPEND INBOX"
		for range n {
			text += fmt.Sprintf(" {%d+}\r\n%s", len(raw), raw)
		}
		c.cmd(text)
		done += n
	}
	return w
}

// BenchmarkSelect opens mailboxes of several sizes, over TLS.
func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{1000, 10000, 100000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newBenchClient(b, benchWorld(b, n, 0))
			for b.Loop() {
				c.cmd("SELECT INBOX")
			}
		})
	}
}

// BenchmarkFetch reads 1,000 mails of 10 kB a time: whole, headers, flags.
func BenchmarkFetch(b *testing.B) {
	w := benchWorld(b, 1000, 10000)
	for name, items := range map[string]string{"bodies": "BODY.PEEK[]", "headers": "(UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE FROM)])",
		"flags": "FLAGS", "envelope": "(ENVELOPE BODYSTRUCTURE)"} {
		b.Run(name, func(b *testing.B) {
			c := newBenchClient(b, w)
			c.cmd("SELECT INBOX")
			c.n = 0
			for b.Loop() {
				c.cmd("UID FETCH 1:* " + items)
			}
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "mails/s")
			b.ReportMetric(float64(c.n)/1e6/b.Elapsed().Seconds(), "MB/s")
		})
	}
}

// BenchmarkAppend stores mails of 10 kB over TLS: one a command by several sessions of
// one account, and 100 a command by one.
func BenchmarkAppend(b *testing.B) {
	raw := benchMail(10000)
	one := fmt.Sprintf(" {%d+}\r\n%s", len(raw), raw)
	for _, sessions := range []int{1, 4, 16} {
		b.Run(fmt.Sprint(sessions), func(b *testing.B) {
			w := emptyWorld(b)
			all := make([]*benchClient, sessions)
			for i := range all {
				all[i] = newBenchClient(b, w)
			}
			b.ResetTimer()
			var wg sync.WaitGroup
			for i, c := range all {
				wg.Go(func() {
					for n := i; n < b.N; n += sessions {
						c.cmd("APPEND INBOX" + one)
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
		})
	}
	b.Run("many", func(b *testing.B) {
		c, text := newBenchClient(b, emptyWorld(b)), "APPEND INBOX"+strings.Repeat(one, 100)
		for b.Loop() {
			c.cmd(text)
		}
		b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "mails/s")
	})
}
