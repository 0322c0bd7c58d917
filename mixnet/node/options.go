package node

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/retry"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/replay"
)

// Options say what a node works with. FS, Dir, Keys, Network, Cache and what Settings
// asks for are needed. Zero values of the others mean the defaults.
type Options struct {
	FS      vfs.FS
	Dir     string // of the log of packets
	Keys    *keys.Keys
	Network *directory.Network
	Cache   Directory // *dircache.Cache. Its Options.Changed should call Renew, its Sources be Sources

	Settings // what Reload may change

	// Clients says which account a link key belongs to; it must be quick. nil: nobody but nodes
	// may connect. Only of a Relay. Recheck is to be called when its answers change.
	Clients func(link.Key) (account [8]byte, ok bool)
	// Opened and Closed are told of the connections of clients, before anything is read from
	// one and when it has ended: what is posted to the connection goes to the client. Quick.
	Opened, Closed func(*link.Conn)

	Boxes Boxes // of a Mailbox
	Exits Exits // of an Exit, and of a Mailbox that takes mail for ordinary mailboxes
	Stats Counter

	// Services answer queries, of a Mailbox or an Exit; nil: queries are dropped. ServiceRate
	// bounds the queries that are served in a second, 0: DefaultServiceRate; ServiceQueue those
	// that wait, 0: DefaultServiceQueue. Beyond, the answer is content.AnswerLater.
	Services                  Services
	ServiceRate, ServiceQueue int

	// Documents answers requests that the directory does not: after errs.NotFound or
	// errs.Unsupported. nil: there are none.
	Documents func(ctx context.Context, from link.Peer, request []byte) ([]byte, error)

	// Lose is of experiments alone: it is asked once for each packet that could be sent on, and one of
	// which it says true is lost, as if the network had lost it behind this node. It must serve many
	// goroutines. nil: none is lost.
	Lose func() bool

	Log  replay.Options                                           // bounds of the log; FS, Dir, Secret, Rand, Now and Log are filled in
	Pool pool.Options                                             // Memory and FlushAge; the rest is filled in
	Link link.Options                                             // bounds, times, PeerOf; the rest is filled in
	Dial func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP

	Workers int // that unwrap; 0: one a processor

	Rand   io.Reader      // must serve many goroutines; nil: crypto/rand
	Chance func() float64 // from 0 to less than 1, for times that should not fall together; must serve many goroutines; nil: math/rand, seeded by the system
	Now    func() time.Time
	Logger *slog.Logger // nil: nothing is logged

	noLoops bool // of tests that count packets
}

// Settings are what Reload may change while the node runs.
type Settings struct {
	// About is what the descriptor says. Keys, LinkKey, Mixing and Residence are filled in.
	About directory.Node
	// Operator is what the descriptor says of who runs the node.
	Operator directory.Operator
	// Mixing is the rule of the pool; zero: Poisson. Only a mix may have another.
	Mixing pool.Config
	// Retry says how long a packet is kept for a node, a box or an exit that does not take it,
	// counted from the first try, and how long to leave one alone that answered "later", at most.
	// nil: mixminiond's "every 1 h for 1 day, 7 h for 5 days".
	Retry Schedule
	// Publish: the descriptor is given to the authorities. Otherwise it is only written.
	Publish bool
	// PeerOk says which addresses may connect, DialOk which may be connected to. nil: all.
	PeerOk, DialOk func(netip.Addr) bool
	// Conns is how many connections others may have open at once; 0: as Options.Link says.
	Conns int
	// Bandwidth bounds each direction.
	Bandwidth Bandwidth
	// Extra are nodes that are known beside the directory, so that one can be tried before it is
	// listed: there are links to and from them, and packets may go there next. Loops do not. One
	// that the directory lists counts as it is listed; one that is not fresh, or a mix that says no
	// layer (directory.LayerParameter, as About says that of this node itself), is as unknown.
	Extra []*directory.Descriptor
	// Insecure are reasons for Status.Insecurities that only the role knows.
	Insecure []string
}

// Bandwidth bounds the bytes a second of all links together, in each direction.
type Bandwidth struct {
	Rate  int64 // bytes a second; 0: no bound
	Spike int64 // bytes at once; 0: one second's, at least one frame
}

// Schedule says when something that failed is tried again: first is when it was tried first,
// last when it was tried last. false: it is given up. retry.Schedule is one.
type Schedule interface {
	Next(first, last time.Time) (time.Time, bool)
}

var _ Schedule = retry.Schedule{}

