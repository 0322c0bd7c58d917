package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strconv"
	"time"

	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/mailbox"
	"postern.email/post/packetbox"
	"postern.email/post/queue"
	"postern.email/post/seen"
	"postern.email/wire/control"
)

// AccountInfo is an account as the commands show it.
type AccountInfo struct {
	Address         string `json:"address"`
	ID              string `json:"id"`
	Class           string `json:"class"`
	Blocked         bool   `json:"blocked"`
	AcceptCleartext bool   `json:"accept_cleartext"`
	Quota           int64  `json:"quota"` // bytes; 0 = the server's default
	Created         string `json:"created"`
	LastLogin       string `json:"last_login,omitempty"` // day; empty = never
}

func infoOf(a account.Account) AccountInfo {
	i := AccountInfo{Address: a.Address.String(), ID: a.ID.String(), Class: a.Class.String(), Blocked: a.Blocked,
		AcceptCleartext: a.AcceptCleartext, Quota: a.Quota, Created: a.Created.String()}
	if a.LastLogin != 0 {
		i.LastLogin = a.LastLogin.String()
	}
	return i
}

// AccountArgs are the arguments of the account commands; each reads its own part.
type AccountArgs struct {
	Address         string  `json:"address,omitempty"`
	Password        string  `json:"password,omitempty"` // of create; the new one of passwd and reset
	Old             string  `json:"old,omitempty"`
	Class           *string `json:"class,omitempty"`
	AcceptCleartext *bool   `json:"accept_cleartext,omitempty"`
	Quota           *int64  `json:"quota,omitempty"`
	Cursor          string  `json:"cursor,omitempty"`

	Key    string `json:"key,omitempty"`    // of mix: a client's link key
	Remove bool   `json:"remove,omitempty"` // of mix: take the client with Key away
	Days   int    `json:"days,omitempty"`   // of invite: how long it can be used
}

// AccountPage is one answer of account.list.
type AccountPage struct {
	Accounts []AccountInfo `json:"accounts"`
	Next     string        `json:"next,omitempty"`
}

// Finding is one thing that store.check found wrong.
type Finding struct {
	Part string `json:"part"` // "store", "accounts", "mailboxes", "queue", "packets", "aliases", "keys"
	Text string `json:"text"`
	// Leftover: a crash between two steps left it, nothing refers to it, and the
	// running relay removes it by itself. It is no damage.
	Leftover bool `json:"leftover,omitempty"`
}

// leftoverBody is what post/mailbox says about a body file that was synced before
// a crash and whose mail was never committed.
const leftoverBody = "a body file belongs to no mail"

// Revealed is one thing that the node key opens.
type Revealed struct {
	Kind string `json:"kind"` // a row of the table in docs/threat-model.md
	Text string `json:"text"`
}

// listPage is how many accounts account.list gives at once.
const listPage = 500

// commands is the table of the control socket.
func (s *Server) commands() map[string]control.Handler {
	ask := func(r Request) control.Handler {
		return func(context.Context, json.RawMessage, func(any) error) (any, error) {
			select {
			case s.asked <- r:
			default: // it is asked already
			}
			return os.Getpid(), nil
		}
	}
	h := s.dkimCommands()
	maps.Copy(h, map[string]control.Handler{
		"status":       func(context.Context, json.RawMessage, func(any) error) (any, error) { return s.Status(), nil },
		"doctor":       s.askDoctor,
		"dns":          s.askZone,
		"stop":         ask(RequestStop),
		"restart":      s.askRestart(ask(RequestRestart)),
		"account.list": s.listAccounts,
		"store.check":  s.checkStore,
		"store.reveal": s.revealStore,
		"account.mix":  s.mixAccount,

		"account.invite": s.invite,
	})
	maps.Copy(h, s.queueCommands())
	maps.Copy(h, s.aliasCommands())
	for name, fn := range map[string]func(context.Context, mail.Address, AccountArgs) (account.Account, error){
		"account.create": s.createAccount,
		"account.show": func(ctx context.Context, addr mail.Address, _ AccountArgs) (account.Account, error) {
			return s.accounts.Show(ctx, addr)
		},
		"account.set": s.setAccount,
		"account.passwd": func(ctx context.Context, addr mail.Address, a AccountArgs) (account.Account, error) {
			return s.then(ctx, addr, s.accounts.Passwd(ctx, addr, a.Old, a.Password))
		},
		"account.reset": func(ctx context.Context, addr mail.Address, a AccountArgs) (account.Account, error) {
			return s.then(ctx, addr, s.accounts.Reset(ctx, addr, a.Password))
		},
		"account.block": func(ctx context.Context, addr mail.Address, _ AccountArgs) (account.Account, error) {
			err := s.accounts.Block(ctx, addr)
			s.mix.recheck()
			return s.then(ctx, addr, err)
		},
		"account.unblock": func(ctx context.Context, addr mail.Address, _ AccountArgs) (account.Account, error) {
			return s.then(ctx, addr, s.accounts.Unblock(ctx, addr))
		},
		"account.delete": func(ctx context.Context, addr mail.Address, _ AccountArgs) (account.Account, error) {
			a, err := s.accounts.Show(ctx, addr)
			if err == nil {
				err = s.accounts.Delete(ctx, addr)
			}
			return a, err
		},
	} {
		h[name] = func(ctx context.Context, args json.RawMessage, _ func(any) error) (any, error) {
			var a AccountArgs
			if err := control.Args(args, &a); err != nil {
				return nil, err
			}
			addr, err := s.address(a.Address)
			if err != nil {
				return nil, err
			}
			got, err := fn(ctx, addr, a)
			if err != nil {
				return nil, commandError(err)
			}
			return infoOf(got), nil
		}
	}
	return h
}

