package mix

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/retry"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/pool"
)

// defaultPort is that of mixminiond.
const defaultPort = "48099"

// day is the unit of most times here.
const day = 24 * time.Hour

// maxNickname is the longest nickname that the directory takes.
const maxNickname = directory.MaxNickname

// Bounds of what the descriptor says of the operator.
const (
	maxComments    = 1024 // characters, as mixminiond
	maxFingerprint = 128
)

// path gives a file or directory of the configuration as a whole path.
func (c Config) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.Server.BaseDir, name)
}

// Places of what a node keeps.
func (c Config) keyDir() string  { return c.path(c.Server.KeyDir) }
func (c Config) workDir() string { return c.path(c.Server.WorkDir) }
func (c Config) queueDir() string {
	if c.Server.QueueDir != "" {
		return c.path(c.Server.QueueDir)
	}
	return filepath.Join(c.workDir(), "queues")
}
func (c Config) packetDir() string    { return filepath.Join(c.queueDir(), "packets") }
func (c Config) deliverDir() string   { return filepath.Join(c.queueDir(), "deliver") }
func (c Config) boxDir() string       { return filepath.Join(c.queueDir(), "boxes") }
func (c Config) directoryDir() string { return filepath.Join(c.workDir(), "dir") }
func (c Config) lostFile() string     { return filepath.Join(c.workDir(), "lost") }
func (c Config) statsTmp() string     { return filepath.Join(c.workDir(), "stats.tmp") }
func (c Config) currentDesc() string  { return filepath.Join(c.Server.BaseDir, "current-desc") }
func (c Config) versionFile() string  { return filepath.Join(c.Server.BaseDir, "version") }

// PidFile, NetworkFile and IdentityFile are whole paths.
func (c Config) PidFile() string      { return c.path(c.Server.PidFile) }
func (c Config) NetworkFile() string  { return c.path(c.Network) }
func (c Config) IdentityFile() string { return filepath.Join(c.keyDir(), "identity.key") }

func (c Config) mode() directory.Mode    { m, _ := parseMode(c.Mode); return m }
func (c Config) retries() retry.Schedule { s, _ := retry.Parse(c.Outgoing.Retry); return s }

// pool gives what mixnet/pool understands.
func (c Config) pool() pool.Config {
	return pool.Config{Algorithm: pool.Algorithm(c.Mixing.Algorithm), Interval: c.Mixing.Interval.Std(),
		Rate: int(c.Mixing.PoolRate*100 + 0.5), MinSize: c.Mixing.PoolMinSize}
}

func parseMode(words []string) (m directory.Mode, err error) {
	names := map[string]directory.Mode{"mix": directory.Mix, "relay": directory.Relay, "mailbox": directory.Mailbox, "exit": directory.Exit}
	for _, w := range words {
		if names[w] == 0 || m.Has(names[w]) {
			return 0, fmt.Errorf("mode: %q is not mix, relay, mailbox or exit, or is there twice", w)
		}
		m |= names[w]
	}
	if m == 0 || m.Has(directory.Mix) && m != directory.Mix {
		return 0, fmt.Errorf("mode is mix, or one or more of relay, mailbox, exit")
	}
	return m, nil
}

var ownNickname = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Check finds what is wrong with options that are each in order for themselves.
func (c Config) Check() error {
	const op = "role/mix.Check"
	for _, why := range []string{c.checkNames(), c.checkPlaces(), c.checkTimes(), c.checkEnds(), c.checkExperiment()} {
		if why != "" {
			return errs.E(op, errs.Invalid, why, nil)
		}
	}
	if err := c.pool().Check(); err != nil {
		return errs.E(op, errs.Invalid, "mixing: "+errs.Public(err), err)
	}
	return nil
}

func (c Config) checkNames() string {
	switch m, err := parseMode(c.Mode); {
	case err != nil:
		return err.Error()
	case len(c.Nickname) > maxNickname || !ownNickname.MatchString(c.Nickname):
		return "nickname must be 1 to 19 letters, digits, hyphens or underscores"
	case c.Directory.Publish && c.ContactEmail == "":
		return "contact_email is needed where directory.publish is on: whoever runs an authority asks you there before approving the node"
	case c.Directory.Layer > 0 && (c.Directory.Publish || m != directory.Mix):
		return "directory.layer is of a mix that is not published"
	case !printable(c.Comments, maxComments):
		return fmt.Sprintf("comments must be at most %d characters of printable ASCII, without line ends", maxComments)
	case !printable(c.ContactFingerprint, maxFingerprint):
		return fmt.Sprintf("contact_fingerprint must be at most %d characters of printable ASCII", maxFingerprint)
	case c.Mixing.Algorithm != string(pool.Poisson) && m != directory.Mix:
		return "mixing.algorithm is for a mix: an end has no pool"
	}
	return ""
}

func printable(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func (c Config) checkPlaces() string {
	for _, a := range c.Incoming.Addresses {
		host, port, err := net.SplitHostPort(a)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			return fmt.Sprintf("incoming.addresses: %q: write host:port", a)
		}
	}
	if len(c.Incoming.Listen) == 0 || slices.Contains(c.Incoming.Listen, "off") {
		return "incoming.listen: a node listens; name at least one host:port"
	}
	for _, u := range c.Directory.URLs {
		if p, err := url.Parse(u); err != nil || p.Scheme != "https" && p.Scheme != "http" || p.Host == "" || p.User != nil {
			return fmt.Sprintf("directory.urls: %q: write a URL that begins with https:// or http://", u)
		}
	}
	for name, v := range map[string]string{"server.base_dir": c.Server.BaseDir, "server.key_dir": c.Server.KeyDir, "server.work_dir": c.Server.WorkDir,
		"server.pid_file": c.Server.PidFile, "server.stats_file": c.Server.StatsFile, "network": c.Network} {
		if v == "" {
			return name + " must not be empty"
		}
	}
	return ""
}

