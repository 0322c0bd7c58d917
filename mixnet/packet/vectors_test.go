package packet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"postern.email/kit/errs"
)

const vectorDir = "testdata/packet"

// hexBytes are bytes that are written in hex.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h), nil }
func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// The forms of docs/packet.md §9.
type (
	packetVector struct {
		Packet        hexBytes       `json:"packet"`
		Hops          []hopVector    `json:"hops"`
		PayloadSHA256 hexBytes       `json:"payload_sha256"`
		Content       *contentVector `json:"content,omitempty"`
		Reply         *replyVector   `json:"reply,omitempty"`
	}
	hopVector struct {
		Seed             hexBytes `json:"seed"`
		KeyID            uint32   `json:"key_id"`
		Layer            int      `json:"layer"`
		HeaderKey        hexBytes `json:"header_key"`
		Tag              hexBytes `json:"tag"`
		Routing          hexBytes `json:"routing"`
		Command          string   `json:"command"`
		DelayMS          int64    `json:"delay_ms"`
		Next             hexBytes `json:"next"`
		NextKeyID        uint32   `json:"next_key_id"`
		Mark             hexBytes `json:"mark"`
		PayloadKey       hexBytes `json:"payload_key"`
		NextPacketSHA256 hexBytes `json:"next_packet_sha256,omitempty"`
		NextPacket       hexBytes `json:"next_packet,omitempty"`
	}
	contentVector struct {
		Kind uint8    `json:"kind"`
		SURB hexBytes `json:"surb"`
		Body hexBytes `json:"body"`
	}
	replyVector struct {
		Seed         hexBytes `json:"seed"`
		Mark         hexBytes `json:"mark"`
		SURB         hexBytes `json:"surb"`
		Name         hexBytes `json:"name"`
		First        hexBytes `json:"first"`
		ExpiresHours int64    `json:"expires_hours"`
	}
	rejectedVector struct {
		Name     string     `json:"name"`
		Kind     string     `json:"kind"`
		Reason   string     `json:"reason"`
		Head     hexBytes   `json:"head"`
		Seed     hexBytes   `json:"seed,omitempty"`
		Length   *int       `json:"length,omitempty"`
		Layers   []int      `json:"layers,omitempty"`
		Seen     []hexBytes `json:"seen,omitempty"`
		NowHours int64      `json:"now_hours,omitempty"`
	}
)

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	must(t, d.Decode(v))
}

// What was once written can be read by every later version: each field of each layer.
func TestVectors(t *testing.T) {
	if *rewrite != "" {
		writeVectors(t)
	}
	files, err := filepath.Glob(vectorDir + "/*.json")
	must(t, err)
	seen := map[string]bool{}
	for _, f := range files {
		if filepath.Base(f) == "rejected.json" {
			continue
		}
		t.Run(filepath.Base(f), func(t *testing.T) {
			var v packetVector
			readJSON(t, f, &v)
			checkVector(t, v, seen)
		})
	}
	for _, c := range commandNames[1:] {
		if !seen[c] {
			t.Errorf("no vector ends with %s", c)
		}
	}
}

func checkVector(t *testing.T, v packetVector, seen map[string]bool) {
	p := bytes.Clone(v.Packet)
	if v.Reply != nil {
		s, err := ParseSURB(v.Reply.SURB)
		must(t, err)
		name, first := s.Name(), s.First()
		if !bytes.Equal(name[:], v.Reply.Name) || !bytes.Equal(first[:], v.Reply.First) || s.Expires().Unix() != v.Reply.ExpiresHours*3600 {
			t.Error("name, first node or expiry of the reply block")
		}
		p, err = s.Use(nil, Content{Kind: v.Content.Kind, Body: v.Content.Body}, s.Expires().Add(-time.Second))
		must(t, err)
		if !bytes.Equal(p, v.Packet) {
			t.Error("the reply block gives another packet")
		}
	}
	var r Result
	for i, h := range v.Hops {
		key, err := NewPrivateKey(h.Seed)
		must(t, err)
		if got := inspect(t, key, p); !sameHop(got, h) {
			t.Fatalf("hop %d: got %+v", i, got)
		}
		if r, err = Unwrap(key, p); err != nil {
			t.Fatal(err)
		}
		seen[r.Command.String()] = true
		if last := i == len(v.Hops)-1; last != (r.Packet == nil) {
			t.Fatalf("hop %d: last %v, command %v", i, last, r.Command)
		}
		if r.Tag != Tag(h.Tag) || r.Layer != h.Layer || r.Delay.Milliseconds() != h.DelayMS || r.Mark != Mark(h.Mark) {
			t.Errorf("hop %d: %+v", i, r)
		}
		if r.Packet != nil {
			if r.Next != ID(h.Next) || !bytes.Equal(sum(r.Packet), h.NextPacketSHA256) || h.NextPacket != nil && !bytes.Equal(r.Packet, h.NextPacket) {
				t.Errorf("hop %d: next packet", i)
			}
			p = r.Packet
		}
	}
	payload := p[len(p)-PayloadLen:]
	if !bytes.Equal(sum(payload), v.PayloadSHA256) {
		t.Error("payload")
	}
	if v.Content == nil {
		return
	}
	open := func() (Content, error) { return OpenContent(r.Payload) }
	if v.Reply != nil {
		open = func() (Content, error) {
			seed := Seed(v.Reply.Seed)
			return OpenReply(&seed, r.Mark, r.Payload)
		}
	}
	c, err := open()
	must(t, err)
	var surb []byte
	if c.SURB != nil {
		surb = c.SURB.raw[:]
	}
	if c.Kind != v.Content.Kind || !bytes.Equal(c.Body, v.Content.Body) || !bytes.Equal(surb, v.Content.SURB) {
		t.Error("content")
	}
}

