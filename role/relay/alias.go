package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"postern.email/agent/aliases"
	"postern.email/agent/aliasmail"
	"postern.email/agent/deliver"
	"postern.email/agent/evidence"
	"postern.email/agent/forward"
	"postern.email/agent/receive"
	"postern.email/kit/errs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/mail/dsn"
	"postern.email/post/account"
	"postern.email/post/alias"
	"postern.email/post/namebook"
	"postern.email/post/names"
	"postern.email/post/seal"
	webalias "postern.email/wire/alias"
	"postern.email/wire/control"
	"postern.email/wire/web"
)

// forwardPath is where a mailbox elsewhere says that it agrees.
const forwardPath = "/forward/"

// aliasPart is what a relay has for aliases. The register is there also where aliases.enabled is
// off: names that were given out stay given out, and an account that goes takes its own along.
type aliasPart struct {
	register *alias.Aliases
	book     *namebook.Book // of forward

	// The others are nil where aliases.enabled is off.
	desk    *aliases.Desk
	door    *aliasmail.Door
	forward *forward.Forward // nil: aliases.forward is off
	web     *webalias.Server
	stopped atomic.Bool // by postern alias stop
}

// aliasDomains are the domains of aliases, canonical, the first the default.
func (c *Config) aliasDomains() []string {
	if len(c.Aliases.Domains) == 0 {
		return []string{c.Domain}
	}
	return c.Aliases.Domains
}

// openAliases opens the register.
func (s *Server) openAliases(ctx context.Context) (err error) {
	c, d := &s.c.Aliases, &s.d
	class := alias.Strict
	if c.Cleartext { // as those that are made at the desk
		class = alias.OpenMail
	}
	s.alias.register, err = alias.Open(ctx, alias.Options{DerivedClass: class, Store: s.db, Root: s.root, Names: names.New(s.db, s.root), Domains: s.c.aliasDomains(),
		MaxPerOwner: c.MaxPerAccount, MaxDeleted: c.MaxDeleted, UndoDays: int(c.Undo.Std() / day), UnusedDays: int(c.DeleteUnused.Std() / day),
		TriesPerSecond: orNone(c.Tries), TriesNetwork: orNone(c.TriesNetwork),
		Deleted: s.boxes.NoteDeleted, Now: d.Now, Rand: d.Rand, Logger: d.Logger})
	if err != nil {
		return err
	}
	s.alias.book = namebook.New(namebook.Options{Store: s.db, Root: s.root, Letter: forward.Letter, MaxRecord: forward.MaxRecord, What: "a record of mail that is sent on",
		Deleted: s.boxes.NoteDeleted, Now: d.Now, Logger: d.Logger})
	return nil
}

// openAliasAgents opens what works with aliases. It comes behind the agents for mail of
// accounts.
func (s *Server) openAliasAgents() (err error) {
	c, d, a := &s.c.Aliases, &s.d, &s.alias
	if !c.Enabled {
		return nil
	}
	o := aliasmail.Options{Register: a.register, Accounts: s.accounts, Rooms: s.rooms(), Deliver: s.deliver, Domain: s.c.Domain, Cleartext: c.Cleartext, NoEvidence: c.Evidence == 0,
		Now: d.Now, Rand: d.Rand, Logger: d.Logger}
	if c.Forward {
		fo := forwardOptions(s.c)
		fo.Aliases, fo.Deliver, fo.Book, fo.Key, fo.Seen = forward.Register(a.register), s.deliver, a.book, s.root.ForwardKey(), s.seen
		fo.URL, fo.Ours, fo.Here, fo.Tell, fo.Now, fo.Rand, fo.Logger = s.forwardURL, s.ours, s.forwardHere, s.tellAliasOwner, d.Now, d.Rand, d.Logger
		a.forward, err = forward.New(fo)
		if err != nil {
			return err
		}
		o.Forward = a.forward
	}
	a.door = aliasmail.New(o)
	do := aliases.Options{Aliases: a.register, Accounts: s.accounts, Domains: s.c.aliasDomains(), Style: aliasname.Style(c.Style), Cleartext: c.Cleartext, Elsewhere: c.Forward, MaxPerOwner: c.MaxPerAccount,
		CreatePerMinute: orNone(c.CreatePerMinute), CreateBurst: c.CreatePerMinute, CreateNetworkPerMinute: orNone(c.CreatePerNetwork), CreateNetworkBurst: c.CreatePerNetwork,
		WrongPerMinute: orNone(c.WrongPerNetwork), WrongBurst: c.WrongPerNetwork, Base: s.base, Now: d.Now, Rand: d.Rand, Logger: d.Logger}
	if a.forward != nil {
		do.CheckTarget, do.NewTarget = a.forward.CheckTarget, s.askTarget
	}
	if c.Evidence > 0 {
		do.Evidence = s.evidence
	}
	a.desk, err = aliases.New(do)
	return err
}

