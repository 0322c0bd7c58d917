package alias

import (
	"context"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/errs"
	pages "postern.email/web"
	"postern.email/wire/web"
)

// pageLimit is how many aliases a page of the list shows at most, newest first among them.
const pageLimit = MaxPage

// maxLooks is how often a page asks for more before it shows what a search found: the backend looks at a part of
// the aliases only each time, and a person should not have to press a button until something is found.
const maxLooks = 8

// trouble is what went wrong, in words for people: what happened, and what to do.
type trouble struct{ What, Next string }

// view is what the templates show.
type view struct {
	Title, Heading, Short string
	In                    bool   // somebody is logged in
	Mark                  string // of the session's forms
	Notice, Undo          string
	Problem               *trouble
	NextPath, Login       string // of the log-in form
	IdleText              string

	MayCreate, MayList, MayManage bool
	Open                          bool // the further choices are shown
	Form                          form
	Styles, Domains               []choice
	Modes, Classes                []choice
	Search, NextPage              string
	Trash                         bool // the deleted ones are shown
	Aliases                       []aliasView
	Alias                         aliasView
	Senders                       []senderView
	Spelled                       []sign
	Link, QR                      string
	Tokens                        []tokenView
}

// routesPages adds the pages.
func (s *Server) routesPages() error {
	const op = "wire/alias.routesPages"
	t, err := template.ParseFS(pages.Files, "alias*.html")
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	s.pages = t
	var style []byte
	for _, name := range []string{"style.css", "alias.css"} {
		b, err := pages.Files.ReadFile(name)
		if err != nil {
			return errs.E(op, errs.Internal, "", err)
		}
		style = append(style, b...)
	}
	icon, err := pages.Files.ReadFile("favicon.svg")
	if err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	one := PagePath + "/{address}"
	s.mux.HandleFunc("GET "+PagePath+"/style.css", file(style, "text/css; charset=utf-8"))
	s.mux.HandleFunc("GET "+PagePath+"/favicon.svg", file(icon, "image/svg+xml"))
	s.mux.HandleFunc("GET "+PagePath, s.inside(s.showList))
	s.mux.HandleFunc("POST "+PagePath, s.form(s.makeAlias))
	s.mux.HandleFunc("POST "+PagePath+"/login", s.login)
	s.mux.HandleFunc("POST "+PagePath+"/logout", s.form(s.logout))
	s.mux.HandleFunc("GET "+ConnectPath, s.showConnect)
	s.mux.HandleFunc("POST "+ConnectPath, s.form(s.makeLink))
	s.mux.HandleFunc("POST "+ConnectPath+"/revoke", s.form(s.revoke))
	s.mux.HandleFunc("GET "+one, s.inside(s.showOne))
	s.mux.HandleFunc("POST "+one, s.form(s.change))
	s.mux.HandleFunc("GET "+one+"/big", s.inside(s.showBig))
	s.mux.HandleFunc("GET "+PagePath+"/", func(w http.ResponseWriter, r *http.Request) {
		s.oops(w, http.StatusNotFound, guest, trouble{"There is no such page.", "Look at the address of the page."})
	})
	return nil
}

func file(b []byte, mime string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mime)
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Write(b)
	}
}

// visitor is who looks at a page.
type visitor struct {
	who  Who
	mark string
	in   bool
}

// guest is nobody in particular.
var guest visitor

// visitor finds the session of a request.
func (s *Server) visitor(r *http.Request) visitor {
	who, mark, ok := s.sessions.open(cookieOf(r))
	who.Peer = s.o.PeerOf(r)
	return visitor{who, mark, ok}
}

// inside is a page for those who are logged in; others get the form for that.
func (s *Server) inside(show func(w http.ResponseWriter, r *http.Request, v visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := s.visitor(r)
		if !v.in {
			s.askLogin(w, http.StatusOK, "", r.URL.Path, nil)
			return
		}
		show(w, r, v)
	}
}

// form is what a form of somebody who is logged in does. Forms carry the session's mark, and a
// browser that says where a request comes from must say: from here.
func (s *Server) form(do func(w http.ResponseWriter, r *http.Request, v visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.readForm(w, r) {
			return
		}
		v := s.visitor(r)
		if !v.in {
			s.askLogin(w, http.StatusForbidden, "", PagePath, &trouble{"You are not logged in any more, so nothing was changed.", "Log in and do it again."})
			return
		}
		if !sameMark(r.PostForm.Get("mark"), v.mark) {
			s.oops(w, http.StatusForbidden, v, trouble{"This form is from another visit, so nothing was changed.", "Go to the page again and repeat it there."})
			return
		}
		do(w, r, v)
	}
}

