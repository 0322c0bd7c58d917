package mixsubmit

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"postern.email/agent/deliver"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/dsn"
	"postern.email/mail/sanitize"
	"postern.email/mixnet/client"
	"postern.email/mixnet/letter"
	"postern.email/wire/smtp"
)

// Nyms are the reply addresses of an account; agent/mixnym has them.
type Nyms interface {
	// Get gives the reply address of a name, and makes one if there is none: it is durable then.
	Get(name string) (mail.Address, error)
	// Find gives the name whose reply address it is; false if it is none of this account.
	Find(a mail.Address) (name string, ok bool)
	// Ready tells whether mail that names the address may leave: its relay has so many reply blocks. If
	// not, they are fetched soon, and the error says what is waited for. errs.Unsupported and
	// errs.NotFound: there will be none.
	Ready(name string, blocks int) error
	// Thread gives the names for whose reply addresses a mail with a Message-ID came.
	Thread(messageID string) ([]string, error)
	// Refused gives the error with which the relay said that it has no reply addresses; nil if it did not.
	Refused() error
}

// anonymous is how a mail goes that does not name its sender.
type anonymous struct {
	Name   string       // that the sender says, cleaned; of the reply address, too
	Return mail.Address // where answers go: a reply address, or anon.NoReturn
	Blocks int          `json:",omitempty"` // that the reply address must have before the mail leaves; 0: there is none
}

const (
	// maxBlocks is for how many reply blocks a mail waits at most: half of what an address is given at once.
	maxBlocks = client.DailyBlocks / 2
	// answerSize is about how long an answer can be that an address has blocks for, in bytes.
	answerSize = 400_000
)

// answerBlocks is how many reply blocks an answer needs that has some bytes.
func answerBlocks(size int) int {
	return letter.Packets(size+around, letter.Options{Room: letter.RoomReply, Coded: true})
}

// owns reports whether an address is a reply address of the account.
func (a *Account) owns(addr mail.Address) (name string, ok bool) {
	if a.Nyms == nil {
		return "", false
	}
	return a.Nyms.Find(addr)
}

// goes tells how a mail goes whose header is h: nil for one that names its sender, which is the account
// then. The reply address is not made yet. The error is a *smtp.Reply.
func (a *Account) goes(envelope, from mail.Address, h mail.Header) (*anonymous, sanitize.Asked, error) {
	asked, err := sanitize.ReadAsked(h)
	if err != nil {
		return nil, asked, &smtp.Reply{Code: 550, Enhanced: "5.6.0", Text: errs.Public(err)}
	}
	name, nym := a.owns(from)
	if !from.Equal(envelope) && !(nym && envelope.Equal(a.Address)) {
		return nil, asked, replyFrom
	}
	switch {
	case !asked.Anonymous && !nym && asked.NoReply:
		return nil, asked, replyNotAnonymous
	case !asked.Anonymous && !nym:
		return nil, asked, nil
	case nym && asked.Anonymous && anon.Name(asked.Name) != name:
		return nil, asked, replyTwoNames
	case !nym:
		name = anon.Name(asked.Name)
	}
	g := &anonymous{Name: name, Return: anon.NoReturn()}
	if asked.NoReply {
		return g, asked, nil
	}
	if a.Nyms == nil {
		return nil, asked, replyNoNyms
	}
	if err := a.Nyms.Refused(); err != nil {
		return nil, asked, refusedNym(err)
	}
	g.Blocks = 1
	return g, asked, nil
}

// address gives an anonymous mail its reply address, as soon as it is sure that the mail is taken.
func (g *anonymous) address(a *Account, size int) error {
	if g == nil || g.Blocks == 0 {
		return nil
	}
	to, err := a.Nyms.Get(g.Name)
	if err != nil {
		if errs.KindOf(err) == errs.Full {
			return &smtp.Reply{Code: 452, Enhanced: "4.3.1", Text: errs.Public(err) + ": give one up with postern proxy nyms forget"}
		}
		return errs.Wrap("agent/mixsubmit.address", err)
	}
	g.Return, g.Blocks = to, min(answerBlocks(size), maxBlocks)
	return nil
}

// answers refuses a mail that answers one which came for a reply address, and goes under another name, by
// accident most likely: who gets it would know both. known: an anonymous mail may say what it answers,
// since that came for its own reply address.
func (a *Account) answers(g *anonymous, h mail.Header) (known bool, err error) {
	if a.Nyms == nil {
		return false, nil
	}
	for _, field := range []string{"In-Reply-To", "References"} {
		for _, id := range mail.MessageIDs(h.Get(field)) {
			names, err := a.Nyms.Thread(id)
			if err != nil {
				return false, errs.Wrap("agent/mixsubmit.answers", err)
			}
			switch {
			case len(names) == 0:
			case g == nil:
				return false, replyOtherName
			case !slices.Contains(names, g.Name):
				return false, replyOtherAddress
			default:
				known = true
			}
		}
	}
	return known, nil
}

