package seal

// aliasForward is hashed under the key for aliases; see alias.go.
const aliasForward = 'f'

// ForwardKey is the key under which return and reverse addresses are made (mail/verp) for mail that is
// sent on to mailboxes elsewhere.
func (r *Root) ForwardKey() [KeyLen]byte { return r.aliasSum(aliasForward) }
