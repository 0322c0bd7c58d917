package main

import (
	"encoding/json"
	"fmt"
	goio "io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern.email/kit/errs"
	mixnet "postern.email/mixnet/client"
	"postern.email/mixnet/directory"
	"postern.email/mixnet/pool"
	"postern.email/mixnet/sim"
)

// simDir is where the figures are written if nothing else is said.
const simDir = "mix-simulation"

func mixSimulateCommand(io streams) *cobra.Command {
	var (
		o                   sim.Options
		profile, algorithm  string
		lambda, mu, corrupt float64
		honestRelays, list  bool
		interval            time.Duration
		rate                int
		minSize             int
		out                 string
	)
	defaults := pool.Default(pool.DynamicPool)
	c := &cobra.Command{Use: "simulate", Short: "Show what a network of some size hides from somebody who watches all of it", Args: cobra.NoArgs,
		Long: `Simulate a mix network: this program's own mixes and clients in virtual time.

It says how many users a message hides among when somebody watches every link and runs
the relays and some of the mixes, and draws figures of how that depends on users, mixes,
delays and cover traffic, of attacks, and of what all of it costs. The same seed gives the
same result. What the figures mean: docs/anonymity.md.`,
		Example: `  postern mix simulate --users 50 --mixes 2
  postern mix simulate --profile full --corrupt 20 --out figures
  postern mix simulate --only users --only delay
  postern mix simulate --json --users 1000`}
	f := c.Flags()
	f.IntVar(&o.Users, "users", 100, fmt.Sprintf("users, 1 to %d", sim.MaxUsers))
	f.IntVar(&o.Relays, "relays", 2, fmt.Sprintf("relays, 2 to %d", sim.MaxRelays))
	f.IntVar(&o.Mixes, "mixes", 3, fmt.Sprintf("mixes of each layer, 1 to %d", sim.MaxMixes))
	f.IntVar(&o.Layers, "layers", 3, fmt.Sprintf("layers of mixes, 1 to %d; real packets pass 3", sim.MaxLayers))
	f.StringVar(&profile, "profile", "low", "cover traffic of the network: low or full")
	f.Float64Var(&lambda, "lambda", 0, "packets that each user sends in a second (default: as the profile)")
	f.Float64Var(&mu, "mu", 0, "one over the mean delay of a mix, in 1/seconds (default: as the profile, 0.05)")
	f.Float64Var(&corrupt, "corrupt", 0, "part of the mixes that the observer runs, in `percent`")
	f.BoolVar(&honestRelays, "honest-relays", false, "the relays are not the observer's; else they are")
	f.StringVar(&algorithm, "algorithm", string(pool.Poisson), "how mixes mix: Poisson, Timed, DynamicPool or BinomialDynamicPool")
	f.DurationVar(&interval, "interval", defaults.Interval, "of the mixes, where the algorithm is not Poisson")
	f.IntVar(&rate, "pool-rate", defaults.Rate/100, "`percent` of its packets that a pool lets go in an interval")
	f.IntVar(&minSize, "pool-min-size", defaults.MinSize, "packets that stay in a pool")
	f.Uint64Var(&o.Seed, "seed", 1, "another one gives other random choices")
	f.BoolVar(&o.Full, "full", false, "several times the effort and up to 10,000 users, for figures to be published: takes minutes")
	f.StringArrayVar(&o.Only, "only", nil, "draw this `figure` alone; may be repeated")
	f.BoolVar(&list, "list", false, "print the names of the figures and stop")
	f.StringVar(&out, "out", simDir, "`directory` for the figures, as SVG and JSON; \"\": draw none")
	js := asJSON(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if list {
			fmt.Fprintln(io.out, strings.Join(sim.Names(), "\n"))
			return nil
		}
		params, ok := map[string]directory.Parameters{"low": directory.ProfileLow(), "full": directory.ProfileFull()}[profile]
		if !ok {
			return usageError{c.CommandPath(), fmt.Errorf("--profile must be low or full")}
		}
		a, err := pool.ParseAlgorithm(algorithm)
		if err != nil {
			return usageError{c.CommandPath(), fmt.Errorf("--algorithm: %s", errs.Public(err))}
		}
		if o.Parameters, err = sim.Scale(params, lambda, mu); err != nil {
			return usageError{c.CommandPath(), fmt.Errorf("--lambda, --mu: %s", errs.Public(err))}
		}
		o.Pool = pool.Config{Algorithm: a, Interval: interval, Rate: rate * 100, MinSize: minSize}
		o.Corrupt, o.CorruptRelays = corrupt/100, !honestRelays
		write := !*js || f.Changed("out")
		switch {
		case out == "" && len(o.Only) > 0:
			return usageError{c.CommandPath(), fmt.Errorf("--only draws a figure, and --out \"\" none")}
		case out == "":
			o.Only = []string{}
		}
		began := time.Now()
		done := simProgress(io.err, &o)
		r, err := sim.Run(c.Context(), o)
		done()
		if errs.KindOf(err) == errs.Invalid {
			return usageError{c.CommandPath(), fmt.Errorf("%s", errs.Public(err))}
		}
		if err != nil {
			return err
		}
		if write && out != "" {
			if err := writeFigures(out, r); err != nil {
				return err
			}
		}
		if *js {
			return printJSON(io.out, r)
		}
		printSimulation(io.out, &o, r)
		if out != "" {
			fmt.Fprintf(io.out, "\n%d figures, as SVG and JSON: %s (%v)\n", len(r.Figures), out, time.Since(began).Round(time.Second))
		}
		return nil
	}
	return c
}

