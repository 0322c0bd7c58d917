package directory

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// requests is one of each form.
func requests(t testing.TB) map[string]Request {
	d := testNode(t, "mix0", Mix, someTime).Bytes()
	s, err := SignStats(Stats{Network: "test.net", Epoch: someEpoch, Loops: []Loops{{mixID(1), 120, 118}}}, testKey(t, "node mix0"))
	must(t, err)
	return map[string]Request{
		"consensus":       {Kind: RequestConsensus},
		"consensus-epoch": {Kind: RequestConsensus, Epoch: someEpoch},
		"consensus-from":  {Kind: RequestConsensus, Epoch: someEpoch, From: Hash{0xab}, Packed: true},
		"gossip":          {Kind: RequestGossip},
		"publish":         {Kind: RequestPublish, Document: d},
		"stats":           {Kind: RequestStats, Document: s.Bytes()},
		"offers":          {Kind: RequestOffers, Epoch: someEpoch},
		"document":        {Kind: RequestDocument, Hash: Hash{0xcd}, Packed: true},
		"proofs":          {Kind: RequestProofs},
		"version":         {Kind: RequestVersion},
	}
}

// answers is one of each list.
func answers(t testing.TB) map[string][]byte {
	made := golden(t)
	p, err := ParseProof(made["proof"])
	must(t, err)
	n, _ := testNetwork(t, 3)
	return map[string][]byte{
		"network": testNetworkFile(t),
		"gossip":  (&GossipList{"test.net", []Gossip{{someEpoch, Hash{1}}, {someEpoch + 1, Hash{2}}}}).Bytes(),
		"offers":  NewOffers(n, someEpoch, [][]byte{made["vote"], made["reveal"], made["endorsement"], made["consensus"]}).Bytes(),
		"proofs":  NewProofList(n, []*Proof{p}).Bytes(),
		"version": (&VersionInfo{"test.net", "postern-0.1"}).Bytes(),
	}
}

// printAgain reads an answer and prints it again.
var printAgain = map[string]func([]byte) ([]byte, error){
	"network": func(b []byte) ([]byte, error) { return reprint(b, ParseNetwork) },
	"gossip":  func(b []byte) ([]byte, error) { return reprint(b, ParseGossip) },
	"offers":  func(b []byte) ([]byte, error) { return reprint(b, ParseOffers) },
	"proofs":  func(b []byte) ([]byte, error) { return reprint(b, ParseProofs) },
	"version": func(b []byte) ([]byte, error) { return reprint(b, ParseVersion) },
}

func reprint[D interface{ Bytes() []byte }](b []byte, parse func([]byte) (D, error)) ([]byte, error) {
	d, err := parse(b)
	if err != nil {
		return nil, err
	}
	return d.Bytes(), nil
}

// Requests and answers are written as they were once written.
func TestRequestGolden(t *testing.T) {
	file := func(name string, made []byte) []byte {
		path := filepath.Join("testdata", "golden", name+".txt")
		if *rewrite {
			must(t, os.WriteFile(path, made, 0o644))
		}
		b, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(b, made) {
			t.Errorf("%s is written otherwise now", name)
		}
		return b
	}
	for name, r := range requests(t) {
		made, err := AppendRequest([]byte("before"), r)
		must(t, err)
		b := file("request-"+name, bytes.TrimPrefix(made, []byte("before")))
		got, err := ParseRequest(b)
		must(t, err)
		if !reflect.DeepEqual(*got, r) {
			t.Errorf("%s is read as %+v", name, got)
		}
	}
	for name, made := range answers(t) {
		b := file("answer-"+name, made)
		if again, err := printAgain[name](b); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: read and printed it is another: %v", name, err)
		}
	}
}

