package web

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"strings"

	"rsc.io/qr"

	"postern.email/kit/errs"
)

// Credentials are a fresh address and password. Nothing is stored: the account
// is made by its first login.
type Credentials struct {
	Email    string `json:"email"`
	Password string `json:"password"`
	// LoginURL is the dclogin: link with all settings; only where clients cannot
	// find the settings themselves.
	LoginURL string `json:"dclogin_url,omitempty"`
}

const (
	nameLetters = "abcdefghijklmnopqrstuvwxyz0123456789"
	// No quotation marks, backslash, angle brackets or ampersand: they are legal,
	// but get lost where people paste passwords.
	passwordLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%*+-./:=?@^_~"
	passwordLength  = 16 // log2(79^16) = 100 bits
)

// pick draws n letters, each equally likely: bytes beyond the last whole multiple
// of the alphabet are thrown away.
func pick(random io.Reader, letters string, n int) (string, error) {
	limit := 256 - 256%len(letters)
	out := make([]byte, 0, n)
	var b [64]byte
	for len(out) < n {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", errs.E("wire/web.pick", errs.Internal, "", err)
		}
		for _, x := range b {
			if int(x) < limit && len(out) < n {
				out = append(out, letters[int(x)%len(letters)])
			}
		}
	}
	return string(out), nil
}

// fresh makes credentials.
func (s *Site) fresh() (c Credentials, err error) {
	name, err := pick(s.o.Rand, nameLetters, s.o.NameLength)
	if err != nil {
		return c, err
	}
	password, err := pick(s.o.Rand, passwordLetters, max(passwordLength, s.o.PasswordMinLength))
	if err != nil {
		return c, err
	}
	c = Credentials{Email: name + "@" + s.o.Domain, Password: password}
	if s.o.SelfSigned {
		c.LoginURL = s.LoginURL(c.Email, c.Password)
	}
	return c, nil
}

// LoginURL is the link with which Delta Chat logs in, with everything that it
// could not find out by itself: servers and ports where they are not the usual
// ones, and that the certificate is not vouched for.
func (s *Site) LoginURL(email, password string) string {
	q := []string{"p=" + url.QueryEscape(password), "v=1"}
	add := func(k string, v any) { q = append(q, fmt.Sprintf("%s=%v", k, v)) }
	p := s.o.Ports
	if s.o.SelfSigned || p.IMAPS != 993 || p.Submissions != 465 {
		in, inSec, out, outSec := p.IMAPS, "ssl", p.Submissions, "ssl"
		if in == 0 {
			in, inSec = p.IMAP, "starttls"
		}
		if out == 0 {
			out, outSec = p.Submission, "starttls"
		}
		host := url.QueryEscape(s.o.Host)
		add("ih", host)
		add("ip", in)
		add("is", inSec)
		add("sh", host)
		add("sp", out)
		add("ss", outSec)
	}
	if s.o.SelfSigned {
		add("ic", 3)
	}
	return "dclogin:" + email + "?" + strings.Join(q, "&")
}

// AccountLink is the link with which a chat-mail app makes an account here by
// itself; empty where it cannot, because its HTTPS is strict about certificates.
func (s *Site) AccountLink() string {
	if s.o.SelfSigned {
		return ""
	}
	return "DCACCOUNT:" + s.base() + "/new"
}

func (s *Site) base() string { return baseURL(s.site, s.o.Ports.HTTPS) }

// QR gives a PNG image of text, eight pixels a module.
func QR(text string) ([]byte, error) {
	c, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, errs.E("wire/web.QR", errs.TooLarge, "the text is too long for a QR code", err)
	}
	c.Scale = 8
	return c.PNG(), nil
}

// TerminalQR draws text as a QR code with half blocks, dark on light, for a
// terminal of any colours.
func TerminalQR(text string) (string, error) {
	c, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", errs.E("wire/web.TerminalQR", errs.TooLarge, "the text is too long for a QR code", err)
	}
	const margin = 2
	var b bytes.Buffer
	for y := -margin; y < c.Size+margin; y += 2 {
		b.WriteString("\x1b[30;107m")
		for x := -margin; x < c.Size+margin; x++ {
			up, down := c.Black(x, y), c.Black(x, y+1)
			switch {
			case up && down:
				b.WriteString("█")
			case up:
				b.WriteString("▀")
			case down:
				b.WriteString("▄")
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteString("\x1b[0m\n")
	}
	return b.String(), nil
}

// Generate makes credentials as the page does, always with their link, for a
// command that prints them.
func Generate(o Options) (Credentials, error) {
	s, err := New(o)
	if err != nil {
		return Credentials{}, err
	}
	c, err := s.fresh()
	c.LoginURL = s.LoginURL(c.Email, c.Password)
	return c, err
}
