package content

import (
	"crypto/sha256"
	"strconv"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Kinds of contents (docs/content.md §1), for packet.Content.Kind.
const (
	None   uint8 = 0 // no body: cover, or a reply block and no more
	Letter uint8 = 1 // DELIVER: a fragment of a letter, sealed from end to end; opaque to relays
	Ack    uint8 = 2 // SURB_REPLY: the relay has the packet, or those of a window, on its disk; see NewAck
	Inject uint8 = 3 // EXIT: the relay shall use the reply block; see NewInject
	Mbox   uint8 = 4 // EXIT: mail for a name of the relay's address file; see AppendMbox
	Mail   uint8 = 5 // EXIT: a fragment of a letter, sealed to the letter key of the node: mail for its ordinary mailboxes or the world
	Plain  uint8 = 6 // DELIVER: an unsealed body, for tests and bare networks
	Query  uint8 = 7 // EXIT: a question to a service of the node; see NewQuery
	Answer uint8 = 8 // SURB_REPLY: what a service answers; see NewAnswer
)

var names = [...]string{"none", "letter", "ack", "inject", "mbox", "mail", "plain", "query", "answer"}

// Name gives the word for a kind, for counters and lists. Windowed makes no difference to it.
func Name(kind uint8) string {
	if k := kind &^ Windowed; k == Letter || k == Mail {
		kind = k
	}
	if int(kind) < len(names) {
		return names[kind]
	}
	return "kind " + strconv.Itoa(int(kind))
}

// MaxAck is how many bytes the body of an Ack may have: free use of the relay.
const MaxAck = 8

// MaxInjected is the longest body of an answer in an Inject: the block is beside it, and
// one byte says its kind.
const MaxInjected = packet.MaxBodySURB - 1

// rejected is the public text for what came from outside.
const rejected = "rejected"

// injectable: what a holder of a reply block may have a relay send. An Ack and an Answer are the
// relay's own word, and nothing within a mailbox leads out of it again.
func injectable(kind uint8) bool { return kind == Letter || kind == Plain }

// NewInject makes the content that has a relay answer with a reply block. It keeps body's
// bytes apart. errs.TooLarge for more than MaxInjected bytes; errs.Invalid for a kind that
// is not Letter or Plain, or without a block.
func NewInject(block *packet.SURB, kind uint8, body []byte) (packet.Content, error) {
	const op = "mixnet/content.NewInject"
	switch {
	case block == nil || !injectable(kind):
		return packet.Content{}, errs.E(op, errs.Invalid, "only a letter can be sent with a reply block", nil)
	case len(body) > MaxInjected:
		return packet.Content{}, errs.E(op, errs.TooLarge, "the body is too large for an answer", nil)
	}
	b := make([]byte, 0, 1+len(body))
	return packet.Content{Kind: Inject, SURB: block, Body: append(append(b, kind), body...)}, nil
}

// ParseInject reads what NewInject makes: the block, and what is to be sent with it, whose
// Body lies within that of c. errs.Invalid.
func ParseInject(c packet.Content) (*packet.SURB, packet.Content, error) {
	if c.Kind != Inject || c.SURB == nil || len(c.Body) == 0 || !injectable(c.Body[0]) {
		return nil, packet.Content{}, errs.E("mixnet/content.ParseInject", errs.Invalid, rejected, nil)
	}
	return c.SURB, packet.Content{Kind: c.Body[0], Body: c.Body[1:]}, nil
}

// labelMailbox keeps this hash apart from all others.
const labelMailbox = "postern/mailbox\n"

// ClientMailbox is the mailbox of a client of a bare node, which knows its clients by their
// link keys alone: node is the node's ID, key the name of the client's link key.
func ClientMailbox(node packet.ID, key [32]byte) packet.ID {
	h := sha256.New()
	h.Write([]byte(labelMailbox))
	h.Write(node[:])
	h.Write(key[:])
	return packet.ID(h.Sum(nil))
}
