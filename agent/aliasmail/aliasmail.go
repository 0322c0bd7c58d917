// Package aliasmail is what mail to an alias must pass, at every door: other hosts' (SMTP and
// HTTPS), the mix network's, and that of users of this relay; and what mail as an alias may do.
//
// A door asks in the order Recipient (at RCPT), Form (the whole mail), then who vouches for the
// sender, which is its own affair, and Judge. What Judge gives goes into one transaction with
// the mail. An alias of class strict takes what an account takes. One of class open-mail also takes
// ordinary mail, if the domain in From vouches for it (DKIM or SPF, aligned as DMARC has it); its mail is sealed before it is written, like all mail.
//
// A stranger cannot tell a paused, an ended or a deleted alias from a name that there never was.
package aliasmail

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"time"
	"unicode/utf8"

	"postern.email/agent/deliver"
	"postern.email/agent/forward"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/mail/pgpmime"
	"postern.email/mail/sanitize"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/seal"
	"postern.email/wire/smtp"
)

// Register is what this policy needs of the register of aliases; *alias.Aliases is one.
type Register interface {
	Ours(addr mail.Address) bool
	Lookup(ctx context.Context, addr mail.Address) (*alias.Alias, error)
	Resolve(ctx context.Context, addr mail.Address, peer limits.Peer) (*alias.Alias, error)
	Arrive(al *alias.Alias, from mail.Address, v alias.Verdict) *alias.Arrival
	WroteTo(al *alias.Alias, to []mail.Address) *alias.Arrival
	MayAnswer(al *alias.Alias, to mail.Address) bool
	Answers(ctx context.Context, al *alias.Alias, id string) (bool, error)
	Record(ctx context.Context, r *alias.Arrival) error
}

// Rooms tells whether a mailbox has room for size more bytes: errs.Full if not.
type Rooms interface {
	Room(ctx context.Context, id seal.AccountID, quota, size int64) error
}

// Forward takes mail for aliases whose owners have their mailbox elsewhere; agent/forward has one.
// Errors, usually a *smtp.Reply, refuse the recipient or the mail.
type Forward interface {
	// Elsewhere reports whether mail for an owner's aliases goes elsewhere, and judges the mailbox there
	// as RCPT does. network is that of whoever sends, "" where it is not known.
	Elsewhere(ctx context.Context, owner alias.Owner, network string) (bool, error)
	// Forward takes responsibility for a mail that the alias takes; errs.Denied when the alias has changed
	// meanwhile.
	Forward(ctx context.Context, m forward.Mail) error
}

// Options of a Door. Register, Accounts, Rooms and Deliver are needed.
type Options struct {
	Register Register
	Accounts deliver.Numbers
	Rooms    Rooms
	Deliver  *deliver.Deliver
	Domain   string // of the sender of notes to owners

	// Cleartext lets aliases of class open-mail take and send ordinary mail; off, all aliases are strict.
	Cleartext bool

	// NoEvidence drops what a mail's way left in it, signatures among it, as for accounts, and keeps no
	// keys of signatures.
	NoEvidence bool

	Forward Forward // nil: all owners have their mailbox here

	Now    func() time.Time // nil: time.Now
	Rand   io.Reader        // nil: crypto/rand.Reader
	Logger *slog.Logger     // nil: nothing is logged
}

// Door is the policy. It may be used by many goroutines.
type Door struct{ o Options }

// New makes a Door.
func New(o Options) *Door {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Door{o}
}

// Replies to whom mail for an alias is refused.
var (
	Unknown    = &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "Recipient address rejected: User unknown"}
	Full       = &smtp.Reply{Code: 452, Enhanced: "4.2.2", Text: "Recipient address rejected: mailbox full"}
	ManyTries  = &smtp.Reply{Code: 451, Enhanced: "4.7.1", Text: "too many recipients of this form are being tried, try again later"}
	Sender     = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "Recipient address rejected: this sender is not accepted here"}
	Asked      = &smtp.Reply{Code: 450, Enhanced: "4.7.1", Text: "Recipient address rejected: the recipient is asked, try again later"}
	NotAligned = &smtp.Reply{Code: 550, Enhanced: "5.7.26", Text: "neither DKIM nor SPF vouches for the domain in the From field"}
	Cleartext  = &smtp.Reply{Code: 523, Text: "Encryption Needed: Invalid Unencrypted Mail"}
	NotUTF8    = &smtp.Reply{Code: 554, Text: "Non-UTF-8 message"}
	Changed    = &smtp.Reply{Code: 451, Enhanced: "4.3.0", Text: "the recipient has just changed, try again later"}
)