// header is that of a letter: one that names its sender, or g's. answers: the latter may say what it
// answers.
func (s *Submit) header(raw []byte, g *anonymous, answers bool, from mail.Address, now time.Time) (header []byte, off int, err error) {
	domain := from.Domain
	if g != nil {
		domain = g.Return.Domain
	}
	id, err := mail.NewMessageID(s.o.Rand, domain)
	if err != nil {
		return nil, 0, errs.Wrap("agent/mixsubmit.header", err)
	}
	if g != nil {
		// Seconds would tell how far this machine's clock is off, and so whose it is.
		header, off, err = sanitize.Anonymous(raw, sanitize.AnonymousFields{From: anon.From("", g.Name, g.Return), MessageID: id, Date: now.UTC().Truncate(time.Minute), Answers: answers})
	} else {
		header, off, err = sanitize.Letter(raw, sanitize.LetterFields{
			Received:  "by localhost (Postern mail proxy); " + mail.FormatDate(now.UTC()),
			MessageID: id, Date: now.UTC()})
	}
	if err != nil {
		return nil, 0, replyParse(err)
	}
	return header, off, nil
}

// tells refuses an anonymous mail whose header names the account, unless that is one of the recipients.
func (g *anonymous) tells(a *Account, header []byte, rcpts []recipient) error {
	if g == nil || slices.ContainsFunc(rcpts, func(r recipient) bool { return r.To.Equal(a.Address) }) || !naming(header, a.Address) {
		return nil
	}
	return replyOwnName
}

// naming reports whether a text holds an address, in small letters or large ones.
func naming(text []byte, a mail.Address) bool {
	text, want := bytes.ToLower(text), bytes.ToLower([]byte(a.String()))
	for {
		i := bytes.Index(text, want)
		if i < 0 {
			return false
		}
		after := text[i+len(want):]
		if (i == 0 || !inAddress(text[i-1])) && (len(after) == 0 || !inAddress(after[0]) || after[0] == '.' && (len(after) == 1 || !inAddress(after[1]))) {
			return true
		}
		text = after
	}
}

// inAddress reports whether a byte could be part of a longer address.
func inAddress(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_' || c == '+' || c >= 0x80
}

// sender is the envelope sender of a part's letter. That of an anonymous mail is its reply address, so
// that a report can come back, where a recipient's NOTIFY allows one.
func (e *entry) sender(p *part) mail.Address {
	switch {
	case e.Anon == nil:
		return e.From
	case e.Anon.Blocks > 0 && slices.ContainsFunc(p.Rcpts, func(r recipient) bool { return deliver.Wanted(smtp.Notify(r.Notify), dsn.Failed) }):
		return e.Anon.Return
	}
	return mail.Address{}
}

// answerable tells whether the mail may leave as far as its reply address is concerned. false without an
// error: it was given up.
func (s *Submit) answerable(sp *spool, e *entry, p *part) (bool, error) {
	g := e.Anon
	if g == nil || g.Blocks == 0 {
		return true, nil
	}
	if sp.a.Nyms == nil {
		return false, s.give(sp, e, p, replyNoNyms)
	}
	err := sp.a.Nyms.Ready(g.Name, g.Blocks)
	switch k := errs.KindOf(err); {
	case err == nil:
		return true, nil
	case k == errs.Unsupported || k == errs.NotFound:
		return false, s.give(sp, e, p, refusedNym(err))
	}
	s.wait(sp, p, errs.Public(err), shortPause)
	return false, nil
}

// said is what the sender hears of an anonymous mail, before the time that it takes.
func (g *anonymous) said(a *Account) (before, after string) {
	if g == nil {
		return "", ""
	}
	before = " anonymously"
	if g.Blocks == 0 {
		return before, "; it has no reply address, so that nobody can answer"
	}
	if a.Nyms.Ready(g.Name, g.Blocks) != nil {
		after = " once its reply address has reply blocks"
	}
	after += fmt.Sprintf("; answers reach you as long as this proxy is on line at least once every %d hours", int(client.BlockLife.Hours()))
	if answerBlocks(answerSize) < g.Blocks*2 { // it is a large one itself
		after += fmt.Sprintf(", and have up to %s", bytesText(answerSize))
	}
	return before, after
}

// Fed tells that a reply address of an account has more reply blocks than before: its mails that wait are
// looked at now.
func (s *Submit) Fed(account mail.Address) {
	s.mu.Lock()
	p := s.spools[account]
	s.mu.Unlock()
	if p != nil {
		p.hurry()
	}
	s.Look()
}

// The replies about anonymous mail.
var (
	replyNotAnonymous = &smtp.Reply{Code: 550, Enhanced: "5.6.0", Text: "the field " + sanitize.ReplyField + " is for mail with a field " + sanitize.AnonymousField}
	replyTwoNames     = &smtp.Reply{Code: 550, Enhanced: "5.6.0", Text: "the field " + sanitize.AnonymousField + " has another name than the reply address in From belongs to"}
	replyNoNyms       = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "this account has no reply addresses; with " + sanitize.ReplyField + ": no a mail goes without one"}
	replyOtherName    = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "this mail answers one that came for a reply address of yours, and would go under your own name: choose the reply address as its sender, or write a new mail"}
	replyOtherAddress = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "this mail answers one that came for another reply address of yours: choose that one as its sender, or write a new mail"}
	replyOwnName      = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "the header of this anonymous mail names your own address, which is none of its recipients: take it out"}
)

// refusedNym says that there is no reply address, and what to do.
func refusedNym(err error) *smtp.Reply {
	return &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: errs.Public(err) + "; with " + sanitize.ReplyField + ": no a mail goes without one"}
}
