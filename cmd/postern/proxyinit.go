package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"postern.email/deploy"
	"postern.email/kit/config"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/directory"
	"postern.email/role/proxy"
)

// proxySetUp is one run of proxy init.
type proxySetUp struct {
	src                             proxySource
	address                         string
	url, unit                       string
	ca                              []string
	passwordFile, localFile, invite string
	discover, unpublished           bool

	text    string // of the configuration before this run; empty: it is fresh
	cfg     proxy.Config
	account proxy.Account
	reg     proxy.Registration
	local   bool // the account got its password here by this run
	making
}

func proxyInitCommand(io streams) *cobra.Command {
	u := &proxySetUp{}
	c := &cobra.Command{Use: "init ADDRESS", Short: "Set up a mail proxy for an address: keys, configuration, registration", Args: cobra.ExactArgs(1),
		Long: `Set up a mail proxy for your address at a relay: make its keys, register them with the relay,
and write the configuration, with the relay's identity and the authorities of its network
pinned. Where there is a configuration already, the account is added to it.

The password is that of the address at the relay, which makes the address if it is new and
the relay allows it; it becomes the password for mail programs on this machine too, unless
--local-password-file says another.

Without --config the configuration is ~/.config/postern/mailproxy.toml, and the data lies in
~/.local/share/postern/mailproxy; with it, in mailproxy-data beside it.`,
		Example: "  postern proxy init anna@relay.example\n  postern proxy init anna@relay.example --relay https://mail.relay.example --unit\n  postern proxy init anna@relay.example -f ./mailproxy.toml --password-file pw"}
	u.src.flags(c)
	f := c.Flags()
	f.StringVar(&u.url, "relay", "", "`URL` of the relay's web page (default https:// and the domain of the address)")
	f.StringArrayVar(&u.ca, "ca", nil, "`file` of certificates in PEM form that are trusted beside the system's (Proxy.TrustedCAs); may be repeated")
	f.StringVar(&u.passwordFile, "password-file", "", "`file` whose first line is the password at the relay")
	f.StringVar(&u.localFile, "local-password-file", "", "`file` whose first line is another password, for mail programs on this machine")
	f.StringVar(&u.invite, "invite", "", "what the relay gave out, if it takes proxies by invitation only")
	f.BoolVar(&u.discover, "discover", false, "look up keys that are not known (InsecureKeyDiscovery)")
	f.BoolVar(&u.unpublished, "unpublished", false, "the relay gives your key to nobody (Unpublished)")
	f.StringVar(&u.unit, "unit", "", "write a systemd unit for your user too, to this `file`")
	f.Lookup("unit").NoOptDefVal = "user"
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		u.address = args[0]
		if err := u.run(c.Context(), io); err != nil {
			return err
		}
		if *js {
			return printJSON(io.out, struct {
				Config  string   `json:"config"`
				Dir     string   `json:"dir"`
				Account string   `json:"account"`
				Relay   string   `json:"relay"`
				Network string   `json:"network"`
				SMTP    string   `json:"smtp"`
				POP3    string   `json:"pop3"`
				IMAP    string   `json:"imap"`
				Made    []string `json:"made,omitempty"`
				Kept    []string `json:"kept,omitempty"`
				Next    []string `json:"next"`
			}{u.src.file, u.cfg.Proxy.DataDir, u.account.Address.String(), u.reg.Relay, u.reg.Network, u.cfg.Proxy.SMTPAddress, u.cfg.Proxy.POP3Address, u.cfg.Proxy.IMAPAddress, u.made, u.kept, u.next()})
		}
		return u.print(io)
	}
	return c
}

