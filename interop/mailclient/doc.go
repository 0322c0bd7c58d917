// Package mailclient is the small SMTP and IMAP client of the interop tests
// and of the benchmark, and the maker of the mails they send.
//
// It is light on purpose (few allocations, one write a step) so that a load
// generator on the same cores does not become what is measured, and naive on
// purpose: it says what the server sent, and repairs nothing. It shares no code
// with the server.
package mailclient