// Ours reports whether an address lies in a domain of aliases.
func (d *Door) Ours(addr mail.Address) bool { return d != nil && d.o.Register.Ours(addr) }

// Recipient is an alias that a mail is for.
type Recipient struct {
	To        mail.Address // as written
	Alias     *alias.Alias
	Owner     account.Account // zero where the owner's mailbox is elsewhere
	Elsewhere bool
}

// Recipient judges an address that no account here has, as RCPT does. Its error, usually a *smtp.Reply,
// refuses the recipient: Unknown also where there is no such alias. Whether the mailbox of the owner is full it
// does not tell: who compares that for an account and an alias, by sizes in MAIL (RFC 1870), would see that
// they share one. Judge says it, to those whose mail would be taken.
func (d *Door) Recipient(ctx context.Context, to mail.Address, peer limits.Peer) (*Recipient, error) {
	const op = "agent/aliasmail.Recipient"
	al, err := d.Alias(ctx, to, peer)
	if err != nil {
		return nil, err
	}
	r := &Recipient{To: to, Alias: al}
	if a := al.Judge(mail.Address{}, d.o.Now()).Action; a == alias.Paused || a == alias.Expired {
		return nil, Unknown
	}
	if d.o.Forward != nil {
		if r.Elsewhere, err = d.o.Forward.Elsewhere(ctx, al.Owner, peer.Network()); err != nil || r.Elsewhere {
			return r, err
		}
	}
	r.Owner, err = d.o.Accounts.ByNumber(ctx, al.Owner)
	switch {
	case err != nil && errs.KindOf(err) == errs.NotFound:
		return nil, Unknown
	case err != nil:
		return nil, errs.Wrap(op, err)
	case r.Owner.Blocked:
		return nil, Unknown // another word would tell that a name is an alias
	}
	return r, nil
}

// room is Full where the owner's mailbox has no room for size more bytes.
func (d *Door) room(ctx context.Context, r *Recipient, size int) error {
	if r.Elsewhere {
		return nil
	}
	err := d.o.Rooms.Room(ctx, r.Owner.ID, r.Owner.Quota, int64(size))
	if errs.KindOf(err) == errs.Full {
		return Full
	}
	return errs.Wrap("agent/aliasmail.room", err)
}

// Strict reports whether the mail must be as that for an account.
func (d *Door) Strict(r *Recipient) bool { return !d.SendsCleartext(r.Alias) }

// Mail is a whole mail for an alias.
type Mail struct {
	Raw    []byte // as received
	Header []byte // the part of Raw that is its header
	From   mail.Address
	Null   bool   // the envelope's sender is the null one
	Nobody bool   // nobody vouches for From: the mail is anonymous
	bounce bool   // it has the form of a delivery report
	about  string // of one, the Message-ID of the mail that it quotes; "": none

	// Who vouches for From, as sanitize.AliasFields has it; the door fills it in before Judge.
	ReturnPath         mail.Address
	Vouched            string
	KeyName, KeyRecord string
}

// Form judges what of a mail needs no look-up: its form, that it is encrypted or a listed exception, or
// that the alias takes ordinary mail. null: the envelope's sender is the null one. Its error, usually a *smtp.Reply, refuses the mail.
func (d *Door) Form(r *Recipient, raw []byte, null bool) (*Mail, error) {
	m := &Mail{Raw: raw, Null: null}
	strict := d.Strict(r)
	if strict && !utf8.Valid(raw) {
		return nil, NotUTF8
	}
	h, body, err := mail.ParseHeader(raw)
	if err != nil {
		return nil, &smtp.Reply{Code: 500, Text: "Failed to parse message: " + errs.Public(err)}
	}
	m.Header = raw[:body]
	if m.From, err = mail.FromAddress(h); err != nil {
		return nil, &smtp.Reply{Code: 500, Text: "Invalid FROM header: " + errs.Public(err)}
	}
	verdict := pgpmime.Check(raw, pgpmime.Incoming, []mail.Address{r.To})
	if m.bounce = verdict.Exception == pgpmime.Bounce; m.bounce && null {
		if _, header, err := dsn.Read(raw); err == nil {
			quoted, _, _ := mail.ParseHeader(header)
			m.about = quoted.Get("Message-ID")
		}
	}
	if strict && !verdict.Allowed() {
		d.o.Logger.Debug("aliasmail: not encrypted", "reason", verdict.Reason)
		return nil, Cleartext
	}
	return m, nil
}

