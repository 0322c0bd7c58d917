package migrate

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"postern.email/kit/errs"
	"postern.email/kit/secret"
	"postern.email/mail"
	"postern.email/mail/aliasname"
)

// The buckets of an IncognitoMail database that have fixed names. Beside them there is one for each account,
// named by its secret: handle to time of creation.
const (
	bucketTargets  = "targets"  // secret to address
	bucketAccounts = "accounts" // secret to time of creation
	bucketHandles  = "handles"  // handle to time of creation, of all accounts
)

// Bounds of a database.
const (
	MaxDatabase = 1 << 30                // bytes
	lockTime    = 500 * time.Millisecond // how long another process may hold it
)

// Incognito is what an IncognitoMail database holds.
type Incognito struct {
	Accounts []Account // by the time of their creation
	// Spent are handles that were given out and belong to nobody any more: IncognitoMail
	// forgets an account's handles when the account is deleted, but not that there were such.
	Spent []string
	// Lost are handles of accounts that another account had first, with where the account's mail goes: Postfix
	// never looked at their lines in the map.
	Lost []Redirect
}

// Redirect is a line that IncognitoMail wrote into the map: a handle, folded, and where its mail goes.
type Redirect struct {
	Name   string
	Target mail.Address
}

// Account is one of an IncognitoMail database.
type Account struct {
	secret.Hidden
	Secret  string // 64 letters and digits; "": it has another form, and nothing can be done with it
	Target  mail.Address
	Created time.Time // zero: it cannot be read
	Handles []Handle  // by name
}

// Handle is an alias without its domain.
type Handle struct {
	Name    string    // in lower case, as Postfix looks it up
	Created time.Time // zero: it cannot be read
}

// ReadIncognito reads an IncognitoMail database, and leaves it as it is. Handles are folded to lower case, since
// Postfix compares them so; of two that are the same then, the older one has got the mail and is
// taken. errs.NotFound, errs.Corrupt when it is no such database, errs.Exists when another process
// has it open, errs.TooLarge beyond MaxDatabase, errs.Denied, errs.Unavailable.
func ReadIncognito(path string) (out *Incognito, problems []Problem, err error) {
	const op = "agent/migrate.ReadIncognito"
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil, errs.E(op, errs.NotFound, "there is no database "+path, err)
	case errors.Is(err, os.ErrPermission):
		return nil, nil, errs.E(op, errs.Denied, "the database "+path+" may not be read", err)
	case err != nil:
		return nil, nil, errs.E(op, errs.Unavailable, "cannot look at the database "+path, err)
	case !st.Mode().IsRegular() || st.Size() == 0:
		return nil, nil, errs.E(op, errs.Corrupt, path+" is no database of IncognitoMail", nil)
	case st.Size() > MaxDatabase:
		return nil, nil, errs.E(op, errs.TooLarge, fmt.Sprintf("the database %s is larger than %d bytes", path, int64(MaxDatabase)), nil)
	}
	// The file is read through the memory map: of a damaged one, reading may fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			out, problems, err = nil, nil, errs.E(op, errs.Corrupt, "the database "+path+" is damaged", fmt.Errorf("%v", r))
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockTime})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, nil, errs.E(op, errs.Exists, "another process has the database "+path+" open; stop the old incognitomail first", err)
	case errors.Is(err, os.ErrPermission):
		return nil, nil, errs.E(op, errs.Denied, "the database "+path+" may not be read", err)
	case err != nil:
		return nil, nil, errs.E(op, errs.Corrupt, path+" is no database of IncognitoMail", err)
	}
	defer db.Close()
	d := incognito{seen: map[string]*owned{}}
	if err = whole(path, st.Size()); err == nil {
		err = db.View(func(tx *bbolt.Tx) error { return d.read(tx, st.Size()) })
	}
	if err != nil {
		return nil, nil, errs.E(op, errs.Corrupt, path+" is no database of IncognitoMail, or it is damaged", err)
	}
	return d.result()
}

// whole looks at a file before bbolt reads it.
func whole(path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return sound(f, size)
}

// incognito is what is read so far.
type incognito struct {
	accounts []*Account
	all      []string          // of the bucket of all handles
	seen     map[string]*owned // by folded name
	lost     []Redirect
	problems []Problem
}

// owned is a handle, and whose.
type owned struct {
	Handle
	of      *Account
	written string // before it was folded
}

func (d *incognito) problem(subject, text string) {
	d.problems = append(d.problems, Problem{Subject: subject, Text: text})
}

