package authority

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

// loadNodes puts the nodes that the disk holds into the registry.
func (c *core) loadNodes() (err error) {
	c.records, err = c.disk.loadNodes(func(name string, err error) {
		c.log.Error("the file of a node is damaged and is left alone; the node is unknown until it publishes again", "node", name[:16], "err", err)
	})
	if err != nil {
		return err
	}
	c.restore()
	return nil
}

// restore makes the registry what the disk holds.
func (c *core) restore() {
	c.registry = directory.NewRegistry(c.net)
	var nodes []directory.Registered
	var rejected []packet.ID
	for id, r := range c.records {
		if r.rejected {
			rejected = append(rejected, id)
		} else {
			nodes = append(nodes, directory.Registered{Approved: r.approved, Held: r.held})
		}
	}
	c.registry.Restore(nodes, rejected)
	c.relink()
}

// relink notes the link keys of approved nodes.
func (c *core) relink() {
	links := make(map[link.Key]link.Role, len(c.records))
	for _, r := range c.records {
		if r.approved != nil {
			links[link.Key(r.approved.LinkKey)] = roleOf(r.approved.Mode)
		}
	}
	c.links.Store(&links)
}

func roleOf(m directory.Mode) link.Role {
	if m.Has(directory.Mix) {
		return link.Mix
	}
	return link.Relay
}

// keepNode makes the disk what the registry is, for one node. When that fails, the registry
// becomes again what the disk is, so that nothing is known that a crash would take back.
func (c *core) keepNode(id packet.ID) error {
	old := c.records[id]
	n, rejected := c.registry.Find(id)
	if n == nil && !rejected {
		if old == nil {
			return nil
		}
		if err := c.disk.remove(nodeDir, idText(id)); err != nil {
			c.restore()
			return err
		}
		delete(c.records, id)
		c.relink()
		return nil
	}
	next := &record{since: c.now().UTC().Truncate(time.Second), rejected: rejected}
	if n != nil {
		next.approved, next.held = n.Approved, n.Held
	}
	if old != nil && old.rejected == next.rejected {
		next.since = old.since
		if old.approved == next.approved && old.held == next.held {
			return nil
		}
	}
	if err := c.disk.write(next.bytes(), nodeDir, idText(id)); err != nil {
		c.restore()
		return err
	}
	c.records[id] = next
	if old == nil {
		old = &record{}
	}
	if !sameLink(old.approved, next.approved) {
		c.relink()
	}
	return nil
}

// sameLink reports whether two descriptors, or none, are reached by one link key in one role.
func sameLink(a, b *directory.Descriptor) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.LinkKey == b.LinkKey && roleOf(a.Mode) == roleOf(b.Mode)
}

