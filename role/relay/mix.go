package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/agent/exit"
	"postern.email/agent/mixbox"
	"postern.email/agent/mixdoor"
	"postern.email/agent/receive"
	"postern.email/kit/daemon"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/dircache"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/feed"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/link"
	"postern.email/mixnet/node"
	"postern.email/mixnet/stats"
	"postern.email/post/packetbox"
	"postern.email/post/seal"
	"postern.email/wire/web"
)

// What lies in mixDir in the data directory.
const (
	mixDir      = "mix"
	mixKeysDir  = "keys"
	mixLogDir   = "log"
	mixCacheDir = "dir"
	mixStats    = "stats"
	mixStatsTmp = "stats.tmp"
	mixDesc     = "current-desc"
	mixPeerTime = 15 * time.Minute // a link from which nothing comes for so long is closed
	mixDoorDir  = "door"
	mixUsedTime = time.Minute
)

// mixPart is this relay as a node of a mix network. A nil one is none.
type mixPart struct {
	s       *Server
	network *directory.Network
	text    string // the network file
	keys    *keys.Keys
	name    *directory.PrivateKey // signs certificates of mailboxes
	letter  *letter.PrivateKey    // opens letters to this relay
	stats   *stats.Stats
	cache   *dircache.Cache
	feed    *feed.Feed
	door    *mixdoor.Door
	exit    *exit.Exit   // nil: this relay is none
	issuer  *exit.Issuer // nil: it gives no tokens
	tokens  atomic.Pointer[[]directory.TokenKey]
	node    *node.Node // nil until the port of its links is known

	ctx   context.Context // ends with the listener
	end   context.CancelFunc
	tasks sync.WaitGroup
}

var nickname = regexp.MustCompile(`^[A-Za-z0-9_-]{1,` + strconv.Itoa(directory.MaxNickname) + `}$`)
var family = regexp.MustCompile(`^[a-z0-9.-]{0,` + strconv.Itoa(directory.MaxName) + `}$`)

// checkMix finds options of the mix network that make no sense together.
func (c *Config) checkMix() string {
	m := &c.Mixnet
	switch {
	case m.Keep.Std()%day != 0: // the day is all that is kept
		return "mixnet.keep_packets must be a number of whole days, such as 30d"
	case c.Exit.Enabled && !m.Enabled:
		return "exit.enabled is on: an exit is in a mix network, see mixnet.enabled"
	case c.Exit.Enabled && strings.HasPrefix(c.withLiteral().Domain, "["):
		return "exit.enabled is on: an exit needs a domain name"
	case !m.Enabled:
		return ""
	case m.Network == "":
		return "mixnet.enabled is on: say in mixnet.network where the network file is"
	case !nickname.MatchString(m.Nickname):
		return "mixnet.nickname must be 1 to 19 letters, digits, hyphens or underscores"
	case !family.MatchString(m.Family):
		return "mixnet.family is at most 32 small letters, digits, dots or hyphens"
	case m.Listen == "off":
		return "mixnet.enabled is on and mixnet.listen is off: a relay of a mix network must be reachable"
	}
	for _, a := range m.Addresses {
		host, port, err := net.SplitHostPort(a)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
			return "mixnet.addresses holds host:port, such as \"relay.example:48099\", not \"" + a + "\""
		}
	}
	return ""
}

// openPackets opens the mailboxes of the mix network.
func (s *Server) openPackets(ctx context.Context) (err error) {
	m := &s.c.Mixnet
	s.packets, err = packetbox.Open(ctx, packetbox.Options{Store: s.db, Root: s.root, MaxPackets: m.Packets, Retention: m.Keep.Std(),
		May: s.mayHavePackets, Deleted: s.boxes.NoteDeleted, Now: s.d.Now, Logger: s.d.Logger})
	return err
}

// mayHavePackets says whether an account gets packets: not while it is blocked, and not now
// while it is being reset.
func (s *Server) mayHavePackets(ctx context.Context, id seal.AccountID) error {
	a, err := s.accounts.ByNumber(ctx, id)
	if err == nil && a.Blocked {
		err = errs.E("role/relay.mayHavePackets", errs.Denied, "", nil)
	}
	return err
}

