package directory

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/golden anew: only for a new format")

// again prints what was parsed.
func again(w *writer, sig Signature, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	w.signature(&sig)
	return w.b, nil
}

// kinds are the parsers, without the keys of signers, and what prints what they gave again.
var kinds = map[string]func(b []byte) (again []byte, err error){
	"descriptor": func(b []byte) ([]byte, error) {
		d, sig, err := parseDescriptor("test", b)
		if err != nil {
			return nil, err
		}
		return again(d.write(), sig, nil)
	},
	"vote": func(b []byte) ([]byte, error) {
		v, sig, err := parseVote("test", b)
		return again(v.write(), sig, err)
	},
	"reveal": func(b []byte) ([]byte, error) {
		r, sig, err := parseReveal("test", b)
		return again(r.write(), sig, err)
	},
	"endorsement": func(b []byte) ([]byte, error) {
		e, err := parseEndorsement("test", b)
		return again(e.write(), e.sig, err)
	},
	"stats": func(b []byte) ([]byte, error) {
		v, sig, err := parseStats("test", b)
		return again(v.write(), sig, err)
	},
	"consensus": func(b []byte) ([]byte, error) {
		c, err := ParseConsensus(b)
		if err != nil {
			return nil, err
		}
		d, err := c.seal("test")
		if err != nil {
			return nil, err
		}
		w := &writer{b: bytes.Clone(d.raw)}
		for i := range c.Signatures {
			w.signature(&c.Signatures[i])
		}
		return w.b, nil
	},
	"proof": func(b []byte) ([]byte, error) {
		p, err := ParseProof(b)
		if err != nil {
			return nil, err
		}
		return newProof(&Network{name: p.Network}, p.Kind, p.Accused, p.Epoch, p.Documents...).raw, nil
	},
}

// golden makes one document of each kind; the same in each run.
func golden(t testing.TB) map[string][]byte {
	out := map[string][]byte{}
	nodes := testNodes(t, 3, someTime)
	mix := testNode(t, "pool", Mix, someTime, pooled, func(d *Descriptor) {
		d.Family, d.Parameters = "operator-1", Parameters{{"capacity", 200}}
		d.Addresses = append(d.Addresses, "[2001:db8::1]:4000", "mix.example:4000")
	})
	nodes = append(nodes, mix)
	out["descriptor"] = mix.Bytes()
	out["descriptor-relay"] = testNode(t, "relay", Relay|Mailbox, someTime, func(d *Descriptor) { d.LetterKey = letterKey(t, "relay") }).Bytes()
	w := newWorld(t, 3, someEpoch, func(int) View {
		p := slices.Clone(ProfileFull())
		for i := range p {
			if p[i].Name == Pools {
				p[i].Value = 1
			}
		}
		return View{p, rated(nodes, 950), nil}
	})
	w.liar = 1
	w.lie = lies[0].make(w)
	w.run()
	c, _ := w.agree(t)
	out["consensus"] = c.Bytes()
	out["vote"] = w.machines[0].votes[w.machines[0].self][0].Bytes()
	out["reveal"] = w.machines[0].reveals[w.machines[0].self][0].Bytes()
	out["endorsement"] = w.machines[0].endorsements[w.machines[0].self][0].Bytes()
	out["proof"] = w.machines[0].Proofs()[0].Bytes()
	s, err := SignStats(Stats{Network: "test.net", Epoch: someEpoch, Loops: []Loops{{mixID(1), 120, 118}}}, testKey(t, "node mix0"))
	must(t, err)
	out["stats"] = s.Bytes()
	return out
}

