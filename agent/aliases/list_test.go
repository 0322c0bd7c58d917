package aliases

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern.email/kit/errs"
	"postern.email/kit/limits"
	"postern.email/mail"
	"postern.email/post/alias"
	wire "postern.email/wire/alias"
)

// arrive has a mail come to an alias.
func (w *world) arrive(address, from string) {
	w.t.Helper()
	addr, err := mail.ParseAddress(address)
	if err != nil {
		w.t.Fatal(err)
	}
	al, err := w.reg.Resolve(w.t.Context(), addr, limits.Peer{})
	if err != nil {
		w.t.Fatal(err)
	}
	sender, err := mail.ParseAddress(from)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.reg.Record(w.t.Context(), w.reg.Arrive(al, sender, al.Judge(sender, w.Clock.Now()))); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(who Who, address string) View {
	w.t.Helper()
	v, err := w.desk.Get(w.t.Context(), who, address)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// all turns the pages of a list and gives the local parts, sorted.
func (w *world) all(who Who, r ListRequest) (out []string) {
	w.t.Helper()
	for {
		page, next, err := w.desk.List(w.t.Context(), who, r)
		if err != nil || r.Limit > 0 && len(page) > r.Limit {
			w.t.Fatalf("%d in a page of %d, %v", len(page), r.Limit, err)
		}
		for _, v := range page {
			local, _, _ := strings.Cut(v.Address, "@")
			out = append(out, local)
			if v.Correspondents == nil || len(v.Correspondents) != 0 {
				w.t.Errorf("%s: a list has correspondents %v", local, v.Correspondents)
			}
		}
		if r.Cursor = next; next == "" {
			slices.Sort(out)
			return out
		}
	}
}

// TestPages: whatever the size of its pages, a list gives each alias once; a search and a site choose
// among those that are there, and among the deleted ones in the same way.
func TestPages(t *testing.T) {
	w := newWorld(t, nil)
	who, ctx := w.token("anna"), t.Context()
	w.make(who, CreateRequest{Custom: "one", Site: "shop.example", Label: "Books"})
	w.make(who, CreateRequest{Custom: "two", Site: "shop.example", Note: "of the BOOKS"})
	w.make(who, CreateRequest{Custom: "three"})
	w.make(who, CreateRequest{Custom: "gone", Site: "shop.example", Label: "books"})
	w.make(who, CreateRequest{Custom: "lost", Site: "other.example"})
	w.make(w.token("ben"), CreateRequest{Custom: "bens", Label: "books", Site: "shop.example"})
	w.arrive("three@example.org", "eve@books.example")
	for _, local := range []string{"gone", "lost"} {
		if err := w.desk.Delete(ctx, who, local); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{0, 1, 2, 3, 1000, 5000} {
		for _, c := range []struct {
			r    ListRequest
			want string
		}{
			{ListRequest{}, "one three two"},
			{ListRequest{Search: " bOOks "}, "one three two"}, // a label, a note, a correspondent
			{ListRequest{Search: "TWO@"}, "two"},
			{ListRequest{Site: "SHOP.example"}, "one two"},
			{ListRequest{Site: "shop.example", Search: "label of none"}, ""},
			{ListRequest{Site: "shop"}, ""},
			{ListRequest{Deleted: true}, "gone lost"},
			{ListRequest{Deleted: true, Search: "books"}, "gone"},
			{ListRequest{Deleted: true, Site: "other.example"}, "lost"},
		} {
			c.r.Limit = limit
			if got := strings.Join(w.all(who, c.r), " "); got != c.want {
				t.Errorf("%+v gives %q, want %q", c.r, got, c.want)
			}
		}
	}
	for _, cursor := range []string{"x", "00", strings.Repeat("0", 1000)} {
		_, _, err := w.desk.List(ctx, who, ListRequest{Cursor: cursor})
		wantKind(t, err, errs.Invalid, "no place in the list")
	}
	if got := w.all(w.who("ben"), ListRequest{Deleted: true}); got != nil {
		t.Errorf("ben sees %v", got)
	}
}

// TestNamesOfHosts: a site is found as it was typed, and a name with other letters than ASCII in both of its forms.
func TestNamesOfHosts(t *testing.T) {
	w := newWorld(t, nil)
	who := w.token("anna")
	w.make(who, CreateRequest{Custom: "one", Site: "https://www.M\u00fcnchen.example/basket"})
	w.make(who, CreateRequest{Custom: "two"})
	w.arrive("two@example.org", "a@xn--bcher-kva.example")
	for want, all := range map[string][]ListRequest{
		"one": {{Site: "m\u00fcnchen.example"}, {Site: "https://www.m\u00fcnchen.example/other"}, {Site: "xn--mnchen-3ya.example"}, {Search: "M\u00dcNCH"}, {Search: "xn--mnch"}},
		"two": {{Search: "b\u00fccher"}, {Search: "xn--bcher"}},
		"":    {{Search: "muench"}, {Site: "other.example"}},
	} {
		for _, r := range all {
			if got := strings.Join(w.all(who, r), " "); got != want {
				t.Errorf("%+v gives %q, want %q", r, got, want)
			}
		}
	}
}

// TestSearchIsBounded: one call of a search looks at MaxScan aliases at most, and goes on where it
// stood.
func TestSearchIsBounded(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.CreatePerMinute = -1 })
	s := w.Login("anna")
	defer s.Close()
	v, err := w.reg.Begin(t.Context(), s.ID, alias.BeginOptions{Account: s.Key})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for i := range MaxScan + 1 {
		if _, err := w.reg.Create(t.Context(), v, alias.New{Local: "n" + string(rune('a'+i/676%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i%26))}); err != nil {
			t.Fatal(err)
		}
	}
	page, next, err := w.desk.List(t.Context(), w.who("anna"), ListRequest{Search: "nothing such"})
	if err != nil || len(page) != 0 || page == nil || next == "" {
		t.Fatalf("%v, %q, %v", page, next, err)
	}
	if page, next, err = w.desk.List(t.Context(), w.who("anna"), ListRequest{Search: "nothing such", Cursor: next}); err != nil || len(page) != 0 || next != "" {
		t.Errorf("%v, %q, %v", page, next, err)
	}
}

// TestRestorable: a deleted alias says until which day it can be restored, on which it can, and on
// the next it cannot.
func TestRestorable(t *testing.T) {
	for _, late := range []int{0, 1} {
		w := newWorld(t, nil)
		who, ctx := w.token("anna"), t.Context()
		w.make(who, CreateRequest{Custom: "shop"})
		if err := w.desk.Delete(ctx, who, "shop"); err != nil {
			t.Fatal(err)
		}
		v := w.get(who, "shop")
		if v.RestorableTill != "2026-12-20" || v.State != wire.StateDeleted {
			t.Fatalf("%q, %s", v.RestorableTill, v.State)
		}
		page, _, err := w.desk.List(ctx, who, ListRequest{Deleted: true})
		if err != nil || len(page) != 1 || page[0].RestorableTill != v.RestorableTill {
			t.Errorf("%+v, %v", page, err)
		}
		wantKind(t, w.desk.Delete(ctx, who, "shop"), errs.NotFound, textNoAlias)
		_, err = w.desk.Change(ctx, who, "shop", ChangeRequest{Label: new("x")})
		wantKind(t, err, errs.NotFound, textNoAlias)
		w.Clock.Add(time.Duration(30+late) * 24 * time.Hour)
		if v, err = w.desk.Restore(ctx, who, "shop"); late == 0 {
			if err != nil || v.State != wire.StateActive || v.RestorableTill != "" {
				t.Errorf("%+v, %v", v, err)
			}
			_, err := w.desk.Restore(ctx, who, "shop")
			wantKind(t, err, errs.NotFound, textNoAlias)
			continue
		}
		wantKind(t, err, errs.NotFound, textNoAlias)
		_, err = w.desk.Get(ctx, who, "shop")
		wantKind(t, err, errs.NotFound, textNoAlias)
	}
}

// TestMails: what mail changes is shown: counts, days, correspondents, the badge.
func TestMails(t *testing.T) {
	w := newWorld(t, nil)
	who := w.token("anna")
	w.make(who, CreateRequest{Custom: "shop"})
	w.arrive("shop@example.org", "news@shop.example")
	w.Clock.Add(24 * time.Hour)
	w.arrive("shop@example.org", "news@shop.example")
	v := w.get(who, "shop")
	if v.Received != 2 || v.Created != "2026-11-20" || v.Last != "2026-11-21" || v.Leaked || len(v.Correspondents) != 1 ||
		v.Correspondents[0] != (Correspondent{Address: "news@shop.example", First: "2026-11-20", Last: "2026-11-21", State: "pinned", Mails: 2}) {
		t.Errorf("%+v", v)
	}
	w.arrive("shop@example.org", "eve@evil.example")
	if v := w.get(who, "shop"); !v.Leaked {
		t.Errorf("%+v", v)
	}
	if page, _, err := w.desk.List(t.Context(), who, ListRequest{}); err != nil || !page[0].Leaked {
		t.Errorf("%+v, %v", page, err)
	}
	if v, err := w.desk.Change(t.Context(), who, "shop", ChangeRequest{Allow: []string{"@evil.example"}}); err != nil || v.Leaked {
		t.Errorf("allowed: %+v, %v", v, err)
	}
	s, err := w.desk.Stats(t.Context(), who)
	if err != nil || s != (Stats{Aliases: 1, Received: 3}) {
		t.Errorf("%+v, %v", s, err)
	}
	w.make(who, CreateRequest{Custom: "first", Site: "shop.example"})
	w.arrive("first@example.org", "eve@evil.example")
	if v := w.get(who, "first"); !v.Leaked {
		t.Errorf("a stranger was first: %+v", v)
	}
}

// TestShape: the JSON of an alias has the keys of docs/aliases.md, and no others.
func TestShape(t *testing.T) {
	page, err := os.ReadFile("../../docs/aliases.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "## 8. The shape of an alias")
	rest, _, found := strings.Cut(rest, "\n## ")
	if !found {
		t.Fatal("the page has no section 8")
	}
	code := regexp.MustCompile("`([a-z_]+)`")
	var want []string
	people := make(map[string]bool)
	for line := range strings.Lines(rest) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.Contains(cells[1], "`") {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(cells[1], -1) {
			want = append(want, m[1])
			if m[1] == "correspondents" {
				for _, m := range code.FindAllStringSubmatch(cells[2], -1) {
					people[m[1]] = true
				}
			}
		}
	}
	w := newWorld(t, nil)
	who := w.token("anna")
	w.make(who, CreateRequest{Custom: "shop"})
	w.arrive("shop@example.org", "news@shop.example")
	if err := w.desk.Delete(t.Context(), who, "shop"); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(w.get(who, "shop"))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]json.RawMessage
	var of []map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got["correspondents"], &of); err != nil || len(of) != 1 {
		t.Fatalf("%s, %v", text, err)
	}
	var keys []string
	for k := range got {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	slices.Sort(want)
	if !slices.Equal(keys, want) {
		t.Errorf("keys %v, the page has %v", keys, want)
	}
	for k := range of[0] {
		if !people[k] {
			t.Errorf("the page does not tell of correspondents' %s", k)
		}
	}
}

// TestEnds: the forms in which an end can be given, and that the one of today is the last day.
func TestEnds(t *testing.T) {
	w := newWorld(t, nil)
	who, ctx := w.token("anna"), t.Context()
	at := w.make(who, CreateRequest{}).Address
	for text, want := range map[string]string{
		"2026-11-20":                "2026-11-21T00:00:00Z",
		"2028-02-29":                "2028-03-01T00:00:00Z",
		"2026-11-20T13:00:00Z":      "2026-11-20T13:00:00Z",
		"2026-12-31T23:30:00-01:00": "2027-01-01T00:30:00Z",
		"9999-12-30":                "9999-12-31T00:00:00Z",
		"":                          "",
	} {
		if v, err := w.desk.Change(ctx, who, at, ChangeRequest{Expires: &text}); err != nil || v.Expires != want {
			t.Errorf("%q: %q, %v", text, v.Expires, err)
		}
		if v, err := w.desk.Create(ctx, who, CreateRequest{Expires: text}); err != nil || v.Expires != want {
			t.Errorf("%q: %q, %v", text, v.Expires, err)
		}
	}
	for text, words := range map[string]string{
		"2026-11-19": "lies ahead", "2026-11-20T12:00:00Z": "lies ahead", "9999-12-31": "before the year 10000", "9999-12-31T23:59:59-01:00": "before the year 10000",
		"2027-02-29": textDay, "2026-11-20 13:00": textDay, "never": textDay, "1d": textDay, " 2026-12-31": textDay,
	} {
		_, err := w.desk.Change(ctx, who, at, ChangeRequest{Expires: &text})
		wantKind(t, err, errs.Invalid, words)
		_, err = w.desk.Create(ctx, who, CreateRequest{Expires: text})
		wantKind(t, err, errs.Invalid, words)
	}
	last := "9999-12-30"
	if _, err := w.desk.Change(ctx, who, at, ChangeRequest{Expires: &last}); err != nil {
		t.Fatal(err)
	}
	_, err := w.desk.Change(ctx, who, at, ChangeRequest{Extend: new(uint16(365))})
	wantKind(t, err, errs.Invalid, "before the year 10000")
	if v := w.get(who, at); v.Expires != "9999-12-31T00:00:00Z" {
		t.Errorf("%q", v.Expires)
	}
}
