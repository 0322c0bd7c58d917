package web

import (
	"net/http"

	"postern.email/kit/limits"
)

// PeerOf gives who sent a request that came in through Serve; for any other request
// the zero Peer, whom nothing limits.
func PeerOf(r *http.Request) limits.Peer {
	peer, _ := r.Context().Value(peerKey{}).(limits.Peer)
	return peer
}
