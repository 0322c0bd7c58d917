package daemon

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"postern.email/kit/errs"
)

// TestBind: a port that is free is taken; why one is not is told, with the option that chooses it.
func TestBind(t *testing.T) {
	l, err := Bind(net.Listen, "127.0.0.1:0", "listen.imap")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Bind(net.Listen, l.Addr().String(), "listen.imap"); errs.KindOf(err) != errs.Exists || !strings.Contains(errs.Public(err), l.Addr().String()+" is in use by another process; choose another with listen.imap") {
		t.Errorf("taken: %v", err)
	}
	for kind, cause := range map[errs.Kind]error{errs.Denied: os.NewSyscallError("bind", syscall.EACCES), errs.Unavailable: errors.New("no such network")} {
		_, err := Bind(func(network, _ string) (net.Listener, error) {
			return nil, &net.OpError{Op: "listen", Net: network, Err: cause}
		}, ":25", "listen.smtp")
		var op *net.OpError
		if errs.KindOf(err) != kind || !strings.Contains(errs.Public(err), ":25") || !strings.Contains(errs.Public(err), "listen.smtp") || !errors.As(err, &op) || op.Net != "tcp" {
			t.Errorf("%v: %v", kind, err)
		}
	}
}
