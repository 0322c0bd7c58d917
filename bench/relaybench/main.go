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
	"flag"
	"fmt"
	"os"

	"postern.email/bench/rig"
)

func main() {
	var o rig.Options
	o.Flags(2)
	var (
		mails  = flag.Int("mails", 4000, "mails of the phase with 16 sessions")
		size   = flag.Int("bytes", 10000, "size of a mail")
		idle   = flag.Int("idle", 1000, "idle sessions, in the first round: so many, then twice as many; 0: none")
		logins = flag.Int("logins", 1000, "logins of the login phase")
	)
	flag.Parse()
	if flag.NArg() > 0 || !o.Valid() || *mails < 100 || *size < 1000 {
		flag.Usage()
		os.Exit(2)
	}
	sz := sizes{Mails: *mails, MailBytes: *size, Idle: *idle, Logins: *logins}
	out := newOutcome(sz)
	err := rig.Run("relaybench", o, out, os.Stderr, func(s *rig.System, round int, dir string) (rig.Measures, error) {
		sz := sz
		if round > 0 {
			sz.Idle = 0
		}
		return (&bench{s}).run(sz, uint64(round+1)*1_000_000, dir, os.Stderr)
	})
	if err == nil {
		err = o.Show(out, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "relaybench:", err)
		os.Exit(1)
	}
}

// newOutcome says how the outcome of this load is to be read.
func newOutcome(sz sizes) *rig.Outcome {
	syncs := func(l rig.Limits) float64 { return l.Syncs }
	shakes := func(l rig.Limits) float64 { return l.Handshakes }
	return &rig.Outcome{
		Mails: sz.Mails, Bytes: sz.MailBytes, Order: order, Bars: bars,
		Load: fmt.Sprintf("%d mails of %d bytes at 16 sessions", sz.Mails, sz.MailBytes),
		Against: []rig.Against{
			{Name: mAccepted1, Limit: syncs, What: "the fdatasync rate of one writer"},
			{Name: mAccepted16, Limit: syncs, What: "the fdatasync rate of one writer (above 1: syncs are shared)"},
			{Name: mFresh, Limit: shakes, What: "the handshake rate"},
			{Name: mLogins, Limit: shakes, What: "the handshake rate"},
		},
	}
}

// bars are what issue 2 asks for.
var bars = map[string]rig.Bar{
	mAccepted16:  {Limit: 4},
	mDelivered16: {Limit: 10},
	mTenDeliver:  {Limit: 8},
	mCommit99:    {Limit: 0.35, AtMost: true},
	mSyncs16:     {Limit: 0.15, AtMost: true, Absolute: true},
	mIdle50:      {Limit: 2.5, AtMost: true, Absolute: true},
	mCPU:         {Limit: 0.35, AtMost: true, Absolute: true},
	mLogins:      {Limit: 650, Absolute: true},
}