// readForm reads a form that comes from our own pages.
func (s *Server) readForm(w http.ResponseWriter, r *http.Request) bool {
	if err := s.cross.Check(r); err != nil {
		s.oops(w, http.StatusForbidden, guest, trouble{"This form was sent by another site, so nothing was changed.", "Use the forms of these pages."})
		return false
	}
	if err := r.ParseForm(); err != nil {
		s.oops(w, http.StatusBadRequest, guest, trouble{"The form cannot be read, so nothing was changed.", "Go back, write less, and send it again."})
		return false
	}
	return true
}

func (s *Server) view(v visitor, title string) view {
	return view{Title: title + " – " + s.o.Domain, Heading: "Aliases at " + s.o.Domain, Short: title, In: v.in, Mark: v.mark}
}

func (s *Server) render(w http.ResponseWriter, status int, name string, v view) {
	web.Render(w, s.o.Logger, s.pages, status, name, v)
}

// oops is a page that says what went wrong.
func (s *Server) oops(w http.ResponseWriter, status int, v visitor, t trouble) {
	p := s.view(v, "Not done")
	p.Problem = &t
	s.render(w, status, "alias-error.html", p)
}

// sorry says an error of the backend to people.
func sorry(err error) trouble {
	what := sentence(errs.Public(err))
	switch errs.KindOf(err) {
	case errs.Auth:
		return trouble{"Address, password or token is wrong.", "Type them again. A token has 64 letters and digits; with a token, leave the address empty."}
	case errs.Busy:
		return trouble{"That was too often in a short time.", "Wait a minute and try again. Aliases and mail are as they were."}
	case errs.NotFound:
		return trouble{"You have no such alias.", "Look for it in the list."}
	case errs.Denied:
		return trouble{what, "Log in with your address and password, or with a token that may do this."}
	case errs.Invalid, errs.Exists, errs.TooLarge:
		return trouble{what, "Change it and send the form again."}
	case errs.Full:
		return trouble{what, "Ask whoever runs this server for more."}
	}
	return trouble{"Something went wrong here: " + errs.Public(err) + ".", "Try again in a minute. Mail to your aliases is safe."}
}

// sentence makes one of a public text.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// fault answers an error of the backend at a page. A credential that is void by now ends the session.
func (s *Server) fault(w http.ResponseWriter, r *http.Request, v visitor, err error) {
	if s.void(w, r, err) {
		return
	}
	s.noteErr(w, err)
	s.oops(w, web.Status(errs.KindOf(err)), v, sorry(err))
}

// void ends the session when err says that its credential is void.
func (s *Server) void(w http.ResponseWriter, r *http.Request, err error) bool {
	if errs.KindOf(err) != errs.Auth {
		return false
	}
	s.sessions.end(cookieOf(r))
	setCookie(w, "")
	s.askLogin(w, http.StatusForbidden, "", PagePath, &trouble{"Your password or token does not count any more.", "Log in again."})
	return true
}

// askLogin shows the form for logging in, which leads to next.
func (s *Server) askLogin(w http.ResponseWriter, status int, login, next string, t *trouble) {
	p := s.view(guest, "Your aliases")
	p.Problem = t
	s.loginForm(&p, login, next)
	s.render(w, status, "alias-login.html", p)
}

// loginForm fills in what the form for logging in has.
func (s *Server) loginForm(p *view, login, next string) {
	p.NextPath, p.Login, p.IdleText = safeNext(next), login, idleText(s.o.Idle)
}

// idleText says how long a session lives.
func idleText(d time.Duration) string {
	if n := int(d / time.Minute); n >= 2 {
		return strconv.Itoa(n) + " minutes"
	}
	return d.String()
}