// Judge applies the alias's own rules to a mail whose sender is vouched for, and gives what goes into
// the transaction of the mail. Where the owner is asked it leaves a note in the mailbox of the owner, once a sender.
// The error, usually a *smtp.Reply, refuses the mail.
func (d *Door) Judge(ctx context.Context, r *Recipient, m *Mail) (*Taken, error) {
	const op = "agent/aliasmail.Judge"
	from := m.From
	if m.Nobody {
		from = mail.Address{}
	}
	v := r.Alias.Judge(from, d.o.Now())
	report := false
	switch {
	case m.Nobody && (v.Pins || v.Action == alias.Later):
		v.Action = alias.Refuse // who is nobody can be neither remembered nor asked about
	case m.Null && r.Alias.Sent == 0:
		// Nothing was sent that could come back (RFC 5321 §4.5.5): it is backscatter, or a way round the rules.
		if v.Action == alias.Take || v.Action == alias.Later {
			v.Action = alias.Refuse
		}
	case m.Null && m.bounce && !v.Blocked && v.Action != alias.Paused && v.Action != alias.Expired:
		// A report is from a mailer-daemon, whom no list names; it changes nothing of the alias. Its form can be
		// imitated: it has to quote a mail that was sent, and whom the owner blocked stays out.
		var err error
		if report, err = d.o.Register.Answers(ctx, r.Alias, m.about); err != nil {
			return nil, errs.Wrap(op, err)
		}
		switch {
		case report:
			v = alias.Verdict{Action: alias.Take, Expected: true}
		case !v.Expected: // it is of nobody: neither pinned, nor asked about, nor remembered
			from = mail.Address{}
			v = r.Alias.Judge(from, d.o.Now())
		}
	}
	switch v.Action {
	case alias.Take:
		// After the rules: a sender who is not accepted learns nothing of the mailbox.
		if err := d.room(ctx, r, len(m.Raw)); err != nil {
			return nil, err
		}
	case alias.Later:
		if err := d.ask(ctx, r, from, v); err != nil {
			return nil, errs.Wrap(op, err)
		}
		return nil, Asked
	case alias.Refuse:
		d.record(ctx, r, from, v)
		return nil, Sender
	default:
		d.record(ctx, r, from, v)
		return nil, Unknown
	}
	f := sanitize.AliasFields{ReturnPath: m.ReturnPath, Alias: r.Alias.Address, Sender: sanitize.SenderUnexpected, Vouched: m.Vouched, KeyName: m.KeyName, KeyRecord: m.KeyRecord}
	switch {
	case v.Expected:
		f.Sender = sanitize.SenderExpected
	case v.Pins:
		f.Sender = sanitize.SenderFirst
	}
	if d.o.NoEvidence {
		f.KeyName, f.KeyRecord = "", ""
	}
	fields, err := sanitize.Alias(f)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	t := &Taken{Copy: deliver.ForAlias{Owner: r.Owner, Fields: fields, Clean: d.o.NoEvidence}, verdict: v, mark: f.Mark()}
	if !report {
		t.Copy.Arrival = d.o.Register.Arrive(r.Alias, from, v)
	}
	return t, nil
}

// Taken is a mail that an alias takes.
type Taken struct {
	Copy    deliver.ForAlias // for an owner with a mailbox here
	verdict alias.Verdict
	mark    string
}

