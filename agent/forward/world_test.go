package forward

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/namebook"
	"postern.email/post/queue"
	"postern.email/post/seal"
	"postern.email/store"
	"postern.email/wire/smtp"
)

// world is an office whose users have their mailboxes elsewhere.
type world struct {
	*agenttest.Office
	t     testing.TB
	root  *seal.Root
	queue *queue.Queue
	out   *deliver.Deliver
	book  *namebook.Book
	reg   *registry
	f     *Forward
	told  []string // owners, by Tell
}

const (
	domain  = "mail.example"
	aliases = "alias.example"
	target  = "anna@home.example"
	shop    = "news@shop.example"
)

var (
	annas = alias.Owner{1}
	berts = alias.Owner{2}
)

// registry is a register of aliases.
type registry struct {
	byAddr  map[mail.Address]*alias.Alias
	targets map[alias.Owner]mail.Address
	arrived []string
	wrote   []string
	refuse  error // of the transaction
}

func (r *registry) Ours(a mail.Address) bool { return a.Canonical().Domain == aliases }

func (r *registry) Lookup(_ context.Context, a mail.Address) (*alias.Alias, error) {
	if al := r.byAddr[a.Canonical()]; al != nil {
		return al, nil
	}
	return nil, errs.E("test", errs.NotFound, "", nil)
}

func (r *registry) Target(_ context.Context, o alias.Owner) (mail.Address, error) {
	t, ok := r.targets[o]
	if !ok {
		return t, errs.E("test", errs.NotFound, "", nil)
	}
	return t, nil
}

// note is a write that notes itself once it is durable.
type note struct {
	list *[]string
	text string
	err  error
}

func (n note) Shard() store.Shard { return 99 }

func (n note) Put(tx store.Tx) error {
	if n.err != nil {
		return n.err
	}
	return tx.Set([]byte("test"), []byte(n.text))
}

func (n note) Committed() { *n.list = append(*n.list, n.text) }

func (r *registry) Arrive(al *alias.Alias, from mail.Address, v alias.Verdict) deliver.Write {
	return note{&r.arrived, fmt.Sprint(al.Address, " ", from, " ", v.Action), r.refuse}
}

func (r *registry) WroteTo(al *alias.Alias, to []mail.Address) deliver.Write {
	return note{&r.wrote, fmt.Sprint(al.Address, " ", to), r.refuse}
}

// newWorld has an alias of class open-mail, whose owner's mailbox has agreed.
func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	w := &world{Office: agenttest.Open(t, domain, nil, "/data"), t: t, reg: &registry{byAddr: map[mail.Address]*alias.Alias{}, targets: map[alias.Owner]mail.Address{}}}
	var err error
	if w.root, err = seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil); err != nil {
		t.Fatal(err)
	}
	if w.queue, err = queue.Open(t.Context(), queue.Options{Store: w.Store, Root: w.root, FS: vfs.NewCrashDisk(), Dir: "/queue", Now: w.Clock.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.queue.Close() })
	w.out = deliver.New(deliver.Options{Store: w.Store, Boxes: w.Boxes, Queue: w.queue, Accounts: w.Accounts, Letters: w.Seen, Domain: domain, Now: w.Clock.Now})
	w.book = namebook.New(namebook.Options{Store: w.Store, Root: w.root, Letter: Letter, MaxRecord: MaxRecord, What: "a record", Now: w.Clock.Now})
	w.alias("shop-1", annas)
	w.reg.targets[annas], w.reg.targets[berts] = w.Address(target), w.Address("bert@away.example")
	w.open(change)
	return w
}

// open makes the Forward anew over the same state, and has all targets agree.
func (w *world) open(change func(*Options)) {
	w.t.Helper()
	o := Options{Aliases: w.reg, Deliver: w.out, Book: w.book, Key: w.root.ForwardKey(), Seen: w.Seen, Domain: domain, URL: func() string { return "https://mail.example/f/" }, Cleartext: true,
		Ours: func(d string) bool { return mail.CanonicalDomain(d) == domain }, Now: w.Clock.Now,
		Here: w.here, Tell: func(_ context.Context, o alias.Owner, n Note) { w.told = append(w.told, o.String()+" "+n.Subject) }}
	if change != nil {
		change(&o)
	}
	var err error
	if w.f, err = New(o); err != nil {
		w.t.Fatal(err)
	}
	for owner, t := range w.reg.targets {
		if err := w.f.save(context.Background(), consentName(owner, t), consent{Agreed: dayOf(w.Clock.Now())}, consentDays); err != nil {
			w.t.Fatal(err)
		}
	}
}

