package dmarc

import (
	"context"
	"errors"
	"strings"
	"testing"

	"postern.email/kit/errs"
)

// zone is a small DNS: records by name, several of one name with "|" between them.
type zone struct {
	txt   map[string]string
	fails map[string]bool
	asked []string
}

func (z *zone) look(_ context.Context, name string) ([]string, bool, error) {
	z.asked = append(z.asked, name)
	txt, ok := z.txt[name]
	switch {
	case z.fails[name]:
		return nil, false, errors.New("timeout")
	case strings.ContainsAny(name, " /"):
		return nil, false, errs.E("test", errs.Invalid, "", nil)
	case !ok:
		return nil, false, errs.E("test", errs.NotFound, "", nil)
	}
	return strings.Split(txt, "|"), false, nil
}

// TestParse: the version stands first, tags are read in any case and order, and what is unknown has its default.
func TestParse(t *testing.T) {
	for txt, want := range map[string]Record{
		"v=DMARC1":                            {Policy: None, Subdomains: None},
		"v=DMARC1; p=reject; adkim=s; aspf=s": {Policy: Reject, Subdomains: Reject, StrictDKIM: true, StrictSPF: true},
		" v = DMARC1 ;ADKIM= S;P=Quarantine ;; sp=none;rua=m":          {Policy: Quarantine, Subdomains: None, StrictDKIM: true},
		"v=DMARC1; sp=reject; p=other; adkim=x; aspf=r; psd=n":         {Policy: None, Subdomains: Reject, Own: true},
		"v=DMARC1; psd=y; adkim=s; adkim=r":                            {Policy: None, Subdomains: None},
		"v=DMARC1; aspf=s;" + strings.Repeat(";", MaxTags) + "adkim=s": {Policy: None, Subdomains: None, StrictSPF: true},
	} {
		if got, ok := Parse(txt); !ok || got != want {
			t.Errorf("%q: %+v %v", txt, got, ok)
		}
	}
	for _, txt := range []string{"", "v=spf1 -all", "v=DMARC2", "v=dmarc1; adkim=s", "adkim=s; v=DMARC1", "v=DMARC1 adkim=s", "v", "v=DMARC1;" + strings.Repeat(" ", MaxRecord)} {
		if got, ok := Parse(txt); ok {
			t.Errorf("%q: %+v", txt, got)
		}
	}
}

// TestFind: the record of the domain counts, else that of its organization; several of one name are none, and
// what a look-up fails at is told.
func TestFind(t *testing.T) {
	z := &zone{txt: map[string]string{
		"_dmarc.strict.example":         "v=DMARC1; p=reject; adkim=s; aspf=s",
		"_dmarc.relaxed.strict.example": "v=DMARC1; p=none",
		"_dmarc.dkim.example":           "v=DMARC1; adkim=s|other text",
		"_dmarc.two.example":            "v=DMARC1; adkim=s|v=DMARC1; adkim=s",
		"_dmarc.mid.low.example":        "v=DMARC1; adkim=s",
		"_dmarc.low.example":            "v=DMARC1; aspf=s",
		"_dmarc.shop.uni.example":       "v=DMARC1; psd=n",
		"_dmarc.uni.example":            "v=DMARC1; adkim=s",
		"_dmarc.example":                "v=DMARC1; adkim=s",
		"_dmarc.x.co.uk":                "v=DMARC1; aspf=s",
	}, fails: map[string]bool{"_dmarc.down.example": true}}
	for domain, want := range map[string]Alignment{
		"strict.example":         {"strict.example", "strict.example", true, true},
		"News.Strict.Example":    {"news.strict.example", "strict.example", true, true},
		"relaxed.strict.example": {"relaxed.strict.example", "strict.example", false, false},
		"a.dkim.example":         {"a.dkim.example", "dkim.example", true, false},
		"two.example":            {"two.example", "two.example", false, false},
		"a.mid.low.example":      {"a.mid.low.example", "low.example", false, true},
		"mid.low.example":        {"mid.low.example", "low.example", true, false},
		"a.shop.uni.example":     {"a.shop.uni.example", "shop.uni.example", false, false},
		"a.uni.example":          {"a.uni.example", "uni.example", true, false},
		"none.example":           {"none.example", "none.example", false, false},
		"m.x.co.uk":              {"m.x.co.uk", "x.co.uk", false, true},
		"[192.0.2.1]":            {"[192.0.2.1]", "[192.0.2.1]", false, false},
	} {
		if got, err := Find(t.Context(), z.look, domain); err != nil || got != want {
			t.Errorf("%s: %+v, %v", domain, got, err)
		}
	}
	if _, err := Find(t.Context(), z.look, "a.down.example"); errs.KindOf(err) != errs.Unavailable {
		t.Error(err)
	}
	z.asked = nil
	long := strings.Repeat("a.", 30) + "strict.example"
	got, err := Find(t.Context(), z.look, long)
	if err != nil || !got.StrictDKIM || len(z.asked) != 7 || z.asked[1] != "_dmarc.a.a.a.a.a.strict.example" {
		t.Errorf("%+v, %v, %q", got, err, z.asked)
	}
}

// TestAligned: strict alignment takes the very domain, relaxed every one of the organization.
func TestAligned(t *testing.T) {
	strict := Alignment{Domain: "news.shop.example", Organization: "shop.example", StrictDKIM: true}
	border := Alignment{Domain: "news.shop.uni.example", Organization: "shop.uni.example"}
	for _, c := range []struct {
		a         Alignment
		d         string
		dkim, spf bool
	}{
		{strict, "news.shop.example", true, true},
		{strict, "NEWS.shop.example", true, true},
		{strict, "shop.example", false, true},
		{strict, "mail.news.shop.example", false, true},
		{strict, "other.example", false, false},
		{strict, "", false, false},
		{border, "shop.uni.example", true, true},
		{border, "x.shop.uni.example", true, true},
		{border, "uni.example", false, false},
		{border, "notshop.uni.example", false, false},
		{Alignment{Domain: "[192.0.2.1]", Organization: "[192.0.2.1]"}, "[192.0.2.1]", false, false},
	} {
		if c.a.DKIM(c.d) != c.dkim || c.a.SPF(c.d) != c.spf {
			t.Errorf("%+v and %q: DKIM %v, SPF %v", c.a, c.d, c.a.DKIM(c.d), c.a.SPF(c.d))
		}
	}
}

// FuzzFind: whatever a domain and its records say, look-ups are few, and a domain is aligned with itself.
func FuzzFind(f *testing.F) {
	f.Add("a.shop.example", "v=DMARC1; p=reject; adkim=s; psd=n")
	f.Add("x.co.uk", " v = DMARC1 ;;=;adkim")
	f.Add("a.b.c.d.e.f.g.h.i.j.k", "v=DMARC1")
	f.Fuzz(func(t *testing.T, domain, record string) {
		asked := 0
		a, err := Find(t.Context(), func(context.Context, string) ([]string, bool, error) {
			asked++
			return []string{record}, false, nil
		}, domain)
		if err != nil || asked > MaxLookups {
			t.Errorf("%d look-ups, %v", asked, err)
		}
		if a.Domain != "" && a.Domain[0] != '[' && (!a.DKIM(a.Domain) || !a.SPF(domain)) {
			t.Errorf("%+v is not aligned with itself", a)
		}
	})
}
