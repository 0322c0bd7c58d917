package deliver

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/queue"
	"postern.email/store"
)

// write is a Write in a shard that is not the parcel's.
type write struct {
	err       error
	committed int
}

const writeShard store.Shard = 77

func (*write) Shard() store.Shard { return writeShard }

func (w *write) Put(tx store.Tx) error {
	if w.err != nil {
		return w.err
	}
	return tx.Set([]byte("also"), []byte{1})
}

func (w *write) Committed() { w.committed++ }

// TestAlso: what belongs to a mail is written with it, in its shard, or neither is.
func TestAlso(t *testing.T) {
	h := newHost(t, vfs.NewCrashDisk(), nil)
	hand := func(w *write) error {
		return h.d.Begin().Hand(t.Context(), Parcel{From: from, Home: 1, Remote: []queue.Rcpt{rcpt("bob@a.example")}, Also: []Write{w}, Head: []byte("Subject: x\r\n\r\n")})
	}
	written := func() bool {
		err := h.st.View(t.Context(), writeShard, func(r store.Reader) error {
			_, err := r.Get([]byte("also"))
			return err
		})
		return err == nil
	}
	no := &write{err: errs.E("test", errs.Denied, "changed", nil)}
	if err := hand(no); errs.KindOf(err) != errs.Denied || h.waiting() != 0 || written() || no.committed != 0 {
		t.Errorf("refused: %v, %d wait", err, h.waiting())
	}
	yes := &write{}
	if err := hand(yes); err != nil || h.waiting() != 1 || !written() || yes.committed != 1 {
		t.Errorf("taken: %v, %d wait, committed %d times", err, h.waiting(), yes.committed)
	}
}

// TestAlsoAlone: a parcel can be for nobody, and change something.
func TestAlsoAlone(t *testing.T) {
	h := newHost(t, vfs.NewCrashDisk(), nil)
	w := &write{}
	if err := h.d.Begin().Hand(t.Context(), Parcel{Also: []Write{w}, Head: []byte("Subject: x\r\n\r\n")}); err != nil || w.committed != 1 {
		t.Errorf("%v, committed %d times", err, w.committed)
	}
}

// TestReturned: a report on a mail of ours that somebody else answers for goes where that says, or
// nowhere; one on any other mail goes to its sender.
func TestReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verp := mail.Address{Local: "bounce.x", Domain: here}
		var got []dsn.Report
		var instead *dsn.Report
		h := newHost(t, vfs.NewCrashDisk(), func(o *Options, _ *OutOptions) {
			o.Returned = func(_ context.Context, r dsn.Report) (*dsn.Report, bool) {
				if r.To != verp {
					return nil, false
				}
				got = append(got, r)
				return instead, true
			}
		})
		h.abroad.set("a.example", unreached(550, "gone"))
		send := func(from mail.Address) {
			t.Helper()
			err := h.d.Begin().Hand(t.Context(), Parcel{From: from, Home: 1, Remote: []queue.Rcpt{rcpt("bob@a.example")}, Head: []byte("Subject: x\r\n\r\n")})
			if err != nil {
				t.Fatal(err)
			}
		}
		send(verp)
		send(from)
		instead = &dsn.Report{Domain: here, To: mail.Address{Local: "carl", Domain: "b.example"}, Now: h.d.o.Now(), Recipients: []dsn.Recipient{{Final: verp, Action: dsn.Failed}}}
		defer h.run()()
		synctest.Wait()
		if len(got) != 1 || got[0].Recipients[0].Final.Local != "bob" || got[0].Recipients[0].Status != "5.4.1" || !strings.Contains(string(got[0].Header), "Subject: x") {
			t.Errorf("shown: %+v", got)
		}
		if n := len(h.reports()); n != 1 {
			t.Errorf("%d reports to a sender here", n)
		}
		if m := h.abroad.mails("carl@b.example"); len(m) != 1 || !strings.Contains(m[0], "Final-Recipient: rfc822; bounce.x@mail.example") || strings.Contains(m[0], "bob@") {
			t.Errorf("in its place: %q", m)
		}
		instead = nil
		send(verp)
		synctest.Wait()
		if len(got) != 2 || h.waiting() != 0 || len(h.abroad.mails("carl@b.example")) != 1 {
			t.Errorf("without one in its place: %d shown, %d wait", len(got), h.waiting())
		}
	})
}