// safeNext is path when it is a page of ours, else the list.
func safeNext(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(path, PagePath+"/") || strings.ContainsAny(path, "\\\r\n") {
		return PagePath
	}
	return u.EscapedPath()
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	if !s.readForm(w, r) {
		return
	}
	f := r.PostForm
	login, secret := strings.TrimSpace(f.Get("address")), f.Get("password")
	who := Who{Login: login, Password: secret, Peer: s.o.PeerOf(r)}
	if login == "" {
		who = Who{Token: strings.TrimSpace(secret), Peer: who.Peer}
	}
	var err error = errs.E("wire/alias.login", errs.Auth, "", nil)
	if secret != "" && len(login)+len(secret) <= maxCredential {
		_, err = s.o.Backend.Account(r.Context(), who)
	}
	var cookie string
	if err == nil {
		cookie, err = s.sessions.begin(who)
	}
	if err != nil {
		s.noteErr(w, err)
		status := web.Status(errs.KindOf(err))
		if status == http.StatusUnauthorized {
			status = http.StatusForbidden // 401 would ask the browser for a way of its own (RFC 9110 §15.5.2)
		}
		t := sorry(err)
		s.askLogin(w, status, login, f.Get("next"), &t)
		return
	}
	s.sessions.end(cookieOf(r)) // of who was logged in before
	setCookie(w, cookie)
	seeOther(w, safeNext(f.Get("next")))
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request, _ visitor) {
	s.sessions.end(cookieOf(r))
	setCookie(w, "")
	seeOther(w, PagePath)
}

