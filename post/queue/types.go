package queue

import (
	"encoding/hex"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/store"
)

// Bounds of one mail. Beyond: errs.TooLarge.
const (
	MaxRcpts    = 1000 // recipients; the row's number must fit into 16 bits
	MaxEnvID    = 100  // bytes (RFC 3461 §4.4)
	MaxTellID   = 255  // bytes of Mail.TellID
	MaxOriginal = 500  // bytes of the type and of the address of ORCPT (RFC 3461 §4.2)
	MaxWhy      = 500  // bytes of Result.Why; what is longer is cut
)

// ID is the random number of a mail in the queue.
type ID [16]byte

// String gives 32 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether id is no mail's number.
func (id ID) IsZero() bool { return id == ID{} }

// ParseID reads the form that String gives.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) == hex.EncodedLen(len(id)) {
		if _, err := hex.Decode(id[:], []byte(s)); err == nil && !id.IsZero() {
			return id, nil
		}
	}
	return ID{}, errs.E("post/queue.ParseID", errs.Invalid, "the number of a queued mail has 32 hex digits", nil)
}

// Kind says what a mail is.
type Kind uint8

// The kinds.
const (
	Submission Kind = 1 // a user sent it
	Report     Kind = 2 // we report on another mail (RFC 3464)
)

func (k Kind) valid() bool { return k == Submission || k == Report }

// String gives the kind's word.
func (k Kind) String() string {
	switch k {
	case Submission:
		return "submission"
	case Report:
		return "report"
	}
	return "unknown"
}

// What a report on the mail is to hold (RFC 3461 §4.3): Mail.Return.
const (
	ReturnUnset   = 0
	ReturnFull    = 1
	ReturnHeaders = 2
)

// Mail is what Prepare takes. Times are kept to the millisecond.
type Mail struct {
	From       mail.Address // zero: the null sender
	Tell       mail.Address // who hears what becomes of it, where From is not to; zero: From
	TellID     string       // its Message-ID as Tell knows it; empty: Tell is zero, or nobody knows
	EightBit   bool         // BODY=8BITMIME (RFC 6152)
	UTF8       bool         // SMTPUTF8 (RFC 6531)
	RequireTLS bool         // REQUIRETLS (RFC 8689)
	Verified   bool         // only to hosts that prove who they are, whatever the operator asks for
	Return     uint8        // ReturnUnset, ReturnFull, ReturnHeaders
	EnvID      string       // ENVID, decoded
	Kind       Kind
	Created    time.Time   // when it came, and first due; zero: now
	Expires    time.Time   // when to give up; zero: never
	Shard      store.Shard // where it lies: the sender's
	Head, Tail []byte      // the mail in two pieces; not changed, not kept
	Rcpts      []Rcpt
}

// Rcpt is one recipient.
type Rcpt struct {
	To              mail.Address
	Dest            string // canonical destination; empty: the domain of To
	Notify          uint8  // NOTIFY (RFC 3461 §4.1); the bits are the caller's
	OriginalType    string // ORCPT (RFC 3461 §4.2)
	OriginalAddress string
}

// Info is a Mail without its bytes and recipients.
type Info struct {
	From, Tell                 mail.Address
	TellID                     string
	EightBit, UTF8, RequireTLS bool
	Verified                   bool
	Return                     uint8
	EnvID                      string
	Kind                       Kind
	Created, Expires           time.Time
	Shard                      store.Shard
	Size                       int64 // exact bytes of the mail
}

// Waiting is a recipient that was not reached yet.
type Waiting struct {
	N int // number within the mail; stays the same
	Rcpt
	Tries   int       // deliveries that were tried
	LastWhy string    // what the last one ended with; empty before the first
	Since   time.Time // when the last one ended; before the first, Created of the mail
	Warned  bool      // Settle was told so: the sender knows that it waits
}

// Item is one mail with its due recipients at one destination, leased by Lease. It is for
// one goroutine at a time.
type Item struct {
	ID    ID
	Mail  Info
	Dest  string
	Rcpts []Waiting

	slot *slot // nil when the lease has ended
	rows []rcptRecord
}

// Outcome is what became of one recipient.
type Outcome uint8

// The outcomes.
const (
	Delivered Outcome = iota + 1
	Deferred          // to be tried again at Result.Due
	Failed            // given up
	Warned            // it goes on waiting as before, and its sender was told that it does
)

// Result is what became of one recipient of an Item.
type Result struct {
	N       int // Waiting.N
	Outcome Outcome
	Due     time.Time // of Deferred only
	Why     string    // of Deferred only; made one line of at most MaxWhy bytes
}

// Stats are counts of the moment.
type Stats struct {
	Mails      int   // in the queue, those set aside included
	Recipients int   // that still wait
	Held       int   // of them held by an operator
	Leased     int   // items that are being delivered
	Damaged    int   // mails that cannot be read in whole or in part
	Bytes      int64 // stored
	Oldest     time.Time
}

// oneLine makes a text one line of at most limit bytes.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

// millis is a time as it is kept; 0 is the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 1)
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