// inspect gives the vector of one hop, on a copy of the packet.
func inspect(t *testing.T, key *PrivateKey, packet []byte) hopVector {
	t.Helper()
	p := bytes.Clone(packet)
	prefix, err := ParsePrefix(p)
	must(t, err)
	header := p[PrefixLen : len(p)-PayloadLen]
	keys, err := key.decapsulate(header[:encapLen])
	must(t, err)
	plain, err := keys.open(p[:PrefixLen], header[encapLen:])
	must(t, err)
	var r routing
	must(t, r.parse(plain, prefix.Layer))
	seed, err := key.Seed()
	must(t, err)
	return hopVector{Seed: seed, KeyID: prefix.KeyID, Layer: prefix.Layer, HeaderKey: keys.header[:], Tag: keys.tag[:],
		Routing: bytes.Clone(plain[:routingLen]), Command: r.command.String(), DelayMS: r.delay.Milliseconds(), Next: r.next[:],
		NextKeyID: r.nextKey, Mark: r.mark[:], PayloadKey: r.payload[:]}
}

// sameHop compares all but the next packet.
func sameHop(a, b hopVector) bool {
	b.NextPacket, b.NextPacketSHA256 = nil, nil
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

var reasons = map[string]error{"size": errSize, "prefix": errPrefix, "key": errKeyID, "header": errHeader, "routing": errRouting,
	"payload": errPayload, "content": errContent, "surb": errSURB, "public key": errPublicKey, "layer": errLayer, "replay": errReplay}

// What a node checks beside the format.
var (
	errLayer  = errors.New("a layer that the node does not serve")
	errReplay = errors.New("a replay")
)

// take is what a node does with a packet, up to what it needs to know of other nodes.
func take(key *PrivateKey, layers []int, seen []hexBytes, packet []byte) error {
	p, err := ParsePrefix(packet)
	if err != nil {
		return err
	}
	if layers != nil && !slices.Contains(layers, p.Layer) {
		return reject("take", errs.Invalid, errLayer)
	}
	r, err := Unwrap(key, packet)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(seen, func(tag hexBytes) bool { return Tag(tag) == r.Tag }) {
		return reject("take", errs.Invalid, errReplay)
	}
	return nil
}

// What the format forbids is rejected, for the reason that the vector gives, and the
// outside learns nothing but that.
func TestRejectedVectors(t *testing.T) {
	var all []rejectedVector
	readJSON(t, vectorDir+"/rejected.json", &all)
	seen := map[string]bool{}
	for _, v := range all {
		var err error
		head := bytes.Clone(v.Head)
		switch v.Kind {
		case "packet":
			key, kerr := NewPrivateKey(v.Seed)
			must(t, kerr)
			err = take(key, v.Layers, v.Seen, append(head, make([]byte, *v.Length-len(head))...))
		case "unit":
			_, _, err = CutUnit(append(head, make([]byte, *v.Length-len(head))...))
		case "content":
			_, err = OpenContent(append(head, make([]byte, PayloadLen-len(head))...))
		case "surb":
			_, err = ParseSURB(head)
		case "expired":
			s, perr := ParseSURB(head)
			must(t, perr)
			_, err = s.Use(nil, Content{}, time.Unix(v.NowHours*3600, 0))
			if errs.KindOf(err) != errs.Denied || v.Reason != "expired" {
				t.Errorf("%s: %v", v.Name, err)
			}
			seen[v.Reason] = true
			continue
		case "public_key":
			if _, err = ParsePublicKey(head); errs.KindOf(err) != errs.Invalid || !errors.Is(err, errPublicKey) || v.Reason != "public key" {
				t.Errorf("%s: %v", v.Name, err)
			}
			seen[v.Reason] = true
			continue
		default:
			t.Errorf("%s: unknown kind", v.Name)
		}
		want := reasons[v.Reason]
		if v.Kind == "surb" && errors.Is(err, errSize) {
			want = errSize // the form of a block and its size are one reason in the vectors
		}
		if want == nil || errs.Public(err) != rejected || !errors.Is(err, want) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Reason)
		}
		seen[v.Reason] = true
	}
	for _, r := range append(slices.Collect(maps.Keys(reasons)), "expired") {
		if !seen[r] {
			t.Errorf("no vector is rejected for %s", r)
		}
	}
}
