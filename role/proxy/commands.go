package proxy

import (
	"context"
	"encoding/json"

	"postern.email/kit/errs"
	"postern.email/post/account"
	"postern.email/post/keybook"
	"postern.email/wire/control"
)

// PasswordArgs are those of the command "passwd".
type PasswordArgs struct {
	Account  string `json:"account"`
	Old      string `json:"old,omitempty"`
	Password string `json:"password"`
	Forget   bool   `json:"forget,omitempty"` // without the old one: the mail that is stored is given up
}

// PasswordState tells whether an account has a password.
type PasswordState struct {
	Address  string `json:"address"`
	Password bool   `json:"password"`
}

// VerifyArgs are those of the command "verify". Without a fingerprint it only shows.
type VerifyArgs struct {
	Address     string `json:"address"`
	Fingerprint string `json:"fingerprint,omitempty"`
}

// Recipient is an entry of the key book, as commands show it.
type Recipient struct {
	Address     string `json:"address"`
	State       string `json:"state"`
	Fingerprint string `json:"fingerprint"`
	Key         string `json:"key"`
	Classical   bool   `json:"classical,omitempty"`
	New         string `json:"new_fingerprint,omitempty"` // of the key that a relay says now
	Own         bool   `json:"own,omitempty"`             // an account of this proxy
}

func shown(e keybook.Entry) Recipient {
	return Recipient{Address: e.Address.String(), State: e.State.String(), Fingerprint: e.Key.Fingerprint, Key: e.Key.Text, Classical: e.Key.Classical, New: e.New.Fingerprint}
}

// commands are those of the control socket.
func (s *Server) commands() map[string]control.Handler {
	return map[string]control.Handler{
		"status":   func(context.Context, json.RawMessage, func(any) error) (any, error) { return s.Status(), nil },
		"stop":     func(context.Context, json.RawMessage, func(any) error) (any, error) { s.stop(); return nil, nil },
		"rescan":   func(context.Context, json.RawMessage, func(any) error) (any, error) { return s.Rescan() },
		"password": control.With(s.passwordState),
		"passwd":   control.With(s.passwd),
		"verify":   control.With(s.verify),
		"evidence": control.With(s.evidence),

		"nyms":       control.With(s.listNyms),
		"nym-make":   control.With(s.makeNym),
		"nym-forget": control.With(s.forgetNym),
	}
}

// passwordState tells whether an account has a password.
func (s *Server) passwordState(ctx context.Context, a PasswordArgs) (PasswordState, error) {
	u, err := s.find(a.Account)
	if err != nil {
		return PasswordState{}, err
	}
	has, err := s.hasPassword(ctx, u)
	return PasswordState{u.Address.String(), has}, err
}

func (s *Server) hasPassword(ctx context.Context, u *user) (bool, error) {
	_, err := s.accounts.Show(ctx, u.Address)
	if err != nil && errs.KindOf(err) == errs.NotFound {
		return false, nil
	}
	return err == nil, err
}

// passwd gives an account its first password, or another.
func (s *Server) passwd(ctx context.Context, a PasswordArgs) (PasswordState, error) {
	const op = "role/proxy.passwd"
	u, err := s.find(a.Account)
	if err != nil {
		return PasswordState{}, err
	}
	has, err := s.hasPassword(ctx, u)
	switch {
	case err != nil:
	case !has:
		_, err = s.accounts.Create(ctx, account.CreateRequest{Address: u.Address.Canonical(), Password: a.Password})
	case a.Forget:
		err = s.accounts.Reset(ctx, u.Address, a.Password)
	case a.Old == "":
		err = errs.E(op, errs.Exists, "the account has a password; the old one is needed, since the mail that is stored is sealed with it", nil)
	default:
		err = s.accounts.Passwd(ctx, u.Address, a.Old, a.Password)
	}
	if err != nil {
		return PasswordState{}, errs.Wrap(op, err)
	}
	u.ring()
	return PasswordState{u.Address.String(), true}, nil
}

// verify shows a recipient's key, or notes that its fingerprint was compared.
func (s *Server) verify(_ context.Context, a VerifyArgs) (Recipient, error) {
	r, err := s.verified(a)
	s.mail.out.Look()
	return r, err
}

// verified does so without telling anybody.
func (s *Server) verified(a VerifyArgs) (Recipient, error) {
	addr, err := recipient(a.Address)
	if err != nil {
		return Recipient{}, err
	}
	for _, u := range s.users {
		if u.Address.Equal(addr) {
			if u.opened() == nil {
				if err := u.open(); err != nil {
					return Recipient{}, err
				}
			}
			return u.own()
		}
	}
	if a.Fingerprint == "" {
		e, err := s.book.Get(addr)
		return shown(e), err
	}
	e, err := s.book.Verify(addr, a.Fingerprint)
	return shown(e), err
}

// own shows the account's own key, for others to compare.
func (u *user) own() (Recipient, error) {
	cert, err := u.certificate()
	if err != nil {
		return Recipient{}, err
	}
	id := cert.Identity
	return Recipient{Address: u.Address.String(), State: "own", Fingerprint: id.Fingerprint(), Key: id.String(), Own: true}, nil
}
