package web

import (
	"context"
	"encoding/hex"
	"io"
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
	AddMixClient(ctx context.Context, name, password string, peer limits.Peer, key [32]byte) (MixEntry, error)
	// RemoveMixClient takes it away again. errs.NotFound when the account has no such client.
	RemoveMixClient(ctx context.Context, name, password string, peer limits.Peer, key [32]byte) error
}

// MixEntry is what a client of the mix network needs to begin. Keys are hexadecimal digits.
type MixEntry struct {
	Network   string   `json:"network"` // the network file
	Node      string   `json:"node"`    // ID of the relay
	LinkKey   string   `json:"link_key"`
	Addresses []string `json:"addresses"` // host:port of its link
	Mailbox   string   `json:"mailbox"`
}

// maxKeyText is the longest body of a request: a key and a line end.
const maxKeyText = 2*32 + 2

// mixClient answers POST and DELETE: HTTP Basic (RFC 7617) with address and password, and the
// client's link key in the body.
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
	key, err := readKey(r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, errs.Public(err))
		return
	}
	if r.Method == http.MethodDelete {
		err = s.o.Mix.RemoveMixClient(r.Context(), name, password, PeerOf(r), key)
		if err == nil {
			w.Header().Del("Content-Type")
			w.WriteHeader(http.StatusNoContent)
			return
		}
	} else {
		var e MixEntry
		e, err = s.o.Mix.AddMixClient(r.Context(), name, password, PeerOf(r), key)
		if err == nil {
			writeJSON(w, http.StatusOK, e)
			return
		}
	}
	status := mixStatus(errs.KindOf(err))
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

// mixStatus turns kinds of errors into what HTTP calls them (RFC 9110 §15).
func mixStatus(k errs.Kind) int {
	switch k {
	case errs.Auth:
		return http.StatusUnauthorized
	case errs.Denied:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Invalid:
		return http.StatusBadRequest
	case errs.Exists, errs.Full:
		return http.StatusConflict
	case errs.Busy:
		return http.StatusTooManyRequests
	case errs.NoSpace, errs.Unavailable, errs.Canceled, errs.Conflict:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}