// What was once written can be read by every later version, and is still written so.
func TestGolden(t *testing.T) {
	made := golden(t)
	if len(made) < len(kinds) {
		t.Error("a kind has no golden document")
	}
	for kind := range made {
		again := kinds[strings.TrimSuffix(kind, "-relay")]
		path := filepath.Join("testdata", "golden", kind+".txt")
		if *rewrite {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, made[kind], 0o644))
		}
		b, err := os.ReadFile(path)
		must(t, err)
		if kind != "proof" && !bytes.Equal(b, made[kind]) {
			t.Errorf("%s is written otherwise now", kind)
		}
		got, err := again(b)
		must(t, err)
		if !bytes.Equal(got, b) {
			t.Errorf("%s: parsed and printed it is another", kind)
		}
	}
	n, _ := testNetwork(t, 3)
	read := func(kind string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", "golden", kind+".txt"))
		must(t, err)
		return b
	}
	c, err := ParseConsensus(read("consensus"))
	must(t, err)
	if _, err := Verify(n, c, nil, someTime); err != nil {
		t.Error(err)
	}
	p, err := ParseProof(read("proof"))
	must(t, err)
	must(t, VerifyProof(n, p))
	for kind, parse := range map[string]func([]byte) error{
		"descriptor":  func(b []byte) error { _, err := ParseDescriptor(b); return err },
		"vote":        func(b []byte) error { _, err := ParseVote(n, b); return err },
		"reveal":      func(b []byte) error { _, err := ParseReveal(n, b); return err },
		"endorsement": func(b []byte) error { _, err := ParseEndorsement(n, b); return err },
		"stats": func(b []byte) error {
			_, err := ParseStats("test.net", func(packet.ID) *PublicKey { return testKey(t, "node mix0").Public() }, b)
			return err
		},
	} {
		b := read(kind)
		must(t, parse(b))
		// Each half of the signature is needed, and covers every line.
		at := bytes.Index(b, []byte("\nsignature ")) + 1
		for _, off := range []int{at + 75 + 10, at + 75 + 87 + 10} {
			x := bytes.Clone(b)
			if x[off]++; x[off] > 'z' || x[off] == '[' || x[off] == ':' {
				x[off] = 'A'
			}
			if err := parse(x); errs.KindOf(err) != errs.Denied || errs.Public(err) != "signature is wrong" {
				t.Errorf("%s: half of the signature: %v", kind, err)
			}
		}
		x := slices.Concat(b[:at], []byte("added 1\n"), b[at:])
		if err := parse(x); errs.Public(err) != "signature is wrong" {
			t.Errorf("%s: a line was added: %v", kind, err)
		}
	}
}

// FuzzDocuments: whatever comes in, parsers do not panic, and what they take without unknown
// lines is printed in the same bytes.
func FuzzDocuments(f *testing.F) {
	for _, kind := range append(slices.Collect(maps.Keys(kinds)), "descriptor-relay") {
		b, err := os.ReadFile(filepath.Join("testdata", "golden", kind+".txt"))
		must(f, err)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte("postern-vote 1\ncritical x\n"))
	f.Add([]byte("postern-proof 1\nnetwork a\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		again := kinds[strings.TrimPrefix(title(b), "postern-")]
		if again == nil {
			return
		}
		out, err := again(b)
		if err != nil {
			return
		}
		twice, err := again(out)
		if err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("printed and parsed again it is another: %v", err)
		}
		if bytes.Count(out, []byte("\n")) == bytes.Count(b, []byte("\n")) && !bytes.Equal(out, b) {
			t.Fatal("two forms of one document")
		}
	})
}

