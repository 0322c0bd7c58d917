package relay

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/post/account"
	"postern.email/post/seal"
	"postern.email/wire/control"
	"postern.email/wire/web"
)

// MixAccount is what an account has in the mix network, for the commands.
type MixAccount struct {
	Address string      `json:"address"`
	ID      string      `json:"id"`
	Mailbox string      `json:"mailbox,omitempty"` // empty: it has no clients and never had any
	Clients []MixClient `json:"clients"`
	// Proxy is there when the account is read with a mail proxy.
	Proxy *MixIdentity `json:"proxy,omitempty"`
	// Entry is what the client needs that was just registered.
	Entry *web.MixEntry `json:"entry,omitempty"`
}

// MixClient is one client of an account.
type MixClient struct {
	Key   string `json:"key"`
	Since string `json:"since"` // day
}

// MixIdentity are the public keys of a mail proxy.
type MixIdentity struct {
	Fingerprint string `json:"fingerprint"` // of both keys, as the proxy shows it
	Published   bool   `json:"published"`   // strangers who know the address may be told the keys
	Serial      uint64 `json:"serial"`      // how many the account had, with these
	Since       string `json:"since"`       // day
}

// errNoMix is the answer where there is no mix network.
var errNoMix error = errs.E("role/relay.mix", errs.Unsupported, "this relay is in no mix network: see mixnet.enabled", nil)

// mixAccount is the command account.mix: it lists the clients of an account, after registering
// one or taking one away.
func (s *Server) mixAccount(ctx context.Context, args json.RawMessage, _ func(any) error) (any, error) {
	const op = "role/relay.mixAccount"
	var a AccountArgs
	if err := control.Args(args, &a); err != nil {
		return nil, err
	}
	addr, err := s.address(a.Address)
	if err != nil {
		return nil, err
	}
	acc, err := s.accounts.Show(ctx, addr)
	if err != nil {
		return nil, commandError(err)
	}
	out := MixAccount{Address: acc.Address.String(), ID: acc.ID.String(), Clients: []MixClient{}}
	if a.Key != "" {
		raw, err := hex.DecodeString(a.Key)
		if err != nil || len(raw) != 32 {
			return nil, errs.E(op, errs.Invalid, "a link key is 64 hexadecimal digits: the client's program prints it", err)
		}
		key := [32]byte(raw)
		if a.Remove {
			err = s.removeMixClient(ctx, acc.ID, key)
		} else {
			var e web.MixEntry
			e, err = s.addMixClient(ctx, acc.ID, web.MixRequest{Key: key})
			out.Entry = &e
		}
		if err != nil {
			return nil, err
		}
	}
	list, err := s.packets.Clients(ctx, acc.ID)
	if err != nil && errs.KindOf(err) == errs.NotFound {
		return out, nil
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	mailbox := s.packets.Mailbox(acc.ID)
	out.Mailbox = hex.EncodeToString(mailbox[:])
	for _, c := range list {
		out.Clients = append(out.Clients, MixClient{hex.EncodeToString(c.Key[:]), c.Since().Format(time.DateOnly)})
	}
	switch ident, err := s.packets.Identity(ctx, acc.ID); {
	case err == nil:
		shown, err := showIdentity(&ident)
		if err != nil {
			return nil, errs.Wrap(op, err)
		}
		out.Proxy = &shown
	case errs.KindOf(err) != errs.NotFound:
		return nil, errs.Wrap(op, err)
	}
	return out, nil
}

func (s *Server) addMixClient(ctx context.Context, id seal.AccountID, r web.MixRequest) (web.MixEntry, error) {
	if s.mix == nil {
		return web.MixEntry{}, errNoMix
	}
	if r.Proxy != nil {
		return s.mix.addProxy(ctx, id, r)
	}
	mailbox, err := s.packets.Register(ctx, id, r.Key)
	if err != nil {
		return web.MixEntry{}, err
	}
	return s.mix.entry(mailbox), nil
}

func (s *Server) removeMixClient(ctx context.Context, id seal.AccountID, key [32]byte) error {
	err := s.packets.Unregister(ctx, id, key)
	s.mix.recheck()
	return err
}

// mixDoor is the registration over the web.
type mixDoor struct{ s *Server }

// mixClients is what the pages offer: nothing, if this relay is in no mix network.
func (s *Server) mixClients() web.MixClients {
	if s.mix == nil {
		return nil
	}
	return mixDoor{s}
}

// AddMixClient is that of web.MixClients.
func (d mixDoor) AddMixClient(ctx context.Context, name, password string, peer limits.Peer, r web.MixRequest) (e web.MixEntry, err error) {
	err = d.login(ctx, name, password, peer, func(id seal.AccountID) error {
		if d.s.mix != nil {
			if err := d.s.mayRegister(ctx, id, r); err != nil {
				return err
			}
		}
		e, err = d.s.addMixClient(ctx, id, r)
		return err
	})
	return e, err
}

// RemoveMixClient is that of web.MixClients.
func (d mixDoor) RemoveMixClient(ctx context.Context, name, password string, peer limits.Peer, key [32]byte) error {
	return d.login(ctx, name, password, peer, func(id seal.AccountID) error { return d.s.removeMixClient(ctx, id, key) })
}

// login opens the account by the door of all logins.
func (d mixDoor) login(ctx context.Context, name, password string, peer limits.Peer, fn func(seal.AccountID) error) error {
	session, err := d.s.accounts.Login(ctx, account.LoginRequest{Name: name, Password: password, Peer: peer})
	if err != nil {
		return errs.Wrap("role/relay.mixDoor", err)
	}
	defer session.Close()
	return fn(session.ID)
}
