package account

import "container/list"

// turns is a queue in which networks take turns, and within a network accounts.
// The zero value is empty.
type turns struct {
	networks map[string]*list.Element
	ring     list.List // of *networkTurns; front: next
}

type networkTurns struct {
	name     string
	accounts map[string]*list.Element
	ring     list.List // of *accountTurns; front: next
}

type accountTurns struct {
	name string
	jobs list.List // of *job; front: next
}

func (t *turns) push(j *job) {
	if t.networks == nil {
		t.networks = make(map[string]*list.Element)
	}
	ne := t.networks[j.network]
	if ne == nil {
		ne = t.ring.PushBack(&networkTurns{name: j.network, accounts: make(map[string]*list.Element)})
		t.networks[j.network] = ne
	}
	n := ne.Value.(*networkTurns)
	ae := n.accounts[j.account]
	if ae == nil {
		ae = n.ring.PushBack(&accountTurns{name: j.account})
		n.accounts[j.account] = ae
	}
	j.elem = ae.Value.(*accountTurns).jobs.PushBack(j)
}

// next gives the job whose turn it is, without removing it, and nil when there
// is none. Removing it passes the turn on.
func (t *turns) next() *job {
	ne := t.ring.Front()
	if ne == nil {
		return nil
	}
	ae := ne.Value.(*networkTurns).ring.Front()
	return ae.Value.(*accountTurns).jobs.Front().Value.(*job)
}

// last gives the job of a network that would be served last, or nil.
func (t *turns) last(network string) *job {
	ne := t.networks[network]
	if ne == nil {
		return nil
	}
	var most *accountTurns
	ring := &ne.Value.(*networkTurns).ring
	for e := ring.Front(); e != nil; e = e.Next() {
		if a := e.Value.(*accountTurns); most == nil || a.jobs.Len() >= most.jobs.Len() {
			most = a
		}
	}
	return most.jobs.Back().Value.(*job)
}

// remove takes j out. If its network or account was next, the turn passes on.
func (t *turns) remove(j *job) {
	ne := t.networks[j.network]
	n := ne.Value.(*networkTurns)
	ae := n.accounts[j.account]
	a := ae.Value.(*accountTurns)
	first := t.ring.Front() == ne && n.ring.Front() == ae && a.jobs.Front() == j.elem
	a.jobs.Remove(j.elem)
	j.elem = nil
	if a.jobs.Len() == 0 {
		n.ring.Remove(ae)
		delete(n.accounts, j.account)
	} else if first {
		n.ring.MoveToBack(ae)
	}
	if n.ring.Len() == 0 {
		t.ring.Remove(ne)
		delete(t.networks, j.network)
	} else if first {
		t.ring.MoveToBack(ne)
	}
}
