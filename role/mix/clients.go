package mix

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/content"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/post/seal"
)

// MaxClients bounds the clients of a bare relay.
const MaxClients = 100_000

// clients are those who may use a bare node as their relay. The zero value is none. It may
// be used by many goroutines.
type clients struct {
	table atomic.Pointer[clientTable]
}

// clientTable is what was read of a file of clients. It does not change.
type clientTable struct {
	accounts  map[link.Key][8]byte // by link key
	mailboxes map[packet.ID]seal.AccountID
	ids       map[seal.AccountID]bool
}

// Client tells whether a key is of a client, and of which account. Two keys are two accounts.
func (c *clients) Client(k link.Key) (account [8]byte, ok bool) {
	if t := c.table.Load(); t != nil {
		account, ok = t.accounts[k]
	}
	return account, ok
}

// mailbox finds the account of a mailbox on the network.
func (c *clients) mailbox(id packet.ID) (account seal.AccountID, ok bool) {
	if t := c.table.Load(); t != nil {
		account, ok = t.mailboxes[id]
	}
	return account, ok
}

func (c *clients) has(id seal.AccountID) bool {
	t := c.table.Load()
	return t != nil && t.ids[id]
}

// all gives key and account of each.
func (c *clients) all() map[link.Key][8]byte {
	if t := c.table.Load(); t != nil {
		return t.accounts
	}
	return nil
}

// read takes the clients of a node from their file in place of those before. A file that is
// not there is one without clients.
func (c *clients) read(fs vfs.FS, path string, self packet.ID) error {
	const op = "role/mix.clients.read"
	text, err := vfs.ReadFile(fs, path)
	if err != nil && errs.KindOf(err) != errs.NotFound {
		return errs.E(op, errs.KindOf(err), "cannot read the clients in "+path, err)
	}
	keys, err := ParseClients(text)
	if err != nil {
		return errs.E(op, errs.KindOf(err), path+": "+errs.Public(err), err)
	}
	t := &clientTable{make(map[link.Key][8]byte, len(keys)), make(map[packet.ID]seal.AccountID, len(keys)), make(map[seal.AccountID]bool, len(keys))}
	for _, k := range keys {
		id := accountOf(k)
		t.accounts[k], t.mailboxes[content.ClientMailbox(self, k)], t.ids[id] = id, id, true
	}
	c.table.Store(t)
	return nil
}

// accountOf names the account of a client: the node keeps its limits and its box by it.
func accountOf(k link.Key) (account [8]byte) {
	sum := sha256.Sum256(append([]byte("postern/client\n"), k[:]...))
	copy(account[:], sum[:])
	return account
}

// ParseClients reads a file of clients: a link key in 64 digits of hex each line, then, behind
// blanks, what the operator likes. Empty lines and those that begin with # are nothing.
// errs.Invalid with the line, errs.TooLarge beyond MaxClients.
func ParseClients(text []byte) (all []link.Key, err error) {
	const op = "role/mix.ParseClients"
	seen := map[link.Key]int{}
	number := 0
	for line := range bytes.Lines(text) {
		number++
		word, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(string(line)), "\t", " "), " ")
		if word == "" || word[0] == '#' {
			continue
		}
		var k link.Key
		if n, err := hex.DecodeString(word); err != nil || len(n) != len(k) {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("line %d: a link key is 64 digits of hex", number), err)
		} else {
			copy(k[:], n)
		}
		if before, twice := seen[k]; twice {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("line %d: the key is in line %d too", number, before), nil)
		}
		if len(all) == MaxClients {
			return nil, errs.E(op, errs.TooLarge, fmt.Sprintf("more than %d clients", MaxClients), nil)
		}
		seen[k] = number
		all = append(all, k)
	}
	return all, nil
}
