package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// The private Tor network: three directory authorities and two more relays, all of which are exits, and
// a client. With one authority it did not come up reliably.
const (
	torAuthorities = 3
	torRelays      = 5
	torTime        = 2 * time.Minute // until the client can be used
	torCertMonths  = "12"            // validity of the authorities' certificates; they are made anew for a new lab
)

// torTools are the programs of Debian's package tor.
var torTools = []string{"tor", "tor-gencert"}

// startTor starts a private Tor network, if the lab is to have one. It is made anew at each start: an
// old consensus would only be in the way, and what matters, its keys, is quickly made.
func (l *Lab) startTor(ctx context.Context) error {
	if !l.c.Tor {
		return nil
	}
	l.say("Starting a private Tor network")
	for _, name := range torTools {
		if _, err := exec.LookPath(name); err != nil {
			return errs.E("lab.startTor", errs.Unsupported, name+" is not installed: --tor needs Debian's package tor", err)
		}
	}
	if err := os.RemoveAll(l.path("tor")); err != nil {
		return errs.E("lab.startTor", errs.Unavailable, "cannot remove "+l.path("tor"), err)
	}
	lines := make([]string, torAuthorities)
	if err := each(torAuthorities, func(i int) (err error) {
		lines[i], err = l.torAuthority(ctx, i)
		return err
	}); err != nil {
		return err
	}
	var relays []*member
	for i := range torRelays {
		m, err := l.torMember("tor", i, lines, l.torRelayOptions(i))
		if err != nil {
			return err
		}
		m.ready = func(line []byte) bool { return bytes.Contains(line, []byte("Bootstrapped ")) }
		relays = append(relays, m)
	}
	if err := l.startAll(ctx, relays); err != nil {
		return err
	}
	if err := poll(ctx, torTime, "the Tor network has a consensus with all its relays", l.torAgrees); err != nil {
		return err
	}
	client, err := l.torMember("torclient", 0, lines, "SocksPort "+l.plan.at("torclient", "socks")+" IsolateSOCKSAuth\nORPort 0\n")
	if err != nil {
		return err
	}
	client.ready = func(line []byte) bool { return bytes.Contains(line, []byte("Bootstrapped 100%")) }
	if err := client.start(ctx); err != nil {
		return err
	}
	l.info.Tor = l.plan.at("torclient", "socks")
	return nil
}

// torDir is the data directory of a member of the Tor network.
func (l *Lab) torDir(name string) string { return l.path("tor", name) }

// torAuthority makes the keys of an authority and gives the line that names it to all.
func (l *Lab) torAuthority(ctx context.Context, i int) (string, error) {
	const op = "lab.torAuthority"
	name := memberName("tor", i)
	dir := l.torDir(name)
	keys := filepath.Join(dir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return "", errs.E(op, errs.Unavailable, "cannot make the directory "+keys, err)
	}
	dirAt := l.plan.at(name, "dir")
	run := func(in, program string, args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, program, args...)
		var said bytes.Buffer
		cmd.Stdin, cmd.Stderr = strings.NewReader(in), &said
		out, err := cmd.Output()
		if err != nil {
			return nil, errs.E(op, errs.Unavailable, program+": "+strings.TrimSpace(said.String()+string(out)), err)
		}
		return out, nil
	}
	// The passphrase seals a key that is used once, here, and is worth nothing.
	if _, err := run("lab\n", "tor-gencert", "--create-identity-key", "--passphrase-fd", "0", "-m", torCertMonths, "-a", dirAt,
		"-i", filepath.Join(keys, "authority_identity_key"), "-s", filepath.Join(keys, "authority_signing_key"), "-c", filepath.Join(keys, "authority_certificate")); err != nil {
		return "", err
	}
	out, err := run("", "tor", "--quiet", "--list-fingerprint", "--orport", "1", "--datadirectory", dir, "--nickname", name, "--dirauthority", "x 127.0.0.1:1 "+strings.Repeat("f", 40),
		"-f", "/dev/null", "--defaults-torrc", "/dev/null", "--ignore-missing-torrc")
	if err != nil {
		return "", err
	}
	_, fingerprint, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
	cert, err := vfs.ReadFile(vfs.OS(), filepath.Join(keys, "authority_certificate"))
	if err != nil {
		return "", errs.E(op, errs.Unavailable, "the certificate of a Tor authority cannot be read", err)
	}
	ident := ""
	for line := range strings.Lines(string(cert)) {
		if f, found := strings.CutPrefix(line, "fingerprint "); found {
			ident = strings.TrimSpace(f)
		}
	}
	if !ok || ident == "" {
		return "", errs.E(op, errs.Unavailable, "tor does not tell the keys of an authority", nil)
	}
	return fmt.Sprintf("DirAuthority %s orport=%d no-v2 v3ident=%s %s %s", name, l.plan.Ports[name]["or"], ident, dirAt, strings.ReplaceAll(fingerprint, " ", "")), nil
}

// torRelayOptions are those of the i-th relay; the first are authorities too.
func (l *Lab) torRelayOptions(i int) string {
	name := memberName("tor", i)
	o := "SocksPort 0\nORPort " + l.plan.at(name, "or") + "\nExitRelay 1\nExitPolicyRejectPrivate 0\nExitPolicy accept *:*\nContactInfo lab@" + worldDomain + "\n"
	if i < torAuthorities {
		o += "DirPort " + l.plan.at(name, "dir") + `
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
TestingV3AuthInitialVotingInterval 5
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
TestingMinExitFlagThreshold 0
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingDirAuthVoteGuard *
`
	}
	return o
}

// torMember writes the configuration of a member of the Tor network.
func (l *Lab) torMember(kind string, i int, authorities []string, options string) (*member, error) {
	m := l.add(kind, i, nil)
	m.dir, m.program = l.torDir(m.name), "tor"
	if err := l.mkdir("tor", m.name); err != nil {
		return nil, err
	}
	m.config = filepath.Join(m.dir, "torrc")
	text := "# Written by postern lab.\nTestingTorNetwork 1\nDataDirectory " + m.dir + "\nNickname " + m.name + "\nAddress 127.0.0.1\nAddressDisableIPv6 1\nAssumeReachable 1\nShutdownWaitLength 0\nLog notice stdout\nLog notice file " + m.log + "\n" +
		strings.Join(authorities, "\n") + "\n" + options
	m.args = []string{"-f", m.config, "--defaults-torrc", "/dev/null"}
	return m, writeFile(m.config, []byte(text), 0o600)
}

// torAgrees tells whether the first authority has a consensus in which all relays are.
func (l *Lab) torAgrees() bool {
	// Tor answers in another compression than the one that Go asks for.
	c := http.Client{Timeout: askTime, Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	res, err := c.Get("http://" + l.plan.at(memberName("tor", 0), "dir") + "/tor/status-vote/current/consensus")
	if err != nil {
		return false
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxLine))
	return err == nil && bytes.Count(b, []byte("\nr ")) == torRelays
}