// askRestart refuses a restart that could not come up again by itself.
func (s *Server) askRestart(ask control.Handler) control.Handler {
	return func(ctx context.Context, args json.RawMessage, progress func(any) error) (any, error) {
		if s.c.NodeKey.Source == "passphrase" {
			return nil, errs.E("role/relay.restart", errs.Unsupported,
				"the node key comes from a passphrase, which somebody must type: stop the relay and start it again", nil)
		}
		return ask(ctx, args, progress)
	}
}

// commandError puts words to what the operator did not know of.
func commandError(err error) error {
	if errs.KindOf(err) == errs.NotFound {
		return errs.E("role/relay.command", errs.NotFound, "there is no such account", err)
	}
	return err
}

// address reads an operator's argument; a name without @ is one of our domain.
func (s *Server) address(text string) (mail.Address, error) {
	addr, err := mail.ParseAddress(text)
	if err != nil {
		addr, err = mail.ParseAddress(text + "@" + s.c.Domain)
	}
	if err != nil {
		return addr, errs.E("role/relay.address", errs.Invalid, "this is not a mail address", err)
	}
	return addr, nil
}

// then shows the account after a change.
func (s *Server) then(ctx context.Context, addr mail.Address, err error) (account.Account, error) {
	if err != nil {
		return account.Account{}, err
	}
	return s.accounts.Show(ctx, addr)
}

func (s *Server) createAccount(ctx context.Context, addr mail.Address, a AccountArgs) (account.Account, error) {
	r := account.CreateRequest{Address: addr, Password: a.Password}
	if a.Class != nil {
		class, err := account.ParseClass(*a.Class)
		if err != nil {
			return account.Account{}, err
		}
		r.Class = class
	}
	if a.AcceptCleartext != nil {
		r.AcceptCleartext = *a.AcceptCleartext
	}
	if a.Quota != nil {
		r.Quota = *a.Quota
	}
	return s.accounts.Create(ctx, r)
}

func (s *Server) setAccount(ctx context.Context, addr mail.Address, a AccountArgs) (account.Account, error) {
	c := account.Change{AcceptCleartext: a.AcceptCleartext, Quota: a.Quota}
	if a.Class != nil {
		class, err := account.ParseClass(*a.Class)
		if err != nil {
			return account.Account{}, err
		}
		c.Class = &class
	}
	return s.accounts.Set(ctx, addr, c)
}

func (s *Server) listAccounts(ctx context.Context, args json.RawMessage, _ func(any) error) (any, error) {
	var a AccountArgs
	if err := control.Args(args, &a); err != nil {
		return nil, err
	}
	page, next, err := s.accounts.List(ctx, a.Cursor, listPage)
	if err != nil {
		return nil, err
	}
	out := AccountPage{Accounts: make([]AccountInfo, 0, len(page)), Next: next}
	for _, acc := range page {
		out.Accounts = append(out.Accounts, infoOf(acc))
	}
	return out, nil
}

// checkStore sends each finding as progress; its result is their number.
func (s *Server) checkStore(ctx context.Context, _ json.RawMessage, progress func(any) error) (any, error) {
	n := 0
	err := s.Check(ctx, func(f Finding) {
		n++
		_ = progress(f) // a caller that went away ends ctx
	})
	return n, err
}

