package alias

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"postern.email/kit/errs"
	"postern.email/wire/web"
)

// addOnName is what the token of a browser add-on is called.
const addOnName = "browser add-on"

// showConnect says how the add-on is set up, and who else has a token; it looks the same to
// everybody who is not logged in. What follows the # stays in the browser, where the add-on reads it.
func (s *Server) showConnect(w http.ResponseWriter, r *http.Request) {
	v := s.visitor(r)
	p := s.view(v, "Browser add-on")
	p.Notice = notices[r.URL.Query().Get("done")]
	if v.in {
		list, err := s.o.Backend.Tokens(r.Context(), v.who)
		if err != nil && errs.KindOf(err) != errs.Denied { // a token that may not see the others sees none
			s.fault(w, r, v, err)
			return
		}
		for _, t := range list {
			p.Tokens = append(p.Tokens, showToken(t))
		}
	} else {
		s.loginForm(&p, "", ConnectPath)
	}
	s.render(w, http.StatusOK, "alias-connect.html", p)
}

// revoke ends a token.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request, v visitor) {
	if err := s.o.Backend.RevokeToken(r.Context(), v.who, r.PostForm.Get("id")); err != nil {
		s.fault(w, r, v, err)
		return
	}
	seeOther(w, ConnectPath+"?done=revoked")
}

func (s *Server) makeLink(w http.ResponseWriter, r *http.Request, v visitor) {
	token, err := s.o.Backend.NewToken(r.Context(), v.who, []string{ScopeCreate, ScopeList, ScopeManage}, addOnName)
	if err != nil {
		s.fault(w, r, v, err)
		return
	}
	base := s.o.Base
	if base == "" {
		base = "https://" + r.Host
	}
	p := s.view(v, "Browser add-on")
	p.Link = ConnectLink(base, token)
	png, err := web.QR(p.Link)
	if err != nil {
		s.fault(w, r, v, err)
		return
	}
	p.QR = base64.StdEncoding.EncodeToString(png)
	s.render(w, http.StatusOK, "alias-connect.html", p)
}

// ConnectLink is the one link that sets an add-on up at the server whose pages are at base
// ("https://example.org"). The token is in the fragment, which no browser sends.
func ConnectLink(base, token string) string {
	return strings.TrimSuffix(base, "/") + ConnectPath + "#token=" + url.QueryEscape(token)
}
