package proxy

import (
	"context"
	"encoding/json"

	"postern.email/agent/evidence"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/post/account"
)

// EvidenceArgs are those of the command "evidence".
type EvidenceArgs struct {
	Account  string `json:"account"`
	Password string `json:"password"` // at the proxy
	Alias    string `json:"alias"`
	Stranger string `json:"stranger,omitempty"` // whose mail is the second one; "": the last of anybody unexpected
}

// evidence makes a file that shows who passed an alias on (docs/aliases-evidence.md), of mail that the relay took
// for an alias of the account and that lies in its mailbox here.
func (s *Server) evidence(ctx context.Context, a EvidenceArgs) (json.RawMessage, error) {
	const op = "role/proxy.evidence"
	look := evidence.Search{Now: s.d.Now()}
	var err error
	if look.Alias, err = mail.ParseAddress(a.Alias); err != nil || look.Alias.Domain == "" {
		return nil, errs.E(op, errs.Invalid, "write the whole address of the alias", err)
	}
	if a.Stranger != "" {
		if look.Stranger, err = mail.ParseAddress(a.Stranger); err != nil {
			return nil, errs.E(op, errs.Invalid, "the stranger is no address", err)
		}
	}
	name, err := s.login(ctx, a.Account)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	login, err := s.accounts.Login(ctx, account.LoginRequest{Name: name, Password: a.Password, Peer: limits.Peer{Exempt: true}})
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	defer login.Close()
	file, err := evidence.OfMailbox(ctx, s.boxes.Account(login.Key, login.Quota), look, s.d.Rand)
	return file, errs.Wrap(op, err)
}
