package main

import (
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/rogpeppe/go-internal/testscript"

	"postern.email/wire/dns/dnstest"
)

// nameServers are commands of the scripts that have a DNS server of their own:
//
//	names              starts one that knows nothing but the root, and puts its address into $DNS
//	publish FILE       gives it the records of a zone file, and the PTR records in its comments
//	withdraw NAME      takes away all records of a name
func nameServers(t *testing.T) map[string]func(*testscript.TestScript, bool, []string) {
	var mu sync.Mutex
	all := map[string]*dnstest.Server{}
	of := func(ts *testscript.TestScript) *dnstest.Server {
		mu.Lock()
		defer mu.Unlock()
		return all[ts.Getenv("DNS")]
	}
	return map[string]func(*testscript.TestScript, bool, []string){
		"names": func(ts *testscript.TestScript, _ bool, _ []string) {
			s := dnstest.New(t, ". 60 SOA ns. admin. 1 2 3 4 5")
			s.Secure(".")
			mu.Lock()
			defer mu.Unlock()
			all[s.Addr] = s
			ts.Setenv("DNS", s.Addr)
		},
		"publish": func(ts *testscript.TestScript, _ bool, args []string) {
			text := ts.ReadFile(args[0])
			for line := range strings.Lines(text) {
				if ptr, ok := strings.CutPrefix(line, "; "); ok && strings.Contains(ptr, " IN PTR ") {
					of(ts).Add(t, ptr)
				}
			}
			p := mdns.NewZoneParser(strings.NewReader(text), "", args[0])
			for rr, ok := p.Next(); ok; rr, ok = p.Next() {
				of(ts).Add(t, rr.String())
			}
			ts.Check(p.Err())
		},
		"withdraw": func(ts *testscript.TestScript, _ bool, args []string) { of(ts).Remove(args[0]) },
	}
}

// waitLogged FILE REGEXP waits until a file has a line like that.
func waitLogged(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: logged FILE REGEXP")
	}
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	tick, end := time.NewTicker(20*time.Millisecond), time.NewTimer(2*time.Minute)
	defer tick.Stop()
	defer end.Stop()
	for {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && want.Match(text) {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			ts.Fatalf("%s has no %s:\n%s", args[0], want, text)
		}
	}
}
