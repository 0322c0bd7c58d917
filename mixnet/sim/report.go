package sim

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"postern.email/kit/errs"
	"postern.email/mixnet/client"
	"postern.email/mixnet/directory"
)

// Options say what Run simulates.
type Options struct {
	Setup
	Seed uint64 // the same one gives the same Report

	Full bool     // for figures that are published: several times the effort, up to 10,000 users
	Only []string // names of figures, see Names; nil: all

	Workers  int                   // 0: as many as there are processors
	Progress func(done, total int) // if set, called now and then, by one goroutine at a time
}

// Report is what came out.
type Report struct {
	Format   int       `json:"format"` // 1
	Seed     uint64    `json:"seed"`
	Full     bool      `json:"full"`
	Network  Network   `json:"network"`
	Observer Findings  `json:"observer"` // of one that runs what the Setup says
	Watcher  Findings  `json:"watcher"`  // of one that sees all links and runs no node
	Figures  []*Figure `json:"figures"`
}

// Network says what was simulated.
type Network struct {
	Users         int               `json:"users"`
	Relays        int               `json:"relays"`
	Mixes         int               `json:"mixes_per_layer"`
	Layers        int               `json:"layers"`
	Algorithm     string            `json:"algorithm"`
	Corrupt       float64           `json:"corrupt"`
	CorruptRelays bool              `json:"corrupt_relays"`
	Parameters    map[string]uint64 `json:"parameters"`
	UserPackets   float64           `json:"packets_per_user_and_day"`
	UserBytes     float64           `json:"bytes_sent_per_user_and_day"`
	BytesBack     float64           `json:"bytes_received_per_user_and_day"`
	InMix         float64           `json:"packets_in_a_mix"`
}

// Findings are Ends, and what they come to for a person.
type Findings struct {
	Ends
	Among float64 `json:"hidden_among"` // 2 to the entropy over the users
}

// effort is how much is done for each number.
type effort struct {
	departures int
	ends       Effort
	users      int // most users in a curve over users
	likelihood int
	latency    int
	sieges     int
	losses     int
	mails      int
	waits      int
	acks       int
}

var (
	quick = effort{departures: 20_000, ends: Effort{3, 48}, users: 1000, likelihood: 4, latency: 40_000, sieges: 40, losses: 12, mails: 60, waits: 4000, acks: 40}
	full  = effort{departures: 200_000, ends: Effort{12, 64}, users: 10_000, likelihood: 25, latency: 300_000, sieges: 100, losses: 50, mails: 300, waits: 50_000, acks: 150}
)

// Run simulates, and draws. errs.Invalid for a Setup that cannot be, or an unknown figure;
// errs.Full where the observer's memory would not do; else the context's error.
func Run(ctx context.Context, o Options) (*Report, error) {
	e := quick
	if o.Full {
		e = full
	}
	return run(ctx, o, e)
}

func run(ctx context.Context, o Options, e effort) (*Report, error) {
	const op = "mixnet/sim.Run"
	if err := o.Check(); err != nil {
		return nil, errs.Wrap(op, err)
	}
	for _, n := range o.Only {
		if !slices.Contains(Names(), n) {
			return nil, errs.E(op, errs.Invalid, fmt.Sprintf("there is no figure %q; there are: %s", n, strings.Join(Names(), ", ")), nil)
		}
	}
	p := &plan{o: o, e: e}
	r := &Report{Format: 1, Seed: o.Seed, Full: o.Full, Network: describe(&o.Setup)}
	p.ends(&r.Observer, o.Setup, "observer")
	watched := o.Setup
	watched.Corrupt, watched.CorruptRelays = 0, false
	p.ends(&r.Watcher, watched, "watcher")
	for _, d := range drawings {
		if o.Only == nil || slices.Contains(o.Only, d.name) {
			f := d.draw(p)
			f.Name = d.name
			r.Figures = append(r.Figures, f)
		}
	}
	if err := p.work(ctx); err != nil {
		return nil, errs.Wrap(op, err)
	}
	for _, f := range r.Figures {
		f.tidy()
	}
	return r, nil
}

