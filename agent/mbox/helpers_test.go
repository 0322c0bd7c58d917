package mbox

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"postern.email/agent/agenttest"
	"postern.email/agent/parts"
	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mail"
	"postern.email/mixnet/content"
	"postern.email/mixnet/letter"
	"postern.email/mixnet/packet"
)

const dir = "/queues/deliver"

// outbox is a way out that does what the test says, and keeps what it took.
type outbox struct {
	mu     sync.Mutex
	down   error                              // of Open
	answer func(to mail.Address, n int) error // of Send; n counts all tries
	tries  []string                           // recipients, in order
	taken  []taken
	opened int
}

type taken struct {
	from, to mail.Address
	text     string
	at       time.Time
}

func (b *outbox) Open(context.Context) (Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	if b.down != nil {
		return nil, b.down
	}
	return &boxSession{b}, nil
}

type boxSession struct{ b *outbox }

func (*boxSession) Close() {}

func (s *boxSession) Send(_ context.Context, from, to mail.Address, text []byte) error {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries = append(b.tries, to.String())
	if b.answer != nil {
		if err := b.answer(to, len(b.tries)); err != nil {
			return err
		}
	}
	b.taken = append(b.taken, taken{from, to, string(text), time.Now()})
	return nil
}

// got gives the bodies that were taken, by recipient.
func (b *outbox) got(to string) (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.taken {
		if t.to.String() == to {
			_, body, _ := strings.Cut(t.text, "\r\n\r\n")
			out = append(out, strings.TrimSpace(body))
		}
	}
	return out
}

func (b *outbox) set(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

// world is an exit with its disk and its way out.
type world struct {
	t   testing.TB
	o   Options
	m   *MBox
	out *outbox
	c   *agenttest.Counter
	rng *rand.ChaCha8
}

func newWorld(t testing.TB) *world {
	t.Helper()
	a, err := ParseAddresses(strings.NewReader("fred: fred@fred.com\nanna: anna@anna.org\nlong: long@long.example"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, out: &outbox{}, c: &agenttest.Counter{}, rng: rand.NewChaCha8([32]byte{1})}
	w.o = Options{FS: vfs.NewCrashDisk(), Dir: dir, Secret: make([]byte, 32), Stats: w.c, Rand: w.rng, Now: time.Now,
		Config: Config{Addresses: a, Sender: w.out, Form: Form{ReturnAddress: mail.Address{Local: "anon", Domain: "mix.example"}},
			Fragments: Fragments{Enabled: true}}}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	m, err := Open(w.o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.m = m
}

func (w *world) disk() *vfs.CrashDisk { return w.o.FS.(*vfs.CrashDisk) }

// restart kills the exit and starts it on what is on the disk.
func (w *world) restart() {
	w.t.Helper()
	w.o.FS = w.disk().Clone(vfs.Dropped, 0)
	w.open()
}

// parcel is a content for a name, as it comes out of a packet.
type parcel struct {
	name [16]byte
	c    packet.Content
}

// parcels makes the packets of a mail.
func (w *world) parcels(box, text string, room int, coded bool) []parcel {
	w.t.Helper()
	_, list, err := letter.Split([]byte(text), letter.Options{Room: room, Coded: coded}, w.rng)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []parcel
	for _, f := range list {
		body, err := content.AppendMbox(nil, box, f)
		if err != nil {
			w.t.Fatal(err)
		}
		p := parcel{c: packet.Content{Kind: content.Mbox, Body: body}}
		if _, err := io.ReadFull(w.rng, p.name[:]); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// one makes the packet of a mail that fits into one.
func (w *world) one(box, text string) parcel {
	w.t.Helper()
	list := w.parcels(box, text, 4096, false)
	if len(list) != 1 {
		w.t.Fatalf("%d packets", len(list))
	}
	return list[0]
}

func (w *world) exit(list ...parcel) {
	w.t.Helper()
	for _, p := range list {
		if err := w.m.Exit(context.Background(), p.name, p.c); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) refused(p parcel, kind errs.Kind) {
	w.t.Helper()
	if err := w.m.Exit(context.Background(), p.name, p.c); errs.KindOf(err) != kind {
		w.t.Errorf("%v, want %v", err, kind)
	}
}

// run lets the exit send until nothing more happens at this moment, in a bubble.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.m.Run(ctx) }()
	if d > 0 {
		time.Sleep(d)
	}
	synctest.Wait()
	cancel()
	if err := <-done; err != nil {
		w.t.Errorf("Run: %v", err)
	}
}

// files gives the names of files with a prefix, in one of the directories.
func (w *world) files(sub string, p prefix) (out []string) {
	w.t.Helper()
	names, err := w.o.FS.List(dir + "/" + sub)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, n := range names {
		if q, _, ok := parts.ParseFileName(n); ok && q == p {
			out = append(out, n)
		}
	}
	return out
}

// empty fails the test if anything but remembered names is left.
func (w *world) empty() {
	w.t.Helper()
	for _, sub := range []string{mailDir, fragmentDir} {
		for _, p := range parts.States() {
			if f := w.files(sub, p); p != rmvm && len(f) > 0 {
				w.t.Errorf("left in %s: %v", sub, f)
			}
		}
	}
	if s := w.m.Status(); s.Waiting != 0 || s.Letters != 0 || s.Fragments != 0 || s.Bytes != 0 {
		w.t.Errorf("left: %+v", s)
	}
}

// noise is text of n bytes that compression makes shorter by a quarter at most.
func noise(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		b.WriteString(base64.StdEncoding.EncodeToString(sum[:]))
		b.WriteByte('\n')
	}
	return b.String()[:n]
}

func TestMain(m *testing.M) {
	if asCommand() {
		return
	}
	goleak.VerifyTestMain(m)
}
