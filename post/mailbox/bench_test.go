package mailbox

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postern.email/post/seal"
	"postern.email/store"
)

func BenchmarkPrepare(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprintf("to%d", n), func(b *testing.B) {
			w := newWorld(b, onDisk())
			to := make([]Target, n)
			for i := range to {
				k := w.user()
				to[i] = Target{ID: k.ID(), Public: k.Public(), Box: Inbox}
			}
			m := Message{Raw: mailOf(1, 10_000)}
			b.ReportAllocs()
			for b.Loop() {
				d, err := w.boxes.Prepare(context.Background(), m, to)
				if err != nil {
					b.Fatal(err)
				}
				d.Discard()
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	w := newWorld(b, onDisk(), withOptions(func(o *Options) { o.Quota = -1 }))
	k := w.user()
	to := []Target{{ID: k.ID(), Public: k.Public(), Box: Inbox}}
	d, err := w.boxes.Prepare(context.Background(), Message{Raw: mailOf(1, 10_000)}, to)
	if err != nil {
		b.Fatal(err)
	}
	const perTx = 64
	var inside time.Duration
	b.ReportAllocs()
	for i := 0; i < b.N; i += perTx {
		err := w.st.Update(context.Background(), k.ID().Shard(), func(tx store.Tx) error {
			start := time.Now()
			defer func() { inside += time.Since(start) }()
			for range perTx {
				if _, err := d.Put(tx, 0); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(inside.Nanoseconds())/float64((b.N+perTx-1)/perTx*perTx), "ns/Put")
}

// filled makes an INBOX of n mails; they share few message records, to be fast.
func filled(b testing.TB, w *world, n, size int) (*seal.Opened, *Account) {
	k := w.user()
	a := w.boxes.Account(k, -1)
	for done := 0; done < n; {
		m := make([]Message, min(500, n-done))
		for i := range m {
			m[i] = Message{Raw: mailOf(done+i, size), Flags: Seen}
		}
		if _, _, err := a.AppendMany(context.Background(), Inbox, m); err != nil {
			b.Fatal(err)
		}
		done += len(m)
	}
	return k, a
}

func BenchmarkSelect(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld(b, onDisk())
			k, a := filled(b, w, n, 300)
			b.ReportAllocs()
			for b.Loop() {
				w.boxes.views.drop(boxID{k.ID(), Inbox})
				v, err := a.View(context.Background(), Inbox)
				if err != nil || v.Len() != n {
					b.Fatal(v.Len(), err)
				}
				v.FirstUnseen()
			}
			b.ReportMetric(float64(mustView(b, a, Inbox).bytes())/float64(n), "B/mail")
		})
	}
}

func BenchmarkView(b *testing.B) {
	w := newWorld(b, onDisk())
	_, a := filled(b, w, 1000, 300)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.View(context.Background(), Inbox); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSummary(b *testing.B) { benchRead(b, false) }
func BenchmarkBody(b *testing.B)    { benchRead(b, true) }

func benchRead(b *testing.B, body bool) {
	w := newWorld(b, onDisk())
	_, a := filled(b, w, 5000, 10_000)
	v := mustView(b, a, Inbox)
	ctx := context.Background()
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		e := v.At(i % v.Len())
		i++
		if body {
			x, err := a.Body(ctx, Inbox, e)
			if err != nil || x.Size() != 10_000 {
				b.Fatal(err)
			}
			x.Close()
		} else if _, err := a.Summary(ctx, Inbox, e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStore1000(b *testing.B) {
	w := newWorld(b, onDisk())
	_, a := filled(b, w, 1000, 300)
	uids := make([]uint32, 1000)
	for i := range uids {
		uids[i] = uint32(i + 1)
	}
	op := FlagsAdd
	b.ReportAllocs()
	for b.Loop() {
		r, err := a.SetFlags(context.Background(), Inbox, SetFlags{UIDs: uids, Op: op, Flags: Flagged})
		if err != nil || len(r.Changed) != 1000 {
			b.Fatal(len(r.Changed), err)
		}
		op = FlagsAdd + FlagsRemove - op
	}
}
