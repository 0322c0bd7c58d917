package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"

	"postern.email/agent/keyserve"
	"postern.email/agent/reply"
	"postern.email/agent/vouch"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/node"
	"postern.email/mixnet/token"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
	"postern.email/wire/control"
	"postern.email/wire/web"
)

// certificateRequest is what a client asks over its link to get its account's certificate
// (docs/mix-relay.md §3).
const certificateRequest = "postern-certificate 1\n"

// mayRegister applies mixnet.registration to a user who has logged in.
func (s *Server) mayRegister(ctx context.Context, id seal.AccountID, r web.MixRequest) error {
	const op = "role/relay.mayRegister"
	policy := s.c.Mixnet.Register
	if policy == "open" {
		return nil
	}
	list, err := s.packets.Clients(ctx, id)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return errs.Wrap(op, err)
	}
	switch {
	case slices.ContainsFunc(list, func(c packetbox.Client) bool { return c.Key == r.Key }):
		return nil
	case policy == "off":
		return errs.E(op, errs.Denied, "this relay takes no new clients of the mix network", nil)
	case len(list) > 0:
		return nil
	case r.Invite == "":
		return errs.E(op, errs.Denied, "this relay asks for an invitation to the mix network: ask its operator for one", nil)
	}
	return errs.Wrap(op, s.packets.UseInvite(ctx, r.Invite, id))
}

// Invited is the answer of account.invite.
type Invited struct {
	Invite string `json:"invite"`
	Until  string `json:"until"` // the last day on which it can be used
	Open   int    `json:"open"`  // invitations that nobody has used, with this one
}

// invite is the command account.invite.
func (s *Server) invite(ctx context.Context, args json.RawMessage, _ func(any) error) (any, error) {
	const op = "role/relay.invite"
	var a AccountArgs
	if err := control.Args(args, &a); err != nil {
		return nil, err
	}
	if s.mix == nil {
		return nil, errNoMix
	}
	text, until, err := s.packets.MakeInvite(ctx, s.d.Rand, a.Days)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	list, err := s.packets.Invites(ctx)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	out := Invited{Invite: text, Until: until.Format(time.DateOnly)}
	for _, i := range list {
		if !i.Used {
			out.Open++
		}
	}
	return out, nil
}

// addProxy registers a client with the identity of a mail proxy. Its keys are looked at before
// anything is kept.
func (m *mixPart) addProxy(ctx context.Context, id seal.AccountID, r web.MixRequest) (web.MixEntry, error) {
	const op = "role/relay.addProxy"
	if len(r.Proxy.LetterKey) != packetbox.LetterLen || len(r.Proxy.Ed25519) != packetbox.Ed25519Len || len(r.Proxy.MLDSA) != packetbox.MLDSALen {
		return web.MixEntry{}, errs.E(op, errs.Invalid, "the keys of the mail proxy are malformed", nil)
	}
	ident := packetbox.Identity{Letter: [packetbox.LetterLen]byte(r.Proxy.LetterKey), Ed25519: [packetbox.Ed25519Len]byte(r.Proxy.Ed25519),
		MLDSA: [packetbox.MLDSALen]byte(r.Proxy.MLDSA), Publish: r.Proxy.Publish}
	if _, _, err := identityKeys(&ident); err != nil {
		return web.MixEntry{}, errs.E(op, errs.Invalid, "the keys of the mail proxy are malformed", err)
	}
	if len(m.settings().About.Domains) == 0 {
		return web.MixEntry{}, errs.E(op, errs.Unsupported, "this relay has no domain name, so it cannot vouch for addresses", nil)
	}
	mailbox, err := m.s.packets.RegisterProxy(ctx, id, r.Key, ident)
	if err != nil {
		return web.MixEntry{}, err
	}
	cert, err := m.certificate(ctx, id)
	if err != nil {
		return web.MixEntry{}, errs.Wrap(op, err)
	}
	e := m.entry(mailbox)
	e.Certificate = cert.Bytes()
	return e, nil
}

