// Package dsn builds delivery status notifications (RFC 3464, 6522, with the addresses of
// RFC 6533): the reports that tell a sender what became of a mail.
//
// A report has three parts: plain words for a person, fields for a program, and the header
// of the mail. The mail's text never goes back, also where it was asked for (RET=FULL, RFC
// 3461 §4.3): a report may take another way than the mail did.
//
// Other relays take unencrypted reports as an exception, when From is mailer-daemon, the
// type is multipart/report, Auto-Submitted is there and the DKIM signature is valid. So
// that it passes everywhere a report is 7-bit text with lines below 998 bytes; only a
// To address beyond ASCII needs a host with SMTPUTF8.
//
// What other servers said is shown, but it is a stranger's text: control characters and
// everything beyond ASCII are taken out and it is cut, so that it can add no field.
package dsn