// run makes what is not there.
func (u *proxySetUp) run(ctx context.Context, io streams) (err error) {
	defer func() {
		if err != nil {
			u.takeBack()
		}
	}()
	if err := u.src.check(); err != nil {
		return err
	}
	unit, err := decided(u.who, u.configuration, u.unit != "", u.unitText)
	if err != nil {
		return err
	}
	if proxyRuns(ctx, u.cfg) {
		return hint(errs.E("cmd.proxy.init", errs.Exists, "a proxy runs with the data in "+u.cfg.Proxy.DataDir+"; nothing was changed", nil), "Stop it, and try again: postern proxy stop -f "+u.src.file)
	}
	password, err := relayPassword(io, u.account.Address.String(), u.passwordFile)
	if err != nil {
		return err
	}
	local := password
	if u.localFile != "" {
		if local, err = firstLine(u.localFile); err != nil {
			return err
		}
	}
	if !exists(u.cfg.Proxy.DataDir) {
		u.undo = append(u.undo, func() { os.RemoveAll(u.cfg.Proxy.DataDir) })
		u.made = append(u.made, u.cfg.Proxy.DataDir)
	} else {
		u.kept = append(u.kept, u.cfg.Proxy.DataDir)
	}
	if u.reg, err = proxy.Register(ctx, proxyDeps(), u.cfg, u.account, string(password), u.invite); err != nil {
		if errs.KindOf(err) == errs.Auth {
			return hint(err, "Nothing was made. Where the address exists, its password is needed; choose another name where it is not yours.")
		}
		return registerHint(err)
	}
	text, err := u.configText()
	if err != nil {
		return err
	}
	if u.cfg, err = proxy.LoadText(u.src.file, []byte(text), nil); err != nil {
		return err
	}
	if err := u.password(ctx, string(local)); err != nil {
		return err
	}
	if err := u.save(text); err != nil {
		return err
	}
	return u.writeOrKeep(u.unit, unit)
}

// who reads the address.
func (u *proxySetUp) who() error {
	a, err := mail.ParseAddress(u.address)
	if err != nil {
		return usageError{"postern proxy init", fmt.Errorf("%q is no mail address: %s", u.address, errs.Public(err))}
	}
	u.address = a.String()
	if u.url == "" {
		return nil
	}
	if !strings.HasPrefix(u.url, "https://") {
		return usageError{"postern proxy init", fmt.Errorf("the relay's page begins with https://: your password goes there")}
	}
	u.url = strings.TrimSuffix(u.url, "/")
	return nil
}

// configuration reads the configuration that is there, or makes one in memory, with the account.
func (u *proxySetUp) configuration() error {
	const op = "cmd.proxy.init"
	if exists(u.src.file) {
		b, err := config.ReadFile(u.src.file)
		if err != nil {
			return err
		}
		if changed, err := u.changes(b); err != nil {
			return err
		} else if changed {
			return hint(errs.E(op, errs.Exists, u.src.file+" is there already, and what --set, --dir and --ca say is not in it", nil), "Write it into the file yourself and leave these out, or name another file: -f FILE")
		}
		u.text = string(b)
	} else if err := u.freshText(); err != nil {
		return err
	}
	cfg, err := proxy.LoadText(u.src.file, []byte(u.text), nil)
	if err != nil {
		return hint(err, "To see what can be set: postern proxy config")
	}
	local, domain, _ := cutLast(u.address, "@")
	accounts, err := cfg.Accounts()
	if err != nil {
		return err
	}
	for _, a := range accounts {
		if a.Address.Equal(mail.Address{Local: local, Domain: domain}) {
			u.cfg, u.account = cfg, a
			if u.url != "" && u.url != a.URL {
				return errs.E(op, errs.Exists, u.src.file+" has this account, with another relay's page: "+a.URL, nil)
			}
			u.kept = append(u.kept, u.src.file)
			return nil
		}
	}
	u.text += u.accountText("", "")
	if u.cfg, err = proxy.LoadText(u.src.file, []byte(u.text), nil); err != nil {
		return usageError{"postern proxy init", err}
	}
	if accounts, err = u.cfg.Accounts(); err != nil {
		return err
	}
	u.account = accounts[len(accounts)-1]
	return nil
}

// overrides are what --ca and --set say of a file that is there or comes to be, and with a
// directory what that is.
func (u *proxySetUp) overrides(dir string) ([]string, error) {
	for i := range u.ca {
		if err := absolute(&u.ca[i]); err != nil {
			return nil, err
		}
	}
	var set []string
	if dir != "" {
		if err := absolute(&dir); err != nil {
			return nil, err
		}
		set = append(set, "Proxy.DataDir="+dir)
	}
	if len(u.ca) > 0 {
		set = append(set, "Proxy.TrustedCAs="+strings.Join(u.ca, ","))
	}
	return append(set, u.src.set...), nil
}

