package dircache

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern.email/kit/errs"
	"postern.email/kit/vfs"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/dirtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t testing.TB, err error, kind errs.Kind, public string) {
	t.Helper()
	if err == nil || errs.KindOf(err) != kind || errs.Public(err) != public {
		t.Errorf("%v, and not %s: %s", err, kind, public)
	}
}

// bubble is where the clock of synctest begins.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// hour0 is the epoch that begins then.
var hour0 = uint64(bubble.Unix() / 3600)

// world is a network of one authority and its consensuses, each made when it is first asked for.
type world struct {
	*dirtest.Authorities
	t testing.TB
}

func newWorld(t testing.TB) *world {
	return &world{Authorities: dirtest.New(t, "test.net", time.Hour, 1), t: t}
}

// chain holds the consensuses of all worlds, which are the same, as making them is slow.
var chain struct {
	sync.Mutex
	list []*directory.Consensus // from firstEpoch on
}

var firstEpoch = hour0 - 3

// of gives the consensus of an epoch.
func (w *world) of(epoch uint64) *directory.Consensus {
	chain.Lock()
	defer chain.Unlock()
	for firstEpoch+uint64(len(chain.list)) <= epoch {
		var last *directory.Consensus
		if n := len(chain.list); n > 0 {
			last = chain.list[n-1]
		}
		chain.list = append(chain.list, w.Agree(w.t, firstEpoch+uint64(len(chain.list)), last))
	}
	return chain.list[epoch-firstEpoch]
}

// other gives another consensus of an epoch, signed by the same authorities: they lie.
func (w *world) other(epoch uint64) *directory.Consensus {
	liars := *w.Authorities
	liars.Parameters = directory.ProfileFull()
	return liars.Agree(w.t, epoch, w.of(epoch-1))
}

// cache opens one on an empty disk.
func (w *world) cache(change ...func(*Options)) *Cache {
	w.t.Helper()
	o := Options{FS: vfs.NewCrashDisk(), Dir: "/dir", Network: w.Network}
	for _, f := range change {
		f(&o)
	}
	c, err := Open(o)
	must(w.t, err)
	return c
}

func from(sources ...Source) func(*Options) {
	return func(o *Options) { o.Sources = func() []Source { return sources } }
}

// run runs a cache until the test ends it.
func run(c *Cache) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

// source answers as a test tells it to.
type source func(ctx context.Context, r *directory.Request) ([]byte, error)

func (s source) Fetch(ctx context.Context, request []byte) ([]byte, error) {
	r, err := directory.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	return s(ctx, r)
}

var errNone = errs.E("test", errs.NotFound, "", nil)

// authority answers as one that is honest and always there: what was published by now.
func (w *world) authority() source {
	return func(_ context.Context, r *directory.Request) ([]byte, error) {
		now := time.Now()
		newest := w.Network.Epoch(now)
		if !now.Before(w.Network.Published(newest + 1)) {
			newest++
		}
		switch r.Kind {
		case directory.RequestConsensus:
			epoch := r.Epoch
			if epoch == 0 {
				epoch = newest
			}
			if epoch > newest || epoch+directory.ValidEpochs < newest {
				return nil, errNone
			}
			return w.of(epoch).Bytes(), nil
		case directory.RequestGossip:
			g := directory.GossipList{Network: w.Network.Name(), Gossip: []directory.Gossip{w.of(newest - 1).Gossip(), w.of(newest).Gossip()}}
			return g.Bytes(), nil
		}
		return nil, errNone
	}
}

// silent never answers.
func silent(ctx context.Context, _ *directory.Request) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// down fails at once.
func down(context.Context, *directory.Request) ([]byte, error) {
	return nil, errs.E("test", errs.Unavailable, "", nil)
}

// noted tells of each request, with its time.
func noted(s Source, note func(time.Time, *directory.Request)) source {
	return func(ctx context.Context, r *directory.Request) ([]byte, error) {
		note(time.Now(), r)
		b, err := directory.AppendRequest(nil, *r)
		if err != nil {
			return nil, err
		}
		return s.Fetch(ctx, b)
	}
}

// of an hour, for messages.
func minutes(at time.Time) string {
	return fmt.Sprintf("%.1f min", at.Sub(at.Truncate(time.Hour)).Minutes())
}