// Directory is what the node knows of the network; *dircache.Cache is one.
type Directory interface {
	Current() (*directory.Consensus, error) // good now
	Next() *directory.Consensus             // of the next epoch; nil: not known yet
	Of(epoch uint64) *directory.Consensus   // of an epoch; nil: not known any more
	Answer(request []byte) ([]byte, error)  // to other members
	Run(ctx context.Context) error          // keeps it up to date; the node runs it
}

// Counter counts events; *stats.Stats is one. It must be quick, and serves many goroutines.
type Counter interface {
	Count(event, arg string)
}

// Arrival is a packet for a mailbox of this relay.
type Arrival struct {
	Mailbox packet.ID
	Reply   bool        // Payload is an answer to the reply block of Mark (packet.OpenReply); else a packet.Content
	Mark    packet.Mark // of a reply; else zero
	Payload []byte      // packet.PayloadLen bytes, whole or broken: they are to be kept alike
	Name    [16]byte    // the same when the packet is put again after a crash; tells nothing of it
}

// Boxes keep packets for mailboxes; post/packetbox has one.
type Boxes interface {
	// Put keeps a list of packets and gives an error for each. It returns when those with nil
	// are durable; one that is there already, by its name, is nil too. errs.NotFound,
	// errs.Full and errs.Denied mean that the packet is given up; with any other it is put
	// again later. It must not keep or change the payloads, and returns when ctx ends.
	Put(ctx context.Context, list []Arrival) []error
}

// Exits take what leaves the mix network here.
type Exits interface {
	// Exit takes one content over; it is durable on return, or done. name is the same when it
	// comes again, after a crash or because it could not be acknowledged. Temporary kinds of errors are tried again. It must not keep or
	// change the body, and returns when ctx ends. content.Mail comes without the head of its
	// window; when Exit has taken it, the node gives the acknowledgement that the sender asks for.
	Exit(ctx context.Context, name [16]byte, c packet.Content) error
}

// Public texts.
const (
	publicMissing   = "something that a node needs is missing"
	publicMixing    = "only a mix chooses how it mixes"
	publicBoxes     = "a node is a mailbox or an exit if it has somewhere to put packets, and not otherwise"
	publicClients   = "only a relay has clients"
	publicRunning   = "the node runs already, or has run"
	publicNoNetwork = "there is no valid directory of the network yet"
)

func (o Options) complete() (Options, error) {
	const op = "mixnet/node.New"
	if o.FS == nil || o.Dir == "" || o.Keys == nil || o.Network == nil || o.Cache == nil || o.About.Mode == 0 {
		return o, errs.E(op, errs.Invalid, publicMissing, nil)
	}
	mode := o.About.Mode
	switch {
	case mode.Has(directory.Mailbox) != (o.Boxes != nil), mode.Has(directory.Exit) && o.Exits == nil,
		!layersOf(mode, 0).has(packet.Last) && (o.Exits != nil || o.Services != nil):
		return o, errs.E(op, errs.Invalid, publicBoxes, nil)
	case o.ServiceRate < 0, o.ServiceQueue < 0:
		return o, errs.E(op, errs.Invalid, "", errors.New("a bound of services is negative"))
	case o.Clients != nil && !mode.Has(directory.Relay):
		return o, errs.E(op, errs.Invalid, publicClients, nil)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Chance == nil {
		o.Chance = mathrand.Float64
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Stats == nil {
		o.Stats = noCounter{}
	}
	if o.ServiceRate == 0 {
		o.ServiceRate = DefaultServiceRate
	}
	if o.ServiceQueue == 0 {
		o.ServiceQueue = DefaultServiceQueue
	}
	if o.Log.FS != nil || o.Log.Secret != nil || o.Pool.Log != nil || o.Link.Handler != nil || o.Link.Who != nil {
		return o, errs.E(op, errs.Invalid, "", errors.New("what the node fills in is filled in"))
	}
	var err error
	o.Settings, err = o.Settings.complete(op)
	return o, err
}

// complete fills in the defaults and checks what does not fit together.
func (s Settings) complete(op string) (Settings, error) {
	if s.Mixing.Algorithm == "" {
		s.Mixing = pool.Default(pool.Poisson)
	}
	if err := s.Mixing.Check(); err != nil {
		return s, errs.Wrap(op, err)
	}
	if s.Mixing.Algorithm != pool.Poisson && s.About.Mode != directory.Mix {
		return s, errs.E(op, errs.Invalid, publicMixing, nil)
	}
	if s.Retry == nil {
		def, err := retry.Parse(DefaultRetry)
		if err != nil {
			return s, errs.Wrap(op, err)
		}
		s.Retry = def
	}
	return s, nil
}

// DefaultRetry is mixminiond's.
const DefaultRetry = "every 1 h for 1 day, 7 h for 5 days"

type noCounter struct{}

func (noCounter) Count(string, string) {}
