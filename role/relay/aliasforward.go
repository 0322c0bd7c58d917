package relay

import (
	"context"

	"postern.email/agent/deliver"
	"postern.email/agent/forward"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/dsn"
	"postern.email/post/account"
	"postern.email/post/alias"
)

// tellAliasOwner puts a note about mail that is sent on into the mailbox that an owner has here, too.
// Who has none finds it in the state of its mailbox elsewhere.
func (s *Server) tellAliasOwner(ctx context.Context, id alias.Owner, n forward.Note) {
	owner, err := s.accounts.ByNumber(ctx, id)
	if err == nil {
		err = s.note(ctx, owner, owner.Address, n.Subject, n.Text)
	}
	if err != nil && errs.KindOf(err) != errs.NotFound {
		s.d.Logger.Warn("an owner of aliases is not told of its mailbox elsewhere", "kind", errs.KindOf(err))
	}
}

// note puts a mail of the relay's own into the mailbox of an account. to is the address of the owner's that
// it is about.
func (s *Server) note(ctx context.Context, owner account.Account, to mail.Address, subject, text string) error {
	raw, err := dsn.Note{Domain: s.c.Domain, To: to, Subject: subject, Text: text, Now: s.d.Now(), Rand: s.d.Rand}.Build()
	if err != nil {
		return err
	}
	return s.deliver.Begin().Hand(ctx, deliver.Parcel{Local: []account.Account{owner}, Head: raw})
}

// forwardHere judges an answer as an alias to somebody of this relay as if another host had brought it.
func (s *Server) forwardHere(ctx context.Context, raw []byte, to mail.Address, name []byte) (*account.Account, *deliver.ForAlias, error) {
	rules := s.receiver()
	if is, c, err := rules.Alias(ctx, raw, to, false, name); is {
		return nil, c, err
	}
	a, err := rules.Recipient(ctx, to, int64(len(raw)))
	if err == nil {
		err = rules.Vouched(ctx, raw, a, to)
	}
	if err != nil {
		return nil, nil, err
	}
	return &a, nil, nil
}

// askTarget asks the mailbox elsewhere that an owner has got. Where that cannot be it is asked when the
// first mail comes.
func (s *Server) askTarget(ctx context.Context, owner alias.Owner, network string) {
	if err := s.alias.forward.Ask(ctx, owner, network); err != nil {
		s.d.Logger.Debug("a mailbox elsewhere is not asked", "kind", errs.KindOf(err))
	}
}

// forwardURL is under which the pages about mailboxes elsewhere are found from outside; "": they are not.
func (s *Server) forwardURL() string {
	if base := s.base(); base != "" {
		return base + forwardPath
	}
	return ""
}
