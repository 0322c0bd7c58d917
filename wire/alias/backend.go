package alias

import (
	"context"
	"encoding/base64"
	"encoding/json"

	"postern.email/kit/limits"
)

// Who asks: with a token, or with the address and password of an account.
type Who struct {
	Token           string // 64 characters [A-Za-z0-9], not checked here; "": by login
	Login, Password string
	Peer            limits.Peer
}

// Backend keeps the aliases and decides who may do what with them. Errors carry their
// kind and a text for the person who asked; those of every method:
//
//   - errs.Auth: token, address or password is wrong, of all that there is to be wrong about
//     without saying which;
//   - errs.Denied: the token's scopes do not allow this, or policy refuses;
//   - errs.Busy: over a rate, of the token or of the peer's network;
//   - errs.NotFound: the owner has no such alias;
//   - errs.Invalid: a value is malformed; errs.Exists: the address is taken;
//   - errs.Full: the owner has as many as allowed.
//
// Methods may be called by many goroutines. An account that logs in and has no aliases
// yet is an owner of none.
type Backend interface {
	// Account says what the credential is good for.
	Account(ctx context.Context, w Who) (Account, error)
	Create(ctx context.Context, w Who, r CreateRequest) (View, error)
	// List gives one page, in an order of the backend's, and the cursor of the next one: "" at the
	// end. A page may hold less than Limit, also nothing, and have a next one.
	List(ctx context.Context, w Who, r ListRequest) (page []View, next string, err error)
	// Get finds deleted aliases, too, as long as they can be restored.
	Get(ctx context.Context, w Who, address string) (View, error)
	Change(ctx context.Context, w Who, address string, r ChangeRequest) (View, error)
	Delete(ctx context.Context, w Who, address string) error
	Restore(ctx context.Context, w Who, address string) (View, error)
	// AliasKey gives what a client derives aliases from, for which domains.
	AliasKey(ctx context.Context, w Who) (key [32]byte, domains []string, err error)
	// NewToken makes a further token of the same owner.
	NewToken(ctx context.Context, w Who, scopes []string, name string) (token string, err error)
	// Tokens lists the owner's tokens; RevokeToken ends one, by its ID. errs.NotFound when there is
	// none such.
	Tokens(ctx context.Context, w Who) ([]Token, error)
	RevokeToken(ctx context.Context, w Who, id string) error
	// RotateToken gives a new token in the place of the one that asks, which is then void.
	RotateToken(ctx context.Context, w Who) (token string, err error)
}

// Scopes of a token.
const (
	ScopeCreate = "create" // make aliases
	ScopeList   = "list"   // see them
	ScopeManage = "manage" // change and delete them
)

// Modes of an alias: which senders it takes mail from.
const (
	ModeOpen   = "open"       // any
	ModePinned = "pinned"     // the first that writes
	ModeAllow  = "allow-list" // those that its owner listed
	ModeAsk    = "ask"        // each is put off until its owner says
)

// Classes of an alias.
const (
	ClassStrict   = "strict"    // end-to-end encrypted mail alone
	ClassOpenMail = "open-mail" // ordinary mail, too, if its sender is vouched for
)

// States of an alias.
const (
	StateActive  = "active"
	StatePaused  = "paused"
	StateExpired = "expired"
	StateDeleted = "deleted" // can be restored for a while
)

// Styles of a handle that the server makes.
const (
	StyleWords  = "words"  // "amber-falcon-4821"
	StyleRandom = "random" // 18 characters
	StyleSite   = "site"   // "shop-4821", for the site that it is for
)

// Account is what a credential is good for.
type Account struct {
	Name    string   `json:"name"`    // of the owner, for people; "" when there is none
	Scopes  []string `json:"scopes"`  // as the constants
	Domains []string `json:"domains"` // in which aliases are made, first the default
	Style   string   `json:"style"`   // of handles, when a request says none
	Aliases int      `json:"aliases"` // that the owner has
	Max     int      `json:"max"`     // that the owner may have; 0: any number
}

// Token is a token as its owner sees it; the token itself is shown once, when it is made.
type Token struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Scopes   []string `json:"scopes"`
	Created  string   `json:"created"`   // day
	LastUsed string   `json:"last_used"` // day; "": never
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Name   string   `json:"name,omitempty"`
	Scopes []string `json:"scopes,omitempty"` // left out: all that the one who asks has; an empty list is an error
}

