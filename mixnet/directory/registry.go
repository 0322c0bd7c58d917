package directory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Registered is a node that an authority knows.
type Registered struct {
	Approved *Descriptor // what the operator approved, and later ones that claim the same; nil: nothing yet
	Held     *Descriptor // waits for the operator: of a new node, or one that claims something new; nil: none
}

// ID is the node's.
func (r *Registered) ID() packet.ID { return r.latest().ID() }

func (r *Registered) latest() *Descriptor {
	if r.Held != nil {
		return r.Held
	}
	return r.Approved
}

// Registry is the nodes that one authority knows. A node is held until the operator approves
// it; its later descriptors are taken by themselves, as long as it does not claim another
// nickname, mode, family or domain. It is no store: whoever owns it keeps what List and
// Rejected give, and puts it back with Restore.
type Registry struct {
	network  *Network
	nodes    map[packet.ID]*Registered
	rejected map[packet.ID]bool
}

// NewRegistry begins an empty one.
func NewRegistry(n *Network) *Registry {
	return &Registry{network: n, nodes: map[packet.ID]*Registered{}, rejected: map[packet.ID]bool{}}
}

// Restore puts back what was kept. Fields of one node may both be set.
func (r *Registry) Restore(nodes []Registered, rejected []packet.ID) {
	for _, n := range nodes {
		r.nodes[n.ID()] = &n
	}
	for _, id := range rejected {
		r.rejected[id] = true
	}
}

// Offer parses a descriptor that somebody sent, and is Take. Its errors are also those of
// ParseDescriptor.
func (r *Registry) Offer(doc []byte, now time.Time) (held bool, err error) {
	const op = "directory.Registry.Offer"
	d, err := ParseDescriptor(doc)
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	return r.Take(d, now)
}

// Take takes a descriptor that somebody sent, and tells whether it waits for the operator.
//
// errs.Denied: the operator rejected this identity, or the nickname, a domain or the link key
// belongs to another identity, or it is of another network or expired. errs.Conflict: it is
// older than the one known. errs.Full: too many nodes wait. Else the errors of Fresh.
func (r *Registry) Take(d *Descriptor, now time.Time) (held bool, err error) {
	const op = "directory.Registry.Take"
	if err := d.Fresh(r.network, now); err != nil {
		return false, errs.Wrap(op, err)
	}
	id := d.ID()
	if r.rejected[id] {
		return false, errs.E(op, errs.Denied, "the operator rejected this node", nil)
	}
	if err := r.foreign(op, d); err != nil {
		return false, err
	}
	n := r.nodes[id]
	if n == nil {
		r.Expire(now)
		if r.waiting() >= MaxHeld {
			return false, errs.E(op, errs.Full, "too many nodes wait for the operator", nil)
		}
		r.nodes[id] = &Registered{Held: d}
		return true, nil
	}
	for _, old := range []*Descriptor{n.Approved, n.Held} {
		if old == nil {
			continue
		}
		if old.Hash() == d.Hash() {
			return old == n.Held, nil
		}
		if !d.Published.After(old.Published) {
			return false, errs.E(op, errs.Conflict, "a newer descriptor of this node is known", nil)
		}
	}
	if n.Approved != nil && len(newClaims(n.Approved, d)) == 0 {
		n.Approved, n.Held = d, nil
		return false, nil
	}
	if n.Held == nil && r.waiting() >= MaxHeld {
		return false, errs.E(op, errs.Full, "too many nodes wait for the operator", nil)
	}
	n.Held = d
	return true, nil
}

// newClaims names what a later descriptor claims that the operator did not see.
func newClaims(a, b *Descriptor) (out []string) {
	for _, c := range []struct {
		name string
		same bool
	}{
		{"nickname", a.Nickname == b.Nickname}, {"mode", a.Mode == b.Mode},
		{"domain", slices.Equal(a.Domains, b.Domains)}, {"family", a.Family == b.Family},
	} {
		if !c.same {
			out = append(out, c.name)
		}
	}
	return out
}

// Changes names what the descriptor that waits claims beyond the approved one: of nickname,
// mode, domain and family. Empty for a new node, or when nothing waits.
func (r *Registered) Changes() []string {
	if r.Approved == nil || r.Held == nil {
		return nil
	}
	return newClaims(r.Approved, r.Held)
}