// publish takes the descriptor of a node. Its errors are those of directory.Registry.Offer,
// and errs.Denied when another link brought it than the one it names.
func (c *core) publish(from link.Key, doc []byte) (held bool, err error) {
	const op = "role/authority.publish"
	d, err := directory.ParseDescriptor(doc)
	if err != nil {
		return false, errs.Wrap(op, err)
	}
	// So nobody can claim a link key that he does not have.
	if link.Key(d.LinkKey) != from {
		return false, errs.E(op, errs.Denied, "the descriptor names another link key than that of this connection", nil)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.records[d.ID()]
	if held, err = c.registry.Take(d, c.now()); err != nil {
		return false, errs.Wrap(op, err)
	}
	if err := c.keepNode(d.ID()); err != nil {
		return false, errs.Wrap(op, err)
	}
	if held && (before == nil || before.held == nil) {
		c.log.Info("a node waits for a decision: postern authority list", "node", shortID(d.ID()), "nickname", d.Nickname)
	}
	return held, nil
}

// isKnown reports whether a link key is that of an approved node or an authority.
func (c *core) isKnown(k link.Key) bool {
	_, ok := (*c.links.Load())[k]
	return ok
}

// stats takes what a mix measured. Its errors are those of directory.ParseStats and of
// directory.History.Add.
func (c *core) stats(doc []byte) error {
	const op = "role/authority.stats"
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := directory.ParseStats(c.net.Name(), func(id packet.ID) *directory.PublicKey {
		if r := c.records[id]; r != nil && r.approved != nil && r.approved.Mode.Has(directory.Mix) {
			return r.approved.Identity
		}
		return nil
	}, doc)
	if err != nil {
		return errs.Wrap(op, err)
	}
	old := c.history.Report(s.Node)
	if err := c.history.Add(s, c.net.Epoch(c.now())); err != nil {
		return errs.Wrap(op, err)
	}
	if err := c.disk.write(c.history.Report(s.Node), historyDir, idText(s.Node)); err != nil {
		c.history.Forget(s.Node)
		if old != nil {
			_ = c.history.Restore(old) // it was there a moment ago
		}
		return errs.Wrap(op, err)
	}
	return nil
}

func (c *core) loadHistory() error {
	names, err := c.disk.list(historyDir)
	if err != nil {
		return err
	}
	for _, n := range names {
		b, err := c.disk.read(historyDir, n)
		if err != nil {
			return err
		}
		if err := c.history.Restore(b); err != nil {
			c.log.Warn("what a mix has measured cannot be read; it is left out", "err", err)
		}
	}
	return nil
}

// tidyNodes drops what waited too long, and measurements that count no more.
func (c *core) tidyNodes(current uint64) {
	c.registry.Expire(c.now())
	for _, id := range slices.Collect(maps.Keys(c.records)) {
		if err := c.keepNode(id); err != nil {
			c.log.Warn("nodes that do not wait any more cannot be dropped; it is tried again in the next epoch", "err", err)
			break
		}
	}
	reporters := c.history.Reporters(current)
	names, err := c.disk.list(historyDir)
	if err != nil {
		return
	}
	for _, n := range names {
		if id, ok := parseID(n); ok && !slices.Contains(reporters, id) {
			_ = c.disk.remove(historyDir, n) // it is tried again
		}
	}
}

// Node is a node as the commands show it.
type Node struct {
	ID         string   `json:"id"`                   // fingerprint of its identity: 64 digits
	State      string   `json:"state"`                // waits, approved, changed (approved, and a new descriptor waits), rejected
	Reason     string   `json:"reason,omitempty"`     // why it waits
	Since      string   `json:"since"`                // when this authority first heard of it, or rejected it
	Descriptor string   `json:"descriptor,omitempty"` // hash of what waits, or else of what was approved
	Nickname   string   `json:"nickname,omitempty"`
	Mode       string   `json:"mode,omitempty"`
	Family     string   `json:"family,omitempty"`
	Domains    []string `json:"domains,omitempty"`
	Addresses  []string `json:"addresses,omitempty"`
	LinkKey    string   `json:"link_key,omitempty"`
	Version    string   `json:"version,omitempty"`
	Mixing     string   `json:"mixing,omitempty"`
	Published  string   `json:"published,omitempty"`
	Contact    string   `json:"contact,omitempty"` // what its operator says: a mail address,
	OpenPGP    string   `json:"openpgp,omitempty"` // the fingerprint of its key,
	Comments   string   `json:"comments,omitempty"`
	Fresh      bool     `json:"fresh"`           // it can be voted for now
	Score      *uint64  `json:"score,omitempty"` // of approved nodes, 0 to 1000
	Was        *Node    `json:"was,omitempty"`   // of changed: what is approved and stays until the decision
}

func describe(d *directory.Descriptor) Node {
	return Node{ID: idText(d.ID()), Descriptor: d.Hash().String(), Nickname: d.Nickname, Mode: d.Mode.String(), Family: d.Family, Domains: d.Domains,
		Addresses: d.Addresses, LinkKey: d.LinkKey.String(), Version: d.Version, Mixing: string(d.Mixing), Published: d.Published.UTC().Format(stamp),
		Contact: d.Contact, OpenPGP: d.Fingerprint, Comments: d.Comments}
}

// nodes lists all that are known: those that wait first, then approved ones, then rejected
// ones, each by nickname.
func (c *core) nodes() []Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	fresh := c.registry.Fresh(now)
	scores := c.history.Scores(fresh, c.net.Epoch(now))
	var out []Node
	for _, r := range c.registry.List() {
		n := c.show(&r, now)
		if s, ok := scores[r.ID()]; ok {
			n.Score = &s
		}
		out = append(out, n)
	}
	for _, id := range c.registry.Rejected() {
		n := Node{ID: idText(id), State: StateRejected}
		if r := c.records[id]; r != nil {
			n.Since = r.since.Format(stamp)
		}
		out = append(out, n)
	}
	rank := map[string]int{StateWaits: 0, StateChanged: 1, StateApproved: 2, StateRejected: 3}
	slices.SortStableFunc(out, func(a, b Node) int { return cmp.Compare(rank[a.State], rank[b.State]) })
	return out
}