// Check walks every invariant of the store, the accounts and the mailboxes. The
// server may be running: what is being written is left alone.
func (s *Server) Check(ctx context.Context, report func(Finding)) error {
	const op = "role/relay.Check"
	found, err := s.db.Check(ctx)
	if err != nil {
		return errs.Wrap(op, err)
	}
	for _, f := range found {
		text := f.What
		if f.Err != nil {
			text += ": " + f.Err.Error()
		}
		report(Finding{Part: "store", Text: text})
	}
	if err := s.accounts.Check(ctx, func(f account.Finding) {
		left := f.Kind == account.FindingOrphan || f.Kind == account.FindingLeftover
		report(Finding{Part: "accounts", Text: f.Kind + ": " + f.Text, Leftover: left})
	}); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.seen.Check(ctx, func(f seen.Finding) {
		report(Finding{Part: "accounts", Text: fmt.Sprintf("%s (account %s)", f.What, f.Account)})
	}); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.queue.Check(ctx, func(text string) { report(Finding{Part: "queue", Text: text, Leftover: text == queue.Leftover}) }); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.book.Check(ctx, func(text string) { report(Finding{Part: "policies", Text: text}) }); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.packets.Check(ctx, func(f packetbox.Finding) {
		text := f.What
		if f.Account != "" {
			text += fmt.Sprintf(" (account %s)", f.Account)
		}
		report(Finding{Part: "packets", Text: text, Leftover: f.Leftover})
	}); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.alias.register.Check(ctx, func(f alias.Finding) {
		text := f.What
		if f.Owner != "" {
			text += fmt.Sprintf(" (owner %s)", f.Owner)
		}
		report(Finding{Part: "aliases", Text: text, Leftover: f.Leftover})
	}); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.alias.book.Check(ctx, func(text string) { report(Finding{Part: "aliases", Text: text}) }); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.nyms.Check(ctx, func(text string) { report(Finding{Part: "packets", Text: text}) }); err != nil {
		return errs.Wrap(op, err)
	}
	if s.dkim != nil {
		if err := s.dkim.Check(ctx, func(text string) { report(Finding{Part: "keys", Text: text}) }); err != nil {
			return errs.Wrap(op, err)
		}
	}
	return errs.Wrap(op, s.boxes.Check(ctx, func(f mailbox.Finding) {
		text := f.What
		if f.Account != "" {
			text += fmt.Sprintf(" (account %s, mailbox %d)", f.Account, f.Box)
		}
		report(Finding{Part: "mailboxes", Text: text, Leftover: f.What == leftoverBody})
	}))
}

func (s *Server) revealStore(ctx context.Context, _ json.RawMessage, progress func(any) error) (any, error) {
	n := 0
	err := s.Reveal(ctx, func(r Revealed) {
		n++
		_ = progress(r)
	})
	return n, err
}

// Reveal gives everything that the node key opens: what a thief of the disk and
// of the node key would read.
func (s *Server) Reveal(ctx context.Context, emit func(Revealed)) error {
	const op = "role/relay.Reveal"
	say := func(kind, text string) { emit(Revealed{kind, text}) }
	if err := s.accounts.Reveal(ctx, say); err != nil {
		return errs.Wrap(op, err)
	}
	if s.dkim != nil {
		if err := s.dkim.Reveal(ctx, say); err != nil {
			return errs.Wrap(op, err)
		}
	}
	if err := s.alias.register.Reveal(ctx, say); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.packets.Reveal(ctx, say); err != nil {
		return errs.Wrap(op, err)
	}
	if err := s.nyms.Reveal(ctx, say); err != nil {
		return errs.Wrap(op, err)
	}
	s.revealMixKeys(say)
	return errs.Wrap(op, s.queue.Reveal(ctx, say))
}

// Status tells how the server does.
func (s *Server) Status() Status {
	st := Status{Info: s.Info(), Version: Version, PID: os.Getpid(), Since: s.started.UTC().Format(time.RFC3339),
		Generation: strconv.FormatInt(s.started.UnixNano(), 36), Health: "ok"}
	st.Ready, st.TLS = true, s.certs.Status()
	if err := s.mayWrite(); err != nil {
		st.Health = errs.Public(err)
	}
	l := s.accounts.Load()
	st.Passwords.Hashed, st.Passwords.Running, st.Passwords.Waiting = l.Hashed, l.Hashing, l.Waiting
	q := s.queue.Stats()
	st.Queue.Mails, st.Queue.Recipients, st.Queue.Held, st.Queue.Sending, st.Queue.Damaged, st.Queue.Bytes = q.Mails, q.Recipients, q.Held, q.Leased, q.Damaged, q.Bytes
	st.Keys.InUse, st.Keys.Idle, st.Keys.TakenOver, st.Keys.LiveChains = l.KeysUsed, l.KeysIdle, s.handed, s.chains.Live()
	c := &st.Connections
	c.IMAP, c.SMTP, c.POP3, c.Web = s.limits.imap.Open(), s.limits.smtp.Open(), s.limits.pop3.Open(), s.limits.web.Open()
	st.Mixnet, st.Aliases = s.mixStatus(), s.aliasStatus()
	d := s.db.Stats()
	st.Store.Transactions, st.Store.Groups, st.Store.Syncs, st.Store.Bytes = d.Txs, d.Groups, d.Syncs, d.BytesWritten
	return st
}