// simProgress has the simulation tell how far it is, where somebody looks on. The function that it gives
// clears the line.
func simProgress(to goio.Writer, o *sim.Options) func() {
	f, ok := to.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	o.Progress = func(done, total int) { fmt.Fprintf(to, "\rsimulating: %d of %d", done, total) }
	return func() { fmt.Fprint(to, "\r\x1b[K") }
}

// writeFigures writes each figure as SVG and JSON, and the whole report.
func writeFigures(dir string, r *sim.Report) error {
	fail := func(err error) error {
		return errs.E("cmd.writeFigures", errs.Unavailable, "cannot write the figures into "+dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(err)
	}
	put := func(name string, v any) error {
		b, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".json"), append(b, '\n'), 0o644)
	}
	for _, f := range r.Figures {
		if err := put(f.Name, f); err != nil {
			return fail(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name+".svg"), f.SVG(), 0o644); err != nil {
			return fail(err)
		}
	}
	if err := put("report", r); err != nil {
		return fail(err)
	}
	return nil
}

func printSimulation(w goio.Writer, o *sim.Options, r *sim.Report) {
	n := r.Network
	ms := func(name string) time.Duration { return time.Duration(o.Parameters.Get(name)) * time.Millisecond }
	fmt.Fprintf(w, "%d users, %d relays, %d layers of %d mixes (%s), mean delay %v.\n", n.Users, n.Relays, n.Layers, n.Mixes, n.Algorithm, ms(directory.Delay))
	fmt.Fprintf(w, "A user sends %.0f packets a day, %s, and receives %s, whatever is in them.\n", n.UserPackets, megabytes(n.UserBytes), megabytes(n.BytesBack))
	forecast := mixnet.ExpectDelays(o.Parameters, 1+n.Layers)
	if o.Pool.Algorithm == pool.Poisson {
		fmt.Fprintf(w, "A packet is under way for %v on average, 95 of 100 for less than %v; a mix holds %.1f packets.\n",
			forecast.Mean.Round(time.Second), forecast.P95.Round(time.Second), n.InMix)
	}
	var runs []string
	if n.CorruptRelays {
		runs = append(runs, "all relays")
	}
	if n.Corrupt > 0 {
		runs = append(runs, fmt.Sprintf("%g %% of the mixes", 100*n.Corrupt))
	}
	if len(runs) > 0 {
		fmt.Fprintf(w, "\nSomebody who watches all links and runs %s:\n", strings.Join(runs, " and "))
		printFindings(w, n.Users, r.Observer)
		if n.CorruptRelays {
			fmt.Fprintln(w, "  (of a message that is not acknowledged; acknowledgements tell more to two relays that work together)")
		}
	}
	fmt.Fprintf(w, "\nSomebody who watches all links and runs no node:\n")
	printFindings(w, n.Users, r.Watcher)
}

func printFindings(w goio.Writer, users int, f sim.Findings) {
	fmt.Fprintf(w, "  a message hides among %.1f of the %d users (%.2f bits; one in twenty has less than %.2f)\n", f.Among, users, f.Senders, f.SendersLow)
	fmt.Fprintf(w, "  the best guess at its sender is right in %.1f of 100 cases\n", 100*f.Guess)
	if f.Traced > 0 {
		fmt.Fprintf(w, "  of %.1f in 100 messages the sender is certain\n", 100*f.Traced)
	}
}

func megabytes(bytes float64) string { return fmt.Sprintf("%.0f MB", bytes/1e6) }
