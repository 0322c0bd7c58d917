package authority

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"postern.email/kit/errs"
	"postern.email/kit/logs"
	"postern.email/mixnet/directory"
)

// Config is the configuration of an authority. Every field is documented by its tags:
// docs/authority-config.md and `postern authority config` come from there. A field has an
// effect, and a test that shows it (config_test.go lists them all).
type Config struct {
	Dir     string `toml:"dir" default:"/var/lib/postern-authority" doc:"The data directory: keys, known nodes, documents of the last epochs. One process at a time holds it."`
	Network string `toml:"network" default:"/etc/postern/network" doc:"The network file: name and period of the network, and the keys and addresses of all its authorities. All members use the same one (postern authority network)."`

	Listen struct {
		Link string `toml:"link" default:":48100" check:"listen" doc:"Links: nodes publish here, other authorities and clients fetch."`
		HTTP string `toml:"http" default:"off" check:"listen" doc:"Plain HTTP: a status page, /postern/consensus and /postern/proofs. What is there is public and signed."`
	} `toml:"listen"`

	Connections struct {
		Link           int `toml:"link" default:"1024" unit:"connections" min:"1" max:"100000" doc:"Links at one time that others have opened."`
		LinkPerNetwork int `toml:"link_per_network" default:"16" unit:"connections" min:"1" max:"100000" doc:"Of them from one address (IPv6: one /64)."`
		Handshakes     int `toml:"handshakes" default:"120" unit:"a minute" min:"1" max:"1000000" doc:"New links from one address (IPv6: one /64); half a minute's worth may come at once."`
		HTTP           int `toml:"http" default:"256" unit:"connections" min:"1" max:"100000" doc:"HTTP connections at one time."`
		HTTPPerNetwork int `toml:"http_per_network" default:"16" unit:"connections" min:"0" max:"100000" doc:"Of them from one address (IPv6: one /64). 0: no such limit."`
	} `toml:"connections"`

	Nodes struct {
		PublishPerMinute int `toml:"publish_per_minute" default:"120" unit:"a minute" min:"0" max:"1000000" doc:"Descriptors of unknown nodes that are looked at, of all of them together; those of known nodes are always looked at. 0: no limit."`
	} `toml:"nodes"`

	Vote struct {
		Profile    string   `toml:"profile" default:"low" oneof:"low full" doc:"The parameters that this authority votes for: low for networks of fewer than 1,000 users, full beyond (docs/directory.md, chapter 7). The consensus has the median of all votes. Read again on SIGHUP."`
		Parameters []string `toml:"parameters" default:"" max:"64" doc:"Single parameters in place of those of the profile, each name=number: \"delay=20000\". Times are milliseconds. Read again on SIGHUP."`
	} `toml:"vote"`

	Keep struct {
		Consensuses int `toml:"consensuses" default:"24" unit:"epochs" min:"3" max:"1000" doc:"Consensuses that are kept and given out on request; the newest is kept in any case."`
	} `toml:"keep"`

	Identity struct {
		Passphrase string `toml:"passphrase" default:"none" oneof:"none ask credential" doc:"Where the passphrase that seals the identity key comes from. none: the key is not sealed, only its file is private. ask: it is asked for at each start. credential: the systemd credential postern-authority-passphrase."`
	} `toml:"identity"`

	Log struct {
		Level  string `toml:"level" default:"info" oneof:"debug info warn error" doc:"How much is logged. Only debug shows addresses. Read again on SIGHUP."`
		Format string `toml:"format" default:"text" oneof:"text json" doc:"Form of the log lines on standard error."`
	} `toml:"log"`
}

// Check finds options that are each in order and make no sense together. errs.Invalid.
func (c Config) Check() error {
	const op = "role/authority.Check"
	if c.Listen.Link == "off" {
		return errs.E(op, errs.Invalid, "listen.link is off: nobody could reach this authority", nil)
	}
	_, err := c.parameters()
	return errs.Wrap(op, err)
}

// parameters are what the authority votes for. That their values are within the bounds of the
// page is checked by the vote that names them.
func (c *Config) parameters() (directory.Parameters, error) {
	const op = "role/authority.parameters"
	p := directory.ProfileLow()
	if c.Vote.Profile == "full" {
		p = directory.ProfileFull()
	}
	for _, word := range c.Vote.Parameters {
		name, text, ok := strings.Cut(word, "=")
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		if name = strings.TrimSpace(name); !ok || err != nil || n > directory.MaxParameter {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("vote.parameters: %q is not name=number", word), nil)
		}
		i, found := slices.BinarySearchFunc(p, name, func(e directory.Parameter, n string) int { return strings.Compare(e.Name, n) })
		if !found {
			p = slices.Insert(p, i, directory.Parameter{Name: name})
		}
		p[i].Value = n
	}
	if err := p.Check(); err != nil {
		return nil, errs.E(op, errs.Invalid, "vote.parameters: "+errs.Public(err), err)
	}
	return p, nil
}

// Logger makes the logger that the configuration asks for. level is set from it, and again by
// Reload.
func Logger(w io.Writer, c Config, level *slog.LevelVar) *slog.Logger {
	level.Set(logs.Level(c.Log.Level))
	return logs.New(w, logs.Options{JSON: c.Log.Format == "json", Level: level})
}
