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
	"postern.email/mail/dsn"
	"postern.email/post/account"
	"postern.email/post/packetbox"
	"postern.email/post/queue"
	"postern.email/post/seal"
	"postern.email/post/seen"
	"postern.email/store"
	"postern.email/store/storetest"
)

// boxed are proxies whose letters are two packets each.
type boxed struct {
	*packetbox.Boxes
	id   seal.AccountID
	fail error
	name byte
	got  []mail.Address // senders

	fields, raw string // of the last mail
}

func (b *boxed) Proxy(_ context.Context, id seal.AccountID) (bool, error) { return id == b.id, nil }

func (b *boxed) Letter(_ context.Context, to account.Account, from mail.Address, raw []byte, fields int) (*packetbox.Prepared, error) {
	if b.fail != nil {
		return nil, b.fail
	}
	list := make([]packetbox.Packet, 2)
	for i := range list {
		b.name++
		list[i] = packetbox.Packet{Name: [16]byte{b.name}, Payload: make([]byte, packetbox.PayloadLen)}
	}
	b.got = append(b.got, from)
	b.fields, b.raw = string(raw[:fields]), string(raw[fields:])
	return b.Prepare(to.ID, list)
}

// proxied is a host whose anna reads her mail with a proxy, and where bert reads his without.
func proxied(t *testing.T, wrap func(store.Store) store.Store, packets int) (*host, *boxed, *seal.Opened) {
	t.Helper()
	b := &boxed{}
	var bert account.Account
	var key *seal.Opened
	h := newHost(t, vfs.NewCrashDisk(), nil)
	bert, key = h.user()
	bert.Address = mail.Address{Local: "bert", Domain: here}
	h.people.byName["bert"] = bert
	st := h.st
	if wrap != nil {
		st = wrap(st)
	}
	var err error
	if b.Boxes, err = packetbox.Open(t.Context(), packetbox.Options{Store: st, Root: h.root, MaxPackets: packets}); err != nil {
		t.Fatal(err)
	}
	b.id = h.anna.ID
	if _, err := b.RegisterProxy(t.Context(), b.id, [32]byte{1}, packetbox.Identity{}); err != nil {
		t.Fatal(err)
	}
	h.end()
	h.start(func(o *Options, _ *OutOptions) {
		o.Store, o.Proxies, o.Letters = st, b, seen.New(seen.Options{Store: st, Root: h.root})
	})
	return h, b, key
}

// TestAliasOfAProxy: mail for an alias goes to the owner's proxy with the fields in front of it, as it came, or by the
// header rules where these apply; other mail goes without any.
func TestAliasOfAProxy(t *testing.T) {
	h, b, _ := proxied(t, nil, 100)
	defer h.end()
	raw := "DKIM-Signature: x\r\nReceived: y\r\nX-Postern-Alias: z\r\nSubject: hello\r\n\r\nbody\r\n"
	fields := "Return-Path: <>\r\nX-Postern-Alias: a@b.example; sender=first; vouched=login\r\n"
	for _, c := range []struct {
		p            Parcel
		fields, want string
	}{
		{Parcel{Aliases: []ForAlias{{Owner: h.anna, Fields: []byte(fields)}}}, fields, raw},
		{Parcel{Aliases: []ForAlias{{Owner: h.anna, Fields: []byte(fields), Clean: true}}}, fields, "Subject: hello\r\n\r\nbody\r\n"},
		{Parcel{Local: []account.Account{h.anna}}, "", raw},
	} {
		c.p.From, c.p.Home, c.p.Head, c.p.Tail = from, 1, []byte(raw[:len(raw)-3]), []byte(raw[len(raw)-3:])
		if err := h.d.Begin().Hand(t.Context(), c.p); err != nil || b.fields != c.fields || b.raw != c.want {
			t.Errorf("%v, %q, %q", err, b.fields, b.raw)
		}
	}
	if err := h.d.Begin().Hand(t.Context(), Parcel{From: from, Home: 1, Aliases: []ForAlias{{Owner: h.anna, Fields: []byte(fields), Clean: true}}, Head: []byte("no header\r\n\r\n")}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("no header: %v", err)
	}
}

