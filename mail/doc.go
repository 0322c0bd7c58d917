// Package mail holds the pure values of mail: addresses, headers, address lists,
// dates. No I/O, no globals, no policy.
package mail
