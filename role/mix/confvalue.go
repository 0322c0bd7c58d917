package mix

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"postern.email/kit/config"
	"postern.email/kit/retry"
	"postern.email/mail"
)

// The readers of mixminiond's values. Each takes the text of an entry and gives the text of
// our option, or says what is wrong with it. They take what mixminiond takes, in its way.

type reader func(text string) (string, error)

// asText takes any text.
func asText(s string) (string, error) { return s, nil }

// asBoolean takes 1 yes y true on, 0 no n false off.
func asBoolean(s string) (string, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "on":
		return "true", nil
	case "0", "no", "n", "false", "off":
		return "false", nil
	}
	return "", fmt.Errorf("%q is neither yes nor no", s)
}

// asNumber takes a whole number.
func asNumber(s string) (string, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a whole number", s)
	}
	return strconv.Itoa(n), nil
}

// asInterval takes "30 min", "1.5 hours", "3 weeks".
func asInterval(s string) (string, error) {
	d, err := retry.ParseInterval(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a length of time; write for example 30 min, 6 hours, 3 weeks", s)
	}
	return config.Duration(d).String(), nil
}

// asSchedule takes "every 1 hour for 1 day, 7 hours for 5 days".
func asSchedule(s string) (string, error) {
	if _, err := retry.Parse(s); err != nil {
		return "", fmt.Errorf("%q is not a list of times to try again", s)
	}
	return s, nil
}

var sizeForm = regexp.MustCompile(`^(\d+\.?\d*|\.\d+)\s*(k|kb|m|mb|g|gb|b|byte|octet|)s?$`)

// asSize takes "100K", "1.5 MB", "512 bytes".
func asSize(s string) (string, error) {
	m := sizeForm.FindStringSubmatch(strings.ToLower(s))
	if m == nil {
		return "", fmt.Errorf("%q is not a size; write for example 100K or 2 MB", s)
	}
	unit := 1.0
	if m[2] != "" {
		unit = map[byte]float64{'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30, 'b': 1, 'o': 1}[m[2][0]]
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil || n*unit >= 1<<50 {
		return "", fmt.Errorf("%q is too large", s)
	}
	return config.Bytes(n * unit).String(), nil
}

// asPercent takes "60%" or "0.6".
func asPercent(s string) (string, error) {
	text, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if !percent {
		n *= 100
	}
	if err != nil || math.IsNaN(n) || n < 0 || n > 100 {
		return "", fmt.Errorf("%q is not a part between 0%% and 100%%", s)
	}
	return strconv.FormatFloat(math.Round(n*1e6)/1e6, 'f', -1, 64), nil
}

// asFile takes a file name, which may be quoted and begin with ~.
func asFile(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("a file name is needed")
	}
	if q := s[0]; q == '"' || q == '\'' {
		if len(s) < 2 || s[len(s)-1] != q {
			return "", fmt.Errorf("%q has one quote only", s)
		}
		s = s[1 : len(s)-1]
	}
	if rest, ok := strings.CutPrefix(s, "~"); ok && (rest == "" || rest[0] == '/') {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("the home directory is not known")
		}
		s = home + rest
	} else if ok {
		return "", fmt.Errorf("write the home directory of another user in full")
	}
	return filepath.Clean(s), nil
}

// asLevel takes TRACE DEBUG INFO WARN ERROR FATAL NEVER, in any case.
func asLevel(s string) (string, error) {
	w := strings.ToLower(s)
	if _, ok := levels[w]; !ok {
		return "", fmt.Errorf("%q is no level; there are TRACE, DEBUG, INFO, WARN, ERROR, FATAL, NEVER", s)
	}
	return w, nil
}

var nicknameForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)

// asNickname takes letters, digits and hyphens; the directory has 19 where mixminiond had 24.
func asNickname(s string) (string, error) {
	switch {
	case !nicknameForm.MatchString(s):
		return "", fmt.Errorf("%q is no nickname: letters, digits and hyphens, with a letter first", s)
	case len(s) > maxNickname:
		return "", fmt.Errorf("the nickname has %d characters, and the directory takes %d: choose a shorter one", len(s), maxNickname)
	}
	return s, nil
}

// asEmail takes a mail address.
func asEmail(s string) (string, error) {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return "", fmt.Errorf("%q is no mail address", s)
	}
	return a.String(), nil
}

// asIP and asIP6 take an address of their family.
func asIP(s string) (string, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return "", fmt.Errorf("%q is no IPv4 address", s)
	}
	return a.String(), nil
}

func asIP6(s string) (string, error) {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil || !a.Is6() || a.Zone() != "" {
		return "", fmt.Errorf("%q is no IPv6 address", s)
	}
	return a.String(), nil
}

