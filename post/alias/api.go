package alias

import (
	"context"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/secret"
	"postern.email/mail"
	"postern.email/post/seal"
	"postern.email/store"
)

const secretLen = 16

type tag [16]byte
type person struct{}

func todo(op string) error { return errs.E("post/alias."+op, errs.Unsupported, "", nil) }

// Aliases is the office's register of aliases. Safe for use by many goroutines.
type Aliases struct{ o Options }

// Open opens the aliases in o.Store. errs.Invalid when the options make no sense.
func Open(ctx context.Context, o Options) (*Aliases, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	return &Aliases{o: o}, nil
}

// Run does the housekeeping until ctx ends; it gives nil.
func (a *Aliases) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ours reports whether addr lies in a domain of aliases.
func (a *Aliases) Ours(addr mail.Address) bool { return false }

// BeginOptions is how an owner begins.
type BeginOptions struct {
	Target  mail.Address // where its mail goes, elsewhere; zero: into its mailbox here
	Account *seal.Opened // wraps the key to its labels; nil where there is no account
}

// Begin makes an owner: errs.Exists when it has begun before.
func (a *Aliases) Begin(ctx context.Context, owner Owner, o BeginOptions) (*Vault, error) {
	return nil, todo("Begin")
}

// ByAccount opens an owner's vault with the account's key: errs.NotFound before Begin.
func (a *Aliases) ByAccount(ctx context.Context, key *seal.Opened) (*Vault, error) {
	return nil, todo("ByAccount")
}

// ByToken opens a vault with a token: errs.Auth when there is none such.
func (a *Aliases) ByToken(ctx context.Context, token string) (*Vault, Scope, error) {
	return nil, 0, todo("ByToken")
}

// Scope is what a token may do.
type Scope uint8

// The scopes.
const (
	ScopeCreate Scope = 1 << iota // make aliases
	ScopeList                     // see them
	ScopeManage                   // change and delete them, and tokens

	ScopeAll = ScopeCreate | ScopeList | ScopeManage
)

// Token is a token as its owner sees it.
type Token struct {
	ID       string // 16 hex digits
	Name     string
	Scope    Scope
	Created  Day
	LastUsed Day // 0: never
}

// NewToken makes a token. errs.Full with MaxTokens others.
func (a *Aliases) NewToken(ctx context.Context, v *Vault, s Scope, name string) (token, id string, err error) {
	return "", "", todo("NewToken")
}

// Tokens lists the tokens of a vault's owner.
func (a *Aliases) Tokens(ctx context.Context, v *Vault) ([]Token, error) { return nil, todo("Tokens") }

// RevokeToken ends a token by its ID. errs.NotFound when the owner has none such.
func (a *Aliases) RevokeToken(ctx context.Context, v *Vault, id string) error {
	return todo("RevokeToken")
}

// RotateToken puts a new token in the place of one, which ends.
func (a *Aliases) RotateToken(ctx context.Context, token string) (string, error) {
	return "", todo("RotateToken")
}

// Target is where an owner's mail goes, elsewhere; zero: into its mailbox here. errs.NotFound for no owner.
func (a *Aliases) Target(ctx context.Context, owner Owner) (mail.Address, error) {
	return mail.Address{}, todo("Target")
}

// SetTarget changes it.
func (a *Aliases) SetTarget(ctx context.Context, owner Owner, target mail.Address) error {
	return todo("SetTarget")
}

// DeleteOwner makes tombstones of all aliases of an owner and ends its tokens. It may be repeated.
func (a *Aliases) DeleteOwner(ctx context.Context, owner Owner) error { return todo("DeleteOwner") }

// ResetOwner is for an account that gets a new key: tokens and labels end, the aliases stay.
func (a *Aliases) ResetOwner(ctx context.Context, owner Owner) error { return todo("ResetOwner") }

// Vault is an owner's key pair for labels and correspondents, opened.
type Vault struct {
	secret.Hidden
	Owner Owner
}

// Close erases the key.
func (v *Vault) Close() {}

// Notes opens what only the owner reads of an alias.
func (v *Vault) Notes(a *Alias) (Notes, error) { return Notes{}, todo("Notes") }

// AliasKey is the key of the owner's derived aliases.
func (v *Vault) AliasKey() [32]byte { return [32]byte{} }

// Create makes an alias. errs.Exists when the name is taken or was, errs.Full with MaxPerOwner.
func (a *Aliases) Create(ctx context.Context, v *Vault, n New) (*Alias, error) {
	return nil, todo("Create")
}

