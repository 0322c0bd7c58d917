package aliasname

import (
	"fmt"
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/anon"
	"postern.email/mail/verp"
)

// Lengths of a handle that a user chose, in characters.
const (
	MinCustom = 3
	MaxCustom = mail.MaxLocal
)

// roles are the names that belong to the office and not to a person (RFC 2142, and what
// certificate authorities and mail programs take for the administrator).
var roles = []string{
	"abuse", "admin", "administrator", "billing", "daemon", "dmarc", "ftp", "hostmaster", "info", "list", "list-request", "mailer-daemon",
	"marketing", "news", "nobody", "noc", "no-reply", "noreply", "postfix", "postmaster", "root", "sales", "security", "ssladmin",
	"ssladministrator", "sslwebmaster", "support", "sysadmin", "tls-reports", "tlsrpt", "usenet", "uucp", "webmaster", "www", "www-data",
}

// Public texts.
const (
	textLetters  = "an alias has only the characters a-z, 0-9, dot, underscore and hyphen, and no dot at an end or beside a dot"
	textReserved = "this name is reserved"
	textDerived  = "this name has the form of an alias that a program derives from a key; choose another"
)

// Custom checks a handle that a user chose, and folds it to lower case: [a-z0-9._-], MinCustom
// to MaxCustom characters, dots as in a dot-string (RFC 5321 §4.1.2), not a name of the office,
// not one that the office gives out itself, not of the derived form. errs.Invalid for the form,
// errs.Denied for a name that nobody may have.
func Custom(handle string) (string, error) {
	const op = "aliasname.Custom"
	h := mail.Address{Local: handle}.Canonical().Local
	if len(h) < MinCustom || len(h) > MaxCustom {
		return "", errs.E(op, errs.Invalid, fmt.Sprintf("an alias has %d to %d characters", MinCustom, MaxCustom), nil)
	}
	if !mail.PlainLocal(h) {
		return "", errs.E(op, errs.Invalid, textLetters, nil)
	}
	if Role(h) || anon.Reserved(mail.Address{Local: h}) || verp.Made(h) {
		return "", errs.E(op, errs.Denied, textReserved, nil)
	}
	if DerivedForm(h) {
		return "", errs.E(op, errs.Denied, textDerived, nil)
	}
	return h, nil
}

// Role reports whether a canonical local part is a name of the office.
func Role(local string) bool {
	return slices.Contains(roles, local) || strings.HasPrefix(local, "owner-") || strings.HasSuffix(local, "-owner")
}
