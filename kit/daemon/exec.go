package daemon

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"postern.email/kit/errs"
)

// The environment of sd_listen_fds(3), and our own variable for a planned
// restart: "pid name=fd name=fd …". The pid stays the same over exec. Our own
// descriptors keep high numbers, because those from 3 on are in use by the Go
// runtime of the process that calls exec.
const (
	envPID     = "LISTEN_PID"
	envFDs     = "LISTEN_FDS"
	envNames   = "LISTEN_FDNAMES"
	envRestart = "POSTERN_INHERIT"
	firstFD    = 3
	maxFDs     = 64
	highFD     = 100
)

// keysName is the name under which the memory file of a restart is handed on.
const keysName = "postern-keys"

// Inherited is what a process got from systemd or from its own predecessor.
type Inherited struct {
	Sockets map[string]net.Listener // by name; systemd's FileDescriptorName=
	Secret  []byte                  // what Exec was given, nil otherwise
	Restart bool                    // a predecessor called Exec
}

// Inherit takes over the passed descriptors and removes the variables from the
// environment, so that no child takes them for its own. It may be called once.
func Inherit() (Inherited, error) {
	const op = "kit/daemon.Inherit"
	got := Inherited{Sockets: map[string]net.Listener{}}
	pid, n, names, own := os.Getenv(envPID), os.Getenv(envFDs), os.Getenv(envNames), os.Getenv(envRestart)
	for _, k := range []string{envPID, envFDs, envNames, envRestart} {
		os.Unsetenv(k)
	}
	me := strconv.Itoa(os.Getpid())
	if pid == me {
		count, err := strconv.Atoi(n)
		if err != nil || count < 0 || count > maxFDs {
			return got, errs.E(op, errs.Invalid, envFDs+" is not a number of descriptors", err)
		}
		name := strings.Split(names, ":")
		for i := range count {
			nm := ""
			if i < len(name) {
				nm = name[i]
			}
			if err := got.take(nm, firstFD+i); err != nil {
				return got, err
			}
		}
	}
	if words := strings.Fields(own); len(words) > 0 && len(words) <= maxFDs+1 && words[0] == me {
		got.Restart = true
		for _, w := range words[1:] {
			nm, num, _ := strings.Cut(w, "=")
			fd, err := strconv.Atoi(num)
			if err != nil || fd < highFD {
				return got, errs.E(op, errs.Invalid, envRestart+" is malformed", err)
			}
			if err := got.take(nm, fd); err != nil {
				return got, err
			}
		}
	}
	return got, nil
}

// take makes descriptor fd ours.
func (in *Inherited) take(name string, fd int) error {
	const op = "kit/daemon.Inherit"
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return errs.E(op, errs.Invalid, "", nil)
	}
	defer f.Close()
	if name == keysName {
		b, err := io.ReadAll(io.LimitReader(f, maxSecret))
		if err != nil {
			return errs.E(op, errs.Unavailable, "", err)
		}
		in.Secret = b
		return nil
	}
	l, err := net.FileListener(f) // has its own copy of the descriptor
	if err != nil {
		return errs.E(op, errs.Invalid, "descriptor "+strconv.Itoa(fd)+" is not a listening socket", err)
	}
	in.Sockets[name] = l
	return nil
}

// maxSecret bounds what a restart hands on in memory, in bytes.
const maxSecret = 256 << 20

// MemoryFile makes an anonymous file in memory, named for /proc only, that holds
// data. It never touches a disk (memfd_create(2)), but can be swapped: the
// service's unit forbids swap.
func MemoryFile(name string, data []byte) (*os.File, error) {
	const op = "kit/daemon.MemoryFile"
	if len(data) > maxSecret {
		return nil, errs.E(op, errs.TooLarge, "", nil)
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, errs.E(op, errs.Unavailable, "", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, errs.E(op, errs.Unavailable, "", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		f.Close()
		return nil, errs.E(op, errs.Unavailable, "", err)
	}
	return f, nil
}

// Socket gives a copy of a listener's descriptor, which outlives the listener:
// clients that connect during a restart wait in its queue.
func Socket(l net.Listener) (*os.File, error) {
	if w, ok := l.(*Listener); ok {
		l = w.inner
	}
	f, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, errs.E("kit/daemon.Socket", errs.Unsupported, "", errors.New("no descriptor"))
	}
	return f.File()
}

// Exec replaces this process by path with the same arguments and environment,
// handing on the sockets by name and the secret in memory. It returns only with
// an error. Everything must have been stopped and synced before.
func Exec(path string, args []string, sockets map[string]*os.File, secret []byte) error {
	const op = "kit/daemon.Exec"
	var files []*os.File
	var names []string
	for name, f := range sockets {
		files, names = append(files, f), append(names, name)
	}
	if secret != nil {
		f, err := MemoryFile(keysName, secret)
		if err != nil {
			return err
		}
		files, names = append(files, f), append(names, keysName)
	}
	if len(files) > maxFDs {
		return errs.E(op, errs.TooLarge, "", nil)
	}
	list := strconv.Itoa(os.Getpid())
	for i, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, highFD) // without CLOEXEC: it is handed on
		if err != nil {
			return errs.E(op, errs.Unavailable, "", err)
		}
		list += fmt.Sprintf(" %s=%d", names[i], fd)
	}
	return errs.E(op, errs.Unavailable, "", syscall.Exec(path, args, append(os.Environ(), envRestart+"="+list)))
}
