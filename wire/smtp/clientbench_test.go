package smtp

import (
	"bytes"
	"net"
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

// TestClientCopies: what a Send takes of memory has nothing to do with the size of the mail.
func TestClientCopies(t *testing.T) {
	const runs = 10
	for road, o := range roads {
		grown := func(size int) float64 {
			text := bytes.Repeat([]byte("12345678\r\n"), size/10)
			after := (size + ChunkSize - 1) / ChunkSize // replies behind MAIL and RCPT: one a chunk
			if o.NoChunking {
				after = 1
			}
			replies := [][]byte{[]byte("220 mx\r\n"), []byte("250-mx\r\n250 CHUNKING\r\n")}
			for range runs + 2 {
				replies = append(replies, []byte("250 ok\r\n"), []byte("250 ok\r\n"))
				if o.NoChunking {
					replies = append(replies, []byte("354 go\r\n"))
				}
				for range after {
					replies = append(replies, []byte("250 ok\r\n"))
				}
			}
			c, err := NewClient(t.Context(), &sinkConn{streamConn{pieces: replies}}, o)
			if err != nil {
				t.Fatal(err)
			}
			e := envelope(t, "a@example.org", "b@example.org")
			return testing.AllocsPerRun(runs, func() {
				if sent, err := c.Send(t.Context(), e, bytes.NewReader(text)); err != nil || outcomes(sent) != "taken" {
					t.Fatal(outcomes(sent), err)
				}
			})
		}
		small, large := grown(1000), grown(4<<20)
		t.Logf("%s: %.0f allocations for 1 kB, %.0f for 4 MiB", road, small, large)
		if large > small+20 { // the replies to chunks, and a buffer that was not in its pool
			t.Errorf("%s: %.0f allocations for 1 kB, %.0f for 4 MiB", road, small, large)
		}
	}
}

// sinkConn forgets what is written.
type sinkConn struct{ streamConn }

func (*sinkConn) Write(p []byte) (int, error) { return len(p), nil }
