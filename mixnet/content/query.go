package content

import (
	"encoding/binary"

	"postern.email/kit/errs"
	"postern.email/mixnet/packet"
)

// Services that a Query may ask for.
const (
	// ServiceCertificate gives the certificate of an address, from AppendLookup.
	ServiceCertificate uint8 = 1
)

// What an Answer says before all else.
const (
	AnswerOK      uint8 = 0 // the rest is what was asked for
	AnswerUnknown uint8 = 1 // there is nothing by that name, or nothing that everybody may have
	AnswerLater   uint8 = 2 // too much is asked for now
	AnswerRefused uint8 = 3 // the request has another form, or the service is not given
)

// Bounds of queries.
const (
	queryVersion = 1
	queryHead    = 2

	MaxRequest = packet.MaxBodySURB - queryHead // bytes of a request
	MaxAnswer  = packet.MaxBody - 1             // bytes of an answer
	MaxLookup  = 512                            // bytes of an address
)

// NewQuery makes the content that asks a service of a node. It keeps request's bytes apart.
// errs.TooLarge for more than MaxRequest bytes; errs.Invalid without a block for the answer.
func NewQuery(block *packet.SURB, service uint8, request []byte) (packet.Content, error) {
	const op = "mixnet/content.NewQuery"
	switch {
	case block == nil:
		return packet.Content{}, errs.E(op, errs.Invalid, "a query needs a reply block", nil)
	case len(request) > MaxRequest:
		return packet.Content{}, errs.E(op, errs.TooLarge, "the request is too large for one packet", nil)
	}
	b := append(make([]byte, 0, queryHead+len(request)), queryVersion, service)
	return packet.Content{Kind: Query, SURB: block, Body: append(b, request...)}, nil
}

// ParseQuery reads what NewQuery makes; request lies within the body of c. errs.Unsupported for
// another version, else errs.Invalid.
func ParseQuery(c packet.Content) (service uint8, request []byte, err error) {
	const op = "mixnet/content.ParseQuery"
	if c.Kind != Query || c.SURB == nil || len(c.Body) < queryHead {
		return 0, nil, errs.E(op, errs.Invalid, rejected, nil)
	}
	if c.Body[0] != queryVersion {
		return 0, nil, errs.E(op, errs.Unsupported, rejected, nil)
	}
	return c.Body[1], c.Body[queryHead:], nil
}

// NewAnswer makes the content of an answer. It keeps answer's bytes apart. errs.TooLarge for
// more than MaxAnswer bytes; errs.Invalid for a status that does not exist, and for an answer
// beside one that is not AnswerOK.
func NewAnswer(status uint8, answer []byte) (packet.Content, error) {
	const op = "mixnet/content.NewAnswer"
	switch {
	case len(answer) > MaxAnswer:
		return packet.Content{}, errs.E(op, errs.TooLarge, "the answer is too large for one packet", nil)
	case status > AnswerRefused || status != AnswerOK && len(answer) > 0:
		return packet.Content{}, errs.E(op, errs.Invalid, "", nil)
	}
	return packet.Content{Kind: Answer, Body: append(append(make([]byte, 0, 1+len(answer)), status), answer...)}, nil
}

// ParseAnswer reads what NewAnswer makes; answer lies within the body of c. errs.Invalid.
func ParseAnswer(c packet.Content) (status uint8, answer []byte, err error) {
	if c.Kind != Answer || len(c.Body) == 0 || c.Body[0] > AnswerRefused || c.Body[0] != AnswerOK && len(c.Body) > 1 {
		return 0, nil, errs.E("mixnet/content.ParseAnswer", errs.Invalid, rejected, nil)
	}
	return c.Body[0], c.Body[1:], nil
}

// AppendLookup appends the request of ServiceCertificate: the address whose certificate is
// wanted, in its canonical form. errs.Invalid for one that is empty or longer than MaxLookup.
func AppendLookup(dst []byte, address string) ([]byte, error) {
	if address == "" || len(address) > MaxLookup {
		return dst, errs.E("mixnet/content.AppendLookup", errs.Invalid, "the address is empty or too long", nil)
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(address))), address...), nil
}

// ParseLookup reads what AppendLookup writes, and looks at its length alone. errs.Invalid.
func ParseLookup(request []byte) (address string, err error) {
	n := len(request) - 2
	if n < 1 || n > MaxLookup || int(binary.BigEndian.Uint16(request)) != n {
		return "", errs.E("mixnet/content.ParseLookup", errs.Invalid, rejected, nil)
	}
	return string(request[2:]), nil
}