// TestProxies: a mail for an account with a proxy and for one without goes into box and mailbox, and so do
// reports, in one transaction where there is one log, and by way of the queue where there are several.
func TestProxies(t *testing.T) {
	for name, wrap := range map[string]func(store.Store) store.Store{"one log": nil, "two logs": storetest.SplitLogs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, b, bert := proxied(t, wrap, 100)
				defer h.run()()
				h.hand(rcpt("anna@"+here), rcpt("bert@"+here))
				synctest.Wait()
				if n := b.Stats().Waiting; n != 2 || len(h.inbox(bert)) != 1 || len(h.inbox(h.key)) != 0 || h.waiting() != 0 {
					t.Fatalf("%d packets, %d mails of bert's, %d of anna's, %d wait", n, len(h.inbox(bert)), len(h.inbox(h.key)), h.waiting())
				}
				err := h.d.Begin().Hand(t.Context(), Parcel{From: from, Home: h.anna.ID.Shard(), Head: []byte("Subject: x\r\n\r\n"),
					Refused: []dsn.Recipient{{Final: mail.Address{Local: "x", Domain: here}, Action: dsn.Failed, Status: "5.1.1"}}})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if n := b.Stats().Waiting; n != 4 || len(h.inbox(h.key)) != 0 || !b.got[len(b.got)-1].IsZero() {
					t.Errorf("the report: %d packets, %d mails", n, len(h.inbox(h.key)))
				}
			})
		})
	}
}

// TestFullBoxLater: what waits in the queue for an account with a proxy is tried again while its box is full,
// and is given up where it cannot be carried, with a report.
func TestFullBoxLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, b, bert := proxied(t, nil, 3)
		defer h.run()()
		wait := func(to ...queue.Rcpt) {
			t.Helper()
			p := Parcel{From: mail.Address{Local: "bert", Domain: here}, Home: h.anna.ID.Shard(), Head: []byte("Subject: hello\r\n\r\nbody\r\n"), Remote: to, Unsigned: true}
			if err := h.d.Begin().Hand(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		wait(rcpt("anna@" + here))
		wait(rcpt("anna@"+here), rcpt("bert@"+here))
		if n := b.Stats().Waiting; n != 2 || h.waiting() != 1 || len(h.inbox(bert)) != 1 {
			t.Fatalf("%d packets, %d wait, bert has %d", n, h.waiting(), len(h.inbox(bert)))
		}
		items, err := b.Next(t.Context(), b.id, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Remove(t.Context(), b.id, []uint64{items[0].Number, items[1].Number}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := b.Stats().Waiting; n != 2 || h.waiting() != 0 {
			t.Errorf("%d packets, %d wait", n, h.waiting())
		}
		b.fail = errs.E("test", errs.Invalid, "the mail has a line that does not end in CRLF", nil)
		wait(rcpt("anna@"+here), rcpt("bert@"+here))
		in := h.inbox(bert)
		if len(in) != 3 || !strings.Contains(strings.Join(in, ""), "does not end in CRLF") || h.waiting() != 0 {
			t.Errorf("bert has %d mails, %d wait: %q", len(in), h.waiting(), in)
		}
	})
}

// TestLetterOnce: a parcel that a letter is made of is taken once, whatever is in it, and leaves nothing
// else behind when it comes again.
func TestLetterOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, b, bert := proxied(t, nil, 100)
		l := h.d.o.Letters.Letter([16]byte{1})
		p := Parcel{From: mail.Address{Local: "bert", Domain: here}, Home: l.Shard, Head: []byte("Subject: x\r\n\r\nbody\r\n"), Letter: &l, Unsigned: true,
			Local: []account.Account{h.anna, h.people.byName["bert"]}, Remote: []queue.Rcpt{rcpt("x@far.example")},
			Refused: []dsn.Recipient{{Final: mail.Address{Local: "x", Domain: here}, Action: dsn.Failed, Status: "5.1.1"}}}
		for range 3 {
			if err := h.d.Begin().Hand(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if n := b.Stats().Waiting; n != 2 || h.waiting() != 1 || len(h.inbox(bert)) != 2 {
				t.Errorf("%d packets, %d wait, bert has %d", n, h.waiting(), len(h.inbox(bert)))
			}
		}
		p.Home++
		if err := h.d.Begin().Hand(t.Context(), p); errs.KindOf(err) != errs.Invalid {
			t.Error("a letter that is remembered elsewhere:", err)
		}
	})
}
