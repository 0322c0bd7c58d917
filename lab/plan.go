package lab

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
)

// planFile is where a lab keeps what was decided for it, in its directory.
const planFile = "lab.json"

// planVersion is the format of that file.
const planVersion = 1

// plan is what is decided once for a lab, so that it goes on where it was.
type plan struct {
	Version int                       `json:"version"`
	Period  time.Duration             `json:"period"`
	Ports   map[string]map[string]int `json:"ports"` // by member, then by door
	// Passwords of accounts, by address: of the proxies' and relays' users and of the world's.
	Passwords map[string]string `json:"passwords"`
	Proxies   int               `json:"proxies"`
	Made      bool              `json:"made"` // everything was set up once
}

// doors are the ports of each kind of member, in the order of the usual numbers.
var doors = map[string][]string{
	"lab":       {"page"},
	"authority": {"link"},
	"mix":       {"link"},
	"relay":     {"https", "imaps", "imap", "smtp", "submissions", "submission", "pop3s", "pop3", "link"},
	"world":     {"dns", "smtp", "submission", "pop3"},
	"proxy":     {"smtp", "pop3", "imap", "page"},
	"tor":       {"or", "dir"},
	"torclient": {"socks"},
}

// usualPorts are the first port of each kind of member, and the distance to the next of the
// kind. They lie below those that systems give to outgoing connections.
var usualPorts = map[string][2]int{"lab": {21000, 0}, "authority": {21001, 1}, "mix": {21011, 1}, "world": {21021, 0}, "relay": {21101, 20}, "proxy": {21201, 10}, "tor": {21031, 2}, "torclient": {21041, 0}}

// Free ports are looked for in this range, for the same reason.
const freeFrom, freeTo = 10000, 32000

// memberName is the name of the i-th member of a kind.
func memberName(kind string, i int) string {
	if kind == "lab" || kind == "world" || kind == "torclient" {
		return kind
	}
	return fmt.Sprint(kind, i+1)
}

// newPlan decides. errs.Unavailable where no ports are free.
func newPlan(c Config) (*plan, error) {
	p := &plan{Version: planVersion, Period: c.Period, Proxies: c.Proxies, Ports: map[string]map[string]int{}, Passwords: map[string]string{}}
	taken := map[int]bool{}
	for kind, count := range map[string]int{"lab": 1, "authority": Authorities, "mix": Mixes, "world": 1, "relay": Relays, "proxy": c.Proxies, "tor": torRelays, "torclient": 1} {
		for i := range count {
			ports := map[string]int{}
			for k, door := range doors[kind] {
				ports[door] = usualPorts[kind][0] + i*usualPorts[kind][1] + k
				if c.FreePorts {
					n, err := freePort(taken)
					if err != nil {
						return nil, err
					}
					ports[door] = n
				}
			}
			p.Ports[memberName(kind, i)] = ports
		}
	}
	return p, nil
}

// freePort finds a port on which nobody listens, by TCP and UDP.
func freePort(taken map[int]bool) (int, error) {
	for range 1000 {
		n := freeFrom + mathrand.IntN(freeTo-freeFrom)
		if taken[n] {
			continue
		}
		at := fmt.Sprintf("127.0.0.1:%d", n)
		l, err := net.Listen("tcp", at)
		if err != nil {
			continue
		}
		l.Close()
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		u.Close()
		taken[n] = true
		return n, nil
	}
	return 0, errs.E("lab.freePort", errs.Unavailable, "no free ports were found on 127.0.0.1", nil)
}

// at gives a door of a member as host:port.
func (p *plan) at(member, door string) string {
	return fmt.Sprintf("127.0.0.1:%d", p.Ports[member][door])
}

// password is the one of an account; it is made up the first time.
func (p *plan) password(address string) string {
	if p.Passwords[address] == "" {
		p.Passwords[address] = rand.Text()
	}
	return p.Passwords[address]
}

// loadPlan reads the plan of a directory; errs.NotFound where there is none.
func loadPlan(dir string) (*plan, error) {
	const op = "lab.loadPlan"
	b, err := vfs.ReadFile(vfs.OS(), filepath.Join(dir, planFile))
	if err != nil {
		return nil, errs.E(op, errs.KindOf(err), "cannot read "+planFile+" in "+dir, err)
	}
	p := new(plan)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, errs.E(op, errs.Corrupt, planFile+" in "+dir+" cannot be understood", err)
	}
	if p.Version != planVersion {
		return nil, errs.E(op, errs.Unsupported, fmt.Sprintf("the lab in %s was made by another version of this program (%d, this one knows %d)", dir, p.Version, planVersion), nil)
	}
	return p, nil
}

// usable tells whether a lab can be kept in dir: there is none yet, or one that is what was asked
// for, or nothing. Where other files lie those of a lab would be put between them, and over
// some of the same name.
func usable(dir string, asked Config) error {
	const op = "lab.usable"
	p, err := loadPlan(dir)
	if errs.KindOf(err) == errs.NotFound {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			return errs.E(op, errs.Unavailable, "cannot read the directory "+dir, err)
		}
		for _, e := range entries {
			if name := e.Name(); name != "logs" && name != "lock" { // of a start that came no further
				return errs.E(op, errs.Denied, dir+" is not empty, and no lab: choose another directory", nil)
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case asked.Period != 0 && asked.Period != p.Period:
		return errs.E(op, errs.Invalid, fmt.Sprintf("the lab in %s has a period of %v, which cannot be changed: take another directory", dir, p.Period), nil)
	case asked.Proxies != 0 && asked.Proxies != p.Proxies:
		return errs.E(op, errs.Invalid, fmt.Sprintf("the lab in %s has %d proxies, which cannot be changed: take another directory", dir, p.Proxies), nil)
	}
	return nil
}

func (p *plan) save(dir string) error {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return errs.E("lab.plan", errs.Internal, "", err)
	}
	if err := vfs.WriteFileAtomic(vfs.OS(), filepath.Join(dir, planFile), append(b, '\n'), 0o600); err != nil {
		return errs.E("lab.plan", errs.KindOf(err), "cannot write "+planFile+" in "+dir, err)
	}
	return nil
}
