package alias

import (
	"net/http"
	"path"
	"strings"
)

// retrySeconds is how long who came too often is told to wait.
const retrySeconds = "10"

// ownOrigin reports whether origin is that of the host that the request names.
func ownOrigin(r *http.Request, origin string) bool {
	_, host, ok := strings.Cut(origin, "://")
	return ok && strings.EqualFold(host, r.Host)
}

// originAllowed is the one rule for which origins may ask, at the WebSocket and the calls.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || len(s.o.Origins) == 0 || ownOrigin(r, origin) {
		return true
	}
	for _, pattern := range s.o.Origins {
		if matchOrigin(pattern, origin) {
			return true
		}
	}
	return false
}

// matchOrigin compares without case; a "*" in pattern stands for any characters but a slash.
func matchOrigin(pattern, origin string) bool {
	ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(origin))
	return err == nil && ok
}

// cors lets scripts of allowed origins read the answers (the Fetch standard, "HTTP extensions").
// Cookies are never asked for, so no browser sends any: what a call may do rests on the token in
// it alone. It reports false when the request is answered already.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if len(s.o.Origins) == 0 {
		h.Set("Access-Control-Allow-Origin", "*")
	} else {
		h.Add("Vary", "Origin")
		if !s.originAllowed(r) {
			fail(w, http.StatusForbidden, codeDenied, "this origin may not ask here")
			return false
		}
		if origin := r.Header.Get("Origin"); origin != "" {
			h.Set("Access-Control-Allow-Origin", origin)
		}
	}
	h.Set("Access-Control-Expose-Headers", "Retry-After")
	if r.Method != http.MethodOptions {
		return true
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", "Accept, Authentication, Authorization, Content-Type, X-Requested-With")
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return false
}
