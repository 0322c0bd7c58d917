package forward

import "postern.email/wire/smtp"

// The replies to other hosts. None tells that an alias leads elsewhere, or where.
var (
	replyUnknown   = &smtp.Reply{Code: 550, Enhanced: "5.1.1", Text: "Recipient address rejected: User unknown"}
	replyBlocked   = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "Recipient address rejected: this sender is not accepted here"}
	replyPaused    = &smtp.Reply{Code: 450, Enhanced: "4.2.1", Text: "Recipient address rejected: the mailbox takes no mail now, try again later"}
	replyAsked     = &smtp.Reply{Code: 450, Enhanced: "4.2.1", Text: "Recipient address rejected: the mailbox is not ready yet, try again later"}
	replyLoop      = &smtp.Reply{Code: 554, Enhanced: "5.4.6", Text: "this mail goes in a circle"}
	replyNotTarget = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "Recipient address rejected: only the mailbox that mail was sent on to may write to this address, and its domain must vouch for it (DKIM or SPF)"}
	replyAuto      = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "automatic answers are not sent on"}
	replySigned    = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "this mail is signed in a way that shows who you are (S/MIME); send it unsigned"}
	replyCleartext = &smtp.Reply{Code: 523, Text: "Encryption Needed: Invalid Unencrypted Mail"}
	replyOneAlias  = &smtp.Reply{Code: 550, Enhanced: "5.7.1", Text: "one mail is an answer as one alias: send separately"}
	replyMalformed = &smtp.Reply{Code: 554, Enhanced: "5.6.0", Text: "malformed message"}
	replyHeader    = &smtp.Reply{Code: 554, Enhanced: "5.6.0", Text: "message header too large"}
)
