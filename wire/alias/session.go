package alias

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"postern.email/kit/errs"
	"postern.email/kit/lru"
	"postern.email/kit/secret"
)

// cookieName has the prefix with which browsers keep a cookie to this host and to HTTPS
// (draft-ietf-httpbis-rfc6265bis §4.1.3.2).
const cookieName = "__Host-postern-aliases"

const (
	cookieLen  = 32             // bytes of randomness
	sessionEnd = 12 * time.Hour // after which it ends, busy or not
	perLogin   = 16             // sessions of one login or token at once
	sweepPause = time.Minute    // for as long at least what has ended is not looked for again
	maxSealed  = 2 * maxCredential
)

// sessions are the credentials of those who are logged in at the pages. Each is sealed with a key
// that follows from the browser's cookie, which is not kept: the memory of the program alone opens
// none of them. A restart ends them all.
type sessions struct {
	idle  time.Duration
	now   func() time.Time
	rand  io.Reader
	swept time.Time
	key   []byte // of the hashes by which sessions of one login are counted; drawn by the first
	mu    sync.Mutex
	list  *lru.Map[[32]byte, *session]
}

// session is what is kept of one.
type session struct {
	secret.Hidden
	sealed []byte
	login  [32]byte // a keyed hash of the login or token
	began  time.Time
	used   time.Time
}

func newSessions(most int, idle time.Duration, now func() time.Time, rand io.Reader) *sessions {
	return &sessions{idle: idle, now: now, rand: rand, list: lru.New[[32]byte, *session](most, int64(most)*maxSealed)}
}

// Purposes of the keys that follow from a cookie.
const (
	forName = "postern aliases: name of the session"
	forSeal = "postern aliases: seal of the session"
	forForm = "postern aliases: mark of its forms"
)

// derive gives the key of a purpose; the cookie is random, so a MAC is enough of a derivation.
func derive(cookie []byte, purpose string) []byte {
	h := hmac.New(sha256.New, cookie)
	h.Write([]byte(purpose))
	return h.Sum(nil)
}

// begin keeps w and gives the cookie's value. The longest unused session goes when there are too
// many: of the same login first, so that nobody drives others out.
func (s *sessions) begin(w Who) (value string, err error) {
	const op = "wire/alias.begin"
	cookie := make([]byte, cookieLen)
	if _, err := io.ReadFull(s.rand, cookie); err != nil {
		return "", errs.E(op, errs.Internal, "", err)
	}
	plain := []byte(strings.Join([]string{w.Token, w.Login, w.Password}, "\x00"))
	if strings.Count(string(plain), "\x00") != 2 {
		return "", errs.E(op, errs.Auth, "", nil)
	}
	aead, err := chacha20poly1305.New(derive(cookie, forSeal))
	if err != nil {
		return "", errs.E(op, errs.Internal, "", err)
	}
	// The key is used for this one text alone, so the nonce may be zero.
	sealed := aead.Seal(nil, make([]byte, aead.NonceSize()), plain, nil)
	clear(plain)
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.key == nil {
		key := make([]byte, cookieLen)
		if _, err := io.ReadFull(s.rand, key); err != nil {
			return "", errs.E(op, errs.Internal, "", err)
		}
		s.key = key
	}
	x := &session{sealed: sealed, login: [32]byte(derive(s.key, w.Token+"\x00"+strings.ToLower(w.Login))), began: now, used: now}
	s.makeRoom(x.login, now)
	s.list.Put([32]byte(derive(cookie, forName)), x, int64(len(sealed)))
	return base64.RawURLEncoding.EncodeToString(cookie), nil
}

// over reports whether the time of a session has ended.
func (s *sessions) over(x *session, now time.Time) bool {
	return now.Sub(x.used) > s.idle || now.Sub(x.began) > sessionEnd
}

// makeRoom forgets the sessions whose time is over, and the longest unused of a login that has as many as it may.
func (s *sessions) makeRoom(login [32]byte, now time.Time) {
	s.swept = now
	var gone [][32]byte
	var oldest [32]byte
	n, used := 0, now.Add(1)
	for name, x := range s.list.All() {
		switch {
		case s.over(x, now):
			gone = append(gone, name)
		case x.login == login:
			if n++; x.used.Before(used) {
				oldest, used = name, x.used
			}
		}
	}
	if n >= perLogin {
		gone = append(gone, oldest)
	}
	for _, name := range gone {
		s.list.Delete(name)
	}
}

// parseCookie gives the bytes of a cookie's value; ok only for the one form that begin makes.
func parseCookie(value string) (cookie []byte, ok bool) {
	if len(value) != base64.RawURLEncoding.EncodedLen(cookieLen) {
		return nil, false
	}
	cookie, err := base64.RawURLEncoding.Strict().DecodeString(value)
	return cookie, err == nil && len(cookie) == cookieLen
}

// open gives what begin kept, and the mark that forms of this session carry.
func (s *sessions) open(value string) (w Who, mark string, ok bool) {
	cookie, ok := parseCookie(value)
	if !ok {
		return w, "", false
	}
	name := [32]byte(derive(cookie, forName))
	now := s.now()
	s.mu.Lock()
	if now.Sub(s.swept) > sweepPause {
		s.makeRoom([32]byte{}, now)
	}
	x, ok := s.list.Get(name)
	if ok && s.over(x, now) {
		s.list.Delete(name)
		ok = false
	}
	var sealed []byte
	if ok {
		x.used, sealed = now, x.sealed
	}
	s.mu.Unlock()
	if !ok {
		return w, "", false
	}
	aead, err := chacha20poly1305.New(derive(cookie, forSeal))
	if err != nil {
		return w, "", false
	}
	plain, err := aead.Open(nil, make([]byte, aead.NonceSize()), sealed, nil)
	if err != nil {
		return w, "", false
	}
	p := strings.Split(string(plain), "\x00")
	clear(plain)
	return Who{Token: p[0], Login: p[1], Password: p[2]}, base64.RawURLEncoding.EncodeToString(derive(cookie, forForm)), true
}

// end forgets a session.
func (s *sessions) end(value string) {
	if cookie, ok := parseCookie(value); ok {
		s.mu.Lock()
		s.list.Delete([32]byte(derive(cookie, forName)))
		s.mu.Unlock()
	}
}

// len is how many are kept.
func (s *sessions) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list.Len()
}

// cookieOf gives the value of the session's cookie in a request.
func cookieOf(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie gives value to the browser; "" takes it away.
func setCookie(w http.ResponseWriter, value string) {
	c := &http.Cookie{Name: cookieName, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// sameMark compares marks in constant time.
func sameMark(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
