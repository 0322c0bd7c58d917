package directory

import (
	"bytes"
	"fmt"

	"postern.email/kit/errs"
)

// MaxRequest is the size of a request, in bytes: one frame of a link.
const MaxRequest = 32 << 10

// RequestKind is the first word of a request.
type RequestKind string

// What can be asked for over a link (docs/directory.md §11).
const (
	RequestConsensus RequestKind = "consensus" // the newest, or that of Epoch
	RequestGossip    RequestKind = "gossip"    // a GossipList of what is known
	RequestPublish   RequestKind = "publish"   // Document is a descriptor; a verdict
	RequestStats     RequestKind = "stats"     // Document is a Stats; a verdict
	RequestOffers    RequestKind = "offers"    // of an authority, for Epoch: an OfferList
	RequestDocument  RequestKind = "document"  // the one with this Hash
	RequestProofs    RequestKind = "proofs"    // a ProofList
	RequestVersion   RequestKind = "version"   // the network and the program: a VersionInfo
)

// Request is a question to an authority, or to somebody who has the consensus. Fields that
// its kind does not have are zero.
type Request struct {
	Kind     RequestKind
	Epoch    uint64 // of RequestConsensus, 0: the newest; of RequestOffers
	Hash     Hash   // of RequestDocument: HashOf
	From     Hash   // of RequestConsensus: a consensus that the asker has, to be answered by the difference; zero: none
	Packed   bool   // of RequestConsensus and RequestDocument: the answer may be packed (Pack)
	Document []byte // of RequestPublish and RequestStats
}

// AppendRequest appends a request to b. A document that does not fit is packed. errs.TooLarge
// if it still does not, errs.Invalid for fields that ParseRequest would not give.
func AppendRequest(b []byte, r Request) ([]byte, error) {
	const op = "directory.AppendRequest"
	w := &writer{}
	switch r.Kind {
	case RequestConsensus:
		parts := []any{string(r.Kind)}
		if r.Epoch != 0 {
			parts = append(parts, r.Epoch)
		}
		if r.From != (Hash{}) {
			parts = append(parts, "from", r.From)
		}
		w.line(packedWord(parts, r.Packed)...)
	case RequestDocument:
		w.line(packedWord([]any{string(r.Kind), r.Hash}, r.Packed)...)
	case RequestOffers:
		w.line(string(r.Kind), r.Epoch)
	default:
		w.line(string(r.Kind))
	}
	doc := r.Document
	if len(w.b)+len(doc) > MaxRequest {
		doc = Pack(doc)
	}
	if len(w.b)+len(doc) > MaxRequest {
		return nil, errs.E(op, errs.TooLarge, "the document does not fit into a request", nil)
	}
	w.b = append(w.b, doc...)
	if _, err := parseRequest(op, w.b); err != nil {
		return nil, err
	}
	return append(b, w.b...), nil
}

func packedWord(parts []any, packed bool) []any {
	if packed {
		parts = append(parts, "packed")
	}
	return parts
}

// ParseRequest reads a request. It keeps b. errs.TooLarge, errs.Unsupported for a kind that
// is not known, else errs.Invalid. What is in a document is not looked at, but it is unpacked.
func ParseRequest(b []byte) (*Request, error) { return parseRequest("directory.ParseRequest", b) }

func parseRequest(op string, b []byte) (*Request, error) {
	if len(b) > MaxRequest {
		return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("longer than %d bytes", MaxRequest), nil)
	}
	s := &scanner{op: op, text: b}
	l, err := s.next()
	switch {
	case err != nil:
		return nil, err
	case l == nil || l.critical:
		return nil, errs.E(op, errs.Invalid, "no request", nil)
	}
	r, v := &Request{Kind: RequestKind(l.key)}, fields{in: l.args}
	limit := 0 // of the document
	switch r.Kind {
	case RequestConsensus:
		if !v.is("from") && !v.is("packed") && v.left() > 0 {
			r.Epoch = v.uint(1, maxEpoch)
		}
		if v.word("from") {
			if r.From = v.hash(); r.From == (Hash{}) {
				v.fail("zero is no hash of a consensus")
			}
		}
		r.Packed = v.word("packed")
	case RequestDocument:
		r.Hash = v.hash()
		r.Packed = v.word("packed")
	case RequestOffers:
		r.Epoch = v.uint(1, maxEpoch)
	case RequestPublish:
		limit = MaxDescriptor
	case RequestStats:
		limit = MaxStats
	case RequestGossip, RequestProofs, RequestVersion:
	default:
		return nil, errs.E(op, errs.Unsupported, "the request is unknown", nil)
	}
	doc := b[s.pos:]
	switch {
	case v.bad != "":
		return nil, s.fault(errs.Invalid, "%s: %s", l.key, v.bad)
	case v.left() > 0:
		return nil, s.fault(errs.Invalid, "wrong number of arguments of %s", l.key)
	case limit == 0 && len(doc) > 0:
		return nil, errs.E(op, errs.Invalid, "nothing may follow the request", nil)
	case limit > 0 && len(doc) == 0:
		return nil, errs.E(op, errs.Invalid, "a document must follow the request", nil)
	}
	if limit > 0 {
		if r.Document, err = Unpack(doc, limit); err != nil {
			return nil, errs.Wrap(op, err)
		}
	}
	return r, nil
}

// is reports whether the next argument is a word.
func (f *fields) is(w string) bool { return len(f.in) > 0 && f.in[0] == w }

// word takes the next argument if it is this word.
func (f *fields) word(w string) bool {
	if f.bad != "" || !f.is(w) {
		return false
	}
	f.in = f.in[1:]
	return true
}

// maxReason bounds the reason of a refusal, in bytes.
const maxReason = 200

// FormatVerdict is the answer to RequestPublish and RequestStats: what became of the
// document. held: it waits for the operator. Of err only the public text is told.
func FormatVerdict(held bool, err error) []byte {
	switch {
	case err == nil && held:
		return []byte("held\n")
	case err == nil:
		return []byte("accepted\n")
	}
	reason := []byte(errs.Public(err))
	reason = reason[:min(len(reason), maxReason)]
	for i, c := range reason {
		if c < ' ' || c > '~' {
			reason[i] = '?'
		}
	}
	return append(append([]byte("refused "), reason...), '\n')
}

// ParseVerdict reads what FormatVerdict gave. errs.Denied with the authority's reason if the
// document was refused; errs.Invalid for what is no verdict.
func ParseVerdict(b []byte) (held bool, err error) {
	const op = "directory.ParseVerdict"
	reason, refused := bytes.CutPrefix(b, []byte("refused "))
	switch {
	case string(b) == "accepted\n":
		return false, nil
	case string(b) == "held\n":
		return true, nil
	case !refused || len(reason) < 2 || len(reason) > maxReason+1 || reason[len(reason)-1] != '\n':
		return false, errs.E(op, errs.Invalid, "the answer is no verdict", nil)
	}
	reason = reason[:len(reason)-1]
	for _, c := range reason {
		if c < ' ' || c > '~' {
			return false, errs.E(op, errs.Invalid, "the answer is no verdict", nil)
		}
	}
	return false, errs.E(op, errs.Denied, string(reason), nil)
}
