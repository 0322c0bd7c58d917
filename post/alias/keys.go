package alias

import (
	"encoding/hex"

	"postern.email/kit/errs"
	"postern.email/post/seal"
)

// Letters of keys. See the package documentation.
const (
	letterOwner = 'o'
	letterToken = 'h'

	kindAlias = 'a'
	kindKey   = 'k'
	kindOwner = 'o'
	kindToken = 't'
	kindVault = 'v'

	partPerson = 'c'
	partRules  = 'a'
	partState  = 's'
	partSent   = 'm'
)

const (
	placeLen = 20
	tagLen   = 16
	idLen    = 8
	// headLen is the length of an alias's keys up to the part.
	headLen = 1 + len(seal.AccountID{}) + 1 + placeLen
)

// place is where an alias lies among those of its owner.
type place [placeLen]byte

// tag is the keyed hash by which an alias knows a correspondent.
type tag [tagLen]byte

func ownerPrefix(o Owner, kind byte) []byte { return append(o.PrefixOf(letterOwner), kind) }

func ownerKey(o Owner) []byte { return ownerPrefix(o, kindOwner) }
func vaultKey(o Owner) []byte { return ownerPrefix(o, kindVault) }
func keyKey(o Owner) []byte   { return ownerPrefix(o, kindKey) }

func tokenKey(o Owner, id [idLen]byte) []byte { return append(ownerPrefix(o, kindToken), id[:]...) }

func aliasPrefix(o Owner, p place) []byte { return append(ownerPrefix(o, kindAlias), p[:]...) }

func rulesKey(o Owner, p place) []byte { return append(aliasPrefix(o, p), partRules) }
func stateKey(o Owner, p place) []byte { return append(aliasPrefix(o, p), partState) }
func sentKey(o Owner, p place) []byte  { return append(aliasPrefix(o, p), partSent) }

func personKey(o Owner, p place, t tag) []byte {
	return append(append(aliasPrefix(o, p), partPerson), t[:]...)
}

func placeKey(p [placeLen]byte) []byte { return append([]byte{letterToken}, p[:]...) }

func idText(id [idLen]byte) string { return hex.EncodeToString(id[:]) }

func parseID(s string) (id [idLen]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != idLen {
		return id, errs.E("post/alias.parseID", errs.NotFound, textNoToken, nil)
	}
	return [idLen]byte(b), nil
}

// Public texts.
const (
	textNoToken     = "there is no token with this number"
	textNoAlias     = "there is no such alias"
	textNotOurs     = "this is no domain of aliases"
	textForm        = "this name cannot be an alias"
	textDerived     = "only the key of its owner makes a name of this form"
	textPast        = "the end of an alias lies ahead"
	textFar         = "the end of an alias lies before the year 10000"
	textLong        = "site and label have at most 255 bytes, a note at most 4096"
	textTaken       = "this name is taken"
	textMost        = "you have as many aliases as you may: delete one first"
	textMostDeleted = "you have deleted as many aliases as you may, and each keeps its name for ever: restore one of them, or ask the operator for more"
	textMostDead    = "you have deleted as many aliases as you may: pause this one instead"
	textMostTokens  = "there are as many tokens as there may be: revoke one first"
	textMostRules   = "an alias has no room for more allowed and blocked senders"
	textPerson      = "a sender is an address, or @ and a domain"
	textMode        = "the mode is open, pinned, allow-list or ask"
	textClass       = "the class is strict or open-mail"
	textScope       = "a token is for one or more of: create, list, manage"
	textTokenName   = "the name of a token has at most 64 bytes, without control characters"
	textTokenForm   = "a token has 64 letters and digits"
	textTakenToken  = "this token is known already"
	textToken       = "the token is wrong"
	textLastToken   = "this is the only token that opens these aliases: make another first"
	textBegun       = "this owner has begun before"
	textNoOwner     = "there is no such owner"
	textVault       = "the vault is closed"
	textTries       = "too many addresses were tried, try again later"
	textUndo        = "this alias can not be restored any more"
	textChangedFast = "the alias was changed at the same time"
	textVerdict     = "the alias has changed meanwhile"
	textCursor      = "this is no place in the list"
	textTarget      = "the address where mail goes is not an alias, and is needed where there is no mailbox here"
)
