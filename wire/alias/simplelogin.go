package alias

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/wire/web"
)

// The calls of SimpleLogin by which password managers and its own clients make aliases, as its
// documentation (docs/api.md) and Bitwarden's forwarder have them: the token in the header
// Authentication, errors as {"error": text}. What we do not know of a request is not looked at.

// routesSimpleLogin adds them.
func (s *Server) routesSimpleLogin() {
	s.call("POST "+APIPath+"alias/random/new", s.simpleLogin(s.slRandom))
	for _, v := range []string{"v2", "v3"} { // v3 adds mailboxes, of which there is one
		s.call("POST "+APIPath+v+"/alias/custom/new", s.simpleLogin(s.slCustom))
	}
	for _, v := range []string{"v4", "v5"} {
		s.call("GET "+APIPath+v+"/alias/options", s.simpleLogin(s.slOptions))
	}
	s.call("GET "+APIPath+"v2/mailboxes", s.simpleLogin(s.slMailboxes))
	s.call("GET "+APIPath+"user_info", s.simpleLogin(s.slUser))
}

// slError is an error in SimpleLogin's form.
type slError struct {
	Error string `json:"error"`
}

func (s *Server) simpleLogin(call func(r *http.Request, w Who) (status int, answer any, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who := Who{Token: strings.TrimSpace(r.Header.Get("Authentication")), Peer: s.o.PeerOf(r)}
		if who.Token == "" || len(who.Token) > maxCredential {
			writeJSON(w, http.StatusUnauthorized, slError{"Wrong api key"})
			return
		}
		status, answer, err := call(r, who)
		if err != nil {
			s.noteErr(w, err)
			text := errs.Public(err)
			if errs.KindOf(err) == errs.Auth {
				text = "Wrong api key"
			}
			writeJSON(w, web.Status(errs.KindOf(err)), slError{text})
			return
		}
		writeJSON(w, status, answer)
	}
}

// slAlias is an alias in SimpleLogin's form. Its numbers for aliases and mailboxes mean nothing
// here; the alias's follows from its address.
type slAlias struct {
	Alias             string      `json:"alias"`
	ID                uint64      `json:"id"`
	Email             string      `json:"email"`
	Name              *string     `json:"name"`
	Enabled           bool        `json:"enabled"`
	CreationDate      string      `json:"creation_date"`
	CreationTimestamp int64       `json:"creation_timestamp"`
	Note              *string     `json:"note"`
	Blocked           uint32      `json:"nb_block"`
	Forwarded         uint32      `json:"nb_forward"`
	Replied           uint32      `json:"nb_reply"`
	SupportPGP        bool        `json:"support_pgp"`
	DisablePGP        bool        `json:"disable_pgp"`
	Pinned            bool        `json:"pinned"`
	LatestActivity    *struct{}   `json:"latest_activity"` // always null
	Mailbox           slMailbox   `json:"mailbox"`
	Mailboxes         []slMailbox `json:"mailboxes"`
}

type slMailbox struct {
	ID    int    `json:"id"`
	Email string `json:"email"`
}

// theMailbox is the one that every alias leads to.
const theMailbox = 1

func toSimpleLogin(v View) slAlias {
	day, _ := time.Parse(time.DateOnly, v.Created)
	sum := sha256.Sum256([]byte(v.Address))
	box := slMailbox{ID: theMailbox}
	a := slAlias{Alias: v.Address, Email: v.Address, Enabled: v.State == StateActive, Blocked: v.Refused, Forwarded: v.Received, Replied: v.Sent,
		ID:           binary.BigEndian.Uint64(sum[:8]) >> 11, // exact in a JavaScript number
		CreationDate: day.Format("2006-01-02 15:04:05-07:00"), CreationTimestamp: day.Unix(), Mailbox: box, Mailboxes: []slMailbox{box}}
	if v.Label != "" {
		a.Name = &v.Label
	}
	if v.Note != "" {
		a.Note = &v.Note
	}
	return a
}

func (s *Server) slCreate(ctx context.Context, w Who, q CreateRequest) (int, any, error) {
	v, err := s.o.Backend.Create(ctx, w, q)
	return http.StatusCreated, toSimpleLogin(v), err
}

