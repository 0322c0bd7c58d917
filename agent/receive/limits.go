package receive

import "postern.email/kit/limits"

// Received counts n bytes that came from a peer as a mail, taken or not. It is for
// wire/smtp and wire/mxdeliv, which know what came over the wire.
func (r *Receive) Received(p limits.Peer, n int64) {
	if r.o.KiB != nil {
		r.o.KiB.Charge(p.Network(), (n+1023)/1024)
	}
}

// admit tells whether a network may begin a mail, and counts it when count says so.
func (r *Receive) admit(network string, count bool) error {
	if ok, _ := r.o.KiB.Ready(network); !ok {
		return replyManyBytes
	}
	ask := r.o.Mails.Ready
	if count {
		ask = r.o.Mails.Allow
	}
	if ok, _ := ask(network); !ok {
		return replyManyMails
	}
	return nil
}

// mayTry tells whether a network may have a recipient looked up.
func (r *Receive) mayTry(network string) bool {
	ok, _ := r.o.Unknown.Ready(network)
	return ok
}
