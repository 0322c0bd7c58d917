package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/blob"
	"postern.email/post/seal"
	"postern.email/store"
)

// TestPrepareRefuses: each bound of one mail, with its words; nothing is left behind.
func TestPrepareRefuses(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("x", 501)
	for name, c := range map[string]struct {
		change func(*Mail)
		kind   errs.Kind
		public string
	}{
		"no recipients":       {func(m *Mail) { m.Rcpts = nil }, errs.Invalid, "no recipients"},
		"too many recipients": {func(m *Mail) { m.Rcpts = make([]Rcpt, MaxRcpts+1) }, errs.TooLarge, "too many recipients"},
		"no kind":             {func(m *Mail) { m.Kind = 0 }, errs.Invalid, "invalid"},
		"no such kind":        {func(m *Mail) { m.Kind = 3 }, errs.Invalid, "invalid"},
		"no such return":      {func(m *Mail) { m.Return = 3 }, errs.Invalid, "invalid"},
		"no such shard":       {func(m *Mail) { m.Shard = store.Shards }, errs.Invalid, "invalid"},
		"long sender":         {func(m *Mail) { m.From.Local = long[:mail.MaxLocal+1] }, errs.TooLarge, "address too long"},
		"long sender domain":  {func(m *Mail) { m.From.Domain = long[:mail.MaxDomain+1] }, errs.TooLarge, "address too long"},
		"long ENVID":          {func(m *Mail) { m.EnvID = long[:MaxEnvID+1] }, errs.TooLarge, "ENVID too long"},
		"long domain to tell": {func(m *Mail) { m.Tell.Domain = long[:mail.MaxDomain+1] }, errs.TooLarge, "address too long"},
		"long id to tell":     {func(m *Mail) { m.Tell, m.TellID = m.From, long[:MaxTellID+1] }, errs.TooLarge, "Message-ID too long"},
		"id and nobody told":  {func(m *Mail) { m.TellID = "<1@x.example>" }, errs.Invalid, "invalid"},
		"no domain":           {func(m *Mail) { m.Rcpts[0].To = mail.Address{Local: "postmaster"} }, errs.Invalid, "a recipient has no domain"},
		"long recipient":      {func(m *Mail) { m.Rcpts[0].To.Local = long[:mail.MaxLocal+1] }, errs.TooLarge, "address too long"},
		"long destination":    {func(m *Mail) { m.Rcpts[0].Dest = long[:mail.MaxDomain+1] }, errs.TooLarge, "address too long"},
		"long ORCPT type":     {func(m *Mail) { m.Rcpts[0].OriginalType = long }, errs.TooLarge, "ORCPT too long"},
		"long ORCPT":          {func(m *Mail) { m.Rcpts[0].OriginalAddress = long }, errs.TooLarge, "ORCPT too long"},
	} {
		m := mailOf(big, "a@x.example")
		c.change(&m)
		_, err := w.q.Prepare(ctx, m)
		if err == nil || errs.KindOf(err) != c.kind || errs.Public(err) != c.public {
			t.Errorf("%s: %v (%q)", name, err, errs.Public(err))
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := w.q.Prepare(ended, mailOf(10, "a@x.example"))
	wantKind(t, err, errs.Canceled, "canceled")
	w.empty()
	// The same at their bounds pass, and come back as they were after a restart.
	m := mailOf(10, "a@x.example")
	m.From = mail.Address{Local: long[:mail.MaxLocal], Domain: long[:mail.MaxDomain]}
	m.EnvID = long[:MaxEnvID]
	m.Tell, m.TellID = m.From, long[:MaxTellID]
	m.Rcpts = nil
	for range MaxRcpts {
		m.Rcpts = append(m.Rcpts, Rcpt{To: m.From, Dest: m.From.Domain, OriginalType: long[:MaxOriginal], OriginalAddress: long[:MaxOriginal]})
	}
	w.put(m)
	it := w.lease(m.From.Domain)
	w.settle(it, all(it, Deferred, start, long))
	w.reopen()
	it = w.lease(m.From.Domain)
	if it.Mail.From != m.From || it.Mail.Tell != m.Tell || it.Mail.TellID != m.TellID || len(it.Rcpts) != MaxRcpts || it.Rcpts[999].Rcpt != m.Rcpts[999] || it.Rcpts[0].LastWhy != long[:MaxWhy] {
		t.Error("a mail at its bounds is not what it was")
	}
	w.settle(it, all(it, Delivered, time.Time{}, ""))
	w.empty()
	// A null sender, and defaults.
	m = mailOf(10, "a@x.example")
	m.From, m.Expires = mail.Address{}, time.Time{}
	w.put(m)
	w.clock.Add(1000 * time.Hour)
	if it := w.lease("x.example"); !it.Mail.From.IsZero() || !it.Mail.Expires.IsZero() || !it.Mail.Created.Equal(start) {
		t.Errorf("%+v", it.Mail)
	}
}

// TestFullQueue: a bound that is reached refuses users, and not the reports on what is there;
// what leaves makes room; what is prepared counts.
func TestFullQueue(t *testing.T) {
	one := newWorld(t)
	one.put(mailOf(1000, "a@x.example"))
	size := one.q.Stats().Bytes
	for name, opt := range map[string]func(*Options){
		"mails":      func(o *Options) { o.MaxMails = 16 },
		"recipients": func(o *Options) { o.MaxRecipients = 16 },
		"bytes":      func(o *Options) { o.MaxBytes = 16 * size },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, withOptions(opt))
			report := mailOf(1000, "a@x.example")
			report.Kind = Report
			fillUp := func(m Mail) (n int) {
				for {
					_, err := w.tryPut(m)
					if err != nil {
						wantKind(t, err, errs.Busy, "the queue is full, try again later")
						return n
					}
					n++
				}
			}
			n := fillUp(mailOf(1000, "a@x.example"))
			if n != 16 {
				t.Fatalf("%d mails found room", n)
			}
			if n := fillUp(report); n != 2 {
				t.Errorf("%d reports found room", n)
			}
			w.reopen()
			if fillUp(mailOf(1000, "a@x.example"))+fillUp(report) != 0 {
				t.Error("there is room after a restart")
			}
			for range 3 { // both reports beyond the bound, and one more
				it := w.q.Lease("x.example", 1)[0]
				w.settle(it, all(it, Delivered, time.Time{}, ""))
			}
			for range 2 {
				e, err := w.q.Prepare(ctx, mailOf(1000, "a@x.example"))
				if err != nil {
					t.Fatalf("no room after three have left: %v", err)
				}
				_, err = w.q.Prepare(ctx, mailOf(1000, "a@x.example"))
				wantKind(t, err, errs.Busy, "the queue is full, try again later")
				e.Discard()
			}
			if w.q.reserved != (room{}) {
				t.Errorf("reserved after Discard: %+v", w.q.reserved)
			}
		})
	}
	if DefaultMaxMails != 100_000 || DefaultMaxBytes != 8<<30 || DefaultMaxRecipients != 1_000_000 {
		t.Error("the defaults are not what the documentation says")
	}
	var o Options
	if o = o.withDefaults(); o.MaxMails != DefaultMaxMails || o.MaxBytes != DefaultMaxBytes || o.MaxRecipients != DefaultMaxRecipients {
		t.Errorf("%+v", o)
	}
}

