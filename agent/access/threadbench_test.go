package access

import (
	"context"
	"fmt"
	"testing"

	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/mailbox"
	"postern.email/store"
	"postern.email/wire/imap/imaptest"
)

// BenchmarkThreadStore threads and sorts THREAD_MAILS (default 2,000) sealed mails on the
// real store.
func BenchmarkThreadStore(b *testing.B) {
	n := envInt("THREAD_MAILS", 2000)
	w := newWorld(b, vfs.NewCrashDisk(), "/data", nil)
	c := imaptest.Dial(b, w.addr)
	c.Until("* OK ")
	c.Cmd("a LOGIN bobbobbob@example.org secret-word")
	fill(b, w, n)
	c.Cmd("b SELECT INBOX")
	for _, cmd := range []string{"THREAD REFERENCES UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL", "SORT (SUBJECT) UTF-8 ALL"} {
		b.Run(cmd, func(b *testing.B) {
			for b.Loop() {
				if lines := c.Cmd("x " + cmd); len(lines[0]) < 2*n {
					b.Fatalf("the answer has %d bytes", len(lines[0]))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/mail")
		})
	}
}

// fill delivers n mails in threads of ten, many in one transaction.
func fill(b *testing.B, w *world, n int) {
	b.Helper()
	addr, err := mail.ParseAddress("bobbobbob@example.org")
	if err != nil {
		b.Fatal(err)
	}
	a, err := w.Accounts.Resolve(context.Background(), addr)
	if err != nil {
		b.Fatal(err)
	}
	to := []mailbox.Target{{ID: a.ID, Public: a.Public, Quota: -1, Box: mailbox.Inbox}}
	const batch = 200
	for at := 0; at < n; at += batch {
		var ds []*mailbox.Delivery
		for i := at; i < min(at+batch, n); i++ {
			refs := ""
			for k := i / 10 * 10; k < i; k++ {
				refs += fmt.Sprintf(" <%d@example.org>\r\n", k)
			}
			if refs != "" {
				refs = "References:" + refs
			}
			raw := fmt.Sprintf("From: a@example.org\r\nMessage-ID: <%d@example.org>\r\n%sSubject: Re: subject %d\r\nDate: Wed, 11 Nov 2026 12:00:00 +0000\r\n\r\nbody\r\n", i, refs, i/10)
			d, err := w.Boxes.Prepare(context.Background(), mailbox.Message{Raw: []byte(raw), Date: w.Clock.Now()}, to)
			if err != nil {
				b.Fatal(err)
			}
			ds = append(ds, d)
		}
		err := w.Store.Update(context.Background(), a.ID.Shard(), func(tx store.Tx) error {
			for _, d := range ds {
				if _, err := d.Put(tx, 0); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		for _, d := range ds {
			d.Discard()
		}
	}
}
