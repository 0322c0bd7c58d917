package authority

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// record is what the disk holds of one node, in a file that is written whole, so that a crash
// leaves the state before a decision or after it:
//
//	postern-node 1
//	since 2006-01-02T15:04:05Z
//	rejected                        or, for nodes that are not:
//	approved LENGTH                 each followed by a descriptor of so many bytes
//	held LENGTH
type record struct {
	since    time.Time // when this authority first heard of the node, or rejected it; whole seconds
	rejected bool
	approved *directory.Descriptor
	held     *directory.Descriptor
}

const (
	nodeTitle = "postern-node 1"
	stamp     = time.RFC3339
	maxNode   = 2*directory.MaxDescriptor + 1024
)

func (r *record) bytes() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\nsince %s\n", nodeTitle, r.since.UTC().Format(stamp))
	if r.rejected {
		b.WriteString("rejected\n")
		return b.Bytes()
	}
	for _, d := range []struct {
		word string
		*directory.Descriptor
	}{{"approved", r.approved}, {"held", r.held}} {
		if d.Descriptor != nil {
			fmt.Fprintf(&b, "%s %d\n", d.word, len(d.Bytes()))
			b.Write(d.Bytes())
		}
	}
	return b.Bytes()
}

// parseRecord reads the file of one node. errs.Corrupt for anything but what bytes writes of
// this node.
func parseRecord(id packet.ID, b []byte) (*record, error) {
	const op = "role/authority.parseRecord"
	bad := func(why string, err error) (*record, error) { return nil, errs.E(op, errs.Corrupt, why, err) }
	if len(b) > maxNode {
		return bad("longer than a node's file can be", nil)
	}
	line := func() (string, bool) {
		l, rest, ok := bytes.Cut(b, []byte("\n"))
		b = rest
		return string(l), ok
	}
	if l, ok := line(); !ok || l != nodeTitle {
		return bad("no file of a node", nil)
	}
	r := &record{}
	l, ok := line()
	at, err := time.Parse(stamp, strings.TrimPrefix(l, "since "))
	if !ok || !strings.HasPrefix(l, "since ") || err != nil || at.UTC().Format(stamp) != l[len("since "):] {
		return bad("no time", err)
	}
	r.since = at.UTC()
	for len(b) > 0 {
		l, ok := line()
		word, count, _ := strings.Cut(l, " ")
		if ok && l == "rejected" && len(b) == 0 && r.approved == nil && r.held == nil {
			r.rejected = true
			return r, nil
		}
		n, err := strconv.Atoi(count)
		if !ok || err != nil || n < 0 || n > len(b) || strconv.Itoa(n) != count {
			return bad("a line is damaged", err)
		}
		d, err := directory.ParseDescriptor(b[:n:n])
		b = b[n:]
		switch {
		case err != nil:
			return bad("a descriptor is damaged", err)
		case d.ID() != id:
			return bad("a descriptor is of another node", nil)
		case word == "approved" && r.approved == nil && r.held == nil:
			r.approved = d
		case word == "held" && r.held == nil:
			r.held = d
		default:
			return bad("a line is out of order", nil)
		}
	}
	if r.approved == nil && r.held == nil {
		return bad("nothing is in it", nil)
	}
	return r, nil
}

// parseID reads the 64 digits of an ID.
func parseID(s string) (id packet.ID, ok bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) || strings.ToLower(s) != s {
		return id, false
	}
	return packet.ID(b), true
}

func idText(id packet.ID) string { return hex.EncodeToString(id[:]) }
