// Package world is what stands for the ordinary Internet in a lab: a DNS server that has an
// answer for the lab's domains and for no other, and the mail host of one domain, with mailboxes, that
// sends and receives as mail hosts do: STARTTLS with a certificate, DKIM, MX records, a queue. It asks
// for no encryption and has no rules of its own.
//
// It is for a lab. It has a handful of accounts, and listens where it is told to.
package world