// TestFullDisk: a large body that finds no room leaves nothing behind.
func TestFullDisk(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewCrashDisk())
	w := newWorld(t, withFS(faults))
	for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir} {
		faults.FailNth(op, 1, syscall.ENOSPC)
		_, err := w.q.Prepare(ctx, mailOf(big, "a@x.example"))
		wantKind(t, err, errs.NoSpace, "no space left")
		w.empty()
	}
}

// TestExpired: a mail whose time is over is handed out at once, with all its recipients.
func TestExpired(t *testing.T) {
	w := newWorld(t)
	m := mailOf(10, "a@x.example", "b@x.example")
	m.Expires = start.Add(time.Hour)
	w.put(m)
	it := w.lease("x.example")
	w.settle(it, all(it, Deferred, start.Add(24*time.Hour), "later"))
	for range 2 {
		if dests, next := w.q.Due(); len(dests) != 0 || !next.Equal(m.Expires) {
			t.Fatalf("due %q, next %v", dests, next)
		}
		w.reopen()
	}
	w.clock.Add(time.Hour)
	it = w.lease("x.example")
	if len(it.Rcpts) != 2 || !it.Mail.Expires.Equal(m.Expires) {
		t.Fatalf("%+v", it)
	}
	w.settle(it, all(it, Failed, time.Time{}, ""))
	w.empty()
}

