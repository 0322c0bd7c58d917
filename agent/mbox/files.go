package mbox

import "postern.email/agent/parts"

// Mails and fragments lie in files of the shared form.
type (
	handle = parts.Handle
	prefix = parts.State
)

const (
	inp  = parts.Inp
	msg  = parts.Msg
	crp  = parts.Crp
	inpm = parts.Inpm
	meta = parts.Meta
	rmvm = parts.Rmvm
	crpm = parts.Crpm
)