// Lookup gives a stored alias. errs.NotFound also for deleted ones.
func (a *Aliases) Lookup(ctx context.Context, addr mail.Address) (*Alias, error) {
	return nil, errs.E("post/alias.Lookup", errs.NotFound, "", nil)
}

// Resolve is Lookup, then the derived form, tried for a peer under limits: errs.Busy beyond.
func (a *Aliases) Resolve(ctx context.Context, addr mail.Address, peer limits.Peer) (*Alias, error) {
	return a.Lookup(ctx, addr)
}

// List gives up to limit aliases of an owner behind the cursor ("" to begin), and the next cursor, "" at the end.
func (a *Aliases) List(ctx context.Context, owner Owner, cursor string, limit int) ([]*Alias, string, error) {
	return nil, "", todo("List")
}

// Trash is List of the aliases that were deleted and can be restored.
func (a *Aliases) Trash(ctx context.Context, owner Owner, cursor string, limit int) ([]*Alias, string, error) {
	return nil, "", todo("Trash")
}

// Change is what can be changed of an alias: it holds what is, and what fn of Aliases.Change leaves is what will be.
type Change struct {
	Paused    bool
	Mode      Mode
	PinDomain bool
	Class     Class
	Expires   time.Time
	MaxMails  uint32
	IdleDays  uint16
	Notes     Notes // Correspondents are not looked at

	Pin    string   // who is pinned from now on, an address or "@domain"; "": as it is
	Unpin  bool     // nobody is pinned, the next sender will be
	Allow  []string // addresses or "@domain"s that are allowed from now on
	Block  []string // that are blocked from now on
	Forget []string // of which nothing is remembered from now on
}

// Extend puts the ends of an alias off: its date by d from now or from what it was, whichever is later; its count and its idleness begin anew.
func (c *Change) Extend(d time.Duration) {}

// Change changes an alias of the vault's owner.
func (a *Aliases) Change(ctx context.Context, v *Vault, addr mail.Address, fn func(*Change)) (*Alias, error) {
	return nil, todo("Change")
}

// Delete deletes an alias; for UndoDays it can be restored. Nobody gets its name ever again.
func (a *Aliases) Delete(ctx context.Context, v *Vault, addr mail.Address) error {
	return todo("Delete")
}

// Restore undoes Delete.
func (a *Aliases) Restore(ctx context.Context, v *Vault, addr mail.Address) (*Alias, error) {
	return nil, todo("Restore")
}

// Judge says what the alias's own rules make of a mail of from, who is vouched for; zero: of nobody who is.
func (a *Alias) Judge(from mail.Address, now time.Time) Verdict { return Verdict{} }

// Arrival is what a mail changes of an alias, for a transaction of somebody else.
type Arrival struct{}

// Arrive prepares what a mail of from changes.
func (a *Aliases) Arrive(al *Alias, from mail.Address, v Verdict) *Arrival { return &Arrival{} }

// WroteTo prepares what a mail as the alias to these changes.
func (a *Aliases) WroteTo(al *Alias, to []mail.Address) *Arrival { return &Arrival{} }

// Shard is where the transaction of Put must be.
func (r *Arrival) Shard() store.Shard { return 0 }

// Put writes it: errs.Denied when the alias has changed so that the verdict does not hold any more.
func (r *Arrival) Put(tx store.Tx) error { return nil }

// Committed is called after the transaction was committed.
func (r *Arrival) Committed() {}

// Record is Put in a transaction of its own.
func (a *Aliases) Record(ctx context.Context, r *Arrival) error { return nil }

// MayAnswer reports whether to may be written to as the alias by somebody who is not logged in here: it wrote to the alias, or its owner wrote to it or allowed it.
func (a *Aliases) MayAnswer(al *Alias, to mail.Address) bool { return false }

// Due calls fn for each alias that ends within d and whose owner was not told; when fn returns nil the alias is noted as told of.
func (a *Aliases) Due(ctx context.Context, d time.Duration, fn func(al *Alias, why string) error) error {
	return nil
}

// Finding is one thing that is not as it should be.
type Finding struct {
	What     string
	Owner    string // its number; may be empty
	Leftover bool   // a crash between two steps left it, and it does no harm
}

// Check reads everything and reports what is wrong. It changes nothing.
func (a *Aliases) Check(ctx context.Context, report func(Finding)) error { return nil }

// Reveal gives everything here that the node key opens, for `postern store reveal`.
func (a *Aliases) Reveal(ctx context.Context, emit func(kind, text string)) error { return nil }