// forwardOptions are those of mail that is sent on.
func forwardOptions(c Config) forward.Options {
	a := &c.Aliases
	return forward.Options{Domain: c.Domain, Cleartext: a.Cleartext, Unsubscribe: unsubscribes[a.ForwardUnsubscribe], KeepKeys: a.ForwardKeys,
		HardBounces: a.ForwardHard, SoftPerDay: a.ForwardSoftDay, SoftPerWeek: a.ForwardSoftWeek, BadDays: a.ForwardBadDays,
		SoftPause: a.ForwardShortPause.Std(), HardPause: a.ForwardLongPause.Std()}
}

var unsubscribes = map[string]forward.Unsubscribe{"keep": forward.UnsubscribeKeep, "block": forward.UnsubscribeBlock, "drop": forward.UnsubscribeDrop}

// ours reports whether a domain is of this relay.
func (s *Server) ours(domain string) bool {
	a := mail.Address{Local: "x", Domain: domain}
	return s.accounts.Ours(a) || s.alias.register.Ours(a)
}

// aliasOwners tells deliver whose aliases are; nil: there are none.
func (s *Server) aliasOwners() deliver.Aliases {
	if !s.c.Aliases.Enabled {
		return nil
	}
	return s.alias.register
}

// returned shows the reports of the queue to who sent the mails on.
func (s *Server) returned(ctx context.Context, r dsn.Report) (*dsn.Report, bool) {
	if s.alias.forward == nil {
		return nil, false
	}
	return s.alias.forward.Returned(ctx, r)
}

// forwards gives what serves addresses that were given out for mail that is sent on; nil: nothing does.
func (s *Server) forwards() receive.Forwards {
	if s.alias.forward == nil {
		return nil
	}
	return s.alias.forward
}

// base is where the pages are found from outside; "": there are none.
func (s *Server) base() string {
	port := s.portOf("https")
	if port == 0 {
		port = s.portOf("https_alt")
	}
	host := s.d.ClientHost
	if host == "" {
		host = s.c.host()
	}
	if port == 0 {
		return ""
	}
	if port == 443 {
		return "https://" + host
	}
	return "https://" + net.JoinHostPort(host, itoa(port))
}

// openAliasWeb builds the pages and calls about aliases.
func (s *Server) openAliasWeb() (err error) {
	a := &s.alias
	if a.desk == nil {
		return nil
	}
	a.web, err = webalias.New(webalias.Options{Backend: a.desk, Domain: s.c.Domain, Base: s.base(), WebSocketPath: s.c.Aliases.WebSocketPath, Origins: s.c.Aliases.Origins,
		PeerOf: web.PeerOf, HSTS: !s.certs.SelfSigned(), Now: s.d.Now, Rand: s.d.Rand, Logger: s.d.Logger})
	return err
}

// aliasPath is the page about aliases; "": there is none.
func (s *Server) aliasPath() string {
	if s.alias.desk == nil {
		return ""
	}
	return webalias.PagePath
}