// TestLease: the longest due first, no more than asked for, and nothing twice.
func TestLease(t *testing.T) {
	w := newWorld(t)
	var ids []ID
	for range 10 {
		ids = append(ids, w.put(mailOf(10, "a@x.example")))
		w.clock.Add(time.Second)
	}
	future := mailOf(10, "a@x.example")
	future.Created = w.clock.Now().Add(time.Minute)
	w.put(future)
	var got []ID
	for _, n := range []int{0, 3, 100, 1} {
		for _, it := range w.q.Lease("x.example", n) {
			got = append(got, it.ID)
		}
		if n == 3 && len(got) != 3 {
			t.Errorf("%d items, want 3", len(got))
		}
	}
	if !slices.Equal(got, ids) {
		t.Errorf("leased %d mails, in another order or twice", len(got))
	}
	if dests, next := w.q.Due(); len(dests) != 0 || !next.Equal(future.Created) {
		t.Errorf("due %q, next %v", dests, next)
	}
	if items := w.q.Lease("nowhere.example", 1); len(items) != 0 {
		t.Error("something is due where nothing goes")
	}
	if st := w.q.Stats(); st.Leased != 10 {
		t.Errorf("stats %+v", st)
	}
}

// TestDueIsBounded: at most MaxDue destinations at once, those that wait longest.
func TestDueIsBounded(t *testing.T) {
	s := newSchedule()
	w := newWorld(t)
	for i := range MaxDue + 5 {
		e := newEntry(ID{byte(i), byte(i >> 8), byte(i >> 16), 1}, 0, start, time.Time{}, []row{{due: int64(MaxDue - i)}}, []string{fmt.Sprint(i)})
		s.add(e)
	}
	w.q.s = s
	dests, next := w.q.Due()
	if len(dests) != MaxDue || dests[0] != fmt.Sprint(MaxDue+4) || dests[1] != fmt.Sprint(MaxDue+3) || !next.IsZero() {
		t.Errorf("%d destinations, the first %q, next %v", len(dests), dests[:2], next)
	}
	w.q.s = newSchedule()
}

// TestChanged: whatever may make something due tells the reader.
func TestChanged(t *testing.T) {
	w := newWorld(t)
	fired := func() bool {
		select {
		case <-w.q.Changed():
			return true
		default:
			return false
		}
	}
	if !fired() {
		t.Error("not fired by Open")
	}
	w.put(mailOf(10, "a@x.example"))
	if !fired() {
		t.Error("not fired by Committed")
	}
	it := w.lease("x.example")
	if fired() {
		t.Error("fired by Lease")
	}
	w.q.Release(it)
	if !fired() {
		t.Error("not fired by Release")
	}
	it = w.lease("x.example")
	w.settle(it, all(it, Deferred, start.Add(time.Hour), ""))
	if !fired() {
		t.Error("not fired by Settle")
	}
	if _, err := w.q.Retry(ctx, Filter{}); err != nil || !fired() {
		t.Error("not fired by Retry", err)
	}
	w.q.Pause("x.example", start.Add(time.Hour), "")
	if fired() {
		t.Error("fired by Pause")
	}
	if w.q.Unpause("x.example"); !fired() {
		t.Error("not fired by Unpause")
	}
	if _, err := w.q.Hold(ctx, Filter{}); err != nil || fired() {
		t.Error("fired by Hold", err)
	}
	if _, err := w.q.Unhold(ctx, Filter{}); err != nil || !fired() {
		t.Error("not fired by Unhold", err)
	}
}

