package deliver

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/queue"
	"postern.email/post/seal"
	"postern.email/store"
)

// TestForAlias: the copy for an alias stands as it came behind the fields, in one transaction with what it
// changes of the alias, and both happen once however often the mail comes; what the alias does not take is
// not written.
func TestForAlias(t *testing.T) {
	h := newHost(t, vfs.NewCrashDisk(), nil)
	d := h.remember(h.st, time.Now)
	written := func() bool {
		err := h.st.View(t.Context(), writeShard, func(r store.Reader) error {
			_, err := r.Get([]byte("also"))
			return err
		})
		return err == nil
	}
	raw := "DKIM-Signature: x\r\nReceived: y\r\nX-Postern-Alias: z\r\nSubject: hello\r\n\r\nbody\r\n"
	fields := "Return-Path: <>\r\nX-Postern-Alias: a@b.example; sender=first; vouched=login\r\n"
	hand := func(w Write, clean bool, proof ...[]byte) error {
		return d.Begin().Hand(t.Context(), Parcel{From: from, Home: 1, Aliases: []ForAlias{{Owner: h.anna, Fields: []byte(fields), Arrival: w, Clean: clean}}, Head: []byte(raw[:20]), Tail: []byte(raw[20:]), Proof: proof})
	}
	no := &write{err: errs.E("test", errs.Denied, "changed", nil)}
	if err := hand(no, false, proof); errs.KindOf(err) != errs.Denied || len(h.inbox(h.key)) != 0 || no.committed != 0 {
		t.Errorf("refused: %v, %d mails", err, len(h.inbox(h.key)))
	}
	yes := &write{}
	for range 2 {
		if err := hand(yes, false, proof); err != nil {
			t.Fatal(err)
		}
	}
	if got := h.inbox(h.key); len(got) != 1 || got[0] != fields+raw || !written() {
		t.Errorf("%d mails: %q", len(got), got)
	}
	if err := hand(nil, false); err != nil || len(h.inbox(h.key)) != 2 {
		t.Errorf("nothing changes: %v", err)
	}
	raw = "Subject: hello, with a long first line\r\nDKIM-Signature: x\r\nReceived: y\r\n\r\nbody\r\n"
	whole := Parcel{Home: 1, Aliases: []ForAlias{{Owner: h.anna, Fields: []byte(fields), Clean: true}}, Head: []byte(raw)}
	if err := d.Begin().Hand(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	if got := h.inbox(h.key)[2]; got != fields+"Subject: hello, with a long first line\r\n\r\nbody\r\n" {
		t.Errorf("clean: %q", got)
	}
}

// owners are aliases whose owners have numbers.
type owners struct {
	domain string
	byName map[string]*alias.Alias
	who    map[seal.AccountID]account.Account
}

func (o owners) Ours(a mail.Address) bool { return a.Domain == o.domain }

func (o owners) Lookup(_ context.Context, a mail.Address) (*alias.Alias, error) {
	if al := o.byName[a.Local]; al != nil {
		return al, nil
	}
	return nil, errs.E("test", errs.NotFound, "", nil)
}

func (o owners) ByNumber(_ context.Context, id seal.AccountID) (account.Account, error) {
	if a, ok := o.who[id]; ok {
		return a, nil
	}
	return account.Account{}, errs.E("test", errs.NotFound, "", nil)
}

// TestReportToAlias: a report on a mail that was sent as an alias lies in the mailbox of its owner, and is
// addressed to the alias; one for an alias that is gone goes nowhere.
func TestReportToAlias(t *testing.T) {
	for _, domain := range []string{here, "alias.example"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t, vfs.NewCrashDisk(), nil)
			o := owners{domain, map[string]*alias.Alias{"fox-1": {Owner: h.anna.ID}, "owl-1": {Owner: seal.AccountID{9}}}, map[seal.AccountID]account.Account{h.anna.ID: h.anna}}
			h.d.o.Aliases, h.d.o.Numbers = o, o
			h.abroad.set("a.example", unreached(550, "gone"))
			for _, name := range []string{"fox-1", "owl-1", "nobody"} {
				p := Parcel{From: mail.Address{Local: name, Domain: domain}, Home: 1, Remote: []queue.Rcpt{rcpt("bob@a.example")}, Head: []byte("Subject: x\r\n\r\n")}
				if err := h.d.Begin().Hand(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			defer h.run()()
			synctest.Wait()
			got := h.reports()
			if len(got) != 1 || !strings.Contains(got[0], "To: <fox-1@"+domain+">") || strings.Contains(got[0], "anna") || h.waiting() != 0 {
				t.Errorf("%d reports, %d wait\n%s", len(got), h.waiting(), strings.Join(got, ""))
			}
		})
	}
}

// TestVerifiedStays: a mail that asks for verified hosts asks for them from the queue, too.
func TestVerifiedStays(t *testing.T) {
	h := newHost(t, vfs.NewCrashDisk(), nil)
	for _, verified := range []bool{true, false} {
		p := Parcel{From: from, Home: 1, Remote: []queue.Rcpt{rcpt("bob@a.example")}, Head: []byte("Subject: x\r\n\r\n"), Verified: verified}
		if err := h.d.Begin().Hand(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	list, _, err := h.queue.List(t.Context(), queue.Filter{}, "", 10)
	if err != nil || len(list) != 2 || !list[0].Mail.Verified && !list[1].Mail.Verified || list[0].Mail.Verified && list[1].Mail.Verified {
		t.Fatalf("%v, %+v", err, list)
	}
	for _, l := range list {
		if j := job(&queue.Item{Mail: l.Mail}, noBody{}); j.Verified != l.Mail.Verified {
			t.Errorf("%v becomes %v", l.Mail.Verified, j.Verified)
		}
	}
}

// noBody is an empty body.
type noBody struct{ queue.Body }

func (noBody) Size() int64 { return 0 }