// Hand judges a mail for one alias and hands it over; nil is the acknowledgement. p is the parcel without
// the alias. When the alias changes between the two the mail is judged once more.
func (d *Door) Hand(ctx context.Context, r *Recipient, m *Mail, p deliver.Parcel) error {
	const op = "agent/aliasmail.Hand"
	for try := 0; ; try++ {
		t, err := d.Judge(ctx, r, m)
		if err != nil {
			return err
		}
		if r.Elsewhere {
			err = d.o.Forward.Forward(ctx, forward.Mail{Alias: r.Alias, From: m.From, Verdict: t.verdict, Mark: t.mark, Options: p.Options, Raw: m.Raw, Proof: bytes.Join(p.Proof, nil)})
		} else {
			p.Aliases = []deliver.ForAlias{t.Copy}
			p.Home = r.Owner.ID.Shard()
			err = d.o.Deliver.Begin().Hand(ctx, p)
		}
		switch {
		case err == nil || errs.KindOf(err) != errs.Denied:
			return errs.Wrap(op, err)
		case try > 0:
			return Changed
		}
		if r, err = d.Again(ctx, r); err != nil {
			return err
		}
	}
}

// Copy judges a mail that a door hands over itself, and gives the copy for the owner of the alias; nil without
// an error: the owner has its mailbox elsewhere, and the mail is on its way there. p is as for Hand.
func (d *Door) Copy(ctx context.Context, r *Recipient, m *Mail, p deliver.Parcel) (*deliver.ForAlias, error) {
	if r.Elsewhere {
		return nil, d.Hand(ctx, r, m, p)
	}
	t, err := d.Judge(ctx, r, m)
	if err != nil {
		return nil, err
	}
	return &t.Copy, nil
}

// Again reads the alias of a recipient anew, after errs.Denied of a transaction.
func (d *Door) Again(ctx context.Context, r *Recipient) (*Recipient, error) {
	// Nothing is tried out: that it is an alias is known.
	return d.Recipient(ctx, r.To, limits.Peer{Exempt: true})
}

// Refuses judges at RCPT the sender of a mail for whom somebody vouches already: nil, or why the
// alias does not take it from there at all.
func (d *Door) Refuses(ctx context.Context, r *Recipient, from mail.Address) error {
	v := r.Alias.Judge(from, d.o.Now())
	if v.Action != alias.Refuse {
		return nil
	}
	d.record(ctx, r, from, v)
	return Sender
}

// record counts a mail that was refused. That it cannot be counted is no reason to say anything else.
func (d *Door) record(ctx context.Context, r *Recipient, from mail.Address, v alias.Verdict) {
	if err := d.o.Register.Record(ctx, d.o.Register.Arrive(r.Alias, from, v)); err != nil {
		d.o.Logger.Debug("aliasmail: a refusal is not counted", "kind", errs.KindOf(err))
	}
}

// Alias gives the alias that an address is, for who may write as it; Unknown where it is none. Ended and
// paused ones count: their owner may still answer what came before.
func (d *Door) Alias(ctx context.Context, addr mail.Address, peer limits.Peer) (*alias.Alias, error) {
	if !d.Ours(addr) {
		return nil, Unknown
	}
	al, err := d.o.Register.Resolve(ctx, addr, peer)
	switch k := errs.KindOf(err); {
	case err == nil:
		return al, nil
	case k == errs.NotFound:
		return nil, Unknown
	case k == errs.Busy:
		return nil, ManyTries
	}
	return nil, errs.Wrap("agent/aliasmail.Alias", err)
}

// SendsCleartext reports whether mail as an alias may be unencrypted at all.
func (d *Door) SendsCleartext(al *alias.Alias) bool {
	return d.o.Cleartext && al.Class == alias.OpenMail
}

// MayAnswer reports whether to wrote to an alias, was written to as it, or was added by its owner.
func (d *Door) MayAnswer(al *alias.Alias, to mail.Address) bool {
	return d.o.Register.MayAnswer(al, to)
}

// WroteTo prepares what a mail as an alias changes of it, for the transaction of the mail. id is its Message-ID, as it
// leaves: reports on it are taken.
func (d *Door) WroteTo(al *alias.Alias, to []mail.Address, id string) deliver.Write {
	return d.o.Register.WroteTo(al, to).Remember(id)
}
