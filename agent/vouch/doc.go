// Package vouch answers one question for every mail that comes out of the mix network: who
// vouches for the sender that its From field names. It is "sender = login" on the road where
// nobody logs in.
//
// A relay signs a Certificate for each proxy account: this address has these keys. A mail
// (Mail) travels in a letter (mixnet/letter) with its sender's certificate, and the letter's
// proof signs all of it. Check is the one check of it, at all doors: the inbox of a proxy, the
// mailboxes of a relay, an exit. It takes a mail whose From is the address of the certificate, a
// mail that the account's own relay took by its own rules, or a mail in the anonymous form
// (mail/anon), and refuses everything else.
//
// docs/vouch.md is the format of certificates, mails and recipients. The package has no clock,
// disk or network.
package vouch

// Labels keep what is signed and hashed here apart from everything else.
const (
	labelCertificate = "postern/vouch: certificate\n"
	labelRecipient   = "postern/vouch: recipient\n"
	labelFingerprint = "postern/vouch: fingerprint\n"
)
