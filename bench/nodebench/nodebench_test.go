package nodebench

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/keys"
	"postern.email/mixnet/link"
	"postern.email/mixnet/packet"
)

var (
	full    = flag.Bool("node", false, "measure: without it a few packets show that the benchmark works")
	packets = flag.Int("packets", 16_000, "of the run for throughput; 32 KiB of memory each")
	where   = flag.String("dir", "", "a directory on the disk to be measured; empty: a temporary one")
	profile = flag.String("profile", "", "a file for a CPU profile of the node in the run for throughput")
	parts   = flag.String("parts", "throughput,delay,memory", "what is measured")
)

// bench is a network of one node that runs and two that the benchmark plays: the relay that
// sends and the mix behind it.
type bench struct {
	t       testing.TB
	dir     string
	job     job
	keys    *keys.Keys
	sinkKey *packet.PrivateKey
	sinkID  packet.ID
	relay   *link.Link
	peer    link.Peer
	sink    *link.Link

	cmd   *exec.Cmd
	out   *bufio.Reader
	addr  string
	lines []*link.Line

	sinkAddr string
	end      []func()

	come func(unit []byte) // what the sink is given
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func identity(t testing.TB, name string) *directory.PrivateKey {
	t.Helper()
	a, b := sha256.Sum256([]byte("one "+name)), sha256.Sum256([]byte("two "+name))
	k, err := directory.NewPrivateKey(append(a[:], b[:]...))
	must(t, err)
	return k
}

func linkKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("link " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func keyName(t testing.TB, k ed25519.PrivateKey) link.Key {
	t.Helper()
	n, err := link.KeyOf(k.Public().(ed25519.PublicKey))
	must(t, err)
	return n
}

// take is the sink as a link.Handler.
type take struct{ b *bench }

func (h take) Take(_ context.Context, _ link.Peer, u []byte, r link.Receipt) {
	h.b.come(u)
	r.Commit()
}

// newBench makes keys, the directory, and the two other members.
func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, dir: *where, come: func([]byte) {}}
	if b.dir == "" {
		b.dir = t.TempDir()
	} else {
		var err error
		b.dir, err = os.MkdirTemp(b.dir, "nodebench")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(b.dir) })
	}
	var err error
	b.keys, err = openKeys(b.dir)
	must(t, err)
	now := time.Now()
	_, err = b.keys.Rotate(t.Context(), now, nil)
	must(t, err)
	seed := sha256.Sum256([]byte("sink"))
	b.sinkKey, err = packet.NewPrivateKey(seed[:])
	must(t, err)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	b.links(ln)
	b.directory(now, ln.Addr().String())
	return b
}

