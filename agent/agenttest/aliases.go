package agenttest

import (
	"bytes"
	"context"
	"strings"

	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/post/names"
	"postern.email/post/seal"
)

// Aliases are the aliases of an office.
type Aliases struct {
	*alias.Aliases
	o *Office
}

// Aliases opens the register of aliases in some domains; none: the office's own.
func (o *Office) Aliases(domains ...string) *Aliases {
	o.TB.Helper()
	if len(domains) == 0 {
		domains = []string{o.Domain}
	}
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		o.TB.Fatal(err)
	}
	a, err := alias.Open(context.Background(), alias.Options{Store: o.Store, Root: root, Names: names.New(o.Store, root), Domains: domains, Now: o.Clock.Now})
	if err != nil {
		o.TB.Fatal(err)
	}
	return &Aliases{a, o}
}

// Vault opens the vault of an account, which begins with that if it has none.
func (a *Aliases) Vault(account string) *alias.Vault {
	a.o.TB.Helper()
	s := a.o.Login(account)
	defer s.Close()
	v, err := a.ByAccount(context.Background(), s.Key)
	if err != nil {
		v, err = a.Begin(context.Background(), s.Account.ID, alias.BeginOptions{Account: s.Key})
	}
	if err != nil {
		a.o.TB.Fatal(err)
	}
	a.o.TB.Cleanup(v.Close)
	return v
}

// Create makes an alias of an account; set (may be nil) changes what is asked for.
func (a *Aliases) Create(account, local string, set func(*alias.New)) mail.Address {
	a.o.TB.Helper()
	n := alias.New{Local: local}
	if set != nil {
		set(&n)
	}
	al, err := a.Aliases.Create(context.Background(), a.Vault(account), n)
	if err != nil {
		a.o.TB.Fatal(err)
	}
	return al.Address
}

// Alter changes an alias of an account.
func (a *Aliases) Alter(account string, addr mail.Address, fn func(*alias.Change)) {
	a.o.TB.Helper()
	if _, err := a.Change(context.Background(), a.Vault(account), addr, fn); err != nil {
		a.o.TB.Fatal(err)
	}
}

// Now gives an alias as it is.
func (a *Aliases) Now(addr mail.Address) *alias.Alias {
	a.o.TB.Helper()
	al, err := a.Resolve(context.Background(), addr, limits.Peer{})
	if err != nil {
		a.o.TB.Fatal(err)
	}
	return al
}

// People gives who is remembered of an alias, each as "address: state".
func (a *Aliases) People(account string, addr mail.Address) string {
	a.o.TB.Helper()
	n, err := a.Vault(account).Notes(a.Now(addr))
	if err != nil {
		a.o.TB.Fatal(err)
	}
	var out []string
	for _, c := range n.Correspondents {
		out = append(out, c.Address+": "+c.State)
	}
	return strings.Join(out, ", ")
}
