package alias

import (
	"fmt"
	"time"

	"postern.email/kit/day"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/seal"
)

// Owner is whose aliases they are: the number of an account of this relay, or one of
// an owner without a mailbox here, whose mail goes to an address elsewhere.
type Owner = seal.AccountID

// Mode says whose mail an alias takes.
type Mode uint8

const (
	ModeOpen      Mode = iota // everybody's
	ModePinned                // the first sender's, who is remembered by it
	ModeAllowList             // only of those who are allowed, or were written to
	ModeAsk                   // of others only after the owner allowed them: until then it is put off
	numModes
)

var modeNames = [numModes]string{"open", "pinned", "allow-list", "ask"}

// String gives the word used in commands and answers.
func (m Mode) String() string {
	if m < numModes {
		return modeNames[m]
	}
	return "unknown"
}

// ParseMode reads what String gives.
func ParseMode(s string) (Mode, error) {
	for m, name := range modeNames {
		if s == name {
			return Mode(m), nil
		}
	}
	return 0, errs.E("alias.ParseMode", errs.Invalid, "the mode is open, pinned, allow-list or ask", nil)
}

// Class says what form mail to and from an alias must have.
type Class uint8

const (
	Strict   Class = iota // end-to-end encrypted mail only
	OpenMail              // also ordinary mail whose sender's domain vouches for it; it is sealed when it comes
	numClasses
)

// String gives the word used in commands and answers.
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
	return 0, errs.E("alias.ParseClass", errs.Invalid, "the class is strict or open-mail", nil)
}

// Day is a day; times of aliases are kept no finer, but for their end.
type Day = day.Day

// DayOf gives the day of t.
func DayOf(t time.Time) Day { return day.Of(t) }

// Alias is an alias as it is at one moment. Nobody may change it: it is shared.
type Alias struct {
	Address mail.Address // canonical
	Owner   Owner
	Derived bool // its owner's client made it from the alias key
	Stored  bool // false: a derived alias that has got no mail yet

	Mode      Mode
	PinDomain bool // a pin takes everybody of the first sender's registrable domain
	Paused    bool
	Class     Class
	Created   Day       // of a derived alias the day on which it was stored
	Expires   time.Time // zero: never
	MaxMails  uint32    // it ends with so many received mails; 0: any number
	IdleDays  uint16    // it ends when nothing came for longer; 0: never
	Deleted   Day       // 0: it is not; else the day. Only Trash gives such ones

	Received, Refused, Sent uint32
	Last                    Day  // on which mail came or went last; 0: never
	Noticed                 bool // its owner was told that it ends soon

	// Vaulted is what Vault.Notes opens: sealed to the owner.
	Vaulted []byte

	people  []person
	tags    [16]byte // the key of their tags
	base    uint32   // received when the count was begun anew
	since   Day      // idleness is counted from here at the earliest
	askDays int
	names   map[tag][]byte // addresses of people, sealed; nil: not read
	reg     *Aliases
}

// String shows the number of the owner only: an alias must not bring an address into a log.
func (a *Alias) String() string { return fmt.Sprintf("an alias of %s", a.Owner) }

// Notes is what only the owner reads.
type Notes struct {
	Site  string // for whom it was made, "shop.example"; at most MaxSite bytes
	Label string // at most MaxLabel bytes
	Note  string // at most MaxNote bytes

	// Correspondents are written by the server; New and Change do not take them.
	Correspondents []Correspondent
}

// Lengths of notes in bytes.
const (
	MaxSite  = 255
	MaxLabel = 255
	MaxNote  = 4096
)

// Correspondent is somebody who wrote to an alias or was written to, or a rule of its owner.
type Correspondent struct {
	Address     string // or "@domain" for a rule about a domain; empty when it cannot be opened
	First, Last Day    // of mail; 0: none yet
	State       string // one of the State words
	Mails       uint32 // received from it
}

// States of correspondents; the first that fits.
const (
	StateBlocked   = "blocked"    // by the owner
	StatePinned    = "pinned"     // was the first to write
	StateAllowed   = "allowed"    // by the owner
	StateWrittenTo = "written-to" // the owner wrote to it as the alias
	StateAsks      = "asks"       // wrote to an alias that asks; the owner has not said yes
	StateSeen      = "seen"       // wrote, unexpected
)

// Action is what is to be done with a mail.
type Action uint8

const (
	Take    Action = iota
	Refuse         // this sender is not accepted
	Later          // the owner is asked: put it off
	Expired        // the alias has ended
	Paused         // its owner paused it
)

var actionNames = [...]string{"take", "refuse", "later", "expired", "paused"}

// String gives the word.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return "unknown"
}

// Verdict is what an alias's own rules say of a mail.
type Verdict struct {
	Action   Action
	Expected bool // its sender is pinned, allowed, or was written to
	Pins     bool // with this mail its sender becomes the pinned one
	Asks     bool // with Later: the first of this sender, of which the owner is to be told
	Blocked  bool // with Refuse: the owner blocked the sender, or its domain
}

// New is an alias to be made.
type New struct {
	Local     string // checked and made by mail/aliasname
	Domain    string // "": the first of Options.Domains
	Mode      Mode
	PinDomain bool
	Class     Class
	Expires   time.Time
	MaxMails  uint32
	IdleDays  uint16
	Notes     Notes
}