// here judges mail for people of this relay: none takes what is not encrypted but "open"; "busy" is an alias
// that has it already.
func (w *world) here(ctx context.Context, raw []byte, to mail.Address, name []byte) (*account.Account, *deliver.ForAlias, error) {
	if to.Local == "busy" && strings.HasPrefix(string(name), "forward: answer <") {
		return nil, nil, nil
	}
	if to.Local != "open" {
		return nil, nil, replyCleartext
	}
	a, err := w.Accounts.Resolve(ctx, to)
	return &a, nil, err
}

func (w *world) alias(local string, o alias.Owner) *alias.Alias {
	a := &alias.Alias{Address: mail.Address{Local: local, Domain: aliases}, Owner: o, Class: alias.OpenMail}
	w.reg.byAddr[a.Address] = a
	return a
}

func say(err error) string {
	if err == nil {
		return "250"
	}
	return smtp.ReplyFor(err).String()
}

const news = "From: \"The Shop\" <news@shop.example>\r\nTo: <shop-1@alias.example>\r\nSubject: offers\r\nMessage-ID: <m1@shop.example>\r\nX-Mailer: canary\r\nContent-Type: text/plain\r\n\r\nhello\r\n"

// forward hands a mail of from for an alias over.
func (w *world) forward(local, from, raw string) string {
	w.t.Helper()
	al, err := w.reg.Lookup(context.Background(), mail.Address{Local: local, Domain: aliases})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.f.Elsewhere(w.t.Context(), al.Owner, ""); err != nil { // as at RCPT
		return say(err)
	}
	return say(w.f.Forward(w.t.Context(), Mail{Alias: al, From: w.Address(from), Mark: "mark", Raw: []byte(raw), Proof: []byte(raw)}))
}

// answer hands over what somebody elsewhere writes.
func (w *world) answer(from, raw string, to ...string) string {
	w.t.Helper()
	m := Incoming{From: w.Address(from), Raw: []byte(raw), Vouched: func(context.Context) (bool, error) { return true, nil }}
	for _, s := range to {
		if !w.f.Made(w.Address(s)) {
			w.t.Fatalf("%s is not made here", s)
		}
		if err := w.f.Recipient(w.t.Context(), w.Address(s)); err != nil {
			return say(err)
		}
		m.To = append(m.To, w.Address(s))
	}
	return say(w.f.Take(w.t.Context(), m))
}

// letter is a mail in the queue.
type letter struct {
	from, to, raw string
	h             mail.Header
}

// sent takes what waits for a domain out of the queue.
func (w *world) sent(domain string) (out []letter) {
	w.t.Helper()
	ctx := context.Background()
	for _, it := range w.queue.Lease(domain, 100) {
		b, err := w.queue.Body(ctx, it)
		if err != nil {
			w.t.Fatal(err)
		}
		text, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		b.Close()
		if err != nil || len(it.Rcpts) != 1 {
			w.t.Fatal(err, it.Rcpts)
		}
		h, _, err := mail.ParseHeader(text)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, letter{it.Mail.From.String(), it.Rcpts[0].To.String(), string(text), h})
		if err := w.queue.Settle(ctx, it, []queue.Result{{N: it.Rcpts[0].N, Outcome: queue.Delivered}}, nil); err != nil {
			w.t.Fatal(err)
		}
	}
	return out
}

// one is sent for one mail.
func (w *world) one(domain string) letter {
	w.t.Helper()
	list := w.sent(domain)
	if len(list) != 1 {
		w.t.Fatalf("%d mails for %s", len(list), domain)
	}
	return list[0]
}

// reverse gives the address that a mail comes from, as the mailbox elsewhere sees it.
func (l letter) reverse(t testing.TB) string {
	t.Helper()
	a, err := mail.FromAddress(l.h)
	if err != nil {
		t.Fatal(err)
	}
	return a.String()
}

// came says that the mail to a return address came back.
func (w *world) came(to, status string, header mail.Header) (*dsn.Report, bool) {
	w.t.Helper()
	return w.f.Returned(w.t.Context(), dsn.Report{Domain: domain, To: w.Address(to), Now: w.Clock.Now(), Header: header.Bytes(),
		Recipients: []dsn.Recipient{{Final: w.Address(target), Action: dsn.Failed, Status: status, Remote: "mx.home.example", Diagnostic: "550 no " + target}}})
}

var codeOf = regexp.MustCompile(`confirm/([a-z2-7]+)`)

// code gives the code in a question.
func (l letter) code(t testing.TB) string {
	t.Helper()
	m := codeOf.FindStringSubmatch(l.raw)
	if m == nil {
		t.Fatal(l.raw)
	}
	return m[1]
}

const aDay = 24 * time.Hour

func contains(t testing.TB, text string, yes []string, no ...string) {
	t.Helper()
	for _, s := range yes {
		if !strings.Contains(text, s) {
			t.Errorf("%q is not in\n%s", s, text)
		}
	}
	for _, s := range no {
		if strings.Contains(strings.ToLower(text), strings.ToLower(s)) {
			t.Errorf("%q is in\n%s", s, text)
		}
	}
}
