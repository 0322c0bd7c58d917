package relay

import (
	"strings"
	"testing"
)

// TestAliasStatus: the state of the service, and that doctor says when it was stopped.
func TestAliasStatus(t *testing.T) {
	s := inMemory(t, "aliases.domains=example.org,here.example")
	if st := s.Status().Aliases; st == nil || len(st.Domains) != 2 || st.Stopped || st.Forward || len(diagnosed(t, s, "aliases")) != 0 {
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
