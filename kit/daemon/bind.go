package daemon

import (
	"errors"
	"io/fs"
	"net"
	"syscall"

	"postern.email/kit/errs"
)

// Bind listens on addr by TCP, with listen (net.Listen). option is where the address stands in the
// configuration; the public texts of errors name both: errs.Exists where another process has the
// port, errs.Denied where this user may not have it, else errs.Unavailable.
func Bind(listen func(network, addr string) (net.Listener, error), addr, option string) (net.Listener, error) {
	const op = "kit/daemon.Bind"
	l, err := listen("tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errs.E(op, errs.Exists, addr+" is in use by another process; choose another with "+option+", in the configuration or by --set", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, errs.E(op, errs.Denied, addr+" is not allowed to this user (wanted for "+option+"); ports below 1024 need root or CAP_NET_BIND_SERVICE", err)
	}
	return nil, errs.E(op, errs.Unavailable, "cannot listen on "+addr+" (wanted for "+option+")", err)
}
