// Package exit is the way of mail out of the mix network into the world, by SMTP: mixminiond's
// Delivery/SMTP, and the tokens that limit it.
//
// An Exit takes what agent/vouch.Check says of a mail, and sends it on or refuses it: who may
// send (a token that a relay of the network gave), to whom (the operator's list, and recipients
// who blocked themselves by one click), how much (to one recipient, to one domain, in all, a
// day), and in which form (a fixed set of fields; From is the anonymous form or an address that
// is vouched for). It hands over to the queue (agent/deliver) and remembers on the disk what
// must not happen twice.
//
// An Issuer is the other end of the tokens: a relay that gives them to its accounts. Issuer and
// Exit need not be at one relay, and neither learns who used a token. docs/exit.md is the format
// and the rules.
package exit
