package lab

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"time"

	"postern.email/kit/errs"
)

//go:embed page.html page.css page.js
var pageFiles embed.FS

var pageTemplate = template.Must(template.ParseFS(pageFiles, "page.html"))

// Bounds of the page.
const (
	viewEvery  = 500 * time.Millisecond // between two looks at the members, while somebody watches
	maxViewers = 16                     // streams at one time
	pageTime   = 10 * time.Second       // for a request
)

// servePage serves the live page until run ends.
func (l *Lab) servePage(run context.Context) error {
	const op = "lab.servePage"
	at := l.plan.at("lab", "page")
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return errs.E(op, errs.Unavailable, "cannot listen on "+at, err)
	}
	p := &page{l: l, places: make(chan struct{}, maxViewers), at: at}
	s := &http.Server{Handler: p.handler(), ReadHeaderTimeout: pageTime, MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return run }}
	l.wg.Go(func() {
		<-run.Done()
		s.Close()
	})
	l.wg.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			select {
			case l.broken <- errs.E(op, errs.Unavailable, "the live page stopped", err):
			default:
			}
		}
	})
	l.info.Page = "http://" + at + "/"
	return nil
}

type page struct {
	l      *Lab
	places chan struct{}
	at     string
}

func (p *page) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.show)
	mux.HandleFunc("GET /events", p.events)
	mux.Handle("GET /page.css", http.FileServerFS(pageFiles))
	mux.Handle("GET /page.js", http.FileServerFS(pageFiles))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A page of another name that leads here (DNS rebinding) learns nothing.
		if host, _, err := net.SplitHostPort(r.Host); err != nil || host != "127.0.0.1" && host != "localhost" {
			http.Error(w, "This page is at http://"+p.at+"/", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

// show gives the page as it stands now: whole without JavaScript, which then only keeps it up to date.
func (p *page) show(w http.ResponseWriter, r *http.Request) {
	now := watcher{l: p.l}
	v := now.look(r.Context())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = pageTemplate.Execute(w, struct {
		view
		Map   drawing
		Info  Info
		Every float64
	}{v, draw(v.Members, p.l), p.l.info, viewEvery.Seconds()})
}

// events streams views.
func (p *page) events(w http.ResponseWriter, r *http.Request) {
	select {
	case p.places <- struct{}{}:
		defer func() { <-p.places }()
	default:
		http.Error(w, "too many watch already", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	rc := http.NewResponseController(w)
	own := watcher{l: p.l} // its moves are since its own last look
	t := time.NewTicker(viewEvery)
	defer t.Stop()
	for {
		b, err := json.Marshal(own.look(r.Context()))
		if err != nil {
			return
		}
		_ = rc.SetWriteDeadline(time.Now().Add(pageTime))
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil || rc.Flush() != nil {
			return
		}
		select {
		case <-t.C:
		case <-r.Context().Done():
			return
		}
	}
}
