package relay

import (
	"net/http"
	"strings"

	"postern.email/agent/receive"
	"postern.email/kit/limits"
	"postern.email/wire/mxdeliv"
	"postern.email/wire/web"
)

// networkBurst is how many minutes' worth of a limit of section exchange may come at once.
const networkBurst = 5

// perNetwork makes a limit of so many a minute.
func (s *Server) perNetwork(perMinute int) *limits.GCRA {
	return limits.NewGCRA(perMinute, networkBurst*perMinute, maxNetworks, s.d.Now)
}

// receiver builds the policy for mail from other hosts, which looks up the keys of
// signatures where network.resolver says.
func (s *Server) receiver() *receive.Receive {
	c, d := &s.c, &s.d
	return receive.New(receive.Options{Domain: c.Domain, Mails: s.perNetwork(c.Exchange.MailsPerNetwork),
		KiB: s.perNetwork(int((c.Exchange.BytesPerNetwork + 1023) >> 10)), Unknown: s.perNetwork(c.Exchange.RefusedPerNetwork), Accounts: s.accounts, Rooms: s.rooms(), Proxy: s.opensProxies(), Replies: s.replies(), Bounce: s.bounced, SPF: s.spf(), Deliver: s.deliver,
		Aliases: s.alias.door, Forwards: s.forwards(),
		Keys: s.names.TXT, Forget: s.names.Forget, Guard: s.mayWrite, Now: d.Now, Logger: d.Logger})
}

// pages puts the door for other relays beside the pages.
func (s *Server) pages(site http.Handler, in *receive.Receive) http.Handler {
	mail := mxdeliv.New(mxdeliv.Options{Backend: in.Web(), MaxSize: int64(s.c.Mail.MaxMessageSize), Memory: s.limits.memory, Share: strangerShare,
		PeerOf: web.PeerOf, Received: in.Received})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == mxdeliv.Path {
			mail.ServeHTTP(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, exitPath) && s.mix != nil && s.mix.exit != nil {
			s.mix.exit.Handler().ServeHTTP(w, r)
			return
		}
		if s.aliasPage(w, r) {
			return
		}
		if strings.HasPrefix(r.URL.Path, keysPath) {
			s.oldKeys(w, r)
			return
		}
		site.ServeHTTP(w, r)
	})
}
