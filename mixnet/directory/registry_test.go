package directory

import (
	"fmt"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

func testRegistry(t *testing.T) *Registry {
	n, _ := testNetwork(t, 1)
	return NewRegistry(n)
}

// A new node waits for the operator; what it says later is taken by itself, unless it claims
// something new.
func TestRegistry(t *testing.T) {
	r := testRegistry(t)
	d := testNode(t, "mix0", Mix, someTime)
	held, err := r.Offer(d.Bytes(), someTime)
	must(t, err)
	if !held || len(r.Fresh(someTime)) != 0 {
		t.Fatal("a new node is taken without the operator")
	}
	refused(t, r.Approve(d.ID(), Hash{}), errs.NotFound, "no such descriptor waits for a decision")
	must(t, r.Approve(d.ID(), d.Hash()))
	if got := r.Fresh(someTime); len(got) != 1 || got[0].Hash() != d.Hash() {
		t.Fatal("an approved node is not there")
	}
	if held, err = r.Offer(d.Bytes(), someTime); held || err != nil {
		t.Error("the same again:", err)
	}
	evening := someTime.Add(2 * time.Hour)
	later := testNode(t, "mix0", Mix, someTime.Add(time.Hour), func(d *Descriptor) { d.Version = "postern-0.2" })
	held, err = r.Offer(later.Bytes(), someTime.Add(time.Hour))
	must(t, err)
	if held || r.Fresh(evening)[0].Version != "postern-0.2" {
		t.Error("a later descriptor is not taken by itself")
	}
	_, err = r.Offer(d.Bytes(), someTime.Add(time.Hour))
	refused(t, err, errs.Conflict, "a newer descriptor of this node is known")
	moved := testNode(t, "mix0", Mix, someTime.Add(2*time.Hour), func(d *Descriptor) { d.Nickname = "other" })
	held, err = r.Offer(moved.Bytes(), someTime.Add(2*time.Hour))
	must(t, err)
	if !held || r.Fresh(evening)[0].Nickname != "mix0" {
		t.Error("another nickname is taken without the operator")
	}
	if l := r.List(); len(l) != 1 || l[0].Held == nil || l[0].Approved == nil {
		t.Errorf("list: %v", l)
	}
	must(t, r.Approve(moved.ID(), moved.Hash()))
	if r.Fresh(evening)[0].Nickname != "other" {
		t.Error("not approved")
	}

	// What is kept can be put back.
	again := testRegistry(t)
	again.Restore(r.List(), r.Rejected())
	if len(again.Fresh(evening)) != 1 {
		t.Error("lost")
	}
}

// A nickname, domain or link key of a known node is refused to another key.
func TestForeignKey(t *testing.T) {
	r := testRegistry(t)
	d := testNode(t, "relay0", Relay, someTime)
	_, err := r.Offer(d.Bytes(), someTime)
	must(t, err)
	must(t, r.Approve(d.ID(), d.Hash()))
	for what, change := range map[string]func(*Descriptor){
		"nickname": func(x *Descriptor) { x.Nickname = "RELAY0" },
		"domain":   func(x *Descriptor) { x.Domains = d.Domains },
		"link-key": func(x *Descriptor) { x.LinkKey = d.LinkKey },
	} {
		_, err := r.Offer(testNode(t, "thief", Relay, someTime, change).Bytes(), someTime)
		refused(t, err, errs.Denied, "the "+what+" belongs to a node with another key")
	}
	// Of two that wait for one name only the first can be approved.
	a := testNode(t, "a", Mix, someTime, func(x *Descriptor) { x.Nickname = "same" })
	b := testNode(t, "b", Mix, someTime, func(x *Descriptor) { x.Nickname = "same" })
	for _, x := range []*Descriptor{a, b} {
		_, err := r.Offer(x.Bytes(), someTime)
		must(t, err)
	}
	must(t, r.Approve(a.ID(), a.Hash()))
	refused(t, r.Approve(b.ID(), b.Hash()), errs.Denied, "the nickname belongs to a node with another key")
}

func TestReject(t *testing.T) {
	r := testRegistry(t)
	d := testNode(t, "mix0", Mix, someTime)
	_, err := r.Offer(d.Bytes(), someTime)
	must(t, err)
	must(t, r.Approve(d.ID(), d.Hash()))
	must(t, r.Reject(d.ID()))
	if len(r.Fresh(someTime)) != 0 || len(r.Rejected()) != 1 {
		t.Error("a rejected node is still there")
	}
	_, err = r.Offer(d.Bytes(), someTime)
	refused(t, err, errs.Denied, "the operator rejected this node")
	must(t, r.Forget(d.ID()))
	refused(t, r.Forget(d.ID()), errs.NotFound, "no such node is known")
	if held, err := r.Offer(d.Bytes(), someTime); !held || err != nil {
		t.Error("a forgotten node is no new one:", err)
	}
	var many []packet.ID
	for i := range MaxRejected {
		many = append(many, mixID(i))
	}
	r.Restore(nil, many)
	refused(t, r.Reject(mixID(-1)), errs.Full, "too many identities were rejected; forget some")
	must(t, r.Reject(mixID(1)))
}

// Fresh, expired, from the future, of another network.
func TestFresh(t *testing.T) {
	n, _ := testNetwork(t, 1)
	other, err := NewNetwork("other.net", n.Period(), n.Authorities())
	must(t, err)
	d := testNode(t, "mix0", Mix, someTime)
	must(t, d.Fresh(n, someTime))
	must(t, d.Fresh(n, d.Published.Add(n.MaxAge())))
	must(t, d.Fresh(n, d.Published.Add(-MaxSkew)))
	refused(t, d.Fresh(other, someTime), errs.Denied, "descriptor is of another network")
	refused(t, d.Fresh(n, d.Published.Add(n.MaxAge()+1)), errs.Denied, "descriptor is too old")
	refused(t, d.Fresh(n, d.Published.Add(-MaxSkew-time.Second)), errs.Invalid,
		"descriptor is from 2027-01-15T07:00:00Z, and it is 2027-01-15T06:49:59Z here: one of the clocks is wrong")
	short := testNode(t, "mix0", Mix, someTime, func(d *Descriptor) { d.Keys[0].Until = someTime })
	must(t, short.Fresh(n, someTime.Add(-1)))
	refused(t, short.Fresh(n, someTime), errs.Denied, "all packet keys of the descriptor have expired")
	r := testRegistry(t)
	_, err = r.Offer(d.Bytes(), someTime.Add(n.MaxAge()))
	refused(t, err, errs.Denied, "descriptor is too old")
	_, err = r.Offer([]byte("hello\n"), someTime)
	refused(t, err, errs.Invalid, "line 1: no postern-descriptor")
}

// What waits is bounded, and goes when it is no longer fresh.
func TestHeldBound(t *testing.T) {
	r := testRegistry(t)
	d := testNode(t, "mix0", Mix, someTime)
	for i := range MaxHeld {
		x := *d
		x.Nickname = fmt.Sprint("n", i)
		r.nodes[mixID(i)] = &Registered{Held: &x}
	}
	y := testNode(t, "mix1", Mix, someTime)
	_, err := r.Offer(y.Bytes(), someTime)
	refused(t, err, errs.Full, "too many nodes wait for the operator")
	y = testNode(t, "mix1", Mix, someTime.Add(24*time.Hour))
	if held, err := r.Offer(y.Bytes(), someTime.Add(24*time.Hour)); !held || err != nil {
		t.Error("what has expired still waits:", err)
	}
	if len(r.List()) != 1 {
		t.Errorf("%d wait", len(r.List()))
	}
	// So are approved nodes.
	full := testRegistry(t)
	for i := range MaxNodes {
		x := *d
		x.Nickname, x.LinkKey = fmt.Sprint("n", i), Hash{byte(i), byte(i >> 8), 1}
		full.nodes[mixID(i)] = &Registered{Approved: &x}
	}
	_, err = full.Offer(y.Bytes(), someTime.Add(24*time.Hour))
	must(t, err)
	refused(t, full.Approve(y.ID(), y.Hash()), errs.Full, "512 nodes are approved already")
}
