// Package checkup is the form in which a doctor command says what it looked at.
package checkup

import "fmt"

// Diagnosis is one thing that was looked at.
type Diagnosis struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Advice bool   `json:"advice,omitempty"` // it is not as it should be, but mail comes and goes
	Text   string `json:"text"`             // what was found
	Next   string `json:"next,omitempty"`   // what to do about it
}

// List is what was found so far.
type List []Diagnosis

// OK adds a thing that is as it should be.
func (l *List) OK(what, format string, args ...any) {
	*l = append(*l, Diagnosis{What: what, OK: true, Text: fmt.Sprintf(format, args...)})
}

// Fault adds one that is not, with what to do about it.
func (l *List) Fault(what, next, format string, args ...any) {
	*l = append(*l, Diagnosis{What: what, Text: fmt.Sprintf(format, args...), Next: next})
}

// Advise adds one that could be better.
func (l *List) Advise(what, next, format string, args ...any) {
	*l = append(*l, Diagnosis{What: what, Advice: true, Text: fmt.Sprintf(format, args...), Next: next})
}

// Faults counts what is not in order; advice is none.
func (l List) Faults() int {
	n := 0
	for _, d := range l {
		if !d.OK && !d.Advice {
			n++
		}
	}
	return n
}
