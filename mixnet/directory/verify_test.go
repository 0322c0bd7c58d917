package directory

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// signedBy gives a consensus with endorsements of some authorities.
func signedBy(t testing.TB, n *Network, c *Consensus, keys ...*PrivateKey) *Consensus {
	t.Helper()
	c, err := c.seal("test")
	must(t, err)
	var sigs []Signature
	for _, k := range keys {
		e := c.endorsement(k.Public().ID())
		s, err := k.Sign(e.write().b)
		must(t, err)
		sigs = append(sigs, s)
	}
	c, err = c.WithSignatures(sigs)
	must(t, err)
	return c
}

func plain(epoch uint64, previous Previous) *Consensus {
	return &Consensus{Network: "test.net", Epoch: epoch, Period: time.Hour, Inputs: Inputs{Previous: previous},
		Parameters: Parameters{{LayerMinimum, 1}}}
}

func refused(t *testing.T, err error, kind errs.Kind, public string) {
	t.Helper()
	if errs.KindOf(err) != kind || errs.Public(err) != public {
		t.Errorf("%v, and not %s: %s", err, kind, public)
	}
}

// A client refuses what the threshold did not sign, at each number of authorities.
func TestThreshold(t *testing.T) {
	stranger := testKey(t, "stranger")
	for authorities := 1; authorities <= MaxAuthorities; authorities++ {
		n, keys := testNetwork(t, authorities)
		need := authorities/2 + 1
		if n.Threshold() != need || 2*need <= authorities {
			t.Fatalf("threshold %d of %d", n.Threshold(), authorities)
		}
		enough := signedBy(t, n, plain(someEpoch, Previous{}), append(slices.Clone(keys[:need]), stranger)[:min(need+1, MaxAuthorities)]...)
		w, err := Verify(n, enough, nil, someTime)
		must(t, err)
		missing := 0
		for _, x := range w {
			if x.Kind == MissingSignature {
				missing++
			}
		}
		if missing != authorities-need {
			t.Errorf("%d of %d: warnings %v", need, authorities, w)
		}
		few := signedBy(t, n, plain(someEpoch, Previous{}), append(slices.Clone(keys[:need-1]), stranger)...)
		_, err = Verify(n, few, nil, someTime)
		refused(t, err, errs.Denied, fmt.Sprintf("consensus has %d valid signatures, and %d are needed", need-1, need))
	}
}

func TestVerifyRefuses(t *testing.T) {
	n, keys := testNetwork(t, 3)
	now := someTime.Add(50 * time.Minute)
	a := signedBy(t, n, plain(someEpoch, Previous{}), keys...)
	// A changed body, with the signatures that it had.
	x := bytes.Replace(bytes.Clone(a.Bytes()), []byte("layer-minimum 1"), []byte("layer-minimum 2"), 1)
	changed, err := ParseConsensus(x)
	must(t, err)
	_, err = Verify(n, changed, nil, now)
	refused(t, err, errs.Denied, "consensus has 0 valid signatures, and 2 are needed")
	// Another network, or another period under its name.
	other, err := NewNetwork("other.net", time.Hour, n.authorities)
	must(t, err)
	_, err = Verify(other, a, nil, now)
	refused(t, err, errs.Denied, "consensus is of another network")
	quick, err := NewNetwork("test.net", time.Minute, n.authorities)
	must(t, err)
	_, err = Verify(quick, a, nil, now)
	refused(t, err, errs.Denied, "consensus is of another network")
	// Rollback, and two of one epoch.
	next := signedBy(t, n, plain(someEpoch+1, a.Name()), keys...)
	_, err = Verify(n, a, next, now)
	refused(t, err, errs.Conflict, "consensus of epoch 500000 is older than the one of epoch 500001 that was here before")
	twin := plain(someEpoch, Previous{})
	twin.Random = Value{1}
	twin = signedBy(t, n, twin, keys[:2]...)
	_, err = Verify(n, twin, a, now)
	refused(t, err, errs.Conflict, "two different consensuses of epoch 500000: an authority is lying")
	proofs := Equivocations(n, a, twin)
	if len(proofs) != 2 {
		t.Errorf("%d proofs against two", len(proofs))
	}
	for _, p := range proofs {
		must(t, VerifyProof(n, p))
	}
	if Equivocations(n, a, a) != nil || Equivocations(n, a, next) != nil {
		t.Error("proofs against nobody")
	}
	// The same once more, and the next, are taken.
	for _, c := range []*Consensus{a, next} {
		if _, err := Verify(n, c, a, now); err != nil {
			t.Error(err)
		}
	}
	if err := a.Gossip().Compare(a.Gossip()); err != nil {
		t.Error(err)
	}
	if err := a.Gossip().Compare(next.Gossip()); err != nil {
		t.Error(err)
	}
	refused(t, a.Gossip().Compare(twin.Gossip()), errs.Conflict, "another consensus of epoch 500000 was shown to somebody else")
}

