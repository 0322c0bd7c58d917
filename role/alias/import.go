package alias

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"postern.email/agent/migrate"
	"postern.email/kit/day"
	"postern.email/kit/errs"
	"postern.email/kit/postmap"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/post/alias"
	"postern.email/post/names"
	"postern.email/post/seal"
	"postern.email/store"
)

// importFile tells, in StateDir, that IncognitoMail's database was taken over, and what became of it. While
// it is there the database is not looked at.
const importFile = "imported.txt"

// importWorkers is how many handles are taken over at one time: the store syncs them together.
const importWorkers = 32

// importOld takes over IncognitoMail's database, once. A server that was killed at it goes on where
// it was: everything has names of its own, so nothing comes twice.
func (s *Server) importOld(ctx context.Context) error {
	done, err := vfs.Exists(s.d.FS, s.path(importFile))
	if err != nil || done {
		return err
	}
	old, problems, err := migrate.ReadIncognito(s.c.Persistence.DatabasePath)
	if errs.KindOf(err) == errs.NotFound && err != nil {
		return nil // it may come later
	}
	if err != nil {
		return err
	}
	i := importer{s: s, domain: s.domains[0], problems: problems}
	if err := i.all(ctx, old); err != nil {
		return err
	}
	if err := s.keeper.table.Disown(ctx, i.lines(old)); err != nil {
		return err
	}
	s.d.Logger.Info("the database of IncognitoMail was taken over, and stays where it is; "+importFile+" in the state directory says what became of it",
		"accounts", len(old.Accounts), "handles", i.handles.Load(), "spent", len(old.Spent), "problems", len(i.problems))
	return vfs.WriteFileAtomic(s.d.FS, s.path(importFile), []byte(i.report(old)), 0o600)
}

// importer is one run of importOld.
type importer struct {
	s       *Server
	domain  string
	handles atomic.Int64

	mu       sync.Mutex
	problems []migrate.Problem
}

func (i *importer) problem(subject, text string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.problems = append(i.problems, migrate.Problem{Subject: subject, Text: text})
}

// report is what importFile holds.
func (i *importer) report(old *migrate.Incognito) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Taken over from %s: %d accounts, %d handles. %d handles of deleted accounts are not given out again.\n", i.s.c.Persistence.DatabasePath, len(old.Accounts), i.handles.Load(), len(old.Spent))
	b.WriteString("The database is not needed any more. It holds the secrets of all accounts in clear: remove it when you have a backup.\n")
	for _, p := range i.problems {
		fmt.Fprintf(&b, "%s\n", p)
	}
	return b.String()
}

func (i *importer) all(ctx context.Context, old *migrate.Incognito) error {
	for _, a := range old.Accounts {
		if err := i.account(ctx, a); err != nil {
			return err
		}
	}
	return i.spread(old.Spent, func(name string) error { return i.bury(ctx, name) })
}

// spread calls fn for each name, several at one time, and gives the first error.
func (i *importer) spread(names []string, fn func(string) error) (err error) {
	queue := make(chan string)
	var workers sync.WaitGroup
	var once sync.Once
	stop := make(chan struct{})
	for range min(importWorkers, len(names)) {
		workers.Go(func() {
			for name := range queue {
				if ferr := fn(name); ferr != nil {
					once.Do(func() { err = ferr; close(stop) })
					return
				}
			}
		})
	}
feed:
	for _, name := range names {
		select {
		case queue <- name:
		case <-stop:
			break feed
		}
	}
	close(queue)
	workers.Wait()
	return err
}

// lines are those that IncognitoMail wrote into the map for handles that their accounts have lost. Its other lines are taken
// over when the map is written.
func (i *importer) lines(old *migrate.Incognito) (all []postmap.Line) {
	for _, r := range old.Lost {
		all = append(all, postmap.Line{Key: i.address(r.Name).String(), Value: r.Target.String()})
	}
	return all
}

// ownerOf is the number of an account's owner: it follows from the secret, so that it is the same after a crash.
func ownerOf(a migrate.Account, try byte) alias.Owner {
	h := sha256.New()
	h.Write([]byte("postern/incognitomail account\x00" + a.Secret))
	h.Write([]byte{try})
	if a.Secret == "" {
		h.Write([]byte(a.Target.String() + a.Created.String()))
	}
	return alias.Owner(h.Sum(nil)[:len(seal.AccountID{})])
}