// dropPackets removes what an account has in the mix network, and ends its clients'
// connections.
func (s *Server) dropPackets(ctx context.Context, id seal.AccountID) error {
	err := s.packets.Drop(ctx, id)
	s.mix.recheck()
	return err
}

func (s *Server) mixPath(name string) string { return s.d.FS.PathJoin(s.path(mixDir), name) }

// openMix opens everything of the mix network but the node itself, which has to know its port.
func (s *Server) openMix() error {
	const op = "role/relay.openMix"
	c, d := &s.c.Mixnet, &s.d
	if !c.Enabled {
		return nil
	}
	text, err := vfs.ReadFile(d.FS, c.Network)
	if err != nil {
		return errs.E(op, errs.KindOf(err), "cannot read the network file "+c.Network+" (mixnet.network)", err)
	}
	m := &mixPart{s: s, text: string(text), feed: feed.New(feed.Options{Boxes: mixbox.Waiting{Boxes: s.packets}, Logger: d.Logger})}
	if m.network, err = directory.ParseNetwork(text); err != nil {
		return errs.E(op, errs.KindOf(err), c.Network+": "+errs.Public(err), err)
	}
	if err := vfs.MkdirAll(d.FS, s.path(mixDir), 0o700); err != nil {
		return errs.E(op, errs.KindOf(err), "cannot make the directory "+s.path(mixDir), err)
	}
	if m.keys, err = keys.Create(s.mixKeyOptions(m.network.Period())); err != nil {
		return err
	}
	if m.name, err = s.nameKey(true); err != nil {
		return err
	}
	if m.letter, err = s.letterKey(true); err != nil {
		return err
	}
	m.stats, err = stats.Open(stats.Options{FS: d.FS, Cache: s.mixPath(mixStatsTmp), File: s.mixPath(mixStats), Interval: c.Interval.Std().Truncate(time.Second),
		Now: d.Now, Log: d.Logger})
	if err != nil {
		return err
	}
	m.cache, err = dircache.Open(dircache.Options{FS: d.FS, Dir: s.mixPath(mixCacheDir), Network: m.network, Early: true, Now: d.Now, Log: d.Logger,
		Sources: func() []dircache.Source { return m.node.Sources() }, // it is asked by the node alone
		Changed: func(*directory.Consensus) {
			if m.node != nil {
				m.node.Renew()
			}
		},
		Warn: func(w directory.Warning) {
			d.Logger.Warn("the directory of the mix network has a flaw", "flaw", w.String())
		},
		Proof: func(*directory.Proof) {
			d.Logger.Error("an authority of the mix network broke a rule; the proof is kept in " + mixDir + "/" + mixCacheDir)
		}})
	if err != nil {
		return err
	}
	m.ctx, m.end = context.WithCancel(context.Background())
	s.mix = m
	return nil
}

// startMix makes the node when the port of its links is known. rules judge the mail that comes
// through it to ordinary mailboxes.
func (s *Server) startMix(rules *receive.Receive) error {
	m, d := s.mix, &s.d
	if m == nil {
		return nil
	}
	var err error
	if err = s.openExit(); err != nil {
		return err
	}
	if m.door, err = s.openDoor(rules); err != nil {
		return err
	}
	o := node.Options{FS: d.FS, Dir: s.mixPath(mixLogDir), Keys: m.keys, Network: m.network, Cache: m.cache, Settings: m.settings(),
		Clients: m.client, Opened: m.opened, Boxes: mixbox.Arrivals{Boxes: s.packets}, Exits: m.door, Documents: m.document, Services: m.services(), Stats: m.stats,
		Link: link.Options{Conns: s.c.Mixnet.Clients, DrainTime: s.grace(), PeerOf: daemon.PeerOf},
		Rand: d.Rand, Now: d.Now, Logger: d.Logger}
	if d.Dial != nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.Dial(ctx, "tcp", addr) }
	}
	m.node, err = node.New(o)
	return err
}

