package forward

import (
	"html/template"
	"net/http"
	"strings"

	"postern.email/kit/errs"
	"postern.email/mail"
)

// What stands behind Options.URL.
const (
	confirmPath = "confirm/" // and a code
	stopPath    = "stop/"    // and a reverse address, its domain first
)

// blockURL is the link with which mail of one sender for one alias is stopped.
func (f *Forward) blockURL(p pair) string {
	return f.o.URL() + stopPath + p.at.Domain + "/" + p.at.Local
}

var page = template.Must(template.New("forward").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex"><title>{{.Title}}</title></head>
<body><main><h1>{{.Title}}</h1>
{{range .Text}}<p>{{.}}</p>
{{end}}{{if .Buttons}}<form method="post">
{{range .Buttons}}<p><button name="do" value="{{.Do}}">{{.Text}}</button></p>
{{end}}</form>{{end}}</main></body></html>
`))

// view is what a page says.
type view struct {
	Title   string
	Text    []string
	Buttons []button
}

type button struct{ Do, Text string }

// maxForm bounds what a form sends, in bytes.
const maxForm = 4096

// Handler serves the pages behind Options.URL. Opening a page changes nothing, since programs follow
// links in mail; a button does, and for stop the one POST of RFC 8058.
func (f *Forward) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Type", "text/html; charset=utf-8")
		do := ""
		switch r.Method {
		case http.MethodGet, http.MethodHead:
		case http.MethodPost:
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			if err := r.ParseMultipartForm(maxForm); err != nil && err != http.ErrNotMultipart {
				show(w, http.StatusBadRequest, view{Title: "That did not work", Text: []string{"The form is malformed."}})
				return
			}
			if do = r.PostForm.Get("do"); r.PostForm.Get("List-Unsubscribe") == "One-Click" {
				do = "stop"
			}
			if do == "" {
				do = "nothing"
			}
		default:
			h.Set("Allow", "GET, HEAD, POST")
			show(w, http.StatusMethodNotAllowed, view{Title: "That did not work"})
			return
		}
		code := http.StatusOK
		v, err := f.serve(r, do)
		if err != nil {
			v = view{Title: "That did not work", Text: []string{sentence(errs.Public(err))}}
			switch k := errs.KindOf(err); {
			case k == errs.NotFound || k == errs.Auth:
				code = http.StatusNotFound
			case k == errs.Invalid:
				code = http.StatusBadRequest
			default:
				code = http.StatusServiceUnavailable
				v.Text = []string{"Try again in a moment."}
				f.o.Logger.Debug("forward: a page cannot be served", "kind", k)
			}
		}
		show(w, code, v)
	})
}

func show(w http.ResponseWriter, code int, v view) {
	w.WriteHeader(code)
	_ = page.Execute(w, v) // who went away sees nothing
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// serve gives the page of a path, after doing what a button says ("" for none).
func (f *Forward) serve(r *http.Request, do string) (view, error) {
	const op = "agent/forward.serve"
	bad := errs.E(op, errs.Invalid, "the form is malformed", nil)
	if i := strings.LastIndex(r.URL.Path, "/"+confirmPath); i >= 0 {
		return f.serveConfirm(r, r.URL.Path[i+1+len(confirmPath):], do, bad)
	}
	if i := strings.LastIndex(r.URL.Path, "/"+stopPath); i >= 0 {
		return f.serveStop(r, r.URL.Path[i+1+len(stopPath):], do, bad)
	}
	return view{}, errs.E(op, errs.NotFound, "there is no such page", nil)
}

var answers = map[string]answer{"yes": yes, "no": no, "never": never}

func (f *Forward) serveConfirm(r *http.Request, code, do string, bad error) (view, error) {
	_, target, err := f.question(r.Context(), code)
	if err != nil {
		return view{}, err
	}
	if do == "" {
		return view{"Shall mail be sent on to your mailbox?", []string{
			"Somebody made mail aliases at " + f.o.Domain + ". Mail that comes for them is to be sent on to " + target.String() + ".",
			"Say yes only if it was you."},
			[]button{{"yes", "Yes, it was me: send the mail on"}, {"no", "No"}, {"never", "No, and do not ask this mailbox again"}}}, nil
	}
	a := answers[do]
	if a == 0 {
		return view{}, bad
	}
	if err := f.reply(r.Context(), code, a); err != nil {
		return view{}, err
	}
	switch a {
	case yes:
		return view{"Mail is sent on from now on", []string{"Answer it as you answer any mail: it goes out as the alias, and your own address is not shown."}, []button{{"no", "Take it back"}}}, nil
	case never:
		return view{"You will not be asked again", []string{"Nothing is sent on to this mailbox, whoever wants it."}, []button{{"no", "Take it back"}}}, nil
	}
	return view{"Nothing is sent on", []string{"You can still change that here for some days."}, []button{{"yes", "Yes, it was me: send the mail on"}, {"never", "Do not ask this mailbox again"}}}, nil
}

func (f *Forward) serveStop(r *http.Request, path, do string, bad error) (view, error) {
	domain, local, _ := strings.Cut(path, "/")
	p, err := f.read(r.Context(), mail.Address{Local: local, Domain: domain})
	if err != nil {
		if k := errs.KindOf(err); k == errs.Auth || k == errs.Invalid || k == errs.NotFound {
			err = errs.E("agent/forward.serveStop", errs.NotFound, "this link is not whole: copy all of it", err)
		}
		return view{}, err
	}
	switch do {
	case "":
	case "stop", "again":
		if err := f.block(r.Context(), p, do == "stop"); err != nil {
			return view{}, err
		}
		p.blocked = do == "stop"
	default:
		return view{}, bad
	}
	if p.blocked {
		return view{"You get no more mail of this sender", []string{"Mail of " + p.sender.String() + " for " + p.alias.String() + " is refused. The sender's mail server is told."}, []button{{"again", "Take it back"}}}, nil
	}
	return view{"Get no more mail of this sender?", []string{"Mail of " + p.sender.String() + " for " + p.alias.String() + " is sent on to you. You can have it refused."}, []button{{"stop", "Refuse mail of this sender"}}}, nil
}
