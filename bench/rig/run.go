package rig

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// Options are what all benchmarks ask for on the command line.
type Options struct {
	Rounds int    // how often each system is measured, in turn
	Peer   string // "auto", "none", "only"
	AsJSON bool
	Binary string // "": built from this module
	Dir    string // where temporary directories are made; "": the system's place
	sets   list
}

// Flags adds the common flags to the command line.
func (o *Options) Flags(rounds int) {
	flag.IntVar(&o.Rounds, "rounds", rounds, "how often each system is measured, in turn")
	flag.StringVar(&o.Peer, "peer", "auto", "auto: postfix+dovecot where installed; none; only")
	flag.BoolVar(&o.AsJSON, "json", false, "print one JSON object instead of the table")
	flag.StringVar(&o.Binary, "postern", "", "the program to drive (default: built from this module)")
	flag.StringVar(&o.Dir, "dir", "", "where the servers keep their data; must be a real disk (default: a new temporary directory)")
	flag.Var(&o.sets, "set", "a further --set for Postern; may be repeated")
}

// Valid reports whether the flags make sense.
func (o *Options) Valid() bool {
	return o.Rounds >= 1 && (o.Peer == "auto" || o.Peer == "none" || o.Peer == "only")
}

// Show prints the outcome the way the flags want it.
func (o *Options) Show(out *Outcome, w io.Writer) error {
	if o.AsJSON {
		return out.JSON(w)
	}
	out.Text(w)
	return nil
}

// Run starts each system on a fresh directory in each round, in turn, and has
// measure drive it. The name is that of the program.
func Run(name string, o Options, out *Outcome, say io.Writer, measure func(s *System, round int, dir string) (Measures, error)) (err error) {
	dir, err := os.MkdirTemp(o.Dir, name)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the peer's users walk through
		return err
	}
	out.Rounds, out.Runs = o.Rounds, map[string][]Measures{}
	out.Machine = fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	type starter struct {
		name  string
		start func(dir string) (*System, error)
	}
	var systems []starter
	if o.Peer != "only" {
		bin := o.Binary
		if bin == "" {
			if bin, err = BuildPostern(dir); err != nil {
				return err
			}
		}
		systems = append(systems, starter{PosternName, func(d string) (*System, error) { return StartPostern(bin, d, o.sets) }})
	}
	if o.Peer == "none" {
		out.NoPeer = "not wanted"
	} else if out.NoPeer = PeerMissing(); out.NoPeer == "" {
		systems = append(systems, starter{PeerName, StartPeer})
	}
	if len(systems) == 0 {
		return errors.New("nothing to measure: " + out.NoPeer)
	}
	for round := range o.Rounds {
		l, err := MeasureLimits(dir)
		if err != nil {
			return err
		}
		out.Limits = append(out.Limits, l)
		for _, st := range systems {
			fmt.Fprintf(say, "round %d: %s\n", round+1, st.name)
			m, err := one(st.start, filepath.Join(dir, fmt.Sprintf("%s%d", st.name, round)), round, measure)
			if err != nil {
				return err
			}
			out.Runs[st.name] = append(out.Runs[st.name], m)
		}
	}
	out.SetRatios()
	return nil
}

// one measures a freshly started system and stops it.
func one(start func(string) (*System, error), dir string, round int, measure func(*System, int, string) (Measures, error)) (m Measures, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := start(dir)
	if err != nil {
		return nil, err
	}
	// A benchmark that is told to stop leaves no server behind.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	done := make(chan error, 1)
	go func() {
		var err error
		m, err = measure(s, round, dir)
		done <- err
	}()
	select {
	case err = <-done:
		return m, errors.Join(err, s.Stop())
	case <-signals:
		return nil, errors.Join(errors.New("interrupted"), s.Stop())
	}
}
