package dsn

import (
	"bytes"
	"strings"

	"postern.email/mail"
)

// subject names the worst that is reported.
func (r *Report) subject() string {
	switch r.worst() {
	case Failed:
		return "Mail could not be delivered"
	case Delayed:
		return "Mail is not delivered yet"
	}
	return "Mail was delivered"
}

func (r *Report) worst() Action {
	least := Expanded
	for _, x := range r.Recipients {
		least = min(least, x.Action)
	}
	return least
}

// sections are the words for each action, in this order.
var sections = [...]struct {
	action Action
	head   string
	tail   string // may be empty
}{
	{Failed, "Your mail could not be delivered to:",
		"This server has given up for these addresses and keeps no copy of the mail for them. The mail itself is not lost: it is where " +
			"your mail program keeps what you have sent. Send it again from there once the reason above is out of the way."},
	{Delayed, "Your mail is not yet delivered to:",
		"The mail is safe: it waits on this server, which goes on trying. There is nothing for you to do. You will be told if it has to give up, unless you asked not to be."},
	{Delivered, "Your mail was delivered to the mailbox of:", ""},
	{Relayed, "Your mail was handed on, to a server that sends no such reports, for:",
		"Nothing more will be told about these addresses, unless delivery fails later."},
	{Expanded, "Your mail was delivered to a list of addresses, and sent on to them:", ""},
}

// words writes the part for people.
func (r *Report) words(b *bytes.Buffer) {
	who := r.Reporter
	if who == "" {
		who = "the mail server of " + mail.CanonicalDomain(r.Domain)
	}
	wrapped(b, "", "This is "+who+". It tells you what became of a mail that you sent.")
	for _, s := range sections {
		first := true
		for _, x := range r.Recipients {
			if x.Action != s.action {
				continue
			}
			if first {
				head := s.head
				if s.action == Delivered && r.Delivered != "" {
					head = r.Delivered
				}
				b.WriteString("\r\n")
				wrapped(b, "", head)
				first = false
			}
			b.WriteString("\r\n")
			r.recipient(b, x)
		}
		if !first && s.tail != "" {
			b.WriteString("\r\n")
			wrapped(b, "", strings.Replace(s.tail, self, r.self(), 1))
		}
	}
	b.WriteString("\r\n")
	text := "What follows is the same for programs, and the header of your mail."
	if r.Full {
		text = "You asked for the whole mail to be sent back. This server sends back the header only. " + text
	}
	wrapped(b, "", text)
}

// self is what the words call the one who reports.
const self = "This server"

func (r *Report) self() string {
	if r.Reporter != "" {
		return "It" // named in the first sentence
	}
	return self
}

// recipient writes what is told about one recipient.
func (r *Report) recipient(b *bytes.Buffer, x Recipient) {
	b.WriteString("  " + shown(x.Final) + "\r\n")
	if why := reason(x.status()); why != "" && (x.Action == Failed || x.Action == Delayed) {
		wrapped(b, "    ", why)
	}
	if said := clean(x.Diagnostic, MaxDiagnostic); said != "" {
		who := "The other server"
		if h := host(x.Remote); h != "" {
			who = h
		} else if x.Remote == "" {
			who = r.self()
		}
		wrapped(b, "    ", who+" said: "+said)
	}
	if x.Action == Delayed && !x.RetryUntil.IsZero() {
		wrapped(b, "    ", "It is tried again until "+minute(x.RetryUntil)+".")
	}
}

// reasons are words for the codes of RFC 3463 that senders can do something about.
var reasons = map[string]string{
	"1.1":  "There is no such address. Look for a slip in it, or ask for the right one.",
	"1.2":  "There is no such domain, or it takes no mail. Look for a slip behind the @.",
	"1.3":  "The address is malformed.",
	"1.6":  "The mailbox has moved and left no new address.",
	"1.10": "The domain takes no mail.",
	"2.1":  "The mailbox is closed.",
	"2.2":  "The mailbox is full. Try again later, or reach the owner in another way.",
	"2.3":  "The mail is too large for this mailbox. Send less at a time.",
	"3.4":  "The mail is too large for the other server. Send less at a time.",
	"4.1":  "The other server does not answer.",
	"4.3":  "The way to the other server could not be found out.",
	"4.4":  "The way to the other server could not be found out.",
	"4.6":  "The mail goes round in a circle between servers.",
	"4.7":  "The other server could not be reached in all the time in which it was tried.",
	"6.7":  "The other server cannot take an address or header beyond ASCII.",
	"7.1":  "The other server refuses the mail by its rules.",
	"7.4":  "The other server offers no connection that is safe enough for this mail.",
	"7.5":  "The other server offers no connection that is safe enough for this mail.",
	"7.10": "The other server offers no connection that is safe enough for this mail.",
	"7.30": "REQUIRETLS was asked for, and the other server does not promise it.",
}

func reason(status string) string {
	_, code, _ := strings.Cut(status, ".")
	return reasons[code]
}
