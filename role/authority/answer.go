package authority

import (
	"context"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
)

// refuseUnits is the link's handler: an authority takes no units.
type refuseUnits struct{}

func (refuseUnits) Take(_ context.Context, _ link.Peer, _ []byte, r link.Receipt) { r.Later() }

// who says who a link key is. Everybody may ask an authority: a stranger counts as a client.
func (s *Server) who(k link.Key) (link.Peer, bool) {
	for _, c := range s.net.Contacts() {
		if link.Key(c.LinkKey) == k {
			return link.Peer{Key: k, Role: link.Authority}, true
		}
	}
	if role, ok := (*s.core.links.Load())[k]; ok {
		return link.Peer{Key: k, Role: role}, true
	}
	return link.Peer{Key: k, Role: link.Client}, true
}

// publishLimit is the rate of descriptors of nodes that are not known.
func publishLimit(c Config, d Deps) *limits.GCRA {
	n := c.Nodes.PublishPerMinute
	return limits.NewGCRA(n, max(n/2, 1), 1, d.Now)
}

// answer answers a request (docs/directory.md §11).
func (s *Server) answer(_ context.Context, from link.Peer, request []byte) ([]byte, error) {
	const op = "role/authority.answer"
	r, err := directory.ParseRequest(request)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	none := errs.E(op, errs.NotFound, "", nil)
	switch r.Kind {
	case directory.RequestConsensus:
		return s.answerConsensus(request, r)
	case directory.RequestGossip:
		return s.cache.Answer(request)
	case directory.RequestOffers:
		if b := s.core.offers(r.Epoch); b != nil {
			return b, nil
		}
		return nil, none
	case directory.RequestDocument:
		b := s.core.find(r.Hash)
		if b == nil {
			return nil, none
		}
		// Not packed, which is the giver's choice: strangers could keep this authority busy so.
		return b, nil
	case directory.RequestProofs:
		return s.core.namedProofs(), nil
	case directory.RequestVersion:
		return (&directory.VersionInfo{Network: s.net.Name(), Version: s.d.Version}).Bytes(), nil
	case directory.RequestPublish:
		if !s.core.isKnown(from.Key) {
			if ok, _ := s.publishing.Allow("strangers"); !ok {
				return nil, errs.E(op, errs.Busy, "too many unknown nodes publish now", nil)
			}
		}
		held, err := s.core.publish(from.Key, r.Document)
		if isFailure(err) {
			return nil, errs.Wrap(op, err)
		}
		return directory.FormatVerdict(held, err), nil
	case directory.RequestStats:
		err := s.core.stats(r.Document)
		if isFailure(err) {
			return nil, errs.Wrap(op, err)
		}
		return directory.FormatVerdict(false, err), nil
	}
	return nil, errs.E(op, errs.Unsupported, "the request is unknown", nil)
}

// isFailure tells a disk that fails, which is no verdict on a document, from what the registry
// and the history say of it.
func isFailure(err error) bool {
	k := errs.KindOf(err)
	return err != nil && k.Temporary() && k != errs.Full && k != errs.Conflict
}

// answerConsensus gives one that can be used in the form that was asked for, and beyond the
// cache what is kept of older ones: to other authorities the newest that there ever was is
// still the one to follow, and a client is told best by the document itself that it is too old.
func (s *Server) answerConsensus(request []byte, r *directory.Request) ([]byte, error) {
	b, err := s.cache.Answer(request)
	if errs.KindOf(err) != errs.NotFound || err == nil {
		return b, err
	}
	if b = s.core.consensus(r.Epoch); b == nil {
		return nil, err
	}
	return b, nil // not packed, as above
}