// Every rule of the lines, with its words.
func TestLines(t *testing.T) {
	good := golden(t)
	change := func(kind, old, new string) []byte {
		s := string(good[kind])
		if strings.Count(s, old) == 0 {
			t.Fatalf("%s has no %q", kind, old)
		}
		return []byte(strings.Replace(s, old, new, 1))
	}
	long := strings.Repeat("x", MaxLine+1)
	nodes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "node %064x %064x 1\n", i, i)
		}
		return b.String()
	}
	pid := string(good["endorsement"][bytes.Index(good["endorsement"], []byte("vote "))+5:][:64])
	for _, k := range []struct {
		kind   string
		doc    []byte
		class  errs.Kind
		public string // its end
	}{
		{"vote", nil, errs.Invalid, "no postern-vote"},
		{"vote", []byte("postern-vote 2\n"), errs.Unsupported, "version of postern-vote is unknown"},
		{"vote", []byte("critical postern-vote 1\n"), errs.Invalid, "no postern-vote"},
		{"vote", []byte("postern-vote 1"), errs.Invalid, "no end of line"},
		{"vote", []byte("postern-vote 1\n\n"), errs.Invalid, "line 2: empty, or an extra space"},
		{"vote", []byte("postern-vote 1 \n"), errs.Invalid, "line 1: empty, or an extra space"},
		{"vote", []byte("postern-vote  1\n"), errs.Invalid, "line 1: empty, or an extra space"},
		{"vote", []byte("postern-vote 1\r\n"), errs.Invalid, "line 1: not printable ASCII"},
		{"vote", []byte("postern-vote 1\nn\xc3\xa4 1\n"), errs.Invalid, "line 2: not printable ASCII"},
		{"vote", []byte("postern-vote 1\n" + long + "\n"), errs.TooLarge, "line 2: longer than 8192 bytes"},
		{"vote", []byte("postern-vote 1\nNode 1\n"), errs.Invalid, "line 2: no keyword"},
		{"vote", []byte("postern-vote 1\n9 1\n"), errs.Invalid, "line 2: no keyword"},
		{"vote", []byte("postern-vote 1\ncritical\n"), errs.Invalid, "line 2: no keyword"},
		{"vote", change("vote", "commit", "new-rule\ncommit"), 0, ""},
		{"vote", change("vote", "commit", "critical new-rule\ncommit"), errs.Unsupported, "line 6: critical keyword is unknown"},
		{"vote", change("vote", "commit", "critical commit"), errs.Invalid, "a known keyword is not marked critical"},
		{"vote", change("vote", "network test.net\n", ""), errs.Invalid, "too few of network before it"},
		{"vote", change("vote", "network test.net\n", "network test.net\nnetwork test.net\n"), errs.Invalid, "more than 1 of network"},
		{"vote", change("vote", "previous none\n", "previous none\nepoch 1\n"), errs.Invalid, "epoch is out of order"},
		{"vote", change("vote", "epoch 500000", "epoch 0500000"), errs.Invalid, "epoch: not a number from 1 to 1099511627776"},
		{"vote", change("vote", "epoch 500000", "epoch 0"), errs.Invalid, "epoch: not a number from 1 to 1099511627776"},
		{"vote", change("vote", "epoch 500000", "epoch 1 2"), errs.Invalid, "wrong number of arguments of epoch"},
		{"vote", change("vote", "network test.net", "network Test"), errs.Invalid, "network: not 1 to 32 of a-z, 0-9, dot and hyphen"},
		{"vote", change("vote", "previous none", "previous nothing"), errs.Invalid, "previous: neither none nor an epoch and a hash"},
		{"vote", change("vote", "previous none", "previous 500000 "+strings.Repeat("0", 64)), errs.Invalid, "previous: not before this epoch"},
		{"vote", change("vote", "commit ", "commit A"), errs.Invalid, "commit: not 64 digits of lower-case hex"},
		{"vote", change("vote", "delay 20000", "delay 0"), errs.Invalid, "parameter: delay is not from 1 to 3600000"},
		{"vote", change("vote", "parameter delay", "parameter z 1\nparameter delay"), errs.Invalid, "parameter: not sorted"},
		{"vote", change("vote", "\nnode", "\n"+nodes(1)+nodes(1)+"node"), errs.Invalid, "node: not sorted"},
		{"vote", change("vote", "\nnode", "\n"+nodes(512)+"node"), errs.Invalid, "more than 512 of node"},
		{"vote", change("vote", "950\n", "1001\n"), errs.Invalid, "node: not a number from 0 to 1000"},
		{"vote", change("vote", "\nsignature", "\nsignature a\nsignature"), errs.Invalid, "only signatures may follow"},
		{"vote", append(bytes.Clone(good["vote"]), "added\n"...), errs.Invalid, "only signatures may follow"},
		{"vote", good["vote"][:bytes.Index(good["vote"], []byte("\nsignature"))+1], errs.Invalid, "not signed"},
		{"vote", append(bytes.Clone(good["vote"]), good["vote"][bytes.Index(good["vote"], []byte("signature")):]...), errs.Invalid, "more than 1 of signature"},
		{"vote", change("vote", "signature ", "signature x"), errs.Invalid, "signature: not 64 digits of lower-case hex"},
		{"vote", make([]byte, MaxVote+1), errs.TooLarge, "longer than 131072 bytes"},
		{"reveal", make([]byte, MaxReveal+1), errs.TooLarge, "longer than 16384 bytes"},
		{"endorsement", make([]byte, MaxEndorsement+1), errs.TooLarge, "longer than 16384 bytes"},
		{"descriptor", make([]byte, MaxDescriptor+1), errs.TooLarge, "longer than 32768 bytes"},
		{"stats", make([]byte, MaxStats+1), errs.TooLarge, "longer than 131072 bytes"},
		{"consensus", make([]byte, MaxConsensus+1), errs.TooLarge, "longer than 16777216 bytes"},
		{"proof", make([]byte, MaxProof+1), errs.TooLarge, "longer than 50331648 bytes"},
		{"reveal", change("reveal", "\nsignature", "\nvote "+strings.Repeat("f", 64)+" "+strings.Repeat("0", 64)+"\nvote "+strings.Repeat("f", 64)+" "+strings.Repeat("1", 64)+"\nsignature"), errs.Invalid, "vote: two of one authority"},
		{"endorsement", change("endorsement", "vote "+pid, "vote "+pid+" "+strings.Repeat("0", 64)+"\nvote "+pid+" "+strings.Repeat("0", 63)+"1\nvote "+pid), errs.Invalid, "vote: more than two of one authority"},
		{"stats", change("stats", "118", "121"), errs.Invalid, "loops: more returned than were sent"},
		{"consensus", change("consensus", "valid-until 2", "valid-until 3"), errs.Invalid, "validity does not follow from the epoch"},
		{"consensus", change("consensus", "\nlayer", "\nunknown\nlayer"), 0, ""},
		{"consensus", change("consensus", "\nlayer", "\ncritical unknown\nlayer"), errs.Unsupported, "critical keyword is unknown"},
		{"consensus", change("consensus", "\nlayer 1", ""), errs.Invalid, "a mix has a layer, and nothing else has"},
		{"consensus", change("consensus", "\nnode ", "\nnode 0"), errs.Invalid, "node: not an ID"},
		{"consensus", change("consensus", "\nnode ", "\ncritical node "), errs.Invalid, "a known keyword is not marked critical"},
		{"proof", change("proof", "document ", "document 9"), errs.Invalid, "document: not as long as it says"},
		{"proof", append(bytes.Clone(good["proof"]), "added\n"...), errs.Invalid, "only documents may follow, and at most 4646"},
	} {
		_, err := kinds[k.kind](k.doc)
		if k.public == "" {
			must(t, err)
			continue
		}
		if errs.KindOf(err) != k.class || !strings.HasSuffix(errs.Public(err), k.public) {
			t.Errorf("%s, %s: %v", k.kind, k.public, err)
		}
	}
}

