// Package mixnym keeps the reply addresses of a mail proxy's account alive: it makes them, feeds their
// relay with reply blocks by the clock, and tells when mail that names one may leave
// (docs/proxy-mail.md §7).
//
// The relay of an address sees when it is fed. So that the moments tell little of what its owner does,
// each address has a minute of the day of its own, drawn once; one that was missed, and one that an
// emptied stock asks for, is made up for at a moment that is drawn, for each address alone. Only a
// new address, and one for which mail waits, is fed at once. On the wire nothing is seen of any of
// this: requests leave at the ticks of the client's clock, in the place of packets that carry nothing.
package mixnym
