package imap

import (
	"slices"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// link is step 1 of REFERENCES (RFC 5256 §3) for one message.
func (t *threader) link(n threadNode, h mail.Header) error {
	parent := noNode
	refs := h.Get("References")
	id, rest, ok := nextMsgID(refs)
	if !ok { // "does not contain any valid Message IDs"
		id, _, ok = nextMsgID(h.Get("In-Reply-To"))
		rest = "" // only the first one counts
	}
	for ; ok; id, rest, ok = nextMsgID(rest) {
		at, err := t.node(id)
		if err != nil {
			return err
		}
		// A link that is there stays: References may have been cut short.
		if parent != noNode && t.nodes[at].parent == noNode {
			if err := t.setParent(at, parent); err != nil {
				return err
			}
		}
		parent = at
	}
	self, err := t.own(n, h)
	if err != nil {
		return err
	}
	t.nodes[self].parent = noNode
	if parent == noNode {
		return nil
	}
	return t.setParent(self, parent)
}

// own gives the node of a message: that of its Message-ID, if no message before had the same.
func (t *threader) own(n threadNode, h mail.Header) (int32, error) {
	id, _, ok := nextMsgID(h.Get("Message-ID"))
	if ok {
		at, err := t.node(id)
		if err != nil {
			return noNode, err
		}
		if d := &t.nodes[at]; d.num == 0 {
			n.parent, n.children = d.parent, d.children
			*d = n
			return at, nil
		}
	}
	t.nodes = append(t.nodes, n)
	return int32(len(t.nodes) - 1), t.charge(threadNodeBytes)
}

// node gives the node of a Message-ID, a dummy if there is none yet.
func (t *threader) node(id string) (int32, error) {
	if at, ok := t.ids[id]; ok {
		return at, nil
	}
	at := int32(len(t.nodes))
	t.nodes = append(t.nodes, threadNode{parent: noNode})
	t.ids[strings.Clone(id)] = at
	return at, t.charge(len(id) + threadNodeBytes)
}

// setParent links unless that would make a loop. A node without children cannot be above
// its new parent, which spares nearly all of the looking.
func (t *threader) setParent(child, parent int32) error {
	if child == parent {
		return nil
	}
	if t.nodes[child].children {
		for up := t.nodes[parent].parent; up != noNode; up = t.nodes[up].parent {
			if up == child {
				return nil
			}
			if t.steps++; t.steps&(1<<16-1) == 0 {
				if t.steps > maxThreadSteps {
					return no("LIMIT", "The messages refer to each other in too many ways")
				}
				if err := t.ctx.Err(); err != nil {
					return errs.E("wire/imap.thread", errs.Canceled, "", err)
				}
			}
		}
	}
	t.nodes[child].parent = parent
	t.nodes[parent].children = true
	return nil
}

// references is steps 2 to 6.
func (t *threader) references() {
	t.gather()
	t.prune()
	for _, i := range t.roots { // step 4
		if t.nodes[i].num == 0 {
			t.byDate(t.nodes[i].kids)
		}
	}
	t.byDate(t.roots)
	t.mergeSubjects()
	for i := range t.nodes { // step 6; only top-level dummies go by their children
		t.byDate(t.nodes[i].kids)
	}
	t.byDate(t.roots)
}

// gather is step 2: it turns parents into lists of children.
func (t *threader) gather() {
	for i := range t.nodes {
		if p := t.nodes[i].parent; p != noNode {
			t.nodes[p].kids = append(t.nodes[p].kids, int32(i))
		} else {
			t.roots = append(t.roots, int32(i))
		}
	}
}

// prune is step 3: dummies go, and their children take their place; at the top only if
// there is just one.
func (t *threader) prune() {
	order := slices.Clone(t.roots) // parents before children
	for k := 0; k < len(order); k++ {
		order = append(order, t.nodes[order[k]].kids...)
	}
	for _, i := range slices.Backward(order) {
		t.nodes[i].kids = t.spliced(t.nodes[i].kids, false)
	}
	t.roots = t.spliced(t.roots, true)
}

// spliced gives siblings without the dummies among them, which are pruned below already.
func (t *threader) spliced(list []int32, top bool) []int32 {
	dummy := func(i int32) bool {
		n := &t.nodes[i]
		return n.num == 0 && (!top || len(n.kids) < 2)
	}
	if !slices.ContainsFunc(list, dummy) {
		return list
	}
	out := make([]int32, 0, len(list))
	for _, i := range list {
		if dummy(i) {
			out = append(out, t.nodes[i].kids...)
			t.nodes[i].kids = nil
			continue
		}
		out = append(out, i)
	}
	return out
}

// threadSubject is the base subject of a thread (step 5.B.i).
func (t *threader) threadSubject(i int32) int32 {
	n := &t.nodes[i]
	if n.num == 0 && len(n.kids) > 0 {
		return t.nodes[n.kids[0]].subject
	}
	return n.subject
}

// mergeSubjects is step 5: threads of one subject come together.
func (t *threader) mergeSubjects() {
	table := make([]int32, len(t.subjects))
	for i := range table {
		table[i] = noNode
	}
	for _, i := range t.roots {
		s := t.threadSubject(i)
		if s == 0 {
			continue
		}
		old := table[s]
		if old == noNode {
			table[s] = i
			continue
		}
		cur, had := &t.nodes[i], &t.nodes[old]
		if had.num != 0 && (cur.num == 0 || had.reply && !cur.reply) {
			table[s] = i
		}
	}
	gone := make(map[int32]bool)
	place := make(map[int32]int32) // what stands at the place of a root now
	for _, i := range t.roots {
		s := t.threadSubject(i)
		if s == 0 || table[s] == i {
			continue
		}
		top := table[s]
		cur, had := &t.nodes[i], &t.nodes[top]
		gone[i] = true
		switch {
		case had.num == 0 && cur.num == 0:
			had.kids = append(had.kids, cur.kids...)
			cur.kids = nil
		case had.num == 0, cur.reply && !had.reply:
			had.kids = append(had.kids, i)
		default:
			both := int32(len(t.nodes))
			t.nodes = append(t.nodes, threadNode{parent: noNode, subject: s, kids: []int32{top, i}})
			table[s], place[top] = both, both
		}
	}
	out := t.roots[:0]
	for _, i := range t.roots {
		if gone[i] {
			continue
		}
		if p, ok := place[i]; ok {
			i = p
		}
		out = append(out, i)
	}
	t.roots = out
}
