package relay

import (
	"strings"
	"testing"
)

// TestDoctorAliases: doctor says which domains of aliases mail comes for.
func TestDoctorAliases(t *testing.T) {
	names := nameServer(t, "example.org", "example.org")
	names.Add(t, "here.example 60 MX 10 example.org")
	names.Add(t, "there.example 60 MX 10 other.example")
	names.Add(t, "both.example 60 MX 10 example.org")
	names.Add(t, "both.example 60 MX 20 other.example")
	s := inMemory(t, "network.resolver="+names.Addr, "aliases.domains=example.org,here.example,there.example,both.example,none.example")
	want := []struct {
		ok   bool
		text string
		next string
	}{{true, "here.example comes here", ""}, {false, "there.example goes to another server", "there.example. IN MX 10 example.org."}, {false, "some mail for aliases at both.example", "Take the others away"},
		{false, "none.example has no mail server", "none.example. IN MX 10 example.org."}}
	found := diagnosed(t, s, "aliases")
	if len(found) != len(want) {
		t.Fatalf("%+v", found)
	}
	for i, w := range want {
		if d := found[i]; d.OK != w.ok || !strings.Contains(d.Text, w.text) || !strings.Contains(d.Next, w.next) {
			t.Errorf("%+v, want %+v", d, w)
		}
	}
	if st := s.Status().Aliases; st == nil || len(st.Domains) != 5 || st.Stopped || st.Forward {
		t.Errorf("%+v", st)
	}
	s.alias.stopped.Store(true)
	if found := diagnosed(t, s, "aliases"); !found[0].Advice || !strings.Contains(found[0].Text, "was stopped") || !s.Status().Aliases.Stopped {
		t.Errorf("%+v", found[0])
	}
	if st := inMemory(t, "aliases.enabled=false").Status().Aliases; st != nil {
		t.Errorf("turned off: %+v", st)
	}
}
