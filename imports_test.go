// Package postern_test holds the rules about the tree itself.
package postern_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "postern.email/"

// floors, from the top; arrows point down only (docs/architecture.md).
var floors = [][]string{
	{"cmd"},
	{"lab"},
	{"role"},
	{"agent"},
	{"wire", "post", "mixnet"},
	{"mail", "store"},
	{"kit"},
}

// sideways is the whole list of edges allowed within a floor. A trailing /...
// on the right stands for the package and all below it.
var sideways = map[string][]string{
	"lab":              {"lab/world"},
	"agent/access":     {},
	"agent/aliases":    {"agent/forward"},
	"agent/aliasmail":  {"agent/deliver", "agent/forward"},
	"agent/deliver":    {"agent/road"},
	"agent/forward":    {"agent/deliver"},
	"agent/evidence":   {},
	"agent/exit":       {"agent/deliver", "agent/mbox", "agent/vouch"},
	"agent/mbox":       {"agent/parts"},
	"agent/mixbox":     {"agent/vouch"},
	"agent/reply":      {"agent/mixbox", "agent/vouch"},
	"agent/mixclient":  {"agent/vouch"},
	"agent/mixdoor":    {"agent/aliasmail", "agent/deliver", "agent/mixbox", "agent/parts", "agent/receive", "agent/vouch"},
	"agent/mixnym":     {},
	"agent/mixreceive": {"agent/deliver", "agent/notice", "agent/vouch"},
	"agent/mixsubmit":  {"agent/deliver", "agent/notice", "agent/submit", "agent/vouch"},
	"agent/notice":     {"agent/deliver"},
	"agent/submit":     {"agent/aliasmail", "agent/deliver"},
	"agent/receive":    {"agent/aliasmail", "agent/deliver", "agent/forward"},
	"wire/smtp":        {"wire/lineio", "wire/sasl"},
	"wire/imap":        {"wire/sasl", "wire/imap/imaptest"},
	"wire/pop3":        {"wire/lineio", "wire/sasl"},
	"wire/management":  {"wire/lineio"},
	"wire/alias":       {"wire/sasl", "wire/web"},
	"wire/mxdeliv":     {"wire/lineio"},
	"wire/dns":         {"wire/dns/dnstest"},
	"wire/dane":        {"wire/dns"},
	"post/account":     {"post/names", "post/seal"},
	"post/names":       {"post/seal"},
	"post/alias":       {"post/names", "post/seal"},
	"post/blob":        {"post/seal"},
	"post/mailbox":     {"post/seal", "post/blob"},
	"post/queue":       {"post/seal", "post/blob"},
	"post/dkimkey":     {"post/seal"},
	"post/seen":        {"post/seal"},
	"post/namebook":    {"post/seal"},
	"post/policybook":  {"post/namebook", "post/seal"},
	"post/packetbox":   {"post/seal"},
	"post/nym":         {"post/seal"},
	"mixnet/directory": {"mixnet/packet"},
	"mixnet/content":   {"mixnet/packet"},
	"mixnet/feed":      {"mixnet/packet", "mixnet/content", "mixnet/link"},
	"mixnet/dirtest":   {"mixnet/directory", "mixnet/packet"},
	"mixnet/dircache":  {"mixnet/directory", "mixnet/packet"},
	"mixnet/keys":      {"mixnet/packet", "mixnet/directory"},
	"mixnet/node":      {"mixnet/packet", "mixnet/replay", "mixnet/pool", "mixnet/link", "mixnet/directory", "mixnet/keys", "mixnet/dircache", "mixnet/stats", "mixnet/content"},
	"mixnet/pool":      {"mixnet/replay"},
	"mixnet/token":     {"mixnet/packet"},
	"mixnet/link":      {"mixnet/packet"},
	"mixnet/letter":    {"mixnet/packet", "mixnet/content", "mixnet/directory"},
	"mixnet/client":    {"mixnet/packet", "mixnet/content", "mixnet/directory", "mixnet/letter", "mixnet/link"},
	"mixnet/sim":       {"mixnet/pool", "mixnet/client", "mixnet/directory", "mixnet/packet", "mixnet/letter"},
	"store/pebble":     {"store"},
	"store/storetest":  {"store"},
	"mail/align":       {"mail"},
	"mail/aliasname":   {"mail", "mail/align", "mail/anon", "mail/verp"},
	"mail/anon":        {"mail"},
	"mail/blacklist":   {"mail"},
	"mail/dkim":        {"mail"},
	"mail/dmarc":       {"mail", "mail/align"},
	"mail/dsn":         {"mail", "mail/mime"},
	"mail/mime":        {"mail"},
	"mail/openpgp":     {"mail", "mail/pgpmime"},
	"mail/pgpmime":     {"mail", "mail/mime"},
	"mail/sanitize":    {"mail", "mail/mime"},
	"mail/verp":        {"mail"},
	"mail/spf":         {"mail"},
}

// outside are the top folders that use the built binary over sockets or hold
// no program code: no room of the house may import them.
var outside = []string{"interop", "bench", "docs", "web", "deploy"}

// reachesIn is what packages outside may import from inside the house.
var reachesIn = map[string][]string{
	"bench/aliasbench":   {"kit", "mail", "post/alias", "post/names", "post/seal", "store", "store/pebble"},
	"bench/mixbench":     {"mixnet/packet"},
	"bench/nodebench":    {"mixnet", "kit"},
	"bench/storebench":   {"store", "store/pebble"},
	"interop":            {"kit/errs", "kit/tooltest", "mail/aliasname", "wire/dns/dnstest", "mixnet/directory", "mixnet/link", "mixnet/packet"},
	"interop/smallworld": {"kit/tooltest", "wire/dns/dnstest"},
}

