package main

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"postern.email/bench/rig"
	"postern.email/interop/mailclient"
)

// TestCheckFinds: what a server loses, doubles, swaps or alters fails the run.
func TestCheckFinds(t *testing.T) {
	b := &bench{System: &rig.System{Domain: "bench.test"}, sz: sizes{MailBytes: 1500}}
	mail := b.mails(1)
	var bodies, heads, fields [][]byte
	var hashes []mailclient.Hash
	for range 3 {
		raw := mail()
		bodies, hashes = append(bodies, raw), append(hashes, sha256.Sum256(raw))
		head, _, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
		heads = append(heads, append(slices.Clone(head), "\r\n\r\n"...))
		var some []byte
		for line := range bytes.Lines(append(slices.Clone(head), "\r\n"...)) {
			name, _, _ := bytes.Cut(line, []byte(":"))
			switch string(name) {
			case "Date", "From", "Subject", "Message-ID":
				some = append(some, line...)
			}
		}
		fields = append(fields, append(some, "\r\n"...))
	}
	for what, good := range map[string][][]byte{mBodies: bodies, mHeaders: heads, mFields: fields} {
		if err := check(hashes, bodies, good, what); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		altered := slices.Clone(good)
		altered[1] = bytes.Replace(good[1], []byte("Message-ID: <"), []byte("Message-ID: <x"), 1)
		for name, bad := range map[string][][]byte{"lost": good[:2], "doubled": {good[0], good[0], good[2]},
			"swapped": {good[1], good[0], good[2]}, "altered": altered, "one more": append(slices.Clone(good), good[0])} {
			if check(hashes, bodies, bad, what) == nil {
				t.Errorf("%s: %s is not noticed", what, name)
			}
		}
	}
}

// TestBarsAreShown: a bar of a measure that the report does not list would never be judged.
func TestBarsAreShown(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range order {
		if seen[name] {
			t.Errorf("%q is listed twice", name)
		}
		seen[name] = true
	}
	for name := range bars {
		if !seen[name] {
			t.Errorf("%q is not listed", name)
		}
	}
}
