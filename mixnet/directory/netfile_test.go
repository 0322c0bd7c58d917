package directory

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
)

// contacts are authorities with ways to them.
func contacts(t testing.TB, n int) (out []Contact) {
	t.Helper()
	for i := range n {
		out = append(out, Contact{Key: testKey(t, fmt.Sprintf("authority %d", i)).Public(), LinkKey: Hash{byte(i + 1)},
			Addresses: []string{fmt.Sprintf("authority%d.example:48099", i), fmt.Sprintf("[2001:db8::%d]:48099", i+1)}})
	}
	return out
}

func testNetworkFile(t testing.TB) []byte {
	t.Helper()
	b, err := FormatNetwork("test.net", time.Hour, contacts(t, 3))
	must(t, err)
	return b
}

// What a network file says is what was given, whatever the order.
func TestNetworkFile(t *testing.T) {
	for authorities := 1; authorities <= MaxAuthorities; authorities++ {
		list := contacts(t, authorities)
		b, err := FormatNetwork("test.net", 90*time.Second, list)
		must(t, err)
		n, err := ParseNetwork(b)
		must(t, err)
		if n.Name() != "test.net" || n.Period() != 90*time.Second || n.Threshold() != authorities/2+1 || len(n.Contacts()) != authorities || len(b) > MaxNetwork {
			t.Fatalf("%d authorities: %+v", authorities, n)
		}
		for i, c := range n.Contacts() {
			if c.ID != n.Authorities()[i].ID() || c.ID != c.Key.ID() {
				t.Error("contacts and keys are in different orders")
			}
			j := slices.IndexFunc(list, func(o Contact) bool { return o.Key.ID() == c.ID })
			if list[j].LinkKey != c.LinkKey || !slices.Equal(list[j].Addresses, c.Addresses) {
				t.Errorf("contact %d is another", i)
			}
		}
		slices.Reverse(list)
		if again, err := FormatNetwork("test.net", 90*time.Second, list); err != nil || !bytes.Equal(again, b) || !bytes.Equal(n.Bytes(), b) {
			t.Error("two files of one network", err)
		}
	}
	if n, _ := testNetwork(t, 3); n.Contacts() != nil || n.Bytes() != nil {
		t.Error("a network without contacts has some")
	}
}