func TestRequestRules(t *testing.T) {
	zero := strings.Repeat("0", 64)
	for _, k := range []struct {
		text   string
		class  errs.Kind
		public string
	}{
		{"", errs.Invalid, "no request"},
		{"consensus", errs.Invalid, "line 1: no end of line"},
		{"critical consensus\n", errs.Invalid, "no request"},
		{"weather\n", errs.Unsupported, "the request is unknown"},
		{"consensus 0\n", errs.Invalid, "line 1: consensus: not a number from 1 to 1099511627776"},
		{"consensus 7 8\n", errs.Invalid, "line 1: wrong number of arguments of consensus"},
		{"consensus packed 7\n", errs.Invalid, "line 1: wrong number of arguments of consensus"},
		{"consensus packed packed\n", errs.Invalid, "line 1: wrong number of arguments of consensus"},
		{"consensus packed from " + zero[1:] + "1\n", errs.Invalid, "line 1: wrong number of arguments of consensus"},
		{"consensus from\n", errs.Invalid, "line 1: consensus: an argument is missing"},
		{"consensus from " + zero + "\n", errs.Invalid, "line 1: consensus: zero is no hash of a consensus"},
		{"consensus from zz\n", errs.Invalid, "line 1: consensus: not 64 digits of lower-case hex"},
		{"consensus\nconsensus\n", errs.Invalid, "nothing may follow the request"},
		{"gossip 1\n", errs.Invalid, "line 1: wrong number of arguments of gossip"},
		{"document\n", errs.Invalid, "line 1: document: an argument is missing"},
		{"offers\n", errs.Invalid, "line 1: offers: an argument is missing"},
		{"publish\n", errs.Invalid, "a document must follow the request"},
		{"publish x\ny", errs.Invalid, "line 1: wrong number of arguments of publish"},
		{"publish\npostern-packed 1\nsize 32769\n", errs.TooLarge, "the document is too large"},
		{"stats\npostern-packed 1\nsize 3\nx", errs.Invalid, "the document is packed wrongly"},
		{strings.Repeat("x", MaxRequest+1), errs.TooLarge, "longer than 32768 bytes"},
	} {
		_, err := ParseRequest([]byte(k.text))
		refused(t, err, k.class, k.public)
	}
	_, err := AppendRequest(nil, Request{Kind: "weather"})
	refused(t, err, errs.Unsupported, "the request is unknown")
	_, err = AppendRequest(nil, Request{Kind: RequestOffers})
	refused(t, err, errs.Invalid, "line 1: offers: not a number from 1 to 1099511627776")
	_, err = AppendRequest(nil, Request{Kind: RequestGossip, Document: []byte("x")})
	refused(t, err, errs.Invalid, "nothing may follow the request")
	noise := make([]byte, MaxStats)
	state := uint64(1)
	for i := range noise {
		state = state*6364136223846793005 + 1442695040888963407
		noise[i] = byte(state >> 56)
	}
	_, err = AppendRequest(nil, Request{Kind: RequestStats, Document: noise})
	refused(t, err, errs.TooLarge, "the document does not fit into a request")
}

// The statistics of a mix in the largest network fit into one request, and so does the
// largest descriptor that nodes write.
func TestLargestDocumentsFit(t *testing.T) {
	v := Stats{Network: "test.net", Epoch: maxEpoch}
	for i := range MaxNodes {
		v.Loops = append(v.Loops, Loops{mixID(i), MaxLoops - uint64(i), MaxLoops - uint64(7*i)})
	}
	slices.SortFunc(v.Loops, func(a, b Loops) int { return compareID(a.Through, b.Through) })
	s, err := SignStats(v, testKey(t, "node mix0"))
	must(t, err)
	d := testNode(t, "n", Relay|Mailbox|Exit, someTime, func(d *Descriptor) {
		d.Keys = nil
		for i := range MaxPacketKeys {
			from := someTime.Add(time.Duration(i-2) * 24 * time.Hour)
			d.Keys = append(d.Keys, PacketKey{from, from.Add(MaxKeyLife), packetKey(t, strings.Repeat("k", i+1))})
		}
		for i := range MaxParameters {
			d.Parameters = append(d.Parameters, Parameter{strings.Repeat("p", 30) + string(rune('0'+i/10)) + string(rune('0'+i%10)), MaxParameter})
		}
	})
	for kind, doc := range map[RequestKind][]byte{RequestStats: s.Bytes(), RequestPublish: d.Bytes()} {
		b, err := AppendRequest(nil, Request{Kind: kind, Document: doc})
		must(t, err)
		r, err := ParseRequest(b)
		must(t, err)
		t.Logf("%s: %d bytes in a request of %d", kind, len(doc), len(b))
		if len(b) > MaxRequest || !bytes.Equal(r.Document, doc) {
			t.Errorf("%s: it came as another document", kind)
		}
	}
	if len(s.Bytes()) <= MaxRequest {
		t.Error("the largest statistics fit without being packed: the test tests nothing")
	}
}

func TestVerdicts(t *testing.T) {
	for want, b := range map[string][]byte{
		"accepted\n":     FormatVerdict(false, nil),
		"held\n":         FormatVerdict(true, nil),
		"refused no\n":   FormatVerdict(true, errs.E("op", errs.Denied, "no", errors.New("private"))),
		"refused a?b?\n": FormatVerdict(false, errs.E("op", errs.Full, "a\nb\x80", nil)),
		"refused " + strings.Repeat("x", maxReason) + "\n": FormatVerdict(false, errs.E("op", errs.Full, strings.Repeat("x", 999), nil)),
	} {
		if string(b) != want {
			t.Errorf("%q, not %q", b, want)
		}
		held, err := ParseVerdict(b)
		reason, refusal := strings.CutPrefix(want, "refused ")
		switch {
		case refusal:
			refused(t, err, errs.Denied, strings.TrimSuffix(reason, "\n"))
		case err != nil || held != (want == "held\n"):
			t.Errorf("%q is read as %v, %v", b, held, err)
		}
	}
	for _, s := range []string{"", "accepted", "held \n", "refused \n", "refused\n", "refused a\nb\n", "refused a\x1bb\n", "refused " + strings.Repeat("x", maxReason+1) + "\n"} {
		_, err := ParseVerdict([]byte(s))
		refused(t, err, errs.Invalid, "the answer is no verdict")
	}
}