// States of a node.
const (
	StateWaits    = "waits"
	StateChanged  = "changed"
	StateApproved = "approved"
	StateRejected = "rejected"
)

func (c *core) show(r *directory.Registered, now time.Time) Node {
	var n Node
	switch {
	case r.Held == nil:
		n = describe(r.Approved)
		n.State = StateApproved
		n.Fresh = r.Approved.Fresh(c.net, now) == nil
	case r.Approved == nil:
		n = describe(r.Held)
		n.State, n.Reason = StateWaits, "it is new"
	default:
		n = describe(r.Held)
		was := describe(r.Approved)
		n.State, n.Was, n.Reason = StateChanged, &was, "it claims another "+strings.Join(r.Changes(), ", another ")
		n.Fresh = r.Approved.Fresh(c.net, now) == nil
	}
	if k := c.records[r.ID()]; k != nil {
		n.Since = k.since.Format(stamp)
	}
	return n
}

// leastDigits is how much of a fingerprint names a node for approval: nobody can make another
// identity with the same ones.
const leastDigits = 16

// pick finds the node that an operator names: by the first digits of its fingerprint, 16 or
// more, or, unless it must be exact, by its nickname. errs.NotFound, errs.Invalid when several
// fit.
func pick(nodes []Node, name string, exact bool) (Node, error) {
	const op = "role/authority.pick"
	var found []Node
	for _, n := range nodes {
		prefix := len(name) >= leastDigits && strings.HasPrefix(n.ID, strings.ToLower(name))
		if prefix || !exact && n.Nickname != "" && strings.EqualFold(n.Nickname, name) {
			found = append(found, n)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return Node{}, errs.E(op, errs.Invalid, fmt.Sprintf("%d nodes are called that; write the first %d digits of the fingerprint", len(found), leastDigits), nil)
	case exact:
		return Node{}, errs.E(op, errs.NotFound, fmt.Sprintf("no known node has a fingerprint that begins with these digits; %d or more are needed, and a nickname is not enough, because anybody can claim one", leastDigits), nil)
	}
	return Node{}, errs.E(op, errs.NotFound, "no known node has this nickname or fingerprint", nil)
}

// approve lets a node in: the descriptor with this hash, which the operator saw.
func (c *core) approve(id packet.ID, seen directory.Hash) error {
	return c.decide("approved", id, func() error { return c.registry.Approve(id, seen) })
}

// reject drops a node and refuses its identity.
func (c *core) reject(id packet.ID) error {
	return c.decide("rejected", id, func() error { return c.registry.Reject(id) })
}

// forget makes a node a stranger.
func (c *core) forget(id packet.ID) error {
	return c.decide("forgotten", id, func() error { return c.registry.Forget(id) })
}

func (c *core) decide(what string, id packet.ID, fn func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := fn()
	if err == nil {
		err = c.keepNode(id)
	}
	if err != nil {
		return errs.Wrap("role/authority."+what, err)
	}
	c.log.Info("the operator decided", "node", shortID(id), "decision", what)
	return nil
}