// changes tells whether the flags say anything that the text of the file does not.
func (u *proxySetUp) changes(text []byte) (bool, error) {
	set, err := u.overrides(u.src.dir)
	if err != nil || len(set) == 0 {
		return false, err
	}
	was, err := proxy.LoadText(u.src.file, text, nil)
	if err != nil {
		return false, hint(err, "To see what can be set: postern proxy config")
	}
	is, err := proxy.LoadText(u.src.file, text, set)
	if err != nil {
		return false, usageError{"postern proxy config", err}
	}
	return !maps.Equal(config.Values(&was), config.Values(&is)), nil
}

// freshText begins a configuration.
func (u *proxySetUp) freshText() error {
	dir := u.src.dir
	if dir == "" {
		dir = filepath.Join(filepath.Dir(u.src.file), "mailproxy-data")
		if u.src.usual() {
			dir = filepath.Join(filepath.Dir(upDir()), "mailproxy")
		}
	}
	set, err := u.overrides(dir)
	if err != nil {
		return err
	}
	set = append([]string{"Management.Enable=true"}, set...)
	var c proxy.Config
	config.Defaults(&c)
	if err := config.Apply(&c, set); err != nil {
		return usageError{"postern proxy config", err}
	}
	u.text = "# A mail proxy, written by postern proxy init.\n# What stands behind # is not set. All options with their defaults: postern proxy config\n" + sections(&c, proxyChoices, set)
	return nil
}

// proxyChoices are what the user of a proxy must think of.
var proxyChoices = []choice{
	{"Proxy.SMTPAuth", "For mail programs that know a host and a port only.", "false"},
	{"Proxy.KeyFile", "What opens names and what waits on the disk. On another disk, one that is seized shows less.", `"/media/key/node.key"`},
	{"Logging.File", "Without it the log goes to standard output.", `"proxy.log"`},
	{"UpstreamProxy.Type", "Reach the relay through Tor, or another SOCKS proxy.", `"tor+socks5"`},
	{"UpstreamProxy.Address", "", `"127.0.0.1:9050"`},
}

// accountText is the section of the account; pin and label may be empty.
func (u *proxySetUp) accountText(pin, label string) string {
	local, domain, _ := cutLast(u.address, "@")
	var b strings.Builder
	fmt.Fprintf(&b, "\n[[Account]]\nUser = %s\nProvider = %s\n", config.Literal(local), config.Literal(domain))
	if u.url != "" {
		fmt.Fprintf(&b, "RelayURL = %s\n", config.Literal(u.url))
	}
	if pin != "" {
		fmt.Fprintf(&b, "# The relay's identity, as it said at registration; the proxy connects to no other.\nProviderKeyPin = %s\n", config.Literal(pin))
	}
	if label != "" {
		fmt.Fprintf(&b, "Authority = %s\n", config.Literal(label))
	}
	fmt.Fprintf(&b, "InsecureKeyDiscovery = %v\n", u.discover)
	if u.unpublished {
		b.WriteString("Unpublished = true\n")
	}
	return b.String()
}

// configText is the configuration with what the registration told.
func (u *proxySetUp) configText() (string, error) {
	without, ok := strings.CutSuffix(u.text, u.accountText("", ""))
	if !ok { // the file had the account
		return u.text, nil
	}
	label, section, err := u.authority()
	if err != nil {
		return "", err
	}
	return without + section + u.accountText(u.reg.Relay, label), nil
}