// Every rule of the file, with its words.
func TestNetworkFileRules(t *testing.T) {
	good := string(testNetworkFile(t))
	at := strings.Index(good, "authority ")
	next := at + strings.Index(good[at+1:], "authority ") + 1
	one := good[at:next]
	if _, err := ParseNetwork([]byte(strings.Replace(good, one, "", 1) + one)); err != nil {
		t.Error("the order of authorities matters:", err)
	}
	for _, k := range []struct {
		doc    string
		class  errs.Kind
		public string
	}{
		{"", errs.Invalid, "no postern-network"},
		{strings.Replace(good, "postern-network 1", "postern-network 2", 1), errs.Unsupported, "version of postern-network is unknown"},
		{strings.Repeat("x", MaxNetwork+1), errs.TooLarge, "longer than 65536 bytes"},
		{good[:at], errs.Invalid, "a network has 1 to 9 authorities"},
		{good + one, errs.Invalid, "two authorities have the same link-key"},
		{good + strings.Replace(one, "link-key 0", "link-key f", 1), errs.Invalid, "an authority is named twice"},
		{strings.Replace(good, "period 3600", "period 86401", 1), errs.Invalid, "period: not a number from 1 to 86400"},
		{strings.Replace(good, "period 3600\n", "", 1), errs.Invalid, "too few of period before it"},
		{strings.Replace(good, "network test.net", "network Test", 1), errs.Invalid, "network: not 1 to 32 of a-z, 0-9, dot and hyphen"},
		{strings.Replace(good, "authority ", "critical authority ", 1), errs.Invalid, "a known keyword is not marked critical"},
		{strings.Replace(good, "authority ", "authority x ", 1), errs.Invalid, "wrong number of arguments of authority"},
		{strings.Replace(good, "authority ", "authority =", 1), errs.Invalid, "authority: not 32 bytes of base64"},
		{strings.Replace(good, "link-key", "critical link-kez", 1), errs.Unsupported, "critical keyword is unknown"},
		{strings.Replace(good, "link-key", "link-kez", 1), errs.Invalid, "too few of link-key before it"},
		{strings.Replace(good, "address ", "address nowhere\naddress ", 1), errs.Invalid, "address: not a host and a port, or named twice"},
		{strings.Replace(good, "\naddress", "\nfax 1\naddress", 1), 0, ""},
	} {
		_, err := ParseNetwork([]byte(k.doc))
		if k.public == "" {
			must(t, err)
			continue
		}
		if errs.KindOf(err) != k.class || !strings.HasSuffix(errs.Public(err), k.public) {
			t.Errorf("%s: %v", k.public, err)
		}
	}
	var many strings.Builder
	many.WriteString("postern-network 1\nnetwork a\nperiod 1\n")
	for _, c := range contacts(t, MaxAuthorities+1) {
		w := &writer{}
		w.line("authority", c.Key)
		w.line("link-key", c.LinkKey)
		w.line("address", c.Addresses[0])
		many.Write(w.b)
	}
	if _, err := ParseNetwork([]byte(many.String())); !strings.HasSuffix(errs.Public(err), "more than 9 of authority") {
		t.Error(err)
	}
	_, err := FormatNetwork("a", 1500*time.Millisecond, contacts(t, 1))
	refused(t, err, errs.Invalid, "the period is not a number of whole seconds up to a day")
	_, err = FormatNetwork("a", time.Second, []Contact{{}})
	refused(t, err, errs.Invalid, "an authority has no key")
	_, err = FormatNetwork("a", 0, contacts(t, 1))
	refused(t, err, errs.Invalid, "line 3: period: not a number from 1 to 86400")
}

// What each authority gives out of itself becomes one network.
func TestJoinNetworks(t *testing.T) {
	all := contacts(t, 3)
	part := func(name string, period time.Duration, list ...Contact) *Network {
		b, err := FormatNetwork(name, period, list)
		must(t, err)
		n, err := ParseNetwork(b)
		must(t, err)
		return n
	}
	n, err := JoinNetworks(part("test.net", time.Hour, all[2]), part("test.net", time.Hour, all[0], all[1]), part("test.net", time.Hour, all[1]))
	must(t, err)
	if !bytes.Equal(n.Bytes(), testNetworkFile(t)) {
		t.Error("joined it is another network")
	}
	moved := all[1]
	moved.Addresses = []string{"elsewhere.example:1"}
	bare, _ := testNetwork(t, 1)
	for public, list := range map[string][]*Network{
		"there is no network to join":                                        nil,
		"the networks have different names":                                  {part("a", time.Hour, all[0]), part("b", time.Hour, all[1])},
		"the networks have different periods":                                {part("a", time.Hour, all[0]), part("a", time.Minute, all[1])},
		"a network does not tell where its authorities are":                  {part("test.net", time.Hour, all[0]), bare},
		"an authority is named twice, with different link keys or addresses": {part("a", time.Hour, all[1]), part("a", time.Hour, moved)},
	} {
		_, err := JoinNetworks(list...)
		refused(t, err, errs.Invalid, public)
	}
}

func FuzzNetwork(f *testing.F) {
	f.Add(testNetworkFile(f))
	f.Add([]byte("postern-network 1\nnetwork a\nperiod 1\nauthority a b\n"))
	f.Add([]byte("postern-network 1\nnetwork a\nperiod 1\ncritical authority\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNetwork(b)
		if err != nil {
			return
		}
		again, err := ParseNetwork(n.Bytes())
		if err != nil || !bytes.Equal(again.Bytes(), n.Bytes()) {
			t.Fatalf("written and read again it is another: %v", err)
		}
	})
}