// aliasPage serves a request about aliases; false: it is none.
func (s *Server) aliasPage(w http.ResponseWriter, r *http.Request) bool {
	a := &s.alias
	switch {
	case a.forward != nil && strings.HasPrefix(r.URL.Path, forwardPath):
		a.forward.Handler().ServeHTTP(w, r)
	case a.web == nil || !a.web.Owns(r.URL.Path):
		return false
	case a.stopped.Load():
		http.Error(w, "the alias service is stopped", http.StatusServiceUnavailable)
	default:
		a.web.Handler().ServeHTTP(w, r)
	}
	return true
}

// aliasCommands are those of the control socket.
func (s *Server) aliasCommands() map[string]control.Handler {
	if s.alias.desk == nil {
		off := func(context.Context, json.RawMessage, func(any) error) (any, error) {
			return nil, errs.E("role/relay.aliasCommands", errs.Unsupported, "this relay has no aliases (aliases.enabled)", nil)
		}
		out := aliases.Commands(nil, nil)
		for name := range out {
			out[name] = off
		}
		return out
	}
	out := aliases.Commands(s.alias.desk, func() { s.alias.stopped.Store(true) })
	if s.alias.forward != nil {
		for name, fn := range aliases.TargetCommands(s.alias.desk, s.alias.forward) {
			out[name] = fn
		}
	}
	return out
}

// evidence makes the file that shows who passed an alias on, from an account's mailbox.
func (s *Server) evidence(ctx context.Context, login *account.Session, v *alias.Vault, al *alias.Alias) (json.RawMessage, error) {
	n, err := v.Notes(al)
	if err != nil {
		return nil, err
	}
	expected, stranger, err := evidence.Find(ctx, s.boxes.Account(login.Key, login.Quota), evidence.Search{Alias: al.Address, Site: n.Site, Within: s.c.Aliases.Evidence.Std(), Now: s.d.Now()})
	if err != nil {
		return nil, err
	}
	f, err := evidence.Make(al.Address, expected, stranger, s.d.Now(), s.d.Rand)
	if err != nil {
		return nil, err
	}
	return f.Encode()
}

// dropAliases ends an account's aliases; keep: only what was sealed to the key that it has no
// more.
func (s *Server) dropAliases(ctx context.Context, id seal.AccountID, keep bool) error {
	if keep {
		return s.alias.register.ResetOwner(ctx, id)
	}
	return s.alias.register.DeleteOwner(ctx, id)
}

// Times of the notice before an alias ends.
const (
	noticeBefore = 7 * day
	noticeEvery  = 6 * time.Hour
)

// runAliasNotices tells owners of aliases that end soon.
func (s *Server) runAliasNotices(ctx context.Context) error {
	t := time.NewTicker(noticeEvery)
	defer t.Stop()
	for {
		err := s.alias.register.Due(ctx, noticeBefore, func(al *alias.Alias, why string) error { return s.noticeAlias(ctx, al, why) })
		if err != nil && ctx.Err() == nil {
			s.d.Logger.Warn("owners could not be told of aliases that end soon; they are in some hours", "err", errs.KindOf(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// endWords say by what an alias ends.
var endWords = map[string]string{alias.EndDate: "its last day is near", alias.EndCount: "it has got nearly as many mails as it may", alias.EndIdle: "nothing has come for it for long"}

// noticeAlias puts a note that an alias ends soon into the mailbox of its owner. An owner without
// one here sees it on the page.
func (s *Server) noticeAlias(ctx context.Context, al *alias.Alias, why string) error {
	owner, err := s.accounts.ByNumber(ctx, al.Owner)
	if errs.KindOf(err) == errs.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	text := fmt.Sprintf("Your alias\n\n    %s\n\nends soon: %s. From then on mail to it is refused, and nobody else ever gets it.\n\nTo keep it for 90 days more:\n\n    postern alias expire %[1]s --extend 90d\n", al.Address, endWords[why])
	if base := s.base(); base != "" {
		text += fmt.Sprintf("\nor with one click on its page:\n\n    %s%s/%s\n", base, webalias.PagePath, al.Address)
	}
	return s.note(ctx, owner, al.Address, "An alias of yours ends soon", text)
}
