package world

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/kit/vfs"
	"postern.email/wire/pop3"
)

// maxBox is how many mails POP3 shows of a mailbox.
const maxBox = 10_000

// boxes are the mailboxes: a Maildir for each account, mails with CRLF. It is used by many
// goroutines.
type boxes struct {
	dir      string
	accounts map[string]string

	mu   sync.Mutex
	busy map[string]bool // open by POP3
}

// there tells whether there is an account.
func (b *boxes) there(local string) bool {
	_, ok := b.accounts[strings.ToLower(local)]
	return ok
}

// check compares a password. The name is one with or without the domain.
func (b *boxes) check(name, password string) (local string, ok bool) {
	local, _, _ = strings.Cut(strings.ToLower(name), "@")
	want, there := b.accounts[local]
	return local, there && subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1
}

// deliver writes a mail; nil: it is on the disk.
func (b *boxes) deliver(local string, raw []byte) error {
	const op = "lab/world.deliver"
	dir := filepath.Join(b.dir, strings.ToLower(local), "new")
	err := vfs.MkdirAll(vfs.OS(), dir, 0o700)
	if err == nil {
		name := fmt.Sprintf("%020d.%s.lab", time.Now().UnixNano(), rand.Text())
		err = vfs.WriteFileAtomic(vfs.OS(), filepath.Join(dir, name), raw, 0o600)
	}
	if err != nil {
		return errs.E(op, errs.KindOf(err), "the mail cannot be stored", err)
	}
	return nil
}

// Login implements pop3.Backend.
func (b *boxes) Login(_ context.Context, _ limits.Peer, name, password string) (pop3.Maildrop, error) {
	const op = "lab/world.Login"
	local, ok := b.check(name, password)
	if !ok {
		return nil, errs.E(op, errs.Auth, "", nil)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy[local] {
		return nil, errs.E(op, errs.Exists, "the mailbox is open in another session", nil)
	}
	d := &drop{boxes: b, local: local, dir: filepath.Join(b.dir, local, "new")}
	list, err := os.ReadDir(d.dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, errs.E(op, errs.Unavailable, "the mailbox cannot be read", err)
	}
	for _, e := range list {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".lab") && len(d.names) < maxBox {
			d.names, d.sizes = append(d.names, e.Name()), append(d.sizes, info.Size())
		}
	}
	b.busy[local] = true
	return d, nil
}

// drop implements pop3.Maildrop.
type drop struct {
	boxes *boxes
	local string
	dir   string
	names []string
	sizes []int64
}

func (d *drop) Len() int                                     { return len(d.names) }
func (d *drop) Size(_ context.Context, i int) (int64, error) { return d.sizes[i], nil }
func (d *drop) UID(i int) string                             { return strings.TrimSuffix(d.names[i], ".lab") }
func (d *drop) Open(_ context.Context, i int) (io.ReadCloser, error) {
	b, err := vfs.ReadFile(vfs.OS(), filepath.Join(d.dir, d.names[i]))
	if err != nil {
		return nil, errs.E("lab/world.Open", errs.KindOf(err), "the mail cannot be read", err)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (d *drop) Delete(_ context.Context, indexes []int) error {
	for _, i := range slices.Compact(indexes) {
		if err := os.Remove(filepath.Join(d.dir, d.names[i])); err != nil && !os.IsNotExist(err) {
			return errs.E("lab/world.Delete", errs.Unavailable, "the mail cannot be deleted", err)
		}
	}
	return nil
}

func (d *drop) Close() {
	d.boxes.mu.Lock()
	defer d.boxes.mu.Unlock()
	delete(d.boxes.busy, d.local)
}
