package dkim

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// TestVerifyFor: signatures of domains that do not count cost no look-up, and a valid one tells
// whose it is, what it covers and which key it fits.
func TestVerifyFor(t *testing.T) {
	s := newSigner()
	record, asked := "v=DKIM1; p="+s.rsaRecord(), []string{}
	keys := records(map[string][]string{"k._domainkey.mail.a.example": {"v=DKIM1; p=AAAA", record}, "k._domainkey.a.example": {record}})
	v := &Verifier{}
	v.Lookup = func(ctx context.Context, name string) ([]string, bool, error) {
		asked = append(asked, name)
		return keys(ctx, name)
	}
	below := strings.Replace(good, "d=a.example", "d=mail.A.example", 1)
	foreign := strings.Replace(good, "d=a.example", "d=b.example", 1)
	raw := s.sign(t, foreign, s.sign(t, below, testMail))
	counts := func(d string) bool { return d == "a.example" || strings.HasSuffix(d, ".a.example") }
	got := v.VerifyFor(t.Context(), []byte(raw), counts)
	if got.Verdict != Valid || got.Domain != "mail.a.example" || got.Selector != "k" || got.Record != record ||
		!slices.Equal(got.Signed, []string{"from", "to", "subject"}) {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(asked, []string{"k._domainkey.mail.a.example"}) {
		t.Errorf("looked up: %q", asked)
	}
	if got := v.Verify(t.Context(), []byte(raw), "a.example"); got.Verdict != Invalid || got.Domain != "" || got.Record != "" {
		t.Errorf("exactly the domain: %+v", got)
	}
	if got := v.VerifyFor(t.Context(), []byte(raw), func(string) bool { return false }); got.Verdict != Invalid || len(asked) != 1 {
		t.Errorf("none counts: %+v after %q", got, asked)
	}
	// A d= that is no domain is never asked about.
	odd := s.sign(t, strings.Replace(good, "d=a.example", "d=..", 1), testMail)
	v.VerifyFor(t.Context(), []byte(odd), func(d string) bool {
		if d == "" {
			t.Error("asked about no domain")
		}
		return true
	})
}
