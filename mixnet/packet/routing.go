package packet

import (
	"encoding/binary"
	"time"
)

// Command tells a hop what to do with what it unwrapped. The zero value is none.
type Command uint8

const (
	Forward Command = iota + 1 // pass it on to the next hop, after the delay
	Deliver                    // the payload is for a mailbox of this relay
	Reply                      // an answer to a reply block, for a mailbox of this relay
	Drop                       // cover traffic that ends here
	Ping                       // a measuring packet that ends here
	Exit                       // the payload is for the world outside
)

var commandNames = [...]string{"none", "FWD", "DELIVER", "SURB_REPLY", "DROP", "PING", "EXIT"}

// String gives the name that docs/packet.md uses.
func (c Command) String() string {
	if int(c) < len(commandNames) {
		return commandNames[c]
	}
	return "unknown"
}

// allowed reports whether a command may stand at a layer: there is no next hop behind
// the last, mailboxes and exits are there only, and cover may end anywhere.
func (c Command) allowed(layer int) bool {
	switch c {
	case Forward:
		return layer < Last
	case Deliver, Reply, Exit:
		return layer == Last
	case Drop, Ping:
		return true
	}
	return false
}

// ID names a node or a mailbox.
type ID [32]byte

// Mark is a random number that only its maker can do something with: that of a reply
// block (Reply) or of a measuring packet (Ping).
type Mark [16]byte

// Tag is the replay tag of a layer: packets with the same encapsulation have the same,
// whatever else they hold. A node takes each tag once.
type Tag [16]byte

// MaxDelay is the longest delay that the format can say.
const MaxDelay = (1<<32 - 1) * time.Millisecond

// routing is the sealed part of a layer that its hop reads (docs/packet.md §4.3).
type routing struct {
	command Command
	delay   time.Duration // Forward; whole milliseconds
	next    ID            // Forward: the next node; Deliver, Reply: the mailbox
	nextKey uint32        // Forward: the ID of the next node's key
	mark    Mark          // Reply, Ping
	payload [keyLen]byte  // the key that takes this layer off the payload
}

// put writes r to the first routingLen bytes of b.
func (r *routing) put(b []byte) {
	clear(b[:routingLen])
	b[0] = byte(r.command)
	binary.BigEndian.PutUint32(b[4:], uint32(r.delay/time.Millisecond))
	copy(b[8:40], r.next[:])
	binary.BigEndian.PutUint32(b[40:], r.nextKey)
	copy(b[48:64], r.mark[:])
	copy(b[64:96], r.payload[:])
}

// parse reads the routing of a layer. Fields that the command does not use must be
// zero, so that a routing has one form.
func (r *routing) parse(b []byte, layer int) error {
	*r = routing{
		command: Command(b[0]),
		delay:   time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Millisecond,
		next:    ID(b[8:40]),
		nextKey: binary.BigEndian.Uint32(b[40:]),
		mark:    Mark(b[48:64]),
		payload: [keyLen]byte(b[64:96]),
	}
	c := r.command
	switch {
	case !c.allowed(layer),
		b[1] != 0 || b[2] != 0 || b[3] != 0 || binary.BigEndian.Uint32(b[44:]) != 0,
		c != Forward && (r.delay != 0 || r.nextKey != 0),
		c != Forward && c != Deliver && c != Reply && r.next != ID{},
		c != Reply && c != Ping && r.mark != Mark{}:
		return errRouting
	}
	return nil
}