func (c Config) checkTimes() string {
	switch {
	case c.Keys.EncryptAll && !c.Keys.Encrypt:
		return "keys.encrypt_all needs keys.encrypt: what seals the other keys follows from the identity"
	case c.Keys.Rotation > c.Keys.Lifetime:
		return "keys.rotation is longer than keys.lifetime: there would be times without a key"
	case c.Server.MaxBandwidthSpike > 0 && c.Server.MaxBandwidthSpike < c.Server.MaxBandwidth:
		return "server.max_bandwidth_spike is less than server.max_bandwidth"
	case c.Server.MaxBandwidthSpike > 0 && c.Server.MaxBandwidth == 0:
		return "server.max_bandwidth_spike does nothing without server.max_bandwidth"
	}
	if _, err := retry.Parse(c.Outgoing.Retry); err != nil {
		return "outgoing.retry: " + errs.Public(err)
	}
	if _, err := retry.Parse(c.MBOX.Retry); err != nil {
		return "mbox.retry: " + errs.Public(err)
	}
	return ""
}

func (c Config) checkEnds() string {
	m, b := c.mode(), &c.MBOX
	switch {
	case c.SMTP.Enabled:
		return "smtp.enabled: mail to all addresses leaves at a relay, which signs it and has a page where recipients block themselves: exit.enabled of a relay's configuration; use mbox for people whom you know"
	case m.Has(directory.Exit) && !b.Enabled:
		return "mode exit needs mbox.enabled: there is nothing else that it could give mail out by"
	case b.Enabled && !m.Has(directory.Exit):
		return "mbox.enabled needs mode exit"
	case b.Enabled && (b.AddressFile == "" || b.ReturnAddress == "" || b.RemoveContact == ""):
		return "mbox needs address_file, return_address and remove_contact"
	case b.Enabled && (b.SMTPServer == "") == (b.SendmailCommand == ""):
		return "mbox needs smtp_server or sendmail_command, one of them"
	case c.Fragmented.Enabled && !b.Enabled:
		return "fragmented.enabled needs mbox.enabled"
	case c.Mailbox.Retention.Std()%day != 0:
		return "mailbox.retention must be a number of whole days: the day is all that is kept of when a packet came"
	case m.Has(directory.Relay) && c.Clients.File == "":
		return "mode relay needs clients.file"
	case m.Has(directory.Mailbox) && !m.Has(directory.Relay):
		return "mode mailbox needs relay beside it: clients fetch their packets over the connection by which they send"
	}
	return ""
}

// fits holds the times of keys against the period of the network. mixminiond's bounds are for
// epochs of an hour and more; where they are shorter, in tests, so may these times be.
func (c Config) fits(period time.Duration) error {
	const op = "role/mix.fits"
	life, overlap := c.Keys.Lifetime.Std(), c.Keys.Overlap.Std()
	if period >= directory.DefaultPeriod {
		if err := keys.CheckTimes(life, overlap); err != nil {
			return errs.E(op, errs.Invalid, "keys.lifetime, keys.overlap: "+errs.Public(err), err)
		}
		return nil
	}
	bad := func(name string, least time.Duration) error {
		return errs.E(op, errs.Invalid, fmt.Sprintf("%s must be at least %v in this network", name, config.Duration(least)), nil)
	}
	if least := 24 * period; life < least {
		return bad("keys.lifetime", least)
	}
	if least := 6 * period; overlap < least {
		return bad("keys.overlap", least)
	}
	return nil
}

// shortStats is the shortest period of statistics that tells nothing of single packets.
const shortStats = 2 * time.Hour

// Insecurities says in plain words what in the configuration makes the node weak, as
// mixminiond does at its start.
func (c Config) Insecurities() []string { return append(c.insecure(), c.pool().Insecurities(-1)...) }

// insecure is the part of that which the node does not know.
func (c Config) insecure() (list []string) {
	if c.Level() <= levels["debug"] {
		list = append(list, "the log is too verbose: with level "+c.Log.Level+" it shows addresses and single packets")
	}
	if c.Server.Stats && c.Server.StatsInterval.Std() < shortStats {
		list = append(list, fmt.Sprintf("the period of the statistics is short: counts of less than %v tell about single packets", config.Duration(shortStats)))
	}
	if !c.Host.FileParanoia {
		list = append(list, "the rights of private files are not looked at")
	}
	if c.Experiment.Lose > 0 {
		list = append(list, fmt.Sprintf("an experiment loses %v percent of the packets on purpose", c.Experiment.Lose))
	}
	return list
}

// admits decides about an address by lists of networks: the longest network that holds it
// decides, deny before allow; without one, whether allow is empty.
func admits(allow, deny []string) func(netip.Addr) bool {
	type rule struct {
		network netip.Prefix
		yes     bool
	}
	var rules []rule
	for i, list := range [][]string{deny, allow} {
		for _, s := range list {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				a, err := netip.ParseAddr(s)
				if err != nil {
					continue // the configuration was checked
				}
				p = netip.PrefixFrom(a, a.BitLen())
			}
			rules = append(rules, rule{p.Masked(), i == 1})
		}
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return b.network.Bits() - a.network.Bits() })
	return func(a netip.Addr) bool {
		a = a.Unmap()
		for _, r := range rules {
			if r.network.Contains(a) {
				return r.yes
			}
		}
		return len(allow) == 0
	}
}
