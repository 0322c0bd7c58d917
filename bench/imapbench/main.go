// Imapbench drives Postern's IMAP over TLS and, where Debian's dovecot is
// installed, drives that in turn with the same load, and prints the ratios. What
// was read is compared with what was stored, byte for byte.
//
//	go run ./bench/imapbench
//
// The peer is started as relaybench starts it, and needs the same.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"postern.email/bench/rig"
)

func main() {
	var o rig.Options
	o.Flags(1)
	var sz sizes
	flag.IntVar(&sz.Mails, "mails", 10000, "mails of the mailbox that is read")
	flag.IntVar(&sz.MailBytes, "bytes", 10000, "size of a mail")
	flag.IntVar(&sz.Large, "large", 100000, "mails of the mailbox that only SELECT opens, in the first round; 0: none")
	flag.IntVar(&sz.Appends, "appends", 2000, "mails appended by 4 sessions")
	flag.IntVar(&sz.Idle, "idle", 5000, "accounts with a session in IDLE, in the first round; 0: none")
	flag.IntVar(&sz.PeerIdle, "peer-idle", 100, "the same for the peer, which needs a megabyte each, and an inotify instance (a user has 128), or else it looks every 30 s")
	flag.IntVar(&sz.Slow, "slow", 100, "sessions that ask for everything and do not read")
	flag.Parse()
	if flag.NArg() > 0 || !o.Valid() || sz.Mails < 100 || sz.MailBytes < 1000 || sz.Appends < 100 || sz.Slow < 1 {
		flag.Usage()
		os.Exit(2)
	}
	out := newOutcome(sz)
	err := rig.Run("imapbench", o, out, os.Stderr, func(s *rig.System, round int, _ string) (rig.Measures, error) {
		sz := sz
		if s.Name == rig.PeerName {
			sz.Idle = min(sz.Idle, sz.PeerIdle)
		}
		if round > 0 {
			sz.Idle, sz.Large = 0, 0
		}
		b := &bench{System: s, sz: sz, m: rig.Measures{}, say: os.Stderr, seed: uint64(round+1) * 1_000_000}
		return b.m, b.run()
	})
	if len(out.Runs) > 0 { // also when the other system failed
		err = errors.Join(err, o.Show(out, os.Stdout))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "imapbench:", err)
		os.Exit(1)
	}
}

// Names of the measures, in the order of the report.
const (
	mRSS0       = "process at rest: RSS MiB"
	mPSS0       = "- PSS MiB"
	mAppend     = "APPEND, 4 sessions: mails/s"
	mAppendCPU  = "- server CPU ms per mail"
	mBodies     = "FETCH bodies: mails/s"
	mBodiesMB   = "- MB/s"
	mBodiesCPU  = "- server CPU us per mail"
	mBodiesOwn  = "- load generator CPU us per mail"
	mHeaders    = "FETCH BODY[HEADER]: mails/s"
	mHeadersCPU = "- server CPU us per header"
	mFields     = "FETCH as a mail list needs it: mails/s"
	mFieldsCPU  = "- server CPU us per line"
	mSelFirst   = "SELECT of the mailbox, first after start: ms"
	mSelLater   = "- later"
	mBigFirst   = "SELECT of the large mailbox, first after start: ms"
	mBigLater   = "- later, ms"
	mSlow       = "readers of 30 MB mails that do not read: PSS growth MiB"
	mSlowEach   = "- KiB a session"
	mIdle       = "idle sessions in IDLE, one an account"
	mIdleEach   = "- growth of PSS per session, KiB"
	mWake50     = "- commit to EXISTS in IDLE beside them, p50 ms"
	mWake99     = "- p99 ms"
	mRSSEnd     = "after all: RSS MiB"
)

var order = []string{mRSS0, mPSS0, mAppend, mAppendCPU, mBodies, mBodiesMB, mBodiesCPU, mBodiesOwn, mHeaders, mHeadersCPU, mFields, mFieldsCPU,
	mSelFirst, mSelLater, mBigFirst, mBigLater, mSlow, mSlowEach, mIdle, mIdleEach, mWake50, mWake99, mRSSEnd}

// bars are what issue 3 asks for.
var bars = map[string]rig.Bar{
	mRSS0:     {Limit: 40, AtMost: true, Absolute: true},
	mAppend:   {Limit: 8},
	mBodies:   {Limit: 5},
	mHeaders:  {Limit: 6},
	mFields:   {Limit: 6},
	mSelFirst: {Limit: 2, AtMost: true, Absolute: true},
	mSelLater: {Limit: 2, AtMost: true, Absolute: true},
	mBigFirst: {Limit: 10, AtMost: true, Absolute: true},
	mBigLater: {Limit: 10, AtMost: true, Absolute: true},
	mIdleEach: {Limit: 40, AtMost: true, Absolute: true},
	mWake99:   {Limit: 10, AtMost: true, Absolute: true},
}

// newOutcome says how the outcome of this load is to be read.
func newOutcome(sz sizes) *rig.Outcome {
	return &rig.Outcome{Mails: sz.Mails, Bytes: sz.MailBytes, Order: order, Bars: bars,
		Load: fmt.Sprintf("a mailbox of %d mails of %d bytes, one of %d small ones", sz.Mails, sz.MailBytes, sz.Large)}
}