// authority gives the label of the network's authorities, and their section, if there is none yet.
func (u *proxySetUp) authority() (label, section string, err error) {
	n, err := directory.ParseNetwork([]byte(u.reg.File))
	if err != nil {
		return "", "", err
	}
	label = n.Name()
	for i := 2; ; i++ {
		_, taken := u.cfg.VotingAuthority[label]
		_, other := u.cfg.NonvotingAuthority[label]
		if !taken && !other {
			break
		}
		if taken {
			probe := u.account
			if probe.Trust(&u.cfg, label) == nil && probe.Vouches(u.account.Pin, n) == nil {
				return label, "", nil
			}
		}
		label = fmt.Sprintf("%s-%d", n.Name(), i)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n# The authorities of the network %s, as the relay said at registration: the SHA-256 of their\n# keys. Compare them with what the network's operators publish.\n", n.Name())
	links := map[string]string{}
	for _, c := range n.Contacts() {
		links[hex.EncodeToString(c.ID[:])] = hex.EncodeToString(c.LinkKey[:])
	}
	for _, k := range n.Authorities() {
		id := k.ID()
		name := hex.EncodeToString(id[:])
		fmt.Fprintf(&b, "[[VotingAuthority.%s.Peers]]\nIdentityPublicKey = %s\n", config.Literal(label), config.Literal(name))
		if l := links[name]; l != "" {
			fmt.Fprintf(&b, "LinkPublicKey = %s\n", config.Literal(l))
		}
	}
	return label, b.String(), nil
}

// password gives the account its password on this machine, if it has none.
func (u *proxySetUp) password(ctx context.Context, password string) error {
	a := proxy.PasswordArgs{Account: u.account.Address.String(), Password: password}
	st, err := proxy.HasPassword(ctx, proxyDeps(), u.cfg, a.Account)
	if err != nil || st.Password {
		return err
	}
	_, err = proxy.SetPassword(ctx, proxyDeps(), u.cfg, a)
	u.local = err == nil
	return err
}

// save writes the configuration, or replaces the one that is there.
func (u *proxySetUp) save(text string) error {
	if !exists(u.src.file) {
		if err := u.write(u.src.file, text); err != nil {
			return err
		}
		return os.Chmod(u.src.file, 0o600)
	}
	old, err := os.ReadFile(u.src.file)
	if err != nil || string(old) == text {
		return err
	}
	if err := vfs.WriteFileAtomic(vfs.OS(), u.src.file, []byte(text), 0o600); err != nil {
		return errs.E("cmd.proxy.init", errs.KindOf(err), "cannot write "+u.src.file, err)
	}
	u.undo = append(u.undo, func() { os.WriteFile(u.src.file, old, 0o600) })
	u.made = append(u.made, u.src.file)
	return nil
}

// unitText is the unit of this program with this configuration.
func (u *proxySetUp) unitText() (string, error) {
	if u.unit == "user" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", usageError{"postern proxy init", fmt.Errorf("the home directory is not known; name the unit: --unit=FILE")}
		}
		u.unit = filepath.Join(base, "systemd", "user", "postern-proxy.service")
	}
	exe, err := executable()
	if err != nil {
		return "", err
	}
	return startLine(deploy.ProxyUnit, "proxy", "%h/.config/postern/mailproxy.toml", exe, u.src.file)
}

// next are the commands to type next.
func (u *proxySetUp) next() []string {
	with := ""
	if !u.src.usual() {
		with = " -f " + u.src.file
	}
	start := "postern proxy" + with
	if u.unit != "" {
		start = enable("systemctl --user", u.unit)
	}
	return []string{start, "postern proxy status" + with, "postern proxy verify " + u.account.Address.String() + with}
}

func (u *proxySetUp) print(io streams) error {
	var b strings.Builder
	b.WriteString(u.told(func(name string) string {
		if name == u.cfg.Proxy.DataDir {
			return "keys, mail, what waits"
		}
		return ""
	}))
	fmt.Fprintf(&b, "\n%s is registered with relay %s of the network %s.\n", u.account.Address, u.reg.Relay[:16], u.reg.Network)
	fmt.Fprintf(&b, "\nMail programs on this machine (no TLS; name: %s", u.account.Address)
	if u.local {
		b.WriteString("; the password is the one that you gave")
	}
	fmt.Fprintf(&b, "):\n  SMTP  %s\n  IMAP  %s\n  POP3  %s\n", u.cfg.Proxy.SMTPAddress, u.cfg.Proxy.IMAPAddress, u.cfg.Proxy.POP3Address)
	b.WriteString(nextSteps(u.next(), "runs the proxy", "says how it stands", "shows your key, for those who write to you"))
	_, err := fmt.Fprint(io.out, b.String())
	return err
}
