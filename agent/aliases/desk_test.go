package aliases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern.email/agent/agenttest"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mail/aliasname"
	"postern.email/post/alias"
	"postern.email/post/names"
	"postern.email/post/seal"
)

// world is an office with a desk.
type world struct {
	*agenttest.Office
	t    *testing.T
	desk *Desk
	reg  *alias.Aliases
}

func newWorld(t *testing.T, set func(*Options)) *world {
	t.Helper()
	o := agenttest.Open(t, "example.org", vfs.NewCrashDisk(), "/")
	root, err := seal.NewRoot(bytes.Repeat([]byte{7}, seal.KeyLen), nil)
	if err != nil {
		t.Fatal(err)
	}
	reg, err := alias.Open(t.Context(), alias.Options{Store: o.Store, Root: root, Names: names.New(o.Store, root), Domains: []string{"example.org", "alias.example"}, Now: o.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Aliases: reg, Accounts: o.Accounts, Domains: []string{"example.org", "alias.example"}, Cleartext: true, Now: o.Clock.Now}
	if set != nil {
		set(&opts)
	}
	d, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	o.Create("anna", nil)
	o.Create("ben", nil)
	return &world{o, t, d, reg}
}

func (w *world) who(name string) Who {
	return Who{Login: name + "@example.org", Password: agenttest.Password}
}

func (w *world) token(name string, scopes ...string) Who {
	w.t.Helper()
	token, err := w.desk.NewToken(w.t.Context(), w.who(name), scopes, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return Who{Token: token}
}

func (w *world) make(who Who, r CreateRequest) View {
	w.t.Helper()
	v, err := w.desk.Create(w.t.Context(), who, r)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func wantKind(t *testing.T, err error, kind errs.Kind, text string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || !strings.Contains(errs.Public(err), text) {
		t.Errorf("%v, want %v with %q", err, kind, text)
	}
}

// TestScopes: what each scope allows, and that the others do not.
func TestScopes(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	at := w.make(w.who("anna"), CreateRequest{Label: "secret label"}).Address
	calls := map[string]struct {
		call  func(Who) error
		needs []string
	}{
		"create":  {func(who Who) error { _, err := w.desk.Create(ctx, who, CreateRequest{}); return err }, []string{"create"}},
		"list":    {func(who Who) error { _, _, err := w.desk.List(ctx, who, ListRequest{}); return err }, []string{"list"}},
		"get":     {func(who Who) error { _, err := w.desk.Get(ctx, who, at); return err }, []string{"list"}},
		"stats":   {func(who Who) error { _, err := w.desk.Stats(ctx, who); return err }, []string{"list"}},
		"export":  {func(who Who) error { return w.desk.Export(ctx, who, func(View) error { return nil }) }, []string{"list"}},
		"change":  {func(who Who) error { _, err := w.desk.Change(ctx, who, at, ChangeRequest{}); return err }, []string{"manage"}},
		"tokens":  {func(who Who) error { _, err := w.desk.Tokens(ctx, who); return err }, []string{"list", "manage"}},
		"key":     {func(who Who) error { _, _, err := w.desk.AliasKey(ctx, who); return err }, []string{"create", "manage"}},
		"import":  {func(who Who) error { _, err := w.desk.Import(ctx, who, "", nil); return err }, []string{"create", "manage"}},
		"account": {func(who Who) error { _, err := w.desk.Account(ctx, who); return err }, nil},
	}
	for _, scopes := range [][]string{{"create"}, {"list"}, {"manage"}, {"create", "manage"}, {"list", "manage"}, {"create", "list", "manage"}} {
		who := w.token("anna", scopes...)
		for name, c := range calls {
			may := true
			for _, n := range c.needs {
				may = may && strings.Contains(strings.Join(scopes, " "), n)
			}
			err := c.call(who)
			if may && err != nil {
				t.Errorf("%v, %s: %v", scopes, name, err)
			}
			if !may {
				wantKind(t, err, errs.Denied, "does not allow")
			}
		}
	}
	// Who may not list learns nothing of an alias, nor of the owner.
	manage := w.token("anna", "manage")
	v, err := w.desk.Change(ctx, manage, at, ChangeRequest{})
	if err != nil || v.Label != "" || v.Created != "" || v.Address != at || len(v.Correspondents) != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if acc, err := w.desk.Account(ctx, manage); err != nil || acc.Name != "" || acc.Aliases != 0 {
		t.Errorf("%+v, %v", acc, err)
	}
	// A token gives none that may do more.
	_, err = w.desk.NewToken(ctx, manage, []string{"list"}, "")
	wantKind(t, err, errs.Denied, "cannot give what it does not have")
	_, err = w.desk.NewToken(ctx, manage, []string{"everything"}, "")
	wantKind(t, err, errs.Invalid, "create, list and manage")
}

// TestWrong: whatever is wrong about a credential is told in the same words, and slows the network
// that it comes from and no other.
func TestWrong(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.WrongPerMinute, o.WrongBurst = 6, 12 })
	ctx := t.Context()
	revoked, rotated, deleted := w.token("anna"), w.token("anna"), w.token("ben")
	ts, err := w.desk.Tokens(ctx, w.who("anna"))
	if err != nil || len(ts) != 2 {
		t.Fatalf("%v, %v", ts, err)
	}
	fresh, err := w.desk.RotateToken(ctx, rotated)
	if err != nil || !aliasname.TokenForm(fresh) {
		t.Fatal(err)
	}
	for _, x := range ts {
		if err := w.desk.RevokeToken(ctx, w.who("anna"), x.ID); err != nil && errs.KindOf(err) != errs.NotFound {
			t.Fatal(err)
		}
	}
	if err := w.desk.DeleteOwner(ctx, deleted); err != nil {
		t.Fatal(err)
	}
	blocked := w.token("ben")
	if err := w.Accounts.Block(ctx, w.Address("ben")); err != nil {
		t.Fatal(err)
	}
	peer := limits.Peer{Addr: netip.MustParseAddr("192.0.2.1")}
	wrong := map[string]Who{"no token": {}, "malformed": {Token: "x"}, "unknown": {Token: strings.Repeat("a", 64)}, "revoked": revoked, "rotated": rotated, "deleted": deleted,
		"blocked": blocked, "no account": {Login: "nobody@example.org", Password: "x"}, "no address": {Login: "x", Password: "x"}}
	for name, who := range wrong {
		who.Peer = peer
		if _, err := w.desk.Account(ctx, who); errs.KindOf(err) != errs.Auth || errs.Public(err) != textAuth {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 4 {
		w.desk.Account(ctx, Who{Token: "x", Peer: peer})
	}
	_, err = w.desk.Account(ctx, Who{Token: fresh, Peer: peer})
	wantKind(t, err, errs.Busy, "too many wrong tokens or passwords, try again in ")
	other := limits.Peer{Addr: netip.MustParseAddr("192.0.2.2")}
	if _, err := w.desk.List2(ctx, Who{Login: "anna@example.org", Password: agenttest.Password, Peer: other}); err != nil {
		t.Errorf("another network: %v", err)
	}
	w.Clock.Add(time.Minute)
	if _, err := w.desk.List2(ctx, Who{Login: "anna@example.org", Password: agenttest.Password, Peer: peer}); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	if _, err := w.Accounts.Show(ctx, w.Address("nobody")); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a login made an account: %v", err)
	}
}

// List2 is Account without its answer's parts.
func (d *Desk) List2(ctx context.Context, w Who) ([]View, error) {
	page, _, err := d.List(ctx, w, ListRequest{})
	return page, err
}

// TestRates: creation is limited for an owner, whichever token it uses, and for a network.
func TestRates(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.CreatePerMinute, o.CreateBurst, o.CreateNetworkPerMinute, o.CreateNetworkBurst = 2, 2, 3, 3
	})
	ctx := t.Context()
	peer := limits.Peer{Addr: netip.MustParseAddr("192.0.2.1")}
	at := func(who Who) Who { who.Peer = peer; return who }
	one, two := w.token("anna", "create"), w.token("anna", "create")
	w.make(at(one), CreateRequest{})
	w.make(at(two), CreateRequest{})
	_, err := w.desk.Create(ctx, at(w.who("anna")), CreateRequest{})
	wantKind(t, err, errs.Busy, "too many requests, try again in 30 seconds")
	w.make(at(w.who("ben")), CreateRequest{})
	_, err = w.desk.Create(ctx, at(w.who("ben")), CreateRequest{})
	wantKind(t, err, errs.Busy, "too many requests")
	w.make(w.who("ben"), CreateRequest{}) // the network is not counted against the owner
	if _, err := w.desk.Create(ctx, at(one), CreateRequest{Mode: "odd"}); errs.KindOf(err) != errs.Invalid {
		t.Errorf("what is malformed is told before the rate: %v", err)
	}

	w = newWorld(t, func(o *Options) { o.AskPerMinute, o.AskNetworkPerMinute = 3, 5 })
	for range 3 {
		if _, err := w.desk.List2(ctx, at(w.who("anna"))); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.desk.List2(ctx, at(w.who("anna")))
	wantKind(t, err, errs.Busy, "too many requests")
	if _, err = w.desk.List2(ctx, at(w.who("ben"))); err != nil {
		t.Error(err)
	}
	_, err = w.desk.List2(ctx, at(w.who("ben")))
	wantKind(t, err, errs.Busy, "too many requests")
	if _, err = w.desk.List2(ctx, w.who("ben")); err != nil {
		t.Error(err)
	}
}

// TestOthers: nobody sees, changes or deletes an alias of somebody else, nor learns that there is
// one (IM-61).
func TestOthers(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	annas, bens := w.token("anna"), w.token("ben")
	at := w.make(annas, CreateRequest{Custom: "shop"}).Address
	for _, target := range []string{at, "shop", "nobody", "sho", "@", "a b@example.org"} {
		_, err := w.desk.Get(ctx, bens, target)
		wantKind(t, err, errs.NotFound, textNoAlias)
		_, err = w.desk.Change(ctx, bens, target, ChangeRequest{Allow: []string{"x@y.example"}})
		wantKind(t, err, errs.NotFound, textNoAlias)
		wantKind(t, w.desk.Delete(ctx, bens, target), errs.NotFound, textNoAlias)
	}
	if v, err := w.desk.Get(ctx, annas, "SHOP"); err != nil || v.State != "active" {
		t.Errorf("%+v, %v", v, err)
	}
	if err := w.desk.Delete(ctx, annas, "shop"); err != nil {
		t.Fatal(err)
	}
	_, err := w.desk.Restore(ctx, bens, at)
	wantKind(t, err, errs.NotFound, textNoAlias)
	_, err = w.desk.Create(ctx, bens, CreateRequest{Custom: "shop"})
	wantKind(t, err, errs.Exists, "")
	if v, err := w.desk.Get(ctx, annas, at); err != nil || v.State != "deleted" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := w.desk.Restore(ctx, annas, at); err != nil || v.State != "active" {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestViews: what was asked for is shown, and what a search finds.
func TestViews(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	who := w.token("anna")
	v := w.make(who, CreateRequest{Site: "https://www.Shop.example/x", Label: " The shop ", Note: "n", Mode: "ask", Class: "strict", Expires: "2099-12-31", MaxMails: 5, IdleDays: 6, Domain: "ALIAS.example"})
	if v.Site != "shop.example" || v.Label != "The shop" || v.Note != "n" || v.Mode != "ask" || v.Class != "strict" || v.Expires != "2100-01-01T00:00:00Z" || v.MaxMails != 5 || v.IdleDays != 6 ||
		!strings.HasSuffix(v.Address, "@alias.example") || v.State != "active" || v.Leaked || v.Correspondents == nil {
		t.Errorf("%+v", v)
	}
	for range 5 {
		w.make(who, CreateRequest{})
	}
	for search, want := range map[string]int{"": 6, "THE SHOP": 1, "alias.example": 1, "nothing such": 0} {
		n := 0
		for cursor := ""; ; {
			page, next, err := w.desk.List(ctx, who, ListRequest{Search: search, Cursor: cursor, Limit: 2})
			if err != nil || len(page) > 2 {
				t.Fatalf("%d, %v", len(page), err)
			}
			n += len(page)
			if cursor = next; next == "" {
				break
			}
		}
		if n != want {
			t.Errorf("%q finds %d", search, n)
		}
	}
	if page, _, err := w.desk.List(ctx, who, ListRequest{Site: "shop.example"}); err != nil || len(page) != 1 {
		t.Errorf("%v, %v", page, err)
	}
	yes, site := true, "other.example"
	days := uint16(30)
	got, err := w.desk.Change(ctx, who, v.Address, ChangeRequest{Paused: &yes, Site: &site, Extend: &days, Block: []string{"eve@evil.example"}})
	if err != nil || got.State != "paused" || got.Site != "other.example" || got.Label != "The shop" || len(got.Correspondents) != 1 || got.Correspondents[0].State != "blocked" {
		t.Errorf("%+v, %v", got, err)
	}
	if s, err := w.desk.Stats(ctx, who); err != nil || s.Aliases != 6 || s.Paused != 1 || s.Unused != 6 {
		t.Errorf("%+v, %v", s, err)
	}
	w.Clock.Add(8 * 24 * time.Hour)
	if got, err := w.desk.Get(ctx, who, v.Address); err != nil || got.State != "paused" && got.State != "expired" {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestRequests: each thing that can be wrong with a request has its words.
func TestRequests(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Cleartext = false })
	for text, r := range map[string]CreateRequest{
		"not made in this domain":             {Domain: "other.example"},
		"the mode is":                         {Mode: "odd"},
		"the class is":                        {Class: "odd"},
		"end-to-end encrypted mail only":      {Class: "open-mail"},
		"an end is a day":                     {Expires: "soon"},
		"no host name":                        {Site: "a b"},
		"the style is words, random or site":  {Style: "odd"},
		"an alias has only the characters":    {Custom: "a b c"},
		"reserved":                            {Custom: "postmaster"},
		"an alias has 3 to 64 characters":     {Custom: "ab"},
		"form of an alias that a program der": {Custom: aliasname.Derive(&[32]byte{}, "example.org", "x", 0)},
	} {
		_, err := w.desk.Create(t.Context(), w.who("anna"), r)
		if err == nil || !strings.Contains(errs.Public(err), text) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if v := w.make(w.who("anna"), CreateRequest{}); v.Class != "strict" {
		t.Errorf("class %s", v.Class)
	}
	for _, o := range []Options{{}, {Aliases: w.reg}, {Aliases: w.reg, Domains: []string{"x.example"}, Style: "odd"}} {
		if _, err := New(o); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestMapFails: an alias that the map of the mail server could not take is kept, and that is told.
func TestMapFails(t *testing.T) {
	fails := errors.New("no disk")
	calls := 0
	w := newWorld(t, func(o *Options) { o.Map = func(context.Context) error { calls++; return fails } })
	_, err := w.desk.Create(t.Context(), w.who("anna"), CreateRequest{Custom: "kept"})
	if errs.KindOf(err) != errs.Unavailable || calls != 1 {
		t.Errorf("%v, %d calls", err, calls)
	}
	fails = nil
	if v, err := w.desk.Get(t.Context(), w.who("anna"), "kept"); err != nil || v.State != "active" {
		t.Errorf("%+v, %v", v, err)
	}
	if err := w.desk.Delete(t.Context(), w.who("anna"), "kept"); err != nil || calls != 2 {
		t.Errorf("%v, %d calls", err, calls)
	}
}

// TestLeaked: the badge shows when somebody wrote of an organization that had no reason to know the
// alias, and not otherwise.
func TestLeaked(t *testing.T) {
	p := func(address, state string, first alias.Day, mails uint32) alias.Correspondent {
		return alias.Correspondent{Address: address, State: state, First: first, Mails: mails}
	}
	for i, c := range []struct {
		site string
		all  []alias.Correspondent
		want bool
	}{
		{"", nil, false},
		{"", []alias.Correspondent{p("a@shop.example", "seen", 1, 1)}, false},
		{"", []alias.Correspondent{p("b@news.shop.example", "seen", 2, 1), p("a@shop.example", "seen", 1, 1)}, false},
		{"", []alias.Correspondent{p("a@shop.example", "seen", 1, 1), p("eve@evil.example", "seen", 2, 1)}, true},
		{"shop.example", []alias.Correspondent{p("eve@evil.example", "seen", 1, 1)}, true},
		{"shop.example", []alias.Correspondent{p("mail@eu.shop.example", "seen", 1, 1)}, false},
		{"", []alias.Correspondent{p("a@shop.example", "pinned", 1, 1), p("eve@evil.example", "blocked", 2, 1)}, true},
		{"", []alias.Correspondent{p("a@shop.example", "pinned", 1, 1), p("eve@evil.example", "blocked", 0, 0)}, false},
		{"", []alias.Correspondent{p("a@shop.example", "pinned", 1, 1), p("eve@evil.example", "asks", 2, 1)}, true},
		{"", []alias.Correspondent{p("a@shop.example", "seen", 1, 1), p("@friend.example", "allowed", 0, 0), p("x@friend.example", "seen", 2, 1)}, true},
		{"shop.example", []alias.Correspondent{p("@friend.example", "allowed", 0, 0), p("x@friend.example", "seen", 2, 1)}, false},
	} {
		if got := leaked(alias.Notes{Site: c.site, Correspondents: c.all}, alias.ModePinned); got != c.want {
			t.Errorf("case %d: %v", i, got)
		}
	}
	// The first who writes is pinned in every mode. That makes a stranger nobody who was expected.
	stranger := []alias.Correspondent{p("eve@evil.example", "pinned", 1, 1), p("a@shop.example", "seen", 2, 1)}
	for mode, want := range map[alias.Mode]bool{alias.ModeOpen: true, alias.ModeAllowList: true, alias.ModeAsk: true, alias.ModePinned: false} {
		if got := leaked(alias.Notes{Site: "shop.example", Correspondents: stranger}, mode); got != want {
			t.Errorf("first, mode %v: %v", mode, got)
		}
		if leaked(alias.Notes{Correspondents: stranger[:1]}, mode) || leaked(alias.Notes{Site: "evil.example", Correspondents: stranger[:1]}, mode) {
			t.Errorf("expected, mode %v", mode)
		}
	}
}

// TestCarry: what is exported can be taken over elsewhere, with rules and notes.
func TestCarry(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	from, to := w.token("anna"), w.token("ben")
	v := w.make(from, CreateRequest{Custom: "shop", Label: "l", Site: "shop.example", MaxMails: 9})
	pin, yes := "news@shop.example", true
	if _, err := w.desk.Change(ctx, from, v.Address, ChangeRequest{Pin: &pin, Block: []string{"@evil.example"}, Paused: &yes}); err != nil {
		t.Fatal(err)
	}
	var all []View
	if err := w.desk.Export(ctx, from, func(v View) error { all = append(all, v); return nil }); err != nil || len(all) != 1 {
		t.Fatalf("%v, %v", all, err)
	}
	all = append(all, View{Address: "abuse@example.org"}, View{Address: "nonsense"}, View{Address: "x.y@elsewhere.example"})
	r, err := w.desk.Import(ctx, to, "alias.example", all)
	if err != nil || r.Made != 2 || len(r.Failed) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	got, err := w.desk.Get(ctx, to, "shop@alias.example")
	if err != nil || got.State != "paused" || got.Label != "l" || got.MaxMails != 9 || got.Mode != "pinned" || len(got.Correspondents) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if r, err = w.desk.Import(ctx, to, "alias.example", all[:1]); err != nil || r.Made != 0 || r.Yours != 1 || len(r.Failed) != 0 {
		t.Errorf("again: %+v, %v", r, err)
	}
	if r, err = w.desk.Import(ctx, from, "alias.example", all[:1]); err != nil || r.Made+r.Yours != 0 || len(r.Failed) != 1 || r.Failed[0].Text != textTaken {
		t.Errorf("another owner: %+v, %v", r, err)
	}
	if _, err := w.desk.Import(ctx, to, "", make([]View, MaxImport+1)); errs.KindOf(err) != errs.TooLarge {
		t.Error(err)
	}
}

// TestCommands: each command of the control socket reaches the desk, and refuses what is no
// credential.
func TestCommands(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Base = func() string { return "https://example.org" } })
	stopped := 0
	all := Commands(w.desk, func() { stopped++ })
	for name, h := range all {
		_, err := h(t.Context(), []byte(`{"token":"x","change":{}}`), func(any) error { return nil })
		switch name {
		case "alias.stop":
			if err != nil || stopped != 1 {
				t.Errorf("%s: %v", name, err)
			}
		case "alias.owner.new", "alias.owner.target", "alias.evidence":
			if err == nil {
				t.Errorf("%s did something", name)
			}
		default:
			if errs.KindOf(err) != errs.Auth || err == nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	args := fmt.Appendf(nil, `{"address":"anna@example.org","password":%q}`, agenttest.Password)
	got, err := all["alias.owner.new"](t.Context(), args, nil)
	f, ok := got.(Fresh)
	if err != nil || !ok || !aliasname.TokenForm(f.Token) || f.Link != "https://example.org/aliases/connect#token="+f.Token {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = all["alias.owner.new"](t.Context(), []byte(`{"address":"anna@example.org"}`), nil)
	wantKind(t, err, errs.Auth, textHere)
	_, err = all["alias.owner.new"](t.Context(), []byte(`{"address":"anna@elsewhere.example"}`), nil)
	wantKind(t, err, errs.Unsupported, textNotHere)
}

// TestAliasKey: a client that has the key makes addresses that the server takes for its owner's.
func TestAliasKey(t *testing.T) {
	w := newWorld(t, nil)
	key, domains, err := w.desk.AliasKey(t.Context(), w.who("anna"))
	if err != nil || len(domains) != 2 || domains[0] != "example.org" {
		t.Fatalf("%v, %v", domains, err)
	}
	local := aliasname.Derive(&key, "example.org", "shop.example", 0)
	al, err := w.reg.Resolve(t.Context(), mail.Address{Local: local, Domain: "example.org"}, limits.Peer{})
	if err != nil || !al.Derived || al.Owner != w.Login("anna").ID {
		t.Errorf("%v, %v", al, err)
	}
	_, err = w.desk.RotateToken(t.Context(), w.who("anna"))
	wantKind(t, err, errs.Invalid, textNotToken)
}

// script gives bytes that were chosen, then zeros.
type script struct{ left []byte }

func (s *script) Read(p []byte) (int, error) {
	clear(p)
	n := copy(p, s.left)
	s.left = s.left[n:]
	return len(p), nil
}

// TestDrawAgain: where the name that was drawn is taken, or was, another is drawn; after some tries
// the server gives up.
func TestDrawAgain(t *testing.T) {
	random := new(script)
	w := newWorld(t, func(o *Options) { o.Rand = random })
	first := w.make(w.who("anna"), CreateRequest{}).Address
	_, err := w.desk.Create(t.Context(), w.who("anna"), CreateRequest{})
	wantKind(t, err, errs.Unavailable, textDrawn)
	random.left = make([]byte, 36) // three names as the first, then another
	random.left = append(random.left, 0, 0, 0, 1)
	if v := w.make(w.who("anna"), CreateRequest{}); v.Address == first || v.Address == "" {
		t.Errorf("%s after %s", v.Address, first)
	}
}