// identityKeys gives the keys of an identity in the forms that use them.
func identityKeys(i *packetbox.Identity) (*letter.PublicKey, *directory.PublicKey, error) {
	to, err := letter.ParsePublicKey(i.Letter[:])
	if err != nil {
		return nil, nil, err
	}
	key, err := directory.NewPublicKey(i.Ed25519[:], i.MLDSA[:])
	return to, key, err
}

func showIdentity(i *packetbox.Identity) (MixIdentity, error) {
	to, key, err := identityKeys(i)
	if err != nil {
		return MixIdentity{}, err
	}
	c := vouch.Identity{Letter: to, Key: key}
	return MixIdentity{Fingerprint: c.Fingerprint(), Published: i.Publish, Serial: i.Serial, Since: i.Since().Format(time.DateOnly)}, nil
}

// certificate says for a week, from the hour that has begun, that an account has the keys of its
// mail proxy. errs.NotFound when it has none, errs.Denied while it is blocked.
func (m *mixPart) certificate(ctx context.Context, id seal.AccountID) (*vouch.Certificate, error) {
	const op = "role/relay.certificate"
	a, err := m.s.accounts.ByNumber(ctx, id)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if a.Blocked {
		return nil, errs.E(op, errs.Denied, "the account is blocked", nil)
	}
	ident, err := m.s.packets.Identity(ctx, id)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	to, key, err := identityKeys(&ident)
	if err != nil {
		return nil, errs.E(op, errs.Corrupt, "", err)
	}
	from := m.s.d.Now().UTC().Truncate(time.Hour)
	c, err := vouch.Issue(vouch.Certificate{Identity: m.identity(id, to, key), Address: a.Address, Serial: ident.Serial,
		From: from, Until: from.Add(vouch.Life)}, m.name)
	return c, errs.Wrap(op, err)
}

// published is the certificate of an address for everybody who knows it. errs.NotFound for
// every address whose owner did not ask for that.
func (m *mixPart) published(ctx context.Context, addr mail.Address) ([]byte, error) {
	const op = "role/relay.published"
	none := errs.E(op, errs.NotFound, "", nil)
	if !m.s.accounts.Ours(addr) {
		return nil, none
	}
	a, err := m.s.accounts.Resolve(ctx, addr)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	ident, err := m.s.packets.Identity(ctx, a.ID)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if a.Blocked || !ident.Publish {
		return nil, none
	}
	c, err := m.certificate(ctx, a.ID)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return c.Bytes(), nil
}

// services are what members of the network may ask this relay for.
func (m *mixPart) services() node.Services {
	o := keyserve.Options{Logger: m.s.d.Logger}
	if m.s.c.Mixnet.Keys {
		o.Certificate = m.published
	}
	s := asked{keys: keyserve.New(o)}
	if m.s.c.Mixnet.Replies > 0 {
		s.replies = m.s.desk()
	}
	return s
}

// asked is who answers for each service.
type asked struct {
	keys    *keyserve.Server
	replies *reply.Desk // nil: there are no reply addresses
}

// Serve is that of node.Services.
func (s asked) Serve(ctx context.Context, service uint8, request []byte) (status uint8, answer []byte) {
	if service == content.ServiceReply && s.replies != nil {
		return s.replies.Serve(ctx, service, request)
	}
	return s.keys.Serve(ctx, service, request)
}

// document answers what clients ask over the link and the directory does not know.
func (m *mixPart) document(ctx context.Context, from link.Peer, request []byte) ([]byte, error) {
	const op = "role/relay.document"
	tokens := m.issuer != nil && bytes.HasPrefix(request, []byte(token.RequestTitle))
	switch {
	case !tokens && string(request) != certificateRequest:
		return nil, errs.E(op, errs.Unsupported, "", nil)
	case from.Role != link.Client:
		return nil, errs.E(op, errs.Denied, "", nil)
	}
	if tokens {
		return m.giveTokens(ctx, from.Account, request)
	}
	c, err := m.certificate(ctx, from.Account)
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	return c.Bytes(), nil
}

// identity puts keys and place of an account together.
func (m *mixPart) identity(id seal.AccountID, to *letter.PublicKey, key *directory.PublicKey) vouch.Identity {
	return vouch.Identity{Relay: m.node.ID(), Mailbox: m.s.packets.Mailbox(id), Letter: to, Key: key}
}