// seeOther leads from a form to a page (RFC 9110 §15.4.4).
func seeOther(w http.ResponseWriter, to string) {
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

func (s *Server) showList(w http.ResponseWriter, r *http.Request, v visitor) {
	s.list(w, r, v, http.StatusOK, form{}, nil)
}

// list shows the list, with the form for a new alias as it was filled in when that failed.
func (s *Server) list(w http.ResponseWriter, r *http.Request, v visitor, status int, f form, t *trouble) {
	a, err := s.o.Backend.Account(r.Context(), v.who)
	if err != nil {
		s.fault(w, r, v, err)
		return
	}
	q := r.URL.Query()
	p := s.view(v, "Your aliases")
	p.Problem, p.Form, p.Open = t, f, t != nil
	p.MayCreate, p.MayList, p.MayManage = a.may(ScopeCreate), a.may(ScopeList), a.may(ScopeManage)
	p.choices(a, f)
	p.Notice = notices[q.Get("done")]
	if gone := q.Get("gone"); gone != "" && len(gone) <= maxAddress {
		p.Notice, p.Undo = gone+" is deleted: mail to it is refused. The address is never given out again.", pathOf(gone)
	}
	if p.MayList {
		p.Search = q.Get("q")
		l := ListRequest{Cursor: q.Get("cursor"), Limit: pageLimit, Search: p.Search, Site: q.Get("site"), Deleted: q.Get("deleted") != ""}
		p.Trash = l.Deleted
		if len(l.Cursor) > maxSearch || len(l.Search) > maxSearch || len(l.Site) > maxSearch {
			s.oops(w, http.StatusBadRequest, v, trouble{"What you look for is too long.", "Search for a part of it."})
			return
		}
		page, next, err := s.look(r.Context(), v.who, l)
		if err != nil {
			s.fault(w, r, v, err)
			return
		}
		slices.SortStableFunc(page, func(a, b View) int { return strings.Compare(b.Created, a.Created) })
		for _, x := range page {
			p.Aliases = append(p.Aliases, showAlias(x))
		}
		if next != "" {
			to := url.Values{"q": {l.Search}, "site": {l.Site}, "cursor": {next}}
			if l.Deleted {
				to.Set("deleted", "1")
			}
			p.NextPage = PagePath + "?" + to.Encode()
		}
	}
	s.render(w, status, "alias-list.html", p)
}

// look is List, and goes on as long as a search has found nothing, maxLooks times at most.
func (s *Server) look(ctx context.Context, who Who, l ListRequest) (page []View, next string, err error) {
	for range maxLooks {
		page, next, err = s.o.Backend.List(ctx, who, l)
		if err != nil || len(page) > 0 || next == "" {
			break
		}
		l.Cursor = next
	}
	return page, next, err
}

func (s *Server) makeAlias(w http.ResponseWriter, r *http.Request, v visitor) {
	f := readFields(r)
	q, err := f.create()
	var made View
	if err == nil {
		made, err = s.o.Backend.Create(r.Context(), v.who, q)
	}
	if err != nil {
		if s.void(w, r, err) {
			return
		}
		s.noteErr(w, err)
		t := sorry(err)
		s.list(w, r, v, web.Status(errs.KindOf(err)), f, &t)
		return
	}
	seeOther(w, pathOf(made.Address)+"?done=made")
}

// showOne shows an alias; a token that may not list sees what was made alone.
func (s *Server) showOne(w http.ResponseWriter, r *http.Request, v visitor) {
	address := r.PathValue("address")
	if r.URL.Query().Get("done") == "made" {
		if a, err := s.o.Backend.Account(r.Context(), v.who); err == nil && !a.may(ScopeList) {
			p := s.view(v, address)
			p.Notice, p.Alias = notices["made"], showAlias(View{Address: address, State: StateActive})
			p.MayCreate = true
			s.big(w, p)
			return
		}
	}
	s.one(w, r, v, http.StatusOK, nil)
}

func (s *Server) one(w http.ResponseWriter, r *http.Request, v visitor, status int, t *trouble) {
	a, err := s.o.Backend.Account(r.Context(), v.who)
	var x View
	if err == nil {
		x, err = s.o.Backend.Get(r.Context(), v.who, r.PathValue("address"))
	}
	if err != nil {
		s.fault(w, r, v, err)
		return
	}
	p := s.view(v, x.Address)
	p.Problem, p.Notice = t, notices[r.URL.Query().Get("done")]
	p.MayManage = a.may(ScopeManage)
	p.Alias, p.Form = showAlias(x), formOf(x)
	p.choices(a, p.Form)
	for _, c := range x.Correspondents {
		p.Senders = append(p.Senders, showSender(c, x.Mode))
	}
	s.render(w, status, "alias-one.html", p)
}

func (s *Server) showBig(w http.ResponseWriter, r *http.Request, v visitor) {
	x, err := s.o.Backend.Get(r.Context(), v.who, r.PathValue("address"))
	if err != nil {
		s.fault(w, r, v, err)
		return
	}
	p := s.view(v, x.Address)
	p.Alias = showAlias(x)
	s.big(w, p)
}

func (s *Server) big(w http.ResponseWriter, p view) {
	png, err := web.QR(p.Alias.Address)
	if err != nil {
		s.oops(w, http.StatusBadRequest, guest, trouble{"This address is too long to be shown.", "Look at it in the list."})
		return
	}
	p.QR, p.Spelled = base64.StdEncoding.EncodeToString(png), spell(p.Alias.Address)
	s.render(w, http.StatusOK, "alias-big.html", p)
}

// change does what a button of an alias's page stands for.
func (s *Server) change(w http.ResponseWriter, r *http.Request, v visitor) {
	address, f := r.PathValue("address"), r.PostForm
	done, err := s.act(r, v, address, f.Get("do"))
	switch {
	case err != nil && s.void(w, r, err):
	case err != nil:
		s.noteErr(w, err)
		t := sorry(err)
		s.one(w, r, v, web.Status(errs.KindOf(err)), &t)
	case done == "deleted":
		seeOther(w, PagePath+"?"+url.Values{"gone": {address}}.Encode())
	case f.Get("back") == "list":
		seeOther(w, PagePath+"?done="+done)
	default:
		seeOther(w, pathOf(address)+"?done="+done)
	}
}

// extendDays is by how much one click moves an end.
const extendDays = 30

// act does one thing, and gives the key of its notice.
func (s *Server) act(r *http.Request, v visitor, address, do string) (done string, err error) {
	const op = "wire/alias.act"
	b, ctx := s.o.Backend, r.Context()
	sender := strings.TrimSpace(r.PostForm.Get("sender"))
	var q ChangeRequest
	switch do {
	case "delete":
		return "deleted", b.Delete(ctx, v.who, address)
	case "restore":
		_, err := b.Restore(ctx, v.who, address)
		return "restored", err
	case "save":
		old, err := b.Get(ctx, v.who, address)
		if err != nil {
			return "", err
		}
		if q, err = readFields(r).change(old); err != nil {
			return "", err
		}
		done = "saved"
	case "pause", "resume":
		on := do == "pause"
		q.Paused, done = &on, do+"d"
	case "extend":
		days := uint16(extendDays)
		q.Extend, done = &days, "extended"
	case "block":
		q.Block, done = []string{sender}, "blocked"
	case "allow":
		q.Allow, done = []string{sender}, "allowed"
	case "forget":
		q.Forget, done = []string{sender}, "forgotten"
	default:
		return "", errs.E(op, errs.Invalid, "there is no such button", nil)
	}
	if (q.Block != nil || q.Allow != nil || q.Forget != nil) && sender == "" {
		return "", errs.E(op, errs.Invalid, "a sender is needed", nil)
	}
	_, err = b.Change(ctx, v.who, address, q)
	return done, err
}
