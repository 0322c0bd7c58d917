package link

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"postern.email/kit/defaults"
	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mixnet/packet"
)

// Version of the link protocol.
const Version = 1

// Defaults (docs/link.md §6).
const (
	DefaultConns             = 1024
	DefaultConnsPerNetwork   = 16
	DefaultConnsPerKey       = 4
	DefaultHandshakes        = 120 // a minute from one network
	DefaultHandshakeBurst    = 60
	DefaultNodeFrames        = 600_000 // a minute
	DefaultNodeFrameBurst    = 1024
	DefaultClientFrames      = 120 // a minute
	DefaultClientFrameBurst  = 256
	DefaultMemory            = 64 << 20
	DefaultQueue             = 256
	DefaultMaxDocument       = 8 << 20
	DefaultHandshakeTime     = 20 * time.Second
	DefaultFrameTime         = time.Minute
	DefaultIdle              = 15 * time.Minute
	DefaultAnswerTime        = 2 * time.Minute
	DefaultAnswerTimeOfPaced = 15 * time.Minute
	DefaultDrainTime         = 30 * time.Second
	DefaultMinLife           = 15 * time.Minute
	DefaultMaxLife           = time.Hour
	DefaultMinPause          = time.Second
	DefaultMaxPause          = 5 * time.Minute
)

// limitKeys is how many keys and networks the rates remember.
const limitKeys = 1 << 14

// Handler takes the units that arrive.
type Handler interface {
	// Take is given a unit of packet.Size bytes, which it may change, and which is its
	// own until it answers with r: Commit when the unit is on the disk, Later when it
	// cannot be kept. It may answer afterwards, from any goroutine and in groups. ctx
	// ends with the connection; a unit must be answered all the same, so that its memory
	// comes back. Take is called in the order of the units; while it blocks nothing
	// more is read from this connection, and it must not block longer than ctx lives.
	Take(ctx context.Context, from Peer, unit []byte, r Receipt)
}

// Options of a Link. Key, Who and Handler are needed. Zero values of limits and times
// stand for their defaults.
type Options struct {
	Key ed25519.PrivateKey // the node's link key

	// Who says who a key is, and false for an unknown one. It is asked in handshakes and
	// by Recheck, must be quick, and may be called by many goroutines.
	Who func(Key) (Peer, bool)

	Handler Handler

	// Documents answers a FETCH: errs.NotFound, a temporary kind or a lasting one are told
	// apart. The document must not be changed afterwards. It must return when ctx ends. nil:
	// there are none.
	Documents func(ctx context.Context, from Peer, request []byte) ([]byte, error)

	// Opened is told of each connection that a peer has opened, before anything is read from it,
	// so that something can be sent to the peer; Closed of its end. Both must be quick.
	Opened func(*Conn)
	Closed func(*Conn, error)

	// Pace gives the pace of a connection that a peer has opened. nil: no cover traffic.
	Pace func(Peer) Pace

	Conns, ConnsPerNetwork, ConnsPerKey int
	Handshakes, HandshakeBurst          int // from one network, a minute and at once
	NodeFrames, NodeFrameBurst          int // from one mix, relay or authority
	ClientFrames, ClientFrameBurst      int // from one client
	Memory                              int64
	Queue                               int // units that wait for a client, on a connection that it opened
	MaxDocument                         int

	HandshakeTime     time.Duration // TLS and HELLO
	FrameTime         time.Duration // the rest of a frame after its first byte; writing one
	Idle              time.Duration // without a frame from the peer
	AnswerTime        time.Duration // a unit without answer
	AnswerTimeOfPaced time.Duration // the same where frames leave at constant rate
	DrainTime         time.Duration // after a GOAWAY
	MinLife, MaxLife  time.Duration // of a connection; one that a peer opened: twice MaxLife
	MinPause          time.Duration // between two tries to connect, the first
	MaxPause          time.Duration // and the last

	// Dial connects to an address. nil: TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Chance gives numbers from 0 to less than 1, for times that should not fall together.
	// nil: math/rand.
	Chance func() float64
	PeerOf func(net.Conn) limits.Peer // nil: from the socket
	Now    func() time.Time           // of the rates; nil: time.Now
	Logger *slog.Logger               // nil: nothing is logged; keys and addresses never are
}

func (o Options) withDefaults() Options {
	count := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	span := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	count(&o.Conns, DefaultConns)
	count(&o.ConnsPerNetwork, DefaultConnsPerNetwork)
	count(&o.ConnsPerKey, DefaultConnsPerKey)
	count(&o.Handshakes, DefaultHandshakes)
	count(&o.HandshakeBurst, DefaultHandshakeBurst)
	count(&o.NodeFrames, DefaultNodeFrames)
	count(&o.NodeFrameBurst, DefaultNodeFrameBurst)
	count(&o.ClientFrames, DefaultClientFrames)
	count(&o.ClientFrameBurst, DefaultClientFrameBurst)
	count(&o.Queue, DefaultQueue)
	count(&o.MaxDocument, DefaultMaxDocument)
	defaults.Positive(&o.Memory, DefaultMemory)
	span(&o.HandshakeTime, DefaultHandshakeTime)
	span(&o.FrameTime, DefaultFrameTime)
	span(&o.Idle, DefaultIdle)
	span(&o.AnswerTime, DefaultAnswerTime)
	span(&o.AnswerTimeOfPaced, DefaultAnswerTimeOfPaced)
	span(&o.DrainTime, DefaultDrainTime)
	span(&o.MinLife, DefaultMinLife)
	span(&o.MaxLife, DefaultMaxLife)
	o.MaxLife = max(o.MaxLife, o.MinLife)
	span(&o.MinPause, DefaultMinPause)
	span(&o.MaxPause, DefaultMaxPause)
	if o.Pace == nil {
		o.Pace = func(Peer) Pace { return Pace{} }
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr)
		}
	}
	if o.Chance == nil {
		o.Chance = rand.Float64
	}
	defaults.Logger(&o.Logger)
	return o
}