func (i *importer) account(ctx context.Context, a migrate.Account) error {
	if !postmap.Word(a.Target.String()) {
		i.problem(a.Target.String(), "this address cannot stand in a map of Postfix; its account was left out")
		return i.spread(handleNames(a), func(name string) error { return i.bury(ctx, name) })
	}
	v, err := i.begin(ctx, a)
	if err != nil || v == nil {
		return err
	}
	defer v.Close()
	return i.spread(handleNames(a), func(name string) error { return i.handle(ctx, v, name) })
}

// maxBegins bounds how often a server may have been killed while it began an account.
const maxBegins = 100

// begin makes the owner of an account, or opens the one that was made before the server was killed. nil: nothing can be
// done for it.
func (i *importer) begin(ctx context.Context, a migrate.Account) (*alias.Vault, error) {
	for try := range byte(maxBegins) {
		owner := ownerOf(a, try)
		v, err := i.s.aliases.Begin(ctx, owner, alias.BeginOptions{Target: a.Target})
		switch {
		case err == nil && a.Secret != "":
			if err := i.s.aliases.TakeToken(ctx, v, a.Secret, alias.ScopeAll, "from IncognitoMail"); err != nil {
				v.Close()
				return nil, err
			}
			return v, nil
		case err == nil:
			return v, nil
		case errs.KindOf(err) != errs.Exists:
			return nil, err
		case a.Secret == "":
			i.problem(a.Target.String(), "its account without a usable secret was begun before; its handles were not looked at again")
			return nil, nil
		}
		v, _, err = i.s.aliases.ByToken(ctx, a.Secret)
		if err == nil || errs.KindOf(err) != errs.Auth {
			return v, err
		}
		// It was killed before the owner had its secret: nobody can open that one, and nothing is in it.
		if err := i.s.aliases.DeleteOwner(ctx, owner); err != nil {
			return nil, err
		}
	}
	return nil, errs.E("role/alias.begin", errs.Unavailable, "an account cannot be taken over", nil)
}

func handleNames(a migrate.Account) (all []string) {
	for _, h := range a.Handles {
		all = append(all, h.Name)
	}
	return all
}

// handle makes one alias.
func (i *importer) handle(ctx context.Context, v *alias.Vault, name string) error {
	_, err := i.s.aliases.Create(ctx, v, alias.New{Local: name, Domain: i.domain, Class: alias.OpenMail})
	switch errs.KindOf(err) {
	case errs.Exists, errs.Denied, errs.Full, errs.Invalid:
		if err != nil {
			return i.left(ctx, v, name, err)
		}
	}
	if err == nil {
		i.handles.Add(1)
	}
	return err
}

// left looks whether a handle that cannot be made is there from before the server was killed.
func (i *importer) left(ctx context.Context, v *alias.Vault, name string, why error) error {
	al, err := i.s.aliases.Lookup(ctx, i.address(name))
	switch {
	case err == nil && al.Owner == v.Owner:
		i.handles.Add(1)
	case err == nil || errs.KindOf(err) == errs.NotFound:
		text := errs.Public(why)
		if text == "" {
			text = "it cannot be an alias"
		}
		i.problem(name, text+"; it was left out")
	default:
		return err
	}
	return nil
}

func (i *importer) address(name string) mail.Address {
	return mail.Address{Local: name, Domain: i.domain}.Canonical()
}

// bury makes a tombstone of a handle that was given out and is nobody's.
func (i *importer) bury(ctx context.Context, name string) error {
	addr := i.address(name)
	err := i.s.db.Update(ctx, i.s.names.Shard(addr), func(tx store.Tx) error {
		return i.s.names.Claim(tx, addr, names.Record{Kind: names.GoneAlias, Day: day.Of(i.s.d.Now())}, nil)
	})
	if k := errs.KindOf(err); err != nil && (k == errs.Exists || k == errs.Denied) {
		return nil
	}
	return err
}
