package authority

import (
	"bytes"
	"strings"

	"postern.email/mixnet/packet"
)

// Kinds of documents: the first word of their titles, without the program's name.
const (
	kindVote        = "vote"
	kindReveal      = "reveal"
	kindEndorsement = "endorsement"
	kindDescriptor  = "descriptor"
	kindConsensus   = "consensus"
)

// kindOf reads the kind of a document; "" for none of those above.
func kindOf(doc []byte) string {
	word, _, _ := bytes.Cut(doc[:min(len(doc), 64)], []byte(" "))
	kind, ok := strings.CutPrefix(string(word), "postern-")
	switch kind {
	case kindVote, kindReveal, kindEndorsement, kindDescriptor, kindConsensus:
		if ok {
			return kind
		}
	}
	return ""
}

// authorityOf reads whose vote, reveal or endorsement a document that was verified is.
func authorityOf(doc []byte) (packet.ID, bool) {
	_, rest, ok := bytes.Cut(doc, []byte("\nauthority "))
	if !ok || len(rest) < 64 {
		return packet.ID{}, false
	}
	return parseID(string(rest[:64]))
}

// shortID is enough of an ID for a log.
func shortID(id packet.ID) string { return idText(id)[:16] }