// TestSettleErrors: what Settle refuses changes nothing, and the lease goes on.
func TestSettleErrors(t *testing.T) {
	w := newWorld(t)
	w.put(mailOf(10, "a@x.example", "b@x.example", "c@y.example"))
	it := w.lease("x.example")
	boom := errors.New("boom")
	for name, rs := range map[string][]Result{
		"of another item": {{N: 2, Outcome: Delivered}},
		"no such number":  {{N: 9, Outcome: Delivered}},
		"twice":           {{N: 0, Outcome: Delivered}, {N: 0, Outcome: Failed}},
		"no outcome":      {{N: 0}},
		"no time":         {{N: 0, Outcome: Deferred}},
	} {
		if err := w.q.Settle(ctx, it, rs, nil); err == nil || errs.KindOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.q.Settle(ctx, it, all(it, Delivered, time.Time{}, ""), func(store.Tx) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("the other's error: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	wantKind(t, w.q.Settle(ended, it, all(it, Delivered, time.Time{}, ""), nil), errs.Canceled, "canceled")
	if items := w.q.Lease("x.example", 1); len(items) != 0 {
		t.Error("leased twice")
	}
	if st := w.q.Stats(); st.Recipients != 3 || st.Leased != 1 {
		t.Errorf("stats %+v", st)
	}
	w.settle(it, all(it, Delivered, time.Time{}, ""))
	wantKind(t, w.q.Settle(ctx, it, nil, nil), errs.Invalid, "invalid")
	it = w.lease("y.example")
	w.settle(it, all(it, Delivered, time.Time{}, ""))
	w.empty()
}

// TestReportWithTheLastRow: the report on a mail and the mail's end are one transaction.
func TestReportWithTheLastRow(t *testing.T) {
	w := newWorld(t, runTwice)
	w.put(mailOf(big, "a@x.example"))
	it := w.lease("x.example")
	m := mailOf(100, "sender@here.example")
	m.Kind, m.Shard, m.From = Report, it.Mail.Shard, mail.Address{}
	e, err := w.q.Prepare(ctx, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.q.Settle(ctx, it, all(it, Failed, time.Time{}, ""), e.Put); err != nil {
		t.Fatal(err)
	}
	e.Committed()
	e.Discard()
	if n := len(w.records()); n != 3 || len(w.files()) != 0 {
		t.Errorf("%d records, %d files", n, len(w.files()))
	}
	it = w.lease("here.example")
	if it.Mail.Kind != Report || !it.Mail.From.IsZero() {
		t.Errorf("%+v", it.Mail)
	}
	w.settle(it, all(it, Delivered, time.Time{}, ""))
	w.empty()
}

// TestOpenRefuses: without a store, a key or a directory there is no queue, and damage is no
// reason not to open one.
func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	for _, o := range []Options{{}, {Store: w.st, Root: w.root}, {Store: w.st, Dir: "/x"}, {Root: w.root, Dir: "/x"}} {
		_, err := Open(ctx, o)
		wantKind(t, err, errs.Invalid, "invalid")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := Open(ended, Options{Store: w.st, Root: w.root, FS: w.fs, Dir: "/data/queue"})
	wantKind(t, err, errs.Canceled, "canceled")
	// Another node's key opens nothing, loses nothing.
	id := w.put(mailOf(10, "a@x.example"))
	own := w.root
	if w.root, err = seal.NewRoot(make([]byte, seal.KeyLen), nil); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if st := w.q.Stats(); st.Damaged != 1 || st.Mails != 1 {
		t.Errorf("stats under another key: %+v", st)
	}
	w.root = own
	w.reopen()
	if it := w.lease("x.example"); it.ID != id {
		t.Error("another mail")
	}
}

func TestIDs(t *testing.T) {
	id := ID{1, 2, 0xff}
	if got, err := ParseID(id.String()); got != id || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "x", id.String() + "0", strings.Repeat("z", 32), ID{}.String()} {
		_, err := ParseID(s)
		wantKind(t, err, errs.Invalid, "the number of a queued mail has 32 hex digits")
	}
	if blob.Name(id).String() != id.String() {
		t.Error("the file of a mail has another name than the mail")
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                           "plain",
		"a\r\nb\tc\x00d":                  "a  b c d",
		"bad \xff utf":                    "bad   utf",
		"line\u2028sep\u0085":             "line sep ",
		"ä" + strings.Repeat("ö", MaxWhy): "ä" + strings.Repeat("ö", MaxWhy/2-1),
		"x" + strings.Repeat("ö", MaxWhy): "x" + strings.Repeat("ö", (MaxWhy-1)/2),
	} {
		if got := oneLine(in, MaxWhy); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