// A clock that is wrong by more than MaxSkew is told with both times.
func TestSkew(t *testing.T) {
	n, keys := testNetwork(t, 1)
	c := signedBy(t, n, plain(someEpoch, Previous{}), keys...)
	made := someTime.Add(-time.Hour * 3 / 8)
	for _, ok := range []time.Time{made.Add(-MaxSkew), made, someTime, someTime.Add(3*time.Hour - 1)} {
		if _, err := Verify(n, c, nil, ok); err != nil {
			t.Errorf("%v: %v", ok, err)
		}
	}
	_, err := Verify(n, c, nil, made.Add(-MaxSkew-time.Second))
	refused(t, err, errs.Unavailable, "the consensus was made at 2027-01-15T07:37:30Z or later, and it is 2027-01-15T07:27:29Z here: this clock is behind")
	_, err = Verify(n, c, nil, someTime.Add(3*time.Hour))
	refused(t, err, errs.Unavailable, "the consensus is valid until 2027-01-15T11:00:00Z, and it is 2027-01-15T11:00:00Z here: it is too old, or this clock is ahead")
}

func TestWarnings(t *testing.T) {
	n, keys := testNetwork(t, 5)
	before := signedBy(t, n, plain(someEpoch-1, Previous{}), keys...)
	c := plain(someEpoch, Previous{})
	liar := keys[0].Public().ID()
	c.Equivocated, c.Withheld = append(c.Equivocated, liar), append(c.Withheld, liar)
	c = signedBy(t, n, c, append(slices.Clone(keys[:4]), testKey(t, "stranger"))...)
	for i := range c.Signatures {
		if c.Signatures[i].Signer == liar {
			c.Signatures[i].MLDSA[5] ^= 1
		}
	}
	w, err := Verify(n, c, before, someTime)
	must(t, err)
	got := map[WarningKind]int{}
	for _, x := range w {
		got[x.Kind]++
		if x.String() == "" {
			t.Error("a warning says nothing")
		}
	}
	want := map[WarningKind]int{UnknownSigner: 1, WrongSignature: 1, MissingSignature: 1, BrokenChain: 1, EquivocatedMember: 1, WithheldMember: 1, FewMixes: 3}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("warnings %v", w)
	}
	for x, want := range map[Warning]string{
		{Kind: BrokenChain}:                               "the consensus does not follow the one that was here before",
		{Kind: FewMixes, Layer: 2}:                        "layer 2 has too few mixes",
		{Kind: WrongSignature, Authority: [32]byte{0xab}}: "the signature of an authority is wrong: ab00000000000000",
	} {
		if x.String() != want {
			t.Errorf("%s", x)
		}
	}
}

func TestNetworkRules(t *testing.T) {
	_, keys := testNetwork(t, 9)
	var pub []*PublicKey
	for _, k := range keys {
		pub = append(pub, k.Public())
	}
	for _, k := range []struct {
		name   string
		period time.Duration
		keys   []*PublicKey
		public string
	}{
		{"A", time.Hour, pub, "the name of the network is not 1 to 32 of a-z, 0-9, dot and hyphen"},
		{"", time.Hour, pub, "the name of the network is not 1 to 32 of a-z, 0-9, dot and hyphen"},
		{"a", 0, pub, "the period is not a number of whole seconds up to a day"},
		{"a", 25 * time.Hour, pub, "the period is not a number of whole seconds up to a day"},
		{"a", time.Second + 1, pub, "the period is not a number of whole seconds up to a day"},
		{"a", time.Hour, nil, "a network has 1 to 9 authorities"},
		{"a", time.Hour, append(pub, pub[0]), "a network has 1 to 9 authorities"},
		{"a", time.Hour, []*PublicKey{pub[0], pub[1], pub[0]}, "an authority is named twice"},
	} {
		_, err := NewNetwork(k.name, k.period, k.keys)
		refused(t, err, errs.Invalid, k.public)
	}
	n, err := NewNetwork("a", time.Minute, pub)
	must(t, err)
	if n.Epoch(n.Begin(7)) != 7 || n.Epoch(n.Begin(7).Add(-1)) != 6 || n.Name() != "a" || n.Period() != time.Minute || len(n.Authorities()) != 9 {
		t.Error("epochs do not follow each other")
	}
	for at, want := range map[time.Duration]Phase{-time.Hour: Collect, 0: Collect, 7500 * time.Millisecond: Voting, 15 * time.Second: Reveals,
		22500 * time.Millisecond: Endorse, 37 * time.Second: Endorse, 37500 * time.Millisecond: Publish, time.Hour * 24 * 365 * 250: Publish} {
		if got := n.PhaseAt(8, n.Begin(7).Add(at)); got != want {
			t.Errorf("%v: phase %d", at, got)
		}
	}
}

