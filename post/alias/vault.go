package alias

import (
	"context"
	"slices"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

// What is sealed to the vault, and for what.
const (
	purposeSeed      = "alias-vault"
	purposeNotes     = "alias-notes"
	purposePerson    = "alias-person"
	purposeTokenName = "alias-token-name"
)

// Vault is an owner's own key pair for labels and correspondents, opened by a token or the
// account's key. Safe for use by many goroutines. After Close its methods fail with
// errs.Unavailable.
type Vault struct {
	secret.Hidden
	Owner Owner

	key      *seal.Opened
	aliasKey [32]byte
	hasToken bool        // it was opened with a token
	id       [idLen]byte // of that token
}

// Close erases the key.
func (v *Vault) Close() {
	v.key.Close()
	clear(v.aliasKey[:])
}

// AliasKey is the key of the owner's derived aliases (mail/aliasname).
func (v *Vault) AliasKey() [32]byte { return v.aliasKey }

// TokenID is the number of the token that opened the vault; "": the account's key did.
func (v *Vault) TokenID() string {
	if !v.hasToken {
		return ""
	}
	return idText(v.id)
}

// Notes opens what only the owner reads of an alias; correspondents come with those seen last
// first. Of an alias that comes from Lookup it reads their addresses from the store, of others it
// needs nothing. errs.Denied when the alias is another owner's. What cannot be opened of a
// correspondent is left out.
func (v *Vault) Notes(a *Alias) (Notes, error) {
	const op = "post/alias.Notes"
	if a.Owner != v.Owner {
		return Notes{}, errs.E(op, errs.Denied, "", nil)
	}
	n, err := v.notes(a)
	if err != nil {
		return Notes{}, errs.Wrap(op, err)
	}
	sealed := a.names
	if sealed == nil && a.Stored && len(a.people) > 0 {
		if sealed, err = a.readNames(); err != nil {
			return Notes{}, errs.Wrap(op, err)
		}
	}
	p := a.place()
	for _, who := range slices.Backward(a.people) {
		c := Correspondent{First: who.first, Last: who.last, Mails: who.mails, State: who.state()}
		if b, ok := sealed[who.tag]; ok {
			name, err := v.key.OpenTo(purposePerson, personKey(a.Owner, p, who.tag), b)
			switch {
			case err == nil:
				c.Address = string(name)
			case !is(err, errs.Corrupt):
				return Notes{}, errs.Wrap(op, err)
			}
		}
		n.Correspondents = append(n.Correspondents, c)
	}
	return n, nil
}

// notes opens the notes without correspondents.
func (v *Vault) notes(a *Alias) (Notes, error) {
	if len(a.Vaulted) == 0 {
		return Notes{}, nil
	}
	plain, err := v.key.OpenRecord(purposeNotes, rulesKey(a.Owner, a.place()), a.Vaulted)
	if is(err, errs.Corrupt) {
		// Sealed to a vault that is gone: the account was reset.
		return Notes{}, nil
	}
	if err != nil {
		return Notes{}, err
	}
	return decodeNotes(plain)
}

// sealNotes gives what is stored of notes; nothing of empty ones.
func (v *Vault) sealNotes(p place, n Notes) ([]byte, error) {
	if n.Site == "" && n.Label == "" && n.Note == "" {
		return nil, nil
	}
	return v.key.SealRecord(purposeNotes, rulesKey(v.Owner, p), n.encode())
}

// checkNotes refuses notes that are too long.
func checkNotes(n Notes) error {
	if len(n.Site) > MaxSite || len(n.Label) > MaxLabel || len(n.Note) > MaxNote {
		return errs.E("post/alias.checkNotes", errs.TooLarge, textLong, nil)
	}
	return nil
}

// place is where the alias lies.
func (a *Alias) place() place { return place(a.reg.o.Root.AliasPlace(a.Owner, a.Address)) }

// readNames reads the sealed addresses of the correspondents.
func (a *Alias) readNames() (map[tag][]byte, error) {
	whole := &Alias{Owner: a.Owner}
	err := a.reg.o.Store.View(context.Background(), a.Owner.Shard(), func(r store.Reader) error { return getNames(r, whole, a.place()) })
	return whole.names, err
}

// state gives the word for a person.
func (p *person) state() string {
	for _, s := range []struct {
		bit  byte
		word string
	}{{isBlocked, StateBlocked}, {isPinned, StatePinned}, {isAllowed, StateAllowed}, {isWritten, StateWrittenTo}, {isAsking, StateAsks}} {
		if p.is&s.bit != 0 {
			return s.word
		}
	}
	return StateSeen
}

// personText is how a correspondent or the domain of a rule is written.
func personText(addr mail.Address) string {
	addr = addr.Canonical()
	if addr.Local == "" {
		return "@" + addr.Domain
	}
	return addr.String()
}

// CheckSender says whether Change can take s for a sender: errs.Invalid when it is neither an address
// nor "@domain".
func CheckSender(s string) error { _, err := parsePerson(s); return err }

// parsePerson reads what personText gives.
func parsePerson(s string) (mail.Address, error) {
	bad := errs.E("post/alias.parsePerson", errs.Invalid, textPerson, nil)
	domain := false
	if len(s) > 0 && s[0] == '@' {
		s, domain = "x"+s, true
	}
	addr, err := mail.ParseAddress(s)
	if err != nil {
		return mail.Address{}, bad
	}
	addr = addr.Canonical()
	if domain {
		addr.Local = ""
	}
	return addr, nil
}