// asHost takes a name or an IPv4 address.
func asHost(s string) (string, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), nil
	}
	if a, err := mail.ParseAddress("x@" + s); err != nil || strings.Contains(s, "@") {
		return "", fmt.Errorf("%q is no host name", s)
	} else {
		return a.Domain, nil
	}
}

// asPort takes 1 to 65535.
func asPort(s string) (string, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("%q is no port", s)
	}
	return strconv.FormatUint(n, 10), nil
}

// asAlgorithm takes mixminiond's names of the pools, in any case, and Poisson.
func asAlgorithm(s string) (string, error) {
	switch strings.ToLower(s) {
	case "poisson":
		return "Poisson", nil
	case "timed":
		return "Timed", nil
	case "cottrell", "mixmaster", "dynamicpool":
		return "DynamicPool", nil
	case "binomial", "binomialcottrell", "binomialdynamicpool":
		return "BinomialDynamicPool", nil
	}
	return "", fmt.Errorf("%q is no mix algorithm; there are Poisson, Timed, DynamicPool (also Cottrell, mixmaster) and BinomialDynamicPool", s)
}

// asListenPort takes a port, or 0 for one that is free.
func asListenPort(s string) (string, error) {
	if s == "0" {
		return s, nil
	}
	return asPort(s)
}

var ruleForm = regexp.MustCompile(`^(\d+\.\d+\.\d+\.\d+|\*)\s*(?:/\s*(\d+\.\d+\.\d+\.\d+))?\s*(?:(\d+)\s*(?:-\s*(\d+))?)?$`)

// rule is an address rule of Allow and Deny: "IP/mask port-port", "* port".
type rule struct {
	network netip.Prefix
	ports   string // "48099", "1-1024"; "": none were given
}

func parseRule(s string) (r rule, err error) {
	m := ruleForm.FindStringSubmatch(s)
	if m == nil || m[1] == "*" && m[2] != "" {
		return r, fmt.Errorf("%q is no rule; write IP, IP/mask or *, and a port or two behind it if need be", s)
	}
	if m[1] == "*" {
		r.network = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	} else {
		a, err := netip.ParseAddr(m[1])
		if err != nil {
			return r, fmt.Errorf("%q is no IPv4 address", m[1])
		}
		bits := 32
		if m[2] != "" {
			mask, err := netip.ParseAddr(m[2])
			if err != nil {
				return r, fmt.Errorf("%q is no mask", m[2])
			}
			if bits = maskBits(mask.As4()); bits < 0 {
				return r, fmt.Errorf("the mask %s is no whole network: write a rule for each network that you mean", m[2])
			}
		}
		r.network = netip.PrefixFrom(a, bits).Masked()
	}
	r.ports = m[3]
	lo, hi := m[3], m[4]
	if hi == "" {
		hi = lo
	} else {
		r.ports += "-" + hi
	}
	if lo != "" {
		a, aerr := strconv.ParseUint(lo, 10, 16)
		b, berr := strconv.ParseUint(hi, 10, 16)
		if aerr != nil || berr != nil || a < 1 || a > b {
			return r, fmt.Errorf("%q is no port, or no range of ports", r.ports)
		}
	}
	return r, nil
}

// maskBits gives the length of a mask in dots, -1 where its ones are not all in front.
func maskBits(m [4]byte) int {
	v := uint32(m[0])<<24 | uint32(m[1])<<16 | uint32(m[2])<<8 | uint32(m[3])
	n := 0
	for v&(1<<31) != 0 {
		v, n = v<<1, n+1
	}
	if v != 0 {
		return -1
	}
	return n
}

// asRule takes an address rule; the report speaks of its ports.
func asRule(s string) (string, error) {
	r, err := parseRule(s)
	return r.network.String(), err
}

// asEnabled takes yes; a node that does not listen or send is none.
func asEnabled(s string) (string, error) {
	v, err := asBoolean(s)
	if err == nil && v == "false" {
		err = fmt.Errorf("it cannot be turned off")
	}
	return v, err
}

// asMode takes the words that mixminiond took and did not look at.
func asMode(s string) (string, error) {
	if w := strings.ToLower(s); w != "relay" && w != "local" {
		return "", fmt.Errorf("%q is neither relay nor local", s)
	}
	return s, nil
}

// asMaximum takes a size of at least 32K, and rounds it up to whole KiB.
func asMaximum(s string) (string, error) {
	text, err := asSize(s)
	if err != nil {
		return "", err
	}
	var n config.Bytes
	if err := n.UnmarshalText([]byte(text)); err != nil {
		return "", err
	}
	if n < 32<<10 {
		return "", fmt.Errorf("%q is too small: at least 32K", s)
	}
	return ((n + 1<<10 - 1) >> 10 << 10).String(), nil
}
