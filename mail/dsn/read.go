package dsn

import (
	"bytes"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/mime"
)

// MaxRead bounds a report that is read, in bytes: what stands behind them in a mail is not looked at.
const MaxRead = 256 << 10

// Returned is one recipient in a report of another host, as far as it can be read.
type Returned struct {
	Final      string // address, without its type; "" where there is none
	Action     Action
	Status     string // "5.1.1"; "" where there is none
	Diagnostic string // without its type; cleaned, at most MaxDiagnostic bytes
}

// Read gives the recipients of a report (RFC 3464) that another host made, and the header of the mail that it is
// about, nil where it has none. errs.NotFound for a mail that is no such report; errs.Invalid for what cannot
// be read as a mail. Of more than MaxRecipients the first count.
func Read(raw []byte) (rcpts []Returned, header []byte, err error) {
	const op = "mail/dsn.Read"
	raw = raw[:min(len(raw), MaxRead)]
	root, err := mime.Parse(raw)
	if err != nil {
		return nil, nil, errs.Wrap(op, err)
	}
	if !root.Is("multipart/report") {
		return nil, nil, errs.E(op, errs.NotFound, "the mail is no report", nil)
	}
	for _, p := range root.Parts {
		body := raw[p.BodyStart:p.BodyEnd]
		switch {
		case p.Is("message/delivery-status"), p.Is("message/global-delivery-status"):
			rcpts = append(rcpts, readFields(body)...)
		case p.Is("text/rfc822-headers"), p.Is("message/global-headers"):
			header = body
		case p.Message != nil:
			header = raw[p.Message.HeaderStart:p.Message.BodyStart]
		}
	}
	if len(rcpts) == 0 {
		return nil, nil, errs.E(op, errs.NotFound, "the report names no recipient", nil)
	}
	return rcpts[:min(len(rcpts), MaxRecipients)], header, nil
}

// readFields reads the groups of fields behind the first, which is about the mail.
func readFields(body []byte) (out []Returned) {
	body = bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	for group := range bytes.SplitSeq(body, []byte("\n\n")) {
		h, _, _ := mail.ParseHeader(bytes.TrimLeft(group, "\n"))
		r := Returned{Final: afterType(h.Get("Final-Recipient")), Status: h.Get("Status"), Diagnostic: clean(afterType(h.Get("Diagnostic-Code")), MaxDiagnostic)}
		if r.Final == "" {
			r.Final = afterType(h.Get("Original-Recipient"))
		}
		word := strings.ToLower(h.Get("Action"))
		for a, name := range actionNames {
			if name != "" && name == word {
				r.Action = Action(a)
			}
		}
		if r.Action == 0 {
			continue
		}
		// "5.1.1 (no such user)" is not allowed, and written.
		r.Status, _, _ = strings.Cut(r.Status, " ")
		if !(Recipient{Action: r.Action, Status: r.Status}).fits() {
			r.Status = ""
		}
		if out = append(out, r); len(out) == MaxRecipients {
			break
		}
	}
	return out
}

// afterType gives what stands behind "rfc822;" and the like.
func afterType(v string) string {
	if _, after, ok := strings.Cut(v, ";"); ok {
		v = after
	}
	return strings.TrimSpace(v)
}