// TestTokenKeys: the keys of tokens stand in a descriptor by their days.
func TestTokenKeys(t *testing.T) {
	a, b := bytes.Repeat([]byte{1}, TokenKeyLen), bytes.Repeat([]byte{2}, TokenKeyLen)
	d, err := ParseDescriptor(testNode(t, "n", Relay, someTime, func(d *Descriptor) { d.TokenKeys = []TokenKey{{20_000, a}, {20_001, b}} }).Bytes())
	if err != nil || !bytes.Equal(d.TokenKey(20_000), a) || !bytes.Equal(d.TokenKey(20_001), b) || d.TokenKey(20_002) != nil {
		t.Errorf("%v, %v", d.TokenKeys, err)
	}
}

// What a node may not say of itself.
func TestNodeRules(t *testing.T) {
	at := func(n int) time.Time { return someTime.Add(time.Duration(n) * time.Hour) }
	key := packetKey(t, "n")
	keys := func(k ...PacketKey) func(*Descriptor) { return func(d *Descriptor) { d.Keys = k } }
	for _, k := range []struct {
		mode   Mode
		change func(*Descriptor)
		public string
	}{
		{Mix, func(d *Descriptor) { d.Nickname = "a b" }, "wrong number of arguments of nickname"},
		{Mix, func(d *Descriptor) { d.Nickname = strings.Repeat("a", 20) }, "nickname: not 1 to 19 letters, digits, hyphens or underscores"},
		{Mix, func(d *Descriptor) { d.Nickname = "a.b" }, "nickname: not 1 to 19 letters, digits, hyphens or underscores"},
		{Mix, func(d *Descriptor) { d.Mode = Mix | Relay }, "mode: a mix is nothing else"},
		{Mix, func(d *Descriptor) { d.Addresses = nil }, "too few of address before it"},
		{Mix, func(d *Descriptor) { d.Addresses = []string{"1.2.3.4:0"} }, "address: not a host and a port, or named twice"},
		{Mix, func(d *Descriptor) { d.Addresses = []string{"a:1", "a:1"} }, "address: not a host and a port, or named twice"},
		{Mix, func(d *Descriptor) { d.Addresses = []string{"A.example:1"} }, "address: not a host and a port, or named twice"},
		{Mix, func(d *Descriptor) { d.Addresses = []string{"[fe80::1%eth0]:1"} }, "address: not a host and a port, or named twice"},
		{Mix, func(d *Descriptor) { d.Addresses = []string{"a:1", "a:2", "a:3", "a:4", "a:5"} }, "more than 4 of address"},
		{Mix, func(d *Descriptor) { d.Mixing = "" }, "a mix says how it mixes"},
		{Mix, func(d *Descriptor) { d.Mixing = "stirred" }, "mixing: not a way to mix"},
		{Mix, func(d *Descriptor) { d.Mixing = Timed }, "mixing: not a number from 1 to 2592000000"},
		{Mix, func(d *Descriptor) { d.Domains = []string{"a.example"} }, "a mix has no names"},
		{Mix, func(d *Descriptor) { d.Family = "A" }, "family: not 1 to 32 of a-z, 0-9, dot and hyphen"},
		{Mix, func(d *Descriptor) { d.Published = time.Unix(-1, 0) }, "published: not a time like 2006-01-02T15:04:05Z"},
		{Mix, keys(), "too few of packet-key before it"},
		{Mix, keys(PacketKey{at(0), at(0), key}), "packet-key: not valid for more than nothing and at most 33 days"},
		{Mix, keys(PacketKey{at(0), at(33*24 + 1), key}), "packet-key: not valid for more than nothing and at most 33 days"},
		{Mix, keys(PacketKey{at(0), at(1), key}, PacketKey{at(0), at(2), packetKey(t, "m")}), "packet-key: not sorted by time"},
		{Mix, keys(PacketKey{at(0), at(1), key}, PacketKey{at(1), at(2), key}), "packet-key: two keys have the same ID"},
		{Relay, func(d *Descriptor) { d.NameKey = nil }, "a relay has a name key"},
		{Relay, func(d *Descriptor) { d.LetterKey = make([]byte, LetterKeyLen-1) }, "letter-key: not 1216 bytes of base64"},
		{Relay, func(d *Descriptor) { d.LetterKey = bytes.Repeat([]byte{0xff}, LetterKeyLen) }, "letter-key: key is malformed"},
		{Mix, func(d *Descriptor) { d.LetterKey = letterKey(t, "n") }, "a mix gets no letters"},
		{Relay, func(d *Descriptor) { d.TokenKeys = []TokenKey{{1, make([]byte, TokenKeyLen-1)}} }, "token-key: not 256 bytes of base64"},
		{Relay, func(d *Descriptor) {
			d.TokenKeys = []TokenKey{{2, make([]byte, TokenKeyLen)}, {2, make([]byte, TokenKeyLen)}}
		}, "token-key: not sorted by day"},
		{Relay, func(d *Descriptor) {
			for n := range uint32(MaxTokenKeys + 1) {
				d.TokenKeys = append(d.TokenKeys, TokenKey{n, make([]byte, TokenKeyLen)})
			}
		}, "more than 8 of token-key"},
		{Mailbox, func(d *Descriptor) { d.TokenKeys = []TokenKey{{1, make([]byte, TokenKeyLen)}} }, "only a relay gives tokens"},
		{Relay, func(d *Descriptor) { d.Mixing = Poisson }, "only a mix says how it mixes"},
		{Relay, func(d *Descriptor) { d.Domains = []string{"b.example", "a.example"} }, "domain: not sorted"},
		{Relay, func(d *Descriptor) { d.Domains = []string{"A.example"} }, "domain: not a domain in lower case"},
		{Relay, func(d *Descriptor) { d.Domains = []string{"[1.2.3.4]"} }, "domain: not a domain in lower case"},
	} {
		d := testNode(t, "n", k.mode, someTime)
		k.change(d)
		if _, err := SignDescriptor(*d, testKey(t, "node n")); errs.KindOf(err) != errs.Invalid || !strings.HasSuffix(errs.Public(err), k.public) {
			t.Errorf("%s: %v", k.public, err)
		}
	}
	d := testNode(t, "n", Relay|Mailbox|Exit, someTime)
	if d.Mode.String() != "relay mailbox exit" || !d.Mode.Has(Relay|Exit) || d.Mode.Has(Mix) {
		t.Errorf("mode %s", d.Mode)
	}
	for _, m := range []string{"exit relay", "relay relay", "butter"} {
		b := bytes.Replace(d.Bytes(), []byte("mode relay mailbox exit"), []byte("mode "+m), 1)
		if _, err := ParseDescriptor(b); !strings.HasSuffix(errs.Public(err), "mode: unknown, twice or out of order") {
			t.Errorf("%s: %v", m, err)
		}
	}
}

