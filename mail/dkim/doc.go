// Package dkim verifies and makes DKIM signatures (RFC 6376, with Ed25519 by RFC 8463 and
// the algorithm rules of RFC 8301). It does no input and output of its own: looking up
// keys is passed in, and so are the keys that sign.
//
// Verifier answers one question: does this mail carry a valid signature of exactly this
// domain, or of one that the caller counts? Signatures of other domains are not verified and cost no look-up. Signer signs
// the mails of one domain; Record and ZoneLine are what the domain has to publish.
//
// Where the RFCs leave a choice:
//
//   - A signature with l= is taken only when it covers the whole body: behind a shorter
//     one anybody could add text (RFC 6376 §8.2).
//   - Every From field must be signed: a second one that the signature does not cover
//     could be the one that is shown (RFC 6376 §8.15).
//   - rsa-sha1, and RSA keys under 1024 bits, are never valid (RFC 8301 §3).
//   - A key in test mode (t=y) is a key like others: mail without a valid signature is
//     refused anyway, so it is treated no worse than unsigned mail (RFC 6376 §3.6.1).
//   - Key records with white space, quotes or backslashes in them, as careless zone files
//     produce, are read as if those were not there; no tag that counts may hold any.
package dkim
