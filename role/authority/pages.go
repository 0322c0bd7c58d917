package authority

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"html/template"
	"io"
	"net/http"
	"time"

	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/link"
	"postern.email/web"
)

//go:embed status.html
var statusPage string

// pages is the plain HTTP side: what is there is public and, where it matters, signed. The
// status page needs neither scripts nor anything from elsewhere.
func (s *Server) pages() http.Handler {
	page := template.Must(template.New("status").Funcs(template.FuncMap{"short": func(id string) string { return id[:min(len(id), 16)] }}).Parse(statusPage))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		if err := page.Execute(&b, s.Status()); err != nil {
			s.d.Logger.Error("the status page cannot be made", "err", err)
			http.Error(w, "The page cannot be made.", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(b.Bytes())
	})
	mux.Handle("/postern/consensus", dircache.Handler(func(request []byte) ([]byte, error) {
		return s.answer(context.Background(), link.Peer{}, request)
	}))
	mux.HandleFunc("GET /postern/proofs", func(w http.ResponseWriter, r *http.Request) {
		document(w, r, s.core.namedProofs())
	})
	mux.HandleFunc("GET /postern/proofs/{hash}", func(w http.ResponseWriter, r *http.Request) {
		var proof []byte
		if h, ok := parseID(r.PathValue("hash")); ok {
			proof = s.core.proof(directory.Hash(h))
		}
		document(w, r, proof)
	})
	mux.HandleFunc("GET /style.css", func(w http.ResponseWriter, _ *http.Request) {
		f, err := web.Files.Open("style.css")
		if err != nil {
			http.Error(w, "Not here.", http.StatusNotFound)
			return
		}
		defer f.Close()
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		_, _ = io.Copy(w, f)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache") // with an ETag: asked again, and not sent again
		mux.ServeHTTP(w, r)
	})
}

// document sends one as text, whole or in ranges; nil: there is none.
func document(w http.ResponseWriter, r *http.Request, doc []byte) {
	if doc == nil {
		http.Error(w, "There is no such document here.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	// The signatures are part of what is sent, so the name of the document is not enough.
	sum := sha256.Sum256(doc)
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(doc))
}