// Secrets show nothing of themselves, and keys are what they say.
func TestKeys(t *testing.T) {
	k := testKey(t, "k")
	text, err := k.MarshalText()
	must(t, err)
	if fmt.Sprintf("%v %x %s", k, k, text) != "[secret] [secret] [secret]" || k.LogValue().String() != "[secret]" {
		t.Error("a private key shows itself")
	}
	again, err := NewPrivateKey(k.Seed())
	must(t, err)
	pub, err := NewPublicKey(k.Public().Ed25519(), k.Public().MLDSA())
	must(t, err)
	if again.Public().ID() != k.Public().ID() || pub.ID() != k.Public().ID() {
		t.Error("the same key has two IDs")
	}
	s, err := k.Sign([]byte("body"))
	must(t, err)
	if !pub.Verify([]byte("body"), &s) || pub.Verify([]byte("bodx"), &s) || testKey(t, "l").Public().Verify([]byte("body"), &s) {
		t.Error("verified what is not signed, or not what is")
	}
	if _, err := NewPrivateKey(make([]byte, 63)); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if _, err := NewPublicKey(make([]byte, 31), pub.MLDSA()); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if _, err := NewPublicKey(pub.Ed25519(), make([]byte, 12)); errs.KindOf(err) != errs.Invalid {
		t.Error(err)
	}
	if _, err := GenerateKey(strings.NewReader("short")); errs.KindOf(err) != errs.Internal {
		t.Error(err)
	}
	if g, err := GenerateKey(bytes.NewReader(k.Seed())); err != nil || g.Public().ID() != pub.ID() {
		t.Error("a generated key does not follow from the random bytes")
	}
}
