package content

import "postern.email/kit/errs"

// Bounds of the body of an Mbox.
const (
	mboxVersion = 1
	MaxName     = 255 // bytes of a name
)

// AppendMbox appends the body of an Mbox: name is one of the relay's address file, rest the
// mail or the fragment of one, as mixnet/letter defines them. errs.Invalid for a name that
// is empty, longer than MaxName, or holds anything but printable ASCII and bytes of UTF-8.
func AppendMbox(dst []byte, name string, rest []byte) ([]byte, error) {
	if !validName(name) {
		return dst, errs.E("mixnet/content.AppendMbox", errs.Invalid, "the name of the mailbox is empty, too long or has control characters", nil)
	}
	dst = append(dst, mboxVersion, byte(len(name)))
	dst = append(dst, name...)
	return append(dst, rest...), nil
}

// ParseMbox reads the body of an Mbox; rest lies within body. errs.Unsupported for another
// version, else errs.Invalid.
func ParseMbox(body []byte) (name string, rest []byte, err error) {
	const op = "mixnet/content.ParseMbox"
	if len(body) < 2 {
		return "", nil, errs.E(op, errs.Invalid, rejected, nil)
	}
	if body[0] != mboxVersion {
		return "", nil, errs.E(op, errs.Unsupported, rejected, nil)
	}
	n := int(body[1])
	if n > len(body)-2 || !validName(string(body[2:2+n])) {
		return "", nil, errs.E(op, errs.Invalid, rejected, nil)
	}
	return string(body[2 : 2+n]), body[2+n:], nil
}

// validName keeps control characters out of files and logs.
func validName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] == 0x7f {
			return false
		}
	}
	return true
}
