package account

import (
	"fmt"
	"time"

	"postern.email/kit/day"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
)

// Class is the policy class of an account (DESIGN §2.3).
type Class uint8

const (
	// Strict accounts take and send only end-to-end encrypted mail.
	Strict Class = iota
	// OpenMail accounts also take ordinary mail, sealed on arrival.
	OpenMail
	numClasses
)

// String gives the word used in commands and listings.
func (c Class) String() string {
	switch c {
	case Strict:
		return "strict"
	case OpenMail:
		return "open-mail"
	}
	return "unknown"
}

// ParseClass reads what String gives.
func ParseClass(s string) (Class, error) {
	for c := range numClasses {
		if s == c.String() {
			return c, nil
		}
	}
	return 0, errs.E("account.ParseClass", errs.Invalid, "the class is strict or open-mail", nil)
}

// Day is the day on which something was: times of accounts are kept no finer.
type Day = day.Day

// DayOf gives the day of t.
func DayOf(t time.Time) Day { return day.Of(t) }

// Account is the record of an account as it is at one moment.
type Account struct {
	ID              seal.AccountID
	Address         mail.Address // canonical
	Class           Class
	Blocked         bool  // may not log in; mail to it is refused
	AcceptCleartext bool  // its owner opened it for unencrypted mail
	Quota           int64 // bytes; 0 = the server's default
	Created         Day
	LastLogin       Day // 0: never
	Public          seal.PublicKey
}

// String shows the number only: a record must not bring an address into a log.
func (a Account) String() string { return fmt.Sprintf("account %s", a.ID) }
