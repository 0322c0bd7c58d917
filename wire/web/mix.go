package web

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
)

// MixPath is where users register their clients of the mix network (docs/mix-relay.md).
const MixPath = "/mix"

// MixClients keeps the clients of the mix network of all accounts.
type MixClients interface {
	// AddMixClient registers a client of the account that name and password open.
	AddMixClient(ctx context.Context, name, password string, peer limits.Peer, r MixRequest) (MixEntry, error)
	// RemoveMixClient takes it away again. errs.NotFound when the account has no such client.
	RemoveMixClient(ctx context.Context, name, password string, peer limits.Peer, key [32]byte) error
}

// MixRequest is what somebody registers.
type MixRequest struct {
	Key    [32]byte  // name of the client's link key
	Proxy  *MixProxy // nil: the client is no mail proxy
	Invite string    // "": none was given
}

// MixProxy is the public identity of a mail proxy.
type MixProxy struct {
	LetterKey []byte // letterKeyLen bytes
	Ed25519   []byte // ed25519Len bytes
	MLDSA     []byte // mldsaLen bytes
	Publish   bool   // strangers who know the address may be told the keys
}

// Sizes of keys in bytes: X-Wing, Ed25519, ML-DSA-65.
const (
	letterKeyLen = 1216
	ed25519Len   = 32
	mldsaLen     = 1952
)

// MixEntry is what a client of the mix network needs to begin. Keys are hexadecimal digits.
type MixEntry struct {
	Network   string   `json:"network"` // the network file
	Node      string   `json:"node"`    // ID of the relay
	LinkKey   string   `json:"link_key"`
	Addresses []string `json:"addresses"` // host:port of its link
	Mailbox   string   `json:"mailbox"`
	// Certificate is what the relay says of a mail proxy's keys (docs/vouch.md), in base64.
	Certificate []byte `json:"certificate,omitempty"`
	// Consensus is the one of now, in base64: with it a client knows the network and its clocks from
	// the first moment. Empty: the relay has none.
	Consensus []byte `json:"consensus,omitempty"`
}

// Longest bodies of requests: a key and a line end; keys in JSON.
const (
	maxKeyText = 2*32 + 2
	maxMixJSON = 8 << 10
	maxInvite  = 64 // of an invitation
)

// mixClient answers POST and DELETE: HTTP Basic (RFC 7617) with address and password, and the
// client's link key in the body, by itself or in JSON.
func (s *Site) mixClient(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if s.o.Mix == nil {
		refuse(w, http.StatusNotFound, "this relay is in no mix network")
		return
	}
	if ok, wait := s.allowed(r); !ok {
		retryAfter(w, wait)
		refuse(w, http.StatusTooManyRequests, "Too many requests from your network; please wait a moment.")
		return
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		w.Header().Set("WWW-Authenticate", basicRealm)
		refuse(w, http.StatusUnauthorized, "an address and its password are needed")
		return
	}
	req, err := readMixRequest(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, errs.Public(err))
		return
	}
	if r.Method == http.MethodDelete {
		err = s.o.Mix.RemoveMixClient(r.Context(), name, password, PeerOf(r), req.Key)
		if err == nil {
			w.Header().Del("Content-Type")
			w.WriteHeader(http.StatusNoContent)
			return
		}
	} else {
		var e MixEntry
		e, err = s.o.Mix.AddMixClient(r.Context(), name, password, PeerOf(r), req)
		if err == nil {
			writeJSON(w, http.StatusOK, e)
			return
		}
	}
	status := Status(errs.KindOf(err))
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", basicRealm)
	}
	refuse(w, status, errs.Public(err))
}

// refuse gives a reason, as for /new.
func refuse(w http.ResponseWriter, status int, reason string) {
	writeJSON(w, status, map[string]string{"reason": reason})
}

const basicRealm = `Basic realm="address and password", charset="UTF-8"`

// readMixRequest reads the body by its type.
func readMixRequest(r *http.Request) (q MixRequest, err error) {
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t == "application/json" {
		return readMixJSON(r.Body)
	}
	q.Key, err = readKey(r.Body)
	return q, err
}

// mixJSON is a MixRequest as it is sent.
type mixJSON struct {
	LinkKey   string `json:"link_key"`
	LetterKey []byte `json:"letter_key"`
	VerifyKey []byte `json:"verify_key"` // Ed25519, ML-DSA-65
	Publish   bool   `json:"publish"`
	Invite    string `json:"invite"`
}

func readMixJSON(body io.Reader) (q MixRequest, err error) {
	const op = "wire/web.readMixJSON"
	bad := func(text string, err error) (MixRequest, error) {
		return MixRequest{}, errs.E(op, errs.Invalid, text, err)
	}
	b, err := io.ReadAll(io.LimitReader(body, maxMixJSON+1))
	if err != nil || len(b) > maxMixJSON {
		return bad("the body is longer than a registration", err)
	}
	var j mixJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return bad("the body is no registration: link_key, letter_key, verify_key, publish, invite", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("something follows the registration", nil)
	}
	raw, err := hex.DecodeString(j.LinkKey)
	switch {
	case err != nil || len(raw) != len(q.Key):
		return bad("link_key is the client's link key: 64 hexadecimal digits", err)
	case len(j.Invite) > maxInvite:
		return bad("invite is longer than an invitation", nil)
	case j.LetterKey == nil && j.VerifyKey == nil && j.Publish:
		return bad("without letter_key and verify_key there is nothing to publish", nil)
	}
	q.Key, q.Invite = [32]byte(raw), j.Invite
	if j.LetterKey == nil && j.VerifyKey == nil {
		return q, nil
	}
	if len(j.LetterKey) != letterKeyLen || len(j.VerifyKey) != ed25519Len+mldsaLen {
		return bad("letter_key has 1,216 bytes and verify_key 1,984, in base64", nil)
	}
	q.Proxy = &MixProxy{LetterKey: j.LetterKey, Ed25519: j.VerifyKey[:ed25519Len], MLDSA: j.VerifyKey[ed25519Len:], Publish: j.Publish}
	return q, nil
}

// readKey reads a link key: 64 hexadecimal digits, and nothing else but a line end.
func readKey(body io.Reader) (key [32]byte, err error) {
	const op = "wire/web.readKey"
	bad := errs.E(op, errs.Invalid, "the body is the client's link key: 64 hexadecimal digits", nil)
	b, err := io.ReadAll(io.LimitReader(body, maxKeyText+1))
	if err != nil {
		return key, errs.E(op, errs.Invalid, bad.Public, err)
	}
	raw, err := hex.DecodeString(strings.TrimRight(string(b), "\r\n"))
	if err != nil || len(raw) != len(key) || len(b) > maxKeyText {
		return key, bad
	}
	return [32]byte(raw), nil
}

// Status turns kinds of errors into what HTTP calls them (RFC 9110 §15).
func Status(k errs.Kind) int {
	switch k {
	case errs.Auth:
		return http.StatusUnauthorized
	case errs.Denied:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.TooLarge:
		return http.StatusRequestEntityTooLarge
	case errs.Exists, errs.Full:
		return http.StatusConflict
	case errs.Busy:
		return http.StatusTooManyRequests
	case errs.NoSpace, errs.Unavailable, errs.Canceled, errs.Conflict:
		return http.StatusServiceUnavailable
	case errs.Unsupported:
		return http.StatusNotImplemented
	}
	return http.StatusInternalServerError
}