// links makes the ends of the two members that are played.
func (b *bench) links(ln net.Listener) {
	t := b.t
	b.peer = link.Peer{Key: keyName(t, b.keys.Link()), Role: link.Mix}
	who := func(k link.Key) (link.Peer, bool) { return b.peer, k == b.peer.Key }
	var err error
	b.relay, err = link.New(link.Options{Key: linkKey("relay"), Who: who, Handler: take{b}})
	must(t, err)
	relay := link.Peer{Key: b.relay.Key(), Role: link.Relay}
	b.sink, err = link.New(link.Options{Key: linkKey("sink"), Handler: take{b}, Who: func(k link.Key) (link.Peer, bool) {
		if k == relay.Key {
			return relay, true
		}
		return who(k)
	}})
	must(t, err)
	b.sinkAddr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.sink.Serve(ctx, ln) }()
	b.end = append(b.end, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// directory makes the network file and a consensus in which the node is in layer 1.
func (b *bench) directory(now time.Time, sinkAddr string) {
	t := b.t
	signer := identity(t, "authority")
	var err error
	b.job.Network, err = directory.FormatNetwork("bench.net", time.Hour, []directory.Contact{{Key: signer.Public(),
		LinkKey: directory.Hash(keyName(t, linkKey("authority"))), Addresses: []string{"127.0.0.1:9"}}})
	must(t, err)
	network, err := directory.ParseNetwork(b.job.Network)
	must(t, err)
	begin := network.Begin(network.Epoch(now) - 1)
	describe := func(n directory.Node, s *directory.PrivateKey) *directory.Descriptor {
		d, err := directory.SignDescriptor(directory.Descriptor{Network: "bench.net", Published: begin, Node: n}, s)
		must(t, err)
		return d
	}
	key := []directory.PacketKey{{From: begin.Add(-time.Hour), Until: begin.Add(48 * time.Hour), Key: b.sinkKey.Public()}}
	mix := func(nick, addr string, l link.Key, keys []directory.PacketKey) directory.Node {
		return directory.Node{Nickname: nick, Mode: directory.Mix, LinkKey: directory.Hash(l), Addresses: []string{addr}, Version: "bench", Mixing: directory.Poisson, Keys: keys}
	}
	relay := mix("relay", "127.0.0.1:9", keyName(t, linkKey("relay")), key)
	relay.Mode, relay.Mixing, relay.NameKey = directory.Relay|directory.Mailbox, "", identity(t, "names").Public()
	b.job.About = mix("node", "127.0.0.1:9", b.peer.Key, nil)
	me := b.job.About
	me.Keys = b.keys.Public(now)
	params := directory.ProfileLow()
	for i := range params {
		switch params[i].Name {
		case directory.LayerMinimum:
			params[i].Value = 1
		case directory.MixLoopInterval, directory.LinkInterval:
			params[i].Value = 86_400_000
		}
	}
	// The lots decide who is in which layer: other mixes are tried as the second one until the
	// node is in layer 1 and the sink in layer 2.
	for try := 0; ; try++ {
		sinkSigner := identity(t, fmt.Sprint("sink ", try))
		rated := []directory.Rated{{Descriptor: describe(relay, identity(t, "relay")), Score: 500},
			{Descriptor: describe(me, b.keys.Identity()), Score: 500},
			{Descriptor: describe(mix("sink", sinkAddr, keyName(t, linkKey("sink")), key), sinkSigner), Score: 500}}
		secret := sha256.Sum256(fmt.Append(nil, "secret ", try))
		m, err := directory.NewMachine(network, network.Epoch(now), signer, &secret)
		must(t, err)
		must(t, m.SetView(directory.View{Parameters: params, Nodes: rated}))
		for _, p := range []directory.Phase{directory.Voting, directory.Reveals, directory.Endorse, directory.Publish} {
			_, err := m.Advance(begin.Add(time.Hour * time.Duration(p) / 8))
			must(t, err)
		}
		c := m.Consensus()
		if c == nil || len(c.Nodes) != 3 {
			t.Fatal("no consensus")
		}
		b.sinkID = sinkSigner.Public().ID()
		if c.Find(b.keys.Identity().Public().ID()).Layer == 1 && c.Find(b.sinkID).Layer == 2 {
			b.job.Doc = c.Bytes()
			return
		}
	}
}

// start starts the node and connects the relay to it.
func (b *bench) start(profile string) {
	t := b.t
	b.job.Dir, b.job.Profile = b.dir, profile
	js, err := json.Marshal(b.job)
	must(t, err)
	path := filepath.Join(b.dir, "job")
	must(t, os.WriteFile(path, js, 0o600))
	b.cmd = exec.Command(os.Args[0])
	b.cmd.Env = append(os.Environ(), childEnv+"="+path)
	b.cmd.Stderr = os.Stderr
	pipe, err := b.cmd.StdoutPipe()
	must(t, err)
	must(t, b.cmd.Start())
	b.out = bufio.NewReader(pipe)
	if b.addr, err = b.out.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	b.lines = nil
	for range feeders {
		b.lines = append(b.lines, b.dial(b.peer, strings.TrimSpace(b.addr)))
	}
}

// feeders is how many connections the packets come over: a mix has several relays before it,
// each with a window of its own.
const feeders = 4

// dial gives a line of the relay to somebody.
func (b *bench) dial(to link.Peer, addr string) *link.Line {
	line, err := b.relay.Line(link.LineOptions{Peer: to, Queue: 1 << 16, Addresses: func() []string { return []string{addr} }})
	must(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); line.Run(ctx) }()
	b.end = append(b.end, func() { cancel(); <-done })
	return line
}

