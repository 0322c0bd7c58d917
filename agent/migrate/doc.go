// Package migrate reads what other alias services give out of their users' aliases: the CSV files
// of SimpleLogin and addy.io, and the database of IncognitoMail. It only reads; what is made of
// it is up to the caller.
package migrate

import (
	"fmt"
	"time"

	"postern.email/mail"
)

// Entry is an alias of another service.
type Entry struct {
	Line    int          // of the file, from 1
	Address mail.Address // canonical
	Note    string       // its user's own words, at most MaxNote bytes
	Paused  bool         // it was turned off there
	Targets []string     // where its mail went, as the file says; the first is the main one
	Created time.Time    // zero: the file does not say
}

// Problem is something that was left out, or taken over otherwise than it stands there.
type Problem struct {
	Line    int    `json:"line,omitempty"`    // of a text file, from 1; 0: of the whole, or of a database
	Subject string `json:"subject,omitempty"` // an address or handle; for its user's eyes, not for a log
	Text    string `json:"text"`
}

func (p Problem) String() string {
	s := p.Text
	if p.Subject != "" {
		s = p.Subject + ": " + s
	}
	if p.Line > 0 {
		s = fmt.Sprintf("line %d: %s", p.Line, s)
	}
	return s
}

// Bounds of what is read.
const (
	MaxFile    = 64 << 20 // bytes of a CSV file
	MaxRow     = 1 << 20  // bytes of one alias in it
	MaxEntries = 100_000  // aliases of one file
	MaxNote    = 4096     // bytes of a note; a longer one is cut

	maxColumns = 256
	maxName    = 64 // bytes that are shown of a column's name
)
