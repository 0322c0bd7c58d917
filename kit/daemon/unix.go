package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

func isTemporary(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}

// Harden keeps the process's memory out of core dumps and away from other
// processes of the same user (ptrace, /proc/PID/mem), and makes every file that
// it creates readable by its own user only. Exec undoes the second part, so each
// start calls it.
func Harden() error {
	const op = "kit/daemon.Harden"
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return errs.E(op, errs.Unavailable, "cannot turn core dumps off", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return errs.E(op, errs.Unavailable, "cannot turn core dumps off", err)
	}
	return nil
}

// Notify tells systemd about a state ("READY=1", "STOPPING=1", "RELOADING=1",
// "STATUS=…"; sd_notify(3)). Without NOTIFY_SOCKET it does nothing.
func Notify(getenv func(string) string, state string) error {
	path := getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	const op = "kit/daemon.Notify"
	if path[0] == '@' { // abstract name space
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return errs.E(op, errs.Unavailable, "", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return errs.E(op, errs.Unavailable, "", err)
	}
	return nil
}

// Signals turns signals into calls until stop is called. The first SIGINT or
// SIGTERM ends the returned context; the second calls force, which should end the
// process at once. SIGHUP calls reload.
func Signals(parent context.Context, reload, force func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		asked := false
		for {
			select {
			case s := <-ch:
				switch {
				case s == syscall.SIGHUP:
					reload()
				case asked:
					force()
				default:
					asked = true
					cancel()
				}
			case <-quit:
				return
			}
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		close(quit)
		<-gone
		cancel()
	}
}
