package authority

import (
	"context"
	"fmt"
	"time"

	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/packet"
)

// Init makes the keys of an authority in the data directory, or opens those that are there
// (made says which), and gives the network file that names this authority alone, under the
// addresses at which others reach it. That is the whole network file where there is one
// authority; with several, those of all are joined (directory.JoinNetworks).
//
// errs.Invalid for a name, period or address that no network file can have, and nothing is
// made. errs.Exists when a process holds the directory.
func Init(_ context.Context, c Config, d Deps, name string, period time.Duration, addresses []string) (n *directory.Network, made bool, err error) {
	const op = "role/authority.Init"
	d = d.withDefaults()
	k := disk{d.FS, c.Dir}
	there, err := vfs.Exists(d.FS, k.path(keyDir))
	if err != nil {
		return nil, false, errs.E(op, errs.KindOf(err), "cannot look into the data directory "+c.Dir, err)
	}
	if !there || len(addresses) > 0 {
		if err := checkNetwork(d, name, period, addresses); err != nil {
			return nil, false, errs.Wrap(op, err)
		}
	}
	fresh, err := vfs.Exists(d.FS, c.Dir)
	if err != nil {
		return nil, false, errs.E(op, errs.KindOf(err), "cannot look into the data directory "+c.Dir, err)
	}
	fresh = !fresh
	if err := vfs.MkdirAll(d.FS, c.Dir, 0o700); err != nil {
		return nil, false, errs.E(op, errs.KindOf(err), "cannot make the data directory "+c.Dir, err)
	}
	lock, err := daemon.Hold(d.FS, c.Dir, d.Now())
	if err != nil {
		return nil, false, errs.Wrap(op, err)
	}
	defer lock.Close()
	n, err = initKeys(c, d, k, !there, name, period, addresses)
	if err != nil && fresh {
		_ = d.FS.RemoveAll(c.Dir) // what this call made
	} else if err != nil && !there {
		_ = d.FS.RemoveAll(k.path(keyDir))
	}
	if err != nil {
		return nil, false, errs.Wrap(op, err)
	}
	return n, !there, nil
}

func initKeys(c Config, d Deps, k disk, create bool, name string, period time.Duration, addresses []string) (*directory.Network, error) {
	opened, err := openKeys(c, d, create)
	if err != nil {
		return nil, err
	}
	if create {
		// With these keys nothing can have been signed before.
		if err := k.write([]byte(beganText(0)), beganFile); err != nil {
			return nil, err
		}
	}
	own, err := contact(opened, addresses)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		if own.Addresses, err = knownAddresses(c, d, own.ID); err != nil {
			return nil, err
		}
	}
	b, err := directory.FormatNetwork(name, period, []directory.Contact{own})
	if err != nil {
		return nil, err
	}
	return directory.ParseNetwork(b)
}

// checkNetwork holds what was given to the form of a network file, before anything is made.
func checkNetwork(d Deps, name string, period time.Duration, addresses []string) error {
	k, err := directory.GenerateKey(d.Rand)
	if err != nil {
		return err
	}
	if _, err := directory.NewNetwork(name, period, []*directory.PublicKey{k.Public()}); err != nil {
		return err
	}
	if _, err := directory.FormatNetwork(name, period, []directory.Contact{{Key: k.Public(), Addresses: addresses}}); err != nil {
		return errs.E("role/authority.Init", errs.Invalid, fmt.Sprintf("an authority has 1 to %d addresses, each a host and a port", directory.MaxAddresses), err)
	}
	return nil
}

// knownAddresses are those of an authority in the network file.
func knownAddresses(c Config, d Deps, id packet.ID) ([]string, error) {
	n, err := LoadNetwork(d.FS, c.Network)
	if err != nil {
		return nil, err
	}
	for _, o := range n.Contacts() {
		if o.ID == id {
			return o.Addresses, nil
		}
	}
	return nil, errs.E("role/authority.Init", errs.Invalid, "the network file "+c.Network+" does not name this authority: say at which addresses others reach it", nil)
}

// Uninit takes back what Init made, as far as nothing else came into the directory.
func Uninit(c Config, d Deps) {
	d = d.withDefaults()
	k := disk{d.FS, c.Dir}
	_ = d.FS.RemoveAll(k.path(keyDir))
	_ = d.FS.Remove(k.path(beganFile))
	_ = d.FS.Remove(k.path(daemon.LockName))
	if names, err := d.FS.List(c.Dir); err == nil && len(names) == 0 {
		_ = d.FS.Remove(c.Dir)
	}
}