func TestAnswerRules(t *testing.T) {
	h := func(c string) string { return strings.Repeat(c, 64) }
	for _, k := range []struct {
		kind, text, public string
	}{
		{"gossip", "postern-gossip 1\nnetwork a\ngossip 2 " + h("1") + "\ngossip 2 " + h("2") + "\n", "line 4: gossip: not sorted"},
		{"gossip", "postern-gossip 1\nnetwork a\n" + strings.Repeat("gossip 2 "+h("1")+"\n", 1) + many("gossip ", " "+h("1")+"\n", 9), "more than 8 of gossip"},
		{"offers", "postern-offers 1\nnetwork a\nepoch 1\noffer song " + h("1") + " 7\n", "line 4: offer: not a document of the agreement"},
		{"offers", "postern-offers 1\nnetwork a\nepoch 1\noffer vote " + h("1") + " 7\noffer vote " + h("1") + " 7\n", "line 5: offer: not sorted"},
		{"offers", "postern-offers 1\nnetwork a\nepoch 1\noffer vote " + h("1") + " 0\n", "line 4: offer: not a number from 1 to 16777216"},
		{"proofs", "postern-proofs 1\nnetwork a\nproof " + h("1") + " two-votes " + h("1") + " 1 0\n", "line 3: proof: not a number from 1 to 50331648"},
		{"proofs", "postern-proofs 1\nnetwork a\nproof " + h("2") + " x " + h("1") + " 1 1\nproof " + h("1") + " x " + h("1") + " 1 1\n", "line 4: proof: not sorted"},
		{"version", "postern-version 1\nnetwork a\nversion B\n", "line 3: version: not 1 to 32 of a-z, 0-9, dot and hyphen"},
		{"version", "postern-version 1\nversion b\n", "line 2: too few of network before it"},
		{"version", strings.Repeat("x", MaxAnswer+1), "longer than 65536 bytes"},
	} {
		_, err := printAgain[k.kind]([]byte(k.text))
		if !strings.HasSuffix(errs.Public(err), k.public) {
			t.Errorf("%s: %v", k.public, err)
		}
	}
}

func many(before, after string, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(before)
		b.WriteString(string(rune('3' + i)))
		b.WriteString(after)
	}
	return b.String()
}

// A document has the name by which offers and votes call it.
func TestHashOf(t *testing.T) {
	for kind, b := range golden(t) {
		var want Hash
		switch kind {
		case "proof":
			p, err := ParseProof(b)
			must(t, err)
			want = p.Hash()
		case "consensus":
			c, err := ParseConsensus(b)
			must(t, err)
			want = c.Hash()
		case "descriptor":
			d, err := ParseDescriptor(b)
			must(t, err)
			want = d.Hash()
		default:
			continue
		}
		if HashOf(b) != want {
			t.Errorf("%s has two names", kind)
		}
	}
	n, _ := testNetwork(t, 3)
	var list []*Proof
	for i := range MaxProofsNamed + 10 {
		list = append(list, newProof(n, TwoVotes, mixID(i), uint64(i+1)))
	}
	l := NewProofList(n, append(list, list[20]))
	if len(l.Proofs) != MaxProofsNamed || len(l.Bytes()) > MaxAnswer {
		t.Errorf("%d proofs in %d bytes", len(l.Proofs), len(l.Bytes()))
	}
	for _, p := range l.Proofs {
		if p.Epoch <= 9 {
			t.Error("an old proof is named and a new one is not")
		}
	}
	_, err := ParseProofs(l.Bytes())
	must(t, err)
}

func FuzzRequest(f *testing.F) {
	for _, r := range requests(f) {
		b, err := AppendRequest(nil, r)
		must(f, err)
		f.Add(b)
	}
	f.Add(append([]byte("publish\n"), Pack([]byte("postern-descriptor 1\n"))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		out, err := AppendRequest(nil, *r)
		if err != nil {
			if errs.KindOf(err) == errs.TooLarge { // was packed better than we do
				return
			}
			t.Fatal(err)
		}
		again, err := ParseRequest(out)
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("written and read again it is another: %v", err)
		}
	})
}

func FuzzAnswers(f *testing.F) {
	for _, b := range answers(f) {
		f.Add(b)
	}
	f.Add([]byte("accepted\n"))
	f.Add([]byte("refused why\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseVerdict(b)
		again := printAgain[strings.TrimPrefix(title(b), "postern-")]
		if again == nil {
			return
		}
		out, err := again(b)
		if err != nil {
			return
		}
		if twice, err := again(out); err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("printed and read again it is another: %v", err)
		}
	})
}
