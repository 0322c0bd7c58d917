package mbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/content"
)

// Bounds of an address file.
const (
	MaxLine  = 1024 // bytes, with its end
	MaxNames = 1 << 16
)

// Addresses are the names of an address file, and who stands behind them.
type Addresses struct{ names map[string]mail.Address }

// ParseAddresses reads an address file as mixminiond has it: a line "name: address" (or "=" for
// the colon) for each; empty lines and those that begin with # are passed over, and so is what
// follows a # behind an address. Names are compared with their capitals. An address without a host is one
// on this machine. The last of two lines for one name counts. errs.Invalid and errs.TooLarge,
// whose public text names the line; errs.Unavailable where r fails.
func ParseAddresses(r io.Reader) (*Addresses, error) {
	const op = "agent/mbox.ParseAddresses"
	a := &Addresses{names: make(map[string]mail.Address)}
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, MaxLine), MaxLine)
	n := 0
	for in.Scan() {
		n++
		line := strings.TrimSpace(in.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, addr, err := parseLine(line)
		if err != nil {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("line %d: %s", n, errs.Public(err)), err)
		}
		if a.names[name] = addr; len(a.names) > MaxNames {
			return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("line %d: more than %d names", n, MaxNames), nil)
		}
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("line %d: longer than %d bytes", n+1, MaxLine), nil)
	case err != nil:
		return nil, errs.E(op, errs.Unavailable, "", err)
	}
	return a, nil
}

func parseLine(line string) (name string, addr mail.Address, err error) {
	const op = "agent/mbox.parseLine"
	i := strings.IndexAny(line, ":=")
	if i < 0 {
		return "", addr, errs.E(op, errs.Invalid, "not of the form name: address", nil)
	}
	name, rest := strings.TrimSpace(line[:i]), strings.TrimSpace(line[i+1:])
	if name == "" || len(name) > content.MaxName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return "", addr, errs.E(op, errs.Invalid, "not a name of up to 255 bytes without white space", nil)
	}
	text, comment := rest, ""
	if i := strings.IndexAny(rest, " \t"); i >= 0 {
		text, comment = rest[:i], strings.TrimSpace(rest[i:])
	}
	if comment != "" && comment[0] != '#' {
		return "", addr, errs.E(op, errs.Invalid, "more than one address", nil)
	}
	if addr, err = mail.ParseAddress(text); err != nil {
		addr, err = mail.ParseAddress(text + "@localhost")
	}
	if err != nil || text == "" {
		return "", addr, errs.E(op, errs.Invalid, "not a mail address", nil)
	}
	return name, addr, nil
}

// Find gives the address behind a name.
func (a *Addresses) Find(name string) (addr mail.Address, ok bool) {
	addr, ok = a.names[name]
	return addr, ok
}

// Len is the number of names.
func (a *Addresses) Len() int { return len(a.names) }
