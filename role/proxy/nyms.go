package proxy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postern.email/agent/mixclient"
	"postern.email/agent/mixnym"
	"postern.email/kit/errs"
	"postern.email/mixnet/client"
)

// ReplyAddress is an address at which somebody can be answered who wrote anonymously (docs/proxy.md).
// Times are zero where there is nothing to say.
type ReplyAddress struct {
	Account string    `json:"account"`
	Name    string    `json:"name"` // under which its owner writes
	Address string    `json:"address"`
	Blocks  int       `json:"blocks"` // that its relay can use to send answers back, as far as that is known
	Made    time.Time `json:"made,omitzero"`
	Fed     time.Time `json:"fed,omitzero"`   // when its relay got a day's blocks last
	Until   time.Time `json:"until,omitzero"` // answers reach it until then, also if the proxy is off line
	Next    time.Time `json:"next,omitzero"`  // when it is fed next
	Feeding bool      `json:"feeding,omitempty"`
	Problem string    `json:"problem,omitempty"`
}

// NymArgs are those of the commands about reply addresses. Account may be empty where there is one.
type NymArgs struct {
	Account string `json:"account,omitempty"`
	Name    string `json:"name"`
}

// newNyms puts the reply addresses of an account together.
func (u *user) newNyms(c *mixclient.Client) (*mixnym.Desk, error) {
	d := &u.s.d
	choose, err := client.NewChooser(d.Rand)
	if err != nil {
		return nil, err
	}
	list := client.NewNyms(client.NymOptions{Store: c.Store(), Ask: u.ask, Consensus: c.Consensus, Home: c.Home, Choose: choose, Now: d.Now, Rand: d.Rand})
	return mixnym.New(mixnym.Options{Nyms: list, Domain: u.Address.Domain, Online: u.connected,
		Changed: func() { u.s.mail.out.Fed(u.Address.Canonical()) }, Now: d.Now, Rand: d.Rand, Logger: d.Logger}), nil
}

// desk gives the account's reply addresses; nil: it is not registered.
func (u *user) desk() *mixnym.Desk {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.nyms
}

// replyAddresses lists those of the account.
func (u *user) replyAddresses() ([]ReplyAddress, error) {
	d := u.desk()
	if d == nil {
		return nil, nil
	}
	states, err := d.States()
	if err != nil {
		return nil, err
	}
	out := make([]ReplyAddress, 0, len(states))
	for _, s := range states {
		r := ReplyAddress{Account: u.Address.String(), Name: s.Label, Address: s.Address.String(), Blocks: s.Left, Made: s.Made, Fed: s.Fed, Until: s.Until, Next: s.Due, Feeding: s.Busy}
		for _, t := range []*time.Time{&r.Made, &r.Fed, &r.Until, &r.Next} {
			if !t.IsZero() {
				*t = t.UTC().Truncate(time.Second)
			}
		}
		if s.Err != nil {
			r.Problem = errs.Public(s.Err)
		}
		out = append(out, r)
	}
	return out, nil
}

// Words tells in a sentence how the address stands.
func (r *ReplyAddress) Words() string {
	s := "Reply address " + strings.TrimSpace(r.Name+" <"+r.Address+">") + ": "
	switch {
	case !r.Until.IsZero() && r.Blocks > 0:
		s += fmt.Sprintf("answers reach it until %s, and for as long as this proxy is on line at least once every %d hours; its relay has %s.",
			r.Until.Format("2006-01-02 15:04 UTC"), int(client.BlockLife.Hours()), plural(r.Blocks, "reply block", "reply blocks"))
	case !r.Until.IsZero():
		s += "its relay has no reply blocks left, so that answers are put off until it is fed."
	case r.Fed.IsZero():
		s += "it is not ready yet; mail that names it waits until its relay has reply blocks."
	default:
		s += "no answers reach it: this proxy was off line for too long, and its reply blocks have expired. It lives again when it is fed."
	}
	switch {
	case r.Feeding:
		s += " It is being fed now."
	case r.Problem != "":
		s += " It could not be fed: " + r.Problem + "."
	}
	return s
}

// nymsOf finds the account that a command means.
func (s *Server) nymsOf(account string) (*user, *mixnym.Desk, error) {
	const op = "role/proxy.nymsOf"
	var u *user
	switch {
	case account != "":
		var err error
		if u, err = s.find(account); err != nil {
			return nil, nil, err
		}
	case len(s.users) == 1:
		u = s.users[0]
	default:
		return nil, nil, errs.E(op, errs.Invalid, "this proxy has several accounts: say which one is meant", nil)
	}
	d := u.desk()
	if d == nil {
		return nil, nil, errs.E(op, errs.Unavailable, "the account is not registered with its relay, so it can have no reply address", nil)
	}
	return u, d, nil
}

// listNyms lists the reply addresses of one account, or of all.
func (s *Server) listNyms(_ context.Context, a NymArgs) ([]ReplyAddress, error) {
	users := s.users
	if a.Account != "" {
		u, err := s.find(a.Account)
		if err != nil {
			return nil, err
		}
		users = []*user{u}
	}
	out := []ReplyAddress{}
	for _, u := range users {
		list, err := u.replyAddresses()
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// makeNym makes a reply address, or gives the one that there is.
func (s *Server) makeNym(_ context.Context, a NymArgs) (ReplyAddress, error) {
	u, d, err := s.nymsOf(a.Account)
	if err != nil {
		return ReplyAddress{}, err
	}
	to, err := d.Get(a.Name)
	if err != nil {
		return ReplyAddress{}, err
	}
	return u.replyAddress(to.String())
}

func (u *user) replyAddress(address string) (ReplyAddress, error) {
	list, err := u.replyAddresses()
	for _, r := range list {
		if r.Address == address {
			return r, nil
		}
	}
	if err == nil {
		err = errs.E("role/proxy.replyAddress", errs.NotFound, "there is no such reply address", nil)
	}
	return ReplyAddress{}, err
}

// forgetNym gives a reply address up.
func (s *Server) forgetNym(_ context.Context, a NymArgs) (ReplyAddress, error) {
	u, d, err := s.nymsOf(a.Account)
	if err != nil {
		return ReplyAddress{}, err
	}
	list, err := u.replyAddresses()
	if err != nil {
		return ReplyAddress{}, err
	}
	for _, r := range list {
		if r.Name == a.Name || r.Address == a.Name {
			return r, d.Forget(r.Name)
		}
	}
	return ReplyAddress{}, errs.E("role/proxy.forgetNym", errs.NotFound, "there is no such reply address", nil)
}
