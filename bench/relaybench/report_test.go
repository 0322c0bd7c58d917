package main

import (
	"bytes"
	"strings"
	"testing"

	"postern.email/bench/rig"
	"postern.email/interop/mailclient"
)

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name         string
		value, ratio float64
		want         string
	}{
		{mAccepted16, 100, 4, "met"},
		{mAccepted16, 100, 3.9, "missed"},
		{mAccepted16, 100, 0, ""}, // no peer
		{mCommit99, 100, 0.35, "met"},
		{mCommit99, 100, 0.4, "missed"},
		{mLogins, 650, 0.1, "met"},
		{mLogins, 649, 9, "missed"},
		{mCPU, 0.36, 0, "missed"},
		{mCPU, 0.34, 0, "met"},
	} {
		if got := bars[c.name].Verdict(c.value, c.ratio); got != c.want {
			t.Errorf("%s %v/%v: %q, want %q", c.name, c.value, c.ratio, got, c.want)
		}
	}
}

func TestNoRatioWithoutPeer(t *testing.T) {
	o := newOutcome(sizes{Mails: 100, MailBytes: 1000})
	o.Rounds, o.Runs = 2, map[string][]rig.Measures{rig.PosternName: {{mAccepted16: 1000, mLogins: 700}, {mAccepted16: 3000, mLogins: 600}}}
	o.Limits, o.NoPeer = []rig.Limits{{Syncs: 500, Handshakes: 1300}}, "postfix is not installed"
	o.SetRatios()
	var b bytes.Buffer
	o.Text(&b)
	text := b.String()
	if len(o.Ratios) != 0 || strings.Contains(text, "ratio  ") || strings.Contains(text, "4x") {
		t.Errorf("a ratio without a peer:\n%s", text)
	}
	for _, want := range []string{"2000", "no peer (postfix is not installed)", "IMAP logins again, 16 at once: logins/s: 0.50 of the handshake rate", ">= 650 met"} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
}

// TestLedgerCountsCopies: what verify compares with.
func TestLedgerCountsCopies(t *testing.T) {
	s := &bench{&rig.System{Domain: "bench.test"}}
	var l ledger
	parcels := s.pack(1, 40, 10, 2000)
	l.add(parcels)
	sum := 0
	for _, n := range l.count {
		sum += n
	}
	if sum != 400 || len(l.sent) != 40 {
		t.Errorf("%d copies of %d mails, want 400 of 40", sum, len(l.sent))
	}
	for i, p := range parcels {
		if l.sent[p.hash] != 10 || p.hash != mailclient.BodyHash(p.data) {
			t.Errorf("mail %d: %d copies", i, l.sent[p.hash])
		}
		seen := map[int]bool{}
		for _, a := range p.to {
			if a < senders || a >= accounts || seen[a] {
				t.Errorf("mail %d goes to %v", i, p.to)
			}
			seen[a] = true
		}
	}
}
