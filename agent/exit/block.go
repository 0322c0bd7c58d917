package exit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/ledger"
	"postern.email/mail"
)

// links makes what stands at the end of a link with which a recipient blocks itself: the address,
// sealed, so that nobody can make one for another's address, nor read whose it is.
type links struct {
	aead  cipher.AEAD
	nonce [32]byte
}

func newLinks(secret []byte) (l links, err error) {
	const op = "agent/exit.newLinks"
	b, err := hkdf.Key(sha256.New, secret, nil, "postern/exit: block links", 64)
	if err != nil {
		return l, errs.E(op, errs.Internal, "", err)
	}
	copy(l.nonce[:], b[32:])
	block, err := aes.NewCipher(b[:32])
	if err == nil {
		l.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		return l, errs.E(op, errs.Internal, "", err)
	}
	return l, nil
}

// linkBlock: addresses are filled up, so that the link does not tell the length.
const linkBlock = 64

// to gives the end of the link of a person; the same each time.
func (l *links) to(p mail.Address) string {
	plain := append([]byte(p.String()), 0)
	for len(plain)%linkBlock != 0 {
		plain = append(plain, 0)
	}
	m := hmac.New(sha256.New, l.nonce[:])
	m.Write(plain)
	nonce := m.Sum(nil)[:l.aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(l.aead.Seal(nonce, nonce, plain, nil))
}

// maxLink bounds the end of a link.
const maxLink = 1024

// open gives the person of a link. errs.Auth for one that was not made here.
func (l *links) open(s string) (mail.Address, error) {
	const op = "agent/exit.links.open"
	bad := func(err error) (mail.Address, error) {
		return mail.Address{}, errs.E(op, errs.Auth, "this link is not whole: copy all of it", err)
	}
	if len(s) > maxLink {
		return bad(nil)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	n := l.aead.NonceSize()
	if err != nil || len(b) < n {
		return bad(err)
	}
	plain, err := l.aead.Open(nil, b[:n], b[n:], nil)
	if err != nil {
		return bad(err)
	}
	a, err := mail.ParseAddress(string(bytes.TrimRight(plain, "\x00")))
	if err != nil {
		return bad(err)
	}
	return a.Canonical(), nil
}

// isBlocked reports whether a person has blocked itself.
func (e *Exit) isBlocked(p mail.Address) bool {
	v, ok := e.blocked.Get(ledger.Key(e.marks.of("blocked", []byte(p.String()))))
	return ok && v[0] == 1
}

// Block blocks the address of a link, or ends that. It is durable when nil is returned. errs.Auth
// for a link that was not made here; errs.Busy where the list is full; those of the disk.
func (e *Exit) Block(link string, on bool) error {
	const op = "agent/exit.Block"
	p, err := e.links.open(link)
	if err != nil {
		return errs.Wrap(op, err)
	}
	if e.isBlocked(p) == on {
		return nil
	}
	var v ledger.Value
	if on {
		v[0] = 1
	}
	err = e.blocked.Set(ledger.Key(e.marks.of("blocked", []byte(p.String()))), v)
	if err != nil && errs.KindOf(err) == errs.Full {
		return errs.E(op, errs.Busy, "the list of blocked addresses is full: write to the operator", err)
	}
	return errs.Wrap(op, err)
}

var page = template.Must(template.New("block").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex"><title>Mail from the anonymity network</title></head>
<body><main>
{{if .Error}}<h1>That did not work</h1><p>{{.Error}}.</p>
{{else if .Blocked}}<h1>You get no more of this mail</h1><p>No mail from the anonymity network goes from here to your address any more. Nobody is told.</p>
<form method="post"><button name="do" value="unblock">Take it back</button></form>
{{else}}<h1>Get no more of this mail?</h1><p>The mail that you followed this link from came through an anonymity network. The operators do not know who wrote it. You can have your address blocked: then no such mail goes from here to it any more.</p>
<form method="post"><button name="do" value="block">Block my address</button></form>{{end}}
</main></body></html>
`))

// Handler serves the page of BlockURL. A mail program that knows RFC 8058 blocks with one POST; people
// see a page with a button, so that a link which some program follows blocks nobody.
func (e *Exit) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Type", "text/html; charset=utf-8")
		link := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		var say struct {
			Error   string
			Blocked bool
		}
		show := func(code int, err error) {
			if err != nil {
				say.Error = errs.Public(err)
			}
			w.WriteHeader(code)
			_ = page.Execute(w, say) // who went away sees nothing
		}
		p, err := e.links.open(link)
		if err != nil {
			show(http.StatusNotFound, err)
			return
		}
		switch r.Method {
		case http.MethodGet, http.MethodHead:
		case http.MethodPost:
			r.Body = http.MaxBytesReader(w, r.Body, 4096)
			if err := r.ParseMultipartForm(4096); err != nil && err != http.ErrNotMultipart {
				show(http.StatusBadRequest, errs.E("agent/exit.Handler", errs.Invalid, "the form is malformed", err))
				return
			}
			on := r.PostForm.Get("List-Unsubscribe") == "One-Click" || r.PostForm.Get("do") == "block"
			if !on && r.PostForm.Get("do") != "unblock" {
				show(http.StatusBadRequest, errs.E("agent/exit.Handler", errs.Invalid, "the form is malformed", nil))
				return
			}
			if err := e.Block(link, on); err != nil {
				show(http.StatusServiceUnavailable, err)
				return
			}
		default:
			h.Set("Allow", "GET, HEAD, POST")
			show(http.StatusMethodNotAllowed, errs.E("agent/exit.Handler", errs.Unsupported, "", nil))
			return
		}
		say.Blocked = e.isBlocked(p)
		show(http.StatusOK, nil)
	})
}