// foreign looks for a claim that an approved node of another identity has.
func (r *Registry) foreign(op string, d *Descriptor) error {
	mine := claims(&d.Node)
	for id, n := range r.nodes {
		if n.Approved == nil || id == d.ID() {
			continue
		}
		for _, k := range claims(&n.Approved.Node) {
			if slices.Contains(mine, k) {
				what, _, _ := strings.Cut(k, " ")
				return errs.E(op, errs.Denied, fmt.Sprintf("the %s belongs to a node with another key", what), nil)
			}
		}
	}
	return nil
}

func (r *Registry) waiting() (n int) {
	for _, x := range r.nodes {
		if x.Held != nil {
			n++
		}
	}
	return n
}

// Approve takes the descriptor that the operator saw. errs.NotFound if no such one waits,
// errs.Denied if it claims what another node got meanwhile, errs.Full beyond MaxNodes.
func (r *Registry) Approve(id packet.ID, seen Hash) error {
	const op = "directory.Registry.Approve"
	n := r.nodes[id]
	if n == nil || n.Held == nil || n.Held.Hash() != seen {
		return errs.E(op, errs.NotFound, "no such descriptor waits for a decision", nil)
	}
	if err := r.foreign(op, n.Held); err != nil {
		return err
	}
	approved := 0
	for _, x := range r.nodes {
		if x.Approved != nil {
			approved++
		}
	}
	if n.Approved == nil && approved >= MaxNodes {
		return errs.E(op, errs.Full, fmt.Sprintf("%d nodes are approved already", MaxNodes), nil)
	}
	n.Approved, n.Held = n.Held, nil
	return nil
}

// Reject drops a node, approved or not, and refuses its identity until Forget. errs.Full if
// MaxRejected were rejected.
func (r *Registry) Reject(id packet.ID) error {
	if !r.rejected[id] && len(r.rejected) >= MaxRejected {
		return errs.E("directory.Registry.Reject", errs.Full, "too many identities were rejected; forget some", nil)
	}
	r.rejected[id] = true
	delete(r.nodes, id)
	return nil
}

// Forget makes an identity a stranger again. errs.NotFound if it is one.
func (r *Registry) Forget(id packet.ID) error {
	if r.nodes[id] == nil && !r.rejected[id] {
		return errs.E("directory.Registry.Forget", errs.NotFound, "no such node is known", nil)
	}
	delete(r.nodes, id)
	delete(r.rejected, id)
	return nil
}

// Expire drops held descriptors that are no longer fresh. Approved nodes stay, with their
// nicknames, however long they are away.
func (r *Registry) Expire(now time.Time) {
	for id, n := range r.nodes {
		if n.Held != nil && n.Held.Fresh(r.network, now) != nil {
			if n.Held = nil; n.Approved == nil {
				delete(r.nodes, id)
			}
		}
	}
}

// List gives all nodes that are known, sorted by nickname.
func (r *Registry) List() []Registered {
	out := make([]Registered, 0, len(r.nodes))
	for _, n := range r.nodes {
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b Registered) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.latest().Nickname), strings.ToLower(b.latest().Nickname)), compareID(a.ID(), b.ID()))
	})
	return out
}

// Find gives what is known of a node, nil if nothing is, and whether it was rejected.
func (r *Registry) Find(id packet.ID) (n *Registered, rejected bool) {
	if k := r.nodes[id]; k != nil {
		c := *k
		n = &c
	}
	return n, r.rejected[id]
}

// Rejected gives the identities that were rejected, sorted.
func (r *Registry) Rejected() []packet.ID { return slices.SortedFunc(maps.Keys(r.rejected), compareID) }

// Fresh gives the approved descriptors that can be voted for in an epoch that begins at a time.
func (r *Registry) Fresh(at time.Time) []*Descriptor {
	var out []*Descriptor
	for _, n := range r.nodes {
		if n.Approved != nil && n.Approved.Fresh(r.network, at) == nil {
			out = append(out, n.Approved)
		}
	}
	slices.SortFunc(out, func(a, b *Descriptor) int { return compareID(a.ID(), b.ID()) })
	return out
}
