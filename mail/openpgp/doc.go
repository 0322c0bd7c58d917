// Package openpgp encrypts a whole mail to OpenPGP keys (RFC 9580, in the form of RFC 3156), for
// senders whose mail program does not, and reads the keys that mails carry (Autocrypt, level 1). It
// opens and signs nothing. Whether what it makes counts as encrypted is mail/pgpmime's question.
package openpgp
