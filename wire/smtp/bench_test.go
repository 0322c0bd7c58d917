package smtp

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"postern.email/kit/limits"
)

// benchMail is a mail of about 10 KB in lines of 76.
var benchMail = "Subject: [...]\r\nContent-Type: multipart/encrypted\r\n\r\n" +
	strings.Repeat(strings.Repeat("A", 76)+"\r\n", 128) + ".\r\n"

// BenchmarkScan is the reading of a mail alone.
func BenchmarkScan(b *testing.B) {
	p := []byte(benchMail)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		msg, _ := newMessage(limits.Share{}, 1<<20)
		if _, done, f := scanData(p, func(b []byte) { msg.append(b) }); !done || f != faultNone {
			b.Fatal(f)
		}
		msg.release()
	}
}

// BenchmarkSession is the server and a bare client on the same cores.
func BenchmarkSession(b *testing.B) {
	server, client := testTLS(b)
	for _, secure := range []bool{false, true} {
		name := "plain"
		if secure {
			name = "tls"
		}
		b.Run(name, func(b *testing.B) {
			o := Options{Backend: &fake{quiet: true}, Memory: limits.NewBytes(64 << 20), MaxMails: 1 << 30}
			if secure {
				o.TLS, o.Implicit = server, true
			}
			addr := start(b, o)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					b.Error(err)
					return
				}
				if secure {
					conn = tls.Client(conn, client)
				}
				defer conn.Close()
				r := bufio.NewReader(conn)
				replies := func(n int) bool {
					for n > 0 {
						l, err := r.ReadSlice('\n')
						if err != nil || l[0] > '3' {
							b.Errorf("%q %v", l, err)
							return false
						}
						if l[3] == ' ' {
							n--
						}
					}
					return true
				}
				conn.Write([]byte("EHLO me\r\n"))
				if !replies(2) {
					return
				}
				mail := []byte(benchMail)
				envelope := []byte("MAIL FROM:<anna@mail.example> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<bert@mail.example>\r\nDATA\r\n")
				for pb.Next() {
					conn.Write(envelope)
					if !replies(3) {
						return
					}
					conn.Write(mail)
					if !replies(1) {
						return
					}
				}
			})
		})
	}
}

// BenchmarkEnvelope is the commands of one mail, without a network.
func BenchmarkEnvelope(b *testing.B) {
	one := []byte("MAIL FROM:<anna@mail.example> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<bert@mail.example>\r\nRSET\r\n")
	var stream [][]byte
	stream = append(stream, []byte("EHLO me\r\n"))
	const n = 1000
	for range n {
		stream = append(stream, one)
	}
	b.ReportAllocs()
	for i := 0; i < b.N; i += n {
		conn := &streamConn{pieces: append([][]byte(nil), stream...), out: *bytes.NewBuffer(make([]byte, 0, 64<<10))}
		ServeConn(b.Context(), conn, Options{Backend: &fake{quiet: true}, MaxMails: 1 << 30})
	}
}
