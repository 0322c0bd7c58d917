package smtp

import (
	"bytes"
	"net"
	"runtime"
	"strings"
	"testing"
)

// BenchmarkClient is one connection to our own server in this process: mails a second, and
// allocations of both sides a mail.
func BenchmarkClient(b *testing.B) {
	server, client := testTLS(b)
	small := []byte(strings.TrimSuffix(benchMail, ".\r\n"))
	large := bytes.Repeat(small, 100)
	for _, x := range []struct {
		name string
		o    ClientOptions
		mail []byte
	}{
		{"bdat-10k", ClientOptions{}, small},
		{"data-10k", ClientOptions{NoChunking: true}, small},
		{"tls-bdat-10k", ClientOptions{TLS: client, RequireTLS: true}, small},
		{"bdat-1M", ClientOptions{}, large},
		{"data-1M", ClientOptions{NoChunking: true}, large},
	} {
		b.Run(x.name, func(b *testing.B) {
			o := Options{Backend: &fake{quiet: true}, MaxMails: 1 << 30}
			if x.o.TLS != nil {
				o.TLS = server
			}
			conn, err := net.Dial("tcp", start(b, o))
			if err != nil {
				b.Fatal(err)
			}
			c, err := NewClient(b.Context(), conn, x.o)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			e := envelope(b, "anna@mail.example", "bert@mail.example")
			e.Options.Body = Body8Bit
			content := bytes.NewReader(x.mail)
			b.SetBytes(int64(len(x.mail)))
			b.ReportAllocs()
			for b.Loop() {
				if sent, err := c.Send(b.Context(), e, content); err != nil || sent.Rcpts[0] != nil {
					b.Fatal(sent, err)
				}
			}
		})
	}
}

// TestClientCopies: the bytes that a Send takes of memory have nothing to do with the size of
// the mail: it is never held as a whole.
func TestClientCopies(t *testing.T) {
	const runs, size, bound = 10, 4 << 20, 256 << 10
	text := bytes.Repeat([]byte("12345678\r\n"), size/10)
	for road, o := range roads {
		after := (len(text) + ChunkSize - 1) / ChunkSize // replies behind MAIL and RCPT: one a chunk
		if o.NoChunking {
			after = 2 // 354 and 250
		}
		replies := [][]byte{[]byte("220 mx\r\n"), []byte("250-mx\r\n250 CHUNKING\r\n")}
		for range runs {
			for range 2 + after {
				replies = append(replies, []byte("250 ok\r\n"))
			}
			if o.NoChunking {
				replies[len(replies)-2] = []byte("354 go\r\n")
			}
		}
		c, err := NewClient(t.Context(), &sinkConn{streamConn{pieces: replies}}, o)
		if err != nil {
			t.Fatal(err)
		}
		e := envelope(t, "a@example.org", "b@example.org")
		var before, behind runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if sent, err := c.Send(t.Context(), e, bytes.NewReader(text)); err != nil || outcomes(sent) != "taken" {
				t.Fatal(outcomes(sent), err)
			}
		}
		runtime.ReadMemStats(&behind)
		each := (behind.TotalAlloc - before.TotalAlloc) / runs
		t.Logf("%s: %d bytes for a mail of %d", road, each, len(text))
		if each > bound {
			t.Errorf("%s: %d bytes for a mail of %d", road, each, len(text))
		}
	}
}

// sinkConn forgets what is written.
type sinkConn struct{ streamConn }

func (*sinkConn) Write(p []byte) (int, error) { return len(p), nil }
