// Relaybench drives a Postern over its sockets and, where Debian's postfix and
// dovecot are installed, drives them in turn with the same load, and prints the
// ratios. Every mail is fetched and compared: a server that loses, doubles or
// alters one fails the run.
//
//	go run ./bench/relaybench -rounds 3
//
// The peer needs root (its own programs drop it), Linux, and loopback ports; it
// runs from generated configuration in a temporary directory and touches
// nothing of an installed mail system.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	var (
		sets   list
		rounds = flag.Int("rounds", 2, "how often each system is measured, in turn")
		mails  = flag.Int("mails", 4000, "mails of the phase with 16 sessions")
		size   = flag.Int("bytes", 10000, "size of a mail")
		idle   = flag.Int("idle", 1000, "idle sessions, in the first round: so many, then twice as many; 0: none")
		logins = flag.Int("logins", 1000, "logins of the login phase")
		peer   = flag.String("peer", "auto", "auto: postfix+dovecot where installed; none; only")
		asJSON = flag.Bool("json", false, "print one JSON object instead of the table")
		binary = flag.String("postern", "", "the program to drive (default: built from this module)")
		dir    = flag.String("dir", "", "where the servers keep their data; must be a real disk (default: a new temporary directory)")
	)
	flag.Var(&sets, "set", "a further --set for Postern; may be repeated")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 || *mails < 100 || *size < 1000 || (*peer != "auto" && *peer != "none" && *peer != "only") {
		flag.Usage()
		os.Exit(2)
	}
	say := io.Writer(os.Stderr)
	sz := sizes{Mails: *mails, MailBytes: *size, Idle: *idle, Logins: *logins}
	o, err := bench(*rounds, sz, *peer, *binary, *dir, sets, say)
	if err == nil {
		if *asJSON {
			err = o.json(os.Stdout)
		} else {
			o.text(os.Stdout)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "relaybench:", err)
		os.Exit(1)
	}
}

func bench(rounds int, sz sizes, peer, bin, parent string, sets []string, say io.Writer) (o *outcome, err error) {
	dir, err := os.MkdirTemp(parent, "relaybench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the peer's users walk through
		return nil, err
	}
	o = &outcome{Rounds: rounds, Mails: sz.Mails, Bytes: sz.MailBytes, Runs: map[string][]measures{},
		Machine: fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())}
	type starter struct {
		name  string
		start func(dir string) (*System, error)
	}
	var systems []starter
	if peer != "only" {
		if bin == "" {
			if bin, err = buildPostern(dir); err != nil {
				return nil, err
			}
		}
		systems = append(systems, starter{posternName, func(d string) (*System, error) { return startPostern(bin, d, sets) }})
	}
	if peer == "none" {
		o.NoPeer = "not wanted"
	} else if o.NoPeer = peerMissing(); o.NoPeer == "" {
		systems = append(systems, starter{peerName, startPeer})
	}
	if len(systems) == 0 {
		return nil, errors.New("nothing to measure: " + o.NoPeer)
	}
	for round := range rounds {
		l, err := measureLimits(dir)
		if err != nil {
			return nil, err
		}
		o.Limits = append(o.Limits, l)
		for _, st := range systems {
			fmt.Fprintf(say, "round %d: %s\n", round+1, st.name)
			if round > 0 {
				sz.Idle = 0
			}
			m, err := one(st.start, filepath.Join(dir, fmt.Sprintf("%s%d", st.name, round)), sz, uint64(round+1)*1_000_000, say)
			if err != nil {
				return nil, err
			}
			o.Runs[st.name] = append(o.Runs[st.name], m)
		}
	}
	o.ratios()
	return o, nil
}

// one measures a freshly started system and stops it.
func one(start func(string) (*System, error), dir string, sz sizes, seed uint64, say io.Writer) (m measures, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := start(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	return s.run(sz, seed, dir, say)
}