// describe tells what follows from the Setup alone.
func describe(s *Setup) Network {
	n := Network{Users: s.Users, Relays: s.Relays, Mixes: s.Mixes, Layers: s.Layers, Algorithm: string(s.Pool.Algorithm),
		Corrupt: s.Corrupt, CorruptRelays: s.CorruptRelays, Parameters: map[string]uint64{}}
	for _, p := range s.Parameters {
		n.Parameters[p.Name] = p.Value
	}
	n.UserPackets = round(client.Rate(s.Parameters, day))
	n.UserBytes = round(userLaw(s.Parameters))
	n.BytesBack = round(float64(day.Milliseconds()) / float64(s.Parameters.Get(directory.ReceiveInterval)) * wire)
	n.InMix = round(s.perMix() * float64(s.delay()) / 1e9)
	return n
}

// perMix is how many packets of users come to a mix in a second.
func (s *Setup) perMix() float64 { return float64(s.Users) * s.rate() / float64(s.Mixes) }

// plan collects what is to be simulated, so that all of it can be done in parallel: each cell writes
// into a place of its own.
type plan struct {
	o     Options
	e     effort
	cells []func(context.Context) error
}

func (p *plan) add(cell func(context.Context) error) { p.cells = append(p.cells, cell) }

// work does all cells.
func (p *plan) work(ctx context.Context) error {
	workers := p.o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	next, done := 0, 0
	take := func(finished bool) func(context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if finished {
			if done++; p.o.Progress != nil {
				p.o.Progress(done, len(p.cells))
			}
		}
		if next == len(p.cells) || ctx.Err() != nil {
			return nil
		}
		next++
		return p.cells[next-1]
	}
	var wg sync.WaitGroup
	for range min(workers, len(p.cells)) {
		wg.Go(func() {
			for cell := take(false); cell != nil; cell = take(true) {
				if err := cell(ctx); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// ends plans to find out what an observer makes of messages.
func (p *plan) ends(to *Findings, s Setup, part string) {
	p.add(func(ctx context.Context) error {
		e, err := runEnds(ctx, s, p.effort(s), p.o.Seed, part)
		if err != nil {
			return err
		}
		to.Ends, to.Among = e, round(hidden(e.Senders))
		for _, v := range []*float64{&to.Senders, &to.SendersLow, &to.Packets, &to.Guess, &to.Traced, &to.Lost} {
			*v = round(*v)
		}
		if to.Lost < 1e-9 {
			to.Lost = 0 // the last digit of the processor's
		}
		return nil
	})
}

// effort is that for ends: networks with many packets vary little from run to run.
func (p *plan) effort(s Setup) Effort {
	e := p.e.ends
	if float64(s.Users)*s.rate() > 50 {
		e.Runs = max(1, e.Runs/3)
	}
	return e
}

// curve plans a series: for each x a measurement.
func (p *plan) curve(f *Figure, name string, xs []float64, measure func(ctx context.Context, x float64, part string) (Point, error)) {
	points := make([]Point, len(xs))
	part := fmt.Sprintf("%s/%s/%s", f.Title, f.Y.Label, name)
	f.Series = append(f.Series, Series{Name: name, Points: points})
	for i, x := range xs {
		p.add(func(ctx context.Context) (err error) {
			points[i], err = measure(ctx, x, fmt.Sprintf("%s/%v", part, x))
			return err
		})
	}
}

// law adds a series that is computed.
func (f *Figure) law(name string, xs []float64, y func(x float64) float64) {
	s := Series{Name: name, Law: true}
	for _, x := range xs {
		s.Points = append(s.Points, at(x, y(x)))
	}
	f.Series = append(f.Series, s)
}

// tidy sorts the points, whose x may have been measured.
func (f *Figure) tidy() {
	for i := range f.Series {
		slices.SortStableFunc(f.Series[i].Points, func(a, b Point) int { return cmp.Compare(a.X, b.X) })
	}
}

// Names are those of the figures, in the order in which they are drawn.
func Names() []string {
	list := make([]string, len(drawings))
	for i, d := range drawings {
		list[i] = d.name
	}
	return list
}

// seconds of a parameter.
func (s *Setup) seconds(name string) float64 {
	return (time.Duration(s.Parameters.Get(name)) * time.Millisecond).Seconds()
}