func (s *Server) slRandom(r *http.Request, w Who) (int, any, error) {
	const op = "wire/alias.slRandom"
	var body struct {
		Note string `json:"note"`
	}
	// Some clients send no body, or none that is JSON; SimpleLogin takes these, too.
	if b, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1)); err == nil && len(b) > 0 {
		if err := parseJSON(b, &body, false); errs.KindOf(err) == errs.TooLarge {
			return 0, nil, err
		}
	}
	q := CreateRequest{Note: body.Note, Site: r.URL.Query().Get("hostname")}
	switch mode := r.URL.Query().Get("mode"); mode {
	case "":
	case "word":
		q.Style = StyleWords
	case "uuid":
		q.Style = StyleRandom
	default:
		return 0, nil, errs.E(op, errs.Invalid, "mode must be either word or uuid", nil)
	}
	return s.slCreate(r.Context(), w, q)
}

func (s *Server) slCustom(r *http.Request, w Who) (int, any, error) {
	const op = "wire/alias.slCustom"
	var body struct {
		Prefix string `json:"alias_prefix"`
		Suffix string `json:"signed_suffix"`
		Note   string `json:"note"`
		Name   string `json:"name"`
	}
	if err := readJSON(r, &body, false); err != nil {
		return 0, nil, err
	}
	prefix := strings.ToLower(strings.Join(strings.Fields(body.Prefix), ""))
	handle, domain, ok := strings.Cut(prefix+strings.ToLower(strings.TrimSpace(body.Suffix)), "@")
	if prefix == "" || !ok || strings.Contains(prefix, "@") {
		return 0, nil, errs.E(op, errs.Invalid, "wrong alias prefix or suffix", nil)
	}
	return s.slCreate(r.Context(), w, CreateRequest{Custom: handle, Domain: domain, Site: r.URL.Query().Get("hostname"), Note: body.Note, Label: body.Name})
}

// slSuffix is an end of an address that may be chosen. It is not signed: what comes back is
// checked like any other address.
type slSuffix struct {
	Suffix       string `json:"suffix"`
	SignedSuffix string `json:"signed_suffix"`
	Custom       bool   `json:"is_custom"`
	Premium      bool   `json:"is_premium"`
}

// slOptionsAnswer says what a user may choose.
type slOptionsAnswer struct {
	CanCreate bool       `json:"can_create"`
	Prefix    string     `json:"prefix_suggestion"`
	Suffixes  []slSuffix `json:"suffixes"`
}

func (s *Server) slOptions(r *http.Request, w Who) (int, any, error) {
	a, err := s.o.Backend.Account(r.Context(), w)
	if err != nil {
		return 0, nil, err
	}
	answer := slOptionsAnswer{CanCreate: a.may(ScopeCreate) && (a.Max == 0 || a.Aliases < a.Max), Suffixes: []slSuffix{}, Prefix: prefixOf(r.URL.Query().Get("hostname"))}
	for _, d := range a.Domains {
		var b [4]byte
		if _, err := io.ReadFull(s.o.Rand, b[:]); err != nil {
			return 0, nil, errs.E("wire/alias.slOptions", errs.Internal, "", err)
		}
		end := "." + suffixText(b) + "@" + d // so that a usual word is hardly ever taken
		answer.Suffixes = append(answer.Suffixes, slSuffix{Suffix: end, SignedSuffix: end}, slSuffix{Suffix: "@" + d, SignedSuffix: "@" + d, Custom: true})
	}
	return http.StatusOK, answer, nil
}

// suffixText gives five characters, 20 bits.
func suffixText(b [4]byte) string {
	const letters = "bcdfghjkmnpqrstv" // 16; no vowels, so no words
	n := binary.BigEndian.Uint32(b[:])
	out := make([]byte, 5)
	for i := range out {
		out[i] = letters[n>>(4*i)&15]
	}
	return string(out)
}

// prefixOf suggests a handle for a host: the label before the last one, as SimpleLogin does.
func prefixOf(host string) string {
	labels := strings.Split(strings.ToLower(host), ".")
	if n := len(labels); n > 1 {
		labels = labels[n-2:]
	}
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' {
			return c
		}
		return -1
	}, labels[0])
}

func (s *Server) slMailboxes(r *http.Request, w Who) (int, any, error) {
	a, err := s.o.Backend.Account(r.Context(), w)
	return http.StatusOK, map[string]any{"mailboxes": []any{map[string]any{"id": theMailbox, "email": a.Name, "default": true, "verified": true, "nb_alias": a.Aliases}}}, err
}

func (s *Server) slUser(r *http.Request, w Who) (int, any, error) {
	a, err := s.o.Backend.Account(r.Context(), w)
	return http.StatusOK, map[string]any{"name": a.Name, "email": a.Name, "is_premium": true, "in_trial": false, "profile_picture_url": nil}, err
}