func (d *incognito) read(tx *bbolt.Tx, size int64) error {
	if size < tx.Size() {
		return errors.New("its end is missing")
	}
	targets, accounts, handles := tx.Bucket([]byte(bucketTargets)), tx.Bucket([]byte(bucketAccounts)), tx.Bucket([]byte(bucketHandles))
	if targets == nil || accounts == nil || handles == nil {
		return errors.New("a bucket is missing")
	}
	err := targets.ForEach(func(secret, target []byte) error {
		b := tx.Bucket(secret)
		if b == nil {
			d.problem("", "an account has no list of handles; it was left out")
			return nil
		}
		a := d.account(secret, target, accounts.Get(secret))
		if a == nil {
			return nil
		}
		return b.ForEach(func(name, created []byte) error {
			d.handle(a, string(name), created)
			return nil
		})
	})
	if err != nil {
		return err
	}
	// What has handles and no address is no account, as there: its mail goes nowhere.
	err = tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		if slices.Contains([]string{bucketTargets, bucketAccounts, bucketHandles}, string(name)) || targets.Get(name) != nil {
			return nil
		}
		d.problem("", "an account has no address; it was left out")
		return b.ForEach(func(name, _ []byte) error { d.all = append(d.all, string(name)); return nil })
	})
	if err != nil {
		return err
	}
	return handles.ForEach(func(name, _ []byte) error { d.all = append(d.all, string(name)); return nil })
}

// account takes one over, nil where it cannot be used.
func (d *incognito) account(secret, target, created []byte) *Account {
	a := &Account{Secret: string(secret), Created: gobTime(created)}
	addr, err := mail.ParseAddress(strings.TrimSpace(string(target)))
	if err != nil {
		d.problem("", "an account has an address that is none; it was left out, and its handles are not given out again")
		return nil
	}
	a.Target = addr
	if !aliasname.TokenForm(a.Secret) {
		a.Secret = ""
		d.problem(addr.String(), "its account has a secret of another form; it needs a new one")
	}
	d.accounts = append(d.accounts, a)
	return a
}

// handle takes one over.
func (d *incognito) handle(a *Account, name string, created []byte) {
	o := &owned{Handle: Handle{Name: strings.ToLower(name), Created: gobTime(created)}, of: a, written: name}
	if !mail.PlainLocal(o.Name) || len(o.Name) > mail.MaxLocal {
		d.problem(clip(name, mail.MaxLocal), "this handle has characters that no alias has; it was left out")
		return
	}
	was := d.seen[o.Name]
	if was == nil {
		d.seen[o.Name] = o
		return
	}
	// postmap takes the first of two lines, and lines were appended.
	if o.Created.Before(was.Created) && !o.Created.IsZero() || was.Created.IsZero() {
		was, o = o, was
		d.seen[was.Name] = was
	}
	if was.of == o.of {
		d.problem(was.Name, fmt.Sprintf("%s and %s were two handles of one account and are one address to Postfix", was.written, o.written))
	} else {
		d.problem(was.Name, fmt.Sprintf("%s and %s are one address to Postfix; it stays with the account that had it first, and the other one has lost it", was.written, o.written))
		d.lost = append(d.lost, Redirect{o.Name, o.of.Target})
	}
}

// result sorts what was read.
func (d *incognito) result() (*Incognito, []Problem, error) {
	for _, o := range d.seen {
		o.of.Handles = append(o.of.Handles, o.Handle)
	}
	out := &Incognito{Lost: d.lost}
	slices.SortStableFunc(d.accounts, func(a, b *Account) int { return a.Created.Compare(b.Created) })
	for _, a := range d.accounts {
		slices.SortFunc(a.Handles, func(x, y Handle) int { return strings.Compare(x.Name, y.Name) })
		out.Accounts = append(out.Accounts, *a)
	}
	for _, name := range d.all {
		if name = strings.ToLower(name); d.seen[name] == nil && mail.PlainLocal(name) && len(name) <= mail.MaxLocal {
			out.Spent = append(out.Spent, name)
		}
	}
	slices.Sort(out.Spent)
	out.Spent = slices.Compact(out.Spent)
	return out, d.problems, nil
}

// gobTime reads a time as time.Time.GobEncode writes it, zero where it is none.
func gobTime(b []byte) (t time.Time) {
	if t.GobDecode(bytes.Clone(b)) != nil {
		return time.Time{}
	}
	return t.UTC()
}