// What does not prove anything proves nothing, against an honest authority least.
func TestFalseProofs(t *testing.T) {
	w := newWorld(t, 3, someEpoch, sameView(t, nil))
	w.run()
	c, _ := w.agree(t)
	m := w.machines[0]
	id := w.keys[1].Public().ID()
	v, r, e := m.votes[id][0].Bytes(), m.reveals[id][0].Bytes(), m.endorsements[id][0].Bytes()
	forged, err := SignVote(w.net, Vote{Header: Header{Epoch: someEpoch}}, w.keys[2])
	must(t, err)
	forgedReveal, err := SignReveal(w.net, Reveal{Header: Header{Epoch: someEpoch}}, w.keys[2])
	must(t, err)
	old, err := SignVote(w.net, Vote{Header: Header{Epoch: someEpoch - 1}}, w.keys[1])
	must(t, err)
	mat := m.material()
	for _, l := range m.votes {
		mat.Votes = append(mat.Votes, l...)
	}
	for _, l := range m.reveals {
		mat.Reveals = append(mat.Reveals, l...)
	}
	evidence := m.evidence(m.endorsements[id][0], mat)
	for _, k := range []struct {
		kind ProofKind
		docs [][]byte
	}{
		{TwoVotes, [][]byte{v, v}}, {TwoVotes, [][]byte{v}}, {TwoVotes, [][]byte{v, forged.Bytes()}}, {TwoVotes, [][]byte{v, old.Bytes()}}, {TwoVotes, nil}, {TwoVotes, [][]byte{v, r}},
		{TwoReveals, [][]byte{r, r}}, {TwoReveals, [][]byte{r, forgedReveal.Bytes()}}, {TwoReveals, [][]byte{r, v}},
		{TwoEndorsements, [][]byte{e, e}}, {TwoEndorsements, [][]byte{e, v}},
		{WrongReveal, [][]byte{v, r}}, {WrongReveal, [][]byte{v, forgedReveal.Bytes()}}, {WrongReveal, [][]byte{r, v}},
		{WrongConsensus, evidence}, {WrongConsensus, evidence[:len(evidence)-1]}, {WrongConsensus, evidence[:1]}, {WrongConsensus, [][]byte{v}}, {WrongConsensus, nil},
		{WithheldReveal, [][]byte{c.Bytes()}}, {WithheldReveal, [][]byte{v}}, {WithheldReveal, nil},
	} {
		p, err := ParseProof(newProof(w.net, k.kind, id, someEpoch, k.docs...).Bytes())
		must(t, err)
		if err := VerifyProof(w.net, p); errs.KindOf(err) != errs.Denied || errs.Public(err) != "documents do not prove "+string(k.kind) {
			t.Errorf("%s with %d documents: %v", k.kind, len(k.docs), err)
		}
	}
	// Nobody but the threshold can say that something was withheld.
	few := plain(someEpoch, Previous{})
	few.Withheld = append(few.Withheld, id)
	if err := VerifyProof(w.net, newProof(w.net, WithheldReveal, id, someEpoch, signedBy(t, w.net, few, w.keys[0]).Bytes())); errs.KindOf(err) != errs.Denied {
		t.Error(err)
	}
	must(t, VerifyProof(w.net, newProof(w.net, WithheldReveal, id, someEpoch, signedBy(t, w.net, few, w.keys[0], w.keys[2]).Bytes())))
	refused(t, VerifyProof(w.net, newProof(w.net, "boredom", id, someEpoch)), errs.Unsupported, "kind of proof is unknown")
	refused(t, VerifyProof(w.net, newProof(w.net, TwoVotes, sha256.Sum256(nil), someEpoch)), errs.Denied, "proof is about another network")
	if !errors.Is(VerifyProof(w.net, newProof(&Network{name: "x"}, TwoVotes, id, 1)), errs.Denied) {
		t.Error("a proof of another network holds")
	}
}