func (o *Options) answerTime(constant bool) time.Duration {
	if constant {
		return o.AnswerTimeOfPaced
	}
	return o.AnswerTime
}

// Link is a node's own end of all its links. It may be used by many goroutines.
type Link struct {
	o         Options
	key       Key
	cert      tls.Certificate
	lowest    uint8 // versions that this node speaks
	highest   uint8
	protocols []string

	conns      *limits.Conns
	handshakes *limits.GCRA
	nodeRate   *limits.GCRA
	clientRate atomic.Pointer[limits.GCRA]
	memory     *limits.Bytes
	units      sync.Pool // *[packet.Size]byte
	records    sync.Pool // *[]byte with room for the records of a frame
	counts     counts

	mu   sync.Mutex
	open map[Key][]*Conn // that peers have opened, the oldest first
}

// recordRoom is a frame with what TLS adds: three records of 22 bytes more (RFC 8446 §5.2).
const recordRoom = FrameSize + 3*22

// New makes a Link. errs.Invalid when something needed is missing.
func New(o Options) (*Link, error) { return newLink(o, Version, Version) }

func newLink(o Options, lowest, highest uint8) (*Link, error) {
	const op = "mixnet/link.New"
	if len(o.Key) != ed25519.PrivateKeySize || o.Who == nil || o.Handler == nil {
		return nil, errs.E(op, errs.Invalid, "key, set of peers or handler is missing", nil)
	}
	o = o.withDefaults()
	l := &Link{o: o, lowest: lowest, highest: highest, open: make(map[Key][]*Conn)}
	var err error
	if l.key, err = KeyOf(o.Key.Public().(ed25519.PublicKey)); err != nil {
		return nil, errs.Wrap(op, err)
	}
	if l.cert, err = certificate(o.Key); err != nil {
		return nil, errs.E(op, errs.Internal, "", err)
	}
	for v := int(highest); v >= int(lowest); v-- {
		l.protocols = append(l.protocols, alpnPrefix+strconv.Itoa(v))
	}
	l.protocols = append(l.protocols, alpnHello)
	l.conns = limits.NewConns(o.Conns, o.ConnsPerNetwork)
	l.handshakes = limits.NewGCRA(o.Handshakes, o.HandshakeBurst, limitKeys, o.Now)
	l.nodeRate = limits.NewGCRA(o.NodeFrames, o.NodeFrameBurst, limitKeys, o.Now)
	l.SetClientRate(o.ClientFrames, o.ClientFrameBurst)
	l.memory = limits.NewBytes(o.Memory)
	l.units.New = func() any { return new([packet.Size]byte) }
	l.records.New = func() any { b := make([]byte, 0, recordRoom); return &b }
	return l, nil
}

// SetConns changes how many connections peers may have open at once (Options.Conns, whose
// default 0 or less is); those that are open stay.
func (l *Link) SetConns(n int) {
	defaults.Positive(&n, DefaultConns)
	l.conns.SetTotal(n)
}

// SetClientRate changes how many frames a client may send, a minute and at once: for what
// connects from now on.
func (l *Link) SetClientRate(perMinute, burst int) {
	l.clientRate.Store(limits.NewGCRA(perMinute, burst, limitKeys, l.o.Now))
}

// Key names this node's link key.
func (l *Link) Key() Key { return l.key }

// Counts of a Link since its start.
type Counts struct {
	FramesIn, FramesOut uint64 // without HELLO
	UnitsIn, UnitsOut   uint64 // acknowledged by this node, by peers
	LaterIn, LaterOut   uint64 // put off by this node, by peers
	Again               uint64 // units that were sent again over another connection
	Refused             uint64 // handshakes that failed
	Versions            uint64 // of them for want of a common version
}

type counts struct {
	framesIn, framesOut, unitsIn, unitsOut, laterIn, laterOut, again, refused, versions atomic.Uint64
}

// Counts gives what has been counted.
func (l *Link) Counts() Counts {
	c := &l.counts
	return Counts{FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(), UnitsIn: c.unitsIn.Load(),
		UnitsOut: c.unitsOut.Load(), LaterIn: c.laterIn.Load(), LaterOut: c.laterOut.Load(), Again: c.again.Load(),
		Refused: c.refused.Load(), Versions: c.versions.Load()}
}
