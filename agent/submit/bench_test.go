package submit

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/kit/vfs"
	"postern.email/post/account"
	"postern.email/store/pebble"
	"postern.email/wire/smtp"
)

// BenchmarkSubmission is the whole road in one process: 16 sessions over TLS, 10 KB
// encrypted mails, sealed and synced on the machine's own disk before the 250. The
// clients run on the same cores.
func BenchmarkSubmission(b *testing.B) {
	for _, c := range []struct{ sessions, rcpts int }{{1, 1}, {16, 1}, {16, 10}} {
		b.Run(fmt.Sprintf("sessions=%d/recipients=%d", c.sessions, c.rcpts), func(b *testing.B) {
			benchSubmission(b, c.sessions, c.rcpts)
		})
	}
}

func benchSubmission(b *testing.B, sessions, rcpts int) {
	w := openWorld(b, vfs.OS(), b.TempDir(), nil)
	s := New(Options{Accounts: Register(w.Accounts), Rooms: w.Boxes, Deliver: deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes})})
	conf := agenttest.TLS(b)
	addr := agenttest.Serve(b, func(ctx context.Context, l net.Listener) error {
		return smtp.Serve(ctx, l, smtp.Options{Hostname: domain, Backend: s, TLS: conf, Implicit: true, OfferAuth: true, RequireAuth: true, MaxMails: 1 << 30})
	})
	var left atomic.Int64
	left.Store(int64(b.N))
	conns := make([]*client, sessions)
	for i := range conns {
		name := fmt.Sprintf("user%d", i)
		w.Create(name, func(r *account.CreateRequest) { r.Quota = 1 << 40 })
		conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		c := &client{t: b, conn: conn, r: bufio.NewReader(conn)}
		c.reply()
		c.cmd("EHLO [127.0.0.1]", "250 ")
		c.cmd("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+name+"@"+domain+"\x00"+password)), "235 ")
		conns[i] = c
	}
	b.ReportAllocs()
	before := w.Store.(*pebble.DB).Stats()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range conns {
		wg.Go(func() {
			raw := []byte(encrypted(fmt.Sprintf("user%d", i), 10_000) + ".\r\n")
			envelope := fmt.Appendf(nil, "MAIL FROM:<user%d@%s>\r\n", i, domain)
			for r := range rcpts {
				envelope = fmt.Appendf(envelope, "RCPT TO:<user%d@%s>\r\n", (i+r)%sessions, domain)
			}
			envelope = append(envelope, "DATA\r\n"...)
			for left.Add(-1) >= 0 {
				c.conn.Write(envelope)
				for range rcpts + 2 {
					c.reply()
				}
				c.conn.Write(raw)
				if r := c.reply(); r[:3] != "250" {
					b.Error(r)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(w.Store.(*pebble.DB).Stats().Syncs-before.Syncs)/float64(b.N), "syncs/mail")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mails/s")
	b.ReportMetric(float64(b.N*rcpts)/b.Elapsed().Seconds(), "copies/s")
}
