package account

import (
	"fmt"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/mail/anon"
	"postern.email/mail/verp"
)

// parse reads the name of a login: a full address of one of our domains, in its
// canonical form.
func (a *Accounts) parse(name string) (mail.Address, error) {
	const op = "account.parse"
	addr, err := mail.ParseAddress(name)
	if err != nil {
		return mail.Address{}, errs.E(op, errs.Denied, textName, err)
	}
	addr = addr.Canonical()
	if !a.Ours(addr) {
		return mail.Address{}, errs.E(op, errs.Denied, textName, nil)
	}
	return addr, nil
}

// Ours reports whether addr lies in one of our domains.
func (a *Accounts) Ours(addr mail.Address) bool {
	_, ok := a.domains[addr.Canonical().Domain]
	return ok
}

// checkNew applies the rules of new names: local part ^[a-z0-9._-]+$ in the
// canonical form, MinName to MaxName characters, no dot that would need
// quoting (RFC 5321 §4.1.2 dot-string), and none that this relay gives out itself.
func (a *Accounts) checkNew(addr mail.Address) error {
	const op = "account.checkNew"
	l := addr.Local
	if len(l) < a.o.MinName || len(l) > a.o.MaxName {
		return errs.E(op, errs.Denied, fmt.Sprintf("a new name has %d to %d characters", a.o.MinName, a.o.MaxName), nil)
	}
	if !mail.PlainLocal(l) {
		return errs.E(op, errs.Denied, textLetters, nil)
	}
	if aliasname.DerivedForm(l) {
		return errs.E(op, errs.Denied, textDerived, nil)
	}
	if anon.Reserved(addr) || verp.Made(l) {
		return errs.E(op, errs.Denied, textReserved, nil)
	}
	return nil
}

// checkPassword applies the rules of new passwords. Only the length counts:
// whatever else was demanded would make people choose worse ones.
func (a *Accounts) checkPassword(password string) error {
	const op = "account.checkPassword"
	if len(password) < a.o.MinPassword {
		return errs.E(op, errs.Denied, fmt.Sprintf("a password has at least %d characters", a.o.MinPassword), nil)
	}
	if len(password) > a.o.MaxPassword {
		return errs.E(op, errs.Denied, fmt.Sprintf("a password has at most %d bytes", a.o.MaxPassword), nil)
	}
	return nil
}

// Public texts. None names an address or a network.
const (
	textName      = "the name must be a full address of this server"
	textLetters   = "a new name has only the characters a-z, 0-9, dot, underscore and hyphen, and no dot at an end or beside a dot"
	textReserved  = "this name belongs to nobody: anonymous mail goes under it"
	textDerived   = "this name has the form of an alias that a program makes: choose another"
	textAuth      = "name or password is wrong"
	textBlocked   = "this account is blocked"
	textReset     = "this account is being reset by the operator"
	textGone      = "this name belonged to a deleted account and is not given out again"
	textNoNew     = "no new addresses are made here now"
	textGateFull  = "too many logins at once, try again in a minute"
	textGateWait  = "the server is busy with other logins, try again in a minute"
	textNewLimit  = "too many new addresses at once, try again in a few minutes"
	textSlowed    = "too many wrong passwords, try again in %d seconds"
	textOtherNode = "this store was made with another node key"
	textClosed    = "the server is stopping"
)