// forTests are packages that only tests import, from rooms beside or above them. They may
// choose an engine, as tests may.
var forTests = []string{"agent/agenttest", "agent/migrate/migratetest", "kit/clocktest", "kit/configtest", "kit/stattest", "kit/tooltest", "kit/disktest", "kit/racetest", "mixnet/dirtest", "store/storetest", "wire/dns/dnstest"}

// embedded are folders of files in the binary, and who may read them.
var embedded = map[string][]string{"web": {"wire/alias", "wire/web", "role/authority"}, "deploy": {"cmd/postern"}}

type pkg struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// floor gives the floor of a module path, 0 at the top, or -1.
func floor(rel string) int {
	top, _, _ := strings.Cut(rel, "/")
	return slices.IndexFunc(floors, func(f []string) bool { return slices.Contains(f, top) })
}

func under(rel string, list []string) bool {
	return slices.ContainsFunc(list, func(p string) bool { return rel == p || strings.HasPrefix(rel, p+"/") })
}

// fault says why from may not import to, or "".
func fault(from, to string, test bool) string {
	test = test || slices.Contains(forTests, from) || under(from, outside) // which has its own list, reachesIn
	if slices.Contains(forTests, to) {
		if !test {
			return "only tests import what is for tests"
		}
		if floor(from) == floor(to) {
			return ""
		}
	}
	if users, ok := embedded[to]; ok {
		if slices.Contains(users, from) || from == to {
			return ""
		}
		return "only some read the files in the binary"
	}
	fromOut, toOut := under(from, outside), under(to, outside)
	switch {
	case fromOut && (toOut || under(to, reachesIn[from])):
		return ""
	case fromOut:
		return "what stands outside the house uses the built program over sockets"
	case toOut:
		return "nothing imports what stands outside the house"
	}
	a, b := floor(from), floor(to)
	switch {
	case a < 0 || b < 0:
		return "the package is on no floor"
	case from == to || strings.HasPrefix(to, from+"/internal") || strings.HasPrefix(from, to+"/internal"):
		return ""
	case a > b:
		return "an arrow points up"
	case strings.HasPrefix(from, "wire/") && (to == "store" || strings.HasPrefix(to, "store/")):
		return "wire keeps no state: it never imports store"
	case a < b:
		if strings.HasPrefix(to, "store/") && !strings.HasPrefix(from, "role/") && !test {
			return "only a role chooses the engine"
		}
		return ""
	case from[:strings.IndexByte(from+"/", '/')] == "kit":
		return "" // the bottom floor is one room; cycles are the compiler's business
	case under(to, sideways[from]):
		return ""
	case test && strings.HasPrefix(to, "store/"):
		return "" // tests of the floor's rooms run on a real engine
	}
	return "the edge is not in the table of edges within a floor"
}

// TestImports: arrows point down, and within a floor only along the table.
func TestImports(t *testing.T) {
	for _, p := range list(t) {
		from, ok := strings.CutPrefix(p.ImportPath, module)
		if !ok {
			continue // the root, which holds only this file
		}
		if !under(from, outside) && floor(from) < 0 {
			t.Errorf("%s is on no floor", from)
		}
		check := func(imports []string, test bool) {
			for _, imp := range imports {
				to, ok := strings.CutPrefix(imp, module)
				if !ok {
					continue
				}
				if why := fault(from, to, test); why != "" {
					t.Errorf("%s → %s: %s", from, to, why)
				}
			}
		}
		check(p.Imports, false)
		check(p.TestImports, true)
		check(p.XTestImports, true)
	}
}

// TestImportRulesBite: the rules refuse what they are there to refuse.
func TestImportRulesBite(t *testing.T) {
	bad := [][2]string{
		{"kit/errs", "mail"}, {"store", "post/seal"}, {"wire/imap", "store"}, {"wire/imap", "post/mailbox"},
		{"post/mailbox", "post/account"}, {"post/mailbox", "wire/smtp"}, {"agent/access", "agent/submit"},
		{"role/relay", "role/proxy"}, {"agent/access", "role/relay"}, {"somewhere", "kit/errs"},
		{"agent/submit", "interop"}, {"interop", "agent/submit"}, {"post/mailbox", "store/pebble"}, {"mail", "store"},
		{"agent/access", "web"}, {"role/relay", "deploy"}, {"agent/access", "agent/agenttest"}, {"post/mailbox", "kit/clocktest"}, {"agent/agenttest", "agent/deliver"},
	}
	for _, e := range bad {
		if fault(e[0], e[1], false) == "" {
			t.Errorf("%s → %s is not refused", e[0], e[1])
		}
	}
	good := [][2]string{{"cmd/postern", "role/relay"}, {"agent/access", "wire/imap"}, {"agent/access", "post/mailbox"},
		{"wire/smtp", "wire/lineio"}, {"post/mailbox", "store"}, {"role/relay", "store/pebble"}, {"mail", "kit/errs"},
		{"agent/agenttest", "store/pebble"}, {"agent/agenttest", "kit/clocktest"}}
	for _, e := range [][2]string{{"agent/access", "agent/agenttest"}, {"post/mailbox", "kit/clocktest"}} {
		if why := fault(e[0], e[1], true); why != "" {
			t.Errorf("a test of %s → %s: %s", e[0], e[1], why)
		}
	}
	for _, e := range good {
		if why := fault(e[0], e[1], false); why != "" {
			t.Errorf("%s → %s: %s", e[0], e[1], why)
		}
	}
}
