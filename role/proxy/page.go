package proxy

import (
	"bytes"
	"context"
	"crypto/subtle"
	_ "embed"
	"encoding/hex"
	"html/template"
	"io"
	"net"
	"net/http"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/wire/web"
)

//go:embed page.html
var pageText string

// pageTemplate draws a Status.
func pageTemplate() (*template.Template, error) {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, errs.E("role/proxy.page", errs.Internal, "", err)
	}
	return t, nil
}

// The secret in the address of the page: other users of this machine, and pages that a browser has
// open, do not know it. It is kept, so that a bookmark stays good.
const (
	tokenFile = "page.token"
	tokenLen  = 16
)

// openToken reads the secret, or makes it.
func (s *Server) openToken() error {
	const op = "role/proxy.openToken"
	path := s.path(tokenFile)
	b, err := vfs.ReadFile(s.d.FS, path)
	if err == nil {
		if raw, herr := hex.DecodeString(string(bytes.TrimSpace(b))); herr == nil && len(raw) == tokenLen {
			s.token = hex.EncodeToString(raw)
			return nil
		}
	} else if errs.KindOf(err) != errs.NotFound {
		return errs.Wrap(op, err)
	}
	raw := make([]byte, tokenLen)
	if _, err := io.ReadFull(s.d.Rand, raw); err != nil {
		return errs.E(op, errs.Internal, "", err)
	}
	s.token = hex.EncodeToString(raw)
	return errs.Wrap(op, vfs.WriteFileAtomic(s.d.FS, path, []byte(s.token+"\n"), 0o600))
}

// pageURL is the address of the page, "" where there is none.
func (s *Server) pageURL() string {
	at := s.at("PageAddress")
	if at == "" {
		return ""
	}
	return "http://" + at + "/" + s.token + "/"
}

// pageRefresh is how often a browser asks again.
const pageRefresh = 10

// page serves the page until ctx ends.
func (s *Server) page(ctx context.Context, l net.Listener) error {
	t, err := pageTemplate()
	if err != nil {
		return err
	}
	return web.ServePlain(ctx, l, web.ServeOptions{Handler: s.pageHandler(t), Grace: time.Second})
}

// pageHandler answers with the page to who knows its address.
func (s *Server) pageHandler(t *template.Template) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		switch {
		case subtle.ConstantTimeCompare([]byte(r.URL.Path), []byte("/"+s.token+"/")) != 1:
			http.Error(w, "The address of the page has a secret in it: postern proxy status tells it.", http.StatusNotFound)
			return
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "The page can only be read.", http.StatusMethodNotAllowed)
			return
		}
		var b bytes.Buffer
		if err := t.Execute(&b, pageData{s.Status(), pageRefresh}); err != nil {
			s.d.Logger.Error("the page cannot be drawn", "err", err)
			http.Error(w, "The page cannot be drawn; look at the log.", http.StatusInternalServerError)
			return
		}
		h.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(b.Bytes())
	})
}

// pageData is what the page shows.
type pageData struct {
	Status
	Refresh int
}