// CreateRequest asks for an alias. Everything may be empty: the server's defaults count then.
type CreateRequest struct {
	Style    string `json:"style,omitempty"`  // "words", "random", "site"
	Custom   string `json:"custom,omitempty"` // the handle, chosen by the user; Style is then "" or not looked at
	Domain   string `json:"domain,omitempty"`
	Site     string `json:"site,omitempty"` // host of the site that it is for
	Label    string `json:"label,omitempty"`
	Note     string `json:"note,omitempty"`
	Mode     string `json:"mode,omitempty"`
	Class    string `json:"class,omitempty"`
	Expires  string `json:"expires,omitempty"`   // RFC 3339, or a day "2026-12-31"; "": never
	MaxMails uint32 `json:"max_mails,omitempty"` // 0: any number
	IdleDays uint16 `json:"idle_days,omitempty"` // 0: never
}

// ListRequest asks for one page.
type ListRequest struct {
	Cursor string // "" for the first page, then as List gave it
	Limit  int    // 1 to MaxPage
	Search string // in address, site, label, note and correspondents, without case
	Site   string // only aliases for this site
	// Deleted asks for those that can be restored, instead of those that are there.
	Deleted bool
}

// ChangeRequest changes what is not nil.
type ChangeRequest struct {
	Paused   *bool   `json:"paused,omitempty"`
	Mode     *string `json:"mode,omitempty"`
	Class    *string `json:"class,omitempty"`
	Site     *string `json:"site,omitempty"`
	Label    *string `json:"label,omitempty"`
	Note     *string `json:"note,omitempty"`
	Expires  *string `json:"expires,omitempty"` // as in CreateRequest; "": never
	MaxMails *uint32 `json:"max_mails,omitempty"`
	IdleDays *uint16 `json:"idle_days,omitempty"`
	// Extend moves the end by so many days, from today or from the end, whichever is later.
	Extend *uint16 `json:"extend_days,omitempty"`
	// Allow, Block and Forget list senders, "name@example.org" or "@example.org". Forget takes
	// them off either list.
	Allow  []string `json:"allow,omitempty"`
	Block  []string `json:"block,omitempty"`
	Forget []string `json:"forget,omitempty"`
	// Pin makes this sender the only one, as if it had written first.
	Pin *string `json:"pin,omitempty"`
}

// View is an alias, as its owner sees it. Days are "2006-01-02", in UTC; "": never, or not yet.
type View struct {
	Address  string `json:"address"`
	Site     string `json:"site"`
	Label    string `json:"label"`
	Note     string `json:"note"`
	Mode     string `json:"mode"`
	Class    string `json:"class"`
	State    string `json:"state"`
	Derived  bool   `json:"derived"` // a client made it by itself
	Created  string `json:"created"` // day
	Last     string `json:"last"`    // day of the last mail
	Expires  string `json:"expires"` // RFC 3339; "": never
	MaxMails uint32 `json:"max_mails"`
	IdleDays uint16 `json:"idle_days"`
	Received uint32 `json:"received"`
	Refused  uint32 `json:"refused"`
	Sent     uint32 `json:"sent"`
	// Leaked says that somebody wrote who was not expected.
	Leaked         bool            `json:"leaked"`
	RestorableTill string          `json:"restorable_until,omitempty"` // day; of a deleted one
	Correspondents []Correspondent `json:"correspondents"`             // may be left out of pages of a list
}

// Correspondent is somebody who wrote to an alias, was written to, or is listed.
type Correspondent struct {
	Address string `json:"address"` // or "@domain"
	First   string `json:"first"`   // day
	Last    string `json:"last"`    // day
	// State is "pinned", "allowed", "blocked", "asks", "seen" or "written-to".
	State string `json:"state"`
	Mails uint32 `json:"mails"`
}

// States of a Correspondent.
const (
	SenderPinned    = "pinned"
	SenderAllowed   = "allowed"
	SenderBlocked   = "blocked"
	SenderAsks      = "asks"
	SenderSeen      = "seen"
	SenderWrittenTo = "written-to"
)

// Key is what a client derives aliases from (docs/aliases-derived.md).
type Key struct {
	Key     [32]byte
	Domains []string
}

// KeyVersion is the version of derived aliases.
const KeyVersion = 1

// MarshalJSON gives {"key": base64, "domains": […], "version": 1}.
func (k Key) MarshalJSON() ([]byte, error) {
	domains := k.Domains
	if domains == nil {
		domains = []string{}
	}
	return json.Marshal(map[string]any{"key": base64.StdEncoding.EncodeToString(k.Key[:]), "domains": domains, "version": KeyVersion})
}
