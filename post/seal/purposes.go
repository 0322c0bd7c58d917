package seal

// Purpose says what something is sealed under the node key for. Each purpose has
// its own key. A purpose that is not in the table cannot be made by a caller.
type Purpose uint8

// The purposes. A value is part of no stored format (the Name is), so new ones
// may be put anywhere.
const (
	PurposeName        Purpose = iota // which account an address belongs to
	PurposeInfo                       // an account's settings
	PurposeKey                        // an account's wrapped seed
	PurposeTokens                     // device tokens
	PurposeMarker                     // that a store belongs to this root key
	PurposeQueueMail                  // envelope of a mail in the queue
	PurposeQueueRcpt                  // one recipient of a mail in the queue
	PurposeQueueBody                  // key of the bytes of a mail in the queue
	PurposeDKIM                       // keys that sign mail
	PurposeMixName                    // which account a mailbox or client of the mix network belongs to
	PurposeMixClient                  // an account's clients of the mix network
	PurposeMixPacket                  // a packet of the mix network that waits for its client
	PurposeMixIdentity                // the public keys of an account's mail proxy
	PurposeMixKey                     // keys of the node in the mix network
	PurposeMixReply                   // reply blocks of reply addresses, and what is to be sent with them
	PurposeAliasOwner                 // an owner of aliases: where its mail goes
	PurposeAliasRules                 // an alias, its rules and its counts
	PurposeAliasToken                 // a token for aliases: whose it is and what it may
	PurposeAliasKey                   // the key of an owner's derived aliases
	numPurposes
)

// PurposeDoc describes one row of the threat model's table "what the node key
// opens".
type PurposeDoc struct {
	Purpose Purpose
	Name    string // stable; part of the key derivation; the kind that `store reveal` prints
	What    string // what a holder of the node key sees
	Why     string // why the server must be able to read it while its users are away
}

var purposeDocs = [numPurposes]PurposeDoc{
	PurposeName: {PurposeName, "account-name", "which account number an address belongs to, as its own or as an alias, or the day on which the address was deleted",
		"mail and logins name an address; its owner need not be there"},
	PurposeInfo: {PurposeInfo, "account-info", "address, class, blocked or not, accepts cleartext or not, quota, day of creation and of last login",
		"policy is applied to mail that comes while the owner is away, and unused accounts are removed"},
	PurposeKey: {PurposeKey, "account-key", "the account's seed as wrapped by its password (not the seed, not the password)",
		"without the node key nobody can even begin to guess a password"},
	PurposeTokens: {PurposeTokens, "device-token", "device tokens for push notification and the day on which each was set",
		"a device is woken while its owner is away"},
	PurposeMarker: {PurposeMarker, "store-marker", "a constant text",
		"a store is never opened with another node's root key"},
	PurposeQueueMail: {PurposeQueueMail, "queue-mail", "of each mail that waits for another host: sender, time of arrival and of expiry, exact size, envelope options",
		"mail is sent on, and reported on, while its sender is away"},
	PurposeQueueRcpt: {PurposeQueueRcpt, "queue-recipient", "of each mail that waits: the recipients still to be reached, when the next try is due, why the last one failed",
		"mail is sent on while its sender is away"},
	PurposeQueueBody: {PurposeQueueBody, "queue-body", "the bytes of each mail that waits (an end-to-end encrypted mail is ciphertext there too)",
		"mail is sent on while its sender is away"},
	PurposeDKIM: {PurposeDKIM, "dkim-key", "the private keys that sign mail of the domain (DKIM), and when each came into use and went out of it",
		"mail is signed when it leaves, while its sender is away"},
	PurposeMixName: {PurposeMixName, "mix-name", "which account number a mailbox, a link key and a used invitation of the mix network belong to",
		"packets name a mailbox and clients show a link key, not an address"},
	PurposeMixClient: {PurposeMixClient, "mix-client", "link keys of an account's clients of the mix network, and the day on which each was registered",
		"a client is known by its link key, without a password"},
	PurposeMixPacket: {PurposeMixPacket, "mix-packet", "of each packet of the mix network that waits: its account number, the day on which it came, whether it is a message or an answer and to which reply block, its payload (ciphertext, sealed end to end)",
		"packets come while their owner is away, and are handed over without a password"},
	PurposeMixIdentity: {PurposeMixIdentity, "mix-identity", "of an account that is read with a mail proxy: the proxy's public keys, whether strangers may be told them, and the day on which they were registered",
		"mail for the account is sealed to them while its owner is away, and the relay vouches for them"},
	PurposeMixKey: {PurposeMixKey, "mix-key", "the keys of this node in the mix network (identity, link, packets, names, letters, log of packets), and with them, of each packet in that log, its next hop or mailbox, its time, and its bytes, sealed for the next hop; and the parts of mail for mailboxes here that is not whole yet",
		"a node takes and gives packets by itself"},
	PurposeMixReply: {PurposeMixReply, "mix-reply", "of each reply address (a hash of its name; the name is not kept): its reply blocks with the first hop and the hour in which each expires, the keys that letters are sealed to, and the packets that are to be sent with blocks (sealed end to end); not whose it is",
		"mail for it comes while its owner, whom this server does not know, is away"},
	PurposeAliasOwner: {PurposeAliasOwner, "alias-owner", "of each owner of aliases (an account number, or one without account): the address elsewhere that its mail goes to, if it has one, how many aliases it has, the days on which it began and was here last, and the account's wrapping of the key to its labels (not the key)",
		"mail for an alias is sent on while its owner is away"},
	PurposeAliasRules: {PurposeAliasRules, "alias-rules", "of each alias: its address, the account number of its owner, mode, class, dates and limits, how many mails came, were refused and went, and on which day the last; of each correspondent a keyed hash with its key (so that a guessed address can be tested), days, count and state; not its label, site or note, and no correspondent's address",
		"mail for an alias is judged by its rules while its owner is away"},
	PurposeAliasToken: {PurposeAliasToken, "alias-token", "of each token for aliases: the account number of its owner, what it may, the days on which it was made and used last; not the token (a keyed hash of it is kept), nor its name",
		"a token is shown without a password"},
	PurposeAliasKey: {PurposeAliasKey, "alias-key", "of each owner of aliases the key by which its derived aliases are recognised: its holder can make such addresses and can tell whose one is",
		"mail for an alias that nothing is stored of comes while its owner is away"},
}

// Purposes gives the table of everything that is ever sealed under the node key.
// docs/threat-model.md and `postern store reveal` are checked against it.
func Purposes() []PurposeDoc {
	return append([]PurposeDoc(nil), purposeDocs[:]...)
}

// String gives the purpose's name.
func (p Purpose) String() string { return purposeDocs[p].Name }
