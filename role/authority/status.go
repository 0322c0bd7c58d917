package authority

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Status is what `postern authority status` and the status page show. Everything in it is
// public, but for the process.
type Status struct {
	Info
	Version string `json:"version"`
	PID     int    `json:"pid"`
	Since   string `json:"since"`
	Now     string `json:"now"`
	Epoch   uint64 `json:"epoch"` // that is now
	// Health is "ok", or what is wrong and what follows from it.
	Health        string            `json:"health"`
	Consensus     *ConsensusStatus  `json:"consensus,omitempty"` // the newest
	Agreement     AgreementStatus   `json:"agreement"`           // on the next epoch
	AuthorityList []AuthorityStatus `json:"authority_list"`
	Nodes         struct {
		Approved int `json:"approved"`
		Fresh    int `json:"fresh"` // of them, those that can be voted for now
		Waiting  int `json:"waiting"`
		Rejected int `json:"rejected"`
	} `json:"nodes"`
	Proofs []ProofStatus `json:"proofs"`
}

// ConsensusStatus is about one consensus.
type ConsensusStatus struct {
	Epoch      uint64   `json:"epoch"`
	Hash       string   `json:"hash"`
	ValidAfter string   `json:"valid_after"`
	ValidUntil string   `json:"valid_until"`
	Usable     bool     `json:"usable"` // now
	Nodes      int      `json:"nodes"`
	Layers     [4]int   `json:"layers"` // nodes that are no mixes, then mixes of layers 1 to 3
	SignedBy   []string `json:"signed_by"`
	Warnings   []string `json:"warnings,omitempty"`
}

// AgreementStatus is about the agreement that is under way.
type AgreementStatus struct {
	Epoch     uint64 `json:"epoch"`
	Phase     string `json:"phase"`
	StaysOut  bool   `json:"stays_out,omitempty"` // this authority takes no part
	Waits     string `json:"waits,omitempty"`     // why what is due cannot be done
	Published bool   `json:"published"`
}

// AuthorityStatus is about one authority, in the agreement that is under way.
type AuthorityStatus struct {
	ID          string `json:"id"`
	Self        bool   `json:"self,omitempty"`
	Heard       string `json:"heard,omitempty"`   // when it answered last
	Problem     string `json:"problem,omitempty"` // why it does not answer
	Vote        bool   `json:"vote"`
	Reveal      bool   `json:"reveal"`
	Endorsement bool   `json:"endorsement"`
}

// ProofStatus is about one proof.
type ProofStatus struct {
	Hash    string `json:"hash"`
	Kind    string `json:"kind"`
	Accused string `json:"accused"`
	Epoch   uint64 `json:"epoch"`
	Bytes   int    `json:"bytes"`
}

// phaseName says in a word what an epoch's phase is for.
func phaseName(p directory.Phase) string {
	switch p {
	case directory.Collect:
		return "collecting descriptors"
	case directory.Voting:
		return "voting"
	case directory.Reveals:
		return "revealing"
	case directory.Endorse:
		return "endorsing"
	}
	return "publishing"
}

// Status tells how the authority does.
func (s *Server) Status() Status {
	st := Status{Info: s.Info(), Version: s.d.Version, PID: os.Getpid(), Since: s.started.UTC().Format(stamp)}
	s.core.status(&st)
	for _, c := range s.net.Contacts() {
		i := slices.IndexFunc(st.AuthorityList, func(a AuthorityStatus) bool { return a.ID == idText(c.ID) })
		for _, p := range s.pullers {
			if i < 0 || p.id != c.ID {
				continue
			}
			heard, why := p.state()
			if !heard.IsZero() {
				st.AuthorityList[i].Heard = heard.UTC().Format(stamp)
			}
			if why != nil {
				st.AuthorityList[i].Problem = errs.Public(why)
			}
		}
	}
	st.Health = s.health(&st)
	return st
}

// health says the one thing that an operator must know first.
func (s *Server) health(st *Status) string {
	silent := 0
	for _, a := range st.AuthorityList {
		if a.Problem != "" {
			silent++
		}
	}
	switch reached := len(st.AuthorityList) - silent; {
	case reached < st.Threshold:
		return fmt.Sprintf("%d of the other authorities do not answer: with fewer than %d there is no consensus", silent, st.Threshold)
	case st.Consensus == nil:
		return "there is no consensus yet: the first one is given out at five eighths of the first whole epoch"
	case !st.Consensus.Usable:
		return "the newest consensus can no longer be used: nothing is sent in the network until there is a new one"
	}
	return "ok"
}

// status tells of what the core knows.
func (c *core) status(st *Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	current := c.net.Epoch(now)
	st.Now, st.Epoch = now.UTC().Format(stamp), current
	if p := c.newest.Load(); p != nil {
		st.Consensus = c.consensusStatus(p, now)
	}
	ag := AgreementStatus{Epoch: current + 1, Phase: phaseName(c.net.PhaseAt(current+1, now)), StaysOut: current+1 <= c.sitOut}
	var here map[packet.ID][]string
	if a := c.agreements[current+1]; a != nil {
		here = map[packet.ID][]string{}
		for _, o := range a.docs {
			here[o.authority] = append(here[o.authority], o.kind)
		}
		ag.Published = a.done
		switch {
		case a.done:
			ag.Phase = "published"
		case a.why != nil:
			ag.Waits = errs.Public(a.why)
		}
	}
	st.Agreement = ag
	for _, k := range c.net.Authorities() {
		kinds := here[k.ID()]
		st.AuthorityList = append(st.AuthorityList, AuthorityStatus{ID: idText(k.ID()), Self: k.ID() == c.self, Vote: slices.Contains(kinds, kindVote),
			Reveal: slices.Contains(kinds, kindReveal), Endorsement: slices.Contains(kinds, kindEndorsement)})
	}
	for _, r := range c.registry.List() {
		if r.Held != nil {
			st.Nodes.Waiting++
		}
		if r.Approved != nil {
			st.Nodes.Approved++
		}
	}
	st.Nodes.Fresh, st.Nodes.Rejected = len(c.registry.Fresh(now)), len(c.registry.Rejected())
	st.Proofs = []ProofStatus{}
	for _, file := range slices.Sorted(maps.Keys(c.proofs)) {
		p := c.proofs[file]
		st.Proofs = append(st.Proofs, ProofStatus{Hash: p.Hash.String(), Kind: string(p.Kind), Accused: idText(p.Accused), Epoch: p.Epoch, Bytes: p.Size})
	}
}

func (c *core) consensusStatus(p *directory.Consensus, now time.Time) *ConsensusStatus {
	s := &ConsensusStatus{Epoch: p.Epoch, Hash: p.Hash().String(), ValidAfter: p.ValidAfter().Format(stamp), ValidUntil: p.ValidUntil().Format(stamp),
		Usable: c.net.ValidAt(p, now) == nil, Nodes: len(p.Nodes), SignedBy: []string{}}
	for i := range p.Nodes {
		s.Layers[p.Nodes[i].Layer]++
	}
	bad := map[packet.ID]bool{}
	warnings, _ := directory.Verify(c.net, p, nil, p.ValidAfter()) // it was verified when it came
	for _, w := range warnings {
		s.Warnings = append(s.Warnings, w.String())
		if w.Kind == directory.UnknownSigner || w.Kind == directory.WrongSignature {
			bad[w.Authority] = true
		}
	}
	for i := range p.Signatures {
		if id := p.Signatures[i].Signer; !bad[id] {
			s.SignedBy = append(s.SignedBy, idText(id))
		}
	}
	return s
}