// settings is what the descriptor says.
func (m *mixPart) settings() node.Settings {
	c := &m.s.c
	about := directory.Node{Nickname: c.Mixnet.Nickname, Mode: directory.Relay | directory.Mailbox, Addresses: c.Mixnet.Addresses, Family: c.Mixnet.Family,
		Version: strings.ToLower(Version), NameKey: m.name.Public(), LetterKey: m.letter.Public().Bytes()}
	if c.Exit.Enabled {
		about.Mode |= directory.Exit
		about.Parameters = directory.Parameters{{Name: directory.ExitParameter, Value: c.exitFlags()}}
	}
	if keys := m.tokens.Load(); keys != nil {
		about.TokenKeys = *keys
	}
	if len(about.Addresses) == 0 {
		about.Addresses = []string{net.JoinHostPort(c.host(), strconv.Itoa(m.s.portOf("mix")))}
	}
	if !strings.HasPrefix(c.Domain, "[") { // the names of an address literal are nobody's
		about.Domains = c.namedDomains()
	}
	return node.Settings{About: about, Operator: directory.Operator{Contact: c.Mixnet.Contact}, Publish: c.Mixnet.Publish}
}

// namedDomains are the domains that the descriptor names, sorted: mail for an account or an alias there comes straight
// through the network. Of more than a descriptor may have, the last ones of aliases are reached by ordinary mail only.
func (c *Config) namedDomains() []string {
	list := []string{mail.CanonicalDomain(c.Domain)}
	for _, d := range c.furtherDomains() {
		if len(list) < directory.MaxDomains {
			list = append(list, d)
		}
	}
	slices.Sort(list)
	return list
}

// run is the node at work.
func (m *mixPart) run(ctx context.Context, l net.Listener) error {
	defer m.end()
	return m.node.Run(ctx, l)
}

// close gives back what openMix and startMix took, after run has ended.
func (m *mixPart) close() error {
	if m == nil {
		return nil
	}
	m.end()
	m.tasks.Wait()
	m.feed.Wait()
	err := m.closeExit()
	if m.node != nil {
		err = errors.Join(err, m.node.Close())
	}
	return err
}

// recheck ends the connections of clients that are none any more.
func (m *mixPart) recheck() {
	if m != nil && m.node != nil {
		m.node.Recheck()
	}
}

// client tells whose client a link key is: nobody's, if the account is blocked.
func (m *mixPart) client(k link.Key) (account [8]byte, ok bool) {
	id, err := m.s.packets.Client(m.ctx, k)
	if err == nil {
		err = m.s.mayHavePackets(m.ctx, id)
	}
	if err != nil {
		if kind := errs.KindOf(err); kind != errs.NotFound && kind != errs.Denied {
			m.s.d.Logger.Warn("it cannot be told whether a key is a client's", "kind", kind)
		}
		return [8]byte{}, false
	}
	return id, true
}

// opened begins to hand over what waits for a client, and notes that its account is in use.
func (m *mixPart) opened(c *link.Conn) {
	m.feed.Opened(c)
	m.tasks.Go(func() {
		ctx, cancel := context.WithTimeout(m.ctx, mixUsedTime)
		defer cancel()
		if err := m.s.accounts.Used(ctx, c.Peer().Account); err != nil && ctx.Err() == nil {
			m.s.d.Logger.Warn("the day of a client's connection was not written", "kind", errs.KindOf(err))
		}
	})
}

// entry is what a client needs to begin.
func (m *mixPart) entry(mailbox [32]byte) web.MixEntry {
	id := m.node.ID()
	e := web.MixEntry{Network: m.text, Node: fmt.Sprintf("%x", id[:]), LinkKey: m.node.Link().Key().String(),
		Addresses: m.settings().About.Addresses, Mailbox: fmt.Sprintf("%x", mailbox)}
	if c, err := m.cache.Current(); err == nil {
		e.Consensus = c.Bytes()
	}
	return e
}