// stop ends the node and gives its report.
func (b *bench) stop() (r report) {
	t := b.t
	t.Helper()
	must(t, b.cmd.Process.Signal(os.Interrupt))
	s, err := b.out.ReadString('\n')
	must(t, err)
	must(t, json.Unmarshal([]byte(s), &r))
	for _, f := range slices.Backward(b.end) {
		f()
	}
	must(t, b.cmd.Wait())
	return r
}

// memory gives the resident memory of the node now, and the most that it was, in bytes.
func (b *bench) memory() (now, most int64) {
	b.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
	must(b.t, err)
	get := func(name string) int64 {
		for l := range strings.Lines(string(raw)) {
			if f := strings.Fields(l); len(f) == 3 && f[0] == name+":" {
				n, _ := strconv.ParseInt(f[1], 10, 64)
				return n << 10
			}
		}
		return 0
	}
	return get("VmRSS"), get("VmHWM")
}

// built is a packet as a unit, and what names it when it comes out.
type built struct {
	unit []byte
	name [16]byte
}

// nameAt is where the header of the next layer begins in a packet: random bytes that are the
// same before and after nobody but the hop.
const nameAt = packet.PrefixLen

// build makes packets for the node with these delays, on all processors.
func (b *bench) build(delays []time.Duration) []built {
	t := b.t
	out := make([]built, len(delays))
	key := b.keys.Public(time.Now())[0]
	for _, k := range b.keys.Public(time.Now()) {
		if !time.Now().Before(k.From) {
			key = k
		}
	}
	private, ok := b.keys.Find(key.Key.ID())
	if !ok {
		t.Fatal("no key")
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	var failed atomic.Pointer[error]
	for range 2 {
		wg.Go(func() {
			scratch := make([]byte, packet.Size)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(out) {
					return
				}
				r := packet.Route{First: 1, Hops: []packet.Hop{{Node: b.keys.Identity().Public().ID(), Key: key.Key, Delay: delays[i]}, {Node: b.sinkID, Key: b.sinkKey.Public()}}}
				p, err := packet.Build(make([]byte, 0, packet.Size), r, packet.Dest{Command: packet.Drop}, packet.Content{}, rand.Reader)
				if err == nil {
					copy(scratch, p)
					var res packet.Result
					if res, err = packet.Unwrap(private, scratch[:len(p)]); err == nil {
						out[i].name = [16]byte(res.Packet[nameAt:])
						out[i].unit, err = packet.Fill(p, rand.Reader)
					}
				}
				if err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		t.Fatal(*err)
	}
	return out
}

// flow sends packets, at once (rate 0) or at the times of a Poisson process, and waits until
// all came out. It gives the time for all, and how much longer than asked each stayed.
func (b *bench) flow(list []built, delays []time.Duration, rate float64) (total time.Duration, extra []time.Duration) {
	t := b.t
	t.Helper()
	index := make(map[[16]byte]int, len(list))
	for i := range list {
		index[list[i].name] = i
	}
	sent := make([]time.Time, len(list))
	extra = make([]time.Duration, len(list))
	seen := make([]bool, len(list))
	var mu sync.Mutex
	left := len(list)
	done := make(chan struct{})
	b.come = func(u []byte) {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		i, ok := index[[16]byte(u[nameAt:])]
		if !ok || seen[i] {
			return
		}
		seen[i] = true
		extra[i] = now.Sub(sent[i]) - delays[i]
		if left--; left == 0 {
			close(done)
		}
	}
	began := time.Now()
	at := began
	for i := range list {
		if rate > 0 {
			at = at.Add(time.Duration(-math.Log(1-chance()) / rate * float64(time.Second)))
			time.Sleep(time.Until(at))
		}
		mu.Lock()
		sent[i] = time.Now()
		mu.Unlock()
		for {
			err := b.lines[i%len(b.lines)].Post(list[i].unit, func(error) {})
			if err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		t.Fatalf("%d packets did not come out", left)
	}
	return time.Since(began), extra
}

func chance() float64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return float64(uint64(b[0])|uint64(b[1])<<8|uint64(b[2])<<16|uint64(b[3])<<24|uint64(b[4])<<32|uint64(b[5])<<40|uint64(b[6]&31)<<48) / (1 << 53)
}

// diskRate is how many records of a packet the disk takes in groups of so many, with nothing
// above it: one write and one sync each.
func diskRate(t testing.TB, dir string, group int, d time.Duration) float64 {
	t.Helper()
	const record = 32 << 10
	path := filepath.Join(dir, "raw")
	must(t, os.WriteFile(path, nil, 0o600))
	defer os.Remove(path)
	f, err := vfs.OS().OpenReadWrite(path, vfs.Unspecified)
	must(t, err)
	defer f.Close()
	buf := make([]byte, group*record)
	_, _ = rand.Read(buf)
	n, at, began := 0, int64(0), time.Now()
	for time.Since(began) < d {
		_, err := f.WriteAt(buf, at)
		must(t, err)
		must(t, f.SyncData())
		if at += int64(len(buf)); at > 64<<20 {
			at = 0
		}
		n += group
	}
	return float64(n) / time.Since(began).Seconds()
}

// syncTimes are how long the disk takes for a record by itself, one after another with a pause.
func syncTimes(t testing.TB, dir string, n int) []time.Duration {
	t.Helper()
	path := filepath.Join(dir, "raw")
	must(t, os.WriteFile(path, nil, 0o600))
	defer os.Remove(path)
	f, err := vfs.OS().OpenReadWrite(path, vfs.Unspecified)
	must(t, err)
	defer f.Close()
	buf := make([]byte, 32<<10)
	_, _ = rand.Read(buf)
	out := make([]time.Duration, n)
	for i := range out {
		time.Sleep(2 * time.Millisecond)
		began := time.Now()
		_, err := f.WriteAt(buf, int64(i*len(buf)))
		must(t, err)
		must(t, f.SyncData())
		out[i] = time.Since(began)
	}
	return out
}

// unwrapRate is how many packets one core unwraps.
func unwrapRate(t testing.TB, b *bench, list []built, d time.Duration) float64 {
	t.Helper()
	key, err := packet.ParsePrefix(list[0].unit[:packet.SizeAt(1)])
	must(t, err)
	private, _ := b.keys.Find(key.KeyID)
	buf := make([]byte, packet.Size)
	n, began := 0, time.Now()
	for time.Since(began) < d {
		copy(buf, list[n%len(list)].unit)
		if _, err := packet.Unwrap(private, buf[:packet.SizeAt(1)]); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds()
}

func quantile(d []time.Duration, q float64) time.Duration {
	s := slices.Clone(d)
	slices.Sort(s)
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// TestNode is the benchmark.
func TestNode(t *testing.T) {
	n := *packets
	if !*full {
		n = 200
	}
	rate := 1000.0
	if strings.Contains(*parts, "throughput") || !*full {
		rate = throughput(t, n)
	}
	if !*full {
		return
	}
	if strings.Contains(*parts, "delay") {
		delay(t, n, min(rate, 3000)/2)
	}
	if strings.Contains(*parts, "memory") {
		memory(t)
	}
}

func throughput(t *testing.T, n int) float64 {
	b := newBench(t)
	none := make([]time.Duration, n)
	list := b.build(none)
	b.start(*profile)
	warm := list[:n/10]
	b.flow(warm, none, 0)
	rest := list[n/10:]
	var r report
	took, _ := b.flow(rest, none, 0)
	r = b.stop()
	rate := float64(len(rest)) / took.Seconds()
	if !*full {
		return rate
	}
	group := max(1, int(math.Round(float64(r.Log.Records)/float64(r.Log.Groups))))
	disk := diskRate(t, b.dir, group, 3*time.Second)
	unwrap := unwrapRate(t, b, rest, 2*time.Second)
	bar := min(3000, 0.6*disk)
	t.Logf("throughput      %8.0f packets/s, socket to socket, log synced (bar %.0f)", rate, bar)
	t.Logf("groups          %8d records a sync", group)
	t.Logf("disk alone      %8.0f records/s in such groups, %.0f one by one, %.0f in groups of 64", disk, diskRate(t, b.dir, 1, time.Second), diskRate(t, b.dir, 64, 2*time.Second))
	t.Logf("unwrap alone    %8.0f packets/s on one core", unwrap)
	t.Logf("CPU of the node %8.0f µs a packet: %.0f packets/s of one core; refused for now: %d", float64(r.CPU.Microseconds())/float64(n), float64(n)/r.CPU.Seconds(), r.Refused)
	if rate < bar {
		t.Errorf("below the bar")
	}
	return rate
}

func delay(t *testing.T, n int, rate float64) {
	b := newBench(t)
	none := make([]time.Duration, n)
	list := b.build(none)
	b.start("")
	b.flow(list[:n/10], none, 0)
	_, extra := b.flow(list[n/10:], none, rate)
	p50, p99 := quantile(extra, 0.5), quantile(extra, 0.99)
	// The same at the same pace over one link, with nothing between: what this machine adds now.
	b.lines = []*link.Line{b.dial(link.Peer{Key: b.sink.Key(), Role: link.Mix}, b.sinkAddr)}
	for i := range list {
		list[i].name = [16]byte(list[i].unit[nameAt:])
	}
	b.flow(list[:n/10], none, 0)
	_, alone := b.flow(list[n/10:], none, rate)
	b.stop()
	syncs := syncTimes(t, b.dir, 300)
	t.Logf("one sync alone  %8.1f ms in the median, %.1f ms in 99 of 100, of one record", ms(quantile(syncs, 0.5)), ms(quantile(syncs, 0.99)))
	t.Logf("one link alone  %8.1f ms in the median, %.1f ms in 99 of 100", ms(quantile(alone, 0.5)), ms(quantile(alone, 0.99)))
	t.Logf("added delay     %8.1f ms in the median, %.1f ms in 99 of 100, at %.0f packets/s (bars 5 and 50)", ms(p50), ms(p99), rate)
	if p50 > 5*time.Millisecond || p99 > 50*time.Millisecond {
		t.Errorf("above the bar")
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func memory(t *testing.T) {
	b := newBench(t)
	const rate, seconds = 100, 70
	delays := make([]time.Duration, rate*seconds)
	for i := range delays {
		delays[i] = min(time.Duration(-math.Log(1-chance())*float64(20*time.Second)), 2*time.Minute).Truncate(time.Millisecond)
	}
	list := b.build(delays)
	b.start("")
	stop, done := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		for {
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(200 * time.Millisecond):
				now, _ := b.memory()
				most = max(most, now)
			}
		}
	}()
	_, extra := b.flow(list, delays, rate)
	close(stop)
	rss := <-done
	b.stop()
	t.Logf("memory          %8.1f MB at most, at %d packets/s with 20 s in the mean (bar 256); added delay %.1f ms in the median", float64(rss)/1e6, rate, ms(quantile(extra, 0.5)))
	if rss > 256<<20 {
		t.Errorf("above the bar")
	}
}
