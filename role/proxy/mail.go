package proxy

import (
	"context"

	"postern.email/agent/mixclient"
	"postern.email/agent/mixreceive"
	"postern.email/agent/mixsubmit"
	"postern.email/agent/notice"
	"postern.email/agent/submit"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/keybook"
)

// agents are those of mail.
type agents struct {
	desk *notice.Desk
	out  *mixsubmit.Submit
	in   *mixreceive.Receive
}

// openBook opens the recipients' keys.
func (s *Server) openBook() (err error) {
	s.book, err = keybook.Open(keybook.Options{FS: s.d.FS, Dir: s.c.Proxy.RecipientDir, Parse: vouch.ParseKey, Config: s.c.Recipients,
		AllowClassical: s.c.Proxy.AllowClassicalRecipients, Now: s.d.Now})
	if err == nil {
		s.logBad()
	}
	return err
}

// logBad says which recipients' keys cannot be read. The names of files are addresses: their number
// is logged, and the rest is in the status.
func (s *Server) logBad() {
	if n := len(s.book.Bad()); n > 0 {
		s.d.Logger.Warn("keys of recipients cannot be read; to see which: postern proxy status", "keys", n)
	}
}

// openMail puts the agents together.
func (s *Server) openMail() error {
	s.mail.desk = notice.New(notice.Options{Deliver: s.deliver, Resolve: s.accounts.Resolve, Now: s.d.Now, Rand: s.d.Rand, Logger: s.d.Logger})
	s.mail.out = mixsubmit.New(mixsubmit.Options{Accounts: s.submitters, Local: logins{submit.Register(s.accounts), s}, Book: s.book, Desk: s.mail.desk,
		NoAuth: !s.c.Proxy.SMTPAuth, AllowCleartext: s.c.Proxy.AllowCleartext, Guard: s.mayWrite, Now: s.d.Now, Rand: s.d.Rand, Logger: s.d.Logger})
	s.mail.in = mixreceive.New(mixreceive.Options{Resolve: s.accounts.Resolve, Deliver: s.deliver, Desk: s.mail.desk, Book: s.book, Arrived: s.mail.out.Saw, Returned: s.mail.out.Returned, Now: s.d.Now, Logger: s.d.Logger})
	for _, u := range s.users {
		if err := u.open(); err != nil {
			u.fail(err)
		}
	}
	return nil
}

// submitters are the accounts that are registered.
func (s *Server) submitters() (out []*mixsubmit.Account) {
	for _, u := range s.users {
		u.mu.Lock()
		if u.submit != nil {
			out = append(out, u.submit)
		}
		u.mu.Unlock()
	}
	return out
}

// waiting gives the mails that are not settled, by account.
func (a *agents) waiting() map[mail.Address][]mixsubmit.Waiting {
	all, err := a.out.Waiting()
	if err != nil {
		return nil
	}
	out := make(map[mail.Address][]mixsubmit.Waiting)
	for _, w := range all {
		at := w.From.Canonical()
		out[at] = append(out[at], w)
	}
	return out
}

// receive puts what comes for an account into its mailbox, until ctx ends.
func (a *agents) receive(ctx context.Context, u *user, c *mixclient.Client) error {
	return a.in.Serve(ctx, &mixreceive.Account{Address: u.Address.Canonical(), Store: c.Store(), Relay: c.Relay(), Consensus: c.Consensus, Wait: u.await, Nyms: u.desk(), Discover: u.Discover})
}

// find gives the account that somebody calls by its address, or by its user name where only one
// account has it. errs.NotFound.
func (s *Server) find(name string) (*user, error) {
	const op = "role/proxy.find"
	var found []*user
	for _, u := range s.users {
		a, err := mail.ParseAddress(name)
		if err != nil {
			a = mail.Address{Local: name, Domain: u.Address.Domain}
		}
		if a.Equal(u.Address) && (!s.c.Debug.CaseSensitiveUserIdentifiers || a.Local == u.Address.Local) {
			found = append(found, u)
		}
	}
	switch len(found) {
	case 0:
		return nil, errs.E(op, errs.NotFound, "this proxy has no such account", nil)
	case 1:
		return found[0], nil
	}
	return nil, errs.E(op, errs.NotFound, "several accounts have this name: write the whole address", nil)
}

// login gives the address that a login means. errs.Denied where the account has no password; errs.Auth
// where no account is meant.
func (s *Server) login(ctx context.Context, name string) (string, error) {
	const op = "role/proxy.login"
	u, err := s.find(name)
	if err != nil {
		return "", errs.E(op, errs.Auth, "wrong name or password", err)
	}
	if _, err := s.accounts.Show(ctx, u.Address); err != nil && errs.KindOf(err) == errs.NotFound {
		return "", errs.E(op, errs.Denied, "this account has no password yet: set one with postern proxy passwd USER", err)
	}
	return u.Address.String(), nil
}

// logins are those of mail programs that send.
type logins struct {
	submit.Accounts
	s *Server
}

// Login is that of submit.Accounts.
func (l logins) Login(ctx context.Context, r account.LoginRequest) (_ submit.Login, err error) {
	if r.Name, err = l.s.login(ctx, r.Name); err != nil {
		return nil, err
	}
	return l.Accounts.Login(ctx, r)
}
